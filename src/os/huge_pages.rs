//! Moves the bytes of a memfd into huge pages. To send a page of a memfd, the kernel looks each page of 4 KiB up by
//! itself; in huge pages there is one look for 2 MiB, and a download of 1 MiB costs a sixth less
//! (docs/performance.md).
//!
//! What would surprise you: nothing says whether it worked, and nothing depends on it. Kernels before 6.1, and those
//! without huge pages, refuse; what the bytes then take in memory, the file itself says.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr;

/// Not in the libc crate for all machines; the same number on all that we are built for.
const MADV_COLLAPSE: libc::c_int = 25;

/// Smaller files are sent with one look anyway, or nearly.
const LEAST: u64 = 64 << 10;

/// MADV_COLLAPSE, if what the `size` bytes of this memfd then take is no more than `room` bytes.
pub(super) fn gather(file: &File, size: u64, room: u64) {
    if size < LEAST || size > room {
        return;
    }
    let gathered = || {
        let page = huge_page()?;
        let whole = size.div_ceil(page).checked_mul(page)?;
        if whole > room {
            return None;
        }
        collapse(
            file,
            usize::try_from(whole).ok()?,
            usize::try_from(page).ok()?,
        )
    };
    let _as_it_was = gathered();
}

/// The size of a huge page, in bytes, where there are any.
fn huge_page() -> Option<u64> {
    let path = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size";
    let text = std::fs::read_to_string(path).ok()?;
    text.trim()
        .parse()
        .ok()
        .filter(|size: &u64| size.is_power_of_two())
}

/// `whole`: bytes, a multiple of `page`.
fn collapse(file: &File, whole: usize, page: usize) -> Option<()> {
    let reserved = whole.checked_add(page)?;
    let nowhere = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that there is.
    let start = unsafe { libc::mmap(ptr::null_mut(), reserved, libc::PROT_NONE, nowhere, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    // Only a piece that begins at a multiple of its size can be a huge page.
    let aligned = start.map_addr(|address| address.next_multiple_of(page));
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
    // SAFETY: `aligned` is less than `page` bytes after `start`, so these `whole` bytes lie inside the mapping
    // that was just made for this, which nobody else knows of.
    let mapped = unsafe { libc::mmap(aligned, whole, libc::PROT_READ, flags, file.as_raw_fd(), 0) };
    if mapped != libc::MAP_FAILED {
        // SAFETY: MADV_COLLAPSE changes where the bytes of these pages lie and not what they are; they are ours
        // until they are unmapped below.
        unsafe { libc::madvise(mapped, whole, MADV_COLLAPSE) };
    }
    // SAFETY: this range is the mapping made above, with the one put into it; nothing points into it.
    unsafe { libc::munmap(start, reserved) };
    Some(())
}
