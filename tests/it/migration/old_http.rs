//! An old HTTP server that replies like common self-made servers, from a table that the test may change at any time.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The fields of a check that the old servers read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OldCheck {
    pub imei: String,
    pub firmware_name: String,
    pub version: String,
}

/// Status, reason phrase and body of a reply.
pub struct Answer(pub u16, pub &'static str, pub Vec<u8>);

type Decide = Box<dyn Fn(&OldCheck) -> Answer + Send + Sync>;

/// A server on a free port. It replies until the test ends, and records every check.
pub struct OldServer {
    pub address: SocketAddr,
    pub checks: Arc<Mutex<Vec<OldCheck>>>,
}

impl OldServer {
    pub fn start(decide: Decide) -> OldServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let checks = Arc::new(Mutex::new(Vec::new()));
        let (kept, decide) = (checks.clone(), Arc::new(decide));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, decide) = (kept.clone(), decide.clone());
                std::thread::spawn(move || answer(stream.unwrap(), &kept, &decide));
            }
        });
        OldServer { address, checks }
    }
}

fn answer(mut stream: TcpStream, kept: &Mutex<Vec<OldCheck>>, decide: &Decide) {
    let mut raw = Vec::new();
    let mut byte = [0];
    while !raw.ends_with(b"\r\n\r\n") {
        if !stream.read(&mut byte).is_ok_and(|count| count > 0) {
            return;
        }
        raw.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&raw).into_owned();
    let value = |key: &str| {
        let line = text.lines().next().unwrap_or_default();
        let found = line
            .split(['?', '&', ' '])
            .find_map(|part| part.strip_prefix(key));
        found.unwrap_or_default().to_owned()
    };
    let check = OldCheck {
        imei: value("imei=") + &value("mac="),
        firmware_name: value("firmware_name="),
        version: value("version="),
    };
    let Answer(status, reason, body) = decide(&check);
    kept.lock().unwrap().push(check);
    // LuaTask and libfota request a part. These tests request no part that begins after byte 0.
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    // updatehttp needs the head and the body in separate segments.
    let _ = stream.write_all(head.as_bytes());
    std::thread::sleep(std::time::Duration::from_millis(300));
    let _ = stream.write_all(&body);
    let _ = stream.shutdown(Shutdown::Write);
    while stream.read(&mut [0; 512]).is_ok_and(|count| count > 0) {}
}
