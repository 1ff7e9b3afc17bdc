//! The operator token, which reads and writes, and the read token, for Prometheus and for people who only read. Each is
//! generated at the first start and kept in the state folder, where the group of the service may read the read token.
//!
//! No problem with the state folder stops the server. A damaged file is set aside and replaced. An unreadable file
//! stays, because its permission may be restored. A token that cannot be written now is written later.

use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::access::is_token;
use crate::os::fs::{is_not_regular, open_to_read};
use crate::os::process;
use crate::state::{PRIVATE, StateFolder, set_aside_damaged, write_with_mode};

/// Name of the file of the operator token in the state folder.
pub const OPERATOR: &str = "operator-token";

/// Name of the file of the read token in the state folder.
pub const READ: &str = "read-token";

/// Permissions of the read token: the owner reads and writes, the group of the service reads.
pub const READ_MODE: u32 = 0o640;

/// A token and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The text after `Bearer` in `Authorization: Bearer TEXT`.
    pub text: String,
    /// The origin of the token.
    pub source: TokenSource,
}

/// The origin of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// The flag `--operator-token`.
    Flag,
    /// A file at this path.
    File(PathBuf),
    /// Generated at this start and written to its file.
    Generated,
    /// Generated at this start and not written; the next start generates another one.
    Unsaved,
}

impl Token {
    /// Returns the operator token: `text`, otherwise the content of `file`, otherwise that of the state folder. The
    /// error is a sentence.
    pub fn operator(
        text: Option<&str>,
        file: Option<&Path>,
        folder: &StateFolder,
    ) -> Result<Token, String> {
        if let Some(text) = text {
            return Ok(Token {
                text: text.to_owned(),
                source: TokenSource::Flag,
            });
        }
        if let Some(file) = file {
            return Token::read_file(file)
                .map_err(|error| format!("--operator-token-file: {} {error}", file.display()));
        }
        let token = Token::load_or_generate(folder, OPERATOR, PRIVATE).or_else(|error| {
            log::warn!(
                target: "operator",
                "the operator token in {} {error}; another one is valid for this run",
                folder.path().join(OPERATOR).display()
            );
            Token::generate()
        });
        token.map_err(|error| {
            format!(
                "there are no random numbers for an operator token ({error}): give one with \
                 --operator-token-file, or use --operator off"
            )
        })
    }

    /// Returns the read token of the state folder; `None`, with a warning in the log, if its file cannot be used.
    pub fn reader(folder: &StateFolder) -> Option<Token> {
        let token = Token::load_or_generate(folder, READ, READ_MODE).inspect_err(|error| {
            log::warn!(
                target: "operator",
                "there is no read token, because {} cannot be used ({error}): reading needs the operator token",
                folder.path().join(READ).display()
            );
        });
        token.ok()
    }

    /// Whether the token was generated at this start.
    pub fn is_new(&self) -> bool {
        matches!(self.source, TokenSource::Generated | TokenSource::Unsaved)
    }

    /// Returns the token in a file of the state folder. Generates one if the file is missing or damaged.
    fn load_or_generate(folder: &StateFolder, name: &str, mode: u32) -> io::Result<Token> {
        const CONSEQUENCE: &str = "the former token is no longer accepted";
        let path = folder.path().join(name);
        if std::fs::symlink_metadata(&path).is_ok() {
            match Token::read_file(&path) {
                Err(error)
                    if error.kind() == ErrorKind::InvalidData
                        && set_aside_damaged(&path, &error, CONSEQUENCE) => {}
                result => return result,
            }
        }
        let token = Token::generate()?;
        let text = format!("{}\n", token.text);
        let claimed = folder.claim();
        match claimed.and_then(|()| write_with_mode(&path, text.as_bytes(), mode)) {
            Ok(()) => Ok(Token {
                source: TokenSource::Generated,
                ..token
            }),
            Err(error) => {
                log::warn!(
                    target: "operator",
                    "the token in {} cannot be written now ({error}): the server tries again; until then it \
                     is valid for this run only",
                    path.display()
                );
                Ok(token)
            }
        }
    }

    /// Reads the token in a file. Fails with [`ErrorKind::InvalidData`] if the file is damaged.
    fn read_file(path: &Path) -> io::Result<Token> {
        let damaged = |why| Err(io::Error::new(ErrorKind::InvalidData, why));
        let mut text = String::new();
        let read = open_to_read(path).and_then(|file| file.take(1024).read_to_string(&mut text));
        match read {
            Ok(_) if is_token(text.trim()) => Ok(Token {
                text: text.trim().to_owned(),
                source: TokenSource::File(path.to_owned()),
            }),
            Ok(_) => {
                damaged("does not contain 8 to 256 ASCII letters, digits or signs without spaces")
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => damaged("is not text"),
            Err(error) if is_not_regular(&error) => damaged("is not a regular file"),
            Err(error) => Err(io::Error::other(format!("cannot be read: {error}"))),
        }
    }

    /// Generates a token: 128 random bits as 32 hexadecimal digits.
    fn generate() -> io::Result<Token> {
        let mut bytes = [0; 16];
        process::random(&mut bytes)?;
        Ok(Token {
            text: format!("{:032x}", u128::from_be_bytes(bytes)),
            source: TokenSource::Unsaved,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_can_read_it() {
        let dir = Scratch::new();
        let token = dir.path().join(OPERATOR);
        let folder = StateFolder::new(dir.path());
        let first = Token::operator(None, None, &folder).unwrap();
        assert_eq!(first.source, TokenSource::Generated);
        assert!(first.is_new() && is_token(&first.text) && first.text.len() == 32);
        let mode = std::fs::metadata(&token).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Token::operator(None, None, &folder).unwrap();
        assert_eq!(second.text, first.text);
        assert_eq!(second.source, TokenSource::File(token));
    }

    #[test]
    fn a_token_from_a_flag_wins_over_files() {
        let dir = Scratch::new();
        let file = dir.write("token", b" from-the-file\n");
        let folder = StateFolder::new(dir.path());
        let token = Token::operator(Some("from-the-flag"), Some(&file), &folder).unwrap();
        assert_eq!(token.text, "from-the-flag");
        let token = Token::operator(None, Some(&file), &folder).unwrap();
        assert_eq!(token.text, "from-the-file");
        assert!(!dir.path().join(OPERATOR).exists());
    }

    #[test]
    fn a_file_without_a_good_token_gives_a_sentence() {
        let dir = Scratch::new();
        let folder = StateFolder::new(dir.path());
        for (bytes, part) in [
            (&b""[..], "does not contain"),
            (b"short", "does not contain"),
            (b"two words here", "does not contain"),
            (b"\xff\xfe", "not text"),
        ] {
            let file = dir.write("token", bytes);
            let sentence = Token::operator(None, Some(&file), &folder).unwrap_err();
            assert!(sentence.contains(part), "{sentence}");
        }
        let missing = dir.path().join("missing");
        assert!(Token::operator(None, Some(&missing), &folder).is_err());
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
            dir.write(OPERATOR, bytes);
            let folder = StateFolder::new(dir.path());
            let token = Token::operator(None, None, &folder).unwrap();
            assert!(token.is_new() && is_token(&token.text));
            let aside = std::fs::read(dir.path().join("operator-token.damaged")).unwrap();
            assert_eq!(aside, bytes);
            let again = Token::operator(None, None, &folder).unwrap();
            assert_eq!(again.text, token.text);
        }
    }

    #[test]
    fn without_a_state_folder_a_token_is_valid_for_one_run() {
        let dir = Scratch::new();
        let folder = StateFolder::new(&dir.write("in-the-way", b"").join("state"));
        let one = Token::operator(None, None, &folder).unwrap();
        let two = Token::operator(None, None, &folder).unwrap();
        assert_eq!(one.source, TokenSource::Unsaved);
        assert_ne!(one.text, two.text);
    }

    #[test]
    fn a_read_token_is_made_once_and_the_group_may_read_it() {
        let dir = Scratch::new();
        let file = dir.path().join(READ);
        let folder = StateFolder::new(dir.path());
        let first = Token::reader(&folder).unwrap();
        assert!(first.is_new() && is_token(&first.text));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let second = Token::reader(&folder).unwrap();
        assert_eq!((&second.text, second.is_new()), (&first.text, false));
    }

    #[test]
    fn a_damaged_read_token_is_set_aside_and_made_anew() {
        for bytes in [&b""[..], b"abc", b"two words here", b"\xff\xfe\0", &[0; 64]] {
            let dir = Scratch::new();
            dir.write(READ, bytes);
            let folder = StateFolder::new(dir.path());
            let token = Token::reader(&folder).unwrap();
            assert!(token.is_new());
            let aside = std::fs::read(dir.path().join("read-token.damaged")).unwrap();
            assert_eq!(aside, bytes);
            assert_eq!(Token::reader(&folder).unwrap().text, token.text);
        }
        let dir = Scratch::new();
        std::fs::create_dir(dir.path().join(READ)).unwrap();
        let folder = StateFolder::new(dir.path());
        assert!(Token::reader(&folder).unwrap().is_new());
    }

    #[test]
    fn a_read_token_that_cannot_be_written_is_written_later() {
        let dir = Scratch::new();
        let file = dir.write("in-the-way", b"");
        let token = Token::reader(&StateFolder::new(&file)).unwrap();
        assert!(token.source == TokenSource::Unsaved && is_token(&token.text));
        let token = Token::reader(&StateFolder::new(dir.path())).unwrap();
        assert_eq!(token.source, TokenSource::Generated);
    }

    #[test]
    fn a_read_token_that_cannot_be_read_is_not_replaced() {
        let dir = Scratch::new();
        let file = dir.path().join(READ);
        // This file can be opened but not read, even by root.
        std::os::unix::fs::symlink("/proc/self/mem", &file).unwrap();
        assert_eq!(Token::reader(&StateFolder::new(dir.path())), None);
        assert!(std::fs::symlink_metadata(file).unwrap().is_symlink());
    }
}
