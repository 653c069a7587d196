//! The file's format.
//!
//! ```text
//! header   8 bytes  "SQUALLJ1"
//! batch    u32 length of what follows the checksum, u32 CRC-32 of it, then records:
//! record   u32 length, bytes
//! ```
//! Numbers are little-endian. A batch is the unit of a write: after a crash it is there whole or not
//! at all.

use crate::{JournalError, Recovered};

/// Bytes in one record, at most.
pub const MAX_RECORD: usize = 1024 * 1024;
/// Bytes in one batch, at most; a length over it is damage, not a batch still being written.
const MAX_BATCH: usize = 64 * 1024 * 1024;
pub(crate) const HEADER: [u8; 8] = *b"SQUALLJ1";

/// Whole records as ranges of the file.
pub(crate) struct Scanned {
    records: Vec<std::ops::Range<usize>>,
    pub end: u64,
}

impl Scanned {
    pub(crate) fn into_recovered(self, bytes: &[u8]) -> Recovered {
        Recovered {
            records: self.records.into_iter().map(|r| bytes[r].to_vec()).collect(),
            torn_bytes: (bytes.len() as u64).saturating_sub(self.end),
        }
    }
}

pub(crate) fn batch(records: &[Vec<u8>]) -> Result<Vec<u8>, JournalError> {
    let mut body = Vec::new();
    for record in records {
        if record.len() > MAX_RECORD || body.len() + record.len() + 4 > MAX_BATCH {
            return Err(JournalError::TooLarge { bytes: record.len() });
        }
        body.extend_from_slice(&(record.len() as u32).to_le_bytes());
        body.extend_from_slice(record);
    }
    let mut bytes = Vec::with_capacity(8 + body.len());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Finds every whole batch. A bad batch is a torn tail where no whole batch stands behind it, and
/// damage (the offset of it) where one does.
pub(crate) fn scan(bytes: &[u8]) -> Result<Scanned, u64> {
    let mut scanned = Scanned { records: Vec::new(), end: 0 };
    if bytes.len() < HEADER.len() {
        // Not even the header was whole: a file of the first instant, unless it is another's.
        return if HEADER.starts_with(bytes) { Ok(scanned) } else { Err(0) };
    }
    if !bytes.starts_with(&HEADER) {
        return Err(0);
    }
    let mut at = HEADER.len();
    while at < bytes.len() {
        match read_batch(bytes, at) {
            Some((records, next)) => {
                scanned.records.extend(records);
                at = next;
            }
            None if has_batch_after(bytes, at) => return Err(at as u64),
            None => break,
        }
    }
    scanned.end = at as u64;
    Ok(scanned)
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes([four[0], four[1], four[2], four[3]]) as usize)
}

fn read_batch(bytes: &[u8], at: usize) -> Option<(Vec<std::ops::Range<usize>>, usize)> {
    let (len, crc) = (word(bytes, at)?, word(bytes, at + 4)?);
    if len == 0 || len > MAX_BATCH {
        return None;
    }
    let (start, end) = (at + 8, at + 8 + len);
    let body = bytes.get(start..end)?;
    if crc32fast::hash(body) as usize != crc {
        return None;
    }
    let mut records = Vec::new();
    let mut cursor = start;
    while cursor < end {
        let len = word(&bytes[..end], cursor)?;
        let record = cursor + 4..cursor + 4 + len;
        if record.end > end {
            return None;
        }
        cursor = record.end;
        records.push(record);
    }
    Some((records, end))
}

/// Whether any whole batch begins behind `at`. A torn write leaves none: batches are written one at
/// a time, each durable before the next begins.
fn has_batch_after(bytes: &[u8], at: usize) -> bool {
    // Where only its content is damaged, it says itself where the next one is.
    let next = word(bytes, at).and_then(|len| at.checked_add(8)?.checked_add(len));
    if next.is_some_and(|next| read_batch(bytes, next).is_some()) {
        return true;
    }
    // Else one may begin anywhere. Only lengths that fit, around records that fit, are hashed.
    let mut budget = 4 * MAX_BATCH;
    for start in at + 1..bytes.len().saturating_sub(8) {
        let Some(len) = word(bytes, start) else { return false };
        if len == 0 || len > MAX_BATCH || len > bytes.len() - start - 8 {
            continue;
        }
        let (end, mut cursor) = (start + 8 + len, start + 8);
        while cursor < end && budget > 0 {
            budget -= 1;
            let record = word(&bytes[..end], cursor);
            cursor =
                record.and_then(|len| cursor.checked_add(4)?.checked_add(len)).unwrap_or(end + 1);
        }
        let fits = cursor == end;
        // Whoever does not know calls nothing torn: that would be cut off, and be lost.
        let left = budget.checked_sub(if fits { len } else { 0 }).filter(|left| *left > 0);
        let Some(left) = left else { return true };
        budget = left;
        if fits && read_batch(bytes, start).is_some() {
            return true;
        }
    }
    false
}
