//! Promise: a server that systemd starts uses the sockets that it gets and reports when it is ready
//! and when it stops; otherwise it does neither.

use crate::common;

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use common::datagrams::Device;
use common::packages::noise;
use common::{IMEI, Place, Server, luat, serve_arguments};

/// Opens the sockets, passes them as systemd would, and becomes the server, like
/// systemd-socket-activate for datagrams and streams at once.
const LAUNCHER: &str = r#"
import fcntl, os, socket, sys
names, sockets = [], []
for kind in sys.argv[1].split(","):
    family = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    s = socket.socket(socket.AF_INET, family)
    s.bind(("127.0.0.1", 0))
    if kind != "udp":
        s.listen(128)
    sys.stderr.write("passed %s 127.0.0.1:%d\n" % (kind, s.getsockname()[1]))
    names.append(kind)
    sockets.append(s)
sys.stderr.flush()
high = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 50) for s in sockets]
for number, fd in enumerate(high):
    os.dup2(fd, 3 + number, inheritable=True)
    os.close(fd)
os.environ["LISTEN_FDS"] = str(len(sockets))
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDNAMES"] = ":".join(names)
os.execv(sys.argv[2], sys.argv[2:])
"#;

fn place() -> (Place, Vec<u8>) {
    let place = Place::new();
    let bytes = noise(160, 2000);
    place.drop_firmware("P/1.0.1/update.bin", &bytes);
    (place, bytes)
}

#[test]
fn sockets_that_systemd_opened_are_served() {
    let (place, bytes) = place();
    let mut command = Command::new("python3");
    command
        .args(["-c", LAUNCHER, "http,udp"])
        .arg(env!("CARGO_BIN_EXE_luat-ota"))
        .args([
            "serve",
            place.firmware().to_str().unwrap(),
            "--state",
            place.state().to_str().unwrap(),
            "--operator",
            "off",
            "--log-format",
            "json",
        ]);
    common::clean(&mut command);
    let server = Server::from_command(place, &mut command);
    let passed = |kind: &str| -> SocketAddr {
        server
            .wait_for_log("names a passed socket", |line| {
                line.starts_with(&format!("passed {kind} "))
            })
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    assert_eq!(server.http, passed("http"));
    assert_eq!(server.udp, passed("udp"));
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let device = Device::new(passed("udp"));
    let offer = device
        .check(format!("{IMEI},P_Luat_V0035_8955,1.0.0"))
        .unwrap();
    assert_eq!(device.download(offer).unwrap(), bytes);
}

#[test]
fn sockets_for_another_process_are_not_taken() {
    let (place, bytes) = place();
    let mut command = common::luat_ota();
    command
        .args(serve_arguments(&place, &[]))
        .env("LISTEN_FDS", "2")
        .env("LISTEN_PID", "1");
    let server = Server::from_command(place, &mut command);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
}

#[test]
fn systemd_is_notified_when_the_server_is_ready_and_when_it_stops() {
    let (place, bytes) = place();
    let path = place.root.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut command = common::luat_ota();
    command
        .args(serve_arguments(&place, &[]))
        .env("NOTIFY_SOCKET", &path);
    let server = Server::from_command(place, &mut command);
    let until = |word: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = socket
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("no {word}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line == word) {
                break;
            }
        }
    };
    until("READY=1");
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let _place = server.terminate();
    until("STOPPING=1");
}
