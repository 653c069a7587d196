//! Taking a lab down, whole or half-made.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use squall_core::ids::HostName;
use squall_faults::sys::pidfd;

use crate::error::{LabError, system};
use crate::place::{Claim, ROOT_VARIABLE, usual_root};
use crate::record::{ENTRIES, Record};

/// How long a killed switch has to be gone with all that hangs on it. The kernel needs
/// milliseconds a host.
const GONE: Duration = Duration::from_secs(60);

const SIGKILL: u8 = 9;

/// What `down` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Was {
    /// The lab, or what was left of it; nothing is now.
    There,
    /// Nothing.
    Absent,
}

/// Takes a lab down: on return its processes are dead, and with them its namespaces, mounts and
/// links; its directory is removed.
///
/// # Errors
/// Somebody else works on it, or something could not be removed; doing it again is safe.
pub fn down(root: &Path, name: &HostName) -> Result<Was, LabError> {
    let Some(claim) = Claim::existing(root, name)? else { return Ok(Was::Absent) };
    clear(&claim)?;
    fs::remove_dir(&claim.dir).map_err(system(claim.dir.display().to_string()))?;
    if root == usual_root() {
        // Fails while other labs are there.
        let _ = fs::remove_dir(root);
    }
    Ok(Was::There)
}

/// Kills what is left of a lab and removes its files. What else is in its directory stays; where no lab
/// is, nothing is touched.
pub(crate) fn clear(claim: &Claim) -> Result<(), LabError> {
    let failed = || system(claim.dir.display().to_string());
    let record = Record::load(&claim.dir)?;
    let own = if record.is_some() { &ENTRIES[..] } else { &ENTRIES[..2] };
    let mut strange = Vec::new();
    for entry in fs::read_dir(&claim.dir).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        if !own.iter().any(|known| name == *known) {
            strange.push(name.display().to_string());
        }
    }
    strange.sort();
    let strange = strange.join(", ");
    let dir = claim.dir.display();
    match record {
        Some(record) => kill(&record)?,
        None if strange.is_empty() => {}
        None => {
            return Err(LabError::Invalid(format!(
                "{dir} is not a lab: {strange} is in it; nothing was touched (choose another name, or \
                 another {ROOT_VARIABLE})"
            )));
        }
    }
    for path in own.iter().map(|name| claim.dir.join(name)) {
        let removed = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed()(error)),
            Ok(()) | Err(_) => {}
        }
    }
    if strange.is_empty() {
        return Ok(());
    }
    Err(LabError::Kept { lab: claim.name.clone(), what: format!("{strange} in {dir}") })
}

/// Kills the switch and waits for its end. It is pid 1 of a namespace: the kernel lets it end only
/// after every process in there has.
fn kill(record: &Record) -> Result<(), LabError> {
    let Some(switch) = record.switch()? else { return Ok(()) };
    let failed = || system(format!("the switch of lab {}", record.name));
    match switch.signal(SIGKILL) {
        Err(error) if error.raw_os_error() != Some(Errno::SRCH.raw_os_error()) => {
            return Err(failed()(error));
        }
        // Killed, or gone just now.
        Ok(()) | Err(_) => {}
    }
    let limit_ms = GONE.as_millis() as u64;
    match pidfd::Process::dead([&switch], limit_ms).map_err(failed())?.contains(&true) {
        true => Ok(()),
        false => Err(LabError::Failed(format!(
            "lab {}: its processes are still there {} s after SIGKILL; squall lab down {} again",
            record.name,
            GONE.as_secs(),
            record.name
        ))),
    }
}
