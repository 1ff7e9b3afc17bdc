//! Behaviour of the C client by the date of its commit: the table of docs/protocol.md 2c, as data.
//! Used by the [client](super). Almost every column breaks, is repaired and breaks again in another
//! way, so the newest core is not the best one.

use std::time::Duration;

/// A core, named after the commit date of its C client: the rows of the table in docs/protocol.md
/// 2c, and the dates within them at which something else changes (the Host line on 2023-12-01, the
/// `Connection: Close` line on 2025-12-14, chunks on 2026-01-14, a cut on 2026-05-08).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Core {
    /// 2023-02: Host without the port; a second segment of headers overwrites the first.
    D2023_02,
    /// 2023-12-01: Host with the port.
    D2023_12_01,
    /// 2024-06-27: the headers may arrive in several segments.
    D2024_06_27,
    /// 2025-01-27: no longer resumes.
    D2025_01_27,
    /// 2025-11-12: a refusal with a Content-Length is never reported to the script.
    D2025_11_12,
    /// 2025-12-02: does not understand chunks, or a Content-Length without a space.
    D2025_12_02,
    /// 2025-12-04: a body without a length may end with the connection.
    D2025_12_04,
    /// 2025-12-14: sends `Connection: Close`.
    D2025_12_14,
    /// 2025-12-19: a body without a length is cut after its first segment.
    D2025_12_19,
    /// 2026-01-14: understands chunks again.
    D2026_01_14,
    /// 2026-02-02: nothing is complete before the server closes.
    D2026_02_02,
    /// 2026-02-11: like 2026-02-02, but the time-out never fires for a refusal that is kept open.
    D2026_02_11,
    /// 2026-03-10: a 200 is complete with its last byte, a refusal only when the server closes.
    D2026_03_10,
    /// 2026-05-08: a cut is reported only when the time-out fires.
    D2026_05_08,
}

/// Treatment of a 200 whose length the client does not know, when the server closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unmeasured {
    /// The reply counts as a cut: see [`Cut`].
    AsCut,
    /// The reply is complete.
    Complete,
    /// The client does not wait for the close: it takes only the first segment of the body.
    FirstSegment,
}

/// Treatment of a 200 that ends too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Requests the rest with Range, at most three times, and appends any reply without a check.
    Resume,
    /// Reports -5.
    Fails,
    /// Reports 200.
    Claims200,
    /// Reports -9 when the time-out fires.
    UntilTimeout,
}

/// Treatment of any status other than 200 and 206.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Reports -9 when the body is complete, and passes the body to the script.
    WithBody,
    /// Reports nothing if there is a Content-Length, otherwise -5 when the server closes.
    NotReported,
    /// Reports -9 immediately and drops the body.
    AtHead,
    /// Reports -9 when the server closes or the time-out fires, and drops the body.
    AtClose,
    /// Reports -9 when the server closes, and drops the body. The time-out never fires
    /// (docs/protocol.md 9g).
    AtCloseOnly,
}

/// Treatment of a 200 with `Content-Length: 0` (docs/protocol.md 9g).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Empty {
    /// Reports this code at the point where the reply is complete.
    Code(i32),
    /// Reports -9 when the time-out fires.
    UntilTimeout,
}

/// Treatment of a package that is shorter than its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Busy {
    /// Waits endlessly for luat_fota_done.
    Spins,
    /// Gives up after 12 s.
    TwelveSeconds,
    /// Reports nothing until the time-out.
    UntilTimeout,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behaviour {
    pub since: &'static str,
    pub port_in_host: bool,
    pub sends_close: bool,
    pub overwrites_head: bool,
    pub unmeasured: Unmeasured,
    pub knows_chunks: bool,
    pub needs_space: bool,
    pub needs_close: bool,
    pub refusal: Refusal,
    pub empty: Empty,
    pub cut: Cut,
    pub busy: Busy,
    /// Total time-out if the script gives none, in seconds.
    pub timeout: u64,
}

/// First row of the table. Every other row states only what differs from an earlier one.
const ROW_2023_02: Behaviour = Behaviour {
    since: "2023-02",
    port_in_host: false,
    sends_close: false,
    overwrites_head: true,
    unmeasured: Unmeasured::AsCut,
    knows_chunks: true,
    needs_space: false,
    needs_close: false,
    refusal: Refusal::WithBody,
    empty: Empty::Code(-9),
    cut: Cut::Resume,
    busy: Busy::Spins,
    timeout: 600,
};
const ROW_2023_12_01: Behaviour = Behaviour {
    since: "2023-12-01",
    port_in_host: true,
    ..ROW_2023_02
};
// Some cores of 2024 and 2025 wait twice ten minutes; which ones is not established.
const ROW_2024_06_27: Behaviour = Behaviour {
    since: "2024-06-27",
    overwrites_head: false,
    timeout: 1200,
    ..ROW_2023_12_01
};
const ROW_2025_01_27: Behaviour = Behaviour {
    since: "2025-01-27",
    cut: Cut::Fails,
    ..ROW_2024_06_27
};
const ROW_2025_11_12: Behaviour = Behaviour {
    since: "2025-11-12",
    refusal: Refusal::NotReported,
    timeout: 600,
    ..ROW_2025_01_27
};
const ROW_2025_12_02: Behaviour = Behaviour {
    since: "2025-12-02",
    knows_chunks: false,
    needs_space: true,
    refusal: Refusal::AtHead,
    empty: Empty::Code(-5),
    busy: Busy::TwelveSeconds,
    ..ROW_2025_11_12
};
const ROW_2025_12_04: Behaviour = Behaviour {
    since: "2025-12-04",
    unmeasured: Unmeasured::Complete,
    knows_chunks: true,
    needs_space: false,
    ..ROW_2025_12_02
};
const ROW_2025_12_14: Behaviour = Behaviour {
    since: "2025-12-14",
    sends_close: true,
    ..ROW_2025_12_04
};
const ROW_2025_12_19: Behaviour = Behaviour {
    since: "2025-12-19",
    unmeasured: Unmeasured::FirstSegment,
    knows_chunks: false,
    needs_space: true,
    cut: Cut::Claims200,
    ..ROW_2025_12_14
};
const ROW_2026_01_14: Behaviour = Behaviour {
    since: "2026-01-14",
    knows_chunks: true,
    ..ROW_2025_12_19
};
const ROW_2026_02_02: Behaviour = Behaviour {
    since: "2026-02-02",
    unmeasured: Unmeasured::Complete,
    needs_space: false,
    needs_close: true,
    refusal: Refusal::AtClose,
    empty: Empty::UntilTimeout,
    ..ROW_2026_01_14
};
const ROW_2026_02_11: Behaviour = Behaviour {
    since: "2026-02-11",
    refusal: Refusal::AtCloseOnly,
    ..ROW_2026_02_02
};
const ROW_2026_03_10: Behaviour = Behaviour {
    since: "2026-03-10",
    unmeasured: Unmeasured::FirstSegment,
    needs_close: false,
    ..ROW_2026_02_02
};
const ROW_2026_05_08: Behaviour = Behaviour {
    since: "2026-05-08",
    cut: Cut::UntilTimeout,
    busy: Busy::UntilTimeout,
    ..ROW_2026_03_10
};

impl Core {
    /// All cores, the oldest first.
    pub const ALL: [Core; 14] = [
        Core::D2023_02,
        Core::D2023_12_01,
        Core::D2024_06_27,
        Core::D2025_01_27,
        Core::D2025_11_12,
        Core::D2025_12_02,
        Core::D2025_12_04,
        Core::D2025_12_14,
        Core::D2025_12_19,
        Core::D2026_01_14,
        Core::D2026_02_02,
        Core::D2026_02_11,
        Core::D2026_03_10,
        Core::D2026_05_08,
    ];

    pub(super) fn behaviour(self) -> Behaviour {
        match self {
            Core::D2023_02 => ROW_2023_02,
            Core::D2023_12_01 => ROW_2023_12_01,
            Core::D2024_06_27 => ROW_2024_06_27,
            Core::D2025_01_27 => ROW_2025_01_27,
            Core::D2025_11_12 => ROW_2025_11_12,
            Core::D2025_12_02 => ROW_2025_12_02,
            Core::D2025_12_04 => ROW_2025_12_04,
            Core::D2025_12_14 => ROW_2025_12_14,
            Core::D2025_12_19 => ROW_2025_12_19,
            Core::D2026_01_14 => ROW_2026_01_14,
            Core::D2026_02_02 => ROW_2026_02_02,
            Core::D2026_02_11 => ROW_2026_02_11,
            Core::D2026_03_10 => ROW_2026_03_10,
            Core::D2026_05_08 => ROW_2026_05_08,
        }
    }

    /// Returns the date since which the client behaves like this: `2023-02`, `2025-12-04`.
    pub fn since(self) -> &'static str {
        self.behaviour().since
    }

    /// Returns the total time-out of a request, including connecting, if the script gives none.
    pub fn timeout(self) -> Duration {
        Duration::from_secs(self.behaviour().timeout)
    }
}
