//! Refusals and their wording on every transport: the table of docs/decision.md "Verdict on the wire".
//!
//! To add a refusal, add a variant, its place in [`Refusal::ALL`], its row in [`Refusal::wording`], and the rule that
//! refuses: in `rules.rs` if it depends on a release, in `package.rs` if it depends on the file, in `decide.rs`
//! (`project`) if it depends on the check alone. [`Refusal::is_remembered`] states whether the device is recorded.

/// A kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The device runs the newest release that it may have.
    NothingNewer,
    /// Refused for now by `paused`, the fuse, `not_before`, `reboot_within`, `window` or `percent`, or because the
    /// release is held back.
    NotNow,
    /// Excluded by `allow`, `deny`, `from` or `firmware_name`.
    NotThisDevice,
    /// An unknown device while only known devices are served.
    UnknownDevice,
    /// The check names no project, and not exactly one project has its `project_key`.
    NoProject,
    /// The project does not exist.
    UnknownProject,
    /// The `project_key` differs from that of the release.
    WrongKey,
    /// No package for this platform or core, or none that this transport can carry.
    NoPackage,
    /// The version is missing or cannot be read.
    VersionUnreadable,
    /// The loop guard holds the content back from this device.
    Looping,
    /// No capacity now; the device is to retry later.
    Full,
    /// The firmware folder or the folder of the project cannot be read now.
    Unread,
    /// The content of a download that is to be resumed no longer exists.
    CannotResume,
}

/// Form of a refusal on the wire and in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalWording {
    /// Label of the metric and word of the log.
    pub label: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Code and message of the JSON body; `None`: no body.
    pub body: Option<(u32, &'static str)>,
    /// Reply over UDP and TCP.
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

    /// Labels of all refusals, each once: `NoProject` shares that of `UnknownProject`.
    #[allow(clippy::indexing_slicing)] // Evaluated by the compiler.
    pub const LABELS: [&'static str; Refusal::ALL.len() - 1] = {
        let mut labels = [""; Refusal::ALL.len() - 1];
        let (mut at, mut used) = (0, 0);
        while at < Refusal::ALL.len() {
            if !matches!(Refusal::ALL[at], Refusal::NoProject) {
                labels[used] = Refusal::ALL[at].wording().label;
                used += 1;
            }
            at += 1;
        }
        labels
    };

    /// Whether a check with this refusal leaves a record of the device. Anyone can invent projects and devices that do
    /// not exist, so refusals of those leave no record.
    pub const fn is_remembered(self) -> bool {
        !matches!(
            self,
            Refusal::NoProject | Refusal::UnknownProject | Refusal::UnknownDevice
        )
    }

    /// Returns the wording. The messages of the codes 3, 21, 25, 26, 27, 40 and 43 are those of the official platform
    /// (docs/protocol.md 4), except for refusals that are more specific than their code.
    pub const fn wording(self) -> RefusalWording {
        const fn row(label: &'static str, status: u16, packet: &'static str) -> RefusalWording {
            let body = None;
            RefusalWording {
                label,
                status,
                packet,
                body,
            }
        }
        match self {
            Refusal::NothingNewer => {
                row("nothing_newer", 404, "version error").body(27, "已是最新版本")
            }
            Refusal::NotNow => row("not_now", 404, "no upgrade").body(27, "暂未开放升级"),
            Refusal::NotThisDevice => {
                row("not_this_device", 403, "imei range error").body(21, "不允许升级")
            }
            Refusal::UnknownDevice => {
                row("unknown_device", 403, "no upgrade").body(3, "无效的设备")
            }
            Refusal::NoProject => row("unknown_project", 404, "no upgrade").body(25, "未指明项目"),
            Refusal::UnknownProject => {
                row("unknown_project", 403, "no upgrade").body(25, "无效的项目")
            }
            Refusal::WrongKey => row("wrong_key", 403, "no upgrade").body(25, "无效的项目"),
            Refusal::NoPackage => row("no_package", 404, "no upgrade").body(26, "无效的固件"),
            Refusal::VersionUnreadable => {
                row("version_unreadable", 404, "version error").body(27, "无法识别版本号")
            }
            Refusal::Looping => row("looping", 403, "no upgrade").body(40, "循环升级"),
            Refusal::Full => row("full", 503, "no upgrade").body(43, "请等待"),
            // There is no code, because a code would state something about a folder that cannot be read.
            Refusal::Unread => row("unread", 503, "no upgrade"),
            Refusal::CannotResume => row("cannot_resume", 416, "ERR"),
        }
    }
}

impl RefusalWording {
    const fn body(mut self, code: u32, message: &'static str) -> RefusalWording {
        self.body = Some((code, message));
        self
    }
}
