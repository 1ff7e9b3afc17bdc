//! Refusals, and how each is said over every transport: the table of docs/decision.md "Verdict on the wire".
//!
//! To add a refusal, add a variant, its place in [`Refusal::ALL`], its row in [`Refusal::wording`], and the rule that
//! refuses (`rules.rs`, or `package.rs` if it depends on the file).

/// A kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The device runs the newest release that it may have.
    NothingNewer,
    /// `paused`, `not_before`, `window` or `percent`.
    NotNow,
    /// `allow`, `deny`, `from` or `firmware_name`.
    NotThisDevice,
    /// An unknown device while only known devices are served.
    UnknownDevice,
    /// The check names no project, and not exactly one project has its `project_key`.
    NoProject,
    /// No such project.
    UnknownProject,
    /// The `project_key` is not the release's.
    WrongKey,
    /// No package for this platform or core, or none that this transport can carry.
    NoPackage,
    /// The version is missing or cannot be read.
    VersionUnreadable,
    /// The loop guard holds the content back from this device.
    Looping,
    /// No capacity now: the device is to come back.
    Full,
    /// The firmware folder, or the project's, cannot be read now.
    Unread,
    /// The content of a download that is to be resumed is gone.
    CannotResume,
}

/// A refusal on the wire and in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalWording {
    /// Label of the metric and word of the log.
    pub label: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Code and message of the JSON body; `None`: no body.
    pub body: Option<(u32, &'static str)>,
    /// The answer over UDP and TCP.
    pub packet: &'static str,
}

impl Refusal {
    /// Every refusal, in order of declaration.
    pub const ALL: [Refusal; 13] = [
        Refusal::NothingNewer,
        Refusal::NotNow,
        Refusal::NotThisDevice,
        Refusal::UnknownDevice,
        Refusal::NoProject,
        Refusal::UnknownProject,
        Refusal::WrongKey,
        Refusal::NoPackage,
        Refusal::VersionUnreadable,
        Refusal::Looping,
        Refusal::Full,
        Refusal::Unread,
        Refusal::CannotResume,
    ];

    /// Labels of all refusals, each once.
    pub const LABELS: [&'static str; 12] = [
        Refusal::NothingNewer.wording().label,
        Refusal::NotNow.wording().label,
        Refusal::NotThisDevice.wording().label,
        Refusal::UnknownDevice.wording().label,
        Refusal::UnknownProject.wording().label,
        Refusal::WrongKey.wording().label,
        Refusal::NoPackage.wording().label,
        Refusal::VersionUnreadable.wording().label,
        Refusal::Looping.wording().label,
        Refusal::Full.wording().label,
        Refusal::Unread.wording().label,
        Refusal::CannotResume.wording().label,
    ];

    /// The wording. The messages of 3, 21, 25, 26, 27, 40 and 43 are the official platform's (docs/protocol.md 4)
    /// where its code says no more than they do.
    pub const fn wording(self) -> RefusalWording {
        let (label, status, body, packet) = match self {
            Refusal::NothingNewer => (
                "nothing_newer",
                404,
                Some((27, "已是最新版本")),
                "version error",
            ),
            Refusal::NotNow => ("not_now", 404, Some((27, "暂未开放升级")), "no upgrade"),
            Refusal::NotThisDevice => (
                "not_this_device",
                403,
                Some((21, "不允许升级")),
                "imei range error",
            ),
            Refusal::UnknownDevice => {
                ("unknown_device", 403, Some((3, "无效的设备")), "no upgrade")
            }
            Refusal::NoProject => (
                "unknown_project",
                404,
                Some((25, "未指明项目")),
                "no upgrade",
            ),
            Refusal::UnknownProject => (
                "unknown_project",
                403,
                Some((25, "无效的项目")),
                "no upgrade",
            ),
            Refusal::WrongKey => ("wrong_key", 403, Some((25, "无效的项目")), "no upgrade"),
            Refusal::NoPackage => ("no_package", 404, Some((26, "无效的固件")), "no upgrade"),
            Refusal::VersionUnreadable => (
                "version_unreadable",
                404,
                Some((27, "无法识别版本号")),
                "version error",
            ),
            Refusal::Looping => ("looping", 403, Some((40, "循环升级")), "no upgrade"),
            Refusal::Full => ("full", 503, Some((43, "请等待")), "no upgrade"),
            // A code would claim knowledge of a folder that cannot be read.
            Refusal::Unread => ("unread", 503, None, "no upgrade"),
            Refusal::CannotResume => ("cannot_resume", 416, None, "ERR"),
        };
        RefusalWording {
            label,
            status,
            body,
            packet,
        }
    }
}
