//! The share of the devices that may have a content now, by `percent` or by the stage that it has reached.

use crate::firmware::ContentId;
use crate::firmware::catalog::Release;
use crate::firmware::rules::Rules;

/// The stage that a content of a release has reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The project.
    pub project: Box<str>,
    /// The version, as its folder writes it.
    pub version: Box<str>,
    /// The content.
    pub content: ContentId,
    /// The share of the devices, in hundredths of a percent.
    pub hundredths: u16,
}

/// Converts a percentage to hundredths of a percent, rounded up, since cohorts have no finer resolution.
pub fn hundredths(percent: f64) -> u16 {
    let exact = percent * 100.0;
    let near = exact.round();
    let whole = match (exact - near).abs() < 1e-6 {
        true => near,
        false => exact.ceil(),
    };
    // A cast from f64 saturates.
    whole.min(10_000.0) as u16
}

/// Returns the percent of the devices that may have a content of a release with these rules; `None`: all devices.
/// `reached`: the stage that the content has reached, in hundredths of a percent. An edit of the stages never takes
/// that stage back; only `percent` in place of `stages` does.
pub fn percent_in_force(rules: &Rules, reached: Option<u16>) -> Option<f64> {
    let Some(stages) = &rules.stages else {
        return rules.percent;
    };
    let first = stages.first().map_or(0.0, |stage| stage.percent);
    let reached = reached.map_or(0.0, |hundredths| f64::from(hundredths) / 100.0);
    Some(reached.max(first))
}

/// Returns the stage that a content of the release has reached, in hundredths of a percent. `all`: sorted by content.
pub fn reached_by(
    all: &[Reached],
    project: &str,
    release: &Release,
    content: ContentId,
) -> Option<u16> {
    let start = all.partition_point(|reached| reached.content < content);
    let mut of_content = all
        .iter()
        .skip(start)
        .take_while(|it| it.content == content);
    let found = of_content.find(|it| *it.project == *project && it.version == release.version_text);
    Some(found?.hundredths)
}
