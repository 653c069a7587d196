//! The short form of `scripts/model`: every history of a few events.

use squall_tests::explore::{self, explore};
use squall_tests::model::Small;

/// Deep enough that something is held and stopped. What a guard is good for shows from depth 6 to 8 on
/// (`scripts/model`, `scripts/mutations`).
const DEPTH: usize = 4;

#[test]
fn every_short_history_keeps_every_promise() {
    let explored = explore(Small::new(2), DEPTH, |_| {});
    if let Some((violation, events)) = &explored.found {
        let story = explore::tell(Small::new(2), events);
        panic!("{violation}, after\n{}", story.join("\n"));
    }
    assert!(explored.states() > 5_000, "{explored:?}");
    assert!(explored.transitions > explored.states());
}

#[test]
fn the_same_is_found_each_time() {
    let levels = || explore(Small::new(2), 3, |_| {}).levels;
    assert_eq!(levels(), levels());
}
