//! One sample: a GET, a connection, or a program's exit.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process_group};
use squall_core::policy::Policy;
use squall_core::probe::ProbeKind;
use squall_faults::sys::signals::die_with_parent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::run::Means;

/// Bytes of an answer's head, at most.
const MAX_HEAD: usize = 16 * 1024;
/// Interim answers (1xx) before the one that counts, at most.
const MAX_INTERIM: usize = 8;
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
            let found = get(url, &means.lookups).await?;
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
fn host_and_port(authority: &str, default_port: Option<u16>) -> Result<(&str, u16), String> {
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

async fn connect(host: &str, port: u16, lookups: &Arc<Semaphore>) -> Result<TcpStream, String> {
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

/// The status of a GET. HTTP/1.1 with `Connection: close`, by hand: one request a connection and
/// the head of its answer need no client library. The answer counts as complete with its head:
/// whether and how the body ends is not looked at. Redirects are answers like any other.
async fn get(url: &str, lookups: &Arc<Semaphore>) -> Result<u16, String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("`{url}` is not http://"))?;
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let slash = if path.starts_with('/') { "" } else { "/" };
    let (host, port) = host_and_port(authority, Some(80))?;
    let mut stream = connect(host, port, lookups).await?;
    let request = format!(
        "GET {slash}{path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: squall-probe\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut head = Vec::new();
    for _ in 0..MAX_INTERIM {
        let end = read_head(&mut stream, &mut head).await?;
        let status = status_of(&head[..end])?;
        if status >= 200 {
            return Ok(status);
        }
        head.drain(..end);
    }
    Err("only interim answers".to_owned())
}

/// Reads until an empty line; where it ends in `head`.
async fn read_head(stream: &mut TcpStream, head: &mut Vec<u8>) -> Result<usize, String> {
    loop {
        if let Some(at) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            return Ok(at + 4);
        }
        if head.len() >= MAX_HEAD {
            return Err(format!("the answer's head is over {MAX_HEAD} bytes"));
        }
        let mut more = [0; 1024];
        match stream.read(&mut more).await {
            Ok(0) if head.is_empty() => return Err("closed without an answer".to_owned()),
            Ok(0) => return Err("closed in the middle of an answer".to_owned()),
            Ok(n) => head.extend_from_slice(&more[..n]),
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn status_of(head: &[u8]) -> Result<u16, String> {
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().filter(|s| s.len() == 3).and_then(|s| s.parse().ok());
    match status {
        Some(status) if version.starts_with("HTTP/1.") => Ok(status),
        _ => Err(format!("not HTTP: `{}`", line.chars().take(40).collect::<String>())),
    }
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

    #[test]
    fn only_a_status_line_has_a_status() {
        assert_eq!(status_of(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n"), Ok(200));
        assert_eq!(status_of(b"HTTP/1.1 503\r\n\r\n"), Ok(503));
        for bad in [&b"HTTP/2 200 OK\r\n"[..], b"SSH-2.0 x\r\n", b"\r\n", b"HTTP/1.1 20 x\r\n"] {
            assert!(status_of(bad).is_err());
        }
    }
}
