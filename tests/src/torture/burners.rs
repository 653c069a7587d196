//! Burners as `/proc` shows them.

use std::fs;
use std::path::{Path, PathBuf};

/// The processes of Squall's whose command line says that they burn for this fault.
pub(super) fn burners(processes: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(processes).into_iter().flatten().flatten();
    let burns = |path: &PathBuf| {
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let words: Vec<&str> = line.trim_end_matches('\0').split('\0').collect();
        words.get(1) == Some(&"burn") && words.last().is_some_and(|w| w.ends_with(suffix))
    };
    entries.map(|e| e.path()).filter(burns).collect()
}

/// Processor time of a process, and one more for being there.
pub(super) fn cpu_ticks(process: &Path) -> Option<u64> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(1 + user + system)
}

/// Memory of a process that is really there.
pub(super) fn taken_kib(process: &Path) -> Option<u64> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
