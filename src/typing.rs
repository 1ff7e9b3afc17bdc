//! How far a word that somebody wrote is from one that there is: for "did you mean". Used for flags and for the keys of
//! release.json.

/// How many letters must be added, left out, changed or swapped with their neighbour to make one word
/// from the other.
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    // The rows of the usual table: two letters of `a` ago, one ago, and now.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, x) in a.chars().enumerate() {
        let mut row = vec![i.saturating_add(1)];
        for (j, &y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let changed = at(&last, j).saturating_add(usize::from(x != y));
            let left_out = at(&last, j.saturating_add(1)).saturating_add(1);
            let added = at(&row, j).saturating_add(1);
            let mut least = changed.min(left_out).min(added);
            if let Some(earlier) = j.checked_sub(1)
                && previous == Some(y)
                && b.get(earlier) == Some(&x)
            {
                least = least.min(at(&before, earlier).saturating_add(1));
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
        previous = Some(x);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_typing_mistakes() {
        for (a, b, apart) in [
            ("", "", 0),
            ("http", "http", 0),
            ("", "udp", 3),
            ("udp", "", 3),
            ("htpp", "http", 1),
            ("htp", "http", 1),
            ("httpp", "http", 1),
            ("hhtp", "http", 1),
            ("upd", "udp", 1),
            ("tsate", "state", 1),
            ("greace", "grace", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), apart, "{a} {b}");
            assert_eq!(distance(b, a), apart, "{b} {a}");
        }
    }
}
