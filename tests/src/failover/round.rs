//! One round: an experiment holds, its leader is struck, another leads, the experiment ends well.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::crowd::Account;
use super::history::{Answer, Call};
use super::linear::{self, Finding};
use super::stage::{Blow, Stage};
use crate::fleet::{Running, Said, until};

/// From the start of the load to the first blow.
const BEFORE: Duration = Duration::from_millis(1_500);
/// From a blow to its mending, and from there to the next one: elections take up to 2.4 s and more on
/// a busy machine, and clients must see both ways of things.
const STRUCK: Duration = Duration::from_millis(4_000);
const MENDED: Duration = Duration::from_millis(2_500);
/// From a blow to the first read and the first write, on a busy machine: some elections.
const LATEST_MS: u64 = 15_000;
/// How much longer than its hold an experiment may take.
const SETTLE_MS: u64 = 30_000;

/// What a round came to.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What was done, to whom.
    pub events: Vec<String>,
    /// From each blow to the first read that a quorum confirmed, in milliseconds.
    pub failover_ms: Vec<u64>,
    /// From each blow to the first acknowledged write that began after it.
    pub write_ms: Vec<u64>,
    /// Calls that were answered, that came to nothing, and of which nobody knows.
    pub calls: [usize; 3],
    /// Repeats of a command that were compared with its first answer.
    pub compared: u64,
    /// Whether the history is linearizable.
    pub linearizable: bool,
    /// The experiment's verdict; none where none ran.
    pub verdict: String,
    /// Acknowledged writes that are not everywhere.
    pub lost: usize,
    /// Everything that must not be.
    pub wrong: Vec<String>,
}

/// Runs one round, with these blows one after the other.
///
/// # Panics
/// The lab fails in something that is not being tested.
pub fn round(stage: &mut Stage, blows: &[Blow], hold: Duration) -> Row {
    let mut row = Row::default();
    let id = stage.fleet.start(&format!(
        "name: survive\n\
         objective: a partition is held while coordinators fail\n\
         targets: {{ hosts: [h1] }}\n\
         faults:\n\
         \x20 - partition: {{ peers: [h2, h3, h4, h5] }}\n\
         duration: {}s\n",
        hold.as_secs()
    ));
    let held = Instant::now();
    let pings = pings(stage, hold);
    let clients = stage.clients(None);
    sleep(BEFORE);
    let mut struck = Vec::new();
    for blow in blows {
        let leader = stage.leader();
        let at = stage.strike(*blow, &leader);
        sleep(STRUCK);
        let next = stage.leader();
        if next == leader {
            row.wrong.push(format!("{leader} still leads after {blow}"));
        }
        stage.mend(*blow, &leader);
        row.events.push(format!("{blow} {leader}"));
        struck.push(at);
        sleep(MENDED);
    }
    if held.elapsed() > hold {
        row.wrong.push("the experiment ended before the last blow was over: hold it longer".into());
    }
    stage.wait_for_all();
    row.judge(&clients.end(), &struck);
    let shown = || {
        let shown = stage.fleet.squall(&["show", &id, "-o", "json"]).json();
        (shown["state"] == "settled").then_some(shown)
    };
    let patience = hold.saturating_sub(held.elapsed());
    let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX) + SETTLE_MS;
    let (shown, _) = until(patience, "the verdict", shown);
    row.verdict = shown["verdict"].as_str().unwrap_or("none").to_owned();
    if row.verdict != "held" || shown["residue"].as_array().is_none_or(|r| !r.is_empty()) {
        row.wrong
            .push(format!("verdict {}: {} {}", row.verdict, shown["reasons"], shown["faults"]));
    }
    match answered(&pings.end()) {
        Some(0) => {}
        Some(n) => row.wrong.push(format!("h2 answered {n} of h1's pings during the partition")),
        None => row.wrong.push("the pings were not counted".into()),
    }
    row
}

impl Row {
    /// Judges what clients saw.
    pub fn judge(&mut self, account: &Account, struck: &[u64]) {
        let finding = linear::check(account.initial, &account.ops);
        self.linearizable = finding == Finding::Linearizable;
        match finding {
            Finding::Linearizable => {}
            Finding::Not(why) => self.wrong.push(format!("not linearizable: {why}")),
            Finding::Undecided(why) => self.wrong.push(format!("undecided: {why}")),
        }
        if let Err(why) = linear::check_places(&account.ops) {
            self.linearizable = false;
            self.wrong.push(why);
        }
        let failed = account.ops.iter().filter(|op| op.answer == Answer::Failed).count();
        let ok = account.ops.len() - failed - account.unknown;
        self.calls = [ok, failed, account.unknown];
        self.compared = account.compared;
        self.lost = account.lost.len();
        self.wrong.extend(account.lost.iter().map(|l| format!("lost: {l}")));
        self.wrong.extend(account.differing.iter().map(|d| format!("not once: {d}")));
        for at in struck {
            let reads = account.probes.iter().map(|p| (p.invoked, p.returned));
            let writes = account.ops.iter().filter(|op| {
                matches!(op.call, Call::Set { .. })
                    && matches!(op.answer, Answer::Changed(_) | Answer::Unchanged)
            });
            let read = first(*at, reads);
            let write = first(*at, writes.map(|op| (op.invoked, op.returned)));
            match (read, write) {
                (Some(read), Some(write)) => {
                    if read.max(write) > LATEST_MS {
                        self.wrong.push(format!(
                            "read after {read} ms and written after {write} ms, over {LATEST_MS}"
                        ));
                    }
                    self.failover_ms.push(read);
                    self.write_ms.push(write);
                }
                _ => self.wrong.push("nothing was answered after a blow".into()),
            }
        }
    }
}

/// Milliseconds from `at` to the first answer to what was asked after it.
fn first(at: u64, calls: impl Iterator<Item = (u64, u64)>) -> Option<u64> {
    calls.filter(|(invoked, _)| *invoked > at).map(|(_, returned)| (returned - at) / 1_000).min()
}

/// Pings from h1 to h2 through the hold, until two seconds before its end.
fn pings(stage: &Stage, hold: Duration) -> Running {
    let address = stage.fleet.lab.host("h2").expect("a host of the lab").address.to_string();
    let count = (hold.as_secs().saturating_sub(3) * 4).to_string();
    let words = ["ping", "-n", "-i", "0.25", "-W", "1", "-c", &count, &address];
    Running::begin(stage.fleet.lab.exec("h1", words))
}

/// How many of them were answered.
fn answered(said: &Said) -> Option<u32> {
    let (before, _) = said.out.split_once(" received")?;
    before.rsplit_once(' ')?.1.parse().ok()
}
