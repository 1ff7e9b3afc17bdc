//! Promise: every command that the documents show (`console` blocks without a mark) works for a new user in
//! a fresh clone, in both languages, and prints what they show.
//!
//! A server of the documents listens on their ports; here each is replaced by a free one, in the commands
//! and by the server's twins in the environment. `cargo run --release` is this very binary.
#![cfg(all(feature = "lab", feature = "operator"))]

use crate::common;

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use common::documents::{self, ROOT, Typed};
use common::{IMEI, Log, PATIENCE, Place, Rows, Server, collect, luat, run_command};

/// Starts of commands that would change this machine or need another one. A block with one of them needs a mark.
const NEVER_RUN: &[&str] = &[
    "apk ",
    "apt ",
    "apt-get ",
    "cargo install",
    "cargo test",
    "docker ",
    "dpkg ",
    "git clone",
    "opkg ",
    "packaging/",
    "podman ",
    "scp ",
    "ssh ",
    "sudo ",
    "systemctl ",
    "wsl",
];

/// The ports of the documents.
const PORTS: [u16; 5] = [8080, 8081, 2234, 2233, 18080];

/// The repository's sample in a folder of our own.
fn sample() -> Place {
    let place = Place::new();
    let from = Path::new(ROOT).join("firmware");
    for file in common::files_under(&from) {
        if !file.starts_with('.') {
            std::fs::copy(from.join(&file), place.path(&file)).unwrap();
        }
    }
    place
}

/// A port that nobody has, and that the kernel gives no connection for its own end: a server binds it some
/// seconds later.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 2000).unwrap() * 10;
    loop {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (first + offset) % 20_000;
        let tcp = TcpListener::bind(("0.0.0.0", port));
        let udp = UdpSocket::bind(("0.0.0.0", port));
        if tcp.is_ok() && udp.is_ok() {
            return port;
        }
    }
}

/// A new user in a clone of the repository, with a firmware of their own at hand and `luat-ota` on the
/// path.
struct User {
    place: Place,
    ports: Vec<(u16, u16)>,
    server: Option<(Child, Arc<Log>)>,
}

impl User {
    fn new() -> User {
        let place = sample();
        std::fs::write(
            place.root.join("update.bin"),
            common::packages::noise(1, 3000),
        )
        .unwrap();
        let bin = place.root.join("bin");
        std::fs::create_dir(&bin).unwrap();
        // On the path, and as a download.
        for name in ["bin/luat-ota", "luat-ota-x86_64", "luat-ota-armv6"] {
            let link = place.root.join(name);
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_luat-ota"), link).unwrap();
        }
        let free = std::iter::repeat_with(free_port);
        let ports = PORTS.into_iter().zip(free).collect();
        User {
            place,
            ports,
            server: None,
        }
    }

    fn port(&self, of: u16) -> u16 {
        self.ports.iter().find(|(from, _)| *from == of).unwrap().1
    }

    /// The command with the ports that are free here.
    fn here(&self, command: &str) -> String {
        let mut out = String::new();
        let mut digits = String::new();
        for c in command.chars().chain(['\0']) {
            if c.is_ascii_digit() {
                digits.push(c);
                continue;
            }
            let port = digits.parse().ok();
            match self.ports.iter().find(|(from, _)| Some(*from) == port) {
                // A port stands behind a colon.
                Some((_, to)) if out.ends_with(':') => out.push_str(&to.to_string()),
                _ => out.push_str(&digits),
            }
            digits.clear();
            if c != '\0' {
                out.push(c);
            }
        }
        out.replacen("cargo run --release", "luat-ota", 1)
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("bash");
        common::clean(&mut shell);
        let path = std::env::var("PATH").unwrap();
        let bin: PathBuf = self.place.root.join("bin");
        shell
            .args(["-c", &format!("set -e; {command}")])
            .current_dir(&self.place.root)
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("LUAT_OTA_HTTP", format!("127.0.0.1:{}", self.port(8080)))
            .env("LUAT_OTA_UDP", format!("127.0.0.1:{}", self.port(2234)))
            .env(
                "LUAT_OTA_OPERATOR",
                format!("127.0.0.1:{}", self.port(8081)),
            );
        shell
    }

    fn stop(&mut self) -> Result<(), String> {
        let Some((mut child, log)) = self.server.take() else {
            return Ok(());
        };
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = common::wait_for_exit(&mut child, PATIENCE);
        match status {
            Some(status) if status.success() => Ok(()),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!(
                    "the server ended with {status:?}:\n{}",
                    log.all().join("\n")
                ))
            }
        }
    }

    fn types(&mut self, typed: &Typed) -> Result<(), String> {
        let command = self.here(&typed.command);
        if serves(&command) {
            self.stop()?;
            let mut child = self
                .shell(&format!("exec {command}"))
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let log = Arc::new(Log::default());
            collect(child.stderr.take().unwrap(), log.clone());
            let ready = log.wait(0, PATIENCE, |line| line.ends_with(" ready ready"));
            self.server = Some((child, log.clone()));
            return match ready {
                Some(_) => Ok(()),
                None => Err(format!("it does not serve:\n{}", log.all().join("\n"))),
            };
        }
        // A document about a server that runs does not say again that it is to be started.
        if self.server.is_none() && asks(&command) {
            self.types(&Typed {
                command: "luat-ota".to_owned(),
                prints: Vec::new(),
            })?;
        }
        // A file settles for a second before it is offered: a request is made again until then.
        let end = Instant::now() + PATIENCE;
        loop {
            let output = run_command(&mut self.shell(&command));
            // 3 is what `explain` ends with where the answer is no.
            let fine = output.status.success()
                || output.status.code() == Some(3) && command.starts_with("luat-ota explain");
            let text = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
            let missing = in_order(&typed.prints, &text);
            match missing {
                None if fine => return Ok(()),
                _ if (fine || asks(&command)) && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(100))
                }
                _ => {
                    return Err(format!(
                        "{:?}, and not printed: {missing:?}; it printed\n{text}\n{}",
                        output.status.code(),
                        String::from_utf8_lossy(&output.stderr)
                    ));
                }
            }
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some((mut child, _)) = self.server.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Does the command serve until it is stopped?
fn serves(command: &str) -> bool {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    (program == "luat-ota" || program.starts_with("./luat-ota-"))
        && match words.next() {
            None | Some("serve" | "firmware") => true,
            Some(word) => word.starts_with("--") && word != "--help" && word != "--version",
        }
}

/// Does the command ask a server?
fn asks(command: &str) -> bool {
    ["curl ", "luat-ota probe", "luat-ota simulate"]
        .iter()
        .any(|start| command.starts_with(start))
}

/// Spaces are made one, and seconds are left out: they differ from run to run.
fn plain(line: &str) -> String {
    let seconds = |word: &&str| word.parse::<f64>().is_err() || !word.contains('.');
    line.split_whitespace()
        .filter(seconds)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The first of the lines that is not printed, behind the ones before it. `…` stands for any lines.
fn in_order(lines: &[String], printed: &str) -> Option<String> {
    let printed: Vec<String> = printed.lines().map(plain).collect();
    let mut rest = printed.iter();
    lines
        .iter()
        .filter(|line| line.trim() != "…" && !line.trim().is_empty())
        .find(|line| !rest.any(|printed| *printed == plain(line)))
        .cloned()
}

/// Types all commands of a document, one after the other.
fn type_all(name: &str, text: &str) -> usize {
    let mut rows = Rows::default();
    let mut user = User::new();
    let mut run = 0;
    if text.contains("SHA256SUMS") {
        let sums = run_command(&mut user.shell("sha256sum luat-ota-* > SHA256SUMS"));
        assert!(sums.status.success(), "{sums:?}");
    }
    for typed in documents::commands_to_run(text) {
        let never = NEVER_RUN
            .iter()
            .any(|start| typed.command.starts_with(start));
        let result = match never {
            true => Err("mark its block: <!-- not run: REASON --> (CONTRIBUTING.md)".to_owned()),
            false => user.types(&typed),
        };
        rows.row(&format!("{name}: {}", typed.command), result);
        run += 1;
    }
    rows.row(name, user.stop());
    rows.finish();
    run
}

#[test]
fn every_command_of_the_readme_runs_and_prints_what_it_shows() {
    assert!(type_all("README.md", &documents::read("README.md")) >= 6);
}

#[test]
fn every_command_of_the_chinese_readme_runs_and_prints_what_it_shows() {
    assert!(type_all("README.zh-CN.md", &documents::read("README.zh-CN.md")) >= 6);
}

#[test]
fn every_command_of_the_other_documents_runs_and_prints_what_it_shows() {
    let others = documents::documents()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("README"));
    let run: usize = others.map(|(name, text)| type_all(&name, &text)).sum();
    assert!(run >= 10, "{run}");
}

#[test]
fn the_sample_is_for_no_real_module() {
    let server = Server::start_in(sample(), &[]);
    for imei in [IMEI, "", "004999010640100", "004999010639999"] {
        server.wait_until_refused(&luat("LUAT-OTA-SAMPLE", imei, "0.0.1"), 403, 21);
    }
}
