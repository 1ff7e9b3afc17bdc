//! Parses a `.sha256` or `.md5` file beside a firmware file: `HEX  name` as sha256sum writes it, only the digits, or
//! any other text that contains the right number of digits (BSD's `SHA256 (name) = HEX`, or the table of PowerShell,
//! which is UTF-16).

use crate::firmware::package::Inspected;
use crate::firmware::{ContentId, known};

/// Endings of checksum files, with the dot.
pub const ENDINGS: [&str; 6] = [".sha256", ".md5", ".SHA256", ".MD5", ".Sha256", ".Md5"];

/// Maximum size of a checksum file in bytes.
pub const MAX_BYTES: u64 = 64 * 1024;

/// Checksum in a checksum file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256.
    Sha256([u8; 32]),
    /// MD5.
    Md5([u8; 16]),
}

/// Returns the path of the firmware file that a checksum file belongs to: the path without the last ending.
pub fn subject(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(subject, _)| subject)
}

/// Parses a checksum file. `path` is that of the checksum file. The error is a sentence.
pub fn read(path: &str, bytes: &[u8]) -> Result<Checksum, String> {
    let is_md5 = path.to_ascii_lowercase().ends_with(".md5");
    let subject = subject(path);
    let name = subject.rsplit('/').next().unwrap_or(subject);
    // Without its zeros, UTF-16 text of ASCII characters is ASCII.
    let text: Vec<u8> = bytes.iter().copied().filter(|&byte| byte != 0).collect();
    let text = String::from_utf8_lossy(&text);
    let on_line = |line: &str| {
        line.split(|c: char| !c.is_ascii_alphanumeric())
            .find_map(|word| {
                if is_md5 {
                    known::md5(word).map(Checksum::Md5)
                } else {
                    ContentId::parse(word).map(|id| Checksum::Sha256(id.0))
                }
            })
    };
    let named = text.lines().filter(|line| line.contains(name));
    named.chain(text.lines()).find_map(on_line).ok_or_else(|| {
        let (what, digits) = if is_md5 { ("MD5", 32) } else { ("SHA-256", 64) };
        let own = path.rsplit('/').next().unwrap_or(path);
        format!(
            "{own} beside it contains no {what} ({digits} hexadecimal digits): write it again, or \
                 delete it."
        )
    })
}

impl Checksum {
    /// Fails if the file does not have this checksum. The error is a sentence with both values.
    pub fn check(&self, file: &Inspected) -> Result<(), String> {
        let (ending, wanted, found) = match self {
            Checksum::Sha256(wanted) => ("sha256", wanted.as_slice(), file.content.0.as_slice()),
            Checksum::Md5(wanted) => ("md5", wanted.as_slice(), file.md5.as_slice()),
        };
        if wanted == found {
            return Ok(());
        }
        Err(format!(
            "It does not match the .{ending} beside it, which says {}… and the file has {}…: it is \
             incomplete, or one of the two belongs to another file.",
            first_digits(wanted),
            first_digits(found)
        ))
    }
}

/// Returns the first twelve hexadecimal digits.
fn first_digits(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::package::PackageKind;

    const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

    fn sha256() -> Checksum {
        Checksum::Sha256(ContentId::parse(SHA256).unwrap().0)
    }

    fn md5() -> Checksum {
        Checksum::Md5(known::md5(MD5).unwrap())
    }

    #[test]
    fn every_common_way_to_write_a_checksum_is_read() {
        let upper = SHA256.to_uppercase();
        for text in [
            SHA256.to_string(),
            format!("{SHA256}\n"),
            format!("{upper}  update.bin\n"),
            format!("{SHA256} *update.bin\r\n"),
            format!("\\{SHA256}  update.bin\n"),
            format!("\u{feff}{SHA256}"),
            format!("SHA256 (update.bin) = {SHA256}\n"),
            format!("{}  other.bin\n{SHA256}  update.bin\n", "0".repeat(64)),
            format!("\nAlgorithm  Hash   Path\n---  ---\nSHA256  {upper}  C:\\x\\update.bin\n"),
        ] {
            let read = read("A/1.0.0/update.bin.sha256", text.as_bytes());
            assert_eq!(read, Ok(sha256()), "{text}");
        }
        let wide: Vec<u8> = format!("\u{feff}{SHA256}\r\n")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(read("update.bin.sha256", &wide), Ok(sha256()));
        assert_eq!(read("update.bin.MD5", MD5.as_bytes()), Ok(md5()));
    }

    #[test]
    fn a_file_without_a_checksum_is_refused_with_the_remedy() {
        let cut = SHA256.split_at(63).0;
        for text in ["", "\n", cut, MD5, "not found", &format!("{SHA256}0")] {
            let sentence = read("A/update.bin.sha256", text.as_bytes()).unwrap_err();
            assert!(sentence.starts_with("update.bin.sha256 beside it contains no SHA-256"));
            assert!(sentence.contains("delete it"), "{sentence}");
        }
        assert!(read("update.bin.md5", SHA256.as_bytes()).is_err());
    }

    #[test]
    fn the_error_for_a_mismatch_has_both_values() {
        let file = Inspected {
            content: ContentId([0xab; 32]),
            md5: known::md5(MD5).unwrap(),
            size: 0,
            kind: PackageKind::Generic,
        };
        assert_eq!(md5().check(&file), Ok(()));
        let sentence = sha256().check(&file).unwrap_err();
        assert!(sentence.contains("e3b0c44298fc…"), "{sentence}");
        assert!(sentence.contains("abababababab…"), "{sentence}");
    }

    #[test]
    fn a_checksum_file_belongs_to_the_file_without_the_last_ending() {
        assert_eq!(subject("A/1.0/update.bin.sha256"), "A/1.0/update.bin");
        assert_eq!(subject("A/1.0/update.bin.MD5"), "A/1.0/update.bin");
    }
}
