//! Reads one firmware file, or one group of devices, once to the end, under a lease if possible (docs/hazards.md 11).
//! Runs on the watcher's reading thread, or in `luat-ota check`.
//!
//! Reading stops when a writer waits for the lease, so that an upload is delayed by at most one block, and when the
//! file is removed in the meantime.

use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::{is_gone, is_resource_shortage};
use crate::firmware::package::{Inspected, Inspector};
use crate::firmware::settle::{KernelAnswer, ReadAttempt, Trust};
use crate::os::fs::{self, FileStamp, Folder};
use crate::os::lease::{self, Lease};

/// Number of bytes that are read at a time.
const BLOCK: usize = 128 * 1024;

/// Number of bytes after which the thread yields and the file's path is checked again.
const YIELD_BYTES: usize = 4 * 1024 * 1024;

/// Maximum size of a firmware file in bytes. No module accepts a larger one, and reading it would delay all others.
pub const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// A file to be read.
#[derive(Debug)]
pub struct Job {
    /// Path relative to the firmware folder.
    pub path: String,
    /// Stamp of the file when it was seen.
    pub stamp: FileStamp,
    /// Conditions of the reading.
    pub attempt: ReadAttempt,
}

impl Job {
    /// Number of bytes that are read for the job.
    pub fn bytes(&self) -> u64 {
        match self.attempt.trust {
            Trust::Ask => 0,
            _ => self.stamp.size.max(1),
        }
    }
}

/// Outcome of a job.
#[derive(Debug)]
pub enum ReadOutcome {
    /// The file was read to the end, and had the expected stamp before and after.
    Read {
        /// Whether a lease was held from before the first byte until after the last.
        leased: bool,
        /// Contents of the file, or the reason why it is refused.
        found: Result<Inspected, String>,
        /// Duration of the reading.
        time: Duration,
    },
    /// The file was not read; the kernel was only asked and grants a lease.
    Granted,
    /// The file was not read, because the kernel did not give the required answer.
    NotGranted(KernelAnswer),
    /// The file has changed since it was seen; it has this stamp now.
    Changed(FileStamp),
    /// The file no longer exists, or is no regular file.
    Gone,
    /// The file must be read later (a writer waits, the program is stopping, or the process has no descriptor left).
    Later,
    /// The file cannot be read. The text is a sentence.
    Unreadable(String),
}

/// Result of reading a file to the end.
pub struct Reading {
    /// Whether a lease was held from before the first byte until after the last.
    pub leased: bool,
    /// Duration of the reading.
    pub time: Duration,
}

/// Reads a firmware file. `keep_reading` is called after each block and returns `false` to stop the reading.
pub fn read(root: &Folder, job: &Job, keep_reading: &dyn Fn() -> bool) -> ReadOutcome {
    let name = job.path.rsplit('/').next().unwrap_or(&job.path);
    let mut inspector = Inspector::new(name);
    match read_into(root, job, keep_reading, &mut |part| inspector.update(part)) {
        Ok(Reading { leased, time }) => ReadOutcome::Read {
            leased,
            found: inspector.finish(),
            time,
        },
        Err(other) => other,
    }
}

/// Reads a file and passes its bytes to `take`. After an error the bytes passed so far are invalid; the error is the
/// outcome of the job.
pub fn read_into(
    root: &Folder,
    job: &Job,
    keep_reading: &dyn Fn() -> bool,
    take: &mut dyn FnMut(&[u8]),
) -> Result<Reading, ReadOutcome> {
    try_read(root, job, keep_reading, take).unwrap_or_else(|error| {
        Err(if is_resource_shortage(&error) {
            ReadOutcome::Later
        } else if is_replaced(&error) || error.kind() == io::ErrorKind::InvalidInput {
            ReadOutcome::Gone
        } else {
            ReadOutcome::Unreadable(unreadable(&error))
        })
    })
}

/// Whether the path leads to another file now, or to none. NFS reports this with ESTALE for an open file.
fn is_replaced(error: &io::Error) -> bool {
    is_gone(error) || error.raw_os_error() == Some(libc::ESTALE)
}

/// Returns the sentence about a file that cannot be read.
pub fn unreadable(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "It may not be read: let the user that the server runs as read it (chmod a+r).".into()
    } else {
        format!("It cannot be read: {error}. It is tried again.")
    }
}

/// Reads a small file; returns `None` if it is larger than `most` bytes.
pub fn read_small(root: &Folder, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = root.open_file(path)?;
    let mut bytes = Vec::new();
    (&file)
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

fn try_read(
    root: &Folder,
    job: &Job,
    keep_reading: &dyn Fn() -> bool,
    take: &mut dyn FnMut(&[u8]),
) -> io::Result<Result<Reading, ReadOutcome>> {
    let file = root.open_file(&job.path)?;
    let before = fs::stamp(&file)?;
    if before != job.stamp {
        return Ok(Err(ReadOutcome::Changed(before)));
    }
    let lease = lease::request(&file);
    let held = match (&lease, job.attempt.trust) {
        (Lease::Granted(_), Trust::Ask) => return Ok(Err(ReadOutcome::Granted)),
        (Lease::Granted(held), _) => Some(held),
        (Lease::Writer, Trust::Any) | (Lease::Unknown, Trust::Any | Trust::NoWriter) => None,
        (Lease::Writer, _) => {
            let is_certain = is_local(&file);
            return Ok(Err(ReadOutcome::NotGranted(KernelAnswer::Writer {
                is_certain,
            })));
        }
        (Lease::Unknown, _) => return Ok(Err(ReadOutcome::NotGranted(KernelAnswer::Unknown))),
    };
    let start = Instant::now();
    let mut block = vec![0; BLOCK];
    let mut size = 0u64;
    let mut since_yield = 0;
    loop {
        let read = match (&file).read(&mut block) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        take(block.get(..read).unwrap_or_default());
        size = size.saturating_add(read as u64);
        if !keep_reading() || held.is_some_and(|held| !held.is_valid()) || size > before.size {
            break;
        }
        since_yield += read;
        if since_yield >= YIELD_BYTES {
            since_yield = 0;
            std::thread::yield_now();
            // By path, because a file that was moved away need not be read to the end either.
            let still = fs::stamp(&root.open_file(&job.path)?)?;
            if still != before {
                return Ok(Err(ReadOutcome::Changed(still)));
            }
        }
    }
    let leased = held.is_some_and(|held| held.is_valid());
    let after = fs::stamp(&file)?;
    if after != before {
        return Ok(Err(ReadOutcome::Changed(after)));
    }
    if size != before.size || (held.is_some() && !leased) {
        return Ok(Err(ReadOutcome::Later));
    }
    Ok(Ok(Reading {
        leased,
        time: start.elapsed(),
    }))
}

/// Whether the file is on a local file system, where a writer is a process of this machine and the kernel's answer
/// about writers is reliable. On others (NFS, SMB, FUSE, …) the kernel may report a writer for every file.
fn is_local(file: &File) -> bool {
    const LOCAL: [u32; 16] = [
        0x0000_ef53, // ext2, ext3, ext4
        0x5846_5342, // xfs
        0x9123_683e, // btrfs
        0xf2f5_2010, // f2fs
        0x0102_1994, // tmpfs
        0x8584_58f6, // ramfs
        0x0000_4d44, // vfat
        0x2011_bab0, // exfat
        0x7366_746e, // ntfs3
        0x2405_1905, // ubifs
        0x0000_72b6, // jffs2
        0x794c_7630, // overlayfs
        0x2fc1_2fc1, // zfs
        0xca45_1a4e, // bcachefs
        0x0000_482b, // hfs+
        0x3153_464a, // jfs
    ];
    // The numbers have 32 bits; the type of the field depends on the machine.
    #[allow(clippy::unnecessary_cast)]
    rustix::fs::fstatfs(file).is_ok_and(|about| LOCAL.contains(&(about.f_type as u32)))
}
