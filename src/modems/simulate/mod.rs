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

use super::driver::{self, Played, RecordLimits, Settings};
use super::generations::{Client, Module, Transport};
use super::luatos::Core;
use super::rng::Rng;
use super::{Endpoint, Failure, Outcome, diagnose, nth_imei};
use report::{Images, Tally};
use smol::{Timer, block_on};
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum number of bytes of images that are downloaded at once.
const MAX_MEMORY: usize = 512 << 20;

/// Assumed size of an image until the first one has been received.
const ASSUMED_SIZE: usize = 512 << 10;

/// Longest wait of a module that is not skipped after the server has closed, on the module's clock.
const MAX_IDLE: Duration = Duration::from_secs(15);

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
pub(super) enum FinalState {
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
    slots: smol::lock::Semaphore,
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
        slots: smol::lock::Semaphore::new((MAX_MEMORY / ASSUMED_SIZE).min(files)),
        files,
        tally: RefCell::new(Tally::default()),
        images: RefCell::new(Images::new(options.expect.clone())),
        progress,
    };
    if let Some(image) = &options.expect {
        fleet.adapt_limit(image.len());
    }
    let executor = smol::LocalExecutor::new();
    let over = fleet.wall_time(options.duration);
    block_on(executor.run(async {
        let tasks: Vec<_> = (0..options.devices)
            .map(|number| executor.spawn(fleet.run_module(number)))
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
    Report::new(options, tally, elapsed)
}

impl Fleet<'_> {
    /// Returns the moment on the wall clock at which the fleet's clock shows `since`.
    fn wall_time(&self, since: Duration) -> Instant {
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
    async fn run_module(&self, number: u32) {
        let options = self.options;
        let mut rng = Rng::for_item(options.seed, u64::from(number));
        let client = options.mix.draw(&mut rng);
        let first = rng.below(u64::try_from(options.interval.as_millis()).unwrap_or(u64::MAX));
        let is_fallback = rng.chance(options.fail);
        let is_cut = rng.chance(options.cut);
        let cut_after = match &options.expect {
            Some(image) => rng.below(u64::try_from(image.len()).unwrap_or(u64::MAX)),
            None => rng.below(30_000).saturating_add(1_500),
        };
        let server = match client.transport() {
            Transport::Http => options.http.as_ref(),
            _ => options.udp.as_ref(),
        };
        let Some(server) = server else {
            return;
        };
        let mut module = options.module.clone();
        module.imei = nth_imei(&options.module.imei, number);
        let mut settings = self.settings(server, number, rng.next_u64());
        settings.cut_after = is_cut.then_some(cut_after);
        let mut state = FinalState::Refused;
        let mut at = Duration::from_millis(first);
        for _ in 0..options.rounds.max(1) {
            Timer::at(self.wall_time(at)).await;
            let played = self.attempt(client, &module, server, &settings).await;
            settings.seed = rng.next_u64();
            if played.was_cut {
                settings.cut_after = None;
            }
            let (next, asks_again) = self.record(client, state, is_fallback, &played);
            state = next;
            if state == FinalState::Updated && asks_again {
                module.version = options.module.to.clone().unwrap_or_default();
            }
            if !asks_again {
                break;
            }
            let has_updated = matches!(played.outcome, Outcome::Updated(_));
            let mut pause = match options.back_within {
                Some(within) if has_updated => {
                    let most = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
                    Duration::from_millis(rng.below(most).saturating_add(1))
                }
                _ => options.interval,
            };
            if let (true, true, FinalState::FellBack, Some(to)) = (
                options.fallback_after_report,
                has_updated,
                state,
                &options.module.to,
            ) {
                at = self.now().max(at).saturating_add(pause);
                Timer::at(self.wall_time(at)).await;
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
        tally.count_state(state);
        (self.progress)(&tally.counts);
    }

    fn settings(&self, server: &Endpoint, number: u32, seed: u64) -> Settings {
        let options = self.options;
        let to = options.names.iter().find(|(name, _)| *name == server.host);
        let here = to.is_some_and(|(_, address)| address.is_ipv4() && address.is_loopback());
        Settings {
            quiet: None,
            idle: MAX_IDLE,
            speed: options.speed,
            cap: self
                .wall_time(options.duration)
                .saturating_duration_since(Instant::now()),
            bandwidth: options.bandwidth,
            latency: options.latency,
            loss: options.loss,
            cut_after: None,
            seed,
            record: RecordLimits {
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
        let _slot = match self.slots.try_acquire() {
            Some(slot) => slot,
            None => {
                self.tally.borrow_mut().count_held_back();
                self.slots.acquire().await
            }
        };
        let mut attempt = client.attempt(module, server);
        driver::play(attempt.as_mut(), settings).await
    }

    /// Returns the state of the module after an attempt, and whether the module asks again.
    fn record(
        &self,
        client: Client,
        before: FinalState,
        is_fallback: bool,
        played: &Played,
    ) -> (FinalState, bool) {
        let mut tally = self.tally.borrow_mut();
        tally.count(played);
        match &played.outcome {
            Outcome::Updated(bytes) => {
                self.adapt_limit(bytes.len());
                if !self.images.borrow_mut().is_correct(played, bytes) {
                    tally.counts.corrupt = tally.counts.corrupt.saturating_add(1);
                }
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                tally.counts.updates = tally.counts.updates.saturating_add(1);
                if before == FinalState::Updated {
                    tally.add_wasted(played.body);
                    return (FinalState::Loops, false);
                }
                if is_fallback {
                    tally.add_wasted(played.body);
                    return (FinalState::FellBack, true);
                }
                tally.add_wasted(played.body.saturating_sub(size));
                tally.times.push(self.now());
                (FinalState::Updated, self.options.module.to.is_some())
            }
            Outcome::NoUpdate(_) => self.after_refusal(before),
            Outcome::Failed(_) if diagnose::is_known_bug(client, played) => {
                self.after_refusal(before)
            }
            Outcome::Failed(failure) => {
                tally.add_wasted(played.body);
                let flashed = is_flashed(client, failure, played);
                if flashed {
                    tally.counts.corrupt = tally.counts.corrupt.saturating_add(1);
                }
                tally.fail(client, failure, flashed);
                match before {
                    FinalState::Updated | FinalState::FellBack => (before, true),
                    _ => (FinalState::Failed, true),
                }
            }
        }
    }

    fn after_refusal(&self, before: FinalState) -> (FinalState, bool) {
        match before {
            // The module has the new version, and was told that none is newer.
            FinalState::Updated => (FinalState::Updated, false),
            // The server holds the update back from this module.
            FinalState::FellBack => (FinalState::FellBack, false),
            _ => (FinalState::Refused, true),
        }
    }

    /// Adapts the number of concurrent attempts to the size of the images, once that is known.
    fn adapt_limit(&self, size: usize) {
        let mut images = self.images.borrow_mut();
        if images.size_known {
            return;
        }
        images.size_known = true;
        let now = (MAX_MEMORY / ASSUMED_SIZE).min(self.files);
        // A buffer that grows by doubling occupies up to twice the size of its content.
        let each = size.saturating_mul(3) / 2;
        let may = (MAX_MEMORY / each.max(4 << 10)).max(16).min(self.files);
        if may > now {
            self.slots.add_permits(may.saturating_sub(now));
        } else {
            for _ in may..now {
                // Attempts that are running are not interrupted.
                if let Some(slot) = self.slots.try_acquire() {
                    slot.forget();
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
    fn every_module_has_its_own_imei_and_address() {
        let imeis: HashSet<String> = (0..100_000)
            .map(|n| nth_imei("862991440000000", n))
            .collect();
        assert_eq!(imeis.len(), 100_000);
        assert!(imeis.iter().all(|imei| imei.len() == 15));
        assert_eq!(nth_imei("004999010640000", 7), "004999010640007");
        let addresses: HashSet<IpAddr> = (0..100_000).map(address_of).collect();
        assert_eq!(addresses.len(), 100_000);
        assert!(addresses.iter().all(IpAddr::is_loopback));
    }
}
