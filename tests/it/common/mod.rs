//! What every end-to-end test stands on: a real server in a folder of its own, raw bytes in, and a
//! strict reader of what comes out. Nothing here shares a parser with the server: what shares its
//! parser shares its mistakes.
#![allow(dead_code, missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

pub mod datagrams;
pub mod desk;
pub mod documents;
pub mod mount;
pub mod operator;
pub mod packages;
pub mod reply;
pub mod schema;
pub mod webdriver;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub use reply::Reply;

/// An IMEI by the book.
pub const IMEI: &str = "862991443753386";

/// How long to wait for what should happen soon, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Fails with a message, in functions that return `Result<_, String>`.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

/// Runs every row of a table before it fails, so that one run shows everything that is wrong.
#[derive(Default)]
pub struct Rows {
    failures: Vec<String>,
    count: usize,
}

impl Rows {
    pub fn row(&mut self, name: &str, result: Result<(), String>) {
        self.count += 1;
        if let Err(message) = result {
            self.failures.push(format!("{name}: {message}"));
        }
    }

    pub fn finish(self) {
        assert!(
            self.failures.is_empty(),
            "{} of {} rows failed:\n- {}",
            self.failures.len(),
            self.count,
            self.failures.join("\n- ")
        );
    }
}

/// A temporary folder with `firmware/` and `state/` in it; removed at the end.
pub struct Place {
    pub root: PathBuf,
}

impl Place {
    pub fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = std::env::temp_dir().join(format!(
            "luat-ota-e2e-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("firmware")).unwrap();
        std::fs::create_dir_all(root.join("state")).unwrap();
        Place { root }
    }

    pub fn firmware(&self) -> PathBuf {
        self.root.join("firmware")
    }

    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// A path inside the firmware folder, its parents made.
    pub fn path(&self, path: &str) -> PathBuf {
        let path = self.firmware().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// Drops a file the safe way: written beside its place as `.part`, then renamed.
    pub fn drop_firmware(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        let mut part = path.clone().into_os_string();
        part.push(".part");
        std::fs::write(&part, bytes).unwrap();
        std::fs::rename(&part, &path).unwrap();
    }

    /// Writes a `release.json`.
    pub fn rules(&self, path: &str, rules: serde_json::Value) {
        self.drop_firmware(path, rules.to_string().as_bytes());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// The lines that a server wrote so far.
#[derive(Default)]
pub struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Log {
    fn push(&self, line: String) {
        self.lines.lock().unwrap().push(line);
        self.more.notify_all();
    }

    pub fn all(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The first line from number `from` on that fits.
    pub fn wait(
        &self,
        from: usize,
        patience: Duration,
        fits: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let end = Instant::now() + patience;
        let mut lines = self.lines.lock().unwrap();
        let mut seen = from;
        loop {
            while let Some(line) = lines.get(seen) {
                if fits(line) {
                    return Some(line.clone());
                }
                seen += 1;
            }
            let left = end.checked_duration_since(Instant::now())?;
            lines = self.more.wait_timeout(lines, left).unwrap().0;
        }
    }
}

/// Reads the lines of a stream into a log, on a thread of its own.
pub fn collect(stream: impl Read + Send + 'static, log: Arc<Log>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { return };
            log.push(String::from_utf8_lossy(&line).into_owned());
        }
    });
}

/// All texts in a JSON log line, whatever their keys.
pub fn texts(line: &str) -> Vec<String> {
    match serde_json::from_str::<serde_json::Value>(line) {
        Ok(serde_json::Value::Object(fields)) => fields
            .values()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    }
}

/// Is this the line of such an event (whatever key names it)?
pub fn is_event(line: &str, event: &str) -> bool {
    texts(line).iter().any(|text| text == event)
}

/// Where one kind of socket listens, out of a start-up line.
pub fn listens(line: &str, proto: &str) -> Option<SocketAddr> {
    if !is_event(line, "listen") || !is_event(line, proto) {
        return None;
    }
    texts(line).iter().find_map(|text| text.parse().ok())
}

/// The binary, with nothing of the caller's environment that could change what it does.
pub fn luat_ota() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_luat-ota"));
    clean(&mut command);
    command
}

/// Takes away what would change what a server does, and lets it listen on free ports where a test does not
/// say where: a server may be running on the default ones.
pub fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LUAT_OTA_") {
            command.env_remove(name);
        }
    }
    for name in [
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "STATE_DIRECTORY",
    ] {
        command.env_remove(name);
    }
    for name in ["LUAT_OTA_HTTP", "LUAT_OTA_UDP", "LUAT_OTA_OPERATOR"] {
        command.env(name, "127.0.0.1:0");
    }
    command.stdin(Stdio::null());
}

/// Runs the binary to its end; killed after `PATIENCE`.
pub fn run(arguments: &[&str]) -> Output {
    run_command(luat_ota().args(arguments))
}

/// Runs a command to its end; killed after `PATIENCE`.
pub fn run_command(command: &mut Command) -> Output {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let reader = |mut stream: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            bytes
        })
    };
    let stdout = reader(Box::new(child.stdout.take().unwrap()));
    let stderr = reader(Box::new(child.stderr.take().unwrap()));
    let status = wait_for_exit(&mut child, PATIENCE);
    if status.is_none() {
        child.kill().unwrap();
    }
    let last = child.wait().unwrap();
    let output = Output {
        status: last,
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    };
    assert!(
        status.is_some(),
        "did not end within {PATIENCE:?}; it wrote:\n{}",
        both(&output)
    );
    output
}

/// Standard output and standard error in one text.
pub fn both(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub fn wait_for_exit(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A running server. Dropping it kills the process, and shows its log if the test failed.
pub struct Server {
    pub http: SocketAddr,
    pub udp: SocketAddr,
    pub tcp: SocketAddr,
    pub log: Arc<Log>,
    child: Child,
    place: Option<Place>,
}

impl Server {
    /// An empty folder and free ports.
    pub fn start(flags: &[&str]) -> Server {
        Server::start_in(Place::new(), flags)
    }

    /// The same in a folder that was prepared.
    pub fn start_in(place: Place, flags: &[&str]) -> Server {
        let mut command = luat_ota();
        command.args(serve_arguments(&place, flags));
        Server::from_command(place, &mut command)
    }

    /// Takes over a command that becomes a server.
    pub fn from_command(place: Place, command: &mut Command) -> Server {
        match Server::try_from_command(place, command) {
            Ok(server) => server,
            Err(log) => panic!("the server did not start; it wrote:\n{log}"),
        }
    }

    pub fn try_from_command(place: Place, command: &mut Command) -> Result<Server, String> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        collect(child.stdout.take().unwrap(), log.clone());
        collect(child.stderr.take().unwrap(), log.clone());
        let end = Instant::now() + PATIENCE;
        let started = loop {
            if log
                .wait(0, Duration::from_millis(50), |line| is_event(line, "ready"))
                .is_some()
            {
                break true;
            }
            if child.try_wait().unwrap().is_some() || Instant::now() > end {
                // What it wrote last may still be in the pipe.
                std::thread::sleep(Duration::from_millis(100));
                break false;
            }
        };
        let address = |proto: &str| log.all().iter().find_map(|line| listens(line, proto));
        let http = address("http");
        let udp = address("udp").or(address("tcp"));
        let tcp = address("tcp").or(address("udp"));
        let (true, Some(http), Some(udp), Some(tcp)) = (started, http, udp, tcp) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(log.all().join("\n"));
        };
        Ok(Server {
            http,
            udp,
            tcp,
            log,
            child,
            place: Some(place),
        })
    }

    pub fn place(&self) -> &Place {
        self.place.as_ref().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn drop_firmware(&self, path: &str, bytes: &[u8]) {
        self.place().drop_firmware(path, bytes);
    }

    pub fn rules(&self, path: &str, rules: serde_json::Value) {
        self.place().rules(path, rules);
    }

    /// Is the process still there?
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until the process ends by itself.
    pub fn wait_for_exit(&mut self, patience: Duration) -> Option<ExitStatus> {
        wait_for_exit(&mut self.child, patience)
    }

    /// SIGKILL: what a power cut looks like. The folder stays.
    pub fn kill(mut self) -> Place {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.place.take().unwrap()
    }

    /// SIGTERM, and it must end with status 0. The folder stays.
    pub fn terminate(mut self) -> Place {
        self.signal(rustix::process::Signal::TERM);
        let status = self.wait_for_exit(PATIENCE);
        assert!(
            status.is_some_and(|status| status.success()),
            "after SIGTERM: {status:?}"
        );
        self.place.take().unwrap()
    }

    /// Waits for a log line; all lines since the start count.
    pub fn wait_for_log(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        match self.log.wait(0, PATIENCE, fits) {
            Some(line) => line,
            None => panic!("no log line that {what}"),
        }
    }

    /// How many lines there are, to look only at later ones.
    pub fn log_mark(&self) -> usize {
        self.log.all().len()
    }

    /// Sends a request as it stands and reads the reply strictly.
    pub fn try_http(&self, request: &[u8]) -> Result<Reply, String> {
        self.try_http_segments(&[request], Duration::ZERO)
    }

    /// The same in several segments.
    pub fn try_http_segments(&self, segments: &[&[u8]], gap: Duration) -> Result<Reply, String> {
        let show = || reply::show(&segments.concat());
        let mut stream =
            TcpStream::connect(self.http).map_err(|error| format!("cannot connect: {error}"))?;
        stream.set_nodelay(true).unwrap();
        for (number, segment) in segments.iter().enumerate() {
            if number > 0 {
                std::thread::sleep(gap);
            }
            stream
                .write_all(segment)
                .map_err(|error| format!("cannot write: {error}; request: {}", show()))?;
        }
        let head_only = segments.concat().starts_with(b"HEAD ");
        reply::read(&mut stream, head_only)
            .map_err(|error| format!("{error}\n    request: {}", show()))
    }

    /// Sends a request; its reply must be well formed.
    pub fn http(&self, request: &[u8]) -> Reply {
        self.try_http(request)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A plain GET of a target.
    pub fn get(&self, target: &str) -> Reply {
        self.http(&get(target))
    }

    pub fn try_get(&self, target: &str) -> Result<Reply, String> {
        self.try_http(&get(target))
    }

    /// Asks again and again until the reply fits; fails with the last reply.
    pub fn wait_for_reply(
        &self,
        request: &[u8],
        patience: Duration,
        fits: impl Fn(&Reply) -> bool,
    ) -> Result<Reply, String> {
        let end = Instant::now() + patience;
        loop {
            let reply = self.try_http(request);
            match &reply {
                Ok(good) if fits(good) => return reply,
                _ if Instant::now() < end => std::thread::sleep(Duration::from_millis(40)),
                Ok(other) => {
                    return Err(format!(
                        "within {patience:?} the reply came to be no other than {}\n    request: {}",
                        other.show(),
                        reply::show(request)
                    ));
                }
                Err(_) => return reply,
            }
        }
    }

    /// Waits until a check gets exactly these bytes; how long that took.
    pub fn wait_until_offered(&self, target: &str, bytes: &[u8]) -> Duration {
        let start = Instant::now();
        if let Err(error) = self.wait_for_reply(&get(target), PATIENCE, |reply| {
            reply.status == 200 && reply.body == bytes
        }) {
            panic!("not offered: {error}");
        }
        start.elapsed()
    }

    /// Waits until a check gets a no with this status and code.
    pub fn wait_until_refused(&self, target: &str, status: u16, code: u32) {
        if let Err(error) = self.wait_for_reply(&get(target), PATIENCE, |reply| {
            reply.status == status && reply.code() == Some(code)
        }) {
            panic!("not refused with {status} and code {code}: {error}");
        }
    }

    /// Resident memory in KiB (VmRSS).
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok())
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let lines = self.log.all();
            let skip = lines.len().saturating_sub(60);
            eprintln!(
                "--- the server's log ({} lines, the last of them):",
                lines.len()
            );
            for line in lines.iter().skip(skip) {
                eprintln!("{line}");
            }
            match ended {
                Some(status) => eprintln!("--- it had ended: {status}"),
                None => eprintln!("--- it was still running"),
            }
        }
    }
}

/// The arguments of a server in this place: free ports, JSON lines, and what `flags` adds or replaces.
pub fn serve_arguments(place: &Place, flags: &[&str]) -> Vec<String> {
    let mut arguments = vec!["serve".to_owned(), place.firmware().display().to_string()];
    let state = place.state().display().to_string();
    for (flag, value) in [
        ("--state", state.as_str()),
        ("--http", "127.0.0.1:0"),
        ("--udp", "127.0.0.1:0"),
        ("--operator", "127.0.0.1:0"),
        ("--log-format", "json"),
        // The same module asks for the same file again and again in most tests.
        ("--attempts", "1000"),
    ] {
        if !flags.contains(&flag) {
            arguments.extend([flag.to_owned(), value.to_owned()]);
        }
    }
    arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
    arguments
}

/// A plain GET.
pub fn get(target: &str) -> Vec<u8> {
    get_with(target, "")
}

/// A GET with more header lines (each ended by CRLF).
pub fn get_with(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n").into_bytes()
}

/// The check of a LuaTask module (ASR1802).
pub fn luat(project: &str, imei: &str, version: &str) -> String {
    format!(
        "/luat/update?project_key=k&imei={imei}&device_key=&firmware_name={project}_Luat_V0017_ASR1802&version={version}"
    )
}

/// The check of a LuatOS module.
pub fn luatos(project: &str, platform: &str, imei: &str, version: &str) -> String {
    format!(
        "/upgrade?imei={imei}&project_key=k&firmware_name={project}_LuatOS-SoC_{platform}&version={version}"
    )
}

/// A connection from this address of ours, with a receive buffer of about this many bytes (0: the
/// kernel's own). Without a small one the kernel takes whole files before the test reads a byte.
pub fn connect_from(source: Option<IpAddr>, to: SocketAddr, receive_buffer: usize) -> TcpStream {
    try_connect_from(source, to, receive_buffer).unwrap()
}

/// The same to a server that may be down.
pub fn try_connect_from(
    source: Option<IpAddr>,
    to: SocketAddr,
    receive_buffer: usize,
) -> std::io::Result<TcpStream> {
    use rustix::net::{
        AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt,
    };
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if receive_buffer > 0 {
        sockopt::set_socket_recv_buffer_size(&socket, receive_buffer)?;
    }
    if let Some(source) = source {
        bind(&socket, &SocketAddr::new(source, 0))?;
    }
    connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// A download that goes on only when it is told to.
pub struct SlowDownload {
    stream: TcpStream,
    raw: Vec<u8>,
}

impl SlowDownload {
    /// Asks, and reads until at least `first` bytes have arrived.
    pub fn begin(server: SocketAddr, request: &[u8], first: usize) -> SlowDownload {
        let mut stream = connect_from(None, server, 16 * 1024);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request).unwrap();
        let mut download = SlowDownload {
            stream,
            raw: Vec::new(),
        };
        while download.raw.len() < first && download.read(4096).unwrap() > 0 {}
        download
    }

    /// Reads once, up to `most` bytes; 0 at the end.
    pub fn read(&mut self, most: usize) -> std::io::Result<usize> {
        let mut buffer = vec![0; most];
        let count = self.stream.read(&mut buffer)?;
        self.raw.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    /// Bytes so far, head included.
    pub fn received(&self) -> usize {
        self.raw.len()
    }

    /// Reads the rest. `Ok` holds a complete reply, `Err` says how it was cut short.
    pub fn finish(mut self) -> Result<Reply, String> {
        loop {
            match self.read(64 * 1024) {
                Ok(0) => return reply::parse(&self.raw, false),
                Ok(_) => {}
                Err(error) => return Err(format!("after {} bytes: {error}", self.raw.len())),
            }
        }
    }
}

/// Waits until something is so; fails with `what`.
pub fn wait_until(what: &str, patience: Duration, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !so() {
        assert!(Instant::now() < end, "within {patience:?} not so: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// The flags that `--help` knows, with what stands behind them on the line.
pub fn flags_in_help() -> Vec<(String, String)> {
    let mut help = both(&run(&["serve", "--help"])) + &both(&run(&["--help"]));
    if cfg!(feature = "lab") {
        help += &both(&run(&["probe", "--help"]));
        help += &both(&run(&["simulate", "--help"]));
    }
    help.lines()
        .filter_map(|line| {
            let start = line.find("--")?;
            let flag: String = line[start..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
                .collect();
            Some((flag, line.to_owned()))
        })
        .collect()
}

/// Every file under a folder, relative, sorted.
pub fn files_under(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return;
        };
        for entry in entries.flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&entry.path(), &format!("{name}/"), found);
            } else {
                found.push(name);
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, "", &mut found);
    found.sort();
    found
}
