//! Moves the bytes of a memfd into huge pages. To send bytes of a memfd, the kernel looks up each page of 4 KiB
//! separately. With huge pages there is one look-up for 2 MiB, and a download of 1 MiB costs a sixth less
//! (docs/performance.md).
//!
//! Kernels before 6.1, and those without huge pages, refuse. Nothing depends on success: the memory that the bytes take
//! is read from the file itself.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr;

/// Number of the advice, which the libc crate does not have for all machines. It is the same on all supported machines.
const MADV_COLLAPSE: libc::c_int = 25;

/// Minimum size in bytes. Smaller files are sent with one look-up or few more in any case.
const MIN_SIZE: u64 = 64 << 10;

/// Moves the `size` bytes of this memfd into huge pages, if these are at least 64 KiB and then take no more than `room`
/// bytes. Does nothing if that is impossible.
pub(super) fn collapse_file(file: &File, size: u64, room: u64) {
    if size < MIN_SIZE || size > room {
        return;
    }
    let Some(page) = huge_page() else {
        return;
    };
    let whole = size.div_ceil(page).saturating_mul(page);
    if whole <= room
        && let (Ok(whole), Ok(page)) = (usize::try_from(whole), usize::try_from(page))
    {
        collapse(file, whole, page);
    }
}

/// Returns the size of a huge page in bytes, if there are huge pages.
fn huge_page() -> Option<u64> {
    let path = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size";
    let text = std::fs::read_to_string(path).ok()?;
    let size: u64 = text.trim().parse().ok()?;
    size.is_power_of_two().then_some(size)
}

/// Collapses the first `whole` bytes, a multiple of `page`, into huge pages (MADV_COLLAPSE).
fn collapse(file: &File, whole: usize, page: usize) {
    let Some(reserved) = whole.checked_add(page) else {
        return;
    };
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let fixed = libc::MAP_PRIVATE | libc::MAP_FIXED;
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing mapping. `aligned` is less than
    // `page` bytes after its start, so the `whole` bytes of the second mapping are inside the first, which no other
    // code knows of. MADV_COLLAPSE changes where the bytes of these pages are stored, and not the bytes. Nothing points
    // into the range when it is unmapped.
    unsafe {
        let start = libc::mmap(ptr::null_mut(), reserved, libc::PROT_NONE, anonymous, -1, 0);
        if start == libc::MAP_FAILED {
            return;
        }
        // Only an area that begins at a multiple of the size of a huge page can become one.
        let aligned = start.map_addr(|address| address.next_multiple_of(page));
        let mapped = libc::mmap(aligned, whole, libc::PROT_READ, fixed, file.as_raw_fd(), 0);
        if mapped != libc::MAP_FAILED {
            libc::madvise(mapped, whole, MADV_COLLAPSE);
        }
        libc::munmap(start, reserved);
    }
}
