//! The switch: pid 1 of a lab. Makes bridge and hosts, then becomes a reaper ([`crate::init`]).

use std::convert::Infallible;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, setsid};
use squall_faults::sys::links::{Links, Veth};
use squall_faults::sys::namespaces::{close_rest_on_exec, die_with_process, fork_into};
use squall_faults::sys::pidfd;

use crate::build::{RECORDED, Site};
use crate::host;
use crate::init::{COMM, SWITCH};
use crate::plan::{PREFIX_V4, PREFIX_V6};

/// The bridge's name, in its own network namespace.
const BRIDGE: &str = "br0";
/// What begins a line that is no error.
pub(crate) const NOTE: &str = "note: ";
/// A line longer than this is cut: a pipe takes it whole, between the lines of others.
const MAX_LINE: usize = 1024;

/// Runs in the forked process; returns where it could not become the switch.
pub(crate) fn run(
    site: &Site<'_>,
    parent: &pidfd::Process,
    control: &UnixStream,
    words: &OwnedFd,
) -> i32 {
    let Err(why) = switch(site, parent, control, words);
    say(words, &why);
    1
}

/// Says one line to whoever makes the lab.
pub(crate) fn say(words: &OwnedFd, text: &str) {
    let mut line = text.trim_end().replace('\n', "; ");
    line.truncate(line.floor_char_boundary(MAX_LINE));
    line.push('\n');
    // Nobody is left to tell where it does not listen.
    let _ = write(words, line.as_bytes());
}

/// Puts what was tried before the system's words.
pub(crate) fn tried<T, E: Into<io::Error>>(
    result: Result<T, E>,
    what: impl std::fmt::Display,
) -> Result<T, String> {
    result.map_err(|e| format!("{what}: {}", e.into()))
}

fn switch(
    site: &Site<'_>,
    parent: &pidfd::Process,
    control: &UnixStream,
    words: &OwnedFd,
) -> Result<Infallible, String> {
    if let Some((uid, gid)) = site.rootless {
        map_one_user(uid, gid)?;
    }
    // After the change of credentials, which clears it.
    tried(die_with_process(parent), "to die with its maker")?;
    let mut word = [0];
    let mut maker = control;
    tried(maker.read_exact(&mut word), "its maker's word")?;
    if word != [RECORDED] {
        return Err("its maker said something else".to_owned());
    }
    tried(close_rest_on_exec(), "to mark descriptors")?;
    tried(setsid(), "a session of its own")?;
    tried(std::env::set_current_dir("/"), "/")?;
    tried(without_duplicate_detection(), "IPv6 settings")?;
    let mut links = tried(Links::open(), "netlink")?;
    let bridge = tried(make_bridge(site, &mut links), "the bridge")?;
    let inits = make_hosts(site, words, |hosts| {
        let veths: Vec<Veth> = site
            .plan
            .hosts
            .iter()
            .zip(hosts)
            .map(|(host, pid)| Veth {
                name: host.name.to_string(),
                bridge,
                peer: host::DEVICE.to_owned(),
                peer_mac: host.mac(),
                peer_pid: *pid,
            })
            .collect();
        tried(links.add_veths(&veths), "the hosts' links")
    })?;
    debug_assert_eq!(inits.len(), site.plan.hosts.len());
    become_init(&site.program, SWITCH, control.as_fd(), site)
}

/// Forks the hosts, links them by `connect` and waits until each has become its init.
fn make_hosts(
    site: &Site<'_>,
    words: &OwnedFd,
    connect: impl FnOnce(&[Pid]) -> Result<(), String>,
) -> Result<Vec<Pid>, String> {
    // One byte a host passes this gate once the links are there.
    let (gate, open) = tried(pipe_with(PipeFlags::CLOEXEC), "a pipe")?;
    let (reports, host_words) = tried(pipe_with(PipeFlags::CLOEXEC), "a pipe")?;
    let mut pids = Vec::new();
    for host in &site.plan.hosts {
        let forked = fork_into(host::SPACES, || host::run(site, host, &gate, &host_words));
        pids.push(tried(forked, format!("namespaces of {}", host.name))?);
    }
    drop(host_words);
    connect(&pids)?;
    let passes = vec![b'g'; pids.len()];
    tried(fs::File::from(open).write_all(&passes), "the gate")?;
    // The end comes when the last host has executed its init, or ended.
    let mut failed = false;
    let mut text = String::new();
    tried(fs::File::from(reports).read_to_string(&mut text), "what the hosts say")?;
    for line in text.lines() {
        failed |= !line.starts_with(NOTE);
        say(words, line);
    }
    if failed { Err("the lab was not made".to_owned()) } else { Ok(pids) }
}

/// This user is root in the new namespace, and nobody else is anybody.
fn map_one_user(uid: u32, gid: u32) -> Result<(), String> {
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        tried(
            fs::write(format!("/proc/self/{file}"), text),
            format!("the user namespace ({file})"),
        )?;
    }
    Ok(())
}

fn make_bridge(site: &Site<'_>, links: &mut Links) -> io::Result<u32> {
    let lo = links.index("lo")?;
    links.up(lo)?;
    links.add_bridge(BRIDGE, site.plan.switch_mac())?;
    let bridge = links.index(BRIDGE)?;
    let (v4, v6) = site.plan.switch_addresses();
    if let Some(v4) = v4 {
        links.add_address(bridge, v4.into(), PREFIX_V4)?;
    }
    if has_ipv6() {
        links.add_address(bridge, v6.into(), PREFIX_V6)?;
    }
    Ok(bridge)
}

/// Whether this kernel speaks IPv6.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Devices that come up in this network namespace use their link-local address at once.
pub(crate) fn without_duplicate_detection() -> io::Result<()> {
    match fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Executes our program as an init, with `stdin` for its words.
pub(crate) fn become_init(
    program: &Path,
    mode: &str,
    stdin: BorrowedFd<'_>,
    site: &Site<'_>,
) -> Result<Infallible, String> {
    let stdin = tried(stdin.try_clone_to_owned(), "its standard input")?;
    let log = tried(site.log.try_clone(), "its log")?;
    let error = Command::new(program)
        .arg0(COMM)
        .arg(mode)
        .env_clear()
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(log)
        .exec();
    Err(format!("{}: {error}", program.display()))
}

/// Reads one byte, waiting for it.
pub(crate) fn read_byte(from: &OwnedFd) -> Result<u8, Errno> {
    let mut byte = [0];
    loop {
        match read(from, &mut byte) {
            Ok(1..) => return Ok(byte[0]),
            Ok(0) => return Err(Errno::PIPE),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
