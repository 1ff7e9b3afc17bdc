//! Tests of the public side as its clients see it: real sockets on loopback, and a folder of real files.

mod check_log;
mod downloads;
mod limits;
mod model;
mod packets;
mod slots;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use smol::LocalExecutor;
use smol::block_on;
use smol::channel::{Sender, unbounded};

use super::plan::Answer;
use super::*;
use crate::firmware::catalog::{ScanResult, ScannedFile, ScannedRules};
use crate::firmware::package::Inspector;
use crate::firmware::rules::Rules;
use crate::os::net::TcpOptions;
use crate::os::scratch::Scratch;
use crate::wire::head::{self, HeadLimits, HeadProgress};

/// IMEI of the device in the checks.
const IMEI: &str = "862991443753386";

thread_local! {
    /// The executor of a server's thread, on which a test can run its own task.
    static EXECUTOR: RefCell<Rc<LocalExecutor<'static>>> = RefCell::default();
}

type Command = Box<dyn FnOnce(&Rc<Service>) + Send>;

/// A server on free ports, on its own thread.
struct Server {
    folder: Scratch,
    http: SocketAddr,
    tcp: SocketAddr,
    udp: SocketAddr,
    stop: Stop,
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
    published: RefCell<Option<Arc<Catalog>>>,
    /// Number of requests to read a file again.
    rereads: Arc<AtomicU32>,
}

impl Server {
    fn start() -> Server {
        Server::with(Limits::default())
    }

    fn with(limits: Limits) -> Server {
        Server::build(limits, 64 << 20)
    }

    /// Starts a server with `budget` bytes of memory for snapshots; what does not fit goes to temporary files.
    fn build(limits: Limits, budget: u64) -> Server {
        Server::build_with(limits, budget, true)
    }

    /// Starts a server. `spills`: whether temporary files can be created.
    fn build_with(limits: Limits, budget: u64, spills: bool) -> Server {
        let folder = Scratch::new();
        let spill = spills.then(|| folder.path().to_owned());
        let root = folder.path().to_owned();
        let (commands, receiver) = unbounded::<Command>();
        let stop = Stop::new();
        let server_stop = stop.clone();
        let (ready, is_ready) = mpsc::channel();
        let rereads = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&rereads);
        let thread = std::thread::spawn(move || {
            let options = TcpOptions {
                receive_buffer: 8192,
                send_buffer: Some(256 * 1024),
                user_timeout: Duration::from_secs(120),
                defer_accept: None,
            };
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let http = os::net::listen(any, &options).unwrap();
            let tcp = os::net::listen(any, &options).unwrap();
            let udp = os::net::bind_udp(any).unwrap();
            let addresses = (
                http.local_addr().unwrap(),
                tcp.local_addr().unwrap(),
                udp.local_addr().unwrap(),
            );
            let snapshots = Snapshots::new(root, budget, spill);
            let reread = Box::new(move |_: &str| {
                counted.fetch_add(1, Ordering::Relaxed);
            });
            let service = Service::new(limits, snapshots, fleet(), &[9; 32], reread);
            let service = Rc::new(service);
            let executor = Rc::new(LocalExecutor::new());
            let serving = [
                executor.spawn(http::serve(
                    http,
                    Rc::clone(&service),
                    Rc::clone(&executor),
                    server_stop.clone(),
                )),
                executor.spawn(tcp::serve(
                    tcp,
                    Rc::clone(&service),
                    Rc::clone(&executor),
                    server_stop.clone(),
                )),
                executor.spawn(udp::serve(udp, Rc::clone(&service), server_stop)),
            ];
            EXECUTOR.set(Rc::clone(&executor));
            ready.send(addresses).unwrap();
            block_on(executor.run(async {
                while let Ok(command) = receiver.recv().await {
                    command(&service);
                }
            }));
            drop(serving);
            EXECUTOR.take();
        });
        let (http, tcp, udp) = is_ready.recv().unwrap();
        Server {
            folder,
            http,
            tcp,
            udp,
            stop,
            commands,
            thread: Some(thread),
            published: RefCell::new(None),
            rereads,
        }
    }

    /// Runs a command on the serving thread, and returns its result.
    fn call<T: Send + 'static>(
        &self,
        command: impl FnOnce(&Rc<Service>) -> T + Send + 'static,
    ) -> T {
        let (sender, result) = mpsc::channel();
        let command: Command = Box::new(move |service| sender.send(command(service)).unwrap());
        self.commands.send_blocking(command).unwrap();
        result.recv().unwrap()
    }

    /// Writes these files, and serves only them. `release.json` files are rules.
    fn publish(&self, files: &[(&str, &[u8])]) {
        let mut found = ScanResult::default();
        for (path, bytes) in files {
            let written = self.folder.write(path, bytes);
            if path.ends_with("release.json") {
                found.rules.push(ScannedRules {
                    path: path.to_string(),
                    rules: Some(Arc::new(Rules::parse(bytes).unwrap())),
                    error: None,
                });
                continue;
            }
            let mut inspector = Inspector::new(path);
            inspector.update(bytes);
            found.files.push(ScannedFile {
                path: path.to_string(),
                stamp: os::fs::stamp(&std::fs::File::open(written).unwrap()).unwrap(),
                inspected: inspector.finish().unwrap(),
            });
        }
        let catalog = Arc::new(Catalog::build(found));
        assert_eq!(catalog.quarantined, []);
        *self.published.borrow_mut() = Some(Arc::clone(&catalog));
        self.call(move |service| service.replace_catalog(catalog));
    }

    /// Waits until the number of running downloads is `count`.
    fn wait_for_downloads(&self, count: usize) {
        let what = format!("{count} downloads run");
        wait_until(&what, || {
            self.call(|service| service.running_downloads()) == count
        });
    }

    fn connect(&self) -> TcpStream {
        connect(self.http)
    }

    /// Sends a request and reads the reply to its end.
    fn ask(&self, request: &str) -> ReceivedReply {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read_reply(stream)
    }

    /// Sends a check of a device that runs version 1.0.0 of project P, with these further header lines.
    fn check(&self, headers: &str) -> ReceivedReply {
        self.ask(&check(IMEI, headers))
    }

    fn udp_client(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.udp).unwrap();
        let timeout = Some(Duration::from_secs(20));
        socket.set_read_timeout(timeout).unwrap();
        socket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.commands.close();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// A parsed reply.
#[derive(Debug)]
struct ReceivedReply {
    status: u16,
    head: String,
    body: Vec<u8>,
    /// Whether the reply ended with a FIN and not with a reset.
    clean: bool,
}

impl ReceivedReply {
    fn of(bytes: &[u8], clean: bool) -> ReceivedReply {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        let end = end.expect("a reply has a head") + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        ReceivedReply {
            status: head[9..12].parse().unwrap(),
            body: bytes[end..].to_vec(),
            head,
            clean,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.split("\r\n").find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            (found == name).then_some(value)
        })
    }
}

fn check(imei: &str, headers: &str) -> String {
    format!(
        "GET /luat/update?imei={imei}&firmware_name=P_Luat_V0017_ASR1802&version=1.0.0 HTTP/1.1\r\n\
         Host: x\r\n{headers}\r\n"
    )
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    let timeout = Some(Duration::from_secs(20));
    stream.set_read_timeout(timeout).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Connects from this address of the loopback network.
fn connect_from(local: SocketAddr, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &local).unwrap();
    connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    let timeout = Some(Duration::from_secs(20));
    stream.set_read_timeout(timeout).unwrap();
    stream
}

/// Connects with a receive buffer of 8 KiB.
fn connect_with_small_buffer(to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, 8192).unwrap();
    connect(&socket, &to).unwrap();
    TcpStream::from(socket)
}

/// Returns the answer to a request, without a socket.
fn answer(service: &Service, request: &str, peer: SocketAddr, now: Instant) -> Answer {
    let limits = HeadLimits {
        bytes: 8192,
        headers: 64,
    };
    let HeadProgress::Complete(head, _) = head::read(request.as_bytes(), limits) else {
        panic!("no head");
    };
    http::answer(service, &head, b"", (peer, None), now)
}

fn read_reply(mut stream: TcpStream) -> ReceivedReply {
    let mut bytes = Vec::new();
    let clean = stream.read_to_end(&mut bytes).is_ok();
    ReceivedReply::of(&bytes, clean)
}

/// Reads the head and the first `body` bytes of the body.
fn read_part(stream: &mut TcpStream, body: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut one = [0];
        stream.read_exact(&mut one).unwrap();
        bytes.push(one[0]);
    }
    let mut part = vec![0; body];
    stream.read_exact(&mut part).unwrap();
    part
}

/// Bytes of no known file type that differ everywhere from those of another seed.
fn firmware(seed: u32, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut bytes: Vec<u8> = (0..size)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    // Neither text nor a magic number.
    for (byte, value) in bytes.iter_mut().zip([0x00, 0xf1, seed as u8, 0xf2]) {
        *byte = value;
    }
    bytes
}

/// A service without sockets.
pub(super) fn service() -> Rc<Service> {
    service_with(Limits::default())
}

fn service_with(limits: Limits) -> Rc<Service> {
    let snapshots = Snapshots::new(std::env::temp_dir(), 0, None);
    let service = Service::new(limits, snapshots, fleet(), &[0; 32], Box::new(|_| {}));
    Rc::new(service)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it never was so: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A fleet without any records.
fn fleet() -> Rc<RefCell<Fleet>> {
    let fleet = Fleet::new(crate::fleet::FleetSettings::default(), Instant::now());
    Rc::new(RefCell::new(fleet))
}
