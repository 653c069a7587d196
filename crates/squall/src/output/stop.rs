//! `squall stop-all`: each host as it answers, and a last line that is the truth.

use serde::Serialize;
use squall_core::message::{Latched, Receipt, StopHost, StopProgress, StopState};
use squall_core::stopping::is_done;

use super::table::{NONE, blocks, table};
use super::words;

/// What the last line adds where no quorum took the stop.
const NO_QUORUM: &str = " The log has no quorum and learns of it later; hosts that joined while these \
                         coordinators were cut off from the others are not listed.";

/// A stop-all knows of no stop but its own, and one that stands keeps the fleet stopped.
const OTHERS: &str = "         squall status lists all that stand";

/// `stop-all`.
#[derive(Debug, Serialize)]
pub struct StopView {
    /// The stop's id: what `squall resume` must name.
    pub stop: String,
    /// Milliseconds from the command to the last word.
    pub took_ms: u64,
    /// It is in the log of a quorum.
    pub committed: bool,
    /// A coordinator that answered knows which hosts are registered.
    pub whole: bool,
    /// A resume has released it meanwhile: hosts may hold what was started since.
    pub released: bool,
    /// Every registered or connected host answered lifted, without residue, durably latched.
    pub done: bool,
    /// Somebody left before it was known whether that is all.
    #[serde(skip)]
    pub left_early: bool,
    /// Every registered or connected host.
    pub hosts: Vec<StopHostView>,
}

/// One host.
#[derive(Debug, Serialize)]
pub struct StopHostView {
    /// Its name.
    pub host: String,
    /// `lifted`, `lapsing`, `lapsed` or `unreached`.
    pub state: StopState,
    /// Faults that the stop ended there; `null` without a receipt.
    pub lifted: Option<u32>,
    /// How many things are left there; `null` without a receipt.
    pub residue: Option<usize>,
    /// What is left, one line each.
    pub left: Vec<String>,
    /// `durable` or `memory`; `null` without a receipt.
    pub latched: Option<Latched>,
    /// Milliseconds that it took the host; `null` without a receipt.
    pub took_ms: Option<u64>,
    /// Milliseconds until every lease it may hold has passed.
    pub lapses_in_ms: u64,
}

impl StopView {
    /// The view of what the coordinators said together.
    #[must_use]
    pub fn new(progress: &StopProgress, took_ms: u64) -> StopView {
        StopView {
            stop: progress.stop.to_string(),
            took_ms,
            committed: progress.committed,
            whole: progress.whole,
            released: progress.released,
            done: is_done(progress),
            left_early: false,
            hosts: progress.hosts.iter().map(host_view).collect(),
        }
    }

    /// For people: the hosts, and the truth last.
    #[must_use]
    pub fn table(&self) -> String {
        let rows = self.hosts.iter().map(|h| {
            let number = |n: Option<String>| n.unwrap_or(NONE.into());
            [
                h.host.clone(),
                state(h.state).to_owned(),
                number(h.lifted.map(|n| n.to_string())),
                number(h.residue.map(|n| n.to_string())),
                number(h.latched.map(|l| l.name().to_owned())),
                number(h.took_ms.map(words::length)),
            ]
        });
        let table =
            table(["HOST", "STATE", "LIFTED", "RESIDUE", "LATCHED", "TOOK"], rows.collect());
        blocks([table, self.left(), self.last_words()])
    }

    fn left(&self) -> String {
        let lines =
            self.hosts.iter().flat_map(|h| h.left.iter().map(|l| format!("{}: {l}", h.host)));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What releases the stop, and in the last line what is true of the hosts.
    #[must_use]
    pub fn last_words(&self) -> String {
        format!("release: squall resume {}\n{OTHERS}\n{}", self.stop, self.truth())
    }

    fn truth(&self) -> String {
        let all = self.hosts.len();
        let took = words::length(self.took_ms);
        if self.done {
            let log = if self.committed { "" } else { NO_QUORUM };
            return format!(
                "STOPPED: {all} of {all} hosts lifted, residue 0, latched durably, in {took}.{log}"
            );
        }
        let silent = self.named(|h| h.lifted.is_none());
        let mut parts = Vec::new();
        if self.left_early {
            parts.push(
                "left before the log was seen to have the stop: there may be other hosts"
                    .to_owned(),
            );
        }
        if self.released {
            parts.push(
                "a resume has released this stop meanwhile: hosts may hold what was started since"
                    .to_owned(),
            );
        }
        let lapsed = self.named(|h| h.state == StopState::Lapsed);
        if !lapsed.is_empty() {
            parts.push(format!(
                "{}: lapsed by time, not seen; what a person injected there may last longer",
                lapsed.join(", ")
            ));
        }
        let lapsing = self.hosts.iter().filter(|h| h.state == StopState::Lapsing);
        parts.extend(lapsing.map(|h| {
            let left = words::length(h.lapses_in_ms);
            format!("{}: not answered, something may be held there for {left} more", h.host)
        }));
        let unreached = self.named(|h| h.state == StopState::Unreached);
        if !unreached.is_empty() {
            parts
                .push(format!("{}: unreached, held nothing when last heard", unreached.join(", ")));
        }
        let residue = self.named(|h| h.residue.is_some_and(|n| n > 0));
        if !residue.is_empty() {
            parts.push(format!("{}: NOT CLEAN, see above", residue.join(", ")));
        }
        let memory = self.named(|h| h.latched == Some(Latched::Memory));
        if !memory.is_empty() {
            parts.push(format!(
                "{}: latched in memory only, a reboot forgets it",
                memory.join(", ")
            ));
        }
        if !self.committed && !self.whole {
            parts.push(
                "no coordinator that answered knows which hosts are registered: there may be others"
                    .to_owned(),
            );
        }
        if !self.committed && !silent.is_empty() {
            parts.push(format!(
                "no quorum has the stop: {} could still be ordered by a leader nobody here can see",
                silent.join(", ")
            ));
        }
        let answered = all - silent.len();
        format!("NOT DONE: {answered} of {all} hosts answered in {took}. {}.", parts.join(". "))
    }

    fn named(&self, which: impl Fn(&StopHostView) -> bool) -> Vec<&str> {
        self.hosts.iter().filter(|h| which(h)).map(|h| h.host.as_str()).collect()
    }
}

fn host_view(host: &StopHost) -> StopHostView {
    let receipt = host.receipt.as_ref();
    StopHostView {
        host: host.host.to_string(),
        state: host.state,
        lifted: receipt.map(|r| r.lifted),
        residue: receipt.map(|r| r.residue.len()),
        left: receipt.map(|r| r.residue.clone()).unwrap_or_default(),
        latched: receipt.map(|r| r.latched),
        took_ms: receipt.map(|r| r.took_ms),
        lapses_in_ms: host.lapses_in_ms,
    }
}

/// One host's news, for the running commentary.
#[must_use]
pub fn news(host: &StopHost) -> String {
    match &host.receipt {
        Some(r) if r.residue.is_empty() => format!(
            "{}: {} lifted, residue 0, latched {} ({})",
            host.host,
            words::count(r.lifted as usize, "fault"),
            r.latched.name(),
            words::length(r.took_ms)
        ),
        Some(r) => format!("{}: NOT CLEAN: {}", host.host, r.residue.join("; ")),
        None => {
            let wait = match host.state {
                StopState::Lapsing => {
                    format!(
                        ", every lease there has passed in {}",
                        words::length(host.lapses_in_ms)
                    )
                }
                StopState::Lifted | StopState::Lapsed | StopState::Unreached => String::new(),
            };
            format!("{}: {}{wait}", host.host, state(host.state))
        }
    }
}

/// Whom a stop-all waits for, and what may be held there meanwhile; a line each.
#[must_use]
pub fn waiting(progress: &StopProgress) -> Vec<String> {
    let silent = |state| {
        let hosts = progress.hosts.iter();
        hosts.filter(move |h| h.receipt.is_none() && h.state == state)
    };
    let names = |state| words::some(&silent(state).map(|h| h.host.as_str()).collect::<Vec<_>>());
    let longest = silent(StopState::Lapsing).map(|h| h.lapses_in_ms).max();
    let lapsing = longest.map(|ms| {
        let (names, left) = (names(StopState::Lapsing), ms.div_ceil(1_000));
        format!("waiting for {names}: not answered, something may be held there for {left} s more")
    });
    let unreached = names(StopState::Unreached);
    let unreached = (!unreached.is_empty())
        .then(|| format!("waiting for {unreached}: not reached, held nothing when last heard"));
    let answered = progress.hosts.iter().filter(|h| {
        let good = |r: &Receipt| r.residue.is_empty() && r.latched == Latched::Durable;
        h.receipt.as_ref().is_some_and(|r| !good(r))
    });
    let answered = words::some(&answered.map(|h| h.host.as_str()).collect::<Vec<_>>());
    let answered = (!answered.is_empty())
        .then(|| format!("waiting for {answered}: answered, and not clean or not durable yet"));
    lapsing.into_iter().chain(unreached).chain(answered).collect()
}

fn state(state: StopState) -> &'static str {
    match state {
        StopState::Lifted => "lifted",
        StopState::Lapsing => "lapsing",
        StopState::Lapsed => "lapsed by time, not seen",
        StopState::Unreached => "unreached",
    }
}

#[cfg(test)]
mod tests {
    use squall_core::ids::StopId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_stop_that_waits_says_for_whom_and_what_may_be_there() {
        let host = |n: usize, state, lapses_in_ms| StopHost {
            host: format!("h{n}").parse().unwrap(),
            state,
            receipt: None,
            lapses_in_ms,
        };
        let stop = StopId(Uuid::from_u128(1));
        let mut progress = StopProgress {
            stop,
            committed: true,
            whole: true,
            released: false,
            hosts: vec![host(1, StopState::Lapsing, 4_200)],
            last: false,
        };
        let one = "waiting for h1: not answered, something may be held there for 5 s more";
        assert_eq!(waiting(&progress), [one]);
        progress.hosts.extend((2..8).map(|n| host(n, StopState::Lapsing, 1_000 * n as u64)));
        progress.hosts.push(host(9, StopState::Unreached, 0));
        let many = waiting(&progress);
        assert!(many[0].starts_with("waiting for h1, h2, h3, h4 and 3 more: "), "{many:?}");
        assert!(
            many[0].ends_with("for 7 s more") && many[1].contains("h9: not reached"),
            "{many:?}"
        );
    }
}
