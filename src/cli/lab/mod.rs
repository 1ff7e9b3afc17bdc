//! `luat-ota probe` and `luat-ota simulate`: what was asked, and how the answer is shown. The modules
//! themselves are in [`crate::modems`].

mod flags;

pub(super) use flags::FLAGS;

use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Command;
use crate::modems::generations::Module;
use crate::modems::simulate::{Counts, Mix};
use crate::modems::{Endpoint, driver, probe, simulate};

/// What stands in the help of the program.
pub(super) const PROGRAM: &str =
    "  luat-ota probe           plays every generation of module against a server
  luat-ota simulate        lets a fleet of modules loose on a server
";

/// The help of `probe`.
pub(super) const PROBE: &str = "\
luat-ota probe [--http URL] [--udp HOST:PORT] [--tcp HOST:PORT]

Plays every generation of module against a running server (this one or any other) and shows which
update, which take the answer for \"no update\", and which fail; for each that fails what the server
must change. Waits of a module are jumped over: a hang of ten minutes takes seconds. Colours only on
a terminal, and not where NO_COLOR is set.

  luat-ota probe --http http://127.0.0.1:8080/luat/update --udp 127.0.0.1:2234 --tcp 127.0.0.1:2234

Exit status: 0 if no client fails, 1 if one does, 2 wrong usage. A bug of a client that no server
can help is shown and does not count.
";

/// The help of `simulate`.
pub(super) const SIMULATE: &str = "\
luat-ota simulate --devices N [--http URL] [--udp HOST:PORT]

Lets a fleet of modules, each with its own IMEI, loose on a server, and reports what became of them.
It ends when every module is updated, has been refused or has failed --rounds times, or after
--duration. No other address is asked than the ones given, and only this machine's without
--yes-really.

  luat-ota simulate --devices 5000 --http http://127.0.0.1:8080/luat/update --cut 10 --fail 2

Exit status: 0 if every module came to its end, none failed, the server made no error and no image
is corrupt; else 1; 2 wrong usage.
";

/// The first of the IMEIs that the sample in the repository is for.
const SAMPLE_IMEI: &str = "004999010640000";

/// What the flags say; the defaults are in the table.
#[derive(Debug)]
pub(super) struct Asked {
    pub http: Option<Endpoint>,
    pub udp: Option<Endpoint>,
    pub tcp: Option<Endpoint>,
    /// Empty: not given.
    pub imei: String,
    pub project: String,
    pub core: Option<u32>,
    pub bsp: Option<String>,
    pub version: String,
    pub key: String,
    pub expect: Option<PathBuf>,
    pub json: bool,
    pub patience: Duration,
    pub devices: u32,
    pub to: Option<String>,
    pub mix: Mix,
    pub interval: Duration,
    pub rounds: u32,
    pub duration: Duration,
    pub bandwidth: Option<u64>,
    pub latency: Duration,
    pub loss: u32,
    pub fail: u32,
    pub fallback_after_report: bool,
    pub back_within: Option<Duration>,
    pub cut: u32,
    pub speed: u32,
    pub seed: u64,
    pub yes_really: bool,
}

impl Default for Asked {
    fn default() -> Asked {
        Asked {
            http: None,
            udp: None,
            tcp: None,
            imei: String::new(),
            project: String::new(),
            core: None,
            bsp: None,
            version: String::new(),
            key: String::new(),
            expect: None,
            json: false,
            patience: Duration::ZERO,
            devices: 0,
            to: None,
            mix: Mix::realistic(),
            interval: Duration::ZERO,
            rounds: 0,
            duration: Duration::ZERO,
            bandwidth: None,
            latency: Duration::ZERO,
            loss: 0,
            fail: 0,
            fallback_after_report: false,
            back_within: None,
            cut: 0,
            speed: 0,
            seed: 0,
            yes_really: false,
        }
    }
}

impl Asked {
    /// Is there enough to begin with?
    pub fn complete(&mut self, command: Command) -> Result<(), String> {
        let (http, udp) = (self.http.is_some(), self.udp.is_some());
        if !http && !udp && self.tcp.is_none() {
            let tcp = match command {
                Command::Probe => ", --tcp HOST:PORT",
                _ => "",
            };
            return Err(format!(
                "which server? Give --http URL, --udp HOST:PORT{tcp}, or several of them"
            ));
        }
        if command == Command::Simulate {
            let mix = self.mix.clone().over(http, udp);
            self.mix = mix.ok_or_else(|| {
                "--mix: none of these generations asks over what is given: UDP needs --udp, the others \
                 --http"
                    .to_owned()
            })?;
        }
        Ok(())
    }

    fn module(&self) -> Module {
        Module {
            imei: match self.imei.as_str() {
                "" => SAMPLE_IMEI.to_owned(),
                imei => imei.to_owned(),
            },
            project: self.project.clone(),
            version: self.version.clone(),
            core: self.core,
            bsp: self.bsp.clone(),
            key: self.key.clone(),
            to: self.to.clone(),
        }
    }

    fn expected(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(path) = &self.expect else {
            return Ok(None);
        };
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(format!("--expect: {path:?} cannot be read: {error}")),
        }
    }

    /// The addresses of the hosts that were given.
    fn names(&self) -> Result<Arc<[(String, IpAddr)]>, String> {
        let mut names = Vec::new();
        for endpoint in [&self.http, &self.udp, &self.tcp].into_iter().flatten() {
            let Endpoint { host, port, .. } = endpoint;
            let address = driver::resolve(host, *port).map_err(|error| {
                format!(
                    "{host} has no address ({error}): is the name right, and is there a network?"
                )
            })?;
            names.push((host.clone(), address));
        }
        Ok(names.into())
    }
}

/// What to print, and the exit status.
pub(super) fn probe(asked: &Asked) -> Result<(String, u8), String> {
    let options = probe::Options {
        http: asked.http.clone(),
        udp: asked.udp.clone(),
        tcp: asked.tcp.clone(),
        module: asked.module(),
        count_up: asked.imei.is_empty(),
        expect: asked.expected()?,
        patience: asked.patience,
    };
    asked.names()?;
    let report = probe::run(&options);
    let text = match asked.json {
        true => format!("{}\n", report.json()),
        false => report.text(colours()),
    };
    Ok((text, u8::from(!report.is_good())))
}

/// Standard output is a terminal, and nobody asked for none (no-color.org).
fn colours() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
}

/// What to print, and the exit status.
pub(super) fn simulate(asked: &Asked) -> Result<(String, u8), String> {
    let names = asked.names()?;
    let strange = names.iter().find(|(_, address)| !address.is_loopback());
    if let (Some((name, address)), false) = (strange, asked.yes_really) {
        return Err(format!(
            "{name} ({address}) is not on this machine: {} modules would fall on it. If you may do \
             that, say --yes-really",
            asked.devices
        ));
    }
    let options = simulate::Options {
        devices: asked.devices,
        http: asked.http.clone(),
        udp: asked.udp.clone(),
        names,
        module: asked.module(),
        to: asked.to.clone(),
        mix: asked.mix.clone(),
        interval: asked.interval,
        rounds: asked.rounds,
        duration: asked.duration,
        bandwidth: asked.bandwidth,
        latency: asked.latency,
        loss: asked.loss,
        fail: asked.fail,
        fallback_after_report: asked.fallback_after_report,
        back_within: asked.back_within,
        cut: asked.cut,
        speed: asked.speed,
        seed: asked.seed,
        expect: asked.expected()?,
    };
    let bar = bar(u64::from(asked.devices));
    let report = simulate::run(&options, &|counts: &Counts| {
        bar.set_position(u64::from(counts.settled()));
        if counts.settled().is_multiple_of(64) {
            bar.set_message(format!(
                "{} updated, {} refused, {} failed",
                counts.updated, counts.refused, counts.failed
            ));
        }
    });
    bar.finish_and_clear();
    let text = match asked.json {
        true => format!("{}\n", report.json()),
        false => report.text(),
    };
    Ok((text, u8::from(!report.is_good())))
}

/// A progress bar on standard error, if that is a terminal.
fn bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {pos}/{len} {msg}");
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
