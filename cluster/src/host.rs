//! A virtual host: pid 1 in all of its namespaces makes it at home, then becomes a reaper.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::process::setsid;
use rustix::system::sethostname;
use squall_faults::sys::links::Links;
use squall_faults::sys::namespaces::Spaces;

use crate::build::{Site, Start};
use crate::init::HOST;
use crate::mounts::{self, MARKER, PROGRAM, SEARCH};
use crate::plan::{Host, PREFIX_V4, PREFIX_V6, Plan};
use crate::record::HOSTS_DIR;
use crate::switch::{
    NOTE, become_init, has_ipv6, read_byte, say, tried, without_duplicate_detection,
};

/// What every host has of its own, and whoever enters it goes into.
pub(crate) const SPACES: Spaces = Spaces::NETWORK
    .union(Spaces::MOUNT)
    .union(Spaces::PROCESS_ID)
    .union(Spaces::HOST_NAME_AND_NIS_DOMAIN_NAME)
    .union(Spaces::INTER_PROCESS_COMMUNICATION);
/// The device of every host.
pub(crate) const DEVICE: &str = "eth0";
/// Variables of whoever makes a lab that its programs get too.
const VARIABLES: [&str; 3] = ["RUST_LOG", "RUST_BACKTRACE", "LANG"];

/// Runs in the forked process; returns where the host could not be made.
pub(crate) fn run(site: &Site<'_>, host: &Host, gate: &OwnedFd, words: &OwnedFd) -> i32 {
    let Err(why) = make(site, host, gate, words);
    say(words, &format!("{}: {why}", host.name));
    1
}

fn make(
    site: &Site<'_>,
    host: &Host,
    gate: &OwnedFd,
    words: &OwnedFd,
) -> Result<Infallible, String> {
    tried(setsid(), "a session of its own")?;
    tried(sethostname(host.name.as_str().as_bytes()), "the host's name")?;
    // Where the mounts come to hide the machine's files, it is too late to open this one.
    let null = tried(File::open("/dev/null"), "/dev/null")?;
    mounts::make(site, &mut |note| say(words, &format!("{NOTE}{note}")))?;
    tried(without_duplicate_detection(), "IPv6 settings")?;
    tried(read_byte(gate), "the word of the switch")?;
    network(&site.plan, host)?;
    files(site, host)?;
    for start in (site.furnish)(host)? {
        spawn(site, host, &start)?;
    }
    become_init(PROGRAM.as_ref(), HOST, null.as_fd(), site)
}

/// In a larger lab hosts are told who their neighbours are. In smaller ones they ask, as hosts do; but all
/// ask all, and the kernel's room for answers is one for all network namespaces: 50 hosts would need more
/// than twice of it, and some would hear nobody for minutes.
const KNOWN_ABOVE: usize = 16;

fn network(plan: &Plan, host: &Host) -> Result<(), String> {
    let mut links = tried(Links::open(), "netlink")?;
    let lo = tried(links.index("lo"), "lo")?;
    tried(links.up(lo), "lo")?;
    let device = tried(links.index(DEVICE), DEVICE)?;
    if let Some(v4) = host.v4 {
        tried(links.add_address(device, v4.into(), PREFIX_V4), DEVICE)?;
    }
    let v6: Option<Ipv6Addr> = (has_ipv6() || host.v4.is_none()).then_some(host.v6);
    if let Some(v6) = v6 {
        tried(links.add_address(device, IpAddr::V6(v6), PREFIX_V6), DEVICE)?;
    }
    tried(links.up(device), DEVICE)?;
    if plan.hosts.len() > KNOWN_ABOVE {
        let mut neighbours = Vec::new();
        for other in plan.hosts.iter().filter(|other| other.name != host.name) {
            let v6 = v6.and(Some(other.v6));
            let all = other.v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6));
            neighbours.extend(all.map(|address| (address, other.mac())));
        }
        tried(links.add_neighbours(device, &neighbours), "neighbours")?;
    }
    Ok(())
}

/// What every host's `/etc` says of the lab.
fn files(site: &Site<'_>, host: &Host) -> Result<(), String> {
    for (path, text) in [
        ("/etc/hostname", format!("{}\n", host.name)),
        ("/etc/hosts", site.plan.hosts_file()),
        (MARKER, format!("{}\n{}\n", site.dir.display(), host.name)),
    ] {
        // A new file, not new bytes in one that may be a link to the machine's.
        let aside = format!("{path}.new");
        tried(fs::write(&aside, text).and_then(|()| fs::rename(&aside, path)), path)?;
    }
    Ok(())
}

/// Starts a program of ours as a child of this init.
fn spawn(site: &Site<'_>, host: &Host, start: &Start) -> Result<(), String> {
    let path = site.dir.join(HOSTS_DIR).join(host.name.as_str()).join(format!("{}.log", start.log));
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = tried(log, path.display())?;
    let errors = tried(log.try_clone(), path.display())?;
    let mut command = Command::new(PROGRAM);
    command.args(&start.args).env_clear();
    command.env(
        "PATH",
        format!("{SEARCH}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    );
    command.env("HOME", "/root");
    command.envs(VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.stdin(Stdio::null()).stdout(log).stderr(errors).current_dir("/");
    tried(command.spawn(), PROGRAM).map(drop)
}
