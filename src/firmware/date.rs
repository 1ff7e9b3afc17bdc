//! Recognises dates in names and versions, which are build stamps (`20250901`, `202509011200`). Used by [`super::name`]
//! and [`super::version`].

/// Whether the text is a date such as `20250901`, optionally followed by the hour, or the hour, minute and second.
pub(super) fn is_date(text: &str) -> bool {
    let Some((date, time)) = text.split_at_checked(8) else {
        return false;
    };
    let within = |range: std::ops::Range<usize>, from: u32, to: u32| {
        let number = date.get(range).and_then(|digits| digits.parse().ok());
        number.is_some_and(|number: u32| (from..=to).contains(&number))
    };
    date.bytes().all(|byte| byte.is_ascii_digit())
        && within(0..4, 2000, 2099)
        && within(4..6, 1, 12)
        && within(6..8, 1, 31)
        && (time.is_empty() || time.len() == 2 || is_time(time))
        && time.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the text is a time such as `1200` or `120000`.
pub(super) fn is_time(text: &str) -> bool {
    let two = |at: usize, most: u32| {
        let digits = text.get(at..at.saturating_add(2));
        let number = digits.and_then(|digits| digits.parse().ok());
        number.is_some_and(|number: u32| number <= most)
    };
    text.bytes().all(|byte| byte.is_ascii_digit())
        && matches!(text.len(), 4 | 6)
        && two(0, 23)
        && two(2, 59)
        && (text.len() == 4 || two(4, 59))
}
