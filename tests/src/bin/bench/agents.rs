//! Simulated agents: a real certificate, socket, connection and control stream each, and the words of
//! a host that holds nothing. They have no disk: their latch counts as durable at once, so that what
//! is measured is the way there and back, not the fsync of a thousand hosts on one disk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::RngExt;
use squall_core::fence::Fence;
use squall_core::ids::{AgentRun, StopId};
use squall_core::message::{FromAgent, Hello, Latched, Receipt, Report, ToAgent};
use squall_core::registry::HostRecord;
use squall_core::time::Time;
use squall_wire::{Connection, Endpoint, Role, Sender, WireError, codec};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::cluster::{Cluster, endpoint};
use crate::{AT_ONCE, DAYS, Outcome};

/// The gap between two reports is drawn from this, in milliseconds: each second, jittered.
const REPORT_MS: std::ops::Range<u64> = 900..1_100;

/// All agents of one cluster.
pub struct Agents {
    /// While it is not their turn they send no reports, so that one subject does not load the machine
    /// while another one is measured. Connections are kept alive all the same.
    quiet: Arc<AtomicBool>,
}

impl Agents {
    /// Connects `n` agents to the leader of `cluster`.
    pub fn start(handle: &Handle, cluster: &Cluster, n: usize) -> Outcome<Agents> {
        let quiet = Arc::new(AtomicBool::new(false));
        handle.block_on(connect_all(cluster, n, &quiet))?;
        Ok(Agents { quiet })
    }

    /// Whether they keep silent.
    pub fn set_quiet(&self, quiet: bool) {
        self.quiet.store(quiet, Ordering::Relaxed);
    }
}

async fn connect_all(cluster: &Cluster, n: usize, quiet: &Arc<AtomicBool>) -> Outcome<()> {
    let (name, address) = &cluster.leader;
    let mut connecting = JoinSet::new();
    for number in 1..=n {
        if connecting.len() == AT_ONCE
            && let Some(connected) = connecting.join_next().await
        {
            connected??;
        }
        let host = format!("h{number:04}");
        let endpoint = endpoint(cluster.authority.issue(Role::Agent, &host, DAYS)?)?;
        let (address, name, quiet) = (*address, name.clone(), quiet.clone());
        connecting.spawn(async move {
            let (agent, sender, channel) = Agent::connect(endpoint, &host, address, &name).await?;
            tokio::spawn(agent.run(sender, channel, quiet));
            Ok::<_, WireError>(())
        });
    }
    while let Some(connected) = connecting.join_next().await {
        connected??;
    }
    Ok(())
}

struct Agent {
    run: AgentRun,
    fence: Fence,
    synced: bool,
    began: Instant,
    _endpoint: Endpoint,
    _connection: Connection,
}

fn record(host: &str) -> HostRecord {
    HostRecord {
        name: host.parse().expect("a letter and digits"),
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        also: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        gossip_port: 1,
        relay_port: 1,
        coordinator: false,
        drained: false,
    }
}

impl Agent {
    async fn connect(
        endpoint: Endpoint,
        host: &str,
        address: SocketAddr,
        coordinator: &str,
    ) -> Result<(Agent, Sender, squall_wire::Receiver), WireError> {
        let connection = endpoint.connect(address, Role::Coordinator, coordinator).await?;
        let (mut sender, receiver) = connection.open().await?.split();
        let agent = Agent {
            run: AgentRun(Uuid::from_u128(rand::random())),
            fence: Fence::default(),
            synced: false,
            began: Instant::now(),
            _endpoint: endpoint,
            _connection: connection,
        };
        let hello = Hello {
            run: agent.run,
            host: record(host),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: Vec::new(),
            policy: Some("{}".into()),
        };
        sender.send(&FromAgent::Hello(hello)).await?;
        sender.send(&FromAgent::Report(agent.report())).await?;
        Ok((agent, sender, receiver))
    }

    /// Speaks and listens until the connection is over.
    async fn run(
        mut self,
        mut sender: Sender,
        mut receiver: squall_wire::Receiver,
        quiet: Arc<AtomicBool>,
    ) -> Result<(), WireError> {
        let draw = || Duration::from_millis(rand::rng().random_range(REPORT_MS));
        let timer = tokio::time::sleep(draw());
        tokio::pin!(timer);
        loop {
            tokio::select! {
                words = receiver.recv::<ToAgent>() => match words? {
                    Some(words) => self.heard(words, &mut sender)?,
                    None => return Ok(()),
                },
                () = &mut timer => {
                    timer.as_mut().reset(Instant::now() + draw());
                    if !quiet.load(Ordering::Relaxed) {
                        say(&mut sender, &FromAgent::Report(self.report()))?;
                    }
                }
            }
        }
    }

    fn report(&self) -> Report {
        Report {
            run: self.run,
            t: Time(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)),
            digest: self.fence.digest(),
            newest_resume: self.fence.newest_resume(),
            synced: self.synced,
            armed: self.fence.armed(),
            faults: Vec::new(),
            probes: Vec::new(),
            row: None,
        }
    }

    fn heard(&mut self, words: ToAgent, sender: &mut Sender) -> Result<(), WireError> {
        match words {
            ToAgent::Stop { stop, .. } => {
                if !self.stop(stop, sender)? {
                    self.answer(stop, sender)?;
                }
            }
            ToAgent::Stops(stops) => {
                for stop in stops {
                    self.stop(stop, sender)?;
                }
                say(sender, &FromAgent::Stops(self.fence.outstanding().collect()))?;
            }
            ToAgent::Sync(sync) => {
                self.synced = true;
                for resume in sync.resumes {
                    self.fence.learn(resume);
                }
                for stop in sync.stops {
                    self.stop(stop, sender)?;
                }
            }
            ToAgent::Orders(_) | ToAgent::Peers(_) => {}
        }
        Ok(())
    }

    /// Like a real agent, it says at once that something has changed, and then what it did. False
    /// where the stop was known.
    fn stop(&mut self, stop: StopId, sender: &mut Sender) -> Result<bool, WireError> {
        if !self.fence.hear(stop) {
            return Ok(false);
        }
        say(sender, &FromAgent::Report(self.report()))?;
        self.answer(stop, sender)?;
        Ok(true)
    }

    fn answer(&self, stop: StopId, sender: &mut Sender) -> Result<(), WireError> {
        let receipt = Receipt {
            stop,
            run: self.run,
            lifted: 0,
            residue: Vec::new(),
            latched: Latched::Durable,
            took_ms: 0,
        };
        say(sender, &FromAgent::Receipt(receipt))
    }
}

/// Never waits: what does not go out at once goes out with the next word.
fn say(sender: &mut Sender, words: &FromAgent) -> Result<(), WireError> {
    sender.queue(&codec::encode(words)?)
}
