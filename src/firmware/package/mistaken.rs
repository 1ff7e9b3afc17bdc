//! Recognises files that have the name of firmware but are none: archives, factory files, web pages, text
//! (docs/protocol.md 5b).

use crate::firmware::name::pack_command;

/// Refuses a file of no known package kind that is certainly something else. `head` is its first 512 bytes, or all of
/// them. `text` is true if every byte passed [`may_be_text`].
pub(super) fn refuse(name: &str, head: &[u8], text: bool) -> Result<(), String> {
    let sentence = match *head {
        [0x37, 0x7a, 0xbc, 0xaf, ..] | [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => {
            return Err(format!(
                "this is a .soc factory file or an archive (7z, zip): build the package of a factory \
                 file's script with `{}`, or in Luatools choose 生成差分/升级文件 (export the FOTA/upgrade file), \
                 and use the .bin; or unpack the archive",
                pack_command(name)
            ));
        }
        [b'R', b'a', b'r', b'!', 0x1a, 7, ..] => {
            "this is an archive (rar): unpack it and use the .bin in it"
        }
        [b'L', b'F', b'T', b'A', ..] => {
            "this is an LFTA container for a co-processor of the Air8000 (WLAN), which exfotawifi fetches by \
             itself: it is not an update of the module; use the .bin that Luatools exports for updates"
        }
        _ if head.get(0x38..0x3f) == Some(b"pkgmode") => {
            "this is a .binpkg, made for flashing over a cable: in Luatools choose 生成差分/升级文件 (export \
             the FOTA/upgrade file) and use the .bin that it makes"
        }
        _ if is_page(head) => {
            "this is a web page, not firmware: the download probably failed and its error page was saved; \
             download the file again"
        }
        _ if text && is_utf8(head) => match content(head).first() {
            Some(b'{' | b'[') => {
                "this is JSON, not firmware: the download probably failed and the server's answer was saved; \
                 download the file again (rules belong in a file named release.json)"
            }
            _ => {
                "this is text, not firmware: use the binary file that Luatools exports for updates"
            }
        },
        _ => return Ok(()),
    };
    Err(sentence.to_owned())
}

/// Whether a text may contain these bytes. Binary data of more than a few bytes always have one that no text contains.
pub(super) fn may_be_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|&byte| byte >= b' ' && byte != 0x7f || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c))
}

/// Returns the bytes without a leading byte order mark and white space.
fn content(head: &[u8]) -> &[u8] {
    head.strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(head)
        .trim_ascii_start()
}

/// Whether the file begins like a web page. The tags may be in any case.
fn is_page(head: &[u8]) -> bool {
    ["<!doctype", "<html", "<head", "<?xml"].iter().any(|tag| {
        content(head)
            .get(..tag.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(tag.as_bytes()))
    })
}

/// Whether the beginning of a file is UTF-8. A character that is cut off at the end is accepted.
fn is_utf8(head: &[u8]) -> bool {
    match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    }
}
