//! Promise: servers with a common secret and separate state folders can replace each other, so that downloads over UDP
//! and of libfota3 survive the loss of one of them; each reports whether a load balancer should use it, and refuses no
//! device while it starts.

use crate::common;

use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::Duration;

use common::datagrams::Device;
use common::packages::noise;
use common::{
    IMEI, PATIENCE, Place, Server, SlowDownload, both, get, get_with, luat, reply, run, wait_until,
};
use serde_json::Value;

/// Two servers with the same firmware and the secret in `secret`, a file that does not exist yet.
fn pair(bytes: &[u8], secret: &Place) -> [Server; 2] {
    let file = secret.root.join("secret");
    let start = || {
        let place = Place::new();
        place.drop_firmware("P/1.0.3/update.bin", bytes);
        let server = Server::start_in(place, &["--secret-file", file.to_str().unwrap()]);
        server.wait_until_offered(&luat("P", "862991443750001", "1.0.0"), bytes);
        server
    };
    // Both start, and create the file, at the same time.
    std::thread::scope(|scope| {
        let one = scope.spawn(start);
        let other = scope.spawn(start);
        [one.join().unwrap(), other.join().unwrap()]
    })
}

#[test]
fn a_udp_download_continues_at_the_other_server() {
    let (bytes, secret) = (noise(90, 20_000), Place::new());
    let [one, other] = pair(&bytes, &secret);
    let mut device = Device::new(one.udp);
    let offer = device
        .check(format!("{IMEI},P_Luat_V0035_8955,1.0.0"))
        .unwrap();
    let mut got = Vec::new();
    for number in 1..=offer.count {
        if number == offer.count / 2 {
            device.server = other.udp;
        }
        let reply = device.ask(format!("Get{number},{}", offer.id)).unwrap();
        got.extend_from_slice(offer.data(number, &reply).unwrap());
    }
    assert_eq!(got, bytes);
    // The check gets the same reply from the other server.
    let again = device
        .check(format!("{IMEI},P_Luat_V0035_8955,1.0.0"))
        .unwrap();
    assert_eq!(again, offer);
}

#[test]
fn the_url_of_libfota3_is_valid_at_the_other_server() {
    let (bytes, secret) = (noise(91, 20_000), Place::new());
    let [one, other] = pair(&bytes, &secret);
    let offered = one.get(&format!(
        "/api/site/turnkey_fota?imei={IMEI}&project_key=k&model=Air780EPM&core_id=1&core_version=2012\
         &script_name=P&script_version=001.000.000"
    ));
    let offered: Value = serde_json::from_slice(&offered.body).unwrap();
    let url = offered["url"]
        .as_str()
        .unwrap_or_else(|| panic!("{offered}"));
    let path = url.find("/api/").map(|at| &url[at..]).unwrap();
    drop(one);
    other.get(path).must_be_file(&bytes).unwrap();
}

/// Runs `luat-ota drain` with these additional words.
fn drain(place: &Place, words: &[&str]) -> Output {
    let (firmware, state) = (place.firmware(), place.state());
    let folders = [
        firmware.to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
    ];
    run(&[&["drain"], &folders[..], words].concat())
}

#[test]
fn a_drained_server_is_not_ready_and_answers_all_the_same() {
    let (bytes, place) = (noise(92, 3000), Place::new());
    place.drop_firmware("P/1.0.3/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let ready = || server.get("/readyz").status;
    assert_eq!(ready(), 200);
    for _ in 0..2 {
        let output = drain(server.place(), &[]);
        assert!(output.status.success(), "{}", both(&output));
        let reply = server.get("/readyz");
        assert_eq!(reply.status, 503);
        assert_eq!(reply.body, b"drained\n");
    }
    let offered = server.get(&luat("P", IMEI, "1.0.0"));
    offered.must_be_file(&bytes).unwrap();
    assert_eq!(server.get("/healthz").status, 200);
    let output = drain(server.place(), &["--undo"]);
    assert!(output.status.success(), "{}", both(&output));
    assert_eq!(ready(), 200);
    assert!(drain(server.place(), &[]).status.success());
    assert_eq!(ready(), 503);
    // A restart ends the drain, and the command fails if no server runs.
    let place = server.terminate();
    let output = drain(&place, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    let server = Server::start_in(place, &[]);
    assert_eq!(server.get("/readyz").status, 200);
}

/// Listens like systemd, writes the port to the file in the first argument, and becomes the server when the file in the
/// second argument exists.
const LAUNCHER: &str = r#"
import fcntl, os, socket, sys, time
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen(128)
with open(sys.argv[1] + ".new", "w") as f:
    f.write(str(s.getsockname()[1]))
os.rename(sys.argv[1] + ".new", sys.argv[1])
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
os.dup2(fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 50), 3, inheritable=True)
os.environ["LISTEN_FDS"] = "1"
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDNAMES"] = "http"
os.execv(sys.argv[3], sys.argv[3:])
"#;

#[test]
fn a_resume_that_arrives_before_the_state_is_loaded_waits_and_gets_the_rest() {
    resume_at_the_start(false);
}

#[test]
fn a_resume_that_arrives_before_its_file_is_read_again_waits_and_gets_the_rest() {
    resume_at_the_start(true);
}

/// Resumes a download before the server runs. `unknown`: whether the hash of the file is lost.
fn resume_at_the_start(unknown: bool) {
    let (bytes, place) = (noise(93, 400_000), Place::new());
    place.drop_firmware("P/1.0.3/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", "862991443750001", "1.0.0"), &bytes);
    drop(SlowDownload::begin(
        server.http,
        &get(&luat("P", IMEI, "1.0.0")),
        60_000,
    ));
    let place = server.terminate();
    if unknown {
        std::fs::remove_file(place.state().join("hashes.jsonl")).unwrap();
        // A file that was just written must settle first, and requests do not wait for that.
        let about = std::fs::metadata(place.path("P/1.0.3/update.bin")).unwrap();
        let written = about.modified().unwrap();
        wait_until("the file is old", PATIENCE, || {
            written.elapsed().unwrap() > Duration::from_secs(12)
        });
    }
    let (port, go) = (place.root.join("port"), place.root.join("go"));
    let mut command = Command::new("python3");
    command
        .args(["-c", LAUNCHER])
        .args([&port, &go])
        .arg(env!("CARGO_BIN_EXE_luat-ota"))
        .args(common::serve_arguments(&place, &[]));
    common::clean(&mut command);
    // The request arrives before the server runs.
    let client = std::thread::spawn(move || {
        wait_until("it listens", PATIENCE, || port.exists());
        let port: u16 = std::fs::read_to_string(port).unwrap().parse().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let rest = get_with(&luat("P", IMEI, "1.0.0"), "Range: bytes=20000-\r\n");
        stream.write_all(&rest).unwrap();
        std::fs::write(go, "").unwrap();
        reply::read(&mut stream, false).unwrap()
    });
    let _server = Server::from_command(place, &mut command);
    let reply = client.join().unwrap();
    assert_eq!(reply.status, 206, "{}", reply.show());
    assert!(reply.body == bytes[20_000..], "another part");
}
