//! The short way for the line that every check writes: pairs of texts, put into the buffer as they are. The same
//! bytes as by way of the `log` crate, for a tenth of the work; every other line goes that way.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use log::Log as _;

use super::line::{Clock, Escape, VALUE, write_json_text};
use super::{Format, LOGGER, format, put};

/// A value.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// A text.
    Text(&'a str),
    /// A text in pieces.
    Pieces(&'a [&'a str]),
    /// An address and its port.
    Address(SocketAddr),
}

/// Logs a line of level "info" without a message.
pub fn info(event: &'static str, pairs: &[(&'static str, Shown<'_>)]) {
    let level = log::Level::Info;
    // As the macros of `log` ask, in this order.
    let wanted = level <= log::max_level()
        && LOGGER.enabled(&log::Metadata::builder().level(level).target(event).build());
    if wanted {
        put(level, |lines, (clock, time)| {
            write(lines, format(), (clock, time), event, pairs);
        });
    }
}

fn write(
    buffer: &mut Vec<u8>,
    format: Format,
    (clock, time): (&mut Clock, std::time::SystemTime),
    event: &str,
    pairs: &[(&str, Shown<'_>)],
) {
    match format {
        Format::Text => {
            clock.write(buffer, time);
            buffer.extend_from_slice(b" INFO  ");
            buffer.extend_from_slice(event.as_bytes());
        }
        Format::Json => {
            buffer.extend_from_slice(b"{\"time\":\"");
            clock.write(buffer, time);
            buffer.extend_from_slice(b"\",\"level\":\"info\",\"event\":");
            write_json_text(buffer, VALUE, format_args!("{event}"));
        }
    }
    for (key, value) in pairs {
        // The keys are ours: nothing in them needs to be escaped.
        match format {
            Format::Text => {
                buffer.push(b' ');
                buffer.extend_from_slice(key.as_bytes());
                buffer.push(b'=');
            }
            Format::Json => {
                buffer.extend_from_slice(b",\"");
                buffer.extend_from_slice(key.as_bytes());
                buffer.extend_from_slice(b"\":");
            }
        }
        match value {
            Shown::Text(text) => write_pieces(buffer, format, &[text]),
            Shown::Pieces(pieces) => write_pieces(buffer, format, pieces),
            Shown::Address(address) => write_address(buffer, format, *address),
        }
    }
    if format == Format::Json {
        buffer.push(b'}');
    }
    buffer.push(b'\n');
}

fn write_pieces(buffer: &mut Vec<u8>, format: Format, pieces: &[&str]) {
    let start = buffer.len();
    if format == Format::Json {
        buffer.push(b'"');
    }
    let mut escape = Escape::new(buffer, format, VALUE);
    // The error says that it was long enough.
    let _cut = pieces.iter().try_for_each(|piece| escape.write_str(piece));
    let bare = escape.bare;
    match format {
        Format::Text if bare && buffer.len() > start => {}
        Format::Text => {
            buffer.insert(start, b'"');
            buffer.push(b'"');
        }
        Format::Json => buffer.push(b'"'),
    }
}

fn write_address(buffer: &mut Vec<u8>, format: Format, address: SocketAddr) {
    let quote = format == Format::Json;
    buffer.extend(quote.then_some(b'"'));
    match address.ip() {
        IpAddr::V4(ip) => {
            for (place, byte) in ip.octets().into_iter().enumerate() {
                buffer.extend((place > 0).then_some(b'.'));
                write_number(buffer, byte.into());
            }
            buffer.push(b':');
            write_number(buffer, address.port());
        }
        IpAddr::V6(_) => {
            // Writing to a Vec cannot fail.
            let _ = write!(buffer, "{address}");
        }
    }
    buffer.extend(quote.then_some(b'"'));
}

fn write_number(buffer: &mut Vec<u8>, number: u16) {
    let mut power = 10_000;
    while power > 1 && number < power {
        power /= 10;
    }
    while power > 0 {
        buffer.push(b'0'.wrapping_add((number / power % 10) as u8));
        power /= 10;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use log::kv::Value;
    use proptest::prelude::*;

    use super::super::line;
    use super::*;

    const NOW: Duration = Duration::from_millis(1_795_420_800_047);

    /// The two ways.
    fn both(format: Format, text: &str, pieces: [&str; 3], address: SocketAddr) -> [String; 2] {
        let (mut short, mut long) = (Vec::new(), Vec::new());
        let time = UNIX_EPOCH + NOW;
        let ours = [
            ("text", Shown::Text(text)),
            ("pieces", Shown::Pieces(&pieces)),
            ("peer", Shown::Address(address)),
        ];
        write(
            &mut short,
            format,
            (&mut Clock::new(), time),
            "check",
            &ours,
        );
        let whole = pieces.concat();
        let theirs: &[(&str, Value<'_>)] = &[
            ("text", Value::from(text)),
            ("pieces", Value::from(&*whole)),
            ("peer", Value::from_display(&address)),
        ];
        line::write(
            &mut long,
            format,
            (&mut Clock::new(), time),
            &log::Record::builder()
                .level(log::Level::Info)
                .target("check")
                .args(format_args!(""))
                .key_values(&theirs)
                .build(),
        );
        [short, long].map(|line| String::from_utf8(line).unwrap())
    }

    #[test]
    fn numbers_are_written_as_everywhere() {
        for number in 0..=u16::MAX {
            let mut buffer = Vec::new();
            write_number(&mut buffer, number);
            assert_eq!(buffer, number.to_string().as_bytes());
        }
    }

    proptest! {
        #[test]
        fn the_short_way_says_the_same_as_the_long_one(
            text in any::<String>(),
            pieces in any::<[String; 3]>(),
            repeated in 0_usize..60,
            ip in any::<IpAddr>(),
            port in any::<u16>(),
        ) {
            let long = pieces[1].repeat(repeated);
            for format in [Format::Text, Format::Json] {
                let pieces = [&*pieces[0], &*long, &*pieces[2]];
                let [short, long] = both(format, &text, pieces, SocketAddr::new(ip, port));
                prop_assert_eq!(short, long);
            }
        }
    }
}
