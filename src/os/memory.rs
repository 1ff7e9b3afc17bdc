//! Memory that cannot change (sealed memfds, mapped read-only), and the amount of memory of the machine. Snapshots are
//! sealed memfds, under a budget that depends on the amount of memory.
//!
//! Nothing else is ever mapped: a mapping of a file on a medium kills the process with SIGBUS when the file is
//! truncated or the medium is removed (docs/hazards.md 9). A sealed memfd cannot be truncated, and its pages are memory
//! of this process.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::huge_pages;
use super::without::Feature;

/// A memfd that is being filled.
#[derive(Debug)]
pub struct Memfd {
    file: File,
}

impl Memfd {
    /// Creates an empty memfd, with MFD_NOEXEC_SEAL or, on EINVAL, without. Fails with ENOSYS on kernels before 3.17.
    pub fn new() -> io::Result<Memfd> {
        Feature::Memfd.available()?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = match rustix::fs::memfd_create(c"firmware", flags | MemfdFlags::NOEXEC_SEAL) {
            // Kernels before 6.3 do not know the flag (docs/hazards.md 12).
            Err(Errno::INVAL) => rustix::fs::memfd_create(c"firmware", flags)?,
            other => other?,
        };
        Ok(Memfd {
            file: File::from(fd),
        })
    }

    /// Seals the memfd (SHRINK, GROW, WRITE, SEAL) and maps it (MAP_PRIVATE, read-only). `room`: number of bytes that
    /// the memfd may take in memory. If they are enough for huge pages, the memfd gets huge pages, where available.
    pub fn seal(self, room: u64) -> io::Result<Sealed> {
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&self.file, seals)?;
        let bytes = self.file.metadata()?.len();
        let size = usize::try_from(bytes).map_err(|_| Errno::NOMEM)?;
        huge_pages::collapse_file(&self.file, bytes, room);
        let held = self.file.metadata()?.blocks().saturating_mul(512);
        let mut options = MmapOptions::new();
        options.len(size);
        // MAP_PRIVATE: before 6.7 the kernel refuses a shared mapping of a write-sealed memfd.
        // SAFETY: memmap2 requires that nobody changes or truncates the file while it is mapped. The seals were just
        // added, the kernel adds them only if no writable mapping exists, and no seal can ever be removed; so from here
        // on nobody can write to the file, grow it or shrink it.
        let map = unsafe { options.map_copy_read_only(&self.file)? };
        Ok(Sealed {
            map,
            held: held.max(whole_pages(bytes)),
            fd: OwnedFd::from(self.file),
        })
    }
}

impl Write for Memfd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sealed memfd and its mapping. A `Sealed` cannot be created from anything that can still change.
#[derive(Debug)]
pub struct Sealed {
    map: Mmap,
    held: u64,
    fd: OwnedFd,
}

impl Sealed {
    /// Returns all bytes of the memfd.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Number of bytes of memory that the memfd takes: whole pages, which may be huge.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Returns the memfd for sendfile.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Rounds `bytes` up to whole pages, in bytes.
pub fn whole_pages(bytes: u64) -> u64 {
    let page = rustix::param::page_size() as u64;
    bytes.div_ceil(page).saturating_mul(page)
}

/// Returns the memory that this process may use, in bytes: the smaller of MemTotal and the cgroup's limit (v1 or v2, of
/// its own group and of the groups around it). 64 MiB if nothing can be read.
pub fn total() -> u64 {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo"))
        .and_then(|text| mem_total(&text))
        .unwrap_or_else(machine_memory);
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mounts = read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    limit_files(&groups, &mounts)
        .iter()
        .filter_map(|path| limit(&read(path)?))
        .fold(machine, u64::min)
}

/// Returns the memory of the machine in bytes, by sysinfo, if /proc is missing.
fn machine_memory() -> u64 {
    let about = rustix::system::sysinfo();
    // The fields are as wide as a machine word.
    #[allow(clippy::useless_conversion)]
    let bytes = u64::from(about.totalram).saturating_mul(u64::from(about.mem_unit.max(1)));
    if bytes == 0 { 64 << 20 } else { bytes }
}

/// MemTotal of /proc/meminfo, in bytes.
fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kilobytes = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    kilobytes.checked_mul(1024)
}

/// Parses a limit file: bytes, or `max` for no limit. (v1 writes a number near 2^63 for no limit.)
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Returns the limit files of the memory cgroup that this process is in, and of all those around it, from
/// /proc/self/cgroup and /proc/self/mountinfo.
fn limit_files(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in mounts.lines() {
        let Some(mount) = parse_mount(line) else {
            continue;
        };
        let (file, group) = match mount.kind {
            "cgroup2" => ("memory.max", group_path(groups, |list| list.is_empty())),
            "cgroup" if has(mount.options, "memory") => (
                "memory.limit_in_bytes",
                group_path(groups, |list| has(list, "memory")),
            ),
            _ => continue,
        };
        let root = PathBuf::from(unescape(mount.point));
        // A container often sees its own group mounted as the root. Then the part of the path that is above the mount
        // does not exist. `..` in the path means that the group is outside of our namespace.
        let inside = group
            .and_then(|path| Path::new(path).strip_prefix(unescape(mount.root)).ok())
            .filter(|path| path.components().all(|c| c.as_os_str() != ".."))
            .unwrap_or(Path::new(""));
        files.extend(inside.ancestors().map(|part| root.join(part).join(file)));
    }
    files
}

/// One line of /proc/self/mountinfo (proc(5)).
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let mut right = right.split(' ');
    Some(Mount {
        root: left.next()?,
        point: left.next()?,
        kind: right.next()?,
        options: right.nth(1)?,
    })
}

/// Returns the path in /proc/self/cgroup (`number:controllers:path`) of the hierarchy with these controllers.
fn group_path(groups: &str, wanted: impl Fn(&str) -> bool) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        wanted(controllers).then_some(path)
    })
}

fn has(list: &str, word: &str) -> bool {
    list.split(',').any(|item| item == word)
}

/// Replaces the escapes of mountinfo: a space is `\040`, a tab `\011`, a line feed `\012`, a backslash `\134`.
fn unescape(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn sealed(bytes: &[u8]) -> Sealed {
        let mut memfd = Memfd::new().unwrap();
        memfd.write_all(bytes).unwrap();
        memfd.seal(0).unwrap()
    }

    #[test]
    fn a_sealed_memfd_refuses_every_change() {
        let sealed = sealed(b"firmware");
        let fd = sealed.file();
        assert_eq!(rustix::io::pwrite(fd, b"x", 0), Err(Errno::PERM));
        assert_eq!(rustix::io::pwrite(fd, b"x", 8), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(fd, 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(fd, 9000), Err(Errno::PERM));
        let more = rustix::fs::fcntl_add_seals(fd, SealFlags::empty());
        assert_eq!(more, Err(Errno::PERM));
        // The file cannot be written through another descriptor either.
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let again = std::fs::OpenOptions::new().write(true).open(path);
        if let Ok(mut again) = again {
            assert!(again.write(b"x").is_err());
        }
        assert_eq!(sealed.bytes(), b"firmware");
    }

    #[test]
    fn a_sealed_memfd_can_be_read_at_any_place_and_in_any_size() {
        let bytes: Vec<u8> = (0..70_001u32).map(|n| (n % 251) as u8).collect();
        let sealed = sealed(&bytes);
        assert_eq!(sealed.bytes(), bytes);
        let mut part = [0; 100];
        let count = rustix::io::pread(sealed.file(), &mut part, 69_950).unwrap();
        assert_eq!(part[..count], bytes[69_950..]);
    }

    /// Kernels without huge pages change neither the pages nor the size that `held` returns.
    #[test]
    fn huge_pages_hold_the_same_bytes() {
        let bytes: Vec<u8> = (0..3_000_001u32).map(|n| (n % 251) as u8).collect();
        let small = whole_pages(3_000_001);
        for (room, most) in [(0, small), (small, small), (64 << 20, 64 << 20)] {
            let mut memfd = Memfd::new().unwrap();
            memfd.write_all(&bytes).unwrap();
            let sealed = memfd.seal(room).unwrap();
            assert_eq!(sealed.bytes(), bytes);
            assert!((small..=most).contains(&sealed.held()), "{}", sealed.held());
            assert_eq!(rustix::fs::ftruncate(sealed.file(), 0), Err(Errno::PERM));
            let mut read = vec![0; 3_000_002];
            assert_eq!(
                rustix::io::pread(sealed.file(), &mut read, 0),
                Ok(3_000_001)
            );
            assert!(read.starts_with(&bytes));
            println!("room for {room} bytes: {} taken", sealed.held());
        }
    }

    #[test]
    fn an_empty_memfd_is_an_empty_slice() {
        assert_eq!(sealed(b"").bytes(), b"");
    }

    #[test]
    fn sizes_are_counted_in_whole_pages() {
        let page = whole_pages(1);
        assert!(page >= 4096 && page.is_power_of_two());
        assert_eq!(whole_pages(0), 0);
        assert_eq!(whole_pages(page), page);
        assert_eq!(whole_pages(page + 1), 2 * page);
    }

    #[test]
    fn meminfo_is_read_in_kilobytes() {
        let text = "MemTotal:          59584 kB\nMemFree:            1234 kB\n";
        assert_eq!(mem_total(text), Some(59584 * 1024));
        for text in [
            "",
            "MemTotal: x kB\n",
            "MemTotal: 99999999999999999999 kB\n",
        ] {
            assert_eq!(mem_total(text), None);
        }
    }

    #[test]
    fn limits_are_bytes_or_none() {
        assert_eq!(limit("67108864\n"), Some(64 << 20));
        assert_eq!(limit("max\n"), None);
        assert_eq!(
            limit("9223372036854771712\n"),
            Some(9_223_372_036_854_771_712)
        );
        assert_eq!(limit(""), None);
    }

    fn files(groups: &str, mounts: &str) -> Vec<String> {
        let files = limit_files(groups, mounts);
        files.iter().map(|p| p.to_str().unwrap().into()).collect()
    }

    #[test]
    fn under_systemd_every_group_up_to_the_root_counts() {
        let mounts = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
                      30 23 0:27 / /sys/kernel rw - securityfs securityfs rw\n";
        assert_eq!(
            files("0::/system.slice/luat-ota.service\n", mounts),
            [
                "/sys/fs/cgroup/system.slice/luat-ota.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
    }

    #[test]
    fn in_a_container_the_mount_itself_is_the_group() {
        let own_namespace = "0::/\n";
        let mounts = "1 2 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(files(own_namespace, mounts), ["/sys/fs/cgroup/memory.max"]);
        // Without a namespace of its own, the path and the root of the mount are those of the host.
        let groups = "7:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/docker/ab\n";
        let mounts = "1 2 0:26 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
             1 2 0:27 /docker/ab /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n";
        assert_eq!(
            files(groups, mounts),
            ["/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        assert_eq!(
            files(
                "0::/../../x\n",
                "1 2 0:26 / /cg\\040x ro - cgroup2 none rw\n"
            ),
            ["/cg x/memory.max"]
        );
    }

    #[test]
    fn malformed_lines_are_ignored() {
        for mounts in ["", "x\n", "1 2 3 - \n", "1 2 3 / /m rw - cgroup2\n"] {
            assert!(files("nonsense\n0:\n", mounts).is_empty());
        }
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(total() > 1 << 20);
    }
}
