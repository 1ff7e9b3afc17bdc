//! Foundation of the end-to-end tests: a real server in its own folder, requests of raw bytes, and a strict parser of
//! replies. The parsers are independent of the server's, because a shared parser would hide its own mistakes.
#![allow(dead_code, missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

pub mod browser_session;
mod client;
pub mod csv;
pub mod datagrams;
pub mod decisions;
pub mod documents;
pub mod literals;
pub mod mount;
pub mod operator;
pub mod packages;
pub mod parts;
mod place;
pub mod random;
pub mod recipes;
pub mod reply;
pub mod schema;
mod server;
pub mod simulation;
pub mod waits;
pub mod webdriver;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub use client::*;
pub use place::*;
pub use reply::Reply;
pub use server::*;

/// A valid IMEI.
pub const IMEI: &str = "862991443753386";

/// Time to wait for events that should happen soon, on a machine that is busy with other work.
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

/// Runs every row of a table before failing, so that one run shows all faults.
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

/// An address of this host at which nothing listens.
pub fn free_address_of(host: IpAddr) -> SocketAddr {
    let held = TcpListener::bind((host, 0)).unwrap();
    held.local_addr().unwrap()
}

/// An address of this machine at which nothing listens. Its host is used by no other test, because a test that runs at
/// the same time could get the port of a shared one before the program that it is for.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let [.., number] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    // tests/it/failover/pair.rs uses 127.128 to 127.191.
    free_address_of([127, 192 | (high & 0x1f), low, number.clamp(1, 254)].into())
}

/// A window of release.json in the time zone UTC+`zone` that begins and ends this many minutes from now.
pub fn window(begin: i64, end: i64, zone: i64) -> String {
    let unix = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let now = (unix / 60) as i64 + zone * 60;
    let clock = |minutes: i64| {
        let minute = (now + minutes).rem_euclid(24 * 60);
        format!("{:02}:{:02}", minute / 60, minute % 60)
    };
    format!("{}-{}+{zone:02}:00", clock(begin), clock(end))
}

/// The binary, without environment variables of the caller that could change its behaviour.
pub fn luat_ota() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_luat-ota"));
    clean(&mut command);
    command
}

/// Removes variables that would change a server's behaviour, and lets the server listen on free ports
/// unless a test states others: a server may be running on the default ports.
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

/// Runs the binary until it exits, and kills it after [`PATIENCE`].
pub fn run(arguments: &[&str]) -> Output {
    run_command(luat_ota().args(arguments))
}

/// Runs a command until it exits, and kills it after [`PATIENCE`].
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

/// Sends SIGTERM, with which nginx stops its workers, and kills the program if it does not end.
pub fn end(child: &mut Child) {
    let pid = rustix::process::Pid::from_child(child);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    if wait_for_exit(child, Duration::from_secs(5)).is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
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

/// The arguments of a server in this place: free ports, JSON lines, and the flags in `flags`, which add to
/// the defaults or replace them.
pub fn serve_arguments(place: &Place, flags: &[&str]) -> Vec<String> {
    let mut arguments = vec!["serve".to_owned(), place.firmware().display().to_string()];
    let state = place.state().display().to_string();
    for (flag, value) in [
        ("--state", state.as_str()),
        ("--http", "127.0.0.1:0"),
        ("--udp", "127.0.0.1:0"),
        ("--operator", "127.0.0.1:0"),
        ("--log-format", "json"),
        // In most tests the same module requests the same file many times.
        ("--attempts", "1000"),
    ] {
        if !flags.contains(&flag) {
            arguments.extend([flag.to_owned(), value.to_owned()]);
        }
    }
    arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
    arguments
}

/// Waits until a condition holds; fails with `what`.
pub fn wait_until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < end, "within {patience:?} not so: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// The flags that `--help` lists, with the text after each flag on its line.
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

/// The paths of all files under a folder, relative to it and sorted.
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
