//! `luat-ota probe` and `luat-ota simulate`: run the modules in [`crate::modems`] and show the result.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::CommandResult;
use super::args::{LabArgs, SAMPLE_IMEI};
use super::command::Command;
use crate::modems::simulate::Counts;
use crate::modems::{Endpoint, driver, probe, simulate};
use crate::os::process::raise_file_limit;

impl LabArgs {
    /// Fails if no address of a server was given, and leaves out generations that have no server.
    pub fn complete(&mut self, command: Command) -> Result<(), String> {
        let (http, udp) = (self.options.http.is_some(), self.options.udp.is_some());
        if !http && !udp && self.tcp.is_none() {
            let tcp = match command {
                Command::Probe => ", --tcp HOST:PORT",
                _ => "",
            };
            return Err(format!(
                "no server: give --http URL, --udp HOST:PORT{tcp}, or several of them"
            ));
        }
        if command == Command::Simulate {
            let mix = self.options.mix.clone().over(http, udp);
            self.options.mix = mix.ok_or(
                "--mix: no server is given for these generations: UDP needs --udp, the others --http",
            )?;
        }
        Ok(())
    }

    fn read_expected(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(path) = &self.expect else {
            return Ok(None);
        };
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(format!("--expect: {path:?} cannot be read: {error}")),
        }
    }

    /// Resolves the hosts that were given.
    fn resolve_hosts(&self) -> Result<Arc<[(String, IpAddr)]>, String> {
        let endpoints = [&self.options.http, &self.options.udp, &self.tcp];
        let resolve = |Endpoint { host, port, .. }: &Endpoint| {
            let address = driver::resolve(host, *port).map_err(|error| {
                format!("{host} cannot be resolved ({error}): check the name and the network")
            })?;
            Ok((host.clone(), address))
        };
        endpoints.into_iter().flatten().map(resolve).collect()
    }

    /// Runs `probe`.
    pub fn probe(&self) -> CommandResult {
        let mut module = self.options.module.clone();
        let separate_imeis = module.imei.is_empty();
        if separate_imeis {
            module.imei = SAMPLE_IMEI.to_owned();
        }
        let options = probe::Options {
            http: self.options.http.clone(),
            udp: self.options.udp.clone(),
            tcp: self.tcp.clone(),
            module,
            separate_imeis,
            expect: self.read_expected()?,
            patience: self.patience,
        };
        self.resolve_hosts()?;
        let report = probe::run(&options);
        let text = match self.json {
            true => format!("{}\n", report.json()),
            false => report.text(wants_colours()),
        };
        Ok((text, u8::from(!report.is_good())))
    }

    /// Runs `simulate`.
    pub fn simulate(&self) -> CommandResult {
        let names = self.resolve_hosts()?;
        let remote = names.iter().find(|(_, address)| !address.is_loopback());
        if let (Some((name, address)), false) = (remote, self.yes_really) {
            return Err(format!(
                "{name} ({address}) is not on this machine: {} modules would send requests to it. If \
                 you have permission, add --yes-really",
                self.options.devices
            ));
        }
        let options = simulate::Options {
            open_files: raise_file_limit(),
            names,
            expect: self.read_expected()?,
            ..self.options.clone()
        };
        let bar = progress_bar(u64::from(options.devices));
        let report = simulate::run(&options, &|counts: &Counts| {
            bar.set_position(u64::from(counts.finished()));
            if counts.finished().is_multiple_of(64) {
                bar.set_message(format!(
                    "{} updated, {} refused, {} failed",
                    counts.updated, counts.refused, counts.failed
                ));
            }
        });
        bar.finish_and_clear();
        let text = match self.json {
            true => format!("{}\n", report.json()),
            false => report.text(),
        };
        Ok((text, u8::from(!report.is_good())))
    }
}

/// Whether standard output is a terminal and colours are not turned off (no-color.org).
fn wants_colours() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// A progress bar on standard error, if that is a terminal.
fn progress_bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {pos}/{len} {msg}");
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
