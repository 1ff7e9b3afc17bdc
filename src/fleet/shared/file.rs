//! The file of one server's outcomes: UTF-8 text with TAB-separated fields.
//!
//! ```text
//! luat-ota outcomes  1  CHECK  SEQUENCE        CHECK: the same for servers with the same secret; SEQUENCE: differs in each file
//! content  SHA256  SIZE  PROJECT  VERSION
//! DEVICE  delivered  UNIX  NETWORK  0  1.0.0   an outcome of that content; 1: established
//! end  CRC32                                   checksum (CRC-32) of all lines before
//! ```

use std::fmt::Write;
use std::time::Duration;

use super::{
    DeviceKey, MAX_PER_CONTENT, MAX_SHARED, OutcomeKind, Outcomes, SharedContent, SharedOutcome,
};
use crate::fleet::short_version::ShortVersion;

/// Suffix of the files' names.
pub const ENDING: &str = ".outcomes";

/// Maximum size of a file that is read, in bytes.
pub const MAX_SIZE: u64 = 32 << 20;

/// Time after which a server without new outcomes writes its file again.
pub const HEARTBEAT: Duration = Duration::from_secs(30);

/// Time without a change of its file after which a server is silent.
pub const SILENT_AFTER: Duration = Duration::from_secs(120);

const MAGIC: &str = "luat-ota outcomes";
const VERSION: &str = "1";

/// Content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutcomeFile {
    /// Outcomes by content.
    pub outcomes: Outcomes,
}

impl OutcomeFile {
    /// Creates a file of the newest outcomes: [`MAX_PER_CONTENT`] of each content, and [`MAX_SHARED`] in all.
    pub fn newest(mut outcomes: Outcomes) -> OutcomeFile {
        let by_time = |(_, outcome): &(DeviceKey, SharedOutcome)| std::cmp::Reverse(*outcome);
        for (_, list) in &mut outcomes {
            list.sort_unstable_by_key(by_time);
            list.truncate(MAX_PER_CONTENT);
        }
        let times = outcomes.iter().flat_map(|(_, list)| list);
        let mut times: Vec<i64> = times.map(|(_, outcome)| outcome.time).collect();
        if times.len() > MAX_SHARED {
            times.sort_unstable_by_key(|time| std::cmp::Reverse(*time));
            let oldest = times.get(MAX_SHARED).copied().unwrap_or_default();
            for (_, list) in &mut outcomes {
                list.retain(|(_, outcome)| outcome.time > oldest);
            }
        }
        outcomes.retain(|(content, list)| {
            // A name with a control character cannot be written as one field.
            let has_control =
                |text: &str| text.is_empty() || text.contains(|c: char| c.is_control());
            !list.is_empty() && !has_control(&content.project) && !has_control(&content.version)
        });
        OutcomeFile { outcomes }
    }

    /// The file as text.
    pub fn write(&self, check: u64, sequence: u64) -> String {
        let mut text = format!("{MAGIC}\t{VERSION}\t{check:016x}\t{sequence:016x}\n");
        for (content, outcomes) in &self.outcomes {
            let (project, version) = (&content.project, &content.version);
            let (id, size) = (content.content, content.size);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "content\t{id}\t{size}\t{project}\t{version}");
            for (device, outcome) in outcomes {
                let (kind, time) = (outcome.kind.word(), outcome.time);
                let (network, established) = (outcome.network, u8::from(outcome.established));
                let from = outcome.from.as_str();
                let from = if from.contains(|c: char| c.is_control()) {
                    ""
                } else {
                    from
                };
                let _ = writeln!(
                    text,
                    "{:016x}\t{kind}\t{time}\t{network:016x}\t{established}\t{from}",
                    device.0
                );
            }
        }
        let _ = writeln!(text, "end\t{:08x}", crc32fast::hash(text.as_bytes()));
        text
    }

    /// Parses a file. Fails if the file is damaged, has another format or was written with another secret; the error
    /// completes "it …".
    pub fn read(bytes: &[u8], check: u64) -> Result<OutcomeFile, &'static str> {
        const DAMAGED: &str = "is damaged";
        let text = std::str::from_utf8(bytes).map_err(|_| DAMAGED)?;
        let (first, _) = text.split_once('\n').ok_or(DAMAGED)?;
        let mut fields = first.split('\t');
        if fields.next() != Some(MAGIC) {
            return Err("is not a file of outcomes");
        }
        if fields.next() != Some(VERSION) {
            return Err("was written by another version of luat-ota");
        }
        if fields.next().and_then(hexadecimal) != Some(check) {
            return Err("was written with another secret (--secret-file)");
        }
        let body = text.strip_suffix('\n').ok_or(DAMAGED)?;
        let (body, last) = body.rsplit_once('\n').ok_or(DAMAGED)?;
        let crc = last.strip_prefix("end\t").and_then(hexadecimal);
        let until = body.len().saturating_add(1);
        let summed = bytes.get(..until).map(crc32fast::hash).map(u64::from);
        if crc.is_none() || crc != summed {
            return Err(DAMAGED);
        }
        let mut outcomes = Outcomes::new();
        let mut left = MAX_SHARED;
        for line in body.split('\n').skip(1) {
            if let Some(content) = line.strip_prefix("content\t") {
                outcomes.push((content_of(content).ok_or(DAMAGED)?, Vec::new()));
                continue;
            }
            let (_, list) = outcomes.last_mut().ok_or(DAMAGED)?;
            left = left.checked_sub(1).ok_or("has too many outcomes")?;
            list.push(outcome_of(line).ok_or(DAMAGED)?);
        }
        Ok(OutcomeFile { outcomes })
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

fn content_of(line: &str) -> Option<SharedContent> {
    let mut fields = line.split('\t');
    let content = SharedContent {
        content: crate::firmware::ContentId::parse(fields.next()?)?,
        size: fields.next()?.parse().ok()?,
        project: fields.next()?.into(),
        version: fields.next()?.into(),
    };
    fields.next().is_none().then_some(content)
}

fn outcome_of(line: &str) -> Option<(DeviceKey, SharedOutcome)> {
    let mut fields = line.split('\t');
    let device = DeviceKey(hexadecimal(fields.next()?)?);
    let word = fields.next()?;
    let outcome = SharedOutcome {
        kind: *OutcomeKind::ALL.iter().find(|kind| kind.word() == word)?,
        time: fields.next()?.parse().ok()?,
        network: hexadecimal(fields.next()?)?,
        established: match fields.next()? {
            "0" => false,
            "1" => true,
            _ => return None,
        },
        from: ShortVersion::of(fields.next()?),
    };
    fields.next().is_none().then_some((device, outcome))
}
