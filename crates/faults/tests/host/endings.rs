//! Each fault, and each thing that can end it: it bites before, it is gone after, and nothing is left.
//! The time from the event (or from the moment that was due) until the effect is gone is printed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use squall_core::fault::{
    Amount, Cpu, Direction, Fault, Kill, Loss, Memory, Partition, Pause, Traffic,
};
use squall_core::hold::{Hold, HolderReport};
use squall_core::ids::FaultId;
use squall_faults::clock;
use squall_faults::holder::HolderEvent;
use squall_faults::residue::Snapshot;

use crate::bench::{Held, Pair, example, task};
use crate::victim::{Victim, burners, state, taken, with};

/// How soon after its cause an end must be seen, on a machine that is busy.
const SOON: Duration = Duration::from_millis(1_500);
/// The lease or the length of a fault that ends by time.
const SHORT_MS: u64 = 4_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Order,
    Terminate,
    Deadline,
    Lease,
    Pipe,
    HolderKilled,
    AgentKilled,
    HolderFrozen,
    AllFrozen,
}

const EVENTS: [Event; 9] = [
    Event::Order,
    Event::Terminate,
    Event::Deadline,
    Event::Lease,
    Event::Pipe,
    Event::HolderKilled,
    Event::AgentKilled,
    Event::HolderFrozen,
    Event::AllFrozen,
];

impl Event {
    /// Ends at a moment that was set when it began.
    fn is_timed(self) -> bool {
        matches!(self, Event::Deadline | Event::Lease | Event::HolderFrozen | Event::AllFrozen)
    }
}

/// Who is hurt, and how that is seen.
struct Subject {
    fault: Fault,
    pair: Pair,
    victim: Option<Victim>,
}

/// Watches one effect.
type Look<'a> = Box<dyn FnMut() -> bool + 'a>;

impl Subject {
    fn new(kind: &str, word: &str) -> Subject {
        let pair = Pair::new();
        let traffic = Traffic {
            peers: vec!["10.9.0.2/32".parse().unwrap()],
            direction: Direction::Both,
            ports: vec![],
            protocol: None,
        };
        let hurts = matches!(kind, "kill" | "pause");
        let victim = hurts.then(|| Victim::start(&pair.h1, 4, word));
        let fault = match kind {
            "partition" => Fault::Partition(Partition { traffic, severed: vec![] }),
            "loss" => Fault::Loss(Loss { traffic, per_million: 900_000 }),
            "kill" => Fault::Kill(Kill {
                processes: with(word),
                amount: Amount::All,
                signal: 9,
                interval_ms: Some(60_000),
            }),
            "pause" => Fault::Pause(Pause { processes: with(word) }),
            "cpu" => Fault::Cpu(Cpu::new(Some(2), 5)),
            "memory" => Fault::Memory(Memory::bytes(24 << 20)),
            other => panic!("{other}"),
        };
        Subject { fault, pair, victim }
    }

    /// What says whether the fault bites now. `holder` stands in where a fault leaves nothing.
    fn look(&mut self, id: &FaultId, holder: i32) -> Look<'_> {
        let tag = id.tag();
        match &self.fault {
            Fault::Partition(_) => Box::new(self.pair.watch()),
            Fault::Loss(_) => {
                let (pair, id) = (&self.pair, id.clone());
                Box::new(move || {
                    let id = id.clone();
                    let left = pair.h1.run(move || Snapshot::take().unwrap().carrying(&id));
                    left.iter().any(|line| line.starts_with("nft table"))
                })
            }
            Fault::Kill(_) => {
                let victim = self.victim.as_mut().unwrap();
                assert!(victim.has_ended() || state(victim.pid()) == Some('Z'));
                Box::new(move || !matches!(state(holder), None | Some('Z')))
            }
            Fault::Pause(_) => {
                let victim = self.victim.as_ref().unwrap();
                assert!(victim.stands());
                Box::new(move || victim.state() == 't')
            }
            Fault::Cpu(_) => Box::new(move || !burners(&tag).is_empty()),
            Fault::Memory(_) => Box::new(move || burners(&tag).iter().any(|p| taken(*p) > 8 << 20)),
        }
    }
}

/// An agent of its own, so that it can be killed and frozen: the example `hold agent`.
struct Agent {
    child: Child,
    holder: i32,
}

impl Agent {
    fn start(pair: &Pair, hold: &Hold) -> Agent {
        let mut child = pair.h1.run(|| {
            Command::new(example("hold"))
                .arg("agent")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let line = serde_json::to_string(hold).unwrap() + "\n";
        child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut holder, mut held) = (None, false);
        // The number of the holder and its report come in either order.
        while holder.is_none() || !held {
            let line = out.next().expect("the agent ended").unwrap();
            match (line.parse(), serde_json::from_str(&line)) {
                (Ok(pid), _) => holder = Some(pid),
                (_, Ok(HolderReport::Held(a))) if a.bit => held = true,
                other => panic!("{other:?}"),
            }
        }
        // Its later reports have a reader, as an agent's log has.
        thread::spawn(move || out.for_each(drop));
        Agent { child, holder: holder.unwrap() }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

enum Runs {
    Here(Held),
    Apart(Agent),
    Over,
}

impl Runs {
    fn holder(&self) -> i32 {
        match self {
            Runs::Here(held) => held.holder.pid() as i32,
            Runs::Apart(agent) => agent.holder,
            Runs::Over => panic!("it is over"),
        }
    }
}

fn freeze(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
}

/// Makes the event happen; what keeps the rest alive stays.
fn strike(event: Event, runs: &mut Runs, tag: &str) {
    let holder = runs.holder();
    match (event, &mut *runs) {
        (Event::Order, Runs::Here(held)) => held.holder.lift(),
        (Event::Terminate, _) => kill(Pid::from_raw(holder), Signal::SIGTERM).unwrap(),
        (Event::Pipe, Runs::Here(_)) => {
            if let Runs::Here(Held { holder, spawner, events }) =
                std::mem::replace(runs, Runs::Over)
            {
                drop(holder);
                // The thread that forked must outlive it, or that would be what ends it.
                thread::spawn(move || {
                    thread::sleep(2 * SOON);
                    drop((spawner, events));
                });
            }
        }
        (Event::HolderKilled, _) => kill(Pid::from_raw(holder), Signal::SIGKILL).unwrap(),
        (Event::AgentKilled, Runs::Apart(agent)) => agent.child.kill().unwrap(),
        (Event::HolderFrozen, _) => freeze(holder),
        (Event::AllFrozen, Runs::Apart(agent)) => {
            freeze(agent.child.id() as i32);
            freeze(holder);
            burners(tag).into_iter().for_each(freeze);
        }
        (Event::Deadline | Event::Lease, _) => {}
        (event, _) => panic!("{event:?} needs another way to start"),
    }
}

/// One fault and one event; returns the time to lift in milliseconds.
fn cell(kind: &str, event: Event, number: u128) -> i64 {
    let word = format!("endings-{kind}-{event:?}");
    let mut subject = Subject::new(kind, &word);
    let network = subject.pair.h1.snapshot();
    let lease =
        if matches!(event, Event::Deadline) || !event.is_timed() { 30_000 } else { SHORT_MS };
    let length = if event == Event::Deadline { SHORT_MS } else { 60_000 };
    let hold = task(subject.fault.clone(), number, lease, length);
    let (id, due) = (hold.id.clone(), hold.lease_until.min(hold.deadline));
    let mut runs = if matches!(event, Event::AgentKilled | Event::AllFrozen) {
        Runs::Apart(Agent::start(&subject.pair, &hold))
    } else {
        Runs::Here(Held::start(&subject.pair.h1, hold).held())
    };
    let mut bites = subject.look(&id, runs.holder());
    assert!(bites(), "{kind} does not bite before {event:?}");
    let struck = clock::now();
    strike(event, &mut runs, &id.tag());
    let from = if event.is_timed() { due } else { struck };
    if event.is_timed() {
        // Frozen or not, it holds until then.
        thread::sleep(Duration::from_millis(clock::now().until(due).saturating_sub(300)));
        // A look that ends later says nothing of then.
        assert!(bites() || clock::now() >= due, "{kind} ended before its time at {event:?}");
    }
    let began = Instant::now();
    while bites() {
        let waited = clock::now().since(from);
        assert!(waited < SOON.as_millis() as u64, "{kind} is still there after {event:?}");
        thread::sleep(Duration::from_millis(1));
    }
    let lift_ms = clock::now().0 as i64 - from.0 as i64;
    drop(bites);
    loop {
        let id = id.clone();
        let found = subject.pair.h1.run(move || Snapshot::take().unwrap().carrying(&id));
        if found.is_empty() {
            break;
        }
        assert!(began.elapsed() < 2 * SOON, "{kind}, {event:?}: {found:?}");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(subject.pair.h1.snapshot(), network, "{kind}, {event:?}");
    if let (Fault::Pause(_), Some(victim)) = (&subject.fault, &subject.victim) {
        victim.resumes(1_000);
    }
    lift_ms
}

#[test]
fn at_its_deadline_a_holder_says_what_it_measured_last() {
    for (number, kind) in (70..).zip(["partition", "loss", "kill", "pause", "cpu", "memory"]) {
        let subject = Subject::new(kind, &format!("deadline-{kind}"));
        let hold = task(subject.fault.clone(), number, 30_000, SHORT_MS);
        let due = hold.deadline;
        let held = Held::start(&subject.pair.h1, hold).held();
        let mut last = None;
        loop {
            match held.next(2 * SHORT_MS) {
                Some(HolderEvent::Report(HolderReport::Lifted(achieved, until))) => {
                    assert!(until >= due, "{kind} was lifted early");
                    last = Some(achieved);
                }
                Some(HolderEvent::Report(_)) => {}
                Some(HolderEvent::Gone { .. }) => break,
                None => panic!("{kind} is still there"),
            }
        }
        assert!(last.as_ref().is_some_and(|achieved| achieved.bit), "{kind}: {last:?}");
    }
}

/// All events of one fault at once, and a line of the table.
fn every_ending(kind: &'static str, first: u128) {
    let cells = (first..).zip(EVENTS).map(|(number, event)| {
        thread::Builder::new()
            .name(format!("{kind}, {event:?}"))
            .spawn(move || cell(kind, event, number))
            .unwrap()
    });
    let cells: Vec<_> = cells.collect();
    let mut line = format!("| {kind} |");
    let mut failed = Vec::new();
    for (event, cell) in EVENTS.iter().zip(cells) {
        match cell.join() {
            Ok(ms) => line += &format!(" {ms} |"),
            Err(_) => failed.push(event),
        }
    }
    println!("| fault, ms after | {EVENTS:?} |\n{line}");
    assert!(failed.is_empty(), "{kind}: {failed:?}");
}

#[test]
fn partition() {
    every_ending("partition", 100);
}

#[test]
fn loss() {
    every_ending("loss", 110);
}

#[test]
fn kill_() {
    every_ending("kill", 120);
}

#[test]
fn pause() {
    every_ending("pause", 130);
}

#[test]
fn cpu() {
    every_ending("cpu", 140);
}

#[test]
fn memory() {
    every_ending("memory", 150);
}
