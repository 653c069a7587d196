//! Parts of a world that many worlds share, each with its fingerprint.
//!
//! A fingerprint tells states apart by what can follow from them. A moment is therefore hashed as its
//! distance from now, by the clock of the host that it belongs to, wherever it stands: two states
//! that differ in nothing but how much time has passed before are one. What lies further back than
//! [`LONG_AGO_MS`] is alike.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use squall_core::time::Time;

/// Ages on hosts beyond this count as one: nothing there waits longer than a lease.
pub const LONG_AGO_MS: i64 = 5_000;
/// Hosts whose moments are recognised, at most.
pub const MAX_CLOCKS: usize = 4;
/// Where the number of its clock stands in a moment.
const CLOCK_SHIFT: u32 = 44;

/// The moment at which the clock of number `clock` starts. Moments of different clocks lie so far
/// apart that each tells whose it is.
#[must_use]
pub fn epoch(clock: usize) -> Time {
    Time((clock as u64 + 1) << CLOCK_SHIFT | 1 << (CLOCK_SHIFT - 1))
}

/// How far each host's clock has come since its epoch, in milliseconds.
pub type Clocks = [u64; MAX_CLOCKS];

/// A 128-bit hasher that sees moments as distances. Good enough that of a hundred million states no
/// two are likely to meet (one chance in 10^22).
pub struct Fingerprint {
    state: u128,
    clocks: Clocks,
}

impl Fingerprint {
    /// An empty one.
    #[must_use]
    pub fn new(clocks: Clocks) -> Fingerprint {
        Fingerprint { state: 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, clocks }
    }

    /// All 128 bits.
    #[must_use]
    pub fn finish128(&self) -> u128 {
        let mixed = (self.state ^ (self.state >> 67)).wrapping_mul(MULTIPLIER);
        mixed ^ (mixed >> 61)
    }

    fn word(&mut self, word: u64) {
        self.state = (self.state ^ u128::from(word)).wrapping_mul(MULTIPLIER).rotate_right(59);
    }

    /// A moment as its distance from now, anything else as it is.
    fn relative(&self, word: u64) -> u64 {
        let clock = (word >> CLOCK_SHIFT).wrapping_sub(1) as usize;
        let Some(passed) = self.clocks.get(clock) else { return word };
        let now = epoch(clock).plus(*passed);
        let distance = word.wrapping_sub(now.0).cast_signed().max(-LONG_AGO_MS);
        distance.cast_unsigned() ^ 1 << 63
    }
}

const MULTIPLIER: u128 = 0x2d35_8dcc_aa6c_78a5_8bb8_4b93_962e_acc9;

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.finish128() as u64
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word) ^ (chunk.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.word(u64::from(word));
    }

    fn write_u16(&mut self, word: u16) {
        self.word(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.word(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.word(self.relative(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.word(word as u64);
    }
}

/// A value that is copied when it is changed, and remembers its fingerprint.
#[derive(Debug)]
pub struct Shared<T>(Rc<Slot<T>>);

#[derive(Clone, Debug)]
struct Slot<T> {
    value: T,
    fingerprint: Cell<Option<(Clocks, u128)>>,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(Rc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        let slot = Rc::make_mut(&mut self.0);
        slot.fingerprint.set(None);
        &mut slot.value
    }
}

impl<T> Shared<T> {
    /// Shares `value`.
    pub fn new(value: T) -> Shared<T> {
        Shared(Rc::new(Slot { value, fingerprint: Cell::new(None) }))
    }

    /// A copy of the value.
    #[must_use]
    pub fn clone_value(&self) -> T
    where
        T: Clone,
    {
        self.0.value.clone()
    }

    /// Whether only one world has it.
    #[must_use]
    pub fn is_single(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl<T: Hash> Shared<T> {
    /// The fingerprint of the value as things stand now.
    #[must_use]
    pub fn fingerprint(&self, clocks: Clocks) -> u128 {
        if let Some((at, known)) = self.0.fingerprint.get()
            && at == clocks
        {
            return known;
        }
        let mut hasher = Fingerprint::new(clocks);
        self.0.value.hash(&mut hasher);
        let fingerprint = hasher.finish128();
        self.0.fingerprint.set(Some((clocks, fingerprint)));
        fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(time: Time, passed_ms: u64) -> u128 {
        Shared::new(time).fingerprint([passed_ms, 7, 8, 9])
    }

    #[test]
    fn a_moment_is_its_distance_from_now() {
        assert_eq!(of(epoch(0).plus(5), 5), of(epoch(0).plus(9), 9));
        assert_ne!(of(epoch(0).plus(5), 5), of(epoch(0).plus(6), 5));
        assert_ne!(of(epoch(0), 0), of(epoch(0), 4_999));
        assert_eq!(of(epoch(0), 5_000), of(epoch(0), 3_600_000));
    }

    #[test]
    fn each_host_has_its_own_clock() {
        let age = |clock: usize| of(epoch(clock), 5);
        assert_eq!((age(1), age(2)), (of(epoch(1), 99), of(epoch(2), 99)));
        assert_ne!(age(0), age(1));
    }

    #[test]
    fn what_is_no_moment_is_hashed_as_it_is() {
        assert_ne!(of(Time(7), 0), of(Time(8), 0));
        assert_eq!(of(Time(7), 0), of(Time(7), 99));
        assert_eq!(of(Time::FAR, 0), of(Time::FAR, 99));
    }

    #[test]
    fn a_change_changes_one_copy_and_its_fingerprint() {
        let a = Shared::new(vec![1_u8]);
        let before = a.fingerprint([0; MAX_CLOCKS]);
        let mut b = a.clone();
        b.push(2);
        assert_eq!((a.len(), a.fingerprint([0; MAX_CLOCKS])), (1, before));
        assert_ne!(b.fingerprint([0; MAX_CLOCKS]), before);
    }
}
