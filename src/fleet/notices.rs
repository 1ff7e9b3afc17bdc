//! Notices: what an operator may want to be told of while nobody looks at the page. Each is one line of the log, one
//! event of the operator's stream, and one run of the program of `--on-event`, under the same name everywhere.
//!
//! Raising a notice never blocks: the program has a queue of [`QUEUE`] notices, and what does not fit is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use log::Level;
use serde_json::{Map, Value};

use crate::logging::Civil;

/// Notices that wait for the program of `--on-event`, at most.
pub const QUEUE: usize = 64;

/// Characters of a reason, at most.
const REASON: usize = 512;

/// The kind of a notice. docs/events.md describes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// A release that was not known is in the folder.
    ReleaseFound,
    /// A file of the folder is not served.
    Quarantined,
    /// The first established device is confirmed with a release.
    FirstConfirmed,
    /// A content of a release has reached its next stage.
    StageReached,
    /// The loop guard holds a file from a device.
    Held,
    /// As many devices of a release are silent as must revert for its fuse to trip.
    TooManySilent,
    /// The fuse has paused a release.
    Fused,
    /// The pause of a release has ended.
    Resumed,
}

impl NoticeKind {
    /// All of them, in the order of the documents.
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

    /// Its name in the log, the stream, the metrics and the JSON.
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

/// One notice. Empty texts do not apply to its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its kind.
    pub kind: NoticeKind,
    /// The project.
    pub project: Box<str>,
    /// The version of the release, as its folder writes it.
    pub version: Box<str>,
    /// The id of the device, as it writes it.
    pub device: Box<str>,
    /// The name that a group gives it.
    pub name: Box<str>,
    /// A sentence.
    pub reason: Box<str>,
}

impl Notice {
    /// A notice about a release.
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

    /// The same about a device.
    pub fn of_device(self, device: &str) -> Notice {
        Notice {
            device: device.into(),
            ..self
        }
    }

    /// The texts that apply, with their keys.
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

    /// Writes the line of the log, whose event is the name of the notice.
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

/// What went wrong with the program of `--on-event`. They wrap around where they overflow.
#[derive(Debug, Default)]
pub struct ProgramCounts {
    /// Notices for which there was no room in the queue.
    pub dropped: AtomicU32,
    /// Runs that could not be started, exited with another status than 0, or took too long.
    pub failed: AtomicU32,
}

/// The queue of the program of `--on-event`, whose thread takes the JSON of the notices.
#[derive(Debug)]
pub struct ProgramQueue {
    sender: SyncSender<String>,
    /// Shared with the thread.
    pub counts: Arc<ProgramCounts>,
}

impl ProgramQueue {
    /// An empty queue, and its other end.
    pub fn new() -> (ProgramQueue, Receiver<String>) {
        let (sender, receiver) = sync_channel(QUEUE);
        let queue = ProgramQueue {
            sender,
            counts: Arc::default(),
        };
        (queue, receiver)
    }

    /// Adds a notice, or counts it if there is no room. Never blocks.
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
    fn a_notice_is_one_line_of_json_with_what_applies() {
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
    fn a_full_queue_counts_what_it_drops() {
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
