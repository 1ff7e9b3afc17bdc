//! The only sort of the program: used by every room.
//!
//! The standard library's is compiled anew, 4 to 7 kB of it, for each type and each comparison. This one
//! sorts numbers of places instead, and only moves the items themselves at the end.

use std::cmp::Ordering;

/// Sorts; items that compare as equal stay in the order in which they were.
pub fn sort_by<T>(items: &mut [T], compare: impl Fn(&T, &T) -> Ordering) {
    let mut order: Vec<usize> = (0..items.len()).collect();
    sort_places(
        &mut order,
        &|left, right| match (items.get(left), items.get(right)) {
            (Some(left), Some(right)) => compare(left, right),
            _ => Ordering::Equal,
        },
    );
    // `order` says for each place where its item is now; each ring of exchanges is walked once.
    for start in 0..items.len() {
        let mut place = start;
        while let Some(entry) = order.get_mut(place) {
            let from = std::mem::replace(entry, place);
            if from == start {
                break;
            }
            items.swap(place, from);
            place = from;
        }
    }
}

/// Sorts by the items' own order.
pub fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

fn sort_places(places: &mut [usize], compare: &dyn Fn(usize, usize) -> Ordering) {
    places.sort_unstable_by(|&left, &right| compare(left, right).then(left.cmp(&right)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_sorts_as_the_standard_library_does(items in proptest::collection::vec(any::<(u8, u8)>(), 0..200)) {
            let (mut ours, mut theirs) = (items.clone(), items);
            sort_by(&mut ours, |left, right| left.0.cmp(&right.0));
            theirs.sort_by_key(|item| item.0);
            prop_assert_eq!(&ours, &theirs);
            sort(&mut ours);
            theirs.sort();
            prop_assert_eq!(&ours, &theirs);
        }
    }
}
