//! The short form of `scripts/simulate`: a few seeds.

use squall_tests::simulation::{Summary, run};

const SEEDS: u64 = 100;

#[test]
fn a_few_histories_of_the_whole_keep_every_promise() {
    let mut all = Summary::default();
    for seed in 0..SEEDS {
        match run(seed, false) {
            Ok(summary) => all += summary,
            Err(failure) => panic!(
                "seed {seed}, step {}: {}\nits history: scripts/simulate --seed {seed}",
                failure.steps, failure.what
            ),
        }
    }
    // Runs in which nothing happens would keep every promise too.
    assert!(all.held > SEEDS / 2 && all.done > SEEDS && all.resumes > SEEDS / 2, "{all:?}");
    assert!(all.faults > SEEDS && all.crashes > SEEDS, "{all:?}");
}

#[test]
fn a_seed_plays_the_same_history_each_time() {
    let (one, other) = (run(7, false), run(7, true));
    assert!(one.is_ok(), "{one:?}");
    assert_eq!(one, other);
}
