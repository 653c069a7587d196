//! The number of this life, by which others know a later life of the same host from an earlier one.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The file in the state directory with the number of the last life.
const FILE: &str = "gossip-run";

/// A number larger than that of every earlier life: the wall clock's milliseconds, or one more than
/// the last number where a clock was stepped back meanwhile (which is one of our own faults).
/// Durable before it is used, where the disk takes it.
///
/// # Errors
/// The state directory's.
pub(super) fn next_run(state_dir: &Path) -> io::Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    next_run_at(state_dir, u64::try_from(since.as_millis()).unwrap_or(0))
}

fn next_run_at(state_dir: &Path, wall_ms: u64) -> io::Result<u64> {
    let path = state_dir.join(FILE);
    let last: u64 = match std::fs::read_to_string(&path) {
        // What cannot be read is as good as nothing: the clock alone decides.
        Ok(text) => text.trim().parse().unwrap_or(0),
        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
        Err(e) => return Err(e),
    };
    let run = wall_ms.max(last.saturating_add(1));
    // A full disk must not keep an agent from stopping things: then the clock alone says that the next
    // life is a later one.
    if let Err(error) = squall_journal::replace(&path, format!("{run}\n").as_bytes()) {
        tracing::warn!(path = %path.display(), %error, "the number of this life is not on disk");
    }
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_lives_have_larger_numbers_whatever_the_clock_does() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(next_run_at(dir.path(), 1_000).unwrap(), 1_000);
        assert_eq!(next_run_at(dir.path(), 1_000).unwrap(), 1_001);
        assert_eq!(next_run_at(dir.path(), 10).unwrap(), 1_002);
        assert_eq!(next_run_at(dir.path(), 5_000).unwrap(), 5_000);
        std::fs::write(dir.path().join(FILE), "half a wri").unwrap();
        assert_eq!(next_run_at(dir.path(), 6_000).unwrap(), 6_000);
    }
}
