//! The read token: a second token that reads `/api` and `/metrics` and changes nothing, for Prometheus and
//! for people who only look. Made at the first start and kept in the state folder, where the group of the
//! service may read it. Opened once by the server.
//!
//! Nothing about it stops the server: without a file that can be read or written there is no read token, and
//! the operator's token is needed for reading, too.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::access::is_token;
use super::token;
use crate::state;

/// Its name in the state folder.
pub const FILE: &str = "read-token";

/// Its permissions: the owner reads and writes, the group of the service reads.
const MODE: u32 = 0o640;

/// A read token and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadToken {
    /// What is sent as `Authorization: Bearer TEXT`.
    pub text: String,
    /// Where it is kept.
    pub file: PathBuf,
    /// It was made at this start.
    pub is_new: bool,
}

impl ReadToken {
    /// The token in `file`, made if it is not there; `None`, with a warning in the log, if it can be neither
    /// read nor made. A damaged file is renamed to `read-token.damaged` and a new one made.
    pub fn open(file: PathBuf) -> Option<ReadToken> {
        match ReadToken::try_open(&file) {
            Ok((text, is_new)) => Some(ReadToken { text, file, is_new }),
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

    fn try_open(file: &Path) -> io::Result<(String, bool)> {
        match read(file) {
            Ok(Some(text)) => return Ok((text, false)),
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
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let text = token::random().map_err(io::Error::other)?;
        state::write_with_mode(file, format!("{text}\n").as_bytes(), MODE)?;
        Ok((text, true))
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
    fn where_it_cannot_be_kept_there_is_none() {
        let dir = Scratch::new();
        let file = dir.write("in-the-way", b"");
        assert_eq!(ReadToken::open(file.join(FILE)), None);
    }
}
