//! The comparison of views.

use std::collections::{BTreeMap, BTreeSet};

use super::authority;
use super::cohort::{Finding, Rows, find};
use super::{Evidence, Judgement, Row, STALE_MS, coordinator};
use crate::ids::HostName;

/// Says what the evidence shows. Deterministic; the order of hosts' names decides nothing but the
/// order in which they are listed.
///
/// *Links.* A row is a statement of its host at the moment when it was made; where it is older than
/// [`STALE_MS`] it counts as missing. `a` hears `b` where the row of `a` received a beat of `b`
/// within [`STALE_MS`]. Only members of one cohort watch each other; each cohort is judged alone and
/// the worst result stands: a proven partition before unknown, unknown before agreement.
///
/// *Missing rows.* Silence has no direction: where the row of `q` is missing and nobody hears `q`,
/// it may be cut off one way, both ways, or be down. So `q` is never on a side, and a missing row
/// alone is [`Judgement::Unknown`]. But what two hosts say of each other needs no third: a cut
/// between two whose rows are here is a partition, whatever else is missing, which it names; and a
/// missing host that both still hear shows by that that the cut is partial. Hosts that nobody watches
/// are missing too, and in a cohort of up to [`FULL_MESH`](super::FULL_MESH) those whose row leaves a
/// member out.
///
/// *Kinds.* [`Complete`](super::PartitionKind::Complete): a group neither hears nor is heard by
/// another. [`Partial`](super::PartitionKind::Partial): two are cut both ways, yet no group stands
/// alone. [`Simplex`](super::PartitionKind::Simplex): every cut is one way. A side is a group that
/// is joined by links which work both ways, so that a partial cut may well show a single side: its
/// edges tell the rest. Sides and edges are those of the cohorts that are cut.
///
/// *Moving.* Where a cut is proven while another link of the cohort fades ([`FADING_MS`](super::FADING_MS)),
/// the picture still moves, and the kind is unknown until it stands: a second or two.
///
/// *Authority.* A coordinator that leads counts where a quorum answered it, and a host where it
/// heard its leader, within [`STALE_MS`] of now. Two leaderships are a split-brain where one term
/// has two leaders, or where the older one was at work after the newer one, give or take
/// [`SUCCESSION_MS`](super::SUCCESSION_MS); an older one last seen before that was succeeded, which
/// is no split-brain. Where authority is spoken of and none is at work, the `leader` is missing.
///
/// With nobody expected nothing is known.
#[must_use]
pub fn judge(evidence: &Evidence) -> Judgement {
    let findings: Vec<Finding> =
        cohorts(evidence).iter().map(|rows| find(rows, &evidence.expected)).collect();
    let kind = findings.iter().filter_map(|f| f.kind).min();
    let mut sides = Vec::new();
    let mut edges = BTreeSet::new();
    let mut missing: BTreeSet<HostName> =
        evidence.expected.iter().filter(|h| fresh_row(evidence, h).is_none()).cloned().collect();
    for finding in findings {
        missing.extend(finding.missing);
        if finding.kind.is_some() {
            sides.extend(finding.sides);
            edges.extend(finding.edges);
        }
    }
    sides.sort_by(|a: &Vec<HostName>, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));

    let voices = authority::voices(evidence);
    let contradictions = authority::contradictions(&voices);
    if !contradictions.is_empty() {
        let authorities = voices.into_iter().map(|v| v.said).collect();
        return Judgement::SplitBrain { authorities, sides, evidence: contradictions };
    }
    let mut missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    if voices.is_empty() && authority::is_spoken_of(evidence) {
        missing.push("leader".to_owned());
    }
    if let Some(kind) = kind {
        return Judgement::Partition { kind, sides, edges: edges.into_iter().collect(), missing };
    }
    if missing.is_empty() && !evidence.expected.is_empty() {
        Judgement::Agree
    } else {
        Judgement::Unknown { missing }
    }
}

/// Who says something, fresh enough to count, and how many milliseconds ago it was said: hosts and
/// coordinators, as [`Authority::speaker`](super::Authority::speaker) calls them.
#[must_use]
pub fn spoke(evidence: &Evidence) -> BTreeMap<String, u64> {
    let rows = evidence.expected.iter().filter_map(|host| {
        let (_, age_ms) = fresh_row(evidence, host)?;
        Some((host.to_string(), age_ms))
    });
    let claims = evidence.claims.iter().filter(|(_, age_ms)| *age_ms <= STALE_MS);
    let claims = claims
        .map(|(claim, age_ms)| (coordinator(&authority::name(evidence, claim.node)), *age_ms));
    rows.chain(claims).collect()
}

/// The row of an expected host, where it still says something.
pub(super) fn fresh_row<'a>(evidence: &'a Evidence, host: &HostName) -> Option<(&'a Row, u64)> {
    let (row, age_ms) = evidence.rows.get(host)?;
    (*age_ms <= STALE_MS).then_some((row, *age_ms))
}

/// The fresh rows of expected hosts, by cohort.
fn cohorts(evidence: &Evidence) -> Vec<Rows<'_>> {
    let mut cohorts: BTreeMap<&str, Rows<'_>> = BTreeMap::new();
    for host in &evidence.expected {
        if let Some((row, age_ms)) = fresh_row(evidence, host) {
            cohorts.entry(&row.cohort).or_default().insert(host, (row, age_ms));
        }
    }
    cohorts.into_values().collect()
}
