//! Waiting for a lab's fleet.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use squall_cluster::build::Making;
use squall_cluster::record::HOSTS_DIR;

use crate::client::Client;
use crate::client::cluster_dir::ClusterDir;
use crate::commands::operate::ask_status;
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
/// Lines of a log that a failure shows.
const TAIL: usize = 3;

/// Waits until a leader stands and every agent takes orders.
pub fn wait(making: &Making, cluster: ClusterDir, agents: usize) -> Result<(), Failure> {
    let began = Instant::now();
    let last = RefCell::new(String::from("no coordinator answered yet"));
    let outcome = with_client(cluster, async |client| {
        let mut patience = FIRST_QUESTION;
        while began.elapsed() < READY {
            match tokio::time::timeout(patience, missing(client, agents)).await {
                Ok(Ok(None)) => return Ok(Exit::Held),
                Ok(Ok(Some(what))) => *last.borrow_mut() = what,
                Ok(Err(failure)) => *last.borrow_mut() = failure.what,
                Err(_) => patience = patience.mul_f64(LONGER).min(crate::client::ANSWER * 2),
            }
            tokio::time::sleep(AGAIN).await;
        }
        let what = format!("the fleet did not come up in {} s: {}", READY.as_secs(), last.borrow());
        Err(Failure::local(what, ""))
    });
    outcome.map(drop).map_err(|failure| {
        let (what, next) = (failure.what, "mend that; logs stay until the next lab up or down");
        Failure::local(format!("{what}{}", tails(making)), next)
            .with_hosts("the lab and all of its hosts are gone")
    })
}

/// What the fleet still lacks.
async fn missing(client: &Client, agents: usize) -> Result<Option<String>, Failure> {
    let status = ask_status(client).await?;
    if !status.confirmed || status.leader.is_none() {
        return Ok(Some("no leader stands".to_owned()));
    }
    let late = status.hosts.iter().map(|h| (h, host_state(h))).filter(|(_, s)| *s != "armed");
    let mut late: Vec<String> = late.map(|(h, s)| format!("{} is {s}", h.host.name)).collect();
    if status.hosts.len() < agents {
        late.push(format!("{} of {agents} hosts have registered", status.hosts.len()));
    }
    Ok((!late.is_empty()).then(|| late.join(", ")))
}

/// The last lines of the logs of a lab that did not come up.
fn tails(making: &Making) -> String {
    let mut text = String::new();
    for host in &making.record().hosts {
        let logs = making.dir().join(HOSTS_DIR).join(host.name.as_str());
        for log in fs::read_dir(&logs).into_iter().flatten().flatten() {
            let Ok(log) = fs::read_to_string(log.path()) else { continue };
            let lines: Vec<&str> = log.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(TAIL)) {
                let _ = write!(text, "\n  {}: {line}", host.name);
            }
        }
    }
    text
}
