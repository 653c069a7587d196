//! `squall views`: who sees whom, and who believes in which authority.

use std::collections::BTreeMap;

use serde::Serialize;
use squall_core::ids::HostName;
use squall_core::message::ViewsAnswer;
use squall_core::views::{Authority, Judgement, Liveness};

use super::table::blocks;
use super::words;

/// `views`.
#[derive(Debug, Serialize)]
pub struct ViewsView {
    /// The whole.
    #[serde(flatten)]
    pub whole: JudgementView,
    /// Each cohort.
    pub cohorts: Vec<CohortView>,
    /// Whom gossip does not take for alive. No verdict stands on it: it hides one-way cuts.
    pub gossip: Vec<GossipView>,
    /// A quorum stood behind this answer.
    pub confirmed: bool,
    /// The log entry as of which this is true.
    pub as_of: u64,
}

/// What one host's gossip says of another.
#[derive(Debug, Serialize)]
pub struct GossipView {
    /// Whose.
    pub host: String,
    /// Of whom.
    pub of: String,
    /// `suspect` or `down`.
    pub says: Liveness,
}

/// One cohort.
#[derive(Debug, Serialize)]
pub struct CohortView {
    /// The group; empty for hosts without one.
    pub cohort: String,
    /// What its members show.
    #[serde(flatten)]
    pub judgement: JudgementView,
}

/// A judgement in flat fields.
#[derive(Debug, Default, Serialize)]
pub struct JudgementView {
    /// `agree`, `unknown`, `partition` or `split-brain`.
    pub verdict: &'static str,
    /// `complete`, `partial` or `simplex`; `null` where there is no partition.
    pub kind: Option<&'static str>,
    /// Hosts that hear each other both ways, largest side first.
    pub sides: Vec<Vec<String>>,
    /// Who is not heard (`from`) by whom (`to`).
    pub edges: Vec<EdgeView>,
    /// Who claims or obeys what, where there are two.
    pub authorities: Vec<Authority>,
    /// Whose reports are missing, where no split-brain is seen.
    pub missing: Vec<String>,
    /// In words.
    pub evidence: Vec<String>,
}

/// A cut.
#[derive(Debug, Serialize)]
pub struct EdgeView {
    /// Who is not heard.
    pub from: String,
    /// By whom.
    pub to: String,
}

impl JudgementView {
    /// The view of a judgement.
    #[must_use]
    pub fn new(judgement: &Judgement) -> JudgementView {
        let sides = |sides: &[Vec<HostName>]| {
            sides.iter().map(|s| s.iter().map(ToString::to_string).collect()).collect()
        };
        match judgement {
            Judgement::Agree => JudgementView { verdict: "agree", ..JudgementView::default() },
            Judgement::Unknown { missing } => JudgementView {
                verdict: "unknown",
                missing: missing.clone(),
                ..JudgementView::default()
            },
            Judgement::Partition { kind, sides: s, edges, missing } => JudgementView {
                verdict: "partition",
                kind: Some(kind.name()),
                sides: sides(s),
                edges: edges
                    .iter()
                    .map(|(from, to)| EdgeView { from: from.to_string(), to: to.to_string() })
                    .collect(),
                missing: missing.clone(),
                ..JudgementView::default()
            },
            Judgement::SplitBrain { authorities, sides: s, evidence } => JudgementView {
                verdict: "split-brain",
                sides: sides(s),
                authorities: authorities.clone(),
                evidence: evidence.clone(),
                ..JudgementView::default()
            },
        }
    }

    /// For people, without a heading.
    fn lines(&self) -> String {
        let mut lines = vec![match self.kind {
            Some(kind) => format!("{} ({kind})", self.verdict),
            None => self.verdict.to_owned(),
        }];
        let sides = self.sides.iter().map(|s| s.join(" "));
        let sides = sides.collect::<Vec<_>>().join("  |  ");
        if !sides.is_empty() {
            lines.push(format!("  sides: {sides}"));
        }
        for (host, unheard) in self.cuts() {
            lines.push(format!("  {host} does not hear {}", unheard.join(" ")));
        }
        if !self.missing.is_empty() {
            lines.push(format!("  no report: {}", self.missing.join(", ")));
        }
        let authority = |a: &Authority| format!("  {} {} {}", a.host, a.claims, a.of);
        lines.extend(self.authorities.iter().map(authority));
        lines.extend(self.evidence.iter().map(|e| format!("  {e}")));
        lines.join("\n")
    }

    /// Each host with those it does not hear.
    fn cuts(&self) -> Vec<(&str, Vec<&str>)> {
        let mut deaf: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for edge in &self.edges {
            deaf.entry(&edge.to).or_default().push(&edge.from);
        }
        deaf.into_iter().collect()
    }
}

impl ViewsView {
    /// The view of a coordinator's answer.
    #[must_use]
    pub fn new(answer: &ViewsAnswer) -> ViewsView {
        let cohort = |(name, judgement): (&String, &Judgement)| CohortView {
            cohort: name.clone(),
            judgement: JudgementView::new(judgement),
        };
        let gossip = |(host, of, says): &(HostName, HostName, Liveness)| GossipView {
            host: host.to_string(),
            of: of.to_string(),
            says: *says,
        };
        ViewsView {
            whole: JudgementView::new(&answer.judgement),
            cohorts: answer.cohorts.iter().map(cohort).collect(),
            gossip: answer.gossip.iter().map(gossip).collect(),
            confirmed: answer.confirmed,
            as_of: answer.applied.0,
        }
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let unsure = if self.confirmed { String::new() } else { words::unconfirmed(self.as_of) };
        let cohorts = self.cohorts.iter().filter(|_| self.cohorts.len() > 1).map(|c| {
            let name = if c.cohort.is_empty() { "hosts without a group" } else { &c.cohort };
            format!("{name}: {}", c.judgement.lines())
        });
        blocks([unsure, self.whole.lines()].into_iter().chain(cohorts).chain([self.gossip_lines()]))
    }

    /// A line for each host that doubts others, and what it takes them for.
    fn gossip_lines(&self) -> String {
        let mut doubts = BTreeMap::<(&str, Liveness), Vec<&str>>::new();
        for g in &self.gossip {
            doubts.entry((&g.host, g.says)).or_default().push(&g.of);
        }
        let line = |((host, says), of): (&(&str, Liveness), &Vec<&str>)| {
            format!("gossip: {host} takes {} for {}", of.join(" "), says.name())
        };
        doubts.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
