//! The whole protocol over time, one random history a seed: hosts that join, with slow disks and
//! holders, three coordinators of which some may lead, a network that delays, reorders, repeats and
//! loses, people who start, stop, resume and drain, and a storm of crashes, cuts, lost and full disks
//! and clock jumps. Then the storm passes, and all must end well.
//!
//! Raft is played by `raft`: one log, elections at will, and rounds that succeed only where a
//! quorum could answer. What the drivers of agent and coordinator do around their machines is played
//! by `agents` and `coordinators`, as near to the originals as it can be read.

mod agents;
mod coordinators;
mod end;
mod people;
mod raft;
mod weather;

use std::collections::{BTreeMap, BTreeSet};

use squall_core::ids::{CommandId, FaultId, StopId};
use squall_core::registry::Command;
use squall_core::time::Time;
use uuid::Uuid;

use crate::invariants;
use crate::world::{Log, World, host_name, host_record};
use agents::Agent;
use coordinators::Node;
use raft::Raft;
use weather::{Queue, Weather, What};

/// How long the storm lasts, at most, in milliseconds.
const STORM_MS: u64 = 60_000;
/// When the last host joins, at most.
const JOIN_MS: u64 = 20_000;
/// How long it may take after the storm until all is at rest. The longest chain is a preflight that
/// waits, an injection that waits, a fault that lapses, and the phases between.
const CALM_MS: u64 = 120_000;
/// Steps of one run, at most.
const MAX_STEPS: u64 = 200_000;
/// Coordinators.
const NODES: usize = 3;

/// What one run was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Steps taken.
    pub steps: u64,
    /// Virtual milliseconds.
    pub ms: u64,
    /// Faults that were put in place.
    pub faults: u64,
    /// Experiments that were started.
    pub experiments: u64,
    /// Those of them of which the verdict was held.
    pub held: u64,
    /// Stop-alls.
    pub stops: u64,
    /// Stop-alls that some coordinator called done.
    pub done: u64,
    /// Resumes that released something.
    pub resumes: u64,
    /// Agents that died.
    pub crashes: u64,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, one: Summary) {
        self.steps += one.steps;
        self.ms += one.ms;
        self.faults += one.faults;
        self.experiments += one.experiments;
        self.held += one.held;
        self.stops += one.stops;
        self.done += one.done;
        self.resumes += one.resumes;
        self.crashes += one.crashes;
    }
}

/// A run that broke a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which promise, and how.
    pub what: String,
    /// After how many steps.
    pub steps: u64,
    /// The last things that happened, where they were asked for.
    pub story: Vec<String>,
}

/// What is true of one fault, noted from outside.
#[derive(Clone, Debug)]
struct Lived {
    deadline: Time,
    bit: bool,
    gone: Option<Time>,
}

/// One run.
struct Simulation {
    world: World,
    agents: Vec<Agent>,
    nodes: Vec<Node>,
    raft: Raft,
    weather: Weather,
    queue: Queue,
    now: u64,
    names: u128,
    faults: BTreeMap<FaultId, Lived>,
    /// Stops that people asked for.
    asked: BTreeSet<StopId>,
    summary: Summary,
    /// A promise that was broken in the middle of a step.
    broken: Option<String>,
    /// The last things that happened; kept where somebody wants to read them.
    story: Option<Vec<String>>,
}

/// Plays the run of one seed. With `tell` a failure comes with its story.
///
/// # Errors
/// The promise that was broken.
pub fn run(seed: u64, tell: bool) -> Result<Summary, Failure> {
    let mut simulation = Simulation::new(seed, tell);
    match simulation.play() {
        Ok(()) => Ok(Summary { ms: simulation.now, ..simulation.summary }),
        Err(what) => Err(Failure {
            what,
            steps: simulation.summary.steps,
            story: simulation.story.take().unwrap_or_default(),
        }),
    }
}

impl Simulation {
    fn new(seed: u64, tell: bool) -> Simulation {
        let mut weather = Weather::new(seed);
        let hosts = weather.between(3, 5) as usize;
        let mut simulation = Simulation {
            world: World::new(hosts, Log::default()),
            agents: (0..hosts).map(|_| Agent::new(NODES)).collect(),
            nodes: (0..NODES).map(|c| Node::new(hosts + c)).collect(),
            raft: Raft::new(NODES),
            weather,
            queue: Queue::default(),
            now: 0,
            names: 0,
            faults: BTreeMap::new(),
            asked: BTreeSet::new(),
            summary: Summary::default(),
            broken: None,
            story: tell.then(Vec::new),
        };
        let founders = simulation.weather.between(1, hosts as u64) as usize;
        for h in 0..hosts {
            let mut at = 0;
            if h < founders {
                simulation.commit_new(Command::Register(host_record(host_name(h))));
            } else {
                // It joins, and is registered by whoever leads then.
                at = simulation.weather.between(0, JOIN_MS);
            }
            simulation.queue.push(at, What::Start { host: h });
        }
        simulation.queue.push(0, What::Election);
        simulation.queue.push(500, What::Gust);
        simulation.queue.push(700, What::Person);
        let end = simulation.weather.between(10_000, STORM_MS);
        simulation.queue.push(end, What::Calm);
        simulation
    }

    /// A name that nobody had before.
    fn name(&mut self) -> Uuid {
        self.names += 1;
        Uuid::from_u128(0xa000_0000 + self.names)
    }

    fn command(&mut self) -> CommandId {
        CommandId(self.name())
    }

    fn play(&mut self) -> Result<(), String> {
        let mut calm_since = None;
        loop {
            let what = self.next();
            if let Some(story) = &mut self.story {
                let line = format!("{:>7} {what:?}", self.now);
                story.push(line.replace("00000000-0000-0000-0000-0000", ""));
            }
            if matches!(what, What::Calm) {
                calm_since = Some(self.now);
            }
            self.take(what);
            self.summary.steps += 1;
            invariants::check(&self.world).map_err(|violation| violation.to_string())?;
            self.check_broadcasts()?;
            self.broken.take().map_or(Ok(()), Err)?;
            self.world.facts.clear();
            if let Some(since) = calm_since {
                let Err(restless) = self.at_rest() else { return self.check_end() };
                if self.now - since > CALM_MS {
                    return Err(format!("no rest {CALM_MS} ms after the storm: {restless}"));
                }
            }
            if self.summary.steps > MAX_STEPS {
                return Err(format!("more than {MAX_STEPS} steps: something spins"));
            }
        }
    }

    /// Goes on to the next thing that is due.
    fn next(&mut self) -> What {
        let timer = self.next_timer();
        let queued = self.queue.next_at();
        let first = queued.is_none_or(|at| timer.0 < at || timer.0 == at && self.weather.odds(50));
        let at = if first { timer.0 } else { queued.unwrap_or(timer.0) };
        self.pass(at.saturating_sub(self.now));
        if first { timer.1 } else { self.queue.pop().unwrap_or(timer.1) }
    }

    /// The first timer of any machine.
    fn next_timer(&self) -> (u64, What) {
        let mut first = (u64::MAX, What::Election);
        for (h, host) in self.world.hosts.iter().enumerate() {
            if let Some(machine) = &host.machine {
                let at = self.now + host.clock.until(machine.poll_timeout());
                first = earlier(first, (at, What::HostTimer { host: h }));
            }
        }
        for (c, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
            let at = self.now + node.clock.until(node.poll_timeout());
            first = earlier(first, (at, What::NodeTimer { node: c }));
        }
        first
    }

    /// Time passes everywhere.
    fn pass(&mut self, ms: u64) {
        if ms == 0 {
            return;
        }
        self.now += ms;
        for node in &mut self.nodes {
            node.clock = node.clock.plus(ms);
        }
        for h in 0..self.world.hosts.len() {
            let dead = self.world.hosts[h].pass(ms);
            self.holders_died(h, dead);
        }
    }

    fn take(&mut self, what: What) {
        match what {
            What::Start { host } => self.start_agent(host),
            What::HostTimer { host } => self.at_agent(host, |side| side.timeout()),
            What::ToHost { host, link, message } => self.reach_host(host, link, &message),
            What::Relayed { host, stop } => self.at_agent(host, |side| side.hear(stop)),
            What::Disk { host, life } => self.disk(host, life),
            What::Holder { host, life, id, says } => self.holder(host, life, &id, says),
            What::Proof { host, life, id } => self.proof(host, life, &id),
            What::LinkUp { host, node } => self.link_up(host, node),
            What::ToNode { host, link, words } => self.reach_node(host, link, *words),
            What::NodeTimer { node } => self.node_timer(node),
            What::NodeStops { node, stops } => self.node_stops(node, &stops),
            What::StopAll { node, stop } => self.stop_all(node, stop),
            What::Acks { node, term, token } => self.acks(node, term, token),
            What::RoundEnds { node, term, token, ok, read } => {
                self.round_ends(node, term, token, ok, read);
            }
            What::Commit { node, term, led, entry } => {
                self.commit_proposed(node, term, led, *entry);
            }
            What::Learns { node } => self.learns(node),
            What::Leads { node, term } => self.leads(node, term),
            What::StepsDown { node, term } => self.steps_down(node, term),
            What::StartNode { node } => self.start_node(node),
            What::Election => self.election(),
            What::Gust => self.gust(),
            What::Person => self.person(),
            What::Mend { mend } => self.mend(mend),
            What::Calm => self.calm(),
        }
    }
}

fn earlier(a: (u64, What), b: (u64, What)) -> (u64, What) {
    if b.0 < a.0 { b } else { a }
}
