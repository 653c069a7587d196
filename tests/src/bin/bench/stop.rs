//! `bench stop`.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use squall_cluster::program;
use squall_wire::{ClusterAuthority, Role};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::agents::Agents;
use crate::cluster::Cluster;
use crate::report::{Goal, Report, Row, rounded};
use crate::serve::Served;
use crate::udp::Udp;
use crate::{Failure, Outcome, tls, wire};

/// When each subject has its turn in a round, in milliseconds. Connections that have fallen silent ping
/// each other after a second, and those of one subject all at once, since a turn made them fall silent
/// together: nobody's turn comes within 160 ms of the pings of another.
const TURNS: Turns = Turns { udp: 500, tls: 833, wire: 1_333, squall: 2_667, alone: 4_000 };
/// A fleet wakes up so long before its turn: each agent has reported by then.
const WAKE_MS: u64 = 1_250;

struct Turns {
    udp: u64,
    tls: u64,
    wire: u64,
    squall: u64,
    alone: u64,
}

/// Descriptors that an agent needs in this process, over all subjects.
const DESCRIPTORS: u64 = 5;

/// How large.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    agents: usize,
    rounds: usize,
}

impl Options {
    /// Reads what was typed.
    pub fn parse(words: &[&str]) -> Result<Options, String> {
        let mut options = Options { agents: 1_000, rounds: 21 };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = |most: usize| {
                let text = words.next().ok_or(format!("{word}: how many?"))?;
                let number = text.parse().ok().filter(|n| (1..=most).contains(n));
                number.ok_or(format!("{word} {text}: 1 to {most}"))
            };
            match *word {
                "--short" => options = Options { agents: 50, rounds: 3 },
                "--agents" => options.agents = number(4_000)?,
                "--rounds" => options.rounds = number(1_000)?,
                other => return Err(format!("{other}: unknown")),
            }
        }
        Ok(options)
    }
}

/// The subjects, in the order of their turns.
struct Subjects {
    udp: Udp,
    tls: Served,
    wire: Served,
    squall: Fleet,
    alone: Fleet,
}

/// A cluster and its agents.
struct Fleet {
    cluster: Cluster,
    agents: Agents,
    /// Of the coordinator, before there were agents.
    empty_kib: u64,
}

/// What was seen of one subject.
#[derive(Default)]
struct Seen {
    took: Vec<Duration>,
    acks: usize,
    lost: u64,
    committed: usize,
}

/// The whole benchmark.
pub fn run(options: Options) -> Outcome<Report> {
    let descriptors = options.agents as u64 * DESCRIPTORS + 256;
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < descriptors) {
        return Err(format!("{descriptors} open files are needed: ulimit -Hn").into());
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let dir = tempfile::tempdir()?;
    // As many threads as a coordinator has. Whoever asks has this one.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut subjects = Subjects::start(&runtime, dir.path(), options.agents)?;
    let mut seen: [Seen; 5] = Default::default();
    for round in 1..=options.rounds {
        eprint!("\rround {round} of {}", options.rounds);
        subjects.round(runtime.handle(), options.agents, &mut seen)?;
    }
    eprintln!();
    let fleet = &subjects.squall;
    let grown_kib = fleet.cluster.rss_kib()?.saturating_sub(fleet.empty_kib);
    Ok(report(options, &seen, grown_kib as f64 / options.agents as f64))
}

impl Subjects {
    fn start(runtime: &Runtime, dir: &Path, n: usize) -> Outcome<Subjects> {
        let handle = runtime.handle();
        eprintln!("starting {n} clients of each of five servers");
        let udp = Udp::start(handle, n)?;
        let authority = ClusterAuthority::create("bench")?;
        let (server, client) = (dir.join("server"), dir.join("client"));
        authority.issue(Role::Coordinator, "c1", 1)?.save(&server)?;
        authority.issue(Role::Agent, "h1", 1)?.save(&client)?;
        let tls = tls::start(handle, n, &server, &client, "c1.bench")?;
        let wire = wire::start(handle, n, &authority, &server, "c1")?;
        let squall = Fleet::start(handle, &dir.join("squall"), 1, n)?;
        let mut alone = Fleet::start(handle, &dir.join("alone"), 3, n)?;
        alone.cluster.lose_quorum();
        // Until it has noticed.
        std::thread::sleep(Duration::from_secs(2));
        Ok(Subjects { udp, tls, wire, squall, alone })
    }

    /// Each subject once.
    fn round(&mut self, handle: &Handle, n: usize, seen: &mut [Seen; 5]) -> Outcome<()> {
        let [udp, tls, wire, squall, alone] = seen;
        let round = Instant::now();
        wait(round, TURNS.udp);
        let began = Instant::now();
        udp.lost += self.udp.round()?;
        udp.note(began.elapsed(), n);
        wait(round, TURNS.tls);
        let began = Instant::now();
        self.tls.round()?;
        tls.note(began.elapsed(), n);
        wait(round, TURNS.wire);
        let began = Instant::now();
        self.wire.round()?;
        wire.note(began.elapsed(), n);
        self.squall.round(handle, n, round, TURNS.squall, squall)?;
        self.alone.round(handle, n, round, TURNS.alone, alone)
    }
}

/// Waits until so many milliseconds of `round` have passed.
fn wait(round: Instant, ms: u64) {
    std::thread::sleep(Duration::from_millis(ms).saturating_sub(round.elapsed()));
}

impl Seen {
    fn note(&mut self, took: Duration, acks: usize) {
        self.took.push(took);
        self.acks += acks;
    }
}

impl Fleet {
    fn start(handle: &Handle, dir: &Path, coordinators: usize, n: usize) -> Outcome<Fleet> {
        let cluster = Cluster::start(handle, &program()?, dir, coordinators)?;
        let empty_kib = cluster.rss_kib()?;
        let agents = Agents::start(handle, &cluster, n)?;
        handle.block_on(cluster.operator.until_registered(n))?;
        agents.set_quiet(true);
        Ok(Fleet { cluster, agents, empty_kib })
    }

    fn round(
        &self,
        handle: &Handle,
        n: usize,
        round: Instant,
        turn: u64,
        seen: &mut Seen,
    ) -> Outcome<()> {
        wait(round, turn - WAKE_MS);
        self.agents.set_quiet(false);
        wait(round, turn);
        let stopped = handle.block_on(self.cluster.operator.stop_all(n))?;
        self.agents.set_quiet(true);
        let missing = || Failure::from(format!("{} of {n} hosts answered", stopped.receipts));
        seen.note(stopped.took.ok_or_else(missing)?, stopped.receipts);
        seen.committed += usize::from(stopped.committed);
        Ok(())
    }
}

/// Agents that the goals are about.
const GOAL_AGENTS: usize = 1_000;

fn report(options: Options, seen: &[Seen; 5], rss_kib_per_agent: f64) -> Report {
    let medians = seen.each_ref().map(|s| median_ms(&s.took));
    let [udp, tls, _, squall, alone] = medians;
    let names = ["udp echo", "tokio-rustls", "wire alone", "squall", "squall, no quorum"];
    let rows = names.into_iter().zip(seen).enumerate().map(|(n, (subject, seen))| Row {
        subject,
        median_ms: rounded(medians[n]),
        ratio: rounded(medians[n] / udp),
        fastest_ms: rounded(ms(seen.took.iter().min())),
        slowest_ms: rounded(ms(seen.took.iter().max())),
        acks: seen.acks,
        lost: (n == 0).then_some(seen.lost),
        committed: (n >= 3).then_some(seen.committed),
    });
    let goals = [
        Goal::new("squall, times UDP", 5.0, squall / udp),
        Goal::new("squall, times TLS", 1.5, squall / tls),
        Goal::new("no quorum, times with", 1.2, alone / squall),
        Goal::new("KiB of a coordinator an agent", 45.0, rss_kib_per_agent),
    ];
    Report {
        name: "stop",
        rounds: options.rounds,
        agents: options.agents,
        results: rows.collect(),
        rss_kib_per_agent: rounded(rss_kib_per_agent),
        // They are about a thousand agents: fewer say nothing of them.
        goals: if options.agents < GOAL_AGENTS { Vec::new() } else { goals.into() },
    }
}

fn ms(duration: Option<&Duration>) -> f64 {
    duration.map_or(f64::NAN, |d| d.as_secs_f64() * 1_000.0)
}

fn median_ms(took: &[Duration]) -> f64 {
    let mut took = took.to_vec();
    took.sort_unstable();
    ms(took.get(took.len() / 2))
}
