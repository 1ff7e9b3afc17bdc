//! Promise: with nginx and HAProxy in front of two servers, configured as docs/high-availability.md says, each device
//! is served by the same server, resumed downloads are not refused, and the loss of a server stops no update.
//!
//! The real programs run with the text of the document, in which only the addresses are replaced. If one is not
//! installed, the test reports that it was skipped; with CI=true it fails (apt-get install nginx-light
//! libnginx-mod-stream haproxy).
#![cfg(feature = "lab")]

use crate::common;
use crate::proxies::{Proxy, command, launch, nginx_paths};

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use common::datagrams::{Device, Stream};
use common::documents;
use common::packages::noise;
use common::{
    PATIENCE, Place, Reply, Server, both, connect_from, free_address, get, get_with, luat, reply,
    run, wait_until,
};
use serde_json::Value;

/// Size of the file in bytes.
const SIZE: usize = 400_000;

/// Number of devices of a test.
const DEVICES: u64 = 40;

/// The IMEI of a device.
fn imei(number: u64) -> String {
    format!("{}", 862_991_440_000_000 + number * 7)
}

/// Two servers with a common secret, as backends of a load balancer on this machine.
fn servers(bytes: &[u8], secret: &Place) -> [Server; 2] {
    let file = secret.root.join("secret");
    [(); 2].map(|()| {
        let place = Place::new();
        place.drop_firmware("P/1.0.3/update.bin", bytes);
        let flags = [
            ["--secret-file", file.to_str().unwrap()],
            ["--trusted-proxy", "127.0.0.1"],
            ["--udp-errors", "1000"],
        ];
        let server = Server::start_in(place, &flags.concat());
        server.wait_until_offered(&luat("P", "862991449999999", "1.0.0"), bytes);
        server
    })
}

/// Listening addresses of a server or of the load balancer.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub http: SocketAddr,
    /// UDP and TCP port 2234.
    pub packets: SocketAddr,
}

impl Ports {
    pub fn of(server: &Server) -> Ports {
        assert_eq!(server.udp, server.tcp);
        Ports {
            http: server.http,
            packets: server.udp,
        }
    }
}

/// The document's blocks in this language, with the addresses of the test.
pub fn blocks(language: &str, servers: [Ports; 2], balancer: Ports) -> Vec<String> {
    let Ports { http, packets } = balancer;
    let here = |text: &str| {
        let lines = text.lines().filter(|line| !line.contains("[::]"));
        let lines = lines.map(|line| {
            let mut line = line.to_owned();
            for (ports, host) in servers.iter().zip(["10.0.0.1", "10.0.0.2"]) {
                let check = |port| format!("{host}:2234 check port {port}");
                line = line
                    .replace(&check(8080), &check(ports.http.port()))
                    .replace(&format!("{host}:8080"), &ports.http.to_string())
                    .replace(&format!("{host}:2234"), &ports.packets.to_string());
            }
            line.replace("listen 80 ", &format!("listen {http} "))
                .replace("bind :80", &format!("bind {http}"))
                .replace("listen 2234", &format!("listen {packets}"))
                .replace("bind :2234", &format!("bind {packets}"))
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let text = documents::read("docs/high-availability.md");
    let blocks = documents::blocks(&text, language);
    blocks.iter().map(|block| here(block)).collect()
}

/// Path of the nginx module for UDP and TCP.
pub const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Whether the nginx module is installed. If not, reports that the test was skipped.
pub fn has_stream_module() -> bool {
    if std::path::Path::new(STREAM).exists() {
        return true;
    }
    let missing =
        "the stream module of nginx is not installed (apt-get install libnginx-mod-stream)";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
    common::mount::skipped(missing);
    false
}

/// A load balancer, with its address for UDP and TCP port 2234.
struct Balancer {
    proxy: Proxy,
    packets: SocketAddr,
}

fn nginx(servers: &[Server; 2]) -> Option<Balancer> {
    if !has_stream_module() {
        return None;
    }
    let (place, http, packets) = (Place::new(), free_address(), free_address());
    let servers = [Ports::of(&servers[0]), Ports::of(&servers[1])];
    let [main, block, stream] = &blocks("nginx", servers, Ports { http, packets })[..] else {
        panic!("the document has other blocks");
    };
    let root = place.root.display();
    let text = format!(
        "load_module {STREAM};\ndaemon off; master_process off; pid {root}/pid; error_log stderr;\n{main}\n\
         http {{\naccess_log off;\n{}{block}\n}}\nstream {{\n{stream}\n}}\n",
        nginx_paths(&place)
    );
    let command = command("nginx", &["-e", "stderr", "-c"]);
    let proxy = launch("nginx", place, http, &text, command)?;
    Some(Balancer { proxy, packets })
}

fn haproxy(servers: &[Server; 2]) -> Option<Balancer> {
    let (place, http, packets) = (Place::new(), free_address(), free_address());
    let servers = [Ports::of(&servers[0]), Ports::of(&servers[1])];
    let [block] = &blocks("haproxy", servers, Ports { http, packets })[..] else {
        panic!("the document has other blocks");
    };
    let command = command("haproxy", &["-db", "-f"]);
    let proxy = launch("haproxy", place, http, &format!("{block}\n"), command)?;
    Some(Balancer { proxy, packets })
}

/// The reply to a request through the load balancer; an error if it is cut short.
fn ask(address: SocketAddr, request: &[u8]) -> Result<Reply, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(request)
        .map_err(|error| error.to_string())?;
    reply::read(&mut stream, false)
}

/// Begins a download and cuts it after at least this many bytes of the file.
fn begin(address: SocketAddr, number: u64, bytes: usize) {
    let mut stream = connect_from(None, address, 16 * 1024);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(&get(&luat("P", &imei(number), "1.0.0")))
        .unwrap();
    let (mut part, mut read) = ([0; 4096], 0);
    while read < bytes + 1000 {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "closed after {read} bytes");
        read += count;
    }
}

fn resume(address: SocketAddr, number: u64, from: usize) -> Result<Reply, String> {
    let range = format!("Range: bytes={from}-\r\n");
    ask(
        address,
        &get_with(&luat("P", &imei(number), "1.0.0"), &range),
    )
}

/// Whether a server has answered a check of this device.
fn has_served(server: &Server, number: u64) -> bool {
    let imei = format!("\"{}\"", imei(number));
    server.log.all().iter().any(|line| line.contains(&imei))
}

/// The devices that each server has served, of the first `count`. Fails unless each device was served by exactly one
/// server.
fn served(servers: &[Server; 2], count: u64) -> [Vec<u64>; 2] {
    let of = |server| {
        (0..count)
            .filter(|number| has_served(server, *number))
            .collect::<Vec<_>>()
    };
    let [one, two] = servers;
    wait_until("the log has each device", PATIENCE, || {
        (0..count).all(|number| has_served(one, number) || has_served(two, number))
    });
    let served = [of(one), of(two)];
    let counts = [served[0].len(), served[1].len()];
    println!("devices at each server: {counts:?}");
    assert_eq!(counts[0] + counts[1], count as usize, "{served:?}");
    assert!(counts.iter().all(|count| *count > 0), "{served:?}");
    served
}

/// Tests resumed downloads behind the load balancer, and then the loss of a server.
fn check_balancer(start: impl Fn(&[Server; 2]) -> Option<Balancer>) {
    let (bytes, secret) = (noise(97, SIZE), Place::new());
    let servers = servers(&bytes, &secret);
    let Some(balancer) = start(&servers) else {
        return;
    };
    let address = balancer.proxy.address;
    for number in 0..DEVICES {
        begin(address, number, 20_000);
        let rest = resume(address, number, 20_000).unwrap();
        assert_eq!(rest.status, 206, "device {number}: {}", rest.show());
        assert!(
            rest.body == bytes[20_000..],
            "device {number}: another part"
        );
        begin(address, number, 20_000);
    }
    // Modules need header names in their exact spelling.
    let reply = ask(address, &get(&luat("P", &imei(0), "1.0.0"))).unwrap();
    reply.must_be_file(&bytes).unwrap();
    let [_, kept] = served(&servers, DEVICES);
    let [one, _two] = servers;
    drop(one.kill());
    let began = Instant::now();
    let (mut failed, mut refused) = (0, 0);
    for number in 0..DEVICES {
        let rest = loop {
            match resume(address, number, 20_000) {
                Ok(reply) if reply.status != 503 && reply.status != 502 => break reply,
                _ => failed += 1,
            }
            assert!(began.elapsed() < PATIENCE, "device {number}");
        };
        match kept.contains(&number) {
            true => assert_eq!(rest.status, 206, "device {number}: {}", rest.show()),
            false => {
                refused += 1;
                assert_eq!(rest.status, 416, "device {number}: {}", rest.show());
                let again = ask(address, &get(&luat("P", &imei(number), "1.0.0"))).unwrap();
                again.must_be_file(&bytes).unwrap();
            }
        }
    }
    println!("after the loss: {failed} attempts failed, {refused} downloads began again");
    assert!(failed <= DEVICES, "{failed} attempts failed");
}

#[test]
fn behind_nginx_resumes_are_not_refused_and_a_lost_server_stops_no_update() {
    check_balancer(nginx);
}

#[test]
fn behind_haproxy_resumes_are_not_refused_and_a_lost_server_stops_no_update() {
    check_balancer(haproxy);
}

#[test]
fn haproxy_moves_the_devices_of_a_drained_server() {
    let (bytes, secret) = (noise(98, 3000), Place::new());
    let servers = servers(&bytes, &secret);
    let Some(balancer) = haproxy(&servers) else {
        return;
    };
    let address = balancer.proxy.address;
    let check = |number| ask(address, &get(&luat("P", &imei(number), "1.0.3"))).unwrap();
    let drained = &servers[0];
    let number = (0..DEVICES).find(|number| {
        check(*number);
        let known = format!("\"{}\"", imei(*number));
        drained
            .log
            .wait(0, Duration::from_millis(300), |line| line.contains(&known))
            .is_some()
    });
    let number = number.unwrap();
    let (firmware, state) = (drained.place().firmware(), drained.place().state());
    let folders = [
        firmware.to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
    ];
    let output = run(&[&["drain"], &folders[..]].concat());
    assert!(output.status.success(), "{}", both(&output));
    wait_until("the other server has the device", PATIENCE, || {
        assert_eq!(check(number).status, 404);
        has_served(&servers[1], number)
    });
}

#[test]
fn libfota3_downloads_from_the_other_server_a_file_that_a_lost_server_offered() {
    let (bytes, secret) = (noise(99, 30_000), Place::new());
    let servers = servers(&bytes, &secret);
    let Some(balancer) = nginx(&servers) else {
        return;
    };
    let address = balancer.proxy.address;
    let offered = |number| {
        let check = format!(
            "/api/site/turnkey_fota?imei={}&project_key=k&model=Air780EPM&core_id=1&core_version=2012\
             &script_name=P&script_version=001.000.000",
            imei(number)
        );
        let request =
            format!("GET {check} HTTP/1.1\r\nHost: {address}\r\nConnection: Close\r\n\r\n");
        let reply: Value =
            serde_json::from_slice(&ask(address, request.as_bytes()).unwrap().body).unwrap();
        let url = reply["url"]
            .as_str()
            .unwrap_or_else(|| panic!("{reply}"))
            .to_owned();
        url.strip_prefix(&format!("http://{address}"))
            .unwrap()
            .to_owned()
    };
    let urls: Vec<String> = (0..DEVICES).map(offered).collect();
    let [one, _two] = servers;
    drop(one.kill());
    for url in urls {
        ask(address, &get(&url))
            .unwrap()
            .must_be_file(&bytes)
            .unwrap();
    }
}

#[test]
fn udp_downloads_behind_nginx_continue_at_the_other_server() {
    let (bytes, secret) = (noise(100, 20_000), Place::new());
    let servers = servers(&bytes, &secret);
    let Some(balancer) = nginx(&servers) else {
        return;
    };
    let devices: Vec<Device> = (2..26)
        .map(|number| Device::at([127, 0, 0, number].into(), balancer.packets))
        .collect();
    let offers: Vec<_> = (0..)
        .zip(&devices)
        .map(|(number, device)| {
            let check = format!("{},P_Luat_V0035_8955,1.0.0", imei(number));
            device.check(check).unwrap()
        })
        .collect();
    let mut images = vec![Vec::new(); devices.len()];
    served(&servers, 24);
    let [one, _two] = servers;
    let mut one = Some(one);
    let mut most = 0;
    for number in 1..=offers[0].count {
        if number == 10 {
            drop(one.take().map(Server::kill));
        }
        for ((device, offer), image) in devices.iter().zip(&offers).zip(&mut images) {
            let mut lost = 0;
            let data = loop {
                let reply =
                    device.ask_for(format!("Get{number},{}", offer.id), Duration::from_secs(1));
                match reply.as_deref().map(|reply| offer.data(number, reply)) {
                    Some(Ok(data)) => break data.to_vec(),
                    // nginx reports the lost server with an empty datagram.
                    _ => lost += 1,
                }
                assert!(lost < 10, "packet {number}");
            };
            most = most.max(lost);
            image.extend_from_slice(&data);
        }
    }
    println!("at most {most} lost requests for a packet");
    assert!(images.iter().all(|image| *image == bytes), "another image");
}

/// nginx keeps connections for each module that sends datagrams, for some time after the last one.
#[test]
fn a_thousand_modules_check_over_udp_behind_nginx_within_a_minute() {
    let (bytes, secret) = (noise(101, 20_000), Place::new());
    let servers = servers(&bytes, &secret);
    let Some(balancer) = nginx(&servers) else {
        return;
    };
    for number in 0..1000 {
        let [.., high, low] = (number as u32 + 2).to_be_bytes();
        let device = Device::at([127, 0, high, low].into(), balancer.packets);
        let check = format!("{},P_Luat_V0035_8955,1.0.0", imei(number));
        // A module asks again if no answer comes.
        let offer = (0..3).find_map(|_| device.check(&check).ok());
        assert!(offer.is_some(), "module {number} got no offer");
    }
}

/// Each worker of nginx has its own connections to the servers.
#[test]
fn all_packets_of_a_module_come_from_one_port_of_nginx_with_several_workers() {
    if !has_stream_module() {
        return;
    }
    let (place, packets) = (Place::new(), free_address());
    // A refused TCP connection would be a failure of the server.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let backend = UdpSocket::bind(listener.local_addr().unwrap()).unwrap();
    backend.set_read_timeout(Some(PATIENCE)).unwrap();
    let server = Ports {
        http: free_address(),
        packets: backend.local_addr().unwrap(),
    };
    let listens = Ports {
        http: free_address(),
        packets,
    };
    let [main, _, stream] = &blocks("nginx", [server; 2], listens)[..] else {
        panic!("the document has other blocks");
    };
    let root = place.root.display();
    let text = format!(
        "load_module {STREAM};\ndaemon off; worker_processes 4; pid {root}/pid; error_log stderr;\n{main}\n\
         stream {{\n{stream}\n}}\n"
    );
    let command = command("nginx", &["-e", "stderr", "-c"]);
    let Some(_nginx) = launch("nginx", place, packets, &text, command) else {
        return;
    };
    for number in 2..22 {
        let device = Device::at([127, 0, 0, number].into(), packets);
        let mut ports = BTreeSet::new();
        for _ in 0..40 {
            device.socket.send_to(b"check", packets).unwrap();
            let mut buffer = [0; 100];
            let (_, from) = backend.recv_from(&mut buffer).unwrap();
            ports.insert(from.port());
        }
        assert_eq!(ports.len(), 1, "module {number}: {ports:?}");
    }
}

/// The server closes such a connection, and nginx counts that as a failure of the server.
#[test]
fn large_bodies_do_not_reach_the_servers_behind_nginx() {
    let (bytes, secret) = (noise(102, 3000), Place::new());
    let servers = servers(&bytes, &secret);
    let Some(balancer) = nginx(&servers) else {
        return;
    };
    let head = "POST /luat/update HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n";
    let mut stream = TcpStream::connect(balancer.proxy.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
}

#[test]
fn tcp_downloads_continue_at_the_other_server_after_a_reconnect() {
    let (bytes, secret) = (noise(101, 20_000), Place::new());
    for start in [nginx, haproxy] {
        let servers = servers(&bytes, &secret);
        let Some(balancer) = start(&servers) else {
            return;
        };
        let mut stream = Stream::connect(balancer.packets);
        let check = format!("{},P_Luat_V0035_8955,1.0.0", imei(1));
        let offer = common::datagrams::Offer::parse(&stream.ask(check).unwrap()).unwrap();
        let mut image = Vec::new();
        let mut servers = servers.map(Some);
        for number in 1..=offer.count {
            if number == 10 {
                // Kill the server that has the device.
                wait_until("the log has the device", PATIENCE, || {
                    let mut servers = servers.iter().flatten();
                    servers.any(|server| has_served(server, 1))
                });
                let mut lost = servers
                    .iter_mut()
                    .find(|server| server.as_ref().is_some_and(|server| has_served(server, 1)));
                drop(lost.take().and_then(Option::take).map(Server::kill));
            }
            let began = Instant::now();
            let data = loop {
                let reply = stream.ask(format!("Get{number},{}", offer.id));
                if let Ok(data) = reply.and_then(|reply| Ok(offer.data(number, &reply)?.to_vec())) {
                    break data;
                }
                assert!(began.elapsed() < PATIENCE, "packet {number}");
                stream = Stream::connect(balancer.packets);
            };
            image.extend_from_slice(&data);
        }
        assert!(image == bytes, "another image");
    }
}
