//! WHO gets what. [`decide()`] is one pure function: catalogue + what we know of this device + the
//! check + the clock → a [`Verdict`]. HTTP, UDP, TCP and the command line all show the same one;
//! nothing else decides.

mod came_back;
mod check;
mod decide;
#[cfg(test)]
mod tests;
mod verdict;

pub use came_back::{Back, came_back, compare};
pub use check::Check;
pub use decide::{
    CORE_UNSAID, FUSE, Fetched, Fused, HELD, Known, Looping, Question, SET_TO_FALSE, decide,
};
pub use verdict::{Note, Notes, Offer, Refusal, RefusedCheck, Verdict};
