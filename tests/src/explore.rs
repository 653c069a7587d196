//! Breadth first: every history of the small world up to a depth, each state once.
//!
//! A state is kept as its fingerprint, and while it waits to be gone on from as the step that led to
//! it. It is made again by its steps when its turn comes; since states wait in the order in which
//! they were found, most of those steps are the ones just made.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use crate::invariants::{self, Violation};
use crate::model::{Event, Small};

/// What was looked at.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// New states at each depth, from 0: the first alone.
    pub levels: Vec<u64>,
    /// Steps taken.
    pub transitions: u64,
    /// How long it took.
    pub took: Duration,
    /// The shortest history that ends in a violation, where there is one.
    pub found: Option<(Violation, Vec<Event>)>,
}

impl Explored {
    /// States that differ.
    #[must_use]
    pub fn states(&self) -> u64 {
        self.levels.iter().sum()
    }
}

/// A fingerprint is its own hash.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }
    fn write_u128(&mut self, word: u128) {
        self.0 = word as u64;
    }
}

/// A history in words, one event a line.
#[must_use]
pub fn tell(mut small: Small, events: &[Event]) -> Vec<String> {
    let mut lines = Vec::new();
    for event in events {
        lines.push(small.describe(*event));
        small.step(*event);
    }
    lines
}

/// How a state was reached: from which, by number, and by what. The first has the number 0 and is
/// not listed.
type Step = (u32, Event);

/// Looks at every history of `start` of up to `depth` events. `progress` is called after each level.
pub fn explore(start: Small, depth: usize, mut progress: impl FnMut(&Explored)) -> Explored {
    let began = Instant::now();
    let mut seen: HashSet<u128, BuildHasherDefault<Identity>> = HashSet::default();
    seen.insert(start.fingerprint());
    let mut steps: Vec<Step> = Vec::new();
    let mut level = 0..1;
    let mut explored = Explored { levels: vec![1], ..Explored::default() };
    let mut path = Path::new(start);
    for depth_left in (0..depth).rev() {
        let mut new = 0;
        for at in level.clone() {
            path.go_to(at, &steps);
            for event in path.state().choices() {
                let mut then = path.state().clone();
                then.step(event);
                explored.transitions += 1;
                if let Err(violation) = invariants::check(&then.world) {
                    let mut events = path.events();
                    events.push(event);
                    explored.found = Some((violation, events));
                    explored.took = began.elapsed();
                    return explored;
                }
                if seen.insert(then.fingerprint()) {
                    new += 1;
                    if depth_left > 0 {
                        steps.push((at, event));
                    }
                }
            }
        }
        explored.levels.push(new);
        explored.took = began.elapsed();
        progress(&explored);
        level = level.end..steps.len() as u32 + 1;
    }
    explored
}

/// The states on the way from the first to one that is gone on from.
struct Path {
    first: Small,
    /// Each with its number and the event that led to it.
    states: Vec<(u32, Event, Small)>,
}

impl Path {
    fn new(first: Small) -> Path {
        Path { first, states: Vec::new() }
    }

    fn state(&self) -> &Small {
        self.states.last().map_or(&self.first, |(_, _, state)| state)
    }

    fn events(&self) -> Vec<Event> {
        self.states.iter().map(|(_, event, _)| *event).collect()
    }

    /// Makes the state of number `at`, from where the way to it leaves the last one.
    fn go_to(&mut self, at: u32, steps: &[Step]) {
        let mut way = Vec::new();
        let mut number = at;
        while number > 0 {
            let (from, event) = steps[number as usize - 1];
            way.push((number, event));
            number = from;
        }
        way.reverse();
        let same = self.states.iter().zip(&way).take_while(|(s, w)| s.0 == w.0).count();
        self.states.truncate(same);
        for (number, event) in way.drain(same..) {
            let mut state = self.state().clone();
            state.step(event);
            state.world.facts = Vec::new();
            self.states.push((number, event, state));
        }
    }
}
