//! Two servers that share the firmware folder and the secret, with a load balancer in front of them.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::affinity::{Ports, STREAM, blocks, has_stream_module};
use crate::common::{
    self, PATIENCE, Place, Server, free_address_of, luat_ota, serve_arguments, wait_until,
};
use crate::proxies::nginx_paths;
use common::operator::Operator;
use rustix::process::Signal;
use serde_json::Value;

use super::LIMIT;
use super::fleet::INTERVAL;

/// One server. Its ports stay reserved after it has stopped.
pub struct Replica {
    server: Option<Server>,
    /// The state folder, while no server runs.
    place: Option<Place>,
    pub ports: Ports,
    firmware: PathBuf,
    flags: Vec<String>,
}

impl Replica {
    fn start(host: IpAddr, firmware: PathBuf, flags: Vec<String>) -> Replica {
        let any = SocketAddr::new(host, 0);
        let ports = Ports {
            http: any,
            packets: any,
        };
        let mut replica = Replica {
            server: None,
            place: Some(Place::new()),
            ports,
            firmware,
            flags,
        };
        replica.restart();
        replica.ports = Ports::of(replica.server());
        replica
    }

    /// Starts the stopped server again on the same ports.
    pub fn restart(&mut self) {
        let (http, packets) = (self.ports.http.to_string(), self.ports.packets.to_string());
        let mut flags = vec!["--http", &http, "--udp", &packets];
        flags.extend(self.flags.iter().map(String::as_str));
        let place = self.place.take().unwrap();
        let mut arguments = serve_arguments(&place, &flags);
        arguments[1] = self.firmware.display().to_string();
        let server = Server::from_command(place, luat_ota().args(arguments));
        self.server = Some(server);
    }

    /// A release as the server's API shows it.
    pub fn release(&self, project: &str, version: &str) -> Value {
        let list = self.operator().get("/api/v1/releases").json();
        let releases = list["releases"].as_array().unwrap();
        let fits = |it: &&Value| it["project"] == project && it["version"] == version;
        releases.iter().find(fits).cloned().unwrap_or_default()
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub fn operator(&self) -> Operator {
        Operator::of(self.server())
    }

    pub fn is_running(&self) -> bool {
        self.server.is_some()
    }

    pub fn kill(&mut self) {
        self.place = self.server.take().map(Server::kill);
    }

    /// Sends SIGTERM and waits. Downloads may take the whole time of `--grace`.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
        let status = self.server.as_mut().unwrap().wait_for_exit(LIMIT);
        assert!(
            status.is_some_and(|status| status.success()),
            "after SIGTERM: {status:?}"
        );
        self.kill();
    }

    /// Sends a signal to the running server.
    pub fn signal(&self, signal: Signal) {
        self.server().signal(signal);
    }

    /// Runs `luat-ota drain`.
    pub fn drain(&self) {
        let (firmware, state) = (&self.firmware, self.server().place().state());
        let output = common::run(&[
            "drain",
            firmware.to_str().unwrap(),
            "--state",
            state.to_str().unwrap(),
        ]);
        assert!(output.status.success(), "{}", common::both(&output));
    }

    /// The value of a metric with its labels; 0 if the metric does not exist.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.operator().get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }
}

/// A program in front of the servers; stopped when this value is dropped.
struct Program {
    child: Child,
    _place: Place,
}

impl Drop for Program {
    fn drop(&mut self) {
        common::end(&mut self.child);
    }
}

/// The programs that distribute the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancer {
    Nginx,
    /// HAProxy for HTTP and TCP. HAProxy does not forward UDP, so nginx does.
    HaProxy,
}

/// Two servers behind a load balancer.
pub struct Pair {
    pub replicas: [Replica; 2],
    pub balancer: Ports,
    /// The address for UDP.
    pub udp: SocketAddr,
    pub shared: Place,
    _programs: Vec<Program>,
}

/// An address of this machine that no other test uses, so that the ports of a stopped server stay free.
fn host(number: u8) -> IpAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 128 | (high & 0x3f), low, number).into()
}

impl Pair {
    /// Starts all programs. Returns `None`, and reports the skip, if a program is not installed. `hosts` is the
    /// number of the first of four addresses. `slow_fail_back` replaces the ten minutes of the document. `fleet`
    /// states whether the servers share outcomes.
    pub fn start(
        balancer: Balancer,
        hosts: u8,
        slow_fail_back: Duration,
        fleet: bool,
    ) -> Option<Pair> {
        if !has_stream_module() {
            return None;
        }
        let shared = Place::new();
        let secret = shared.root.join("secret");
        let mut all = vec![
            "--secret-file".to_owned(),
            secret.to_str().unwrap().to_owned(),
        ];
        let flags = ["--trusted-proxy", "127.0.0.1", "--udp-errors", "1000"];
        all.extend(flags.map(str::to_owned));
        if fleet {
            let folder = shared.root.join("outcomes");
            std::fs::create_dir(&folder).unwrap();
            all.extend(["--fleet".to_owned(), folder.to_str().unwrap().to_owned()]);
        }
        let replicas =
            [0, 1].map(|n| Replica::start(host(hosts + n), shared.firmware(), all.clone()));
        let [address, udp] = [2, 3].map(|n| host(hosts + n));
        let ports = |host| Ports {
            http: free_address_of(host),
            packets: free_address_of(host),
        };
        let (address, udp) = (ports(address), ports(udp));
        let servers = [replicas[0].ports, replicas[1].ports];
        let text = |language| blocks(language, servers, address);
        let udp_text = |language| blocks(language, servers, udp);
        let seconds = slow_fail_back.as_secs();
        let mut programs = Vec::new();
        let nginx_files = match balancer {
            Balancer::Nginx => {
                let [main, http, stream] = &text("nginx")[..] else {
                    panic!("the document has other blocks of nginx");
                };
                let (program, files) = nginx(main, http, stream, address.http)?;
                programs.push(program);
                files
            }
            Balancer::HaProxy => {
                let [block] = &text("haproxy")[..] else {
                    panic!("the document has other blocks of haproxy");
                };
                let block = replaced(block, "slowstart 10m", &format!("slowstart {seconds}s"));
                programs.push(haproxy(&block, address.http)?);
                let [main, _, stream] = &udp_text("nginx")[..] else {
                    panic!("the document has other blocks of nginx");
                };
                let (program, files) = nginx(main, "", stream, udp.packets)?;
                programs.push(program);
                files
            }
        };
        let script = text("sh")
            .into_iter()
            .find(|block| block.contains("luat-ota-nginx"));
        let script = script.expect("docs/high-availability.md has the script");
        let script = replaced(&script, "hold=600", &format!("hold={seconds}"));
        programs.push(checks(&script, &nginx_files));
        let udp = match balancer {
            Balancer::Nginx => address.packets,
            Balancer::HaProxy => udp.packets,
        };
        Some(Pair {
            replicas,
            balancer: address,
            udp,
            shared,
            _programs: programs,
        })
    }

    /// Waits until this number of devices have sent checks to a server since this line of its log.
    pub fn wait_for_devices(&self, replica: usize, mark: usize, count: usize) {
        let log = &self.replicas[replica].server().log;
        wait_until("the server is used", LIMIT, || {
            let lines = log.all();
            let devices = lines
                .iter()
                .skip(mark)
                .filter_map(|line| device_of_check(line));
            devices.collect::<HashSet<_>>().len() >= count
        });
    }

    /// Waits until a server has received no check for twice the interval of a module.
    pub fn wait_until_unused(&self, replica: usize) {
        let log = &self.replicas[replica].server().log;
        let is_check = |line: &str| device_of_check(line).is_some();
        let end = Instant::now() + LIMIT;
        while log.wait(log.all().len(), INTERVAL * 2, is_check).is_some() {
            assert!(Instant::now() < end, "the drained server is still used");
        }
    }
}

/// The device whose check a line of the log records.
fn device_of_check(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let device = line["device"]
        .as_str()
        .filter(|_| line["event"] == "check")?;
    Some(device.to_owned())
}

/// Like `str::replace`, but fails if the text does not contain `from`.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in {text}");
    text.replace(from, to)
}

/// Starts nginx with these three parts of a configuration. Returns also the files in which it names servers.
fn nginx(
    main: &str,
    http: &str,
    stream: &str,
    listens: SocketAddr,
) -> Option<(Program, NginxFiles)> {
    let place = Place::new();
    let root = place.root.clone();
    let [http_file, stream_file] = ["http.conf", "stream.conf"].map(|name| root.join(name));
    std::fs::write(&http_file, http).unwrap();
    std::fs::write(&stream_file, stream).unwrap();
    let root_text = root.display();
    let text = format!(
        "load_module {STREAM};\ndaemon off; pid {root_text}/pid; error_log {root_text}/log;\n{main}\n\
         http {{\naccess_log off;\n{}include {root_text}/http.conf;\n}}\n\
         stream {{\ninclude {root_text}/stream.conf;\n}}\n",
        nginx_paths(&place)
    );
    let program = launch(place, &text, "nginx", &["-e", "stderr", "-c"], listens)?;
    let files = NginxFiles {
        configuration: root.join("configuration"),
        servers: [http_file, stream_file],
    };
    Some((program, files))
}

struct NginxFiles {
    configuration: PathBuf,
    servers: [PathBuf; 2],
}

/// Starts the script of docs/high-availability.md that checks the servers for nginx.
fn checks(script: &str, files: &NginxFiles) -> Program {
    let place = Place::new();
    let state = place.root.join("checks").display().to_string();
    let script = replaced(script, "/run/luat-ota-nginx", &state);
    let reload = format!(
        "nginx -e stderr -c {} -s reload",
        files.configuration.display()
    );
    let script = replaced(&script, "nginx -s reload", &reload);
    let file = place.root.join("script");
    std::fs::write(&file, script).unwrap();
    let mut command = Command::new("sh");
    command.arg(file).args(&files.servers).stdout(Stdio::null());
    command.stderr(std::fs::File::create(place.root.join("errors")).unwrap());
    Program {
        child: command.spawn().unwrap(),
        _place: place,
    }
}

fn haproxy(text: &str, listens: SocketAddr) -> Option<Program> {
    let text = format!("{text}\n");
    launch(Place::new(), &text, "haproxy", &["-db", "-f"], listens)
}

fn launch(
    place: Place,
    text: &str,
    program: &str,
    words: &[&str],
    listens: SocketAddr,
) -> Option<Program> {
    let (file, log) = (place.root.join("configuration"), place.root.join("errors"));
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(program);
    command.args(words).arg(&file).stdout(Stdio::null());
    command.stderr(std::fs::File::create(&log).unwrap());
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let missing = format!("{program}: {error}; apt-get install nginx-light haproxy");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
            common::mount::skipped(&missing);
            return None;
        }
    };
    let mut program = Program {
        child,
        _place: place,
    };
    wait_until("the load balancer listens", PATIENCE, || {
        let ended = program.child.try_wait().unwrap();
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        assert!(ended.is_none(), "{ended:?}: {log}");
        std::net::TcpStream::connect(listens).is_ok()
    });
    Some(program)
}
