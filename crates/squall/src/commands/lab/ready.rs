//! Waiting for a lab's fleet.

use std::cell::RefCell;
use std::fs;
use std::time::{Duration, Instant};

use squall_cluster::build::Making;
use squall_cluster::record::HOSTS_DIR;
use squall_core::ids::HostName;
use squall_core::message::{RaftRole, Request, Response, Status};

use super::failure;
use crate::client::Client;
use crate::client::cluster_dir::ClusterDir;
use crate::commands::with_client;
use crate::exit::{Exit, Failure};
use crate::output::status::host_state;

/// How long the whole fleet has to come up.
const READY: Duration = Duration::from_secs(120);
/// How long the first question for it may take, and by how much each further one may take longer:
/// coordinators that have just been started do not answer, busy ones answer late.
const FIRST_QUESTION: Duration = Duration::from_millis(300);
const LONGER: f64 = 1.5;
/// Between two questions.
const AGAIN: Duration = Duration::from_millis(50);
/// Lines that a failure shows: of each log, and in all.
const TAIL: usize = 3;
const TAILS: usize = 30;

/// Waits until a leader stands and every agent is heard by every coordinator.
pub fn wait(making: &Making, cluster: ClusterDir, agents: usize) -> Result<(), Failure> {
    let began = Instant::now();
    let idle = RefCell::new(Vec::new());
    let outcome = with_client(cluster, async |client| {
        let mut patience = FIRST_QUESTION;
        let mut last = String::from("no coordinator answered");
        while began.elapsed() < READY {
            match tokio::time::timeout(patience, missing(client, agents)).await {
                Ok(None) => return Ok(Exit::Held),
                Ok(Some(what)) => last = what,
                Err(_) => patience = patience.mul_f64(LONGER).min(crate::client::ANSWER * 2),
            }
            let ended = making.idle().map_err(|e| failure(&e))?;
            if !ended.is_empty() {
                let what = format!("what was started ended on {}", words(&ended));
                *idle.borrow_mut() = ended;
                return Err(Failure::local(what, ""));
            }
            tokio::time::sleep(AGAIN).await;
        }
        let what = format!("the fleet did not come up in {} s: {last}", READY.as_secs());
        Err(Failure::local(what, ""))
    });
    outcome.map(drop).map_err(|failure| {
        let what = format!("{}{}", failure.what, tails(making, &idle.borrow()));
        Failure::local(what, "mend that; logs stay until the next lab up or down of this name")
            .with_hosts("the lab and all of its hosts are gone")
    })
}

fn words(hosts: &[HostName]) -> String {
    hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What the fleet still lacks, as the first coordinator sees it that misses something: whoever asks next
/// may be answered by any of them.
async fn missing(client: &Client, agents: usize) -> Option<String> {
    let said = client.read_each(&Request::Status).await;
    said.into_iter().find_map(|(member, said)| {
        let lacks = match said {
            Ok(Response::Status(status)) => lacks(&status, agents)?,
            Ok(_) => "it answers something else".to_owned(),
            Err(error) => error.to_string(),
        };
        Some(format!("{}: {lacks}", member.name))
    })
}

fn lacks(status: &Status, agents: usize) -> Option<String> {
    if !status.confirmed || status.leader.is_none() {
        return Some("no leader stands".to_owned());
    }
    if status.coordinators.iter().any(|c| c.role == RaftRole::Learner) {
        return Some("a coordinator does not vote yet".to_owned());
    }
    let late = status.hosts.iter().map(|h| (h, host_state(h))).filter(|(_, s)| *s != "armed");
    let mut late: Vec<String> = late.map(|(h, s)| format!("{} is {s}", h.host.name)).collect();
    if status.hosts.len() < agents {
        late.push(format!("{} of {agents} hosts have registered", status.hosts.len()));
    }
    (!late.is_empty()).then(|| late.join(", "))
}

/// The last lines of the logs of a lab that did not come up: of these hosts, or of all where none is
/// named.
fn tails(making: &Making, of: &[HostName]) -> String {
    let mut lines = Vec::new();
    let hosts = making.record().hosts.iter().map(|h| &h.name);
    for host in hosts.filter(|name| of.is_empty() || of.contains(name)) {
        let logs = making.dir().join(HOSTS_DIR).join(host.as_str());
        for log in fs::read_dir(&logs).into_iter().flatten().flatten() {
            let text = fs::read_to_string(log.path()).unwrap_or_default();
            let all: Vec<&str> = text.lines().collect();
            let last = all.iter().skip(all.len().saturating_sub(TAIL));
            lines.extend(last.map(|line| format!("\n  {host}: {line}")));
        }
    }
    lines.truncate(TAILS);
    lines.concat()
}
