//! Notices: events that an operator may want to learn of without watching the operator page. Each notice is one line of
//! the log, one event of the event stream, and one run of the program of `--on-event`, with the same name everywhere.
//!
//! Raising a notice never blocks: the queue of the program holds [`QUEUE`] notices, and those that do not fit are
//! counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use log::Level;
use serde_json::{Map, Value};

use crate::logging::Civil;

/// Maximum number of notices that wait for the program of `--on-event`.
pub const QUEUE: usize = 64;

/// Maximum length of a reason, in characters.
const REASON: usize = 512;

/// Kind of a notice, as docs/events.md describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// A release that was unknown before is in the firmware folder.
    ReleaseFound,
    /// A file in the firmware folder is not served.
    Quarantined,
    /// The first established device is confirmed with a release.
    FirstConfirmed,
    /// A content of a release has reached its next stage.
    StageReached,
    /// The loop guard has begun to hold a file back from a device.
    Held,
    /// Silent devices of a release have reached the limits at which reverted devices trip its fuse.
    TooManySilent,
    /// The fuse has paused a release.
    Fused,
    /// The pause of a release has ended.
    Resumed,
}

impl NoticeKind {
    /// All kinds, in the order of docs/events.md.
    pub const ALL: [NoticeKind; 8] = [
        NoticeKind::ReleaseFound,
        NoticeKind::Quarantined,
        NoticeKind::FirstConfirmed,
        NoticeKind::StageReached,
        NoticeKind::Held,
        NoticeKind::TooManySilent,
        NoticeKind::Fused,
        NoticeKind::Resumed,
    ];

    /// Name of the kind in the log, the event stream, the metrics and the JSON.
    pub fn word(self) -> &'static str {
        match self {
            NoticeKind::ReleaseFound => "release_found",
            NoticeKind::Quarantined => "quarantined",
            NoticeKind::FirstConfirmed => "first_confirmed",
            NoticeKind::StageReached => "stage_reached",
            NoticeKind::Held => "held",
            NoticeKind::TooManySilent => "too_many_silent",
            NoticeKind::Fused => "fused",
            NoticeKind::Resumed => "resumed",
        }
    }

    fn level(self) -> Level {
        match self {
            NoticeKind::ReleaseFound
            | NoticeKind::Resumed
            | NoticeKind::FirstConfirmed
            | NoticeKind::StageReached => Level::Info,
            _ => Level::Warn,
        }
    }
}

/// One notice. Texts that do not apply to its kind are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Kind of the notice.
    pub kind: NoticeKind,
    /// The project.
    pub project: Box<str>,
    /// The version of the release, as its folder writes it.
    pub version: Box<str>,
    /// Device id, as the device writes it.
    pub device: Box<str>,
    /// Name that a group gives the device.
    pub name: Box<str>,
    /// Reason, at most 512 characters.
    pub reason: Box<str>,
}

impl Notice {
    /// Creates a notice about a release. Cuts the reason to 512 characters.
    pub fn new(kind: NoticeKind, project: &str, version: &str, reason: &str) -> Notice {
        let end = reason.char_indices().nth(REASON).map(|(end, _)| end);
        Notice {
            kind,
            project: project.into(),
            version: version.into(),
            device: "".into(),
            name: "".into(),
            reason: end
                .and_then(|end| reason.get(..end))
                .unwrap_or(reason)
                .into(),
        }
    }

    /// Adds a device id to the notice.
    pub fn of_device(self, device: &str) -> Notice {
        Notice {
            device: device.into(),
            ..self
        }
    }

    /// Texts that are not empty, with their keys.
    fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let fields = [
            ("project", &*self.project),
            ("version", &*self.version),
            ("device", &*self.device),
            ("name", &*self.name),
            ("reason", &*self.reason),
        ];
        fields.into_iter().filter(|(_, text)| !text.is_empty())
    }

    /// The notice as one JSON object without line feeds. `unix`: the time, in Unix seconds.
    pub fn json(&self, unix: i64) -> String {
        let time = format!("{}Z", Civil::of(u64::try_from(unix).unwrap_or_default()));
        let head = [("event", self.kind.word()), ("time", time.as_str())];
        let fields = head.into_iter().chain(self.fields());
        let map: Map<String, Value> = fields
            .map(|(key, text)| (key.to_owned(), Value::from(text)))
            .collect();
        Value::Object(map).to_string()
    }

    /// Writes the notice to the log, as an event with the name of its kind.
    pub fn log(&self) {
        let level = self.kind.level();
        if level > log::max_level() {
            return;
        }
        let fields: Vec<(&str, &str)> = self.fields().collect();
        let record = |message| {
            let record = log::Record::builder()
                .level(level)
                .target(self.kind.word())
                .args(message)
                .key_values(&fields)
                .build();
            log::logger().log(&record);
        };
        match self.kind {
            NoticeKind::Fused => record(format_args!(
                "the fuse paused the release. To resume it, use the operator page or \
                 luat-ota resume {}/{}, or write \"paused\": false into a release.json that differs from the former one",
                self.project, self.version
            )),
            _ => record(format_args!("")),
        }
    }
}

/// Failure counters of the program of `--on-event`. They wrap around on overflow.
#[derive(Debug, Default)]
pub struct ProgramCounts {
    /// Notices that were dropped because the queue was full.
    pub dropped: AtomicU32,
    /// Runs that could not be started, exited with a status other than 0, or exceeded the time limit.
    pub failed: AtomicU32,
}

/// Queue of notices as JSON, read by the thread that runs the program of `--on-event`.
#[derive(Debug)]
pub struct ProgramQueue {
    sender: SyncSender<String>,
    /// Failure counters, shared with the thread of the program.
    pub counts: Arc<ProgramCounts>,
}

impl ProgramQueue {
    /// Creates an empty queue; returns its sending and its receiving end.
    pub fn new() -> (ProgramQueue, Receiver<String>) {
        let (sender, receiver) = sync_channel(QUEUE);
        let queue = ProgramQueue {
            sender,
            counts: Arc::default(),
        };
        (queue, receiver)
    }

    /// Adds a notice, or counts it as dropped if the queue is full. Never blocks.
    pub fn offer(&self, json: String) {
        if self.sender.try_send(json).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_one_line_of_json() {
        let notice = Notice::new(NoticeKind::Held, "水表", "2.0.0", "a \"reason\"\nin lines")
            .of_device("862991443753386");
        assert_eq!(
            notice.json(1_795_420_800),
            "{\"device\":\"862991443753386\",\"event\":\"held\",\"project\":\"水表\",\
             \"reason\":\"a \\\"reason\\\"\\nin lines\",\"time\":\"2026-11-23T08:00:00Z\",\"version\":\"2.0.0\"}"
        );
        let found = Notice::new(NoticeKind::ReleaseFound, "P", "1", "").json(0);
        assert_eq!(
            found,
            "{\"event\":\"release_found\",\"project\":\"P\",\"time\":\"1970-01-01T00:00:00Z\",\"version\":\"1\"}"
        );
    }

    #[test]
    fn a_reason_is_bounded_and_cut_between_characters() {
        let long = "水".repeat(REASON + 1);
        let notice = Notice::new(NoticeKind::Quarantined, "P", "1", &long);
        assert_eq!(notice.reason.chars().count(), REASON);
    }

    #[test]
    fn a_full_queue_counts_dropped_notices() {
        let (queue, receiver) = ProgramQueue::new();
        for _ in 0..QUEUE + 3 {
            queue.offer(String::new());
        }
        assert_eq!(queue.counts.dropped.load(Ordering::Relaxed), 3);
        assert_eq!(receiver.try_iter().count(), QUEUE);
        drop(receiver);
        queue.offer(String::new());
        assert_eq!(queue.counts.dropped.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let mut words: Vec<_> = NoticeKind::ALL.iter().map(|kind| kind.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), NoticeKind::ALL.len());
    }
}
