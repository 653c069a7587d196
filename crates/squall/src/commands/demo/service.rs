//! The service that is hurt: etcd on three hosts, where it is installed.

use std::time::{Duration, Instant};

use super::stage::{Running, Stage};
use crate::exit::Failure;

/// The hosts it runs on: the group `etcd`.
pub const MEMBERS: [&str; 3] = ["h1", "h2", "h3"];
/// Where its clients ask.
const CLIENT: u16 = 2379;
/// How long it may take to have a leader.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether etcd can be run here.
pub fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join("etcd").is_file())
}

/// A running etcd.
pub struct Etcd {
    _members: Vec<Running>,
}

impl Etcd {
    /// Starts a member on each host and waits until one leads.
    ///
    /// # Errors
    /// A member could not be started, or none leads in time.
    pub fn start(stage: &Stage) -> Result<Etcd, Failure> {
        let peers: Vec<String> = MEMBERS.iter().map(|h| format!("{h}=http://{h}:2380")).collect();
        let peers = peers.join(",");
        let mut members = Vec::new();
        for host in MEMBERS {
            let client = format!("http://{host}:{CLIENT}");
            let peer = format!("http://{host}:2380");
            members.push(stage.start(
                host,
                &[
                    "etcd",
                    "--name",
                    host,
                    "--data-dir",
                    "/run/etcd",
                    "--listen-client-urls",
                    "http://0.0.0.0:2379",
                    "--advertise-client-urls",
                    &client,
                    "--listen-peer-urls",
                    "http://0.0.0.0:2380",
                    "--initial-advertise-peer-urls",
                    &peer,
                    "--initial-cluster",
                    &peers,
                    "--initial-cluster-state",
                    "new",
                    // Without it the member that comes back takes the leader down once more.
                    "--pre-vote",
                ],
            )?);
        }
        let etcd = Etcd { _members: members };
        etcd.wait_for_leader(stage, &[])?;
        Ok(etcd)
    }

    /// The member that says it leads, among those that are not left out.
    ///
    /// # Errors
    /// None says so in time.
    pub fn wait_for_leader(
        &self,
        stage: &Stage,
        without: &[&str],
    ) -> Result<&'static str, Failure> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            for host in MEMBERS.iter().filter(|h| !without.contains(h)) {
                if leads(stage, host) {
                    return Ok(host);
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let what = format!("no etcd leads within {} s", PATIENCE.as_secs());
        Err(Failure::local(what, "is the machine very busy? try again"))
    }
}

/// Whether the member on a host says that it leads and knows of no fault.
pub fn leads(stage: &Stage, host: &str) -> bool {
    let url = format!("http://{host}:{CLIENT}/metrics");
    let program = super::stage::program();
    let said = stage.on_host(host, &[&program, "fetch", &url]);
    said.is_ok_and(|s| s.text.lines().any(|l| l == "etcd_server_is_leader 1"))
}
