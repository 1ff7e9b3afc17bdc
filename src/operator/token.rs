//! The operator's token: given by a flag or a file, else made at the first start and kept in the state
//! folder. Opened once by the server room.
//!
//! The surprise: it is never in the log but once, when it was made just now: somebody must learn it. Later
//! a line only says where it lies.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::access::is_token;
use crate::os::fs::{is_not_regular, open_to_read};
use crate::os::process;
use crate::state::{self, StateFolder};

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
    /// `text`, else what is in `file`, else what is in the state folder (made if it is not there; a
    /// damaged one is set aside). The error is a sentence.
    pub fn open(
        text: Option<&str>,
        file: Option<&Path>,
        folder: Option<&StateFolder>,
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
        let for_this_run = || {
            Ok(Token {
                text: random()?,
                source: Source::ForThisRun,
            })
        };
        let Some(folder) = folder else {
            return for_this_run();
        };
        let kept = folder.path().join(FILE);
        if std::fs::symlink_metadata(&kept).is_ok() {
            const COST: &str = "the token of before is not accepted any more";
            match read(&kept) {
                Ok(token) => return Ok(token),
                Err(Wrong::Damaged(why)) if state::set_aside_damaged(&kept, &why, COST) => {}
                Err(Wrong::Damaged(_)) => return for_this_run(),
                // A permission may come back: the file is not replaced.
                Err(wrong) => {
                    log::warn!(
                        target: "operator",
                        "the operator's token in {} {wrong}; another one holds for this run",
                        kept.display()
                    );
                    return for_this_run();
                }
            }
        }
        let text = random()?;
        let written = folder.claim();
        match written.and_then(|()| state::write_atomically(&kept, format!("{text}\n").as_bytes()))
        {
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

/// Why a file holds no token. Ends a sentence that begins with the file.
#[derive(Debug)]
enum Wrong {
    Damaged(String),
    Unreadable(std::io::Error),
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wrong::Damaged(why) => f.write_str(why),
            Wrong::Unreadable(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

/// The first line of a file.
fn read(path: &Path) -> Result<Token, Wrong> {
    let mut text = String::new();
    let read = open_to_read(path).and_then(|file| file.take(1024).read_to_string(&mut text));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(Wrong::Damaged("is not text".to_owned()));
        }
        Err(error) if is_not_regular(&error) => {
            return Err(Wrong::Damaged("is no regular file".to_owned()));
        }
        Err(error) => return Err(Wrong::Unreadable(error)),
    }
    let text = text.trim();
    match is_token(text) {
        true => Ok(Token {
            text: text.to_owned(),
            source: Source::File(path.to_owned()),
        }),
        false => Err(Wrong::Damaged(
            "does not hold 8 to 256 ASCII letters, digits or signs without spaces".to_owned(),
        )),
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
        let folder = StateFolder::new(dir.path());
        let first = Token::open(None, None, Some(&folder)).unwrap();
        assert_eq!(first.source, Source::Made(kept.clone()));
        assert!(first.is_new() && is_token(&first.text) && first.text.len() == 32);
        let mode = std::fs::metadata(&kept).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Token::open(None, None, Some(&folder)).unwrap();
        assert_eq!(second.text, first.text);
        assert_eq!(second.source, Source::File(kept));
    }

    #[test]
    fn a_token_that_is_given_wins() {
        let dir = Scratch::new();
        let file = dir.write("token", b" from-the-file\n");
        let token = Token::open(Some("from-the-flag"), Some(&file), None).unwrap();
        assert_eq!(token.text, "from-the-flag");
        let token = Token::open(None, Some(&file), Some(&StateFolder::new(dir.path()))).unwrap();
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
        }
        let missing = dir.path().join("missing");
        assert!(Token::open(None, Some(&missing), None).is_err());
    }

    // Case 50.
    #[test]
    fn a_damaged_token_in_the_state_is_set_aside_and_made_anew() {
        for bytes in [
            &b""[..],
            b"abc",
            b"two words here",
            b"\xff\xfe",
            b"\0\0\0\0\0\0\0\0",
        ] {
            let dir = Scratch::new();
            dir.write(FILE, bytes);
            let folder = StateFolder::new(dir.path());
            let token = Token::open(None, None, Some(&folder)).unwrap();
            assert!(token.is_new() && is_token(&token.text));
            let aside = std::fs::read(dir.path().join("operator-token.damaged")).unwrap();
            assert_eq!(aside, bytes);
            let again = Token::open(None, None, Some(&folder)).unwrap();
            assert_eq!(again.text, token.text);
        }
    }

    #[test]
    fn without_a_state_folder_it_holds_for_this_run() {
        let one = Token::open(None, None, None).unwrap();
        let two = Token::open(None, None, None).unwrap();
        assert_eq!(one.source, Source::ForThisRun);
        assert_ne!(one.text, two.text);
    }
}
