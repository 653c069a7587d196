//! Coordinators are killed, frozen and cut off under load while an experiment holds: another leads,
//! the experiment reaches its verdict, nothing that was acknowledged is lost, and what clients saw is
//! linearizable.
//!
//! Each round strikes the leader twice: it is killed and started again from its disk; then the next
//! one is killed, frozen or cut off. Two further rounds without an experiment: a follower that was away for
//! longer than the log reaches back installs a snapshot under load; all three are killed in the
//! middle of writes, again and again.

pub mod crowd;
pub mod history;
pub mod linear;
mod round;
mod stage;
mod ways;

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use round::Row;
use stage::{Blow, Stage};

/// Writes of the burst: more than a snapshot covers (2,000) and what is kept behind it (500).
const BURST: usize = 3_000;
/// What a coordinator logs where a snapshot of the leader's was put in place.
const INSTALLED: &str = "a snapshot of the leader's is in place";
/// How long a coordinator that starts may take until it has one, on a busy machine.
const INSTALL: Duration = Duration::from_secs(15);
/// How often all coordinators are killed at once, in the long form.
const BLACKOUTS: usize = 10;
/// How long clients work between two blackouts.
const LIGHT: Duration = Duration::from_millis(1_500);
/// How long an experiment holds: the lease is 5 s, and a round is over sooner.
const HOLD: Duration = Duration::from_secs(26);

/// How much is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program that becomes the clients when it is called with `clients ORDERS`.
    pub program: PathBuf,
    /// Rounds with an experiment.
    pub rounds: usize,
    /// How often all coordinators are killed at once; the burst is made too, where this is not 0.
    pub blackouts: usize,
}

impl Options {
    /// Twenty rounds and all else.
    #[must_use]
    pub fn long(program: PathBuf) -> Options {
        Options { program, rounds: 20, blackouts: BLACKOUTS }
    }

    /// As much as a test suite has time for.
    #[must_use]
    pub fn short(program: PathBuf) -> Options {
        Options { program, rounds: 3, blackouts: 2 }
    }
}

/// Runs it all in one lab, telling each row as it comes.
///
/// # Panics
/// The lab fails in something that is not being tested.
pub fn run(options: &Options, mut tell: impl FnMut(&str, &Row)) -> Vec<Row> {
    let mut stage = Stage::up(options.program.clone());
    let mut rows = Vec::new();
    for n in 0..options.rounds {
        let second = [Blow::Freeze, Blow::Isolate, Blow::Kill][n % 3];
        let row = round::round(&mut stage, &[Blow::Kill, second], HOLD);
        tell(&(n + 1).to_string(), &row);
        rows.push(row);
    }
    if options.blackouts > 0 {
        let mut further = |name: &str, row: Row| {
            tell(name, &row);
            rows.push(row);
        };
        further("snapshot", snapshot(&mut stage));
        further("blackout", blackouts(&mut stage, options.blackouts));
    }
    rows
}

/// A follower is away while more is written than the log keeps.
fn snapshot(stage: &mut Stage) -> Row {
    let leader = stage.leader();
    let away = stage.members.iter().map(|m| m.name.clone()).find(|n| *n != leader);
    let away = away.expect("there are three");
    let installed = stage.logged(&away, INSTALLED);
    stage.strike(Blow::Kill, &away);
    let clients = stage.clients(Some(BURST));
    stage.mend(Blow::Kill, &away);
    // It starts, hears who leads, and is sent a snapshot, while the clients go on.
    let began = Instant::now();
    while stage.logged(&away, INSTALLED) == installed && began.elapsed() < INSTALL {
        sleep(Duration::from_millis(100));
    }
    let mut row = Row { events: vec![format!("{away} away for {BURST} writes")], ..Row::default() };
    row.judge(&clients.end(), &[]);
    if stage.logged(&away, INSTALLED) == installed {
        row.wrong.push(format!("{away} came back without a snapshot: log \"{INSTALLED}\" in vain"));
    }
    row
}

/// All coordinators are killed at once, while clients write.
fn blackouts(stage: &mut Stage, times: usize) -> Row {
    let names: Vec<String> = stage.members.iter().map(|m| m.name.clone()).collect();
    let clients = stage.clients(None);
    let mut struck = Vec::new();
    for _ in 0..times {
        sleep(LIGHT);
        for name in &names {
            struck.push(stage.strike(Blow::Kill, name));
        }
        names.iter().for_each(|name| stage.mend(Blow::Kill, name));
        let _ = stage.leader();
    }
    stage.wait_for_all();
    let last: Vec<u64> = struck.chunks(names.len()).filter_map(|c| c.last().copied()).collect();
    let mut row = Row { events: vec![format!("kill all, {times} times")], ..Row::default() };
    row.judge(&clients.end(), &last);
    row
}

/// The head of the table.
#[must_use]
pub fn head() -> String {
    format!(
        "{:<9} {:<24} {:<12} {:<12} {:>6} {:>5} {:>7} {:>6} {:<6} {:<7} {:>4}",
        "round",
        "event",
        "read ms",
        "write ms",
        "ok",
        "fail",
        "unknown",
        "again",
        "linear",
        "verdict",
        "lost"
    )
}

/// One line of it, with what was wrong below.
#[must_use]
pub fn line(name: &str, row: &Row) -> String {
    let list = |all: &[u64]| match (all, all.iter().max()) {
        ([_, _, _, ..], Some(most)) => format!("at most {most}"),
        _ => all.iter().map(u64::to_string).collect::<Vec<_>>().join(" "),
    };
    let [ok, failed, unknown] = row.calls;
    let mut text = format!(
        "{name:<9} {:<24} {:<12} {:<12} {ok:>6} {failed:>5} {unknown:>7} {:>6} {:<6} {:<7} {:>4}",
        row.events.join(", "),
        list(&row.failover_ms),
        list(&row.write_ms),
        row.compared,
        if row.linearizable { "yes" } else { "NO" },
        if row.verdict.is_empty() { "-" } else { &row.verdict },
        row.lost
    );
    for wrong in &row.wrong {
        text.push_str("\n    WRONG: ");
        text.push_str(wrong);
    }
    text
}
