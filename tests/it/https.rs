//! Promise: with the certificates and the nginx configuration of docs/guide-https.md, every generation of
//! modules is updated over TLS, with the cipher suites of both kinds of chip; a client that verifies
//! certificates rejects one of another CA.
//!
//! The emulations do not support TLS: HAProxy accepts their plain connections and is the TLS client, with the limits
//! of the chip. If a program is not installed, the test reports that it was skipped; with CI=true it fails.
#![cfg(feature = "lab")]

use crate::common;

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::documents;
use common::packages::noise;
use common::{IMEI, PATIENCE, Place, Server, both, luat, run, run_command, wait_until};

const GUIDE: &str = "docs/guide-https.md";

/// A program that listens; stopped when this value is dropped.
struct ListeningProgram(Child);

impl Drop for ListeningProgram {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program and waits until it listens on this address. Its output goes to a file of this name.
fn start(command: &mut Command, log: &Path, address: SocketAddr) -> ListeningProgram {
    let output = std::fs::File::create(log).unwrap();
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::from(output))
        .spawn()
        .unwrap();
    let program = ListeningProgram(child);
    wait_until("it listens", PATIENCE, || {
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let failed = ["[emerg]", "[ALERT]"];
        assert!(!failed.iter().any(|word| log.contains(word)), "{log}");
        TcpStream::connect(address).is_ok()
    });
    program
}

fn has_programs() -> bool {
    let missing: Vec<&str> = [("openssl", "version"), ("nginx", "-v"), ("haproxy", "-v")]
        .into_iter()
        .filter(|(program, flag)| {
            let mut command = Command::new(program);
            command.arg(flag).stdout(Stdio::null());
            !command
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|s| s.success())
        })
        .map(|(program, _)| program)
        .collect();
    if missing.is_empty() {
        return true;
    }
    let why = format!("not installed: {}", missing.join(", "));
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "{why}");
    common::mount::skipped(&why);
    false
}

/// Runs a block of shell commands in a folder, and returns the output.
fn shell(folder: &Path, block: &str) -> Result<String, String> {
    let mut command = Command::new("bash");
    command.args(["-e", "-c", block]).current_dir(folder);
    command.stdin(Stdio::null());
    let output = run_command(&mut command);
    match output.status.success() {
        true => Ok(both(&output)),
        false => Err(both(&output)),
    }
}

/// Starts nginx with the guide's server block, in front of this server.
fn nginx(server: &Server, place: &Place) -> (ListeningProgram, SocketAddr) {
    let blocks = documents::blocks(&documents::read(GUIDE), "nginx");
    let [block] = &blocks[..] else {
        panic!("{GUIDE} has {} blocks of nginx", blocks.len());
    };
    let address = common::free_address();
    let root = place.root.display().to_string();
    let lines: Vec<String> = block
        .lines()
        .filter(|line| !line.contains("[::]"))
        .map(|line| {
            line.replace("127.0.0.1:8080", &server.http.to_string())
                .replace("listen 443 ", &format!("listen {address} "))
                .replace("/etc/nginx", &root)
        })
        .collect();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {root}/{kind};\n"))
        .collect();
    let text = format!(
        "daemon off; master_process off; pid {root}/pid; error_log stderr;\nevents {{}}\n\
         http {{\naccess_log off; gzip on; gzip_types *; gzip_min_length 1;\n{paths}{}\n}}\n",
        lines.join("\n")
    );
    let file = place.root.join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-c", file.to_str().unwrap()]);
    let running = start(&mut command, &place.root.join("nginx.log"), address);
    (running, address)
}

/// Starts a TLS client for the plain connections of emulated modules. It verifies the certificate like a
/// module with `server_cert`.
fn tls_client(place: &Place, to: SocketAddr, limits: &str) -> (ListeningProgram, SocketAddr) {
    let address = common::free_address();
    let text = format!(
        "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
         listen module\n  bind {address}\n  server ota {to} ssl sni str(ota.example.com) verify required \
         verifyhost ota.example.com ca-file ca.pem ssl-max-ver TLSv1.2 {limits}\n"
    );
    let file = place.root.join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f", file.to_str().unwrap()]);
    command.current_dir(&place.root);
    let running = start(&mut command, &place.root.join("haproxy.log"), address);
    (running, address)
}

#[test]
fn every_generation_is_updated_over_tls_as_the_guide_sets_it_up() {
    if !has_programs() {
        return;
    }
    let blocks = documents::blocks(&documents::read(GUIDE), "sh");
    let [certificates, checks] = &blocks[..] else {
        panic!("{GUIDE} has {} blocks of sh", blocks.len());
    };
    let bytes = noise(17, 60_000);
    let place = Place::new();
    place.drop_firmware("P/1.0.3/update.bin", &bytes);
    // nginx and openssl use a separate folder.
    let files = Place::new();
    let made = shell(&files.root, certificates).unwrap();
    assert!(made.contains("ota.pem: OK"), "{made}");
    let flags = ["--trusted-proxy", "127.0.0.1", "--attempts", "1000"];
    let server = Server::start_in(place, &flags);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let (_nginx, address) = nginx(&server, &files);

    // The guide's own verification, which rejects a certificate of another CA.
    let checks = checks.replace("ota.example.com:443", &address.to_string());
    let verified = shell(&files.root, &checks).unwrap();
    let good = verified.matches("Verify return code: 0 (ok)").count();
    assert_eq!(good, checks.lines().count(), "{verified}");
    let other = Place::new();
    shell(&other.root, certificates).unwrap();
    let foreign = shell(&other.root, &checks).unwrap_or_else(|error| error);
    assert!(!foreign.contains("Verify return code: 0 (ok)"), "{foreign}");

    let file = files.root.join("expected");
    std::fs::write(&file, &bytes).unwrap();
    for (chip, limits) in [
        ("EC7xx", "ciphers ECDHE-RSA-AES128-GCM-SHA256"),
        ("EC718S", "ciphers AES128-GCM-SHA256"),
    ] {
        let (_client, plain) = tls_client(&files, address, limits);
        let output = run(&[
            "probe",
            "--http",
            &format!("http://{plain}/luat/update"),
            "--project",
            "P",
            "--expect",
            file.to_str().unwrap(),
        ]);
        assert!(output.status.success(), "{chip}: {}", both(&output));
    }
}
