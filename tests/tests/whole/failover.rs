//! The leader is struck while an experiment holds; see `squall_tests::failover`. `scripts/failover` is
//! the long form.

use squall_tests::failover::{self, Options};

#[test]
fn another_leads_the_experiment_holds_and_nothing_acknowledged_is_lost() {
    let _alone = crate::alone();
    let options = Options::short(env!("CARGO_BIN_EXE_failover").into());
    println!("{}", failover::head());
    let rows = failover::run(&options, |name, row| println!("{}", failover::line(name, row)));
    let wrong: Vec<&String> = rows.iter().flat_map(|row| &row.wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
