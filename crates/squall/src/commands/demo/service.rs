//! The service that is hurt: etcd on three hosts where it is installed, else Squall's own consensus, as a
//! cluster that is no part of the one that hurts it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::stage::{Running, Stage};
use crate::exit::Failure;
use crate::files;

/// The hosts it runs on.
pub const MEMBERS: [&str; 3] = ["h1", "h2", "h3"];
/// Where etcd's clients ask.
const CLIENT: u16 = 2379;
/// How long it may take to have a leader.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// etcd.
    Etcd,
    /// Three coordinators of another cluster.
    Squall,
}

impl Kind {
    /// What can be run here.
    pub fn here() -> Kind {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let etcd = std::env::split_paths(&path).any(|dir| dir.join("etcd").is_file());
        if etcd { Kind::Etcd } else { Kind::Squall }
    }

    /// Its name, which is also the group of its hosts.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Etcd => "etcd",
            Kind::Squall => "squall",
        }
    }
}

/// It runs.
pub struct Service {
    kind: Kind,
    /// Of the other Squall: its cluster's directory.
    dir: PathBuf,
    _members: Vec<Running>,
}

impl Service {
    /// Starts a member on each host and waits until one leads.
    ///
    /// # Errors
    /// A member could not be started, or none leads in time.
    pub fn start(stage: &Stage, kind: Kind) -> Result<Service, Failure> {
        let dir = stage.dir()?.join("service");
        let members = match kind {
            Kind::Etcd => MEMBERS.iter().map(|host| etcd(stage, host)).collect(),
            Kind::Squall => squall(stage, &dir),
        };
        let service = Service { kind, dir, _members: members? };
        service.wait_for_leader(stage, &[])?;
        Ok(service)
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
                if self.leads(stage, host) {
                    return Ok(host);
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let what = format!("no {} leads within {} s", self.kind.name(), PATIENCE.as_secs());
        Err(Failure::local(what, "is the machine very busy? try again"))
    }

    /// Whether the member on a host says that it leads.
    fn leads(&self, stage: &Stage, host: &str) -> bool {
        let program = super::stage::program();
        match self.kind {
            Kind::Etcd => {
                let url = format!("http://{host}:{CLIENT}/metrics");
                let said = stage.on_host(host, &[&program, "fetch", &url]);
                said.is_ok_and(|s| s.text.lines().any(|l| l == "etcd_server_is_leader 1"))
            }
            Kind::Squall => {
                let dir = self.dir.display().to_string();
                let ask = [&program, "status", "--cluster", &dir, "-o", "json"];
                let Ok(said) = stage.on_host(host, &ask) else { return false };
                let status: serde_json::Value =
                    serde_json::from_str(&said.text).unwrap_or_default();
                let cluster = &status["cluster"];
                cluster["confirmed"] == true && cluster["leader"] == host
            }
        }
    }
}

fn etcd(stage: &Stage, host: &str) -> Result<Running, Failure> {
    let peers: Vec<String> = MEMBERS.iter().map(|h| format!("{h}=http://{h}:2380")).collect();
    let peers = peers.join(",");
    let client = format!("http://{host}:{CLIENT}");
    let peer = format!("http://{host}:2380");
    stage.start(
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
    )
}

fn squall(stage: &Stage, dir: &Path) -> Result<Vec<Running>, Failure> {
    let addresses = stage.addresses(&MEMBERS)?;
    let port = squall_coordinator::DEFAULT_PORT;
    let members = MEMBERS.iter().zip(addresses);
    let members: Vec<String> =
        members.map(|(host, ip)| format!("{host}={}", SocketAddr::new(ip, port))).collect();
    let path = dir.display().to_string();
    let mut init = vec!["init", "--cluster", &path, "--name", "service"];
    init.extend(members.iter().flat_map(|member| ["--coordinator", member]));
    stage.run(&init)?;
    MEMBERS
        .iter()
        .map(|host| coordinator(stage, &dir.join("coordinators").join(host), host))
        .collect()
}

/// One that leaves its words to whatever hurts its host: it is not marked.
fn coordinator(stage: &Stage, home: &Path, host: &str) -> Result<Running, Failure> {
    let theirs = files::read(&home.join("coordinator.toml"))?;
    let places = ["state-dir", "identity-dir"];
    let kept = theirs.lines().filter(|l| !places.iter().any(|key| l.starts_with(key)));
    let identity = home.join("identity").display().to_string();
    let ours = format!("mark = false\nstate-dir = \"/run/service\"\nidentity-dir = \"{identity}\"");
    let lines: Vec<&str> = ours.lines().chain(kept).collect();
    let config = home.join("service.toml");
    files::write(&config, &lines.join("\n"))?;
    let program = super::stage::program();
    stage.start(host, &[&program, "coordinator", "--config", &config.display().to_string()])
}
