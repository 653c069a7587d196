//! Who leads, and who is obeyed.

use std::collections::BTreeMap;

use super::judge::fresh_row;
use super::{Authority, Evidence, STALE_MS, Stance};
use crate::ids::{Leadership, NodeId};

/// An older leadership that was last at work so much earlier than a newer one has been succeeded.
/// Choose it above the time between two rounds of a working leader and below the shortest election:
/// if it is too short a real double leadership is missed, too long and a fail-over looks like one.
pub const SUCCESSION_MS: u64 = 500;

/// One fresh sign that a leadership is at work.
pub(super) struct Voice {
    leadership: Leadership,
    /// Milliseconds since the leadership was seen at work.
    age_ms: u64,
    pub(super) said: Authority,
}

/// Every fresh sign of a leadership: claims that a quorum stands behind, hosts that obey.
pub(super) fn voices(evidence: &Evidence) -> Vec<Voice> {
    let voice = |host: String, claims, leadership: Leadership, age_ms: u64| {
        let of = format!("{} in term {}", name(evidence, leadership.node), leadership.term);
        Voice { leadership, age_ms, said: Authority { host, claims, of } }
    };
    let claims = evidence.claims.iter().filter_map(|(claim, claim_age_ms)| {
        let age_ms = claim.quorum_age_ms?.saturating_add(*claim_age_ms);
        let leadership = Leadership { term: claim.term, node: claim.node };
        claim.leads.then(|| voice(name(evidence, claim.node), Stance::Leads, leadership, age_ms))
    });
    let hosts = evidence.expected.iter().filter_map(|host| {
        let (row, row_age_ms) = fresh_row(evidence, host)?;
        let (leadership, heard_ms) = row.authority?;
        Some(voice(
            host.to_string(),
            Stance::Obeys,
            leadership,
            heard_ms.saturating_add(row_age_ms),
        ))
    });
    claims.chain(hosts).filter(|v| v.age_ms <= STALE_MS).collect()
}

pub(super) fn name(evidence: &Evidence, node: NodeId) -> String {
    evidence.names.get(&node).map_or_else(|| node.to_string(), Clone::clone)
}

/// Whether anybody says anything about leadership, fresh or not.
pub(super) fn is_spoken_of(evidence: &Evidence) -> bool {
    !evidence.claims.is_empty() || evidence.rows.values().any(|(row, _)| row.authority.is_some())
}

/// Pairs of leaderships that cannot both be, in words that stay the same while the facts do.
pub(super) fn contradictions(voices: &[Voice]) -> Vec<String> {
    let mut seen: BTreeMap<Leadership, Vec<&Voice>> = BTreeMap::new();
    for voice in voices {
        seen.entry(voice.leadership).or_default().push(voice);
    }
    let seen: Vec<(Leadership, Vec<&Voice>)> = seen.into_iter().collect();
    let mut found = Vec::new();
    for (i, (older, old)) in seen.iter().enumerate() {
        for (newer, new) in &seen[i + 1..] {
            let last_of_old = old.iter().map(|v| v.age_ms).min().unwrap_or(u64::MAX);
            let first_of_new = new.iter().map(|v| v.age_ms).max().unwrap_or(0);
            let overlap = last_of_old < first_of_new.saturating_add(SUCCESSION_MS);
            if older.term == newer.term || overlap {
                found.push(format!("{} while {}", words(old), words(new)));
            }
        }
    }
    found
}

fn words(voices: &[&Voice]) -> String {
    let of = |stance| {
        let hosts: Vec<&str> = voices
            .iter()
            .filter(|v| v.said.claims == stance)
            .map(|v| v.said.host.as_str())
            .collect();
        hosts.join(", ")
    };
    let (leads, obeyed_by) = (of(Stance::Leads), of(Stance::Obeys));
    let leadership = voices.first().map(|v| v.said.of.as_str()).unwrap_or_default();
    match (leads.is_empty(), obeyed_by.is_empty()) {
        (false, false) => format!("{leadership} leads with a quorum and {obeyed_by} obey it"),
        (false, true) => format!("{leadership} leads with a quorum"),
        (true, _) => format!("{obeyed_by} obey {leadership}"),
    }
}
