//! Alignment: which items of one sequence are which of another.
//!
//! - Pairs are in order in both, and of equal items: what is in no pair was removed or added.
//! - Two sequences are aligned the same way whichever is named first.
//! - The cost is bounded by the lengths, not by a clock: the same sequences align alike on every machine. There are as many
//!   pairs as can be, unless that takes too long to find out.
//!
//! E. W. Myers, "An O(ND) Difference Algorithm and Its Variations", 1986.

use std::hash::Hash;

use similar::{Algorithm, DiffOp, capture_diff_slices};

/// The positions of the items that are in both sequences.
pub(super) fn align<T: Hash + Ord>(a: &[T], b: &[T]) -> Vec<(usize, usize)> {
    if (b.len(), b) < (a.len(), a) {
        return align(b, a).into_iter().map(|(in_b, in_a)| (in_a, in_b)).collect();
    }
    let mut pairs = Vec::with_capacity(a.len());
    for operation in capture_diff_slices(Algorithm::Myers, a, b) {
        if let DiffOp::Equal { old_index, new_index, len } = operation {
            pairs.extend((0..len).map(|offset| (old_index + offset, new_index + offset)));
        }
    }
    pairs
}

/// The same again, by another measure, for what is between the pairs that are there already.
pub(super) fn align_between<T: Hash + Ord>(pairs: &[(usize, usize)], a: &[T], b: &[T]) -> Vec<(usize, usize)> {
    let mut all = Vec::with_capacity(a.len());
    let (mut next_a, mut next_b) = (0, 0);
    for &(in_a, in_b) in pairs.iter().chain([&(a.len(), b.len())]) {
        let between = align(&a[next_a..in_a], &b[next_b..in_b]);
        all.extend(between.into_iter().map(|(x, y)| (next_a + x, next_b + y)));
        all.push((in_a, in_b));
        (next_a, next_b) = (in_a + 1, in_b + 1);
    }
    all.pop();
    all
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    /// The length of the longest common subsequence, by the textbook.
    fn longest(a: &[u8], b: &[u8]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for x in a {
            let mut diagonal = 0;
            for (place, y) in b.iter().enumerate() {
                let here = if x == y { diagonal + 1 } else { row[place].max(row[place + 1]) };
                diagonal = std::mem::replace(&mut row[place + 1], here);
            }
        }
        row[b.len()]
    }

    #[test]
    fn what_moved_up_is_not_taken_for_changed() {
        assert_eq!(align(&words("abc"), &words("xabc")), [(0, 1), (1, 2), (2, 3)]);
        assert_eq!(align(&words("abcd"), &words("acd")), [(0, 0), (2, 1), (3, 2)]);
        assert_eq!(align(&words("ab"), &words("ba")).len(), 1);
        assert_eq!(align::<char>(&[], &words("a")), []);
    }

    #[test]
    fn a_coarser_measure_leaves_pairs_as_they_are() {
        let (a, b) = (["x1", "y2", "x3"], ["x4", "x3", "y5"]);
        let pairs = align(&a, &b);
        assert_eq!(pairs, [(2, 1)]);
        let letter = |word: &&str| word.chars().next();
        assert_eq!(align_between(&pairs, &a.each_ref().map(letter), &b.each_ref().map(letter)), [(0, 0), (2, 1)]);
    }

    /// All different, one repeated without end, in reverse, in another order: none of them takes the square of the length.
    #[test]
    fn long_sequences_align_soon() {
        let numbers: Vec<u32> = (0..20_000).collect();
        let others: Vec<u32> = (20_000..40_000).collect();
        let reverse: Vec<u32> = (0..20_000).rev().collect();
        let shuffled: Vec<u32> = (0..20_000).map(|number| (number * 7_919) % 20_000).collect();
        let few: Vec<u32> = (0..20_000_u32).map(|number| number.wrapping_mul(2_654_435_761) >> 30).collect();
        let start = std::time::Instant::now();
        assert_eq!(align(&numbers, &others), []);
        for (a, b) in [(&numbers, &reverse), (&numbers, &shuffled), (&few, &reverse), (&few, &shuffled)] {
            check(a, b);
        }
        assert!(start.elapsed().as_secs() < 60, "elapsed={:?}", start.elapsed());
    }

    fn check<T: Hash + Ord + std::fmt::Debug>(a: &[T], b: &[T]) {
        let pairs = align(a, b);
        assert!(pairs.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
        assert!(pairs.iter().all(|(in_a, in_b)| a[*in_a] == b[*in_b]));
        let mirrored: Vec<_> = align(b, a).into_iter().map(|(in_b, in_a)| (in_a, in_b)).collect();
        assert_eq!(mirrored, pairs);
    }

    proptest! {
        #[test]
        fn short_sequences_align_as_well_as_can_be(a in vec(0_u8..4, 0..40), b in vec(0_u8..4, 0..40)) {
            check(&a, &b);
            prop_assert_eq!(align(&a, &b).len(), longest(&a, &b));
            prop_assert_eq!(align(&a, &a).len(), a.len());
        }
    }
}
