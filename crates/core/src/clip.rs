//! What an agent says, cut to what coordinators keep of it: its text goes into the log, into snapshots
//! and into answers, which have their limits, and its own bounds bind an honest agent only.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::experiment::{Ended, FaultState, Why};
use crate::fence::MAX_TOLD;
use crate::hold::{Achieved, Capability};
use crate::host::{MAX_ENDED, MAX_LIVE};
use crate::message::{FaultReport, FromAgent, Hello, ProbeReport, Receipt, Report};
use crate::registry::{MAX_ALSO, MAX_HOSTS, leads_somewhere};
use crate::views::Row;

/// Bytes of one text, at most.
pub const MAX_TEXT: usize = 400;
/// Lines of what is left on a host, at most.
pub const MAX_LINES: usize = 33;
/// Bytes of all labels of a host, at most: a thousand hosts go into one section of a snapshot.
pub const MAX_LABELS: usize = 2_048;
/// Bytes that all faults of one experiment may take with what became of them, at most: together with
/// all else about it they must fit one section of a snapshot.
pub const MAX_STATES: usize = 1_300_000;

/// Bytes of a host's policy, at most; what a longer one would refuse, its host alone tells.
const MAX_POLICY: usize = 8 * 1024;
const MAX_CAPABILITIES: usize = 64;
const MAX_FALLBACKS: usize = 4;
const MAX_PROBES: usize = 256;
const STAGES: usize = 3;

impl FromAgent {
    /// Cuts it to what is kept.
    pub fn clip(&mut self) {
        match self {
            FromAgent::Hello(hello) => hello.clip(),
            FromAgent::Report(report) => report.clip(),
            FromAgent::Stops(stops) => keep(stops, MAX_TOLD),
            FromAgent::Receipt(receipt) => receipt.clip(),
            FromAgent::Addresses(also) => clip_also(also),
        }
    }
}

impl Hello {
    /// Cuts it to what is kept. Labels go whole, `group` last.
    pub fn clip(&mut self) {
        let Hello { run: _, host, version, capabilities, policy } = self;
        clip_labels(&mut host.labels);
        host.address = host.address.to_canonical();
        clip_also(&mut host.also);
        cut(version, MAX_TEXT);
        policy.take_if(|json| json.len() > MAX_POLICY);
        keep(capabilities, MAX_CAPABILITIES);
        for Capability { fault: _, backend, fallbacks, held: _, reason } in capabilities {
            keep(fallbacks, MAX_FALLBACKS);
            for text in fallbacks.iter_mut().chain(backend).chain([reason]) {
                cut(text, MAX_TEXT);
            }
        }
    }
}

/// The first of them, and no room for more: a decoded list may be much larger than what is kept of it.
fn keep<T>(list: &mut Vec<T>, most: usize) {
    if list.len() > most {
        list.truncate(most);
        list.shrink_to_fit();
    }
}

fn clip_also(also: &mut Vec<IpAddr>) {
    also.iter_mut().for_each(|address| *address = address.to_canonical());
    also.retain(|address| leads_somewhere(*address));
    keep(also, MAX_ALSO);
}

fn clip_labels(labels: &mut BTreeMap<String, String>) {
    let group = labels.get("group").map_or(0, |group| "group".len() + group.len());
    let mut left = MAX_LABELS.saturating_sub(group);
    labels.retain(|key, value| {
        if key == "group" {
            return group <= MAX_LABELS;
        }
        let rest = left.checked_sub(key.len() + value.len());
        left = rest.unwrap_or(left);
        rest.is_some()
    });
}

impl Report {
    fn clip(&mut self) {
        let Report {
            run: _,
            t: _,
            digest: _,
            newest_resume: _,
            synced: _,
            armed: _,
            faults,
            probes,
            row,
        } = self;
        keep(faults, MAX_LIVE + MAX_ENDED);
        for FaultReport {
            id: _,
            kind: _,
            phase: _,
            lease_ms: _,
            remaining_ms: _,
            in_place_ms: _,
            achieved,
            ended,
        } in faults
        {
            if let Some(achieved) = achieved {
                achieved.clip(MAX_TEXT);
            }
            if let Some(ended) = ended {
                ended.clip(MAX_TEXT, MAX_LINES * MAX_TEXT);
            }
        }
        keep(probes, MAX_PROBES);
        for ProbeReport { experiment: _, name, stages } in probes {
            cut(name, MAX_TEXT);
            keep(stages, STAGES);
            for (_, tally) in stages {
                cut(&mut tally.last_error, MAX_TEXT);
            }
        }
        if let Some(Row { cohort, members, heard, authority: _ }) = row {
            cut(cohort, MAX_LABELS);
            keep(members, MAX_HOSTS);
            keep(heard, MAX_HOSTS);
        }
    }
}

impl Receipt {
    fn clip(&mut self) {
        cut_lines(&mut self.residue, MAX_LINES * MAX_TEXT);
    }
}

impl Achieved {
    fn clip(&mut self, bytes: usize) {
        let Achieved { bit: _, requested, measured, note } = self;
        for text in [requested, measured, note] {
            cut(text, bytes);
        }
    }
}

impl Ended {
    fn clip(&mut self, text: usize, lines: usize) {
        let Ended { why, achieved, lift_ms: _, residue } = self;
        if let Why::NotHeld { reason, refused: _ } = why {
            cut(reason, text);
        }
        if let Some(achieved) = achieved {
            achieved.clip(text);
        }
        cut_lines(residue, lines);
    }
}

impl FaultState {
    /// Cuts it to its share of what an experiment of so many faults may take.
    pub(crate) fn clip(&mut self, faults: usize) {
        let share = MAX_STATES / faults.max(1);
        let text = MAX_TEXT.min(share / 8);
        match self {
            FaultState::Pending | FaultState::Lapsed(None) => {}
            FaultState::Held(achieved) | FaultState::Lapsed(Some(achieved)) => achieved.clip(text),
            FaultState::Clean(ended) | FaultState::Lost(ended) | FaultState::Stuck(ended) => {
                ended.clip(text, share / 2);
            }
            FaultState::NotHeld { reason, refused: _ } => cut(reason, MAX_TEXT.min(share)),
        }
    }
}

/// Cuts a text to so many bytes, between two characters.
pub(crate) fn cut(text: &mut String, bytes: usize) {
    text.truncate(text.floor_char_boundary(bytes));
    text.shrink_to_fit();
}

/// Cuts lines to so many bytes in all, and says that there were more.
fn cut_lines(lines: &mut Vec<String>, bytes: usize) {
    const MORE: &str = "and more";
    let mut left = bytes.saturating_sub(MORE.len());
    let mut kept = 0;
    for line in lines.iter_mut().take(MAX_LINES) {
        if left == 0 {
            break;
        }
        cut(line, MAX_TEXT.min(left));
        left = left.saturating_sub(line.len() + 1);
        kept += 1;
    }
    if kept < lines.len() {
        lines.truncate(kept.min(MAX_LINES - 1));
        lines.push(MORE.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::MAX_PLACEMENTS;

    fn loud() -> FaultState {
        let text = || "ä".repeat(10_000);
        let achieved = Achieved { bit: true, requested: text(), measured: text(), note: text() };
        let residue = (0..1_000).map(|_| text()).collect();
        let why = Why::NotHeld { reason: text(), refused: false };
        FaultState::Stuck(Ended { why, achieved: Some(achieved), lift_ms: 1, residue })
    }

    /// Its text, each with a byte for its length.
    fn bytes(state: &FaultState) -> usize {
        let FaultState::Stuck(ended) = state else { unreachable!() };
        let achieved = ended.achieved.as_ref().expect("it stays");
        let Why::NotHeld { reason, .. } = &ended.why else { unreachable!() };
        let texts = [reason, &achieved.requested, &achieved.measured, &achieved.note];
        texts.into_iter().chain(&ended.residue).map(|text| text.len() + 1).sum()
    }

    #[test]
    fn a_fault_takes_no_more_than_its_share_and_what_is_left_stays_named() {
        for faults in [1, 100, 512, MAX_PLACEMENTS] {
            let mut state = loud();
            state.clip(faults);
            assert!(bytes(&state) <= MAX_STATES / faults + 5, "{faults}: {}", bytes(&state));
            let FaultState::Stuck(ended) = &state else { unreachable!() };
            assert_eq!(ended.residue.last().map(String::as_str), Some("and more"));
            let once = state.clone();
            state.clip(faults);
            assert_eq!(state, once, "what is clipped is no news");
        }
    }

    #[test]
    fn a_policy_that_is_too_long_is_not_known() {
        for (length, kept) in [(MAX_POLICY, true), (MAX_POLICY + 1, false)] {
            let mut hello = Hello {
                run: crate::ids::AgentRun(uuid::Uuid::from_u128(1)),
                host: crate::registry::HostRecord {
                    name: "h1".parse().unwrap(),
                    address: [10, 0, 0, 1].into(),
                    also: vec![],
                    labels: BTreeMap::new(),
                    gossip_port: 1,
                    relay_port: 2,
                    coordinator: false,
                    drained: false,
                },
                version: String::new(),
                capabilities: vec![],
                policy: Some("x".repeat(length)),
            };
            hello.clip();
            assert_eq!(hello.policy.is_some(), kept, "{length}");
        }
    }

    #[test]
    fn addresses_that_lead_nowhere_are_left_out_and_only_so_many_stay() {
        let mut also: Vec<IpAddr> =
            ["127.0.0.1", "fe80::1", "::ffff:127.0.0.1"].map(|a| a.parse().unwrap()).into();
        also.extend((0..40).map(|n| IpAddr::from([10, 0, 0, n])));
        let mut words = FromAgent::Addresses(also);
        words.clip();
        let kept = (0..16).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        assert_eq!(words, FromAgent::Addresses(kept));
    }

    #[test]
    fn what_an_honest_agent_says_stays_as_it_is() {
        let residue: Vec<String> =
            (0..MAX_LINES).map(|n| format!("{n} {}", "x".repeat(290))).collect();
        let mut lines = residue.clone();
        cut_lines(&mut lines, MAX_LINES * MAX_TEXT);
        assert_eq!(lines, residue);
    }
}
