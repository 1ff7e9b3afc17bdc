//! List of known devices: `known-devices.txt` in the state folder, with one id per line, or a table (CSV) whose first
//! field is the id. A separate thread reads the file whenever it changes.
//!
//! If the file is removed or cannot be read, the list stays unchanged: an editor that replaces the file by deleting it
//! must not shut out the whole fleet in the meantime. An empty file empties the list.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use smol::channel::{Receiver, TryRecvError, bounded};

use crate::firmware::audience::DeviceId;
use crate::logging::Printable;
use crate::os::fs::{Content, FileStamp, open_to_read, stamp};
use crate::os::notify::Notify;
use crate::os::process;

/// Name of the file in the state folder.
pub const FILE: &str = "known-devices.txt";

/// Maximum number of ids that are read.
const MAX_IDS: usize = 2_000_000;

/// Bytes of a line that are read. The rest of a longer line is skipped.
const MAX_LINE: u64 = 1024;

/// Maximum number of bad lines that are quoted in the log.
const MAX_QUOTED: usize = 5;

/// List of known devices.
#[derive(Debug, Default)]
pub struct KnownList {
    path: Option<PathBuf>,
    /// Ids in the list, sorted.
    ids: Arc<[DeviceId]>,
    /// Stamp of the file that the ids were read from.
    from: Option<FileStamp>,
    /// Whether the file may have changed.
    is_read_due: bool,
    /// Notified when the file was read.
    notify: Notify,
    reading: Option<Receiver<io::Result<Contents>>>,
    /// Kind of the error that was logged last; `None` after the file was read.
    logged_error: Option<io::ErrorKind>,
}

/// Content of the file.
#[derive(Debug)]
struct Contents {
    ids: Arc<[DeviceId]>,
    from: FileStamp,
    bad: Vec<String>,
    bad_count: usize,
}

impl KnownList {
    /// Reads the list of this state folder, if there is one. `notify` is notified after each later read.
    pub fn open(folder: &Path, notify: Notify) -> KnownList {
        let mut list = KnownList {
            path: Some(folder.join(FILE)),
            is_read_due: true,
            notify,
            ..KnownList::default()
        };
        if let Some(path) = &list.path {
            let found = read(path);
            list.apply(found);
        }
        list
    }

    /// Whether a device is in the list.
    pub fn contains(&self, device: DeviceId) -> bool {
        self.ids.binary_search(&device).is_ok()
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Lets the next tick look at the file.
    pub fn schedule_read(&mut self) {
        self.is_read_due = true;
    }

    /// Whether [`KnownList::tick`] has something to do.
    pub fn is_due(&self) -> bool {
        match &self.reading {
            Some(reading) => !reading.is_empty() || reading.is_closed(),
            None => self.is_read_due,
        }
    }

    /// Takes over the ids that were read, and begins to read the file if it has changed.
    pub fn tick(&mut self) {
        if let Some(reading) = &self.reading {
            match reading.try_recv() {
                Ok(found) => {
                    self.reading = None;
                    self.apply(found);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Closed) => self.reading = None,
            }
        }
        if !std::mem::take(&mut self.is_read_due) {
            return;
        }
        let Some(path) = &self.path else { return };
        let current = open_to_read(path).and_then(|file| stamp(&file));
        match current {
            Ok(current) if Some(current) != self.from => {
                let (sender, receiver) = bounded(1);
                let (path, notify) = (path.clone(), self.notify.clone());
                let run = move || {
                    // Fails if the list was dropped.
                    sender.try_send(read(&path)).ok();
                    notify.notify();
                };
                match process::start_thread("known-devices", Box::new(run)) {
                    Ok(()) => self.reading = Some(receiver),
                    Err(error) => self.log_error(&error),
                }
            }
            Ok(_) => {}
            Err(error) => self.log_error(&error),
        }
    }

    fn apply(&mut self, found: io::Result<Contents>) {
        let found = match found {
            Ok(found) => found,
            Err(error) => return self.log_error(&error),
        };
        self.logged_error = None;
        self.from = Some(found.from);
        self.ids = found.ids;
        log::info!(target: "known-devices", ids = self.ids.len(); "");
        if found.bad_count > 0 {
            log::warn!(
                target: "known-devices",
                lines = found.bad_count;
                "{FILE} has lines that are not ids and were skipped: {}",
                found.bad.join("; ")
            );
        }
    }

    fn log_error(&mut self, error: &io::Error) {
        // Most state folders have no such file.
        let is_none = error.kind() == io::ErrorKind::NotFound && self.from.is_none();
        if is_none || self.logged_error.replace(error.kind()) == Some(error.kind()) {
            return;
        }
        log::warn!(
            target: "known-devices",
            ids = self.ids.len();
            "{FILE} cannot be read: {error}. The list stays as it was"
        );
    }
}

fn read(path: &Path) -> io::Result<Contents> {
    let file = open_to_read(path)?;
    let from = stamp(&file)?;
    let mut file = BufReader::new(Content::new(file));
    let mut ids: Vec<DeviceId> = Vec::new();
    let (mut bad, mut bad_count) = (Vec::new(), 0_usize);
    let mut line = Vec::new();
    let (mut number, mut is_title) = (0_u32, true);
    loop {
        line.clear();
        if file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if !line.ends_with(b"\n") {
            file.skip_until(b'\n')?;
        }
        number = number.saturating_add(1);
        if line.starts_with(b"\xff\xfe") || line.starts_with(b"\xfe\xff") || line.contains(&0) {
            let text = "this is UTF-16; save the list as UTF-8 (in Excel: CSV UTF-8)";
            return Err(io::Error::other(format!("line {number}: {text}")));
        }
        let text = String::from_utf8_lossy(&line);
        // Windows editors put a byte order mark at the beginning.
        let text = text.trim_start_matches('\u{feff}');
        let text = text.split('#').next().unwrap_or_default().trim();
        // Excel states the separator in this line.
        if text.is_empty() || text.starts_with("sep=") {
            continue;
        }
        let field = first_field(text);
        let id = DeviceId::parse(field);
        // Every id contains a digit or is a MAC of letters; titles (`imei`, `设备号`) are neither.
        if std::mem::take(&mut is_title)
            && !field.contains(|c: char| c.is_ascii_digit())
            && !matches!(id, Some(DeviceId::Mac(_)))
        {
            continue;
        }
        match id.filter(|_| ids.len() < MAX_IDS) {
            Some(id) => ids.push(id),
            None => {
                bad_count = bad_count.saturating_add(1);
                if bad.len() < MAX_QUOTED {
                    let shown: String = text.chars().take(40).collect();
                    let shown = Printable(&shown);
                    bad.push(match is_rounded(field) {
                        true => format!(
                            "line {number}: {shown} is a number that Excel has rounded: format the column as \
                             text and paste the ids again"
                        ),
                        false => format!("line {number}: {shown}"),
                    });
                }
            }
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(Contents {
        ids: ids.into(),
        from,
        bad,
        bad_count,
    })
}

/// First field of a line of a table. The separator is the first `,`, `;` or tab outside quotes.
fn first_field(line: &str) -> &str {
    let mut is_quoted = false;
    let end = line.find(|c| {
        is_quoted ^= c == '"';
        !is_quoted && matches!(c, ',' | ';' | '\t')
    });
    line.get(..end.unwrap_or(line.len())).unwrap_or_default()
}

/// Whether a field is a number that Excel has rounded, such as `8.62991E+14`. A field from `8,62991E+14` is not
/// recognized, because it ends at the comma.
fn is_rounded(field: &str) -> bool {
    let number = field.trim_matches(|c: char| c == '"' || c.is_whitespace());
    number
        .split_once(['e', 'E'])
        .is_some_and(|(digits, power)| {
            let is_digits =
                |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            is_digits(&digits.replace('.', "")) && power.strip_prefix('+').is_some_and(is_digits)
        })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::os::scratch::Scratch;
    use smol::block_on;

    fn opened(scratch: &Scratch) -> KnownList {
        KnownList::open(scratch.path(), Notify::default())
    }

    fn id(text: &str) -> DeviceId {
        DeviceId::parse(text).unwrap()
    }

    /// Marks the file as changed, and ticks whenever a tick is due, until `so` returns true.
    fn wait_until(list: &mut KnownList, so: impl Fn(&KnownList) -> bool) {
        let began = Instant::now();
        list.schedule_read();
        while !so(list) {
            let waited = began.elapsed();
            assert!(
                waited < Duration::from_secs(20),
                "{} ids in the list",
                list.len()
            );
            if !list.is_due() {
                block_on(list.notify.clone().notified());
            }
            list.tick();
        }
    }

    #[test]
    fn a_line_is_an_id_a_comment_or_bad() {
        let scratch = Scratch::new();
        let text = "\u{feff}862991443753386\r\n# all of building 7\n\n  A1B2C3D4E5F6  # the old one\n\
                    sensor-7\nnot an id\n862991443753386\nä\n";
        let path = scratch.write(FILE, text.as_bytes());
        let found = read(&path).unwrap();
        assert_eq!(found.ids.len(), 3);
        assert_eq!(found.bad, ["line 6: not an id", "line 8: ä"]);
        let list = opened(&scratch);
        for known in ["862991443753386", "a1b2c3d4e5f6", "sensor-7"] {
            assert!(list.contains(id(known)), "{known}");
        }
        assert!(!list.contains(id("sensor-8")) && list.len() == 3);
    }

    // Case 19.
    #[test]
    fn a_table_is_read_by_the_first_field_of_its_lines() {
        let ids = ["862991443753386", "a1b2c3d4e5f6"];
        for text in [
            "imei,name\r\n862991443753386,pump\r\na1:b2:c3:d4:e5:f6,\r\n",
            "\u{feff}设备号;位置\n\"862991443753386\";\"x;y\"\n\"A1-B2-C3-D4-E5-F6\";\n",
            "sep=;\nIMEI;NAME\n862991443753386;1\nA1B2C3D4E5F6;2\n",
            "862991443753386\tpump 7\n  A1:B2:C3:D4:E5:F6\tx\n",
            "# ours\n\nid\n=\"862991443753386\",x\n'a1b2c3d4e5f6,x",
            "\"862991443753386\"\n\"a1b2 c3d4 e5f6\"",
        ] {
            let scratch = Scratch::new();
            let path = scratch.write(FILE, text.as_bytes());
            let found = read(&path).unwrap();
            assert_eq!(found.bad, [""; 0], "{text}");
            let mut expected = ids.map(id);
            expected.sort();
            assert_eq!(*found.ids, expected, "{text}");
        }
    }

    // Case 19.
    #[test]
    fn numbers_rounded_by_excel_are_reported() {
        let scratch = Scratch::new();
        let path = scratch.write(
            FILE,
            b"imei,name\n862991443753386,a\n8.62991E+14,b\nnil,c\n",
        );
        let found = read(&path).unwrap();
        assert_eq!(*found.ids, [id("862991443753386")]);
        assert!(
            found.bad[0].starts_with("line 3: 8.62991E+14,b is a number that Excel has rounded")
        );
        assert!(found.bad[0].contains("as text") && found.bad[1] == "line 4: nil,c");
        let utf_16 = |begin: &[u8], order: fn(u16) -> [u8; 2]| {
            let text = "imei\n862991443753386\n".encode_utf16();
            [begin, &text.flat_map(order).collect::<Vec<u8>>()].concat()
        };
        for text in [
            utf_16(b"\xff\xfe", u16::to_le_bytes),
            utf_16(b"\xfe\xff", u16::to_be_bytes),
            utf_16(b"", u16::to_le_bytes),
        ] {
            let error = read(&scratch.write(FILE, &text)).unwrap_err().to_string();
            assert!(error.starts_with("line 1: this is UTF-16; save"), "{error}");
        }
    }

    #[test]
    fn a_changed_list_is_read_again_and_a_removed_one_is_kept() {
        let scratch = Scratch::new();
        let mut list = opened(&scratch);
        assert!(list.is_empty());
        scratch.write(FILE, b"sensor-7\n");
        wait_until(&mut list, |list| list.contains(id("sensor-7")));
        scratch.write(FILE, b"sensor-8\nsensor-9\n");
        wait_until(&mut list, |list| list.len() == 2);
        assert!(!list.contains(id("sensor-7")));
        std::fs::remove_file(scratch.path().join(FILE)).unwrap();
        list.schedule_read();
        list.tick();
        assert!(list.logged_error.is_some() && list.contains(id("sensor-8")));
        scratch.write(FILE, b"");
        wait_until(&mut list, KnownList::is_empty);
    }

    #[test]
    fn overlong_lines_and_a_folder_are_ignored() {
        let scratch = Scratch::new();
        let mut text = vec![b'x'; 100_000];
        text.extend_from_slice(b"\nsensor-7\n");
        scratch.write(FILE, &text);
        assert!(opened(&scratch).contains(id("sensor-7")));
        // The part of a line after its first 1024 bytes is no line of its own.
        let text = format!("sensor-7,{}sensor-8\nsensor-9\n", "x".repeat(1015));
        scratch.write(FILE, text.as_bytes());
        let list = opened(&scratch);
        assert!(list.len() == 2 && list.contains(id("sensor-7")) && list.contains(id("sensor-9")));
        std::fs::remove_file(scratch.path().join(FILE)).unwrap();
        std::fs::create_dir(scratch.path().join(FILE)).unwrap();
        assert!(opened(&scratch).is_empty());
    }
}
