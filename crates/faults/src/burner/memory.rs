//! A burner that takes memory and keeps it in use.

use std::io;
use std::time::Duration;

use super::child::Leash;
use crate::proc;

/// Taken and given back in such pieces. Above the size from which any allocator asks the kernel, so
/// that what is given back is the kernel's again.
const PIECE: u64 = 64 << 20;
/// Less than this is not worth taking when the floor is near.
const LEAST: u64 = 1 << 20;
/// All of it is touched about once in such a span: some percent of one processor for each 10 GiB.
const PASS: Duration = Duration::from_secs(5);
/// Between two looks at the memory available and at the pipe, at most.
const LOOK: Duration = Duration::from_millis(50);
/// Touched between two looks at the leash.
const STRETCH: usize = 1 << 20;
/// Every page is at least this large.
const PAGE: usize = 4096;

pub(super) fn burn(mut leash: Leash, bytes: u64, floor: u64) -> io::Result<()> {
    // If the kernel must kill somebody for memory, it is to be this one.
    std::fs::write("/proc/self/oom_score_adj", "1000")?;
    let mut taken: Vec<Vec<u8>> = Vec::new();
    let mut left = bytes;
    let mut next = 0;
    while leash.holds()? {
        match next_step(left, proc::memory_available()?, floor) {
            Step::Take(piece) => {
                let Some(piece) = take(piece, &mut leash)? else { return Ok(()) };
                left -= piece.len() as u64;
                taken.push(piece);
            }
            Step::GiveBack => {
                left = 0;
                if taken.pop().is_none() {
                    std::thread::sleep(LOOK);
                }
            }
            Step::Keep => {
                left = 0;
                if let Some(piece) = taken.get_mut(next)
                    && !touch(piece, &mut leash)?
                {
                    return Ok(());
                }
                next = (next + 1) % taken.len().max(1);
                let pieces = u32::try_from(taken.len()).unwrap_or(u32::MAX).max(1);
                std::thread::sleep(LOOK.min(PASS / pieces));
            }
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// So many bytes more.
    Take(u64),
    /// All is taken, or the floor is reached: no more will be taken.
    Keep,
    /// Less than the floor is available, by what others took meanwhile. No more will be taken.
    GiveBack,
}

fn next_step(left: u64, available: u64, floor: u64) -> Step {
    let Some(spare) = available.checked_sub(floor) else { return Step::GiveBack };
    let piece = left.min(PIECE).min(spare);
    if piece > 0 && (piece == left || piece >= LEAST) { Step::Take(piece) } else { Step::Keep }
}

/// Memory that is really there: every page of it is written. None where the leash has ended meanwhile.
fn take(bytes: u64, leash: &mut Leash) -> io::Result<Option<Vec<u8>>> {
    let mut piece = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    Ok(touch(&mut piece, leash)?.then_some(piece))
}

/// Writes to every page, so that the kernel takes it for used. On a busy machine a new page may take the
/// kernel long: the leash is looked at in between. False where it has ended.
fn touch(piece: &mut [u8], leash: &mut Leash) -> io::Result<bool> {
    for stretch in piece.chunks_mut(STRETCH) {
        for byte in stretch.iter_mut().step_by(PAGE) {
            *byte = std::hint::black_box(byte.wrapping_add(1));
        }
        if !leash.holds()? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_never_passed() {
        let floor = 10 * PIECE;
        for (left, available, step) in [
            (5 * PIECE, 20 * PIECE, Step::Take(PIECE)),
            (7, 20 * PIECE, Step::Take(7)),
            (5 * PIECE, floor + PIECE - 1, Step::Take(PIECE - 1)),
            (5 * PIECE, floor + LEAST - 1, Step::Keep),
            (5 * PIECE, floor, Step::Keep),
            (0, 20 * PIECE, Step::Keep),
            (5 * PIECE, floor - 1, Step::GiveBack),
            (0, floor - 1, Step::GiveBack),
        ] {
            assert_eq!(next_step(left, available, floor), step, "{left} {available}");
        }
    }
}
