//! The experiment file: what a person writes, and what it means for a fleet.
//!
//! Parse, resolve, run: the text becomes a [`File`] (serde; the binary reads YAML, whose errors carry
//! line and column), [`resolve()`] turns it into an [`Experiment`](crate::experiment::Experiment) with
//! every name looked up, and nothing after that reads a name again. What a single value can be told
//! wrong by is told while parsing; what needs the rest of the file or the fleet is told by
//! [`resolve()`], all of it at once.

mod faults;
mod filled;
mod fleet;
mod forms;
mod keyed;
mod lists;
mod partition;
mod peers;
mod probes;
mod problem;
mod resolve;
mod signal;
mod targets;
#[cfg(test)]
mod tests;
mod units;

use std::collections::BTreeMap;

use keyed::{keyed, keyed_option};
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

pub use filled::Filled;
pub use fleet::Fleet;
pub use forms::{
    Control, CpuForm, FaultForm, KillForm, LossForm, MemoryForm, PartitionForm, PauseForm, Shape,
};
pub use lists::{CoreRange, Cores, Many, Peer, PortRange, Selector};
pub use problem::{Problem, suggest};
pub use resolve::{resolve, resolve_local};
pub use signal::Signal;
pub use units::{ErrorRate, Latency, Millis, Percent, Rate, Share, Size};

/// Faults in one file, at most.
pub const MAX_FAULTS: usize = 32;
/// Probes in one file, at most.
pub const MAX_PROBES: usize = 32;
/// Characters of a name, at most.
pub const MAX_NAME: usize = 100;
/// How long the steady state is sampled before, where the file does not say.
pub const DEFAULT_BASELINE: Millis = Millis(5_000);
/// How long it is sampled after, where the file does not say: longer than it took the systems that
/// were measured to elect once more after a heal (1.9 to 4.6 s, field notes 1).
pub const DEFAULT_RECOVERY: Millis = Millis(10_000);
/// How often a probe is due, where the file does not say.
pub const DEFAULT_EVERY: Millis = Millis(500);
/// When a sample has failed, where the file does not say: over a second, so that one lost SYN, sent
/// again after a second, is slow and not an error.
pub const DEFAULT_TIMEOUT: Millis = Millis(2_000);

/// The JSON Schema of a [`File`].
#[must_use]
pub fn schema() -> Schema {
    let mut schema = schemars::schema_for!(File);
    RecursiveTransform(without_null).transform(&mut schema);
    schema
}

/// Takes null out, which schemars allows for every option and [`Filled`] for none.
fn without_null(schema: &mut Schema) {
    for key in ["type", "anyOf"] {
        if let Some(ways) = schema.get_mut(key).and_then(|ways| ways.as_array_mut()) {
            ways.retain(|way| way != "null" && way["type"] != "null");
        }
    }
}

/// An experiment as a person writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "Squall experiment")]
pub struct File {
    /// What it is called.
    pub name: String,
    /// What it is to show, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub objective: String,
    /// The hosts that hold the faults.
    #[serde(deserialize_with = "keyed")]
    pub targets: Targets,
    /// What they hold, all at the same time.
    #[schemars(extend("minItems" = 1))]
    pub faults: Vec<FaultForm>,
    /// How long.
    pub duration: Millis,
    /// What is to stay true before, during and after; each a probe with its bounds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steady_state: Vec<ProbeForm>,
    /// How long the steady state is sampled before anything is injected; 5s where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Millis>,
    /// How long it is sampled after everything is lifted; 10s where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Millis>,
    /// Its limits.
    #[serde(default, deserialize_with = "keyed")]
    pub safety: SafetyForm,
}

/// Which hosts. `hosts`, `group` with `labels`, or `all` says from which; `count` or `percent` how
/// many of them, drawn by chance from those in service (of the whole fleet where nothing says from
/// which). Hosts where a coordinator lives are never drawn, nor part of `all`; a host that is all that a
/// fault names as peers is not drawn either.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Targets {
    /// Hosts by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minItems" = 1))]
    pub hosts: Option<Many<String>>,
    /// Hosts by their label `group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Hosts by labels, all of which hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1))]
    pub labels: Option<BTreeMap<String, String>>,
    /// So many of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Such a share of them, at least 1 percent, rounded down to whole hosts, but at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1))]
    pub percent: Option<Percent>,
    /// Every host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// One probe of the steady state. What it does is `http`, `tcp` or `exec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProbeForm {
    /// What it is called.
    pub name: String,
    /// A GET.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "keyed_option")]
    pub http: Option<Http>,
    /// A TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "keyed_option")]
    pub tcp: Option<Tcp>,
    /// A program, which the policy of each host that runs it must list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// How often; 500ms where it is left out. Each stage must have room for five samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Millis>,
    /// When a sample has failed; 2s where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Millis>,
    /// The host whose agent runs it, or `coordinator`: each coordinator runs it then, and the samples of the
    /// one that leads count. Where it is left out, the first host in service that no fault reaches, or where
    /// there is none, that holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What counts as steady.
    #[serde(default, deserialize_with = "keyed")]
    pub expect: ExpectForm,
}

/// A GET of a URL; good once all of the answer has come, or of a long one the first MiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Http {
    /// `http://` and a registered host's name, an address or a name that the agent's host resolves.
    pub url: String,
}

/// A TCP connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tcp {
    /// `host:port`.
    pub address: String,
}

/// A program, no shell: a list, or `argv` with one. The policy of the host that runs it must list it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exec {
    /// Path and arguments.
    pub argv: Vec<String>,
}

/// What counts as steady; a latency that is left out is not judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExpectForm {
    /// The HTTP status that is good; 200 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Failed samples, as `< 1%` of those sent; where it is left out none may fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<ErrorRate>,
    /// The 99th percentile of the latency, as `< 250ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<Latency>,
    /// The median of the latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50: Option<Latency>,
}

/// What the experiment may not exceed, and what ends it early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SafetyForm {
    /// The largest share of hosts that may hold a fault; 0.3 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_blast_radius: Option<Share>,
    /// What max-blast-radius is a share of.
    #[serde(default)]
    pub of: RadiusOf,
    /// A deviation of the steady state rolls everything back.
    #[serde(default = "yes")]
    pub auto_rollback: bool,
    /// How long a fault stays without renewal, 1s to 30s; 5s where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Millis>,
    /// What becomes of the rest when a fault is lost.
    #[serde(default)]
    pub on_loss: OnLoss,
    /// The experiment is meant to split authority: a split-brain is told as an incident of level P4, ends
    /// nothing, and has to be seen healed.
    #[serde(default)]
    pub expects_split: bool,
}

fn yes() -> bool {
    true
}

impl Default for SafetyForm {
    fn default() -> Self {
        SafetyForm {
            max_blast_radius: None,
            of: RadiusOf::default(),
            auto_rollback: true,
            lease: None,
            on_loss: OnLoss::default(),
            expects_split: false,
        }
    }
}

/// What the blast radius is a share of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RadiusOf {
    /// All hosts in service.
    #[default]
    Fleet,
    /// Those of the group that `targets` names. All that runs may hurt half of it together, as of the
    /// fleet, or as much as this file allows.
    Group,
}

/// What becomes of the rest when a fault is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnLoss {
    /// It is lifted.
    #[default]
    Rollback,
    /// It stays; the verdict is at most unknown.
    Continue,
}
