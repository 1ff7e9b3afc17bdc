//! The journal's entry of the stage that a content of a release has reached.

use super::fields::{Fields, LineWriter};
use crate::firmware::ContentId;
use crate::fleet::clock::Stamp;

/// One stage.
#[derive(Clone, Debug, PartialEq)]
pub struct StageEntry {
    /// The project.
    pub project: Box<str>,
    /// The version, as its folder writes it.
    pub version: Box<str>,
    /// The content.
    pub content: ContentId,
    /// Share of the devices that may have the content, in hundredths of a percent.
    pub reached: u16,
    /// Time at which the stage was reached.
    pub since: Stamp,
    /// Number of devices that were confirmed with the content at that time.
    pub confirmed: u32,
}

impl StageEntry {
    pub(super) fn write(&self, line: &mut LineWriter<'_>) {
        line.text("stage", &self.version);
        line.text("project", &self.project);
        line.word("content", self.content);
        line.count("reached", self.reached);
        line.time("since", self.since);
        line.count("confirmed", self.confirmed);
    }

    pub(super) fn read(fields: &Fields<'_>) -> Option<StageEntry> {
        Some(StageEntry {
            project: fields.text("project")?.into(),
            version: fields.text("stage")?.into(),
            content: fields.content("content")?,
            reached: fields.count::<u16>("reached")?.min(10_000),
            since: fields.time("since")?,
            confirmed: fields.count("confirmed")?,
        })
    }
}
