//! A temporary folder, and the log of a server.

use std::fmt::Write as _;

use super::*;

/// Writes an executable file. Another program writes it: a file that this process had open for writing cannot be
/// executed (ETXTBSY) while a child that another test has forked still has it open.
pub fn write_executable(path: &Path, text: &str) {
    let source = path.with_extension("source");
    std::fs::write(&source, text).unwrap();
    let mut install = Command::new("install");
    let status = install.args(["-m", "755"]).args([&source, path]).status();
    assert!(status.unwrap().success(), "{}", path.display());
    std::fs::remove_file(source).unwrap();
}

/// A temporary folder that contains `firmware/` and `state/`; removed when this value is dropped.
pub struct Place {
    pub root: PathBuf,
}

impl Place {
    pub fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = std::env::temp_dir().join(format!(
            "luat-ota-e2e-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("firmware")).unwrap();
        std::fs::create_dir_all(root.join("state")).unwrap();
        Place { root }
    }

    pub fn firmware(&self) -> PathBuf {
        self.root.join("firmware")
    }

    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// A path inside the firmware folder. Creates its parent folders.
    pub fn path(&self, path: &str) -> PathBuf {
        let path = self.firmware().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// Drops a file the safe way: writes it as `.part` next to its destination, then renames it.
    pub fn drop_firmware(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        let mut part = path.clone().into_os_string();
        part.push(".part");
        std::fs::write(&part, bytes).unwrap();
        std::fs::rename(&part, &path).unwrap();
    }

    /// Writes a `release.json`.
    pub fn rules(&self, path: &str, rules: serde_json::Value) {
        self.drop_firmware(path, rules.to_string().as_bytes());
    }
}

/// Writes a journal with this many devices of project P into the state folder. Their IMEIs count up from
/// 862991400000000, they were seen an hour ago, and their versions are 1.0.0 to 1.6.0.
pub fn remember_fleet(place: &Place, devices: u64) {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut journal = String::new();
    let mut line = |mut text: String| {
        let crc = crc32fast::hash(text.as_bytes());
        writeln!(text, ",\"crc\":\"{crc:08x}\"}}").unwrap();
        journal += &text;
    };
    line("{\"luat-ota-journal\":1".to_owned());
    for n in 0..devices {
        let (imei, seen) = (862_991_400_000_000 + n, now - 3600);
        line(format!(
            "{{\"device\":\"imei:{imei}\",\"project\":\"P\",\"version\":\"1.{}.0\",\"first\":{},\"last\":{seen},\
             \"interval\":3600,\"network\":\"192.0.2.0/24\",\"at\":{seen}",
            n % 7,
            seen - 86_400,
        ));
    }
    std::fs::create_dir_all(place.state()).unwrap();
    std::fs::write(place.state().join("journal.jsonl"), journal).unwrap();
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// The lines that a server has written so far.
#[derive(Default)]
pub struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Log {
    fn push(&self, line: String) {
        self.lines.lock().unwrap().push(line);
        self.more.notify_all();
    }

    pub fn all(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The first line at or after number `from` that fits.
    pub fn wait(
        &self,
        from: usize,
        patience: Duration,
        fits: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let end = Instant::now() + patience;
        let mut lines = self.lines.lock().unwrap();
        let mut seen = from;
        loop {
            while let Some(line) = lines.get(seen) {
                if fits(line) {
                    return Some(line.clone());
                }
                seen += 1;
            }
            let left = end.checked_duration_since(Instant::now())?;
            lines = self.more.wait_timeout(lines, left).unwrap().0;
        }
    }
}

/// Reads the lines of a stream into a log, on a separate thread.
pub fn collect(stream: impl Read + Send + 'static, log: Arc<Log>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { return };
            log.push(String::from_utf8_lossy(&line).into_owned());
        }
    });
}

/// All texts in a JSON log line, whatever their keys.
pub fn texts(line: &str) -> Vec<String> {
    match serde_json::from_str::<serde_json::Value>(line) {
        Ok(serde_json::Value::Object(fields)) => fields
            .values()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether this is the log line of an event. The key of the event's name does not matter.
pub fn is_event(line: &str, event: &str) -> bool {
    texts(line).iter().any(|text| text == event)
}

/// The listening address of one kind of socket in a start-up line.
pub fn listens(line: &str, proto: &str) -> Option<SocketAddr> {
    if !is_event(line, "listen") || !is_event(line, proto) {
        return None;
    }
    texts(line).iter().find_map(|text| text.parse().ok())
}
