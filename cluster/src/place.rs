//! Where labs are kept, and who may touch one now.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::process::geteuid;
use squall_core::ids::HostName;

use crate::error::{LabError, system};
use crate::record::Record;

/// The directory of all labs, where it is not the usual one.
pub const ROOT_VARIABLE: &str = "SQUALL_LAB_ROOT";
/// How long somebody else's work on a lab is waited for. Longer than a killed `up` takes to die.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries for a lab's lock.
const AGAIN: Duration = Duration::from_millis(10);

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// The directory of all labs: `$SQUALL_LAB_ROOT`, else the usual one of this user.
///
/// # Errors
/// The current directory is needed and gone.
pub fn root() -> Result<PathBuf, LabError> {
    let path = variable(ROOT_VARIABLE).unwrap_or_else(usual_root);
    let path = std::path::absolute(&path).map_err(system(path.display().to_string()))?;
    own(&path)?;
    Ok(path)
}

/// Refuses what somebody else has prepared at a well-known place, a link of his included.
fn own(path: &Path) -> Result<(), LabError> {
    for look in [fs::symlink_metadata, fs::metadata] {
        match look(path) {
            Ok(meta) if meta.uid() != geteuid().as_raw() => {
                return Err(LabError::Invalid(format!(
                    "{} belongs to another user: set {ROOT_VARIABLE}",
                    path.display()
                )));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(system(path.display().to_string())(e)),
        }
    }
    Ok(())
}

/// `/run/squall-lab` for root, else a directory of the user's own. It goes with the last lab.
pub(crate) fn usual_root() -> PathBuf {
    let uid = geteuid();
    match variable("XDG_RUNTIME_DIR") {
        _ if uid.is_root() => PathBuf::from("/run/squall-lab"),
        Some(runtime) => runtime.join("squall-lab"),
        None => PathBuf::from(format!("/tmp/squall-lab-{uid}")),
    }
}

/// A lab's directory, locked: nobody else makes the lab or takes it down meanwhile. The lock goes
/// with this process and never needs to be cleared.
#[derive(Debug)]
pub struct Claim {
    /// The lab's name.
    pub name: HostName,
    /// Its directory.
    pub dir: PathBuf,
    _lock: File,
}

impl Claim {
    /// Claims a lab's name, making its directory where that is missing.
    ///
    /// # Errors
    /// Somebody else holds it, or the directory cannot be made.
    pub fn make(root: &Path, name: &HostName) -> Result<Claim, LabError> {
        claim(root, name, true)?.ok_or_else(|| LabError::Busy(name.clone()))
    }

    /// Claims a lab's name; none where it has no directory.
    ///
    /// # Errors
    /// Somebody else holds it, or the directory cannot be opened.
    pub fn existing(root: &Path, name: &HostName) -> Result<Option<Claim>, LabError> {
        claim(root, name, false)
    }
}

fn claim(root: &Path, name: &HostName, make: bool) -> Result<Option<Claim>, LabError> {
    let dir = root.join(name.as_str());
    let failed = || system(dir.display().to_string());
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if make {
            private(root)?;
            match DirBuilder::new().mode(0o755).create(&dir) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // The last `down` removed the root; it is made anew.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                done => done.map_err(failed())?,
            }
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let lock = match rustix::fs::open(&dir, flags, Mode::empty()).map_err(io::Error::from) {
            Ok(lock) => File::from(lock),
            Err(e) if e.kind() == io::ErrorKind::NotFound && make => continue,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed()(e)),
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if same(&lock, &dir) => {
                own(&dir)?;
                return Ok(Some(Claim { name: name.clone(), dir, _lock: lock }));
            }
            // It was removed by whoever had it before.
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => sleep(AGAIN),
            Err(error) => return Err(failed()(error.into())),
        }
    }
    Err(LabError::Busy(name.clone()))
}

/// Makes the root, private to this user; another's, prepared at a well-known place, is refused.
fn private(root: &Path) -> Result<(), LabError> {
    let failed = || system(root.display().to_string());
    DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed())?;
    // Where it is gone again, the caller tries again.
    own(root)
}

fn same(lock: &File, dir: &Path) -> bool {
    match (lock.metadata(), fs::metadata(dir)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// The names of all labs, and of what is left of any.
///
/// # Errors
/// The directory cannot be read.
pub fn names(root: &Path) -> Result<Vec<HostName>, LabError> {
    let failed = || system(root.display().to_string());
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed()(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed())?.file_name();
        names.extend(name.to_str().and_then(|n| n.parse().ok()));
    }
    names.sort();
    Ok(names)
}

/// A lab's file, and its directory.
///
/// # Errors
/// There is no such lab; those that there are, are named.
pub fn open(root: &Path, name: &HostName) -> Result<(PathBuf, Record), LabError> {
    let dir = root.join(name.as_str());
    own(&dir)?;
    match Record::load(&dir)? {
        Some(record) => Ok((dir, record)),
        None => {
            let others = names(root)?.iter().map(ToString::to_string).collect();
            Err(LabError::Absent { what: format!("lab {name}"), others })
        }
    }
}
