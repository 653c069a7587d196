//! Chance that can be repeated: everything random is drawn from a seed that somebody passes in.

/// SplitMix64 (Steele, Lea and Flood 2014): small, and the same on every machine for ever. Not for
/// secrets.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the halves are folded on purpose")]
    pub fn new(seed: u128) -> Dice {
        Dice((seed >> 64) as u64 ^ (seed as u64).rotate_left(17))
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, or 0 where `n` is 0. By multiplication; the bias is below 2^-32 for any
    /// `n` that fits a fleet.
    pub fn below(&mut self, n: usize) -> usize {
        let wide = u128::from(self.roll()) * n as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// `count` of `from`, in the order of `from`; all of them where there are fewer.
    pub fn pick<T: Clone>(&mut self, from: &[T], count: usize) -> Vec<T> {
        let mut order: Vec<usize> = (0..from.len()).collect();
        let count = count.min(from.len());
        for i in 0..count {
            let other = i + self.below(from.len() - i);
            order.swap(i, other);
        }
        order.truncate(count);
        order.sort_unstable();
        order.into_iter().map(|i| from[i].clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_falls_the_same_way_and_each_is_picked_some_time() {
        let from: Vec<u8> = (0..10).collect();
        assert_eq!(Dice::new(7).pick(&from, 3), Dice::new(7).pick(&from, 3));
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let picked = Dice::new(seed).pick(&from, 3);
            assert!(picked.len() == 3 && picked.windows(2).all(|w| w[0] < w[1]), "{picked:?}");
            seen.extend(picked);
        }
        assert_eq!(seen.len(), from.len());
        assert_eq!(Dice::new(1).pick(&from, 99), from);
    }
}
