//! Folders of the server that a Debian package has installed, for the commands that work on the folders of a server.
//! They are read from `/etc/default/luat-ota`, which the server's systemd unit reads as well.
//!
//! They are used only if nothing else names a folder. The file is parsed as by systemd (`EnvironmentFile=`): lines of
//! `NAME=VALUE`, with or without quotes; the last one counts.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::os::fs::open_to_read;

/// Settings file of the installed server.
const SETTINGS: &str = "/etc/default/luat-ota";

/// Maximum number of bytes that are read from the settings file.
const MAX_SIZE: u64 = 64 * 1024;

/// Firmware folder of the server's unit, unless the settings name another.
const FIRMWARE: &str = "/srv/luat-ota";

/// State folder of the server's unit (`StateDirectory=`), unless the settings name another.
const STATE: &str = "/var/lib/luat-ota";

/// The folders of an installed server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InstalledServer {
    /// The firmware folder.
    pub folder: PathBuf,
    /// The state folder.
    pub state: PathBuf,
}

/// Returns the folders of the installed server; `None` if none is installed.
pub(super) fn server() -> Option<InstalledServer> {
    from_settings(Path::new(SETTINGS))
}

fn from_settings(settings: &Path) -> Option<InstalledServer> {
    let mut text = Vec::new();
    let file = open_to_read(settings).ok()?;
    file.take(MAX_SIZE).read_to_end(&mut text).ok()?;
    Some(folders(&String::from_utf8_lossy(&text)))
}

fn folders(text: &str) -> InstalledServer {
    let folder = |name: &str, default: &str| {
        let value = value_of(text, name).filter(|value| !value.is_empty());
        // The unit runs in the root folder, to which paths are relative.
        Path::new("/").join(value.as_deref().unwrap_or(default))
    };
    InstalledServer {
        folder: folder("LUAT_OTA_DIR", FIRMWARE),
        state: folder("LUAT_OTA_STATE", STATE),
    }
}

/// Returns the last value of this name.
fn value_of(text: &str, name: &str) -> Option<String> {
    // A backslash at the end of a line joins it with the next.
    let text = text.replace("\r\n", "\n").replace("\\\n", "");
    let mut values = text.lines().rev().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then(|| unquoted(value.trim()))
    });
    values.next()
}

/// Returns a value without its quotes, and without a comment after it.
fn unquoted(text: &str) -> String {
    let mut value = String::new();
    let mut quote = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => value.extend(characters.next()),
            (None, ' ' | '\t') if matches!(characters.peek(), Some('#')) => break,
            (_, c) => value.push(c),
        }
    }
    value.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> [String; 2] {
        let InstalledServer { folder, state } = folders(text);
        [folder, state].map(|path| path.display().to_string())
    }

    // Case 46.
    #[test]
    fn the_settings_of_the_installed_server_name_its_folders() {
        for (text, folder, state) in [
            ("", FIRMWARE, STATE),
            (include_str!("../../packaging/deb/default"), FIRMWARE, STATE),
            ("LUAT_OTA_DIR=/mnt/fw", "/mnt/fw", STATE),
            ("LUAT_OTA_DIR=/a\nLUAT_OTA_DIR=/b\n", "/b", STATE),
            ("LUAT_OTA_DIR=\"/mnt/my fw\"\r\n", "/mnt/my fw", STATE),
            ("  LUAT_OTA_DIR = '/mnt/my fw'  ", "/mnt/my fw", STATE),
            ("LUAT_OTA_DIR=/mnt/my\\ fw", "/mnt/my fw", STATE),
            ("LUAT_OTA_DIR=/mnt/fw # the stick", "/mnt/fw", STATE),
            ("LUAT_OTA_DIR=\"/mnt/#1 fw\" # x", "/mnt/#1 fw", STATE),
            ("LUAT_OTA_DIR=/mnt/\\\nfw", "/mnt/fw", STATE),
            ("LUAT_OTA_DIR=/mnt/固件", "/mnt/固件", STATE),
            ("#LUAT_OTA_DIR=/x\n; LUAT_OTA_DIR=/y\n", FIRMWARE, STATE),
            ("XLUAT_OTA_DIR=/x\nLUAT_OTA_DIRX=/x", FIRMWARE, STATE),
            ("LUAT_OTA_DIR=\nLUAT_OTA_STATE=''", FIRMWARE, STATE),
            ("LUAT_OTA_DIR=relative", "/relative", STATE),
            ("LUAT_OTA_STATE=/s\nLUAT_OTA_DIR=/f", "/f", "/s"),
            ("LUAT_OTA_DIR", FIRMWARE, STATE),
        ] {
            assert_eq!(read(text), [folder, state], "{text:?}");
        }
    }

    #[test]
    fn without_settings_no_server_is_installed() {
        assert_eq!(from_settings(Path::new("/nowhere/luat-ota")), None);
        assert_eq!(from_settings(Path::new("/dev/zero")), None);
    }
}
