//! What each fault does to a host, seen by programs and files that know nothing of Squall.
//!
//! A probe writes down moments: of each answered ping, each death of a victim, each look at a
//! burner. Whether the effect is there, and since when it is not, is read from those alone.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use squall_core::fault::Kind;

use super::burners::{burners, cpu_ticks, taken_kib};
use crate::fleet::{Fleet, until};

/// Over such a span every effect must show.
pub const SPAN: Duration = Duration::from_millis(1_500);
/// A victim that ticks 20 times a second and was silent for so long stood still.
const STILL: Duration = Duration::from_millis(1_000);
/// So many pings in a row arrive only where none is lost: one in 10^22 at the loss that is asked for.
const CLEAN_RUN: usize = 50;
/// The newest answer is older than this: none come any more.
const RECENT: Duration = Duration::from_millis(500);
/// No victim died for so long, of one killed each fifth of a second.
const SPARED: Duration = Duration::from_millis(1_200);
/// Between two looks at burners, or at a victim.
const LOOK: Duration = Duration::from_millis(20);
/// Ticks of processor time over [`SPAN`] (30 are asked for) that show a burner on a busy machine.
const TICKS: u64 = 2;
/// KiB that a burner must have taken, of 64 MiB that are asked for.
const TAKEN_KIB: u64 = 32 * 1024;
/// How a victim of `kill` looks, and how one of `pause`.
const MORTAL: &str = "7391";
const TICKING: &str = "-i 0.05 127.0.0.1";
/// What `lab exec` ends with where SIGKILL ended its program.
const KILLED: i32 = 128 + 9;

/// The fault as an experiment file asks for it.
#[must_use]
pub fn form(kind: Kind) -> String {
    match kind {
        Kind::Partition => "partition: { peers: [h3] }".to_owned(),
        Kind::Loss => "loss: { percent: 40, peers: [h4] }".to_owned(),
        Kind::Kill => format!("kill: {{ cmdline: sleep {MORTAL}, interval: 200ms }}"),
        Kind::Pause => format!("pause: {{ cmdline: {TICKING:?} }}"),
        Kind::Cpu => "cpu: { workers: 1, load: 20 }".to_owned(),
        Kind::Memory => "memory: { bytes: 64MiB }".to_owned(),
    }
}

/// A moment, and what was seen: a ping's number, a count of deaths, ticks, or KiB.
type Marks = Arc<Mutex<Vec<(Instant, u64)>>>;

/// One effect on one host, watched until this is dropped.
#[derive(Debug)]
pub struct Probe {
    /// Whose effect.
    pub kind: Kind,
    marks: Marks,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Program(Child),
    Thread(Arc<AtomicBool>, Option<JoinHandle<()>>),
}

impl Probe {
    /// Begins to watch, and starts the victims that the fault needs. `index` is the fault's place
    /// in the file.
    ///
    /// # Panics
    /// A program cannot be started.
    #[must_use]
    pub fn start(fleet: &Fleet, host: &str, kind: Kind, index: usize) -> Probe {
        let ping: fn(&str) -> Option<u64> =
            |line| line.split_once("icmp_seq=")?.1.split(' ').next()?.parse().ok();
        match kind {
            Kind::Partition => {
                program(fleet, host, kind, &["ping", "-n", "-i", "0.01", "h3"], ping)
            }
            Kind::Loss => program(fleet, host, kind, &["ping", "-n", "-i", "0.01", "h4"], ping),
            Kind::Pause => {
                let ticking: Vec<&str> =
                    ["ping", "-n"].into_iter().chain(TICKING.split(' ')).collect();
                program(fleet, host, kind, &ticking, ping)
            }
            Kind::Kill => deaths(fleet, host, kind),
            Kind::Cpu => looks(fleet, host, kind, index, cpu_ticks),
            Kind::Memory => looks(fleet, host, kind, index, taken_kib),
        }
    }

    /// Whether the effect showed between two moments, at least [`SPAN`] apart.
    #[must_use]
    pub fn hurts(&self, from: Instant, to: Instant) -> bool {
        let marks = self.within(from, to);
        match self.kind {
            // A tenth of a second for an answer that was on its way.
            Kind::Partition | Kind::Pause => {
                marks.iter().all(|(at, _)| *at < from + Duration::from_millis(100))
            }
            Kind::Loss => marks.len() < 2 || marks.windows(2).any(|pair| pair[1].1 > pair[0].1 + 1),
            Kind::Kill => !marks.is_empty(),
            Kind::Cpu => match (marks.first(), marks.last()) {
                (Some(first), Some(last)) => first.1 > 0 && last.1 >= first.1 + TICKS,
                _ => false,
            },
            Kind::Memory => !marks.is_empty() && marks.iter().all(|(_, kib)| *kib > TAKEN_KIB),
        }
    }

    /// Waits until the effect shows, over all of a [`SPAN`] that begins now or later.
    ///
    /// # Panics
    /// It does not within `ms` milliseconds.
    pub fn await_bite(&self, ms: u64) {
        let began = Instant::now();
        let _ = until(ms, &format!("{} bites", self.kind), || {
            let now = Instant::now();
            (now - began > SPAN && self.hurts(now - SPAN, now)).then_some(())
        });
    }

    /// Waits until the effect is gone; since when it is, counted from `after`.
    ///
    /// # Panics
    /// It is not within `ms` milliseconds.
    pub fn await_end(&self, after: Instant, ms: u64) -> Duration {
        let what = format!("{} is gone", self.kind);
        until(ms, &what, || self.gone_since(after)).0 - after
    }

    /// Since when the effect is gone, `after` or later; `None` where it is there, or may be.
    #[must_use]
    pub fn gone_since(&self, after: Instant) -> Option<Instant> {
        let now = Instant::now();
        let marks = self.within(after - STILL * 2, now);
        match self.kind {
            Kind::Partition | Kind::Loss => {
                let lost = |pair: &[(Instant, u64)]| pair[1].1 > pair[0].1 + 1;
                let run = behind_last(&marks, lost);
                let (first, last) = (run.first()?.0, run.last()?.0);
                (run.len() >= CLEAN_RUN && last > after && now - last < RECENT)
                    .then_some(first.max(after))
            }
            Kind::Pause => {
                let run = behind_last(&marks, |pair| pair[1].0 - pair[0].0 > STILL);
                let (first, last) = (run.first()?.0, run.last()?.0);
                (last > after && last - first.max(after) > STILL / 2 && now - last < RECENT)
                    .then_some(first.max(after))
            }
            Kind::Kill => {
                let last = marks.last().map_or(after, |(at, _)| (*at).max(after));
                (now - last > SPARED).then_some(last)
            }
            Kind::Cpu | Kind::Memory => {
                let run = behind_last(&marks, |pair| pair[0].1 > 0);
                let (first, last) = (run.first()?, run.last()?);
                (last.1 == 0 && last.0 > after && now - last.0 < RECENT)
                    .then_some(first.0.max(after))
            }
        }
    }

    fn within(&self, from: Instant, to: Instant) -> Vec<(Instant, u64)> {
        let marks = self.marks.lock().expect("nobody panics holding it");
        marks.iter().filter(|(at, _)| (from..=to).contains(at)).copied().collect()
    }
}

/// What follows the last pair of neighbours of which this holds; all where it holds of none.
fn behind_last(
    marks: &[(Instant, u64)],
    holds: impl Fn(&[(Instant, u64)]) -> bool,
) -> &[(Instant, u64)] {
    let last = marks.windows(2).rposition(holds);
    last.map_or(marks, |index| &marks[index + 1..])
}

/// A program on the host whose lines are marks.
fn program(
    fleet: &Fleet,
    host: &str,
    kind: Kind,
    argv: &[&str],
    read: fn(&str) -> Option<u64>,
) -> Probe {
    let mut command = fleet.lab.exec(host, argv);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let lines = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
    let marks = Marks::default();
    let written = Arc::clone(&marks);
    // It ends with the program.
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Some(value) = read(&line) {
                written.lock().expect("nobody panics holding it").push((Instant::now(), value));
            }
        }
    });
    Probe { kind, marks, source: Source::Program(child) }
}

/// A thread whose work is to mark what it sees until it is told to stop.
fn thread(kind: Kind, work: impl FnOnce(&dyn Fn(u64), &AtomicBool) + Send + 'static) -> Probe {
    let (marks, stop) = (Marks::default(), Arc::new(AtomicBool::new(false)));
    let (written, stopped) = (Arc::clone(&marks), Arc::clone(&stop));
    let mark = move |seen| {
        written.lock().expect("nobody panics holding it").push((Instant::now(), seen));
    };
    let thread = std::thread::spawn(move || work(&mark, &stopped));
    Probe { kind, marks, source: Source::Thread(stop, Some(thread)) }
}

/// Looks again and again at the processes of the host.
fn looks(
    fleet: &Fleet,
    host: &str,
    kind: Kind,
    index: usize,
    look: fn(&Path) -> Option<u64>,
) -> Probe {
    let processes = fleet.init(host).join("root/proc");
    let suffix = format!("{index:x}@{host}");
    thread(kind, move |mark, stopped| {
        while !stopped.load(Ordering::Relaxed) {
            mark(burners(&processes, &suffix).iter().filter_map(|p| look(p)).sum());
            std::thread::sleep(LOOK);
        }
    })
}

/// Counts the deaths of a victim; each time another one takes its place.
fn deaths(fleet: &Fleet, host: &str, kind: Kind) -> Probe {
    let mut command = fleet.lab.exec(host, ["sleep", MORTAL]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    thread(kind, move |mark, stopped| {
        for number in 1.. {
            let mut victim = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
            let ended = loop {
                if stopped.load(Ordering::Relaxed) {
                    // Its program goes with it.
                    let _ = victim.kill();
                    let _ = victim.wait();
                    return;
                }
                match victim.try_wait().expect("it is ours") {
                    Some(status) => break status,
                    None => std::thread::sleep(LOOK),
                }
            };
            assert_eq!(ended.code(), Some(KILLED), "not by SIGKILL: {ended}");
            mark(number);
        }
    })
}

impl Drop for Probe {
    fn drop(&mut self) {
        match &mut self.source {
            Source::Program(child) => {
                // Its program goes with it.
                let _ = child.kill();
                let _ = child.wait();
            }
            Source::Thread(stop, thread) => {
                stop.store(true, Ordering::Relaxed);
                if let Some(thread) = thread.take() {
                    let _ = thread.join();
                }
            }
        }
    }
}
