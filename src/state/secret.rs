//! The secret with which the UDP upgrade ids are keyed.

use std::fmt::Display;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::files::create_once;
use crate::firmware::ContentId;
use crate::os::fs::{is_not_regular, open_to_read};
use crate::os::process;

/// Returns the content of the file: 64 hexadecimal digits.
pub(super) fn line(secret: [u8; 32]) -> String {
    format!("{}\n", ContentId(secret))
}

/// Reads the secret from its file. Fails with `InvalidData` if the file is damaged.
pub(super) fn read(path: &Path) -> io::Result<[u8; 32]> {
    let damaged = || {
        io::Error::new(
            ErrorKind::InvalidData,
            "does not contain 64 hexadecimal digits",
        )
    };
    let mut text = String::new();
    let read = open_to_read(path).and_then(|file| file.take(1024).read_to_string(&mut text));
    match read {
        Err(error) if is_not_regular(&error) => return Err(damaged()),
        Err(error) if error.kind() == ErrorKind::InvalidData => return Err(damaged()),
        read => read?,
    };
    let id = ContentId::parse(text.trim()).ok_or_else(damaged)?;
    Ok(id.0)
}

/// Reads the secret that several servers share, and creates its file if it does not exist. The error is a sentence.
pub(super) fn shared(path: &Path) -> Result<[u8; 32], String> {
    let failed = |error: &dyn Display| {
        format!(
            "--secret-file: {} {error}. It must hold 64 hexadecimal digits, the same for all servers that share ids; \
             if it does not exist, the server creates it",
            path.display()
        )
    };
    let mut secret = read(path);
    if secret
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::NotFound)
    {
        let mut new = [0; 32];
        process::random(&mut new)
            .and_then(|()| create_once(path, line(new).as_bytes()))
            .map_err(|error| failed(&format_args!("cannot be created: {error}")))?;
        // Another server may have been faster, so its secret is read.
        secret = read(path);
    }
    let secret = secret.map_err(|error| match error.kind() {
        ErrorKind::InvalidData => failed(&error),
        _ => failed(&format_args!("cannot be read: {error}")),
    })?;
    let others = std::fs::metadata(path).map_or(0, |about| about.permissions().mode() & 0o007);
    if others != 0 {
        log::warn!(
            target: "state",
            "every user of this machine can use {}: run chmod 600 on it, and better let the servers use a new one",
            path.display()
        );
    }
    Ok(secret)
}

/// Returns a secret that cannot be guessed outside this machine and lasts until the next boot.
pub(super) fn of_this_boot() -> Result<[u8; 32], String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let machine = read("/etc/machine-id");
    let boot = read("/proc/sys/kernel/random/boot_id");
    if machine.trim().is_empty() && boot.trim().is_empty() {
        let mut secret = [0; 32];
        return match process::random(&mut secret) {
            Ok(()) => Ok(secret),
            Err(error) => Err(format!(
                "There is nothing to make a secret of: no /etc/machine-id, no \
                 /proc/sys/kernel/random/boot_id, and no random numbers ({error}). Mount /proc, or put \
                 64 random hexadecimal digits into a file named secret in the folder of --state."
            )),
        };
    }
    Ok(derived(machine.trim(), boot.trim()))
}

pub(super) fn derived(machine: &str, boot: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update("luat-ota")
        .chain_update(machine)
        .chain_update(boot)
        .finalize()
        .into()
}
