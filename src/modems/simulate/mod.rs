//! The command `luat-ota simulate`: a fleet of modules with their own IMEIs against one server, in
//! one thread.
//!
//! Unlike those of a probe, the modules really wait, because the purpose is the load that they
//! cause together; only the clock of the whole fleet may run faster. Each module holds the image
//! that it downloads, so memory limits how many may download at once. The others wait, and the
//! report says how many attempts did.

mod mix;
mod report;

pub use mix::Mix;
pub use report::{Counts, Report};

use super::dice::Dice;
use super::driver::{self, Keep, Played, Settings};
use super::generations::{Client, Module, Transport};
use super::luatos::Core;
use super::{Endpoint, Failure, Outcome, counted_up, diagnose};
use report::{Images, Tally};
use smol::{Timer, block_on};
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum number of bytes of images that are downloaded at once.
const MEMORY: usize = 512 << 20;

/// Assumed size of an image until the first one has been received.
const GUESS: usize = 512 << 10;

/// Longest wait of a module that is not skipped after the server has closed, on the module's clock.
const IDLE: Duration = Duration::from_secs(15);

/// Options of a simulation.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Number of modules.
    pub devices: u32,
    /// Server for HTTP clients.
    pub http: Option<Endpoint>,
    /// Server for clients of the first edition over UDP.
    pub udp: Option<Endpoint>,
    /// Addresses of the hosts of both servers. No other host is ever contacted.
    pub names: Arc<[(String, IpAddr)]>,
    /// The first module; each further one has the next IMEI. If it has a version after the update
    /// (`to`), a module asks once more.
    pub module: Module,
    /// Generations and their shares.
    pub mix: Mix,
    /// Time between two checks of a module.
    pub interval: Duration,
    /// Maximum number of checks of a module.
    pub rounds: u32,
    /// Time after which the simulation ends, on the fleet's clock.
    pub duration: Duration,
    /// Bytes per second that a module receives.
    pub bandwidth: Option<u64>,
    /// Time from a request to its reply.
    pub latency: Duration,
    /// Percentage of datagrams that are lost, in each direction.
    pub loss: u32,
    /// Percentage of modules on which the new firmware fails: they fall back to the old version.
    pub fail: u32,
    /// Whether the modules that fall back report the new version once before they do.
    pub fallback_after_report: bool,
    /// Maximum time after an update until the module asks again, instead of `interval`.
    pub back_within: Option<Duration>,
    /// Percentage of modules that lose the link once during a download.
    pub cut: u32,
    /// Speed of the fleet's clock relative to the wall clock.
    pub speed: u32,
    /// Seed of the fleet: the same seed gives the same fleet.
    pub seed: u64,
    /// Bytes that every image must have.
    pub expect: Option<Vec<u8>>,
    /// Limit on open files of this process.
    pub open_files: u64,
}

/// Final state of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Updated,
    FellBack,
    Refused,
    Failed,
    /// The module has the new version, and was sent it again.
    Loops,
}

struct Fleet<'o> {
    options: &'o Options,
    begun: Instant,
    gate: smol::lock::Semaphore,
    /// Number of open files that may be used for sockets.
    files: usize,
    tally: RefCell<Tally>,
    images: RefCell<Images>,
    progress: &'o dyn Fn(&Counts),
}

/// Runs the fleet. Calls `progress` whenever a module has finished.
pub fn run(options: &Options, progress: &dyn Fn(&Counts)) -> Report {
    let files = usize::try_from(options.open_files).unwrap_or(usize::MAX);
    let files = files.saturating_sub(64).max(1);
    let fleet = Fleet {
        options,
        begun: Instant::now(),
        gate: smol::lock::Semaphore::new((MEMORY / GUESS).min(files)),
        files,
        tally: RefCell::new(Tally::default()),
        images: RefCell::new(Images::new(options.expect.clone())),
        progress,
    };
    if let Some(image) = &options.expect {
        fleet.widen(image.len());
    }
    let executor = smol::LocalExecutor::new();
    let over = fleet.wall(options.duration);
    block_on(executor.run(async {
        let tasks: Vec<_> = (0..options.devices)
            .map(|number| executor.spawn(fleet.live(number)))
            .collect();
        let all = async {
            for task in tasks {
                task.await;
            }
        };
        smol::future::or(all, async {
            Timer::at(over).await;
        })
        .await;
    }));
    let elapsed = fleet.begun.elapsed();
    drop(executor);
    let tally = fleet.tally.into_inner();
    Report::new(options, tally, fleet.images.into_inner(), elapsed)
}

impl Fleet<'_> {
    /// Returns the moment on the wall clock at which the fleet's clock shows `since`.
    fn wall(&self, since: Duration) -> Instant {
        let span = since
            .checked_div(self.options.speed.max(1))
            .unwrap_or(since);
        self.begun.checked_add(span).unwrap_or(self.begun)
    }

    /// Returns the time on the fleet's clock.
    fn now(&self) -> Duration {
        self.begun
            .elapsed()
            .saturating_mul(self.options.speed.max(1))
    }

    /// Runs one module from its first check to its final state.
    async fn live(&self, number: u32) {
        let options = self.options;
        let mut dice = Dice::of(options.seed, u64::from(number));
        let client = options.mix.draw(&mut dice);
        let first = dice.below(u64::try_from(options.interval.as_millis()).unwrap_or(u64::MAX));
        let falls_back = dice.percent(options.fail);
        let is_cut = dice.percent(options.cut);
        let cut_after = match &options.expect {
            Some(image) => dice.below(u64::try_from(image.len()).unwrap_or(u64::MAX)),
            None => dice.below(30_000).saturating_add(1_500),
        };
        let server = match client.transport() {
            Transport::Http => options.http.as_ref(),
            _ => options.udp.as_ref(),
        };
        let Some(server) = server else {
            return;
        };
        let mut module = options.module.clone();
        module.imei = counted_up(&options.module.imei, number);
        let mut settings = self.settings(server, number, dice.throw());
        settings.cut_after = is_cut.then_some(cut_after);
        let mut fate = Fate::Refused;
        let mut at = Duration::from_millis(first);
        for _ in 0..options.rounds.max(1) {
            Timer::at(self.wall(at)).await;
            let played = self.attempt(client, &module, server, &settings).await;
            settings.seed = dice.throw();
            if played.was_cut {
                settings.cut_after = None;
            }
            let (next, goes_on) = self.judge(client, fate, falls_back, &played);
            fate = next;
            if fate == Fate::Updated && goes_on {
                module.version = options.module.to.clone().unwrap_or_default();
            }
            if !goes_on {
                break;
            }
            let has_updated = matches!(played.outcome, Outcome::Updated(_));
            let mut pause = match options.back_within {
                Some(within) if has_updated => {
                    let most = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
                    Duration::from_millis(dice.below(most).saturating_add(1))
                }
                _ => options.interval,
            };
            if let (true, true, Fate::FellBack, Some(to)) = (
                options.fallback_after_report,
                has_updated,
                fate,
                &options.module.to,
            ) {
                at = self.now().max(at).saturating_add(pause);
                Timer::at(self.wall(at)).await;
                let reporting = Module {
                    version: to.clone(),
                    ..module.clone()
                };
                let played = self.attempt(client, &reporting, server, &settings).await;
                self.tally.borrow_mut().count(&played);
                // The new firmware runs for some time before it crashes.
                pause = options.interval;
            }
            at = self.now().max(at).saturating_add(pause);
        }
        let mut tally = self.tally.borrow_mut();
        tally.count_fate(fate);
        (self.progress)(&tally.counts);
    }

    fn settings(&self, server: &Endpoint, number: u32, seed: u64) -> Settings {
        let options = self.options;
        let to = options.names.iter().find(|(name, _)| *name == server.host);
        let here = to.is_some_and(|(_, address)| address.is_ipv4() && address.is_loopback());
        Settings {
            quiet: None,
            idle: IDLE,
            speed: options.speed,
            cap: self
                .wall(options.duration)
                .saturating_duration_since(Instant::now()),
            bandwidth: options.bandwidth,
            latency: options.latency,
            loss: options.loss,
            cut_after: None,
            seed,
            keep: Keep {
                exchanges: 1,
                bytes: 1024,
            },
            source: here.then(|| address_of(number)),
            names: Arc::clone(&options.names),
            only_names: true,
        }
    }

    async fn attempt(
        &self,
        client: Client,
        module: &Module,
        server: &Endpoint,
        settings: &Settings,
    ) -> Played {
        let _turn = match self.gate.try_acquire() {
            Some(turn) => turn,
            None => {
                self.tally.borrow_mut().hold_back();
                self.gate.acquire().await
            }
        };
        let mut attempt = client.attempt(module, server);
        driver::play(attempt.as_mut(), settings).await
    }

    /// Returns the state of the module after an attempt, and whether the module asks again.
    fn judge(
        &self,
        client: Client,
        before: Fate,
        falls_back: bool,
        played: &Played,
    ) -> (Fate, bool) {
        let mut tally = self.tally.borrow_mut();
        tally.count(played);
        match &played.outcome {
            Outcome::Updated(bytes) => {
                self.widen(bytes.len());
                if !self.images.borrow_mut().is_right(played, bytes) {
                    tally.counts.corrupt = tally.counts.corrupt.saturating_add(1);
                }
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                tally.counts.updates = tally.counts.updates.saturating_add(1);
                if before == Fate::Updated {
                    tally.waste(played.body);
                    return (Fate::Loops, false);
                }
                if falls_back {
                    tally.waste(played.body);
                    return (Fate::FellBack, true);
                }
                tally.waste(played.body.saturating_sub(size));
                tally.times.push(self.now());
                (Fate::Updated, self.options.module.to.is_some())
            }
            Outcome::NoUpdate(_) => self.refused(before),
            Outcome::Failed(_) if diagnose::is_known_bug(client, played) => self.refused(before),
            Outcome::Failed(failure) => {
                tally.waste(played.body);
                let flashed = is_flashed(client, failure, played);
                if flashed {
                    tally.counts.corrupt = tally.counts.corrupt.saturating_add(1);
                }
                tally.fail(client, failure, flashed);
                match before {
                    Fate::Updated | Fate::FellBack => (before, true),
                    _ => (Fate::Failed, true),
                }
            }
        }
    }

    fn refused(&self, before: Fate) -> (Fate, bool) {
        match before {
            // The module has the new version, and was told that none is newer.
            Fate::Updated => (Fate::Updated, false),
            // The server holds the update back from this module.
            Fate::FellBack => (Fate::FellBack, false),
            _ => (Fate::Refused, true),
        }
    }

    /// Adapts the number of concurrent attempts to the size of the images, once that is known.
    fn widen(&self, size: usize) {
        let mut images = self.images.borrow_mut();
        if images.size_known {
            return;
        }
        images.size_known = true;
        let now = (MEMORY / GUESS).min(self.files);
        // A buffer that grows by doubling occupies up to twice the size of its content.
        let each = size.saturating_mul(3) / 2;
        let may = (MEMORY / each.max(4 << 10)).max(16).min(self.files);
        if may > now {
            self.gate.add_permits(may.saturating_sub(now));
        } else {
            for _ in may..now {
                // Attempts that are running are not interrupted.
                if let Some(turn) = self.gate.try_acquire() {
                    turn.forget();
                }
            }
        }
    }
}

/// Whether a module would really run garbage. The newest cores take a cut file for the whole one,
/// but then the platform's package check rejects it; that check is not played without a platform's
/// name.
fn is_flashed(client: Client, failure: &Failure, played: &Played) -> bool {
    let cut_short = played.was_cut && client.luatos_core() >= Some(Core::D2025_12_19);
    matches!(failure, Failure::FlashedGarbage(..)) && !cut_short
}

/// Returns a loopback address that is unique for a module, 250 in each network of 256. Otherwise a
/// server with limits for each address would see only one.
fn address_of(number: u32) -> IpAddr {
    let low = number % 250;
    let [_, _, b, c] = (number / 250).to_be_bytes();
    let [_, _, _, low] = low.saturating_add(1).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, b.saturating_add(1), c, low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_module_has_an_imei_and_an_address_of_its_own() {
        let imeis: HashSet<String> = (0..100_000)
            .map(|n| counted_up("862991440000000", n))
            .collect();
        assert_eq!(imeis.len(), 100_000);
        assert!(imeis.iter().all(|imei| imei.len() == 15));
        assert_eq!(counted_up("004999010640000", 7), "004999010640007");
        let addresses: HashSet<IpAddr> = (0..100_000).map(address_of).collect();
        assert_eq!(addresses.len(), 100_000);
        assert!(addresses.iter().all(IpAddr::is_loopback));
    }
}
