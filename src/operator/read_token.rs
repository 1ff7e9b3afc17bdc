//! The read token: a second token that reads `/api` and `/metrics` and changes nothing, for Prometheus and
//! for people who only look. Made at the first start and kept in the state folder, where the group of the
//! service may read it. Opened once by the server.
//!
//! Nothing about it stops the server. Where the file cannot be written now, it is written as soon as the state
//! folder can be. A file that is there and cannot be read is not replaced: then there is no read token, and the
//! operator's token is needed for reading, too.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::access::is_token;
use crate::state;

/// Its name in the state folder.
pub const FILE: &str = "read-token";

/// Its permissions: the owner reads and writes, the group of the service reads.
pub const MODE: u32 = 0o640;

/// A read token and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadToken {
    /// What is sent as `Authorization: Bearer TEXT`.
    pub text: String,
    /// Where it is kept.
    pub file: PathBuf,
    /// It was made at this start.
    pub is_new: bool,
    /// It could not be written, and is to be kept later.
    pub is_unsaved: bool,
}

impl ReadToken {
    /// The token in `file`, made if it is not there; `None`, with a warning in the log, if the file is there
    /// and cannot be used. A damaged file is renamed to `read-token.damaged` and a new one made.
    pub fn open(file: PathBuf) -> Option<ReadToken> {
        match ReadToken::try_open(&file) {
            Ok(token) => Some(token),
            Err(error) => {
                log::warn!(
                    target: "operator",
                    "there is no read token, because {} cannot be used ({error}): reading needs the \
                     operator's token",
                    file.display()
                );
                None
            }
        }
    }

    fn try_open(file: &Path) -> io::Result<ReadToken> {
        let token = |text, is_new, is_unsaved| ReadToken {
            text,
            file: file.to_owned(),
            is_new,
            is_unsaved,
        };
        match read(file) {
            Ok(Some(text)) => return Ok(token(text, false, false)),
            Ok(None) => {
                let damaged = file.with_extension("damaged");
                std::fs::rename(file, &damaged)?;
                log::warn!(
                    target: "operator",
                    "the read token in {} was damaged: it is in {} now, and a new one was made",
                    file.display(),
                    damaged.display()
                );
            }
            Err(error) if std::fs::symlink_metadata(file).is_ok() => return Err(error),
            Err(_) => {}
        }
        let text = super::token::random().map_err(io::Error::other)?;
        let written = state::write_with_mode(file, format!("{text}\n").as_bytes(), MODE);
        if let Err(error) = &written {
            log::warn!(
                target: "operator",
                "the read token cannot be written to {} now ({error}): that is tried again",
                file.display()
            );
        }
        Ok(token(text, true, written.is_err()))
    }
}

/// The token in a file; `None` if the file holds none, or is no regular file.
fn read(path: &Path) -> io::Result<Option<String>> {
    let file = OpenOptions::new()
        .read(true)
        // A FIFO would be waited for otherwise.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(1024).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    let text = text.trim();
    Ok(is_token(text).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_made_once_and_the_group_may_read_it() {
        let dir = Scratch::new();
        let file = dir.path().join(FILE);
        let first = ReadToken::open(file.clone()).unwrap();
        assert!(first.is_new && is_token(&first.text));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let second = ReadToken::open(file).unwrap();
        assert_eq!((second.text, second.is_new), (first.text, false));
    }

    #[test]
    fn a_damaged_one_is_set_aside_and_made_anew() {
        for bytes in [&b""[..], b"abc", b"two words here", b"\xff\xfe\0", &[0; 64]] {
            let dir = Scratch::new();
            let file = dir.write(FILE, bytes);
            let token = ReadToken::open(file.clone()).unwrap();
            assert!(token.is_new);
            let aside = std::fs::read(dir.path().join("read-token.damaged")).unwrap();
            assert_eq!(aside, bytes);
            assert_eq!(ReadToken::open(file).unwrap().text, token.text);
        }
        let dir = Scratch::new();
        std::fs::create_dir(dir.path().join(FILE)).unwrap();
        assert!(ReadToken::open(dir.path().join(FILE)).unwrap().is_new);
    }

    #[test]
    fn where_it_cannot_be_written_it_is_to_be_kept_later() {
        let dir = Scratch::new();
        let file = dir.write("in-the-way", b"");
        let token = ReadToken::open(file.join(FILE)).unwrap();
        assert!(token.is_new && token.is_unsaved && is_token(&token.text));
        let token = ReadToken::open(dir.path().join(FILE)).unwrap();
        assert!(token.is_new && !token.is_unsaved);
    }

    #[test]
    fn a_file_that_is_there_and_cannot_be_read_is_not_replaced() {
        let dir = Scratch::new();
        let file = dir.path().join(FILE);
        std::os::unix::fs::symlink(FILE, &file).unwrap();
        assert_eq!(ReadToken::open(file.clone()), None);
        assert!(std::fs::symlink_metadata(file).unwrap().is_symlink());
    }
}
