//! The two usual libraries of LuatOS, on top of the [C client](super::luatos): libfota (LOS
//! script/libs/libfota.lua; docs/protocol.md 1f) and libfota2 (LOS script/libs/libfota2.lua; 1g),
//! with the request forms that are in the field.
//!
//! Neither library encodes anything. With a URL of the user, libfota adds nothing to it. Result 4
//! means both "already the newest" and every failure except connection failures.

use super::luatos::{Client, Core, Package};
use super::{Action, Attempt, Endpoint, Event, Failure, Identity, Outcome};
use std::time::Duration;

/// Edition of libfota, named after the date of its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Libfota {
    /// Edition before 2024-12: `project_key, imei, device_key, firmware_name, version`; 30 s
    /// time-out.
    D2023,
    /// 2024-12: `project_key, firmware_name, version, imei` (or `mac`, `uid`); time-out 30 s.
    D2024_12,
    /// 2025-12-15: time-out 180 s.
    D2025_12_15,
}

impl Libfota {
    /// All editions, the oldest first.
    pub const ALL: [Libfota; 3] = [Libfota::D2023, Libfota::D2024_12, Libfota::D2025_12_15];

    /// Each core with the library of its time, the oldest first.
    pub const GENERATIONS: [(Libfota, Core); 14] = [
        (Libfota::D2023, Core::D2023_02),
        (Libfota::D2023, Core::D2023_12_01),
        (Libfota::D2023, Core::D2024_06_27),
        (Libfota::D2024_12, Core::D2025_01_27),
        (Libfota::D2024_12, Core::D2025_11_12),
        (Libfota::D2024_12, Core::D2025_12_02),
        (Libfota::D2024_12, Core::D2025_12_04),
        (Libfota::D2024_12, Core::D2025_12_14),
        (Libfota::D2025_12_15, Core::D2025_12_19),
        (Libfota::D2025_12_15, Core::D2026_01_14),
        (Libfota::D2025_12_15, Core::D2026_02_02),
        (Libfota::D2025_12_15, Core::D2026_02_11),
        (Libfota::D2025_12_15, Core::D2026_03_10),
        (Libfota::D2025_12_15, Core::D2026_05_08),
    ];

    /// Returns the date of the commit.
    pub fn since(self) -> &'static str {
        match self {
            Libfota::D2023 => "2023",
            Libfota::D2024_12 => "2024-12",
            Libfota::D2025_12_15 => "2025-12-15",
        }
    }

    /// Creates an update that requests the user's URL (the path of `server`, with its query)
    /// verbatim: without imei and name.
    pub fn at_url(self, core: Core, server: Endpoint) -> Update {
        Update::new(Client::new(core, server).within(self.timeout()))
    }

    /// Creates an update in the platform's form, without a URL of the user: `server` replaces
    /// iot.openluat.com, and its path the platform's path.
    pub fn official(self, core: Core, identity: &Identity, mut server: Endpoint) -> Update {
        if identity.key.is_empty() {
            return Update::unsent(no_key());
        }
        let Some(version) = core_version(identity) else {
            return Update::unsent(no_version(identity));
        };
        let Identity {
            imei, key, project, ..
        } = identity;
        let bsp = bsp(identity);
        let query = match self {
            Libfota::D2023 => format!(
                "?project_key={key}&imei={imei}&device_key=\
                 &firmware_name={project}_LuatOS-SoC_{bsp}&version={version}"
            ),
            Libfota::D2024_12 | Libfota::D2025_12_15 => format!(
                "?project_key={key}&firmware_name={project}_LuatOS-SoC_{bsp}&version={version}&{}",
                match Family::of(bsp) {
                    Family::Mobile => format!("imei={imei}"),
                    Family::Wifi | Family::Air1601 => format!("mac={}", mac(identity)),
                    Family::Other => format!("uid={}", unique_id(identity)),
                }
            ),
        };
        server.path.push_str(&query);
        let client = Client::new(core, server)
            .within(self.timeout())
            .on_platform(bsp);
        Update::new(client)
    }

    fn timeout(self) -> Duration {
        Duration::from_secs(match self {
            Libfota::D2023 | Libfota::D2024_12 => 30,
            Libfota::D2025_12_15 => 180,
        })
    }
}

/// Edition of libfota2, named after the date of its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Libfota2 {
    /// 2024-04-09 (776831c49): adds its own `?`, and appends the whole query again on every call.
    D2024_04_09,
    /// 2024-09-09 (df555a963): adds the model.
    D2024_09_09,
    /// 2024-11-22 (4d7484126): does not add a `?`.
    D2024_11_22,
    /// 2025-01-10 (172b8da8f): mac and uid; without 4G, the name from rtos.firmware().
    D2025_01_10,
    /// The newest commit: the id depends on the model's name.
    Head,
}

impl Libfota2 {
    /// All editions, the oldest first.
    pub const ALL: [Libfota2; 5] = [
        Libfota2::D2024_04_09,
        Libfota2::D2024_09_09,
        Libfota2::D2024_11_22,
        Libfota2::D2025_01_10,
        Libfota2::Head,
    ];

    /// Combinations in the field with each library and each core at least once, the oldest first.
    pub const GENERATIONS: [(Libfota2, Core); 16] = [
        (Libfota2::D2024_04_09, Core::D2023_02),
        (Libfota2::D2024_04_09, Core::D2023_12_01),
        (Libfota2::D2024_09_09, Core::D2024_06_27),
        (Libfota2::D2024_11_22, Core::D2024_06_27),
        (Libfota2::D2025_01_10, Core::D2025_01_27),
        (Libfota2::Head, Core::D2025_01_27),
        (Libfota2::Head, Core::D2025_11_12),
        (Libfota2::Head, Core::D2025_12_02),
        (Libfota2::Head, Core::D2025_12_04),
        (Libfota2::Head, Core::D2025_12_14),
        (Libfota2::Head, Core::D2025_12_19),
        (Libfota2::Head, Core::D2026_01_14),
        (Libfota2::Head, Core::D2026_02_02),
        (Libfota2::Head, Core::D2026_02_11),
        (Libfota2::Head, Core::D2026_03_10),
        (Libfota2::Head, Core::D2026_05_08),
    ];

    /// Returns the date of the commit.
    pub fn since(self) -> &'static str {
        match self {
            Libfota2::D2024_04_09 => "2024-04-09",
            Libfota2::D2024_09_09 => "2024-09-09",
            Libfota2::D2024_11_22 => "2024-11-22",
            Libfota2::D2025_01_10 => "2025-01-10",
            Libfota2::Head => "HEAD",
        }
    }

    /// Creates an update at a URL (the path of `server`) in the form that this library requires:
    /// adds or removes a final `?` or `&`.
    pub fn update(self, core: Core, identity: &Identity, mut server: Endpoint) -> Update {
        let path = &mut server.path;
        while path.ends_with(['?', '&']) {
            path.pop();
        }
        if !self.adds_question_mark() {
            path.push(if path.contains('?') { '&' } else { '?' });
        }
        self.at_url(core, identity, server, 1)
    }

    /// Creates an update at a URL (the path of `server`) exactly as the user wrote it. `call` is
    /// the number of this call since the module started, from 1: until 2024-11-28 each call appends
    /// the query again.
    pub fn at_url(
        self,
        core: Core,
        identity: &Identity,
        mut server: Endpoint,
        call: u32,
    ) -> Update {
        if identity.key.is_empty() {
            return Update::unsent(no_key());
        }
        let Some(query) = self.query(identity) else {
            return Update::unsent(no_version(identity));
        };
        let times = match self {
            Libfota2::D2024_04_09 | Libfota2::D2024_09_09 | Libfota2::D2024_11_22 => call.max(1),
            Libfota2::D2025_01_10 | Libfota2::Head => 1,
        };
        for _ in 0..times {
            server.path.push_str(&query);
        }
        Update::new(Client::new(core, server).on_platform(bsp(identity)))
    }

    /// Whether the library itself appends a `?` to the user's URL.
    pub fn adds_question_mark(self) -> bool {
        matches!(self, Libfota2::D2024_04_09 | Libfota2::D2024_09_09)
    }

    /// Returns the query for the URL; `None` if the script's VERSION crashes the library.
    fn query(self, identity: &Identity) -> Option<String> {
        let Identity {
            imei, key, project, ..
        } = identity;
        let bsp = bsp(identity);
        let family = Family::of(bsp);
        if self == Libfota2::D2025_01_10 && family != Family::Mobile {
            let id = match family {
                Family::Wifi => format!("mac={}", mac(identity)),
                _ => format!("uid={}", unique_id(identity)),
            };
            // rtos.firmware() and the unchanged VERSION.
            return Some(format!(
                "{id}&project_key={key}&firmware_name={project}_LuatOS-SoC_V{:04}_{bsp}&version={}",
                identity.core, identity.version
            ));
        }
        let version = core_version(identity)?;
        let name = format!("project_key={key}&firmware_name={project}_LuatOS-SoC_{bsp}");
        Some(match self {
            Libfota2::D2024_04_09 => format!("?imei={imei}&{name}&version={version}"),
            Libfota2::D2024_09_09 | Libfota2::D2024_11_22 => format!(
                "{}imei={imei}&{name}&version={version}&model={}_A12",
                if self.adds_question_mark() { "?" } else { "" },
                model(bsp)
            ),
            Libfota2::D2025_01_10 => format!("imei={imei}&{name}&version={version}"),
            Libfota2::Head => {
                let cut = bsp.split('-').next().unwrap_or(bsp);
                format!(
                    "{}&project_key={key}&firmware_name={project}_LuatOS-SoC_{cut}\
                     &version={version}",
                    id_by_model(identity)
                )
            }
        })
    }
}

/// One update by libfota or libfota2: the C client, and the result that the user's callback gets.
#[derive(Debug)]
pub struct Update {
    inner: Inner,
    checks_md5: bool,
}

#[derive(Debug)]
enum Inner {
    Asking(Box<Client>),
    /// The update ends before any request.
    Unsent(Outcome),
    Over,
}

impl Update {
    fn new(client: Client) -> Update {
        Update {
            inner: Inner::Asking(Box::new(client)),
            checks_md5: false,
        }
    }

    fn unsent(outcome: Outcome) -> Update {
        Update {
            inner: Inner::Unsent(outcome),
            checks_md5: false,
        }
    }

    /// Sets the platform whose package check is done; by default every body is accepted as
    /// firmware.
    #[must_use]
    pub fn checking(self, package: Package) -> Update {
        match self.inner {
            Inner::Asking(client) => Update::new(client.checking(package)),
            inner => Update {
                inner,
                checks_md5: self.checks_md5,
            },
        }
    }

    /// Selects dst mode (see [`Client::into_file`]). At the next start, the file is checked by the
    /// MD5 at its end (docs/protocol.md 5b).
    #[must_use]
    pub fn into_file(self) -> Update {
        match self.inner {
            Inner::Asking(client) => Update {
                inner: Inner::Asking(Box::new(client.into_file())),
                checks_md5: true,
            },
            inner => Update {
                inner,
                checks_md5: true,
            },
        }
    }

    /// Sets the platform's limit on headers (see [`Client::on_platform`]).
    #[must_use]
    pub fn on_platform(self, bsp: &str) -> Update {
        match self.inner {
            Inner::Asking(client) => Update::new(client.on_platform(bsp)),
            inner => Update {
                inner,
                checks_md5: self.checks_md5,
            },
        }
    }
}

impl Attempt for Update {
    fn step(&mut self, now: Duration, event: Event<'_>) -> Vec<Action> {
        match std::mem::replace(&mut self.inner, Inner::Over) {
            Inner::Asking(mut client) => {
                let (mut actions, ended) = client.advance(now, event);
                match ended {
                    Some(ended) => actions.push(Action::Finish(match ended.outcome(result) {
                        Outcome::Failed(Failure::FlashedGarbage(_, why)) if self.checks_md5 => {
                            Outcome::Failed(Failure::GaveUp(format!(
                                "{why}; at the next start the file's MD5 does not match"
                            )))
                        }
                        outcome => outcome,
                    })),
                    None => self.inner = Inner::Asking(client),
                }
                actions
            }
            Inner::Unsent(outcome) => vec![Action::Finish(outcome)],
            Inner::Over => Vec::new(),
        }
    }
}

/// Returns the result that the callback gets for a code of the C client (docs/protocol.md 2c).
fn result(code: i32) -> String {
    let result = match code {
        -4 => 1,
        -5 => 3,
        _ => 4,
    };
    format!("result {result} (code {code})")
}

fn no_key() -> Outcome {
    Outcome::Failed(Failure::GaveUp("result 5: no PRODUCT_KEY".to_owned()))
}

fn no_version(identity: &Identity) -> Outcome {
    Outcome::Failed(Failure::ScriptError(format!(
        "VERSION \"{}\" does not have three numbers: the library crashes before it asks",
        identity.version
    )))
}

/// Returns `CORE.A.C` of the script's VERSION, digits as written (docs/protocol.md 1, 4b); `None`
/// if Lua's `(%d+).(%d+).(%d+)` does not match.
fn core_version(identity: &Identity) -> Option<String> {
    let (first, third) = three_numbers(identity.version.as_bytes())?;
    Some(format!("{:04}.{first}.{third}", identity.core))
}

/// Returns the first and the last capture of Lua's `(%d+).(%d+).(%d+)`: greedy, not anchored, and
/// each dot matches any byte.
fn three_numbers(text: &[u8]) -> Option<(String, String)> {
    (0..text.len()).find_map(|start| {
        let here = text.get(start..)?;
        (1..=digits(here)).rev().find_map(|first| {
            let behind_first = here.get(first.checked_add(1)?..)?;
            (1..=digits(behind_first)).rev().find_map(|second| {
                let behind_second = behind_first.get(second.checked_add(1)?..)?;
                let third = behind_second.get(..digits(behind_second))?;
                (!third.is_empty()).then(|| (ascii(here.get(..first)), ascii(Some(third))))
            })
        })
    })
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn ascii(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// Returns the platform; if none is given, a usual one for these libraries.
pub(super) fn bsp(identity: &Identity) -> &str {
    identity.bsp.as_deref().unwrap_or("Air780EPM")
}

/// Returns hmeta.model() of a bsp. For a bsp that is a chip's name: a module with that chip.
pub(super) fn model(bsp: &str) -> &str {
    if bsp.starts_with("EC618") {
        "Air780E"
    } else if bsp.starts_with("EC71") {
        "Air780EP"
    } else {
        bsp
    }
}

/// Kinds of platform that libfota and the libfota2 of 2025-01-10 distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Mobile,
    Wifi,
    Air1601,
    Other,
}

impl Family {
    fn of(bsp: &str) -> Family {
        let bsp = bsp.to_ascii_uppercase();
        let begins = |names: &[&str]| names.iter().any(|name| bsp.starts_with(name));
        if begins(&["EC6", "EC7", "AIR780", "AIR700", "AIR8000", "AIR201"]) {
            Family::Mobile
        } else if begins(&["ESP32", "AIR601", "AIR8101"]) {
            Family::Wifi
        } else if begins(&["AIR1601"]) {
            Family::Air1601
        } else {
            Family::Other
        }
    }
}

/// Returns the id that libfota2 derives from the model's name; `nil` for an unknown model.
fn id_by_model(identity: &Identity) -> String {
    let model = model(bsp(identity));
    let begins = |names: &[&str]| names.iter().any(|name| model.starts_with(name));
    if begins(&["Air780E", "Air8000", "Air700"]) {
        format!("imei={}", identity.imei)
    } else if begins(&["Air8101"]) {
        format!("mac={}", mac(identity))
    } else if begins(&["Air1601", "Air1602", "Air1780"]) {
        format!("mac={}", unique_id(identity))
    } else {
        "nil".to_owned()
    }
}

/// Returns the id that libfota3 sends: `imei=`, `mac=` or `uid=`, depending on the platform.
pub(super) fn id_by_platform(identity: &Identity) -> String {
    match Family::of(bsp(identity)) {
        Family::Mobile => format!("imei={}", identity.imei),
        Family::Wifi => format!("mac={}", mac(identity)),
        Family::Air1601 | Family::Other => format!("uid={}", unique_id(identity)),
    }
}

/// Returns a MAC address that is unique for each IMEI: the last twelve digits of the IMEI.
fn mac(identity: &Identity) -> &str {
    let imei = identity.imei.as_str();
    imei.get(imei.len().saturating_sub(12)..).unwrap_or(imei)
}

/// Returns a chip id that is unique for each IMEI: upper-case hexadecimal of even length.
fn unique_id(identity: &Identity) -> String {
    identity
        .imei
        .bytes()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

#[cfg(test)]
mod tests;
