//! Which sequence numbers of one sender were seen.

/// Sequence numbers below the newest that can still be told apart. A sender counts all that it
/// sends to anybody: to 63 peers five times a second this is some ten seconds, so that datagrams
/// which a delay fault held back are late, not refused.
const WIDTH: u64 = 4096;
const WORDS: usize = (WIDTH / 64) as usize;

/// What a window says of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Take it.
    New,
    /// It was taken, or it is too old to say.
    Before,
    /// It belongs to an earlier life of its sender.
    OlderRun,
}

/// The last [`WIDTH`] sequence numbers of the newest run of one sender. Sequence 0 is never sent.
#[derive(Clone, Debug)]
pub(super) struct Window {
    run: u64,
    newest: u64,
    bits: Box<[u64; WORDS]>,
}

impl Default for Window {
    fn default() -> Self {
        Window { run: 0, newest: 0, bits: Box::new([0; WORDS]) }
    }
}

impl Window {
    /// Judges one datagram and remembers it where it is new.
    pub(super) fn take(&mut self, run: u64, sequence: u64) -> Seen {
        if run < self.run {
            return Seen::OlderRun;
        }
        if run > self.run {
            *self = Window { run, ..Window::default() };
        }
        if sequence == 0 || self.newest.saturating_sub(sequence) >= WIDTH {
            return Seen::Before;
        }
        if sequence > self.newest {
            self.advance(sequence);
        }
        let (word, bit) = place(sequence);
        if self.bits[word] & bit != 0 {
            return Seen::Before;
        }
        self.bits[word] |= bit;
        Seen::New
    }

    /// Makes `sequence` the newest; the places between are free again.
    fn advance(&mut self, sequence: u64) {
        if sequence - self.newest >= WIDTH {
            self.bits.fill(0);
        } else {
            for passed in self.newest + 1..=sequence {
                let (word, bit) = place(passed);
                self.bits[word] &= !bit;
            }
        }
        self.newest = sequence;
    }
}

fn place(sequence: u64) -> (usize, u64) {
    let at = sequence % WIDTH;
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_taken_twice_and_nothing_recent_is_refused(
            steps in proptest::collection::vec((0_u64..3, 1_u64..3 * WIDTH), 1..400)
        ) {
            let mut window = Window::default();
            let (mut run, mut taken, mut newest) = (0, BTreeSet::new(), 0);
            for (step_run, sequence) in steps {
                if step_run > run {
                    (run, newest) = (step_run, 0);
                    taken.clear();
                }
                let expected = if step_run < run {
                    Seen::OlderRun
                } else if taken.contains(&sequence) || sequence + WIDTH <= newest {
                    Seen::Before
                } else {
                    Seen::New
                };
                prop_assert_eq!(window.take(step_run, sequence), expected);
                if expected == Seen::New {
                    taken.insert(sequence);
                    newest = newest.max(sequence);
                }
            }
        }
    }

    #[test]
    fn the_ends_of_the_numbers_are_no_trap() {
        let mut window = Window::default();
        assert_eq!(window.take(1, 0), Seen::Before);
        assert_eq!(window.take(u64::MAX, u64::MAX), Seen::New);
        assert_eq!(window.take(u64::MAX, u64::MAX), Seen::Before);
        assert_eq!(window.take(u64::MAX, 1), Seen::Before);
        assert_eq!(window.take(u64::MAX, u64::MAX - WIDTH + 1), Seen::New);
    }
}
