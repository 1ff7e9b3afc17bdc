//! Promise: a packet of a UDP download takes nothing from the heap on the thread that serves but what smol's reactor
//! takes for each wake-up, and a check that ends in "no update", with its line in the log, one thing at most. The whole server runs here, over
//! real sockets; what is left is what its tick takes once a second.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(missing_docs)]
// An allocator that counts is unsafe to write.
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

/// Counts what the serving thread takes.
struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    // A thread that is ending has none any more.
    if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
        TAKEN.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: what our caller promises is what the system's allocator asks for.
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

/// How often each thing is done while it is counted.
const TIMES: usize = 10_000;

/// Requests on the way at a time.
const WINDOW: usize = 16;

/// Sends stderr, where the log goes, to nowhere until it is dropped: ten thousand lines are not worth
/// seeing. A test's own words take another way.
struct Quiet(i32);

impl Quiet {
    fn new() -> Quiet {
        let nowhere = File::options().write(true).open("/dev/null").unwrap();
        // SAFETY: both descriptors are open, and nothing here owns number 2.
        let before = unsafe { libc::dup(2) };
        // SAFETY: as above.
        let done = unsafe { libc::dup2(nowhere.as_raw_fd(), 2) };
        assert!(before >= 0 && done == 2);
        Quiet(before)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours alone since `new`.
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

/// One check as a module of the LuaTask generation makes it; the reply.
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

/// What `once` takes each time, once everything that grows has grown.
fn taken(times: usize, mut once: impl FnMut()) -> f64 {
    (0..times / 5).for_each(|_| once());
    let before = TAKEN.load(Ordering::Relaxed);
    (0..times).for_each(|_| once());
    (TAKEN.load(Ordering::Relaxed) - before) as f64 / times as f64
}

#[test]
fn a_check_without_update_and_a_packet_take_next_to_nothing_from_the_heap() {
    let folder = std::env::temp_dir().join(format!("luat-ota-allocations-{}", std::process::id()));
    let folder = Folder(folder);
    let file: Vec<u8> = (0..100_000_u64).map(|n| ((n * n) >> 5) as u8).collect();
    std::fs::create_dir_all(folder.0.join("P/1.0.1")).unwrap();
    std::fs::write(folder.0.join("P/1.0.1/update.bin"), &file).unwrap();

    let quiet = Quiet::new();
    let (http, udp) = (free(), free());
    let mut settings = Settings::new();
    settings.folder.clone_from(&folder.0);
    settings.http = vec![http];
    settings.udp = vec![udp];
    // Not the default port: another server may have it.
    settings.operator.address = Some(free());
    settings.limits.udp_gets_per_second = 0;
    // It ends with the process: only a signal stops it.
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
    // One outstanding: each packet wakes the server.
    let per_wake_up = taken(TIMES, || {
        let number = numbers.next().unwrap();
        socket.send(format!("Get{number},{id}").as_bytes()).unwrap();
        assert_eq!(socket.recv(&mut buffer).unwrap(), 1024);
    });

    drop(quiet);
    // benches/compare.sh reads these lines.
    println!("allocations per \"no update\" check: {per_check:.2}");
    println!("allocations per GetN: {per_packet:.2}");
    println!("allocations per wake-up for one GetN: {per_wake_up:.2}");
    // The log's buffer is another after each batch that was written, and grows anew; and the tick ticks.
    assert!(per_check < 1.05, "{per_check} per check");
    // Both are smol's reactor's: the list of tasks that it wakes, and the part of its timers that is not due.
    assert!(per_wake_up < 2.1, "{per_wake_up} per wake-up");
    assert!(per_packet < 0.5, "{per_packet} per packet");
}
