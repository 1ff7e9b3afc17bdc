//! The operator's token: given by a flag or a file, else made at the first start and kept in the state
//! folder. Opened once by the server room.
//!
//! The surprise: it is never in the log but once, when it was made just now: somebody must learn it. Later
//! a line only says where it lies.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::access::is_token;
use crate::os::process;
use crate::state;

/// Its name in the state folder.
pub const FILE: &str = "operator-token";

/// A token, and where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What is sent as `Authorization: Bearer TEXT`.
    pub text: String,
    /// Where it is from.
    pub source: Source,
}

/// Where a token is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag.
    Flag,
    /// This file.
    File(PathBuf),
    /// It was made just now, and is in this file.
    Made(PathBuf),
    /// It was made just now, and will be another one at the next start.
    ForThisRun,
}

impl Token {
    /// `text`, else what is in `file`, else what is in `kept` (made if it is not there). The error is a
    /// sentence.
    pub fn open(
        text: Option<&str>,
        file: Option<&Path>,
        kept: Option<PathBuf>,
    ) -> Result<Token, String> {
        if let Some(text) = text {
            return Ok(Token {
                text: text.to_owned(),
                source: Source::Flag,
            });
        }
        if let Some(file) = file {
            return read(file)
                .map_err(|error| format!("--operator-token-file: {} {error}", file.display()));
        }
        let Some(kept) = kept else {
            return Ok(Token {
                text: random()?,
                source: Source::ForThisRun,
            });
        };
        if std::fs::symlink_metadata(&kept).is_ok() {
            return read(&kept).map_err(|error| {
                format!(
                    "The operator's token in {} {error}; delete the file to have a new one made.",
                    kept.display()
                )
            });
        }
        let text = random()?;
        match state::write_atomically(&kept, format!("{text}\n").as_bytes()) {
            Ok(()) => Ok(Token {
                text,
                source: Source::Made(kept),
            }),
            // A full disk must not keep the server from its modules.
            Err(error) => {
                log::warn!(
                    target: "operator",
                    "the operator's token cannot be kept in {}: {error}; it holds for this run only",
                    kept.display()
                );
                Ok(Token {
                    text,
                    source: Source::ForThisRun,
                })
            }
        }
    }

    /// Was it made at this start?
    pub fn is_new(&self) -> bool {
        matches!(self.source, Source::Made(_) | Source::ForThisRun)
    }
}

/// The first line of a file. The error ends a sentence that begins with the file.
fn read(path: &Path) -> Result<Token, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(1024).read_to_string(&mut text));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err("is not text".to_owned());
        }
        Err(error) => return Err(format!("cannot be read: {error}")),
    }
    let text = text.trim();
    match is_token(text) {
        true => Ok(Token {
            text: text.to_owned(),
            source: Source::File(path.to_owned()),
        }),
        false => {
            Err("does not hold 8 to 256 ASCII letters, digits or signs without spaces".to_owned())
        }
    }
}

/// 128 random bits as 32 hexadecimal digits.
pub(super) fn random() -> Result<String, String> {
    let mut bytes = [0; 16];
    process::random(&mut bytes).map_err(|error| {
        format!(
            "there are no random numbers to make the operator's token of ({error}): give one with \
             --operator-token-file, or say --operator off"
        )
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_can_read_it() {
        let dir = Scratch::new();
        let kept = dir.path().join(FILE);
        let first = Token::open(None, None, Some(kept.clone())).unwrap();
        assert_eq!(first.source, Source::Made(kept.clone()));
        assert!(first.is_new() && is_token(&first.text) && first.text.len() == 32);
        let mode = std::fs::metadata(&kept).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Token::open(None, None, Some(kept.clone())).unwrap();
        assert_eq!(second.text, first.text);
        assert_eq!(second.source, Source::File(kept));
    }

    #[test]
    fn a_token_that_is_given_wins() {
        let dir = Scratch::new();
        let file = dir.write("token", b" from-the-file\n");
        let token = Token::open(Some("from-the-flag"), Some(&file), None).unwrap();
        assert_eq!(token.text, "from-the-flag");
        let token = Token::open(None, Some(&file), Some(dir.path().join(FILE))).unwrap();
        assert_eq!(token.text, "from-the-file");
        assert!(!dir.path().join(FILE).exists());
    }

    #[test]
    fn a_file_without_a_good_token_is_a_sentence() {
        let dir = Scratch::new();
        for (bytes, part) in [
            (&b""[..], "does not hold"),
            (b"short", "does not hold"),
            (b"two words here", "does not hold"),
            (b"\xff\xfe", "not text"),
        ] {
            let file = dir.write("token", bytes);
            let sentence = Token::open(None, Some(&file), None).unwrap_err();
            assert!(sentence.contains(part), "{sentence}");
            let sentence = Token::open(None, None, Some(file)).unwrap_err();
            assert!(sentence.contains("delete the file"), "{sentence}");
        }
        let missing = dir.path().join("missing");
        assert!(Token::open(None, Some(&missing), None).is_err());
    }

    #[test]
    fn without_a_state_folder_it_holds_for_this_run() {
        let one = Token::open(None, None, None).unwrap();
        let two = Token::open(None, None, None).unwrap();
        assert_eq!(one.source, Source::ForThisRun);
        assert_ne!(one.text, two.text);
    }
}
