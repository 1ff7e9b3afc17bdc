//! Promise: on the serving thread, a packet of a UDP download allocates nothing on the heap except what smol's reactor
//! allocates for each wake-up, and a check that ends in "no update" allocates at most once, including its line in the
//! log. The whole server runs here, over real sockets. The rest of the measured allocations comes from its tick once a
//! second.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(missing_docs)]
// An allocator that counts needs unsafe code.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use luat_ota::server::{self, Settings};

/// An allocator that counts the allocations of the serving thread.
struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    // A thread that is ending has already destroyed its thread-local values.
    if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
        TAKEN.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the one that the system's allocator requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const IMEI: &str = "862991443753386";

/// Number of repetitions while allocations are counted.
const TIMES: usize = 10_000;

/// Number of requests in flight.
const WINDOW: usize = 16;

/// Redirects stderr, where the log goes, to /dev/null until dropped: the ten thousand lines are not needed. The test's
/// own output goes to stdout.
struct SilencedStderr(i32);

impl SilencedStderr {
    fn new() -> SilencedStderr {
        let nowhere = File::options().write(true).open("/dev/null").unwrap();
        // SAFETY: both descriptors are open, and nothing here owns number 2.
        let before = unsafe { libc::dup(2) };
        // SAFETY: as above.
        let done = unsafe { libc::dup2(nowhere.as_raw_fd(), 2) };
        assert!(before >= 0 && done == 2);
        SilencedStderr(before)
    }
}

impl Drop for SilencedStderr {
    fn drop(&mut self) {
        // SAFETY: `new` has created the descriptor, and nothing else uses it.
        unsafe { libc::dup2(self.0, 2) };
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A port of the loopback address that is free over TCP and UDP.
fn free() -> SocketAddr {
    (0..100)
        .find_map(|_| {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
            let address = tcp.local_addr().ok()?;
            UdpSocket::bind(address).ok().map(|_| address)
        })
        .expect("a free port")
}

/// The reply to one check of a module of the LuaTask generation.
fn check(http: SocketAddr, version: &str) -> Option<Vec<u8>> {
    reply(ask(http, version)?)
}

fn ask(http: SocketAddr, version: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(http).ok()?;
    let head = format!(
        "GET /luat/update?project_key=k&imei={IMEI}&device_key=&firmware_name=P_Luat_V0017_ASR1802\
         &version={version} HTTP/1.1\r\nHost: ota.example.com\r\nConnection: short\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    Some(stream)
}

fn reply(mut stream: TcpStream) -> Option<Vec<u8>> {
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).ok()?;
    Some(reply)
}

/// Average number of allocations of each call of `once`, measured after its buffers have reached their size.
fn taken(times: usize, mut once: impl FnMut()) -> f64 {
    (0..times / 5).for_each(|_| once());
    let before = TAKEN.load(Ordering::Relaxed);
    (0..times).for_each(|_| once());
    (TAKEN.load(Ordering::Relaxed) - before) as f64 / times as f64
}

#[test]
fn a_check_without_update_and_a_packet_allocate_next_to_nothing() {
    let folder = std::env::temp_dir().join(format!("luat-ota-allocations-{}", std::process::id()));
    let folder = Folder(folder);
    let file: Vec<u8> = (0..100_000_u64).map(|n| ((n * n) >> 5) as u8).collect();
    std::fs::create_dir_all(folder.0.join("P/1.0.1")).unwrap();
    std::fs::write(folder.0.join("P/1.0.1/update.bin"), &file).unwrap();

    let silenced = SilencedStderr::new();
    let (http, udp) = (free(), free());
    let mut settings = Settings::new();
    settings.folder.clone_from(&folder.0);
    settings.http = vec![http];
    settings.udp = vec![udp];
    // Not the default port, which another server may use.
    settings.operator.address = Some(free());
    settings.limits.udp_gets_per_second = 0;
    // The server runs until the process ends: only a signal stops it.
    std::thread::spawn(move || {
        IS_COUNTED.set(true);
        server::run(settings)
    });
    let end = Instant::now() + Duration::from_secs(30);
    while !check(http, "1.0.0").is_some_and(|reply| reply.ends_with(&file)) {
        assert!(Instant::now() < end, "the file is not offered");
        std::thread::sleep(Duration::from_millis(20));
    }

    let per_checks = taken(TIMES / WINDOW, || {
        let asked: Vec<TcpStream> = (0..WINDOW).map(|_| ask(http, "1.0.1").unwrap()).collect();
        for stream in asked {
            assert!(reply(stream).unwrap().starts_with(b"HTTP/1.1 404 "));
        }
    });
    let per_check = per_checks / WINDOW as f64;

    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(udp).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut buffer = [0; 1500];
    socket.send(format!("{IMEI},P,1.0.0").as_bytes()).unwrap();
    let length = socket.recv(&mut buffer).unwrap();
    let offer = std::str::from_utf8(&buffer[..length]).unwrap();
    let id = offer.split(',').nth(1).unwrap().to_owned();
    let mut numbers = (1..=file.len().div_ceil(1022) - 1).cycle();
    let per_window = taken(TIMES / WINDOW, || {
        for number in numbers.by_ref().take(WINDOW) {
            socket.send(format!("Get{number},{id}").as_bytes()).unwrap();
        }
        for _ in 0..WINDOW {
            assert_eq!(socket.recv(&mut buffer).unwrap(), 1024);
        }
    });
    let per_packet = per_window / WINDOW as f64;
    // With one request in flight, each packet wakes the server.
    let per_wake_up = taken(TIMES, || {
        let number = numbers.next().unwrap();
        socket.send(format!("Get{number},{id}").as_bytes()).unwrap();
        assert_eq!(socket.recv(&mut buffer).unwrap(), 1024);
    });

    drop(silenced);
    // benches/compare.sh reads these lines.
    println!("allocations per \"no update\" check: {per_check:.2}");
    println!("allocations per GetN: {per_packet:.2}");
    println!("allocations per wake-up for one GetN: {per_wake_up:.2}");
    // The log begins a new buffer after each batch that it has written, and that buffer grows again. The tick
    // allocates, too.
    assert!(per_check < 1.05, "{per_check} per check");
    // smol's reactor allocates both: the list of tasks that it wakes, and the part of its timers that is not due.
    assert!(per_wake_up < 2.1, "{per_wake_up} per wake-up");
    assert!(per_packet < 0.5, "{per_packet} per packet");
}
