//! What a journal keeps, and what it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

fn records(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| format!("record {i}").into_bytes()).collect()
}

fn written(batches: usize) -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    for record in records(batches) {
        journal.append(&[record]).unwrap();
    }
    let bytes = fs::read(dir.path().join(FILE)).unwrap();
    (dir, bytes)
}

fn read(dir: &Path) -> Result<Recovered, JournalError> {
    Journal::open(dir).map(|(_, found)| found)
}

#[test]
fn what_was_appended_is_read_again_in_order() {
    let (dir, _) = written(3);
    let (mut journal, found) = Journal::open(dir.path()).unwrap();
    assert_eq!(found, Recovered { records: records(3), torn_bytes: 0 });
    journal.append(&records(2)).unwrap();
    drop(journal);
    assert_eq!(read(dir.path()).unwrap().records.len(), 5);
}

#[test]
fn nothing_is_appended_where_there_is_nothing() {
    let (dir, bytes) = written(1);
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.append(&[]).unwrap();
    assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), bytes);
    journal.append(&records(2)).unwrap();
    drop(journal);
    assert_eq!(read(dir.path()).unwrap().records.len(), 3);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_rest_stays() {
    let (dir, bytes) = written(3);
    let last = frame::batch(&[b"record 2".to_vec()]).unwrap().len();
    for cut in bytes.len() - last..bytes.len() {
        fs::write(dir.path().join(FILE), &bytes[..cut]).unwrap();
        let (mut journal, found) = Journal::open(dir.path()).unwrap();
        assert_eq!(found.records, records(2), "cut at {cut}");
        assert_eq!(found.torn_bytes as usize, cut - (bytes.len() - last));
        journal.append(&[b"after".to_vec()]).unwrap();
        drop(journal);
        assert_eq!(read(dir.path()).unwrap().records.last().unwrap(), b"after");
    }
}

#[test]
fn damage_before_the_end_is_refused_and_named() {
    let (dir, bytes) = written(3);
    let mut bad = bytes.clone();
    bad[frame::HEADER.len() + 12] ^= 1;
    fs::write(dir.path().join(FILE), &bad).unwrap();
    match Journal::open(dir.path()) {
        Err(JournalError::Corrupt { offset, .. }) => {
            assert_eq!(offset, frame::HEADER.len() as u64);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), bad, "the file is left alone");
}

#[test]
fn damage_in_a_large_batch_is_refused_for_what_stands_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    // Bytes of which four in a row may well be a length that fits.
    let record =
        |n: u64| [&n.to_le_bytes()[..], &[1, 0, 0, 0, 2, 3, 1, 0], &n.to_be_bytes()].concat();
    journal.append(&(0..8_192).map(record).collect::<Vec<_>>()).unwrap();
    let large = fs::metadata(dir.path().join(FILE)).unwrap().len() as usize;
    journal.append(&[b"a stop".to_vec()]).unwrap();
    drop(journal);
    let bytes = fs::read(dir.path().join(FILE)).unwrap();
    let first = frame::HEADER.len();
    // Its length, its sum, the first record's length, and content.
    for damaged in [first, first + 2, first + 5, first + 8, first + 20, large / 2, large - 1] {
        let mut bad = bytes.clone();
        bad[damaged] ^= 4;
        fs::write(dir.path().join(FILE), &bad).unwrap();
        match Journal::open(dir.path()) {
            Err(JournalError::Corrupt { offset, .. }) => assert_eq!(offset, first as u64),
            other => panic!("byte {damaged}: {other:?}"),
        }
    }
    // Torn in it, with nothing behind, it is a tail.
    for end in [first + 4, large / 3, large - 1] {
        fs::write(dir.path().join(FILE), &bytes[..end]).unwrap();
        let (_, found) = Journal::open(dir.path()).unwrap();
        assert_eq!((found.records.len(), found.torn_bytes as usize), (0, end - first), "{end}");
    }
}

#[test]
fn a_file_that_is_not_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), b"hello").unwrap();
    assert!(matches!(Journal::open(dir.path()), Err(JournalError::Corrupt { offset: 0, .. })));
}

#[test]
fn one_process_at_a_time() {
    let (dir, _) = written(1);
    let (_first, _) = Journal::open(dir.path()).unwrap();
    match Journal::open(dir.path()) {
        Err(JournalError::Locked { holder, .. }) => {
            assert_eq!(holder, std::process::id().to_string());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_child_that_is_being_started_does_not_keep_a_journal_that_is_closed() {
    let (dir, _) = written(1);
    let (journal, _) = Journal::open(dir.path()).unwrap();
    // What a child has between its fork and its exec.
    let _inherited = journal._lock.0.try_clone().unwrap();
    drop(journal);
    let (_, found) = Journal::open(dir.path()).unwrap();
    assert_eq!(found.records, records(1));
}

#[test]
fn whoever_has_it_and_has_not_said_so_is_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let lock = File::create(dir.path().join(LOCK)).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let refused = Journal::open(dir.path()).unwrap_err();
    assert!(matches!(refused, JournalError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains("is in use by another process: "), "{refused}");
}

#[test]
fn whoever_had_it_last_and_is_gone_is_not_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let mut lock = File::create(dir.path().join(LOCK)).unwrap();
    writeln!(lock, "{}", gone.id()).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let refused = Journal::open(dir.path()).unwrap_err().to_string();
    let said = format!("is in use by another process (not {}, which had it last", gone.id());
    assert!(refused.contains(&said), "{refused}");
}

#[test]
fn nobody_else_can_open_what_is_ours_nor_what_an_earlier_version_left_open() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("state");
    make_private_dir(&dir).unwrap();
    let modes = || {
        [dir.clone(), dir.join(FILE), dir.join(LOCK)]
            .map(|path| fs::metadata(path).unwrap().permissions().mode() & 0o777)
    };
    let (mut journal, _) = Journal::open(&dir).unwrap();
    assert_eq!(modes(), [0o700, 0o600, 0o600]);
    journal.rewrite(&records(2)).unwrap();
    drop(journal);
    for path in [dir.clone(), dir.join(FILE), dir.join(LOCK)] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (journal, found) = Journal::open(&dir).unwrap();
    assert_eq!((modes(), found.records), ([0o755, 0o600, 0o600], records(2)));
    drop(journal);
    // What is no journal is read by whoever may.
    let path = dir.join("value");
    replace(&path, b"value").unwrap();
    assert_ne!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0);
}

#[test]
fn a_file_system_that_locks_nothing_is_no_other_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut lock = File::create(dir.path().join(LOCK)).unwrap();
    // As a network file system may be out of locks.
    let refused = not_locked(dir.path(), &mut lock, rustix::io::Errno::NOLCK.into());
    assert!(matches!(&refused, JournalError::Io { path, .. } if path.ends_with(LOCK)), "{refused}");
}

#[test]
fn what_was_read_is_flushed_before_it_counts() {
    let (dir, bytes) = written(2);
    let refused = Journal::open_with(dir.path(), |_| Err(io::Error::other("the disk is gone")));
    let refused = refused.unwrap_err();
    assert!(matches!(refused, JournalError::Io { .. }), "{refused}");
    assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), bytes, "the file is left alone");
    let mut flushed = 0;
    let (_, found) = Journal::open_with(dir.path(), |file| {
        flushed = file.metadata()?.len();
        file.sync_data()
    })
    .unwrap();
    assert_eq!((flushed, found.records), (bytes.len() as u64, records(2)));
}

#[test]
fn a_rewrite_replaces_everything_and_keeps_the_lock() {
    let (dir, _) = written(20);
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.rewrite(&records(2)).unwrap();
    assert!(matches!(Journal::open(dir.path()), Err(JournalError::Locked { .. })));
    journal.append(&[b"more".to_vec()]).unwrap();
    drop(journal);
    assert_eq!(read(dir.path()).unwrap().records.len(), 3);
}

#[test]
fn after_a_flush_that_failed_what_was_good_goes_on_in_a_new_file() {
    let (dir, _) = written(3);
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    // What takes all bytes and flushes none of them.
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    let file = std::mem::replace(&mut journal.file, null);
    assert!(journal.append(&[b"lost".to_vec()]).is_err());
    journal.file = file;
    // What it was about may be there in part, or whole.
    let lost = frame::batch(&[b"lost".to_vec()]).unwrap();
    journal.file.write_all(&lost).unwrap();
    let full = dir.path().join("journal.new");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let said = journal.append(&[b"early".to_vec()]).unwrap_err().to_string();
    let why = ", and putting what was good into a new file failed: ";
    assert!(
        said.contains("a flush failed: ") && said.contains(why) && said.contains("no space left"),
        "{said}"
    );
    assert!(!full.is_symlink(), "what was half written is removed");
    journal.append(&[b"next".to_vec()]).unwrap();
    journal.append(&[b"last".to_vec()]).unwrap();
    drop(journal);
    let kept = [records(3), vec![b"next".to_vec(), b"last".to_vec()]].concat();
    assert_eq!(read(dir.path()).unwrap(), Recovered { records: kept, torn_bytes: 0 });
}

#[test]
fn what_is_no_longer_what_it_was_is_not_taken_for_good() {
    let (dir, bytes) = written(3);
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.poisoned = Some("a flush failed: disk".to_owned());
    for at in [bytes.len() - 1, bytes.len() / 2] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        fs::write(dir.path().join(FILE), &other).unwrap();
        let refused = journal.append(&[b"next".to_vec()]).unwrap_err();
        assert!(
            matches!(&refused, JournalError::Poisoned { why, .. } if why.contains("it is damaged at byte"))
        );
    }
    fs::write(dir.path().join(FILE), &bytes).unwrap();
    journal.append(&[b"next".to_vec()]).unwrap();
    drop(journal);
    assert_eq!(read(dir.path()).unwrap().records.len(), 4);
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("value");
    replace(&path, b"old").unwrap();
    replace(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    let taken = dir.path().join("taken");
    fs::create_dir(&taken).unwrap();
    assert!(replace(&taken, b"a file").is_err(), "it is a directory");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside them");
}

#[test]
fn a_record_over_the_limit_is_refused_before_anything_is_written() {
    let (dir, bytes) = written(1);
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    let refused = journal.append(&[vec![0; MAX_RECORD + 1]]);
    assert!(matches!(refused, Err(JournalError::TooLarge { .. })));
    assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), bytes);
}

proptest! {
    #[test]
    fn flipped_bits_never_invent_a_record(at in 0usize..200, bit in 0u8..8) {
        let (dir, mut bytes) = written(6);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        fs::write(dir.path().join(FILE), &bytes).unwrap();
        if let Ok(found) = read(dir.path()) {
            let kept = found.records.len();
            prop_assert_eq!(&found.records[..], &records(6)[..kept]);
            prop_assert!(kept == 5, "only the last batch may be taken for torn");
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), ours in any::<bool>()) {
        let mut file = if ours { frame::HEADER.to_vec() } else { vec![] };
        file.extend(bytes);
        let _ = frame::scan(&file);
    }
}
