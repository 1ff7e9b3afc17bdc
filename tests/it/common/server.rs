//! A server of this build in its own folder.

use super::*;

/// A running server. Dropping this value kills the process, and shows its log if the test failed.
pub struct Server {
    pub http: SocketAddr,
    pub udp: SocketAddr,
    pub tcp: SocketAddr,
    pub log: Arc<Log>,
    child: Child,
    place: Option<Place>,
}

/// Time to wait for a server to have scanned its folder, in which there may be very many files.
const START: Duration = Duration::from_secs(60);

impl Server {
    /// Starts a server with an empty folder and free ports.
    pub fn start(flags: &[&str]) -> Server {
        Server::start_in(Place::new(), flags)
    }

    /// Starts a server with a folder that was prepared.
    pub fn start_in(place: Place, flags: &[&str]) -> Server {
        let mut command = luat_ota();
        command.args(serve_arguments(&place, flags));
        Server::from_command(place, &mut command)
    }

    /// Runs a command that becomes a server.
    pub fn from_command(place: Place, command: &mut Command) -> Server {
        match Server::try_from_command(place, command) {
            Ok(server) => server,
            Err(log) => panic!("the server did not start; it wrote:\n{log}"),
        }
    }

    pub fn try_from_command(place: Place, command: &mut Command) -> Result<Server, String> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        collect(child.stdout.take().unwrap(), log.clone());
        collect(child.stderr.take().unwrap(), log.clone());
        let end = Instant::now() + START;
        let started = loop {
            if log
                .wait(0, Duration::from_millis(50), |line| is_event(line, "ready"))
                .is_some()
            {
                break true;
            }
            if child.try_wait().unwrap().is_some() || Instant::now() > end {
                // The last lines may still be in the pipe.
                std::thread::sleep(Duration::from_millis(100));
                break false;
            }
        };
        let address = |proto: &str| log.all().iter().find_map(|line| listens(line, proto));
        let http = address("http");
        let udp = address("udp").or(address("tcp"));
        let tcp = address("tcp").or(address("udp"));
        let (true, Some(http), Some(udp), Some(tcp)) = (started, http, udp, tcp) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(log.all().join("\n"));
        };
        Ok(Server {
            http,
            udp,
            tcp,
            log,
            child,
            place: Some(place),
        })
    }

    pub fn place(&self) -> &Place {
        self.place.as_ref().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn drop_firmware(&self, path: &str, bytes: &[u8]) {
        self.place().drop_firmware(path, bytes);
    }

    pub fn rules(&self, path: &str, rules: serde_json::Value) {
        self.place().rules(path, rules);
    }

    /// Whether the process is still running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until the process exits without a signal from the test.
    pub fn wait_for_exit(&mut self, patience: Duration) -> Option<ExitStatus> {
        wait_for_exit(&mut self.child, patience)
    }

    /// Sends SIGKILL, which has the effect of a power cut. The folder remains.
    pub fn kill(mut self) -> Place {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.place.take().unwrap()
    }

    /// Sends SIGTERM, after which the server must exit with status 0. The folder remains.
    pub fn terminate(mut self) -> Place {
        self.signal(rustix::process::Signal::TERM);
        let status = self.wait_for_exit(PATIENCE);
        assert!(
            status.is_some_and(|status| status.success()),
            "after SIGTERM: {status:?}"
        );
        self.place.take().unwrap()
    }

    /// Waits for a log line. All lines since the start count.
    pub fn wait_for_log(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        match self.log.wait(0, PATIENCE, fits) {
            Some(line) => line,
            None => panic!("no log line that {what}"),
        }
    }

    /// Number of log lines so far, for tests that look only at later lines.
    pub fn log_mark(&self) -> usize {
        self.log.all().len()
    }

    /// Sends a request unchanged and parses the reply strictly.
    pub fn try_http(&self, request: &[u8]) -> Result<Reply, String> {
        self.try_http_segments(&[request], Duration::ZERO)
    }

    /// Like [`Server::try_http`], with the request in several segments, sent `gap` apart.
    pub fn try_http_segments(&self, segments: &[&[u8]], gap: Duration) -> Result<Reply, String> {
        let show = || reply::show(&segments.concat());
        let mut stream =
            TcpStream::connect(self.http).map_err(|error| format!("cannot connect: {error}"))?;
        stream.set_nodelay(true).unwrap();
        for (number, segment) in segments.iter().enumerate() {
            if number > 0 {
                std::thread::sleep(gap);
            }
            stream
                .write_all(segment)
                .map_err(|error| format!("cannot write: {error}; request: {}", show()))?;
        }
        let head_only = segments.concat().starts_with(b"HEAD ");
        reply::read(&mut stream, head_only)
            .map_err(|error| format!("{error}\n    request: {}", show()))
    }

    /// Sends a request, whose reply must be well formed.
    pub fn http(&self, request: &[u8]) -> Reply {
        self.try_http(request)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sends a plain GET of a target.
    pub fn get(&self, target: &str) -> Reply {
        self.http(&get(target))
    }

    pub fn try_get(&self, target: &str) -> Result<Reply, String> {
        self.try_http(&get(target))
    }

    /// Repeats a request until its reply fits; fails with the last reply.
    pub fn wait_for_reply(
        &self,
        request: &[u8],
        patience: Duration,
        fits: impl Fn(&Reply) -> bool,
    ) -> Result<Reply, String> {
        let end = Instant::now() + patience;
        loop {
            let reply = self.try_http(request);
            match &reply {
                Ok(good) if fits(good) => return reply,
                _ if Instant::now() < end => std::thread::sleep(Duration::from_millis(40)),
                Ok(other) => {
                    return Err(format!(
                        "within {patience:?} the reply came to be no other than {}\n    request: {}",
                        other.show(),
                        reply::show(request)
                    ));
                }
                Err(_) => return reply,
            }
        }
    }

    /// Repeats a check until the reply is exactly these bytes. Returns the time that this took.
    pub fn wait_until_offered(&self, target: &str, bytes: &[u8]) -> Duration {
        let start = Instant::now();
        if let Err(error) = self.wait_for_reply(&get(target), PATIENCE, |reply| {
            reply.status == 200 && reply.body == bytes
        }) {
            panic!("not offered: {error}");
        }
        start.elapsed()
    }

    /// Repeats a check until it gets a refusal with this status and code.
    pub fn wait_until_refused(&self, target: &str, status: u16, code: u32) {
        if let Err(error) = self.wait_for_reply(&get(target), PATIENCE, |reply| {
            reply.status == status && reply.code() == Some(code)
        }) {
            panic!("not refused with {status} and code {code}: {error}");
        }
    }

    /// Growth of the resident memory since it was `before` KiB, in KiB. Prints both values.
    pub fn grown_since(&self, before: u64) -> u64 {
        let after = self.resident();
        println!("VmRSS {before} KiB before, {after} KiB after");
        after.saturating_sub(before)
    }

    /// Resident memory in KiB (VmRSS).
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok())
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let lines = self.log.all();
            let skip = lines.len().saturating_sub(60);
            eprintln!(
                "--- the server's log ({} lines, the last of them):",
                lines.len()
            );
            for line in lines.iter().skip(skip) {
                eprintln!("{line}");
            }
            match ended {
                Some(status) => eprintln!("--- it had ended: {status}"),
                None => eprintln!("--- it was still running"),
            }
        }
    }
}
