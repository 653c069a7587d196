//! Is there one order of all calls that explains every answer, each call at one moment between its
//! beginning and its end?
//!
//! After Wing and Gong, with Lowe's just-in-time rule: calls are walked through in time; what is kept
//! is every state that could be now together with the calls that have taken effect in it. A call is
//! made to take effect only when an answer demands it. Changes must come in the order of the places
//! in the log that their answers name, which asks for more than linearizability, and leaves little to
//! try. stateright's tester was looked at: it tries orders without remembering those tried before,
//! which ends at a few dozen calls; a round here has thousands.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::history::{Answer, Call, Op};

/// States considered at one moment, at most.
const MAX_STATES: usize = 1 << 16;
/// Above so many states those are dropped that others make needless.
const PRUNE: usize = 16;

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// There is such an order.
    Linearizable,
    /// There is none: the call that no order explains.
    Not(String),
    /// Too many orders were possible.
    Undecided(String),
}

/// One way in which things may stand.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Possible {
    bits: u32,
    /// Calls that have taken effect and not been answered yet.
    done: BTreeSet<usize>,
    /// Calls without an answer that have taken effect.
    spent: BTreeSet<usize>,
}

/// Checks the history of all registers together, which were `initial` when it began.
#[must_use]
pub fn check(initial: u32, ops: &[Op]) -> Finding {
    let change = |(at, op): (usize, &Op)| match op.answer {
        Answer::Changed(place) => Some((place, at)),
        Answer::Unchanged | Answer::Saw { .. } | Answer::Unknown | Answer::Failed => None,
    };
    let mut walk = Walk {
        ops,
        changes: ops.iter().enumerate().filter_map(change).collect(),
        pending: BTreeSet::new(),
        possible: HashSet::from([Possible {
            bits: initial,
            done: BTreeSet::new(),
            spent: BTreeSet::new(),
        }]),
    };
    // Where one ends in the same microsecond in which another begins they overlap: ends last.
    let mut events = BTreeSet::new();
    for (at, op) in ops.iter().enumerate() {
        if op.answer != Answer::Failed {
            events.insert((op.invoked, false, at));
        }
        if op.is_answered() {
            events.insert((op.returned.max(op.invoked), true, at));
        }
    }
    for (_, ends, at) in events {
        if let Err(finding) = if ends { walk.end(at) } else { walk.begin(at) } {
            return finding;
        }
    }
    Finding::Linearizable
}

struct Walk<'a> {
    ops: &'a [Op],
    /// Changes whose end has not come, by their place in the log.
    changes: BTreeSet<(u64, usize)>,
    pending: BTreeSet<usize>,
    possible: HashSet<Possible>,
}

impl Walk<'_> {
    fn begin(&mut self, at: usize) -> Result<(), Finding> {
        self.pending.insert(at);
        if self.is_look(at) {
            let all = std::mem::take(&mut self.possible);
            self.possible = all.into_iter().map(|p| self.look(p)).collect();
        }
        Ok(())
    }

    /// A call ends: it must have taken effect by now, perhaps after others.
    fn end(&mut self, at: usize) -> Result<(), Finding> {
        let before = std::mem::take(&mut self.possible);
        let mut seen = HashSet::new();
        let mut after = HashSet::new();
        let mut open: Vec<Possible> = before.iter().cloned().collect();
        while let Some(mut now) = open.pop() {
            if now.done.remove(&at) {
                after.insert(now);
                continue;
            }
            for next in &self.pending {
                if let Some(next) = self.step(&now, *next)
                    && seen.insert(next.clone())
                {
                    open.push(next);
                }
            }
            if seen.len() > MAX_STATES {
                let why = format!("{MAX_STATES} orders and more at {}", self.ops[at]);
                return Err(Finding::Undecided(why));
            }
        }
        if after.is_empty() {
            return Err(Finding::Not(self.explain(at, &before)));
        }
        self.pending.remove(&at);
        self.changes.retain(|(_, change)| *change != at);
        self.possible = if after.len() > PRUNE { prune(after) } else { after };
        Ok(())
    }

    /// It changes nothing: it only says how things were.
    fn is_look(&self, at: usize) -> bool {
        matches!(self.ops[at].answer, Answer::Unchanged | Answer::Saw { .. })
    }

    /// Lets every pending look happen that fits. Sooner is never worse: it changes nothing.
    fn look(&self, mut now: Possible) -> Possible {
        let fits = |at: usize| match (self.ops[at].call, self.ops[at].answer) {
            (Call::Read, Answer::Saw { bits, .. }) => now.bits == bits,
            (Call::Set { register, value, .. }, Answer::Unchanged) => {
                is_set(now.bits, register) == value
            }
            _ => false,
        };
        let fitting: Vec<usize> = self.pending.iter().copied().filter(|at| fits(*at)).collect();
        now.done.extend(fitting);
        now
    }

    /// A pending write takes effect, where it can and where that makes a difference.
    fn step(&self, now: &Possible, at: usize) -> Option<Possible> {
        let Call::Set { register, value, .. } = self.ops[at].call else { return None };
        let answered = match self.ops[at].answer {
            Answer::Changed(place) => {
                let mut before = self.changes.range(..(place, 0));
                if !before.all(|(_, change)| now.done.contains(change)) {
                    return None;
                }
                true
            }
            Answer::Unknown => false,
            Answer::Unchanged | Answer::Saw { .. } | Answer::Failed => return None,
        };
        if is_set(now.bits, register) == value || now.done.contains(&at) || now.spent.contains(&at)
        {
            return None;
        }
        let mut next = now.clone();
        next.bits ^= 1 << register;
        if answered { &mut next.done } else { &mut next.spent }.insert(at);
        Some(self.look(next))
    }

    fn explain(&self, at: usize, before: &HashSet<Possible>) -> String {
        let states: BTreeSet<String> = before.iter().map(|p| format!("{:b}", p.bits)).collect();
        let states: Vec<String> = states.into_iter().collect();
        let beside: Vec<String> = self
            .pending
            .iter()
            .filter(|other| **other != at)
            .map(|other| format!("\n      beside {}", self.ops[*other]))
            .collect();
        format!(
            "no order explains {}: the registers could be {} when it ended{}",
            self.ops[at],
            states.join(" or "),
            beside.concat()
        )
    }
}

fn is_set(bits: u32, register: usize) -> bool {
    bits >> register & 1 == 1
}

/// Drops what is no better than another: the same state and answers, with more calls used up.
fn prune(all: HashSet<Possible>) -> HashSet<Possible> {
    let mut groups = BTreeMap::<(u32, BTreeSet<usize>), Vec<BTreeSet<usize>>>::new();
    for possible in all {
        groups.entry((possible.bits, possible.done)).or_default().push(possible.spent);
    }
    let mut kept = HashSet::new();
    for ((bits, done), mut spent) in groups {
        spent.sort_by_key(BTreeSet::len);
        let mut least: Vec<BTreeSet<usize>> = Vec::new();
        for candidate in spent {
            if !least.iter().any(|l| l.is_subset(&candidate)) {
                least.push(candidate);
            }
        }
        let done = &done;
        kept.extend(least.into_iter().map(|spent| Possible { bits, done: done.clone(), spent }));
    }
    kept
}

/// Checks the places in the log that the answers name: one place a change, and no read that is
/// behind a change which was answered before the read began.
///
/// # Errors
/// The first two calls that contradict each other.
pub fn check_places(ops: &[Op]) -> Result<(), String> {
    let place = |op: &Op| match op.answer {
        Answer::Changed(index) => Some(index),
        Answer::Saw { .. } | Answer::Unchanged | Answer::Unknown | Answer::Failed => None,
    };
    let mut changes: Vec<(u64, &Op)> =
        ops.iter().filter_map(|op| place(op).map(|i| (i, op))).collect();
    changes.sort_by_key(|(index, _)| *index);
    if let Some(pair) = changes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("one place for {} and {}", pair[0].1, pair[1].1));
    }
    changes.sort_by_key(|(_, op)| op.returned);
    let mut reads: Vec<(u64, &Op)> = Vec::new();
    for op in ops {
        if let Answer::Saw { applied, .. } = op.answer {
            reads.push((applied, op));
        }
    }
    reads.sort_by_key(|(_, op)| op.invoked);
    let mut ended = changes.iter().peekable();
    let mut highest: Option<(u64, &Op)> = None;
    for (applied, read) in reads {
        while let Some((index, change)) = ended.next_if(|(_, c)| c.returned < read.invoked) {
            if highest.is_none_or(|(high, _)| high < *index) {
                highest = Some((*index, change));
            }
        }
        if let Some((_, change)) = highest.filter(|(index, _)| *index > applied) {
            return Err(format!("{read} is behind {change}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
