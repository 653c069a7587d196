//! A burner that takes memory and keeps it in use.

use std::io;
use std::time::{Duration, Instant};

use super::Rise;
use super::child::Leash;
use crate::proc;

/// Taken and given back in such pieces at most. Above the size from which any allocator asks the kernel,
/// so that what is given back is the kernel's again.
const PIECE: u64 = 64 << 20;
/// Less than this is not worth taking while more is to come, or when the floor is near.
pub(crate) const LEAST: u64 = 1 << 20;
/// Taken at once, also where the rest rises: enough to be told from what the program itself has.
pub(crate) const FIRST: u64 = 4 << 20;
/// Where no rate is named all of it is touched in such a span: some percent of one processor for each
/// 10 GiB.
const PASS: Duration = Duration::from_secs(5);
/// Between two looks at the memory available and at the pipe.
const LOOK: Duration = Duration::from_millis(50);
/// Touched at most for a time in which nothing was, as on a machine that is too slow for the rate.
const CATCH_UP: Duration = Duration::from_millis(200);
/// Touched between two looks at the leash.
const STRETCH: usize = 1 << 20;
/// Every page is at least this large.
const PAGE: usize = 4096;

/// What is asked for.
pub(super) struct Task {
    pub bytes: u64,
    /// Stays available on the host.
    pub floor: u64,
    pub rise: Rise,
    /// Bytes a second.
    pub touch_rate: Option<u64>,
}

pub(super) fn burn(mut leash: Leash, task: &Task) -> io::Result<()> {
    // If the kernel must kill somebody for memory, it is to be this one.
    std::fs::write("/proc/self/oom_score_adj", "1000")?;
    if task.touch_rate.is_some() {
        // A page of 2 MiB would count as touched whole with one byte.
        nix::sys::prctl::set_thp_disable(true)?;
    }
    let started = Instant::now();
    let mut taken = Taken::default();
    // What will be taken at most: less once the floor was met.
    let mut most = task.bytes;
    let (mut touched, mut owed) = (Instant::now(), 0.0);
    while leash.holds()? {
        let due = due(task, started.elapsed()).min(most).saturating_sub(taken.bytes);
        let all = taken.bytes + due == most;
        match next_step(due, all, proc::memory_available()?, task.floor) {
            Step::Take(bytes) => match room(bytes) {
                Some(piece) => {
                    if !taken.take(piece, &mut leash)? {
                        return Ok(());
                    }
                }
                // The kernel promises no more, however much is available: others must not find that out.
                None => most = taken.bytes,
            },
            Step::GiveBack => {
                most = 0;
                if !taken.give_back() {
                    std::thread::sleep(LOOK);
                }
            }
            Step::Floor => most = taken.bytes,
            Step::Keep => {
                let rate =
                    task.touch_rate.map_or(taken.bytes as f64 / PASS.as_secs_f64(), |r| r as f64);
                owed += rate * touched.elapsed().min(CATCH_UP).as_secs_f64();
                touched = Instant::now();
                let Some(done) = taken.touch(owed, &mut leash)? else { return Ok(()) };
                // What could not be done in time is not owed for ever.
                let most = (rate * CATCH_UP.as_secs_f64()).max(PAGE as f64);
                owed = (owed - done as f64).min(most);
                std::thread::sleep(LOOK.saturating_sub(touched.elapsed()));
            }
        }
    }
    Ok(())
}

/// Bytes that are to be taken so long after the start.
fn due(task: &Task, after: Duration) -> u64 {
    let share = (task.bytes as f64 * task.rise.share(after)) as u64;
    share.max(FIRST).min(task.bytes)
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// So many bytes more.
    Take(u64),
    /// All that is due is taken.
    Keep,
    /// The floor is reached: no more will be taken.
    Floor,
    /// Less than the floor is available, by what others took meanwhile. No more will be taken.
    GiveBack,
}

/// `due` bytes more are due, and then nothing, where that is `all`.
fn next_step(due: u64, all: bool, available: u64, floor: u64) -> Step {
    let Some(spare) = available.checked_sub(floor) else { return Step::GiveBack };
    let piece = due.min(PIECE).min(spare);
    if piece >= LEAST || (all && piece > 0 && piece == due) {
        Step::Take(piece)
    } else if due >= LEAST || (all && due > 0) {
        Step::Floor
    } else {
        Step::Keep
    }
}

/// Room for so many bytes, none of which is taken yet; none where the kernel promises it to nobody.
fn room(bytes: u64) -> Option<Vec<u8>> {
    let mut piece = Vec::new();
    piece.try_reserve_exact(usize::try_from(bytes).ok()?).ok()?;
    Some(piece)
}

/// Memory that is really there: every page of it was written.
#[derive(Default)]
struct Taken {
    pieces: Vec<Vec<u8>>,
    bytes: u64,
    /// Where touching goes on: the piece, and how far in it.
    next: (usize, usize),
}

impl Taken {
    /// False where the leash has ended meanwhile.
    fn take(&mut self, mut piece: Vec<u8>, leash: &mut Leash) -> io::Result<bool> {
        // On a busy machine a new page may take the kernel long.
        while piece.len() < piece.capacity() {
            let at = piece.len();
            piece.resize(piece.capacity().min(at + STRETCH), 0);
            write_to(&mut piece[at..]);
            if !leash.holds()? {
                return Ok(false);
            }
        }
        self.bytes += piece.len() as u64;
        self.pieces.push(piece);
        Ok(true)
    }

    /// One piece; false where there is none.
    fn give_back(&mut self) -> bool {
        let Some(piece) = self.pieces.pop() else { return false };
        self.bytes -= piece.len() as u64;
        true
    }

    /// Writes to the pages of so many bytes, from where it stopped last, and stops when it is time to look
    /// around. Says how many; `None` where the leash has ended meanwhile.
    fn touch(&mut self, bytes: f64, leash: &mut Leash) -> io::Result<Option<usize>> {
        let (began, mut done) = (Instant::now(), 0);
        while began.elapsed() < LOOK {
            let wanted = (bytes as usize).saturating_sub(done) / PAGE * PAGE;
            let (piece, from) = self.next;
            let Some(rest) = self.pieces.get_mut(piece).and_then(|piece| piece.get_mut(from..))
            else {
                self.next = (0, 0);
                if self.pieces.is_empty() {
                    break;
                }
                continue;
            };
            let stretch = wanted.min(rest.len()).min(STRETCH);
            if wanted == 0 {
                break;
            }
            write_to(&mut rest[..stretch]);
            done += stretch;
            self.next =
                if stretch == rest.len() { (piece + 1, 0) } else { (piece, from + stretch) };
            if !leash.holds()? {
                return Ok(None);
            }
        }
        Ok(Some(done))
    }
}

/// Writes to every page, so that the kernel takes it for used.
fn write_to(stretch: &mut [u8]) {
    for byte in stretch.iter_mut().step_by(PAGE) {
        *byte = std::hint::black_box(byte.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_never_passed() {
        let floor = 10 * PIECE;
        for (due, all, available, step) in [
            (5 * PIECE, true, 20 * PIECE, Step::Take(PIECE)),
            (7, true, 20 * PIECE, Step::Take(7)),
            (7, false, 20 * PIECE, Step::Keep),
            (LEAST, false, 20 * PIECE, Step::Take(LEAST)),
            (5 * PIECE, true, floor + PIECE - 1, Step::Take(PIECE - 1)),
            (5 * PIECE, true, floor + LEAST - 1, Step::Floor),
            (5 * PIECE, false, floor + LEAST - 1, Step::Floor),
            (7, false, floor + 6, Step::Keep),
            (7, true, floor + 6, Step::Floor),
            (5 * PIECE, true, floor, Step::Floor),
            (0, true, 20 * PIECE, Step::Keep),
            (5 * PIECE, true, floor - 1, Step::GiveBack),
            (0, true, floor - 1, Step::GiveBack),
        ] {
            assert_eq!(next_step(due, all, available, floor), step, "{due} {all} {available}");
        }
    }

    #[test]
    fn what_is_due_rises_from_a_first_part() {
        for (bytes, ramp_ms, after_ms, wanted) in [
            (1 << 30, 0, 0, 1 << 30),
            (1 << 30, 10_000, 0, FIRST),
            (1 << 30, 10_000, 5_000, 1 << 29),
            (1 << 30, 10_000, 10_000, 1 << 30),
            (LEAST, 10_000, 0, LEAST),
        ] {
            let task = Task { bytes, floor: 0, rise: Rise { ramp_ms }, touch_rate: None };
            let due = due(&task, Duration::from_millis(after_ms));
            assert_eq!(due, wanted, "{bytes} {ramp_ms} {after_ms}");
        }
    }
}
