//! Promise: every command that the documents show (`console` blocks without a mark) works for a new user in a fresh
//! clone, in both languages, and prints the output that they show.
//!
//! A server in the documents listens on their ports. The test replaces each by a free port, in the commands and in
//! the environment variables of the server. `cargo run --release` is this binary. The README's downloads come from a
//! folder with the files of a release that it needs, its clone is one of this repository, and its `docker` is
//! `tests/it/common/docker.py`, which runs the program of the image that it loads.
#![cfg(all(feature = "lab", feature = "operator"))]

use crate::common;

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use common::documents::{self, ConsoleCommand, ROOT};
use common::{IMEI, Log, PATIENCE, Place, Rows, Server, collect, luat, run_command};

/// Beginnings of commands that would change this machine or need another one. A block with one of them needs a mark.
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

/// The ports in the documents.
const PORTS: [u16; 6] = [8080, 8081, 2234, 2233, 18080, 8000];

/// The repository's sample in a separate folder.
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

/// A free port that the kernel does not use for outgoing connections, because a server binds the port some seconds
/// later.
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

/// The files of a release that the documents download, with the program of this build: `releases/latest/download`.
/// Tests that run at the same time share them.
fn publish() -> Arc<Place> {
    static SHARED: Mutex<Weak<Place>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    if let Some(place) = shared.upgrade() {
        return place;
    }
    let place = Arc::new(Place::new());
    let files = place.root.join("releases/latest/download");
    std::fs::create_dir_all(&files).unwrap();
    let oci = Path::new(ROOT).join("packaging/oci.py");
    let compose = Path::new(ROOT).join("packaging/oci/compose.yaml");
    // Without debug symbols, which make the program three times as large. Then the program for another machine,
    // which install.md downloads.
    let script = "set -e; strip -o luat-ota-x86_64 \"$1\"; echo MIT >LICENSES.txt; \"$2\" --dist .; cp \"$3\" .
        cp luat-ota-x86_64 luat-ota-armv6; sha256sum luat-ota-* compose.yaml >SHA256SUMS";
    let output = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_luat-ota")])
        .args([oci, compose])
        .current_dir(&files)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    *shared = Arc::downgrade(&place);
    place
}

/// A new user with `luat-ota` on the path.
struct User {
    place: Place,
    folder: PathBuf,
    releases: PathBuf,
    ports: Vec<(u16, u16)>,
    server: Option<(Child, Arc<Log>)>,
    /// The server of another program.
    other: Option<Child>,
}

impl User {
    /// Creates a user in a clone of the repository, with a firmware file of the user's own.
    fn new(releases: &Place) -> User {
        let place = sample();
        std::fs::write(
            place.root.join("update.bin"),
            common::packages::noise(1, 3000),
        )
        .unwrap();
        let folder = place.root.clone();
        User::new_in(place, folder, releases)
    }

    /// Creates a user in an empty folder, with network access only.
    fn with_nothing(releases: &Place) -> User {
        let place = Place::new();
        let folder = place.root.join("empty");
        std::fs::create_dir(&folder).unwrap();
        let user = User::new_in(place, folder, releases);
        let docker = Path::new(ROOT).join("tests/it/common/docker.py");
        std::os::unix::fs::symlink(docker, user.place.root.join("bin/docker")).unwrap();
        user
    }

    fn new_in(place: Place, folder: PathBuf, releases: &Place) -> User {
        let bin = place.root.join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_luat-ota"), bin.join("luat-ota")).unwrap();
        let free = std::iter::repeat_with(free_port);
        let ports = PORTS.into_iter().zip(free).collect();
        User {
            place,
            folder,
            releases: releases.root.clone(),
            ports,
            server: None,
            other: None,
        }
    }

    fn port(&self, of: u16) -> u16 {
        self.ports.iter().find(|(from, _)| *from == of).unwrap().1
    }

    /// The command with the free ports of this test.
    fn with_free_ports(&self, command: &str) -> String {
        let mut out = String::new();
        let mut digits = String::new();
        for c in command.chars().chain(['\0']) {
            if c.is_ascii_digit() {
                digits.push(c);
                continue;
            }
            let port = digits.parse().ok();
            match self.ports.iter().find(|(from, _)| Some(*from) == port) {
                // A port is preceded by a colon.
                Some((_, to)) if out.ends_with(':') => out.push_str(&to.to_string()),
                _ => out.push_str(&digits),
            }
            digits.clear();
            if c != '\0' {
                out.push(c);
            }
        }
        let address = env!("CARGO_PKG_REPOSITORY");
        let clone = format!("git clone --quiet {ROOT} luat-ota");
        out = out.replace(&format!("git clone {address}"), &clone);
        out = out.replace(address, &format!("file://{}", self.releases.display()));
        for built in ["cargo run --release", "target/release/luat-ota"] {
            if let Some(arguments) = out.strip_prefix(built) {
                return format!("luat-ota{arguments}");
            }
        }
        out
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("bash");
        common::clean(&mut shell);
        let path = std::env::var("PATH").unwrap();
        let bin: PathBuf = self.place.root.join("bin");
        shell
            .args(["-c", &format!("set -e; {command}")])
            .current_dir(&self.folder)
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

    fn run(&mut self, typed: &ConsoleCommand) -> Result<(), String> {
        let command = self.with_free_ports(&typed.command);
        if let Some(folder) = command.strip_prefix("cd ") {
            self.folder.push(folder);
            let found = self.folder.is_dir().then_some(());
            return found.ok_or(format!("no such folder: {}", self.folder.display()));
        }
        if command.starts_with("python3 -m http.server ") {
            let port = self.port(8000);
            let command = command.replace(" 8000", &format!(" {port}"));
            let mut shell = self.shell(&format!("exec {command}"));
            shell.stdout(Stdio::null()).stderr(Stdio::null());
            self.other = Some(shell.spawn().unwrap());
            common::wait_until("it serves", PATIENCE, || {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
            return Ok(());
        }
        if is_server(&command) {
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
        // A document about a running server does not repeat how to start it.
        if self.server.is_none() && sends_requests(&command) {
            self.run(&ConsoleCommand {
                command: "luat-ota".to_owned(),
                prints: Vec::new(),
            })?;
        }
        // A file settles for a second before it is offered, so a request is repeated until then.
        let end = Instant::now() + PATIENCE;
        loop {
            let output = run_command(&mut self.shell(&command));
            // `explain` exits with 3 if the module gets no offer, and `probe` with 1 if the document shows that
            // clients fail.
            let shows = |end: &str| typed.prints.iter().any(|line| line.ends_with(end));
            let fine = match output.status.code() {
                Some(3) => command.contains("luat-ota explain "),
                Some(1) => command.starts_with("luat-ota probe ") && shows(" failed."),
                code => code == Some(0),
            };
            let text = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
            let missing = missing_line(&typed.prints, &text);
            match missing {
                None if fine => return Ok(()),
                _ if (fine || sends_requests(&command)) && Instant::now() < end => {
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
        let server = self.server.take().map(|(child, _)| child);
        for mut child in server.into_iter().chain(self.other.take()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether the command serves until it is stopped. (`up` does so here: docker.py.)
fn is_server(command: &str) -> bool {
    if command.starts_with("docker compose up") {
        return true;
    }
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    (program == "luat-ota" || program.starts_with("./luat-ota"))
        && match words.next() {
            None | Some("serve" | "firmware") => true,
            Some(word) => word.starts_with("--") && word != "--help" && word != "--version",
        }
}

/// Whether the command sends requests to a server.
fn sends_requests(command: &str) -> bool {
    ["curl ", "luat-ota probe", "luat-ota simulate"]
        .iter()
        .any(|start| command.starts_with(start))
        && !command.contains(" file://")
}

/// The line with single spaces and without seconds, which differ from run to run.
fn normalized(line: &str) -> String {
    let seconds = |word: &&str| word.parse::<f64>().is_err() || !word.contains('.');
    line.split_whitespace()
        .filter(seconds)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The first line that is not printed after the lines before it. `…` represents any lines.
fn missing_line(lines: &[String], printed: &str) -> Option<String> {
    let printed: Vec<String> = printed.lines().map(normalized).collect();
    let mut rest = printed.iter();
    lines
        .iter()
        .filter(|line| line.trim() != "…" && !line.trim().is_empty())
        .find(|line| !rest.any(|printed| *printed == normalized(line)))
        .cloned()
}

/// Types all commands of a document, one after the other, and returns their number.
fn type_all(name: &str, text: &str, releases: &Place) -> usize {
    let mut rows = Rows::default();
    let mut user = User::new(releases);
    let mut run = 0;
    for typed in documents::commands_to_run(text) {
        let never = NEVER_RUN
            .iter()
            .any(|start| typed.command.starts_with(start));
        let result = match never {
            true => Err("mark its block: <!-- not run: REASON --> (CONTRIBUTING.md)".to_owned()),
            false => user.run(&typed),
        };
        rows.row(&format!("{name}: {}", typed.command), result);
        run += 1;
    }
    rows.row(name, user.stop());
    rows.finish();
    run
}

/// Starts in each of the README's ways, each time in an empty folder, and then follows the rest of the README.
fn follow(name: &str) {
    // The command that corresponds to `./luat-ota` in each of the ways.
    let programs = [
        "./luat-ota",
        "docker compose exec luat-ota /luat-ota",
        "target/release/luat-ota",
    ];
    let text = documents::read(name);
    let blocks = documents::unmarked(&text, "console");
    let (ways, rest) = blocks.split_at(programs.len());
    let releases = publish();
    let mut rows = Rows::default();
    for (way, program) in ways.iter().zip(programs) {
        assert!(text.contains(&format!("`{program}`")), "{name}: {program}");
        let mut user = User::with_nothing(&releases);
        let start = documents::parse_console(std::slice::from_ref(way));
        assert!(start.len() >= 3, "{name}: {way}");
        let mut typed = documents::parse_console(rest);
        assert!(typed.len() >= 6, "{name}");
        for typed in &mut typed {
            if let Some(arguments) = typed.command.strip_prefix("./luat-ota ") {
                typed.command = format!("{program} {arguments}");
            }
        }
        for typed in start.iter().chain(&typed) {
            rows.row(&format!("{name}: {}", typed.command), user.run(typed));
        }
        rows.row(&format!("{name}: {program}"), user.stop());
    }
    rows.finish();
}

#[test]
fn every_way_of_the_readme_leads_to_the_first_update() {
    follow("README.md");
}

#[test]
fn every_way_of_the_chinese_readme_leads_to_the_first_update() {
    follow("README.zh-CN.md");
}

#[test]
fn every_command_of_the_other_documents_runs_and_prints_what_it_shows() {
    let others = documents::documents()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("README"));
    let releases = publish();
    let run: usize = others
        .map(|(name, text)| type_all(&name, &text, &releases))
        .sum();
    assert!(run >= 10, "{run}");
}

#[test]
fn the_sample_is_for_no_real_module() {
    let server = Server::start_in(sample(), &[]);
    for imei in [IMEI, "", "004999010640100", "004999010639999"] {
        server.wait_until_refused(&luat("LUAT-OTA-SAMPLE", imei, "0.0.1"), 403, 21);
    }
}
