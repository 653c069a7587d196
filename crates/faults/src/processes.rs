//! Which processes a fault picks. Shared by all faults that pick processes.
//!
//! They are looked for in the `/proc` that the holder sees, and ports in the network namespace that
//! it lives in. Never picked: pid 1, kernel threads, Squall itself and whatever it was started from, who
//! asked for the fault, what the host's policy protects, and what listens on a protected port.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use squall_core::fault::{Processes, Protocol};
use squall_core::hold::{Failure, Protect};

use crate::proc::{self, Stat};
use crate::residue::OUR_NAME;

/// The kernel keeps so many bytes of a command's name.
const NAME_LEN: usize = 15;
/// Links into nowhere that are followed, one behind the other.
const MAX_LINKS: u8 = 8;
/// The state of a listening TCP socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Why processes are left out.
const LEFT_OUT: &str = "excluded, Squall's own, or of who asks";

/// A process that was picked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub pid: i32,
    pub comm: String,
    started: u64,
}

impl Target {
    /// Whether the number still means the process that was picked.
    pub(crate) fn is_same(&self) -> bool {
        proc::stat(self.pid)
            .is_ok_and(|s| s.started == self.started && proc::place(self.pid, &s).is_some())
    }

    /// Whether the number means another process by now.
    pub(crate) fn is_another(&self) -> bool {
        proc::stat(self.pid).is_ok_and(|s| s.started != self.started)
    }
}

/// What a look at the processes found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Picked {
    /// By number.
    pub targets: Vec<Target>,
    /// Processes that match and are left alone: Squall's own, whoever asked, or excluded by name.
    pub left_out: usize,
    /// Processes that match and the host's policy protects.
    pub protected: usize,
}

/// Why a process that matches is left alone.
enum Spared {
    LeftOut,
    Protected,
}

impl Picked {
    /// Why nothing was picked.
    pub(crate) fn nothing(&self, wanted: &Processes) -> Failure {
        let left_out = match self.left_out {
            0 => String::new(),
            n => format!(" ({n} that match are {LEFT_OUT})"),
        };
        let words = format!("no process with {}{left_out}", words(wanted));
        match self.protected {
            0 => Failure::NoTarget(words),
            n => Failure::Protected(format!("{words} but {n} that the policy protects")),
        }
    }
}

/// How many processes matched and were let alone while others were picked, at most at one look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LetAlone {
    left_out: usize,
    protected: usize,
}

impl LetAlone {
    /// Takes in what one look found.
    pub(crate) fn see(&mut self, picked: &Picked) {
        self.left_out = self.left_out.max(picked.left_out);
        self.protected = self.protected.max(picked.protected);
    }

    /// What is told of them.
    pub(crate) fn notes(self) -> impl Iterator<Item = String> {
        let protected = match self.protected {
            0 => None,
            1 => Some("the policy spares 1 process that matches".to_owned()),
            n => Some(format!("the policy spares {n} processes that match")),
        };
        let left_out = match self.left_out {
            0 => None,
            1 => Some(format!("1 process that matches is {LEFT_OUT}")),
            n => Some(format!("{n} processes that match are {LEFT_OUT}")),
        };
        protected.into_iter().chain(left_out)
    }
}

fn words(wanted: &Processes) -> String {
    let text = |what: &str, value: &Option<String>| Some(format!("{what} `{}`", value.as_ref()?));
    let number = |what: &str, value: Option<u32>| value.map(|v| format!("{what} {v}"));
    let all = [
        text("the name", &wanted.name),
        text("the command line", &wanted.cmdline),
        number("the pid", wanted.pid),
        number("the port", wanted.port.map(u32::from)),
        text("the cgroup", &wanted.cgroup),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// Looks at every process.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn pick(wanted: &Processes, protect: &Protect) -> io::Result<Picked> {
    let picker = Picker::new(wanted, protect)?;
    let mut picked = Picked::default();
    for pid in proc::processes()? {
        // What cannot be read is gone, or not ours to touch.
        let Ok(stat) = proc::stat(pid) else { continue };
        let Some(place) = proc::place(pid, &stat).filter(|_| !stat.kernel_thread) else { continue };
        if !picker.matches(pid, &place, &stat) {
            continue;
        }
        match picker.spares(pid, &place, &stat) {
            Some(Spared::LeftOut) => picked.left_out += 1,
            Some(Spared::Protected) => picked.protected += 1,
            None => picked.targets.push(Target { pid, comm: stat.comm, started: stat.started }),
        }
    }
    Ok(picked)
}

struct Picker<'a> {
    wanted: &'a Processes,
    protect: &'a Protect,
    /// Sockets at the port that is asked for.
    sockets: HashSet<u64>,
    /// Sockets at protected ports.
    protected: HashSet<u64>,
    /// Where protected programs lie: as the policy writes it, and what that leads to.
    paths: Vec<PathBuf>,
    /// This process and all that it descends from, and who asked for the fault with the same.
    lineage: Vec<i32>,
    program: Option<(u64, u64)>,
}

impl<'a> Picker<'a> {
    fn new(wanted: &'a Processes, protect: &'a Protect) -> io::Result<Picker<'a>> {
        let mut protected = HashSet::new();
        for (protocol, port) in &protect.ports {
            protected.extend(sockets_at(*protocol, *port)?);
        }
        let mut sockets = HashSet::new();
        if let Some(port) = wanted.port {
            sockets.extend(sockets_at(Protocol::Tcp, port)?);
            sockets.extend(sockets_at(Protocol::Udp, port)?);
        }
        let mut paths: Vec<PathBuf> = protect.paths.iter().map(PathBuf::from).collect();
        let led_to: Vec<PathBuf> =
            paths.iter().filter_map(|path| led_to(path, MAX_LINKS)).collect();
        paths.extend(led_to);
        let me = i32::try_from(std::process::id()).unwrap_or(0);
        let lineage = [Some(me), protect.asker].into_iter().flatten().flat_map(lineage).collect();
        let program = program_of("/proc/self");
        Ok(Picker { wanted, protect, sockets, protected, paths, lineage, program })
    }

    /// The cheap questions come first.
    fn matches(&self, pid: i32, place: &str, stat: &Stat) -> bool {
        let wanted = self.wanted;
        wanted.pid.is_none_or(|p| i32::try_from(p) == Ok(pid))
            && wanted.name.as_ref().is_none_or(|name| is_named(&stat.comm, name))
            && wanted.cmdline.as_ref().is_none_or(|text| {
                proc::words(place).is_ok_and(|words| words.join(" ").contains(text.as_str()))
            })
            && wanted.cgroup.as_ref().is_none_or(|group| {
                let text = fs::read_to_string(format!("{place}/cgroup"));
                text.is_ok_and(|t| t.lines().any(|line| is_in_cgroup(line, group)))
            })
            && (wanted.port.is_none() || holds_one_of(place, &self.sockets).unwrap_or(false))
    }

    fn spares(&self, pid: i32, place: &str, stat: &Stat) -> Option<Spared> {
        let named = |names: &[String]| names.iter().any(|name| is_named(&stat.comm, name));
        let left_out = pid == 1
            || self.lineage.contains(&pid)
            || (stat.comm.starts_with(OUR_NAME) && proc::is_of_our_user(pid))
            || named(&self.wanted.exclude)
            || (self.program.is_some() && program_of(place) == self.program);
        let protected = || {
            named(&self.protect.processes)
                || self.lies_protected(place)
                // Gone. What may not be looked at may be protected.
                || holds_one_of(place, &self.protected)
                    .unwrap_or_else(|error| error.kind() != io::ErrorKind::NotFound)
        };
        if left_out { Some(Spared::LeftOut) } else { protected().then_some(Spared::Protected) }
    }

    fn lies_protected(&self, place: &str) -> bool {
        if self.paths.is_empty() {
            return false;
        }
        let program = match fs::read_link(format!("{place}/exe")) {
            Ok(program) => program,
            // Gone. What may not be looked at may be protected.
            Err(error) => return error.kind() != io::ErrorKind::NotFound,
        };
        // As of a program that was replaced while it runs.
        let program = program.to_string_lossy();
        let program = Path::new(program.strip_suffix(" (deleted)").unwrap_or(&program));
        self.paths.iter().any(|path| program.starts_with(path))
    }
}

/// What a path leads to, also where its last parts are not there, or what a link on its way leads to: a
/// program that was removed while it runs, or one that only another mount namespace has. So many links
/// into nowhere are followed.
fn led_to(path: &Path, links: u8) -> Option<PathBuf> {
    path.ancestors().find_map(|there| {
        let rest = path.strip_prefix(there).ok()?;
        if let Ok(real) = fs::canonicalize(there) {
            return Some(real.join(rest));
        }
        let target = fs::read_link(there).ok()?;
        led_to(&there.parent()?.join(target).join(rest), links.checked_sub(1)?)
    })
}

/// A process, its parent and so on: who would pick by command line must not pick the shell or the
/// `sudo` whose command line holds the very text.
fn lineage(pid: i32) -> Vec<i32> {
    let mut pids = vec![pid];
    while let Some(Ok(stat)) = pids.last().map(|pid| proc::stat(*pid)) {
        if stat.parent == 0 || pids.contains(&stat.parent) {
            break;
        }
        pids.push(stat.parent);
    }
    pids
}

/// Device and inode of the file that a process runs.
fn program_of(place: &str) -> Option<(u64, u64)> {
    let file = fs::metadata(format!("{place}/exe")).ok()?;
    Some((file.dev(), file.ino()))
}

/// The kernel cuts a command's name short; a person may write it out.
fn is_named(comm: &str, name: &str) -> bool {
    comm == name || (name.len() > NAME_LEN && comm.as_bytes() == &name.as_bytes()[..NAME_LEN])
}

/// Whether a line of `/proc/PID/cgroup` lies in or below `wanted`: a path, or one of its parts, as
/// a unit is.
fn is_in_cgroup(line: &str, wanted: &str) -> bool {
    let path = line.splitn(3, ':').nth(2).unwrap_or_default();
    if !wanted.contains('/') {
        return path.split('/').any(|part| part == wanted);
    }
    let (path, wanted) = (path.trim_matches('/'), wanted.trim_matches('/'));
    path.strip_prefix(wanted)
        .is_some_and(|rest| wanted.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// The inodes of the sockets that listen at a TCP port, or are bound to a UDP port.
fn sockets_at(protocol: Protocol, port: u16) -> io::Result<HashSet<u64>> {
    let name = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let mut inodes = HashSet::new();
    for path in [format!("/proc/self/net/{name}"), format!("/proc/self/net/{name}6")] {
        match File::open(&path) {
            // Line by line: how many sockets there are is up to others.
            Ok(file) => {
                for line in BufReader::new(file).lines() {
                    inodes.extend(socket_at(&line?, protocol, port));
                }
            }
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(inodes)
}

fn socket_at(line: &str, protocol: Protocol, port: u16) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = fields.next()?.rsplit_once(':')?.1;
    let state = fields.nth(1)?;
    let fits = protocol == Protocol::Udp || state == LISTEN;
    if !fits || u16::from_str_radix(local, 16) != Ok(port) {
        return None;
    }
    fields.nth(5)?.parse().ok().filter(|inode| *inode != 0)
}

fn holds_one_of(place: &str, sockets: &HashSet<u64>) -> io::Result<bool> {
    if sockets.is_empty() {
        return Ok(false);
    }
    let entries = fs::read_dir(format!("{place}/fd"))?;
    Ok(entries.flatten().filter_map(|e| fs::read_link(e.path()).ok()).any(|link| {
        let inode = link.to_str().and_then(|l| l.strip_prefix("socket:[")?.strip_suffix(']'));
        inode.and_then(|i| i.parse().ok()).is_some_and(|i: u64| sockets.contains(&i))
    }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn cgroups_match_whole_parts() {
        for (line, wanted, fits) in [
            ("0::/system.slice/nginx.service", "nginx.service", true),
            ("0::/system.slice/nginx.service/worker", "nginx.service", true),
            ("0::/system.slice/nginx.service", "/system.slice", true),
            ("0::/system.slice/nginx.service", "system.slice/nginx.service/", true),
            ("5:cpu,cpuacct:/lab/h1", "/lab", true),
            ("0::/system.slice/nginx.service", "nginx", false),
            ("0::/system.slice/nginx.service2", "/system.slice/nginx.service", false),
            ("0::/laboratory", "/lab", false),
            ("0::/", "lab", false),
        ] {
            assert_eq!(is_in_cgroup(line, wanted), fits, "{line} in {wanted}");
        }
    }

    #[test]
    fn names_are_compared_as_the_kernel_keeps_them() {
        assert!(is_named("nginx", "nginx") && !is_named("nginx", "ngin"));
        assert!(is_named("prometheus-node", "prometheus-node-exporter"));
        assert!(!is_named("prometheus-nod", "prometheus-node-exporter"));
    }

    #[test]
    fn only_listeners_are_at_a_tcp_port() {
        let line = |state: &str| {
            format!(
                "   0: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 4711 1 0"
            )
        };
        assert_eq!(socket_at(&line("0A"), Protocol::Tcp, 8080), Some(4711));
        assert_eq!(socket_at(&line("01"), Protocol::Tcp, 8080), None);
        assert_eq!(socket_at(&line("07"), Protocol::Udp, 8080), Some(4711));
        assert_eq!(socket_at(&line("0A"), Protocol::Tcp, 8081), None);
        assert_eq!(socket_at("  sl  local_address rem_address   st", Protocol::Tcp, 8080), None);
    }

    #[test]
    fn a_number_that_means_another_process_is_not_the_target() {
        let pid = std::process::id() as i32;
        let stat = proc::stat(pid).unwrap();
        let target = Target { pid, comm: stat.comm, started: stat.started };
        assert!(target.is_same() && !target.is_another());
        let other = Target { started: stat.started + 1, ..target };
        assert!(!other.is_same() && other.is_another());
    }

    #[test]
    fn programs_that_lie_below_a_protected_path_are_spared_also_when_they_were_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (home, program) = (dir.join("db"), dir.join("db/bin/nap"));
        fs::create_dir_all(home.join("bin")).unwrap();
        // By another process: a child of another test that is being started would keep the file open for
        // writing, and such a file is not run.
        let copied = std::process::Command::new("cp").arg("/bin/sleep").arg(&program).status();
        assert!(copied.unwrap().success());
        std::os::unix::fs::symlink(&home, dir.join("link")).unwrap();
        let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
        let wanted = Processes { pid: Some(child.id()), ..Processes::default() };
        let spared = |path: PathBuf| {
            let paths = vec![path.display().to_string()];
            let picked = pick(&wanted, &Protect { paths, ..Protect::default() }).unwrap();
            assert_eq!(picked.targets.len() + picked.protected, 1, "{path:?}: {picked:?}");
            picked.protected == 1
        };
        for path in [home.clone(), program.clone(), dir.join("link"), "/".into()] {
            assert!(spared(path.clone()), "{path:?}");
        }
        for path in [dir.join("d"), dir.join("db/bin/na"), dir.join("db/lib"), dir.join("gone")] {
            assert!(!spared(path.clone()), "{path:?}");
        }
        fs::remove_file(&program).unwrap();
        for path in [home.clone(), program, dir.join("link/bin/nap")] {
            assert!(spared(path.clone()), "{path:?}");
        }
        fs::remove_dir_all(&home).unwrap();
        std::os::unix::fs::symlink("link", dir.join("far")).unwrap();
        std::os::unix::fs::symlink("round", dir.join("round")).unwrap();
        assert!(spared(dir.join("link")) && spared(dir.join("far/bin")));
        assert!(!spared(dir.join("far/lib")) && !spared(dir.join("round")));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn this_process_and_its_parents_are_never_picked() {
        let me = std::process::id();
        let wanted = Processes { pid: Some(me), ..Processes::default() };
        let picked = pick(&wanted, &Protect::default()).unwrap();
        assert!(picked.targets.is_empty() && picked.left_out == 1, "{picked:?}");
        assert!(lineage(me as i32).contains(&(std::os::unix::process::parent_id() as i32)));
        let said = picked.nothing(&wanted).to_string();
        assert!(said.contains(&format!("the pid {me} (1 that match")), "{said}");
    }

    #[test]
    fn whoever_takes_our_name_is_spared_only_if_it_is_of_our_user() {
        let dir = tempfile::tempdir().unwrap();
        let picked = |uid: Option<u32>| {
            let mut child = of_our_name(dir.path(), uid);
            let wanted = Processes { pid: Some(child.id()), ..Processes::default() };
            let picked = pick(&wanted, &Protect::default()).unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            (picked.targets.len(), picked.left_out)
        };
        assert_eq!(picked(None), (0, 1));
        if rustix::process::geteuid().is_root() {
            assert_eq!(picked(Some(65_534)), (1, 0));
        } else {
            eprintln!("SKIPPED in part: only root can be another user");
        }
    }

    /// A process that is called as those of a fault are.
    pub(crate) fn of_our_name(dir: &Path, uid: Option<u32>) -> std::process::Child {
        use std::os::unix::fs::PermissionsExt;
        use std::os::unix::process::CommandExt;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        let program = dir.join("squall-burn");
        // By another process: see above.
        let copied = std::process::Command::new("cp").arg("/bin/sleep").arg(&program).status();
        assert!(copied.unwrap().success());
        let mut command = std::process::Command::new(program);
        if let Some(uid) = uid {
            command.uid(uid);
        }
        let child = command.arg("60").spawn().unwrap();
        // It has no words before it runs its program.
        while proc::words(&format!("/proc/{}", child.id())).unwrap().is_empty() {}
        child
    }

    #[test]
    fn who_is_let_alone_is_told_also_where_others_were_picked() {
        let mut let_alone = LetAlone::default();
        assert_eq!(let_alone.notes().count(), 0);
        for (left_out, protected) in [(0, 1), (2, 0), (1, 1)] {
            let_alone.see(&Picked { left_out, protected, ..Picked::default() });
        }
        let notes: Vec<String> = let_alone.notes().collect();
        assert_eq!(
            notes,
            [
                "the policy spares 1 process that matches",
                "2 processes that match are excluded, Squall's own, or of who asks",
            ]
        );
    }
}
