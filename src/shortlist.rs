//! The best few of many, without a sort of all of them and without a list of all of them.

/// Keeps the items with the greatest keys of all that are offered, up to a number.
///
/// It gathers up to twice that number and then drops the worse half, so each offer costs a comparison, and now and then
/// a share of a selection: linear over all, whatever their order.
#[derive(Debug)]
pub struct Shortlist<K, T> {
    max: usize,
    kept: Vec<(K, T)>,
    /// Once so many were seen: the least key that is still of interest.
    bar: Option<K>,
}

// === impl Shortlist ===

impl<K: Ord + Copy, T> Shortlist<K, T> {
    /// An empty list of at most `max` items.
    pub fn new(max: usize) -> Self {
        Self { max, kept: Vec::new(), bar: None }
    }

    /// Takes the item in, if it is among the best so far.
    pub fn offer(&mut self, key: K, item: T) {
        if self.max == 0 || self.bar.is_some_and(|bar| key <= bar) {
            return;
        }
        self.kept.push((key, item));
        if self.kept.len() >= self.max * 2 {
            self.drop_worse();
        }
    }

    /// The items, the best first.
    pub fn into_sorted(mut self) -> impl Iterator<Item = T> {
        self.kept.sort_by(|(a, _), (b, _)| b.cmp(a));
        self.kept.truncate(self.max);
        self.kept.into_iter().map(|(_, item)| item)
    }

    fn drop_worse(&mut self) {
        self.kept.select_nth_unstable_by(self.max - 1, |(a, _), (b, _)| b.cmp(a));
        self.kept.truncate(self.max);
        self.bar = self.kept.last().map(|(key, _)| *key);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // Whatever comes in whatever order, it is what a sort of everything would give.
        #[test]
        fn the_best_are_those_of_a_full_sort(keys in prop::collection::vec(0_u16..300, 0..400), max in 0_usize..20) {
            let mut list = Shortlist::new(max);
            for key in &keys {
                list.offer(*key, *key);
            }
            let mut sorted = keys;
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            sorted.truncate(max);
            prop_assert_eq!(list.into_sorted().collect::<Vec<_>>(), sorted);
        }
    }
}
