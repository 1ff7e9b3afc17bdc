//! A number as text, where an allocation or the formatter would be too much: every check writes some.

/// Enough for any number.
pub const ROOM: usize = 20;

/// The number as `to_string` would write it.
pub fn decimal(mut number: u64, room: &mut [u8; ROOM]) -> &str {
    let mut first = room.len();
    for (place, digit) in room.iter_mut().enumerate().rev() {
        *digit = b'0'.wrapping_add((number % 10) as u8);
        first = place;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let digits = room.get(first..).unwrap_or_default();
    std::str::from_utf8(digits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_everywhere() {
        for number in (0..70_000)
            .chain([999_999_999])
            .chain(u64::MAX - 3..=u64::MAX)
        {
            assert_eq!(decimal(number, &mut [0; ROOM]), number.to_string());
        }
    }
}
