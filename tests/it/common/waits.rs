//! Measurement of the time that checks wait while other work is in progress.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::datagrams::Device;
use super::{IMEI, PATIENCE, Server, luat};

/// Time between two checks.
const PACE: Duration = Duration::from_millis(1);

/// Waits of checks, shortest first; at least one.
pub struct Waits(Vec<Duration>);

impl Waits {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The wait that this percentage of the checks does not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() - 1) * percent / 100]
    }
}

/// Runs `work` while one device checks over HTTP and another over UDP. Both already have the newest version of the
/// project.
pub fn beside_checks<T>(server: &Server, project: &str, work: impl FnOnce() -> T) -> (T, Waits) {
    let is_done = AtomicBool::new(false);
    let checks = |check: &(dyn Fn() + Sync)| {
        let mut waits = Vec::new();
        while !is_done.load(Ordering::Relaxed) || waits.is_empty() {
            let begin = Instant::now();
            check();
            waits.push(begin.elapsed());
            std::thread::sleep(PACE);
        }
        waits
    };
    let target = luat(project, IMEI, "9.0.0");
    let http = || assert_eq!(server.get(&target).status, 404);
    let device = Device::new(server.udp);
    let message = format!("{IMEI},{project}_Luat_V0035_8955,9.0.0");
    let udp = || assert!(device.ask_for(&message, PATIENCE).is_some());
    std::thread::scope(|scope| {
        let http = scope.spawn(|| checks(&http));
        let udp = scope.spawn(|| checks(&udp));
        let done = work();
        is_done.store(true, Ordering::Relaxed);
        let mut waits = [http.join().unwrap(), udp.join().unwrap()].concat();
        waits.sort_unstable();
        (done, Waits(waits))
    })
}
