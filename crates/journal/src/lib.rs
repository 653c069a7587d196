//! What had we promised before the lights went out?
//!
//! A journal is one file of opaque records, each with its length, in batches with a checksum each,
//! under an exclusive lock. [`Journal::append`] returns once the bytes are on the disk. A record that
//! was being written when the power went is cut off at the next start; a bad record before the end is
//! damage, and the journal refuses to be read rather than forget what stands behind it. For what is a
//! single value, [`replace`] puts a file in the place of another.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod error;
mod frame;
mod private;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

pub use error::JournalError;
pub use frame::MAX_RECORD;
pub use private::{make_private_dir, open_private};

/// The journal's file in its directory.
pub const FILE: &str = "journal";
const LOCK: &str = "journal.lock";
/// Of a file that is no journal: whoever the umask lets.
const SHARED_MODE: u32 = 0o666;

/// What was found in a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Every whole record, oldest first.
    pub records: Vec<Vec<u8>>,
    /// Bytes of a record that was being written when the last life ended; they were cut off.
    pub torn_bytes: u64,
}

/// An open journal; the lock lives as long as the value.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    file: File,
    /// Where the last good record ends.
    end: u64,
    /// Why what stands behind the last good end may be anything: nothing is appended to this file.
    poisoned: Option<String>,
    _lock: Lock,
}

/// The lock on a journal. It is given back by word: a child that is being started right now has the open
/// file too, until it executes its program, and would keep the lock for that long.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Where the system does not take it back, it goes with the last who has the file.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl Journal {
    /// Opens or creates the journal in `dir`, takes its lock and reads it. What was read is on the disk
    /// when this returns: an earlier life may have written it and died before its flush.
    ///
    /// # Errors
    /// [`JournalError::Locked`] where another process has it, [`JournalError::Corrupt`] where a
    /// record before the end is damaged, or the system's error. The file is unchanged then.
    pub fn open(dir: &Path) -> Result<(Journal, Recovered), JournalError> {
        Journal::open_with(dir, File::sync_data)
    }

    fn open_with(
        dir: &Path,
        flush: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(Journal, Recovered), JournalError> {
        let lock = take_lock(dir)?;
        let path = dir.join(FILE);
        let mut file = open_private(&path).map_err(|e| JournalError::io(&path, e))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| JournalError::io(&path, e))?;
        let scanned = frame::scan(&bytes).map_err(|at| JournalError::corrupt(&path, at))?;
        let mut journal =
            Journal { dir: dir.to_owned(), file, end: scanned.end, poisoned: None, _lock: lock };
        let recovered = scanned.into_recovered(&bytes);
        if journal.end == 0 {
            journal.start_over(&frame::HEADER)?;
        } else if recovered.torn_bytes > 0 {
            journal.cut()?;
        } else {
            flush(&journal.file).map_err(|e| JournalError::io(&path, e))?;
        }
        // Its name, too: an earlier life may have given it to a new file and died before it flushed that.
        flush_dir(dir).map_err(|e| JournalError::io(dir, e))?;
        Ok((journal, recovered))
    }

    /// Makes `records` durable, all or none of them.
    ///
    /// # Errors
    /// Nothing of it is kept by this process; what a failed flush was about may be back after a power cut.
    /// After a failed write the file is cut back to its last good end; where that fails too, or a flush
    /// failed (its bytes can never be trusted), the next call puts what was good before into a new file.
    /// [`JournalError::Poisoned`] where that cannot be: each call tries again.
    pub fn append(&mut self, records: &[Vec<u8>]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(()); // an empty batch is what a torn one looks like
        }
        let bytes = frame::batch(records)?;
        if let Some(why) = self.poisoned.take()
            && let Err(error) = self.mend()
        {
            let said = format!("{why}, and putting what was good into a new file failed: {error}");
            self.poisoned = Some(why);
            return Err(JournalError::Poisoned { path: self.path(), why: said });
        }
        if let Err(error) = self.file.write_all(&bytes) {
            if let Err(second) = self.cut() {
                self.poisoned = Some(format!("{error}, and cutting it back failed: {second}"));
            }
            return Err(JournalError::io(&self.path(), error));
        }
        if let Err(error) = self.file.sync_data() {
            self.poisoned = Some(format!("a flush failed: {error}"));
            // Best effort: a next life would read it from memory, and call it durable.
            let _ = self.file.set_len(self.end);
            return Err(JournalError::io(&self.path(), error));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Replaces the whole content, all or nothing: a new file takes the old one's name once it is on
    /// the disk.
    ///
    /// # Errors
    /// [`JournalError::Full`] leaves all as it was, and the journal may be used on. After any other the
    /// old content or the new one is read next time; an append goes on from the old one.
    pub fn rewrite(&mut self, records: &[Vec<u8>]) -> Result<(), JournalError> {
        let mut bytes = frame::HEADER.to_vec();
        if !records.is_empty() {
            bytes.extend(frame::batch(records)?);
        }
        self.start_over(&bytes)
    }

    /// The file's length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.end
    }

    fn start_over(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        let file = put(&self.path(), bytes, private::FILE_MODE)
            .map_err(|e| JournalError::io(&aside(&self.path()), e))?;
        // The new file has its name, and may lose it with the power: neither is sure to be read next time.
        if let Err(error) = flush_dir(&self.dir) {
            self.poisoned = Some(format!("the directory could not be flushed: {error}"));
            return Err(JournalError::Io { path: self.dir.clone(), error });
        }
        self.file = file;
        self.end = bytes.len() as u64;
        self.poisoned = None;
        Ok(())
    }

    /// Puts what is good of a file that cannot be trusted into a new one. It was on the disk once, and its
    /// checksums say whether it still is what it was.
    fn mend(&mut self) -> Result<(), String> {
        let mut good = Vec::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| (&self.file).take(self.end).read_to_end(&mut good))
            .map_err(|e| e.to_string())?;
        match frame::scan(&good).map(|scanned| scanned.end) {
            Ok(end) if end == self.end => self.start_over(&good).map_err(|e| e.to_string()),
            Ok(at) | Err(at) => Err(format!("it is damaged at byte {at}")),
        }
    }

    fn cut(&mut self) -> Result<(), JournalError> {
        let path = self.path();
        self.file
            .set_len(self.end)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.end)))
            .and_then(|_| self.file.sync_all())
            .map_err(|e| JournalError::io(&path, e))
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }
}

/// Puts `bytes` into the file at `path`, whole or not at all, and durably once it returns. What stood
/// there before stands there until then.
///
/// # Errors
/// The system's.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, SHARED_MODE)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    flush_dir(dir.unwrap_or(Path::new(".")))
}

fn flush_dir(dir: &Path) -> io::Result<()> {
    File::open(dir).and_then(|d| d.sync_all())
}

/// Puts `bytes` under the name `path`, on the disk and open for more. The name itself may still be lost
/// with the power.
fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    let aside = aside(path);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(&aside)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&aside, path));
    if let Err(error) = written {
        // The half-written file is of no use to anybody; its absence is no failure.
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    Ok(file)
}

fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    aside.into()
}

/// The lock is on a file of its own, so that a rewrite does not lose it; the file says who holds it.
fn take_lock(dir: &Path) -> Result<Lock, JournalError> {
    let path = dir.join(LOCK);
    let mut lock = open_private(&path).map_err(|e| JournalError::io(&path, e))?;
    if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        return Err(not_locked(dir, &mut lock, error.into()));
    }
    let _ = lock.set_len(0);
    let _ = writeln!(lock, "{}", std::process::id());
    Ok(Lock(lock))
}

/// Only where another process has the lock is there anybody to wait for.
fn not_locked(dir: &Path, lock: &mut File, error: io::Error) -> JournalError {
    if error.kind() != io::ErrorKind::WouldBlock {
        return JournalError::io(&dir.join(LOCK), error);
    }
    let mut holder = String::new();
    // Whoever holds it may not have written its number yet.
    let _ = lock.read_to_string(&mut holder);
    JournalError::Locked { dir: dir.to_owned(), holder: holder.trim().to_owned() }
}
