//! Decides which release a device gets. [`decide()`] is a pure function of the catalogue, the recorded state of the
//! device, the check and the time; every transport and the command line show its [`Verdict`].
//!
//! - `decide`: finds the project and walks its releases.
//! - `rules`: the rules that a release has to pass, in order.
//! - `stages`: the share of the devices that may have a release.
//! - `package`: the choice of the file of a release that fits the device.
//! - `refusal`: every refusal and its wording.
//! - `facts`: the facts that a decision depends on besides the text of the check.
//! - `came_back`: whether a later check shows that an update succeeded.

mod came_back;
mod check;
mod decide;
mod evaluation;
mod facts;
mod package;
mod question;
mod refusal;
mod rules;
mod stages;
#[cfg(test)]
mod tests;
mod verdict;

pub use came_back::{Back, came_back, compare};
pub use check::Check;
#[cfg(feature = "operator")]
pub use decide::decide_with_facts;
pub use decide::{decide, decide_if_read, release_at_any_time};
#[cfg(feature = "operator")]
pub use facts::FactTree;
pub use facts::{DeviceFact, FactLog};
pub use package::CORE_UNKNOWN;
pub use question::{FUSE, Fetched, Fused, HeldContents, Known, Question, SET_TO_FALSE};
pub use refusal::{Refusal, RefusalWording};
pub use rules::HELD_RULE;
pub use stages::{Reached, hundredths, percent_in_force, reached_by};
pub use verdict::{Note, Notes, Offer, RefusedCheck, Verdict};
