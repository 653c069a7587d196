//! What a virtual host sees of the machine's files: all of it, and none that it could change by
//! living there. `/etc`, `/var`, `/run`, `/dev/shm`, `/proc` and `/sys` are its own; `/tmp`, `/home`
//! and the rest are the machine's, so that programs and their files are where they are. What Squall keeps
//! on the machine (identities, policy, journal, log) is no host's.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{FsWord, Mode, OFlags, open, statfs};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_move, mount_remount,
};

use crate::build::Site;
use crate::switch::tried;

/// Where a host keeps what the lab put there.
const OWN: &str = "/run/lab";
/// The directory in which programs are looked up first.
pub(crate) const SEARCH: &str = "/run/lab/bin";
/// Our program, as a host sees it.
pub(crate) const PROGRAM: &str = "/run/lab/bin/squall";
/// Says which lab this is, and which host.
pub(crate) const MARKER: &str = "/run/lab/host";
/// The sized file system in which the host's `/etc` and `/var` keep what is written there.
const STATE: &str = "/run/lab/state";
/// The machine's own, where a file system of layers is not to be had.
const MACHINE: &str = "/run/lab/machine";
/// The kind of file system that [`layer`] mounts.
const OVERLAY: FsWord = 0x794c_7630;
/// Directories in `/var` in which programs expect to make their own.
const WRITTEN: [&str; 5] = ["lib", "log", "cache", "spool", "tmp"];
/// Sizes of `/run` and `/dev/shm`, in MiB.
const RUN_MB: u32 = 256;

/// Makes the mounts, in a mount namespace of this process's own. `note` hears what is lacking.
pub(crate) fn make(site: &Site<'_>, note: &mut dyn FnMut(&str)) -> Result<(), String> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    tried(mount_change("/", private), "private mounts")?;
    // Kept by descriptor: `/run` may be about to hide them.
    let program = tried(handle(&site.program), site.program.display())?;
    let dir = tried(handle(&site.dir), site.dir.display())?;
    tmpfs("/run", RUN_MB, "0755")?;
    for path in [OWN, SEARCH, STATE, "/run/lock", "/run/user"] {
        tried(DirBuilder::new().recursive(true).mode(0o755).create(path), path)?;
    }
    tried(File::create(PROGRAM), PROGRAM)?;
    bind(&program, PROGRAM)?;
    tmpfs(STATE, site.state_mb, "0755")?;
    for (path, name) in [("/etc", "etc"), ("/var", "var")] {
        layer(path, name, site.rootless.is_some(), note)?;
    }
    for path in ["/etc", "/var/lib"] {
        hide_ours(path)?;
    }
    tmpfs("/dev/shm", RUN_MB, "1777")?;
    show(&dir, &site.dir)?;
    system_files(note);
    tried(mount("proc", "/proc", "proc", kernel_files(), None), "/proc")
}

fn handle(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn kernel_files() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC
}

fn tmpfs(path: &str, megabytes: u32, mode: &str) -> Result<(), String> {
    let options = tried(
        std::ffi::CString::new(format!("size={megabytes}m,mode={mode}")).map_err(io::Error::from),
        path,
    )?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    tried(mount("lab", path, "tmpfs", flags, options.as_c_str()), path)
}

/// Shows at `path` what `source` names, hidden or not.
fn bind(source: &OwnedFd, path: &str) -> Result<(), String> {
    tried(mount_bind(format!("/proc/self/fd/{}", source.as_raw_fd()), path), path)
}

/// A directory whose old content is the machine's and whose new content is the host's.
fn layer(path: &str, name: &str, rootless: bool, note: &mut dyn FnMut(&str)) -> Result<(), String> {
    let upper = format!("{STATE}/{name}");
    let work = format!("{STATE}/.{name}");
    let meta = tried(fs::metadata(path), path)?;
    for dir in [&upper, &work] {
        tried(DirBuilder::new().mode(meta.mode() & 0o7777).create(dir), dir)?;
    }
    if rootless {
        // The machine's own belong to nobody here, and nobody could write to them.
        for inner in WRITTEN.iter().filter(|inner| Path::new(path).join(inner).is_dir()) {
            let dir = format!("{upper}/{inner}");
            tried(DirBuilder::new().mode(0o755).create(&dir), &dir)?;
        }
    }
    let own = if rootless { ",userxattr" } else { "" };
    let options = format!("lowerdir={path},upperdir={upper},workdir={work}{own}");
    let options = tried(std::ffi::CString::new(options).map_err(io::Error::from), path)?;
    let flags = MountFlags::NODEV;
    match mount("lab", path, "overlay", flags, options.as_c_str()) {
        Ok(()) => Ok(()),
        Err(error) => {
            note(&format!("{path}: no overlay ({error}): the machine's files there are read-only"));
            links(path, name, &upper)
        }
    }
}

/// The same without overlay: a directory of links into the machine's own, read-only. What is ours is
/// left out, so that the host has its own.
fn links(path: &str, name: &str, upper: &str) -> Result<(), String> {
    let machine = format!("{MACHINE}/{name}");
    tried(fs::create_dir_all(&machine), &machine)?;
    tried(mount_bind_recursive(path, &machine), &machine)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    tried(mount_remount(&machine, flags, ""), &machine)?;
    link_all(&machine, upper)?;
    // One level down too where programs expect to write.
    for inner in WRITTEN {
        let (from, to) = (format!("{machine}/{inner}"), format!("{upper}/{inner}"));
        if path == "/var" && fs::symlink_metadata(&from).is_ok_and(|m| m.is_dir()) {
            tried(fs::remove_file(&to), &to)?;
            tried(fs::create_dir(&to), &to)?;
            link_all(&from, &to)?;
        }
    }
    tried(mount_bind(upper, path), path)
}

/// An empty directory over each of ours that the machine has; a link or a file of ours is not there.
fn hide_ours(path: &str) -> Result<(), String> {
    if !Path::new(path).is_dir() {
        return Ok(());
    }
    for entry in tried(fs::read_dir(path), path)? {
        let entry = tried(entry, path)?;
        let name = entry.file_name();
        if !is_ours(&name) {
            continue;
        }
        if !tried(entry.file_type(), path)?.is_dir() {
            // In the layer alone: never the machine's own.
            let layered = tried(statfs(path), path)?.f_type == OVERLAY;
            let away = if layered { fs::remove_file(entry.path()) } else { Err(kept()) };
            tried(away, entry.path().display())?;
            continue;
        }
        let empty = Path::new(STATE).join("own").join(path.trim_start_matches('/')).join(&name);
        tried(DirBuilder::new().recursive(true).mode(0o755).create(&empty), empty.display())?;
        tried(mount_bind(&empty, entry.path()), entry.path().display())?;
    }
    Ok(())
}

fn kept() -> io::Error {
    io::Error::other("it would be seen by the lab's hosts, and cannot be hidden")
}

fn is_ours(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with("squall")
}

fn link_all(from: &str, to: &str) -> Result<(), String> {
    for entry in tried(fs::read_dir(from), from)? {
        let name = tried(entry, from)?.file_name();
        if is_ours(&name) {
            continue;
        }
        let link = Path::new(to).join(&name);
        tried(symlink(Path::new(from).join(&name), &link), link.display())?;
    }
    Ok(())
}

/// Shows the lab's directory under its own name, where the mounts hide it.
fn show(dir: &OwnedFd, path: &Path) -> Result<(), String> {
    let wanted = tried(rustix::fs::fstat(dir), path.display())?;
    let seen = fs::metadata(path).map(|m| (m.dev(), m.ino()));
    if seen.is_ok_and(|seen| seen == (wanted.st_dev, wanted.st_ino)) {
        return Ok(());
    }
    tried(fs::create_dir_all(path), path.display())?;
    bind(dir, &path.display().to_string())
}

/// `/sys` of the host's own network namespace, with the machine's cgroups kept in sight.
fn system_files(note: &mut dyn FnMut(&str)) {
    let groups = Path::new("/sys/fs/cgroup");
    let aside = format!("{OWN}/cgroup");
    let keep = groups.exists();
    let remount = || -> io::Result<()> {
        if keep {
            fs::create_dir(&aside)?;
            mount_bind_recursive(groups, aside.as_str())?;
        }
        mount("sysfs", "/sys", "sysfs", kernel_files(), None)?;
        if keep {
            mount_move(aside.as_str(), groups)?;
        }
        Ok(())
    };
    if let Err(error) = remount() {
        note(&format!("/sys shows the machine's devices: {error}"));
    }
    if keep {
        // Where the move failed it is busy, and stays.
        let _ = fs::remove_dir(&aside);
    }
}
