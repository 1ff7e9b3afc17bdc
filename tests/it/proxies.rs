//! Promise: behind nginx, Caddy and HAProxy, configured as docs/proxies.md says, every generation of modules is
//! updated, the server knows the address of each module, and a download that was cut is never counted as complete.
//!
//! The real programs run with the text of the document, in which only the addresses are replaced. If one is not
//! installed, the test reports that it was skipped; with CI=true it fails (apt-get install nginx-light caddy haproxy).
#![cfg(feature = "lab")]

use crate::common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::documents;
use common::packages::noise;
use common::{
    IMEI, PATIENCE, Place, Server, both, connect_from, end, free_address, get, luat, run,
    wait_until,
};

/// A proxy; stopped when this value is dropped.
pub struct Proxy {
    child: Child,
    /// The proxy's HTTP address.
    pub address: SocketAddr,
    _place: Place,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Configuration lines for the temporary files of nginx. (nginx changes from root to another user, who must have
/// access to them.)
pub fn nginx_paths(place: &Place) -> String {
    let root = place.root.display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let lines = kinds.map(|kind| format!("{kind}_temp_path {root}/{kind};\n"));
    lines.concat()
}

/// Starts a proxy in front of the server. Returns `None` if the proxy is not installed. `make` gets the document's
/// text with the addresses of the test. The path of the configuration becomes the last word of `command`.
fn proxy(
    server: &Server,
    language: &str,
    make: impl Fn(&str, &Place) -> String,
    command: Command,
) -> Option<Proxy> {
    let text = documents::read("docs/proxies.md");
    let blocks = documents::blocks(&text, language);
    let [block] = &blocks[..] else {
        panic!("docs/proxies.md has {} blocks of {language}", blocks.len());
    };
    let address = free_address();
    let place = Place::new();
    let port = address.port().to_string();
    let lines: Vec<String> = block
        .lines()
        .filter(|line| !line.contains("[::]"))
        .map(|line| {
            line.replace("127.0.0.1:8080", &server.http.to_string())
                .replace("listen 80 ", &format!("listen {address} "))
                .replace("bind :80", &format!("bind {address}"))
                .replace(":80 {", &format!(":{port} {{\nbind {}", address.ip()))
        })
        .collect();
    let text = make(&lines.join("\n"), &place);
    launch(language, place, address, &text, command)
}

/// Starts a proxy that listens on `address`, with this configuration, whose path becomes the last word of the command.
/// Returns `None` if the proxy is not installed.
pub fn launch(
    language: &str,
    place: Place,
    address: SocketAddr,
    text: &str,
    mut command: Command,
) -> Option<Proxy> {
    let file = place.root.join("configuration");
    std::fs::write(&file, text).unwrap();
    let child = command
        .arg(file)
        .env("HOME", &place.root)
        .current_dir(&place.root)
        .stdout(Stdio::null())
        .stderr(Stdio::from(
            std::fs::File::create(place.root.join("log")).unwrap(),
        ))
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) => {
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(
                !ci,
                "{language}: {error}; apt-get install nginx-light caddy haproxy"
            );
            common::mount::skipped(&format!(
                "{language} is not installed (apt-get install nginx-light caddy haproxy)"
            ));
            return None;
        }
    };
    let proxy = Proxy {
        child,
        address,
        _place: place,
    };
    let log = proxy._place.root.join("log");
    wait_until("the proxy listens", PATIENCE, || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        let failed = ["[emerg]", "Error:", "[ALERT]"];
        assert!(!failed.iter().any(|word| log.contains(word)), "{log}");
        TcpStream::connect(address).is_ok()
    });
    Some(proxy)
}

/// A program with these words, to which the path of its configuration is added.
pub fn command(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words);
    command
}

fn nginx(server: &Server) -> Option<Proxy> {
    proxy(
        server,
        "nginx",
        |block, place| {
            let root = place.root.display();
            let paths = nginx_paths(place);
            // gzip is on outside the block, to test that the block turns it off.
            format!(
                "daemon off; master_process off; pid {root}/pid; error_log stderr;\nevents {{}}\n\
                 http {{\naccess_log off; gzip on; gzip_types *; gzip_min_length 1;\n{paths}{block}\n}}\n"
            )
        },
        command("nginx", &["-e", "stderr", "-c"]),
    )
}

fn caddy(server: &Server) -> Option<Proxy> {
    proxy(
        server,
        "caddyfile",
        |block, _| block.replacen('{', "{\n    admin off", 1),
        command("caddy", &["run", "--adapter", "caddyfile", "--config"]),
    )
}

fn haproxy(server: &Server) -> Option<Proxy> {
    proxy(
        server,
        "haproxy",
        |block, _| format!("{block}\n"),
        command("haproxy", &["-db", "-f"]),
    )
}

/// A server for modules behind a proxy, which all have one address.
fn server(bytes: &[u8]) -> Server {
    let place = Place::new();
    place.drop_firmware("P/1.0.3/update.bin", bytes);
    let server = Server::start_in(
        place,
        &[
            "--trusted-proxy",
            "127.0.0.1",
            "--log-format",
            "json",
            "--attempts",
            "3",
        ],
    );
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), bytes);
    server
}

/// All bytes that arrive until the proxy closes the connection. The module's address is `127.0.0.7`.
fn exchange(proxy: SocketAddr, request: &str) -> String {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    let from: SocketAddr = "127.0.0.7:0".parse().unwrap();
    rustix::net::bind(&socket, &from).unwrap();
    rustix::net::connect(&socket, &proxy).unwrap();
    let mut stream = TcpStream::from(socket);
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    assert!(end.is_ok(), "it does not close: {end:?}");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Checks everything that modules need from a proxy.
fn check_proxy(start: impl Fn(&Server) -> Option<Proxy>) {
    let bytes = noise(7, 200_000);
    let server = server(&bytes);
    let Some(proxy) = start(&server) else { return };
    // Every generation, with all its requirements.
    let file = server.place().root.join("expected");
    std::fs::write(&file, &bytes).unwrap();
    let output = run(&[
        "probe",
        "--http",
        &format!("http://{}/luat/update", proxy.address),
        "--project",
        "P",
        "--expect",
        file.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", both(&output));
    // The reply that modules see: header names in their exact spelling, the length, the end of the connection; neither
    // compressed nor chunked, even if the client accepts that.
    let packed = |request: String| request.replacen("\r\n", "\r\nAccept-Encoding: gzip\r\n", 1);
    let reply = exchange(
        proxy.address,
        &packed(String::from_utf8(get(&luat("P", IMEI, "1.0.0"))).unwrap()),
    );
    let (head, _) = reply.split_once("\r\n\r\n").unwrap();
    for line in [
        "Content-Length: 200000",
        "Connection: close",
        "Content-Type: application/octet-stream",
    ] {
        assert!(head.contains(&format!("\r\n{line}")), "{line}: {head}");
    }
    for word in ["chunked", "Content-Encoding"] {
        assert!(!head.contains(word), "{head}");
    }
    let no = exchange(
        proxy.address,
        &packed(String::from_utf8(get(&luat("P", IMEI, "1.0.3"))).unwrap()),
    );
    let (head, body) = no.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
    assert!(body.starts_with("{\"code\":27,"), "{body}");
    // The log has the module's address, not the proxy's.
    let known = |line: &str| line.contains("\"check\"") && line.contains("\"127.0.0.7:");
    assert!(server.log.wait(0, PATIENCE, known).is_some());
}

#[test]
fn every_generation_is_updated_through_nginx_as_the_document_configures_it() {
    check_proxy(nginx);
}

#[test]
fn every_generation_is_updated_through_caddy_as_the_document_configures_it() {
    check_proxy(caddy);
}

#[test]
fn every_generation_is_updated_through_haproxy_as_the_document_configures_it() {
    check_proxy(haproxy);
}

/// Starts a download through the proxy, reads at least this many bytes in small steps, and closes the connection.
fn read_and_close(proxy: SocketAddr, imei: &str, bytes: usize) {
    let mut stream = connect_from(None, proxy, 16 * 1024);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&get(&luat("P", imei, "1.0.0"))).unwrap();
    let mut part = [0; 1000];
    let mut read = 0;
    while read < bytes {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "closed after {read} bytes");
        read += count;
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Results and acknowledged bytes of all downloads of [`OTHER`] in the log.
fn downloads(server: &Server) -> Vec<(String, u64)> {
    let lines = server.log.all();
    let parsed = lines.iter().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_download = line.to_string().contains("\"download\"") && line["device"] == OTHER;
        let result = line["result"].as_str()?.to_owned();
        is_download.then_some((result, line["bytes"].as_u64()?))
    });
    parsed.collect()
}

/// Cuts a module's connection eight times, after 20 kB of 400 kB. `ahead` is the number of bytes that the proxy may
/// have received beyond those of the module, if this number is bounded.
fn a_cut_is_never_whole(start: impl Fn(&Server) -> Option<Proxy>, ahead: Option<u64>) {
    const CUT: usize = 20_000;
    let bytes = noise(8, 400_000);
    let server = server(&bytes);
    let Some(proxy) = start(&server) else { return };
    for round in 1..=8 {
        read_and_close(proxy.address, OTHER, CUT);
        wait_until("the download has ended", PATIENCE, || {
            downloads(&server).len() >= round
        });
    }
    let ended = downloads(&server);
    println!("{ended:?}");
    assert_eq!(ended.len(), 8);
    for (result, acknowledged) in &ended {
        assert!(["cut", "sent"].contains(&&**result), "{ended:?}");
        if let Some(ahead) = ahead {
            assert_eq!(result, "cut", "{ended:?}");
            assert!(*acknowledged <= CUT as u64 + ahead, "{ended:?}");
        }
    }
    // The device is not held.
    let reply = exchange(
        proxy.address,
        &String::from_utf8(get(&luat("P", OTHER, "1.0.0"))).unwrap(),
    );
    assert!(reply.starts_with("HTTP/1.1 200 "), "{}", &reply[..200]);
}

/// A module other than the one whose check shows that the server is ready.
const OTHER: &str = "862991443753394";

// Case 28.
#[test]
fn a_module_that_is_cut_behind_nginx_is_neither_complete_nor_held() {
    a_cut_is_never_whole(nginx, Some(320 * 1024));
}

// Case 28.
#[test]
fn a_module_that_is_cut_behind_caddy_is_neither_complete_nor_held() {
    a_cut_is_never_whole(caddy, None);
}

// Case 28.
#[test]
fn a_module_that_is_cut_behind_haproxy_is_neither_complete_nor_held() {
    a_cut_is_never_whole(haproxy, Some(320 * 1024));
}

// Case 28b.
#[test]
fn a_module_that_loops_behind_nginx_is_held_after_the_ninth_download() {
    let bytes = noise(9, 50_000);
    let server = server(&bytes);
    let Some(proxy) = nginx(&server) else { return };
    let request = String::from_utf8(get(&luat("P", OTHER, "1.0.0"))).unwrap();
    let mut replies = Vec::new();
    for _ in 0..11 {
        replies.push(exchange(proxy.address, &request));
        // A check within three seconds of a download, in whole seconds, does not count as the return of the module.
        std::thread::sleep(Duration::from_millis(4600));
    }
    let served = |reply: &&String| reply.starts_with("HTTP/1.1 200 ");
    assert_eq!(replies.iter().take_while(served).count(), 9);
    let held = replies.last().unwrap();
    assert!(held.starts_with("HTTP/1.1 403 "), "{held}");
    assert!(held.contains("\"code\":40"), "{held}");
}

// Case 28c.
#[test]
fn a_release_that_fails_on_two_of_five_modules_behind_nginx_is_paused() {
    let bytes = noise(10, 20_000);
    let place = Place::new();
    place.drop_firmware("P/1.0.3/update.bin", &bytes);
    let flags = ["--trusted-proxy", "127.0.0.1", "--log-format", "json"];
    let server = Server::start_in(place, &flags);
    // No download from outside the fleet's network, because no device there would check again afterwards.
    server.wait_until_refused(&luat("P", OTHER, "1.0.3"), 404, 27);
    let Some(proxy) = nginx(&server) else { return };
    let url = format!("http://{}/luat/update", proxy.address);
    let flags = [
        ["--http", &url],
        ["--project", "P"],
        ["--to", "1.0.3"],
        ["--imei", "862991440000000"],
        ["--devices", "40"],
        ["--interval", "5"],
        ["--rounds", "3"],
        ["--fail", "40"],
    ];
    let arguments: Vec<&str> = ["simulate", "--json"]
        .into_iter()
        .chain(flags.into_iter().flatten())
        .collect();
    let output = run(&arguments);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["corrupt_images"], 0, "{report:#}");
    // No download through a proxy counts as complete: the pause is based on repeated attempts only.
    let lines = server.log.all();
    let ended = |result: &str| {
        let word = format!("\"result\":\"{result}\"");
        lines.iter().any(|line| line.contains(&word))
    };
    assert!(ended("sent") && !ended("complete"), "{report:#}");
    let path = server.place().path("P/1.0.3/release.json");
    wait_until("the fuse pauses the release", PATIENCE, || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.contains("\"paused\": \"fuse: ") || text.contains("\"paused\":\"fuse: ")
    });
    // The release is offered to no other device.
    let refused = exchange(
        proxy.address,
        &String::from_utf8(get(&luat("P", OTHER, "1.0.0"))).unwrap(),
    );
    assert!(refused.starts_with("HTTP/1.1 404 "), "{refused}");
    assert!(refused.contains("\"code\":27"), "{refused}");
}
