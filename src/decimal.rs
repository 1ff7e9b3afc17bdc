//! A number as text, where an allocation or the formatter would be too much: every check writes some.

/// Enough for any number.
pub const ROOM: usize = 20;

/// The number as `to_string` would write it.
pub fn decimal(mut number: u64, room: &mut [u8; ROOM]) -> &str {
    let mut first = room.len();
    for (place, digit) in room.iter_mut().enumerate().rev() {
        let tenth = tenth(number);
        *digit = b'0'.wrapping_add(number.wrapping_sub(tenth.wrapping_mul(10)) as u8);
        first = place;
        number = tenth;
        if number == 0 {
            break;
        }
    }
    let digits = room.get(first..).unwrap_or_default();
    std::str::from_utf8(digits).unwrap_or_default()
}

/// A tenth, rounded down. A build for size divides where a product and a shift do: five times as slow.
fn tenth(number: u64) -> u64 {
    match u32::try_from(number) {
        // 2^35 / 10, rounded up: right for every u32.
        Ok(small) => u64::from(small).wrapping_mul(0xcccc_cccd) >> 35,
        Err(_) => number / 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_everywhere() {
        for number in (0..70_000)
            .chain([999_999_999])
            .chain(u64::from(u32::MAX) - 30..u64::from(u32::MAX) + 30)
            .chain(u64::MAX - 3..=u64::MAX)
        {
            assert_eq!(decimal(number, &mut [0; ROOM]), number.to_string());
        }
    }
}
