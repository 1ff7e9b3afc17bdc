//! List of all module generations: the name of each, its transport, and a constructor for one
//! attempt. `probe` plays them all, `simulate` mixes them, and our own tests check the server
//! against them.
//!
//! A generation is a library *and* a core. The same libfota2 on a core of another month parses the
//! same reply differently.

use super::first_edition::{Dialect, FirstEdition};
use super::libfota::{Libfota, Libfota2};
use super::libfota3::Libfota3;
use super::luatask::{Generation, LuaTask, Options};
use super::luatos::{Core, Package};
use super::updatehttp::UpdateHttp;
use super::{Attempt, Endpoint, Identity};

/// Transport of a client's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP.
    Http,
    /// The messages of the first edition, over UDP.
    Udp,
    /// The messages of the first edition, over TCP.
    Tcp,
}

/// One client generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The first edition over UDP (`true`) or TCP.
    First(Dialect, bool),
    /// The first edition over HTTP.
    UpdateHttp,
    /// LuaTask.
    LuaTask(Generation),
    /// LuaTask on RDA8910 with `redir` true: it sends `need_oss_url=1` and follows redirects.
    LuaTaskRedirect,
    /// libfota on a core.
    Libfota(Libfota, Core),
    /// libfota2 on a core.
    Libfota2(Libfota2, Core),
    /// libfota2 on a platform without `fota`: the body becomes `/update.bin` (dst mode).
    Libfota2File,
    /// libfota3 on the newest core.
    Libfota3(Libfota3),
}

/// A module as its owner describes it. Missing parts get the usual value of each generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// IMEI, 15 digits.
    pub imei: String,
    /// PROJECT of the script.
    pub project: String,
    /// VERSION of the script. Each client sends it in its own form.
    pub version: String,
    /// Core version.
    pub core: Option<u32>,
    /// Platform. Generations that it does not belong to use their usual platform.
    pub bsp: Option<String>,
    /// PRODUCT_KEY.
    pub key: String,
    /// VERSION of the script in the update, if known.
    pub to: Option<String>,
}

/// Families of platforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Gen2g,
    Asr1802,
    Rda8910,
    LuatOs,
}

impl Family {
    fn of(bsp: &str) -> Family {
        let bsp = bsp.to_ascii_uppercase();
        if bsp.starts_with("8955") {
            Family::Gen2g
        } else if bsp.starts_with("ASR1802") {
            Family::Asr1802
        } else if bsp.starts_with("RDA8910") {
            Family::Rda8910
        } else {
            Family::LuatOs
        }
    }

    /// Returns a core version that is common in the field.
    fn usual_core(self) -> u32 {
        match self {
            Family::Gen2g => 35,
            Family::Asr1802 => 17,
            Family::Rda8910 => 3033,
            Family::LuatOs => 2012,
        }
    }
}

/// Edition of libfota2 from the time when platforms without `fota` were in use (luat_ota.c was
/// removed on 2026-06-22).
const FILE_LIBRARY: Libfota2 = Libfota2::D2025_01_10;
const FILE_CORE: Core = Core::D2025_01_27;
const FILE_PLATFORM: &str = "ESP32C3";

impl Client {
    /// Returns every generation, the oldest first.
    pub fn all() -> Vec<Client> {
        let mut all = vec![
            Client::First(Dialect::UserServer, true),
            Client::First(Dialect::Official, true),
            Client::First(Dialect::OfficialC, true),
            Client::First(Dialect::UserServer, false),
            Client::UpdateHttp,
            Client::LuaTask(Generation::Gen2g),
            Client::LuaTask(Generation::Asr1802),
            Client::LuaTask(Generation::Rda8910),
            Client::LuaTaskRedirect,
        ];
        let libfota = Libfota::GENERATIONS.into_iter();
        all.extend(libfota.map(|(library, core)| Client::Libfota(library, core)));
        let libfota2 = Libfota2::GENERATIONS.into_iter();
        all.extend(libfota2.map(|(library, core)| Client::Libfota2(library, core)));
        all.push(Client::Libfota2File);
        all.extend(Libfota3::ALL.map(Client::Libfota3));
        all
    }

    /// Returns the transport of the client's requests.
    pub fn transport(self) -> Transport {
        match self {
            Client::First(_, true) => Transport::Udp,
            Client::First(_, false) => Transport::Tcp,
            _ => Transport::Http,
        }
    }

    /// Returns the name of the client for people.
    pub fn name(self) -> String {
        match self {
            Client::First(Dialect::UserServer, true) => "2G first edition, UDP, own server".into(),
            Client::First(Dialect::Official, true) => "2G first edition, UDP, official form".into(),
            Client::First(Dialect::OfficialC, true) => "2G C client, UDP".into(),
            Client::First(_, false) => "2G first edition, TCP".into(),
            Client::UpdateHttp => "2G first edition, HTTP (updatehttp)".into(),
            Client::LuaTask(Generation::Gen2g) => "2G LuaTask (Air202, Air800)".into(),
            Client::LuaTask(Generation::Asr1802) => "4G LuaTask (Air720, ASR1802)".into(),
            Client::LuaTask(Generation::Rda8910) => "4G LuaTask (Air724U, RDA8910)".into(),
            Client::LuaTaskRedirect => "4G LuaTask (Air724U, RDA8910), redir=true".into(),
            Client::Libfota2File => {
                format!("libfota2 {}, no fota (ESP32C3)", FILE_LIBRARY.since())
            }
            Client::Libfota(library, core) => {
                format!("libfota {}, core {}", library.since(), core.since())
            }
            Client::Libfota2(library, core) => {
                format!("libfota2 {}, core {}", library.since(), core.since())
            }
            Client::Libfota3(edition) => format!("libfota3 {}", edition.since()),
        }
    }

    /// Returns the name of the client for flags and scripts, without spaces.
    pub fn slug(self) -> String {
        match self {
            Client::First(Dialect::UserServer, true) => "udp-user".into(),
            Client::First(Dialect::Official, true) => "udp-official".into(),
            Client::First(Dialect::OfficialC, true) => "udp-c".into(),
            Client::First(_, false) => "tcp".into(),
            Client::UpdateHttp => "updatehttp".into(),
            Client::LuaTask(Generation::Gen2g) => "luatask-2g".into(),
            Client::LuaTask(Generation::Asr1802) => "luatask-1802".into(),
            Client::LuaTask(Generation::Rda8910) => "luatask-8910".into(),
            Client::LuaTaskRedirect => "luatask-redirect".into(),
            Client::Libfota2File => "dst-libfota2".into(),
            Client::Libfota(library, core) => {
                format!("libfota-{}-core-{}", library.since(), core.since())
            }
            Client::Libfota2(library, core) => {
                format!("libfota2-{}-core-{}", library.since(), core.since())
            }
            Client::Libfota3(edition) => format!("libfota3-{}", edition.since()),
        }
    }

    /// Returns a short description of what the client sends (docs/protocol.md 1).
    pub fn sends(self) -> &'static str {
        match self {
            Client::First(Dialect::UserServer, _) => "IMEI,PROJECT_Luat_V0035_8955,VERSION",
            Client::First(..) => "0,KEY,IMEI,SN,PROJECT_Luat_V0035_8955,VERSION",
            Client::UpdateHttp => "GET, keep-alive, Host without a port",
            Client::LuaTask(Generation::Gen2g) => "GET, Connection: short",
            Client::LuaTask(Generation::Asr1802) => "GET with Range from the first request on",
            Client::LuaTask(Generation::Rda8910) => "GET with Range, core_version apart",
            Client::LuaTaskRedirect => "GET with Range and need_oss_url=1",
            Client::Libfota2File => "GET with mac=, firmware_name with the core version",
            Client::Libfota(..) => "GET in the platform's form, version CORE.A.C",
            Client::Libfota2(..) => "GET appended to the URL, version CORE.A.C",
            Client::Libfota3(_) => "GET turnkey_fota, the file, POST turnkey_fota_result",
        }
    }

    /// Returns the core whose C client is used, if the client is a LuatOS module.
    pub fn luatos_core(self) -> Option<Core> {
        match self {
            Client::Libfota(_, core) | Client::Libfota2(_, core) => Some(core),
            Client::Libfota2File => Some(FILE_CORE),
            Client::Libfota3(_) => Some(Core::D2026_05_08),
            _ => None,
        }
    }

    fn family(self) -> Family {
        match self {
            Client::First(..) | Client::UpdateHttp | Client::LuaTask(Generation::Gen2g) => {
                Family::Gen2g
            }
            Client::LuaTask(Generation::Asr1802) => Family::Asr1802,
            Client::LuaTask(Generation::Rda8910) | Client::LuaTaskRedirect => Family::Rda8910,
            _ => Family::LuatOs,
        }
    }

    /// Whether a platform with this name (`bsp`) belongs to this generation.
    pub fn includes_platform(self, bsp: &str) -> bool {
        self.family() == Family::of(bsp)
    }

    /// Returns the properties that a module of this generation states.
    pub fn identity(self, module: &Module) -> Identity {
        let mut bsp = module.bsp.clone().filter(|bsp| self.includes_platform(bsp));
        // A core that was given together with a platform belongs to that platform.
        let core = module
            .core
            .filter(|_| bsp.is_some() || module.bsp.is_none())
            .unwrap_or(self.family().usual_core());
        if self == Client::Libfota2File {
            bsp = Some(FILE_PLATFORM.to_owned());
        }
        Identity {
            imei: module.imei.clone(),
            project: module.project.clone(),
            version: module.version.clone(),
            core,
            bsp,
            key: module.key.clone(),
            serial: String::new(),
        }
    }

    /// Creates one attempt of this module at this server. If a platform is given, a LuatOS module
    /// checks the package as that platform does. Otherwise it accepts every body as firmware.
    pub fn attempt(self, module: &Module, server: &Endpoint) -> Box<dyn Attempt + Send> {
        let identity = self.identity(module);
        let package = match &identity.bsp {
            Some(bsp) => Package::of(bsp),
            None => Package::Unchecked,
        };
        let server = server.clone();
        match self {
            Client::First(dialect, datagrams) => {
                Box::new(FirstEdition::new(&identity, &server, dialect, datagrams))
            }
            Client::UpdateHttp => Box::new(UpdateHttp::new(&identity, &server)),
            Client::LuaTask(generation) => Box::new(LuaTask::new(
                &identity,
                &server,
                generation,
                Options::default(),
            )),
            Client::LuaTaskRedirect => Box::new(LuaTask::new(
                &identity,
                &server,
                Generation::Rda8910,
                Options {
                    need_oss_url: true,
                    ..Options::default()
                },
            )),
            Client::Libfota2File => Box::new(
                FILE_LIBRARY
                    .update(FILE_CORE, &identity, server)
                    .into_file(),
            ),
            Client::Libfota(library, core) => {
                Box::new(library.official(core, &identity, server).checking(package))
            }
            Client::Libfota2(library, core) => {
                Box::new(library.update(core, &identity, server).checking(package))
            }
            Client::Libfota3(edition) => {
                let to = module.to.as_deref();
                Box::new(edition.update(Core::D2026_05_08, &identity, to, server))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modems::{Action, Event};
    use std::collections::HashSet;
    use std::time::Duration;

    fn module() -> Module {
        Module {
            imei: "862991443753386".into(),
            project: "DEMO".into(),
            version: "1.0.0".into(),
            core: None,
            bsp: None,
            key: "KEY".into(),
            to: None,
        }
    }

    #[test]
    fn every_generation_has_its_own_name_and_begins_with_a_connection() {
        let all = Client::all();
        let names: HashSet<String> = all.iter().map(|client| client.name()).collect();
        let slugs: HashSet<String> = all.iter().map(|client| client.slug()).collect();
        assert_eq!((names.len(), slugs.len()), (all.len(), all.len()));
        let server = Endpoint {
            host: "h".into(),
            port: 1,
            path: "/u".into(),
        };
        for client in all {
            let first = client
                .attempt(&module(), &server)
                .step(Duration::ZERO, Event::Start);
            let datagrams = match first.first() {
                Some(Action::Connect { datagrams, .. }) => *datagrams,
                other => panic!("{}: {other:?}", client.name()),
            };
            assert_eq!(datagrams, client.transport() == Transport::Udp);
            assert!(!client.sends().is_empty() && !client.slug().contains(' '));
        }
    }

    #[test]
    fn a_platform_and_its_core_apply_only_to_its_generations() {
        let mut module = module();
        module.bsp = Some("RDA8910_TTS_FLOAT".into());
        module.core = Some(3100);
        let rda = Client::LuaTask(Generation::Rda8910).identity(&module);
        assert_eq!((rda.core, rda.bsp), (3100, module.bsp.clone()));
        let other = Client::UpdateHttp.identity(&module);
        assert_eq!((other.core, other.bsp), (35, None));
        module.bsp = None;
        assert_eq!(Client::UpdateHttp.identity(&module).core, 3100);
    }
}
