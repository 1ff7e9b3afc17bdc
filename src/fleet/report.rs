//! The result of an update as the module itself reports it (libfota3; docs/protocol.md 7 and 9d).
//!
//! The result is displayed but never counted: a module whose check was answered with the wrong core or script version
//! reports a failure although it runs the new version.

/// A reported result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Report {
    /// Code 1: the module runs the new version.
    Updated = 1,
    /// Code 2: the module does not run the new version, as far as it can tell.
    Failed = 2,
    /// Any other code. v1.0 sends 0 before its restart, v2.0 sends 3 for "unknown".
    Other = 3,
}

impl Report {
    /// The report with this `result_code`.
    pub fn of_code(code: i64) -> Report {
        match code {
            1 => Report::Updated,
            2 => Report::Failed,
            _ => Report::Other,
        }
    }

    /// Name of the report in the log and the API.
    pub fn word(self) -> &'static str {
        match self {
            Report::Updated => "updated",
            Report::Failed => "failed",
            Report::Other => "other",
        }
    }
}
