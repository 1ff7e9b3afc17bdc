//! Tokens of several people: the file `operator-tokens` in the state folder, written by a person. Each line has a name,
//! a token, and `read` if the token only reads. A change of the file takes effect as soon as it is written.
//!
//! An invalid line grants no access, and the log states its number. The log never shows a token.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::access::{NamedToken, OPERATOR_NAME, READ_NAME, is_token};
use crate::os::fs::{self, FileStamp, open_to_read};

/// Name of the file in the state folder.
pub const FILE: &str = "operator-tokens";

/// Names with another meaning in the list of changes.
const RESERVED: [&str; 4] = [OPERATOR_NAME, READ_NAME, "command", "fuse"];

/// Length of the longest file, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Maximum number of characters in a name.
const MAX_NAME: usize = 64;

/// Returns the tokens of the file in this folder; none if the file does not exist or cannot be used. Logs problems.
/// Blocks.
pub fn read(folder: &Path) -> Vec<NamedToken> {
    let path = folder.join(FILE);
    let text = match open_to_read(&path).and_then(|file| read_private(&file)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            log::error!(
                target: "operator",
                "no token of {} is accepted: {error}", path.display()
            );
            return Vec::new();
        }
    };
    let (tokens, problems) = parse(&text);
    for problem in problems {
        log::error!(target: "operator", "{}: {problem}", path.display());
    }
    log::info!(target: "operator", tokens = tokens.len(); "{} was read", path.display());
    tokens
}

/// Returns the stamp of the file; `None` if the file does not exist or cannot be read.
pub fn stamp(folder: &Path) -> Option<FileStamp> {
    let file = open_to_read(&folder.join(FILE)).ok()?;
    fs::stamp(&file).ok()
}

/// Returns the text of a file. Fails if other users can use the file, or if it is too long.
fn read_private(file: &File) -> io::Result<String> {
    let refused = |why: &str| Err(io::Error::other(why));
    let metadata = file.metadata()?;
    if metadata.mode() & 0o007 != 0 {
        return refused("other users of this machine can use it; run chmod 600 on it");
    }
    if metadata.len() > LONGEST {
        return refused("it is longer than 64 KiB");
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// Parses the tokens of a text. Also returns a sentence about each invalid line.
fn parse(text: &str) -> (Vec<NamedToken>, Vec<String>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut tokens: Vec<NamedToken> = Vec::new();
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let token = match words[..] {
            [] => continue,
            [first, ..] if first.starts_with('#') => continue,
            [name, text] => token(&tokens, name, text, false),
            [name, text, "read"] => token(&tokens, name, text, true),
            [_] => Err("a name and a token are needed"),
            _ => Err("after name and token, only `read` is allowed"),
        };
        match token {
            Ok(token) => tokens.push(token),
            Err(why) => problems.push(format!("line {number} is not accepted: {why}")),
        }
    }
    (tokens, problems)
}

/// Parses the token of a line. `before`: the tokens of the lines before.
fn token(
    before: &[NamedToken],
    name: &str,
    text: &str,
    is_reader: bool,
) -> Result<NamedToken, &'static str> {
    if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err("the name is longer than 64 characters or has control characters");
    }
    if RESERVED.contains(&name) {
        return Err("the names operator, read, command and fuse are reserved");
    }
    if !is_token(text) {
        return Err("the token must have 8 to 256 ASCII letters, digits or signs");
    }
    if before.iter().any(|other| other.name == name) {
        return Err("an earlier line has the same name");
    }
    if before.iter().any(|other| other.text == text) {
        return Err("an earlier line has the same token");
    }
    Ok(NamedToken {
        name: name.to_owned(),
        text: text.to_owned(),
        is_reader,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn each_good_line_is_a_token_and_each_bad_one_is_reported_and_ignored() {
        let text = "\u{feff}# who may what\n\n alice\ttoken-of-alice \r\n\u{5f20}\u{4e09} token-of-zhang read\n\
                    bob\ncarol short\ndave token-of-dave write\nalice another-token\nerin token-of-alice\n\
                    operator token-of-nobody\nfrank token-of-frank read more\ngrace t\u{f6}ken-of-grace\n";
        let (tokens, problems) = parse(text);
        let named = |name: &str, text: &str, is_reader| NamedToken {
            name: name.to_owned(),
            text: text.to_owned(),
            is_reader,
        };
        assert_eq!(
            tokens,
            [
                named("alice", "token-of-alice", false),
                named("\u{5f20}\u{4e09}", "token-of-zhang", true)
            ]
        );
        let lines: Vec<&str> = problems
            .iter()
            .filter_map(|problem| problem.split_whitespace().nth(1))
            .collect();
        assert_eq!(
            lines,
            ["5", "6", "7", "8", "9", "10", "11", "12"],
            "{problems:?}"
        );
        let all = problems.concat();
        assert!(!all.contains("token-of") && !all.contains("short"), "{all}");
    }

    #[test]
    fn a_file_that_others_can_read_gives_no_token() {
        let folder = Scratch::new();
        assert!(super::read(folder.path()).is_empty());
        folder.write(FILE, b"alice token-of-alice\n");
        let path = folder.path().join(FILE);
        for (mode, count) in [(0o600, 1), (0o640, 1), (0o644, 0), (0o602, 0), (0o400, 1)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(super::read(folder.path()).len(), count, "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, vec![b'#'; 70_000]).unwrap();
        assert!(super::read(folder.path()).is_empty());
    }
}
