//! The journal's entry of the loop guard.

use super::device::{parse_id, write_id};
use super::fields::{Fields, LineTime, LineWriter};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;
use crate::fleet::network::CoarseNetwork;
use crate::fleet::requester::IdentityHash;

/// Largest number of rounds that are read.
const ROUNDS: usize = 32;

/// One whole download after which the device came back with its old version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Time at which the device came back.
    pub at: Stamp,
    /// Whether the download was that of a trusted proxy.
    pub weak: bool,
}

/// One entry of the loop guard.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardEntry {
    /// Id of the device, by which a hold is lifted.
    pub device: DeviceId,
    /// Hash of the device's identity without its version. The key together with `coarse_network` and `content`.
    pub identity_without_version: IdentityHash,
    /// Network (/16 or /32) from which the device sends its checks.
    pub coarse_network: CoarseNetwork,
    /// The content.
    pub content: ContentId,
    /// Hash of the device's identity with the version that it ran when it last began to download.
    pub version: u64,
    /// Number of times that the device came back with its version unchanged after a delivery.
    pub reverts: u32,
    /// Number of redirects that count as attempts.
    pub redirects: u32,
    /// Number of bytes that were sent.
    pub sent: u64,
    /// Number of earlier holds.
    pub level: u32,
    /// Time before which the content is not offered again; `None`: not held.
    pub held_until: Option<Stamp>,
    /// Time at which the device last had the whole file, if it has not come back since.
    pub delivered: Option<Stamp>,
    /// Whether that delivery was to a trusted proxy.
    pub by_proxy: bool,
    /// Time of the last redirect for the content, if it was not counted yet.
    pub redirected: Option<Stamp>,
    /// Time at which the device came back with the new version, if the old one was not seen since.
    pub confirmed: Option<Stamp>,
    /// Whether the last whole download was counted as a revert, and no other has followed.
    pub reverted: bool,
    /// Last rounds (a download, then the old version again), oldest first.
    pub rounds: Vec<Round>,
    /// The version that the device ran when it last began to download.
    pub from: Box<str>,
    /// The version of the release.
    pub to: Box<str>,
    /// Hash of the identity with the version before `version`; 0: none.
    pub before: u64,
    /// Time at which this evidence last changed.
    pub used: Stamp,
}

impl GuardEntry {
    /// Creates the entry of a device (identity and network) and a content, without any evidence. `version` is a hash of
    /// the identity with the version that the device runs.
    pub fn new(
        device: DeviceId,
        (identity_without_version, coarse_network): (IdentityHash, CoarseNetwork),
        content: ContentId,
        version: u64,
        used: Stamp,
    ) -> GuardEntry {
        GuardEntry {
            device,
            identity_without_version,
            coarse_network,
            content,
            version,
            reverts: 0,
            redirects: 0,
            sent: 0,
            level: 0,
            held_until: None,
            delivered: None,
            by_proxy: false,
            redirected: None,
            confirmed: None,
            reverted: false,
            rounds: Vec::new(),
            from: Box::default(),
            to: Box::default(),
            before: 0,
            used,
        }
    }

    pub(super) fn write(&self, line: &mut LineWriter<'_>) {
        line.hash("guard", self.identity_without_version.0);
        write_id(line, "device", self.device);
        line.plain("wide", self.coarse_network.0);
        line.word("content", self.content);
        line.hash("version", self.version);
        line.count("reverts", self.reverts);
        line.count("redirects", self.redirects);
        line.count("sent", self.sent);
        line.count("level", self.level);
        line.optional_time("held_until", self.held_until);
        line.optional_time("delivered", self.delivered);
        line.flag("by_proxy", self.by_proxy);
        line.optional_time("redirected", self.redirected);
        line.optional_time("confirmed", self.confirmed);
        line.flag("reverted", self.reverted);
        if !self.rounds.is_empty() {
            // Times in Unix seconds; a `w` follows that of a weak round.
            let word = |round: &Round| {
                let weak = if round.weak { "w" } else { "" };
                format!("{}{weak}", line.unix(round.at))
            };
            let words: Vec<String> = self.rounds.iter().map(word).collect();
            line.text("rounds", &words.join(" "));
        }
        if !self.from.is_empty() {
            line.text("from", &self.from);
        }
        if !self.to.is_empty() {
            line.text("to", &self.to);
        }
        if self.before != 0 {
            line.hash("before", self.before);
        }
        line.time("used", self.used);
    }

    pub(super) fn read(fields: &Fields<'_>) -> Option<GuardEntry> {
        Some(GuardEntry {
            device: parse_id(fields.text("device")?)?,
            identity_without_version: IdentityHash(fields.hash("guard")?),
            coarse_network: CoarseNetwork(fields.number("wide")?),
            content: fields.content("content")?,
            version: fields.hash("version")?,
            reverts: fields.count("reverts")?,
            redirects: fields.count("redirects")?,
            sent: fields.count("sent")?,
            level: fields.count("level")?,
            held_until: fields.optional_end("held_until")?,
            delivered: fields.optional_time("delivered")?,
            by_proxy: fields.flag("by_proxy"),
            redirected: fields.optional_time("redirected")?,
            confirmed: fields.optional_time("confirmed")?,
            reverted: fields.flag("reverted"),
            rounds: rounds(
                fields.text("rounds").unwrap_or_default(),
                fields.line_time(),
            )?,
            from: fields.text("from").unwrap_or_default().into(),
            to: fields.text("to").unwrap_or_default().into(),
            before: match fields.has("before") {
                true => fields.hash("before")?,
                false => 0,
            },
            used: fields.time("used")?,
        })
    }
}

fn rounds(text: &str, time: LineTime) -> Option<Vec<Round>> {
    let round = |word: &str| {
        let unix = word.strip_suffix('w');
        Some(Round {
            at: time.past(unix.unwrap_or(word).parse().ok()?),
            weak: unix.is_some(),
        })
    };
    text.split_whitespace().take(ROUNDS).map(round).collect()
}
