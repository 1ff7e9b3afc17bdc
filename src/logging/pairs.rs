//! The short way for the line that every check writes: pairs of texts, put into the buffer as they are. The same
//! bytes as by way of the `log` crate, for a tenth of the work; every other line goes that way.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::line::{Clock, Escape, VALUE, write_json_text};
use super::{Format, format, put};
use crate::decimal::{self, decimal};

/// A value.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// A text.
    Text(&'a str),
    /// A text in pieces.
    Pieces(&'a [&'a str]),
    /// An address and its port.
    Address(SocketAddr),
    /// A number.
    Number(u64),
    /// A time, in seconds with one decimal, which is left out if it is 0.
    Seconds(Duration),
}

/// Logs a line of level "info" without a message.
pub fn info(event: &'static str, pairs: &[(&'static str, Shown<'_>)]) {
    let level = log::Level::Info;
    // None of our own events is kept quiet (`Logger::enabled`).
    if level <= log::max_level() {
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
            Shown::Number(number) => write_number(buffer, *number),
            Shown::Seconds(time) => write_seconds(buffer, *time),
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
            write_number(buffer, address.port().into());
        }
        IpAddr::V6(_) => {
            // Writing to a Vec cannot fail.
            let _ = write!(buffer, "{address}");
        }
    }
    buffer.extend(quote.then_some(b'"'));
}

fn write_seconds(buffer: &mut Vec<u8>, time: Duration) {
    let rounded = time.saturating_add(Duration::from_millis(50));
    write_number(buffer, rounded.as_secs());
    let tenths = rounded.subsec_millis() / 100;
    if tenths > 0 {
        buffer.push(b'.');
        write_number(buffer, tenths.into());
    }
}

fn write_number(buffer: &mut Vec<u8>, number: u64) {
    buffer.extend_from_slice(decimal(number, &mut [0; decimal::ROOM]).as_bytes());
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use log::kv::Value;
    use proptest::prelude::*;

    use super::super::line;
    use super::*;

    const NOW: Duration = Duration::from_millis(1_795_420_800_047);

    /// The two ways.
    fn both(
        format: Format,
        text: &str,
        pieces: [&str; 3],
        address: SocketAddr,
        (number, tenths): (u64, u32),
    ) -> [String; 2] {
        let (mut short, mut long) = (Vec::new(), Vec::new());
        let time = UNIX_EPOCH + NOW;
        let ours = [
            ("text", Shown::Text(text)),
            ("pieces", Shown::Pieces(&pieces)),
            ("peer", Shown::Address(address)),
            ("number", Shown::Number(number)),
            (
                "seconds",
                Shown::Seconds(Duration::from_millis(u64::from(tenths) * 100 + 49)),
            ),
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
            ("number", Value::from(number)),
            ("seconds", Value::from(f64::from(tenths) / 10.0)),
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

    proptest! {
        #[test]
        fn the_short_way_says_the_same_as_the_long_one(
            text in any::<String>(),
            pieces in any::<[String; 3]>(),
            repeated in 0_usize..60,
            ip in any::<IpAddr>(),
            port in any::<u16>(),
            number in any::<u64>(),
            tenths in 0_u32..100_000,
        ) {
            let long = pieces[1].repeat(repeated);
            for format in [Format::Text, Format::Json] {
                let pieces = [&*pieces[0], &*long, &*pieces[2]];
                let [short, long] = both(format, &text, pieces, SocketAddr::new(ip, port), (number, tenths));
                prop_assert_eq!(short, long);
            }
        }
    }
}
