//! One sample: a GET, a connection, or a program's exit.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process_group};
use squall_core::policy::Policy;
use squall_core::probe::ProbeKind;
use squall_faults::sys::signals::die_with_parent;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::http;
use super::run::Means;

/// Addresses of one name that are tried, at most.
const MAX_ADDRESSES: usize = 4;
/// Names that are looked up at once, at most. A look-up cannot be called off and occupies a thread
/// of the pool in which faults are proven gone: a dead name server must not fill it.
pub(super) const MAX_LOOKUPS: usize = 8;

/// Takes one sample; the caller limits its time by dropping it.
///
/// # Errors
/// What was bad, in words.
pub(super) async fn take(kind: &ProbeKind, means: &Means) -> Result<(), String> {
    match kind {
        ProbeKind::Http { url, status } => {
            let found = http::get(url, &means.lookups).await?;
            if found == *status { Ok(()) } else { Err(format!("status {found}, not {status}")) }
        }
        ProbeKind::Tcp { address } => {
            let (host, port) = host_and_port(address, None)?;
            connect(host, port, &means.lookups).await.map(drop)
        }
        ProbeKind::Exec { argv } => exec(argv, &means.policy).await,
    }
}

/// `host:port` or `[v6]:port`, apart.
pub(super) fn host_and_port(
    authority: &str,
    default_port: Option<u16>,
) -> Result<(&str, u16), String> {
    let (host, rest) = match authority.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((host, rest)) => (host, rest),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok(),
        None if rest.is_empty() => default_port,
        None => None,
    };
    port.map(|port| (host, port)).ok_or_else(|| format!("`{authority}` is no host and port"))
}

pub(super) async fn connect(
    host: &str,
    port: u16,
    lookups: &Arc<Semaphore>,
) -> Result<TcpStream, String> {
    let mut last = format!("`{host}` has no address");
    for address in resolve(host, port, lookups).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

async fn resolve(
    host: &str,
    port: u16,
    lookups: &Arc<Semaphore>,
) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let place = lookups.clone().acquire_owned().await.map_err(|e| e.to_string())?;
    let name = host.to_owned();
    let looking = tokio::task::spawn_blocking(move || {
        let found = (name.as_str(), port).to_socket_addrs();
        drop(place);
        found.map(|all| all.take(MAX_ADDRESSES).collect())
    });
    looking.await.map_err(|e| e.to_string())?.map_err(|e| format!("`{host}`: {e}"))
}

/// A process group of ours; killed when dropped before its leader was reaped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // Gone already is as good.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Runs a program that the host's policy names in a process group of its own. What it leaves in the
/// background when it exits by itself is its own affair; when its time is over the whole group dies,
/// and it dies with the agent: the runtime's threads live as long as that.
async fn exec(argv: &[String], policy: &Policy) -> Result<(), String> {
    let (program, args) = argv.split_first().ok_or("no program is named")?;
    policy.check_program(program)?;
    let mut command = Command::new(program);
    die_with_parent(command.as_std_mut());
    let mut child = command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("`{program}`: {e}"))?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut group = Group(pid);
    let ended = child.wait().await;
    group.0 = None;
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "ended without a status".to_owned(),
        }),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_come_apart() {
        assert_eq!(host_and_port("10.0.0.1:8080", None), Ok(("10.0.0.1", 8080)));
        assert_eq!(host_and_port("[fd00::1]:1", None), Ok(("fd00::1", 1)));
        assert_eq!(host_and_port("[fd00::1]", Some(80)), Ok(("fd00::1", 80)));
        assert_eq!(host_and_port("web", Some(80)), Ok(("web", 80)));
        for bad in ["web", "web:", "web:x", "web:70000", "[::1]x"] {
            assert!(host_and_port(bad, None).is_err(), "{bad}");
        }
    }
}
