//! Replicas in memory with their shared files, and devices that know only the version that they run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::common::random::Random;
use crate::common::simulation::visit;
use luat_ota::firmware::catalog::Catalog;
use luat_ota::fleet::shared::file::OutcomeFile;
use luat_ota::fleet::shared::{Exchanged, PeerOutcomes, PeerStates};
use luat_ota::fleet::{Fleet, FleetSettings, TransferOutcome};

pub const MINUTE: u64 = 60;
pub const HOUR: u64 = 60 * MINUTE;

/// Time of the release, in seconds.
pub const RELEASE: u64 = 26 * HOUR;

/// Time between two reads of the shared folder, in seconds.
pub const EXCHANGE: u64 = 5;

/// Time at which the simulation begins, in Unix seconds.
pub const UNIX: i64 = 1_800_000_000;

/// Time after the release that is simulated, in seconds.
pub const WATCHED: u64 = 2 * HOUR;

/// Parameters of a simulation.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub devices: usize,
    pub replicas: usize,
    /// Percentage of the devices that fall back.
    pub failing: usize,
    /// Seconds until the others can read a file that one replica has written; `None` if nothing is shared.
    pub lag: Option<u64>,
    /// Seconds from the release to the loss of one replica; `None` if no replica is lost.
    pub lost: Option<u64>,
}

pub struct Device {
    pub id: String,
    pub address: IpAddr,
    pub interval: u64,
    pub from: u64,
    pub fails: bool,
    pub updated: bool,
    /// The replica to which the load balancer sends this device, and the one after the loss of the first.
    pub replicas: [usize; 2],
}

/// The devices. For every number of replicas they differ only in the replicas that they use.
pub fn devices(setup: Setup, random: &mut Random) -> Vec<Device> {
    let mut devices = Vec::new();
    for n in 0..setup.devices {
        let interval = 5 * MINUTE + random.below(600);
        let [.., a, b] = (n as u64).to_be_bytes();
        devices.push(Device {
            id: format!("{:015}", 862_991_440_000_000 + n),
            address: Ipv4Addr::new(10, a, b, 1).into(),
            interval,
            from: random.below(interval),
            fails: false,
            updated: false,
            replicas: [0; 2],
        });
    }
    // Exactly this many failing devices, chosen at random.
    let failing = (setup.devices * setup.failing).div_ceil(100);
    let mut chosen = BTreeSet::new();
    while chosen.len() < failing {
        chosen.insert(random.index(setup.devices));
    }
    for at in chosen {
        devices[at].fails = true;
    }
    for device in &mut devices {
        let first = random.index(setup.replicas);
        let other = 1 + random.index(setup.replicas.max(2) - 1);
        device.replicas = [first, (first + other) % setup.replicas];
    }
    devices
}

/// Replicas and their shared files.
pub struct Replicas {
    pub began: Instant,
    pub fleets: Vec<Fleet>,
    pub check: u64,
    /// All files that were written: the writer, the time from which the others can read the file, and its content.
    pub files: Vec<(usize, u64, OutcomeFile)>,
    /// Per replica: the index of the next file to read, and the newest file of each writer.
    pub read: Vec<(usize, BTreeMap<usize, usize>)>,
}

impl Replicas {
    pub fn new(count: usize, catalog: &Catalog) -> Replicas {
        let (began, mut check) = (Instant::now(), 0);
        let fleet = |_| {
            let mut fleet = Fleet::new(FleetSettings::default(), began);
            fleet.catalog(catalog, began);
            check = fleet.share(&[7; 32], began, UNIX);
            fleet
        };
        Replicas {
            began,
            fleets: (0..count).map(fleet).collect(),
            check,
            files: Vec::new(),
            read: vec![Default::default(); count],
        }
    }

    pub fn moment(&self, time: u64) -> Instant {
        self.began + Duration::from_secs(time)
    }

    pub fn catalog(&mut self, catalog: &Catalog, time: u64) {
        let now = self.moment(time);
        self.fleets
            .iter_mut()
            .for_each(|fleet| fleet.catalog(catalog, now));
    }

    /// Writes the file of a replica. Returns whether there was anything new.
    pub fn write(&mut self, replica: usize, time: u64, lag: u64) -> bool {
        let now = self.moment(time);
        let Some(own) = self.fleets[replica].own_outcomes(now, UNIX + time as i64) else {
            return false;
        };
        let text = OutcomeFile::newest(own).write(self.check, time);
        let file = OutcomeFile::read(text.as_bytes(), self.check).unwrap();
        self.files.push((replica, time + lag, file));
        true
    }

    pub fn read(&mut self, replica: usize, time: u64) {
        let (next, newest) = &mut self.read[replica];
        while let Some((writer, arrives, _)) = self.files.get(*next)
            && *arrives <= time
        {
            if *writer != replica {
                newest.insert(*writer, *next);
            }
            *next += 1;
        }
        let newest = newest.values().map(|file| &self.files[*file].2);
        let exchanged = Exchanged {
            peers: Some(PeerOutcomes::merge(newest)),
            counts: None,
            states: PeerStates::default(),
        };
        let now = self.moment(time);
        self.fleets[replica].exchanged(exchanged, now);
    }

    /// All replicas write, and then all read.
    pub fn exchange(&mut self, time: u64) {
        for replica in 0..self.fleets.len() {
            self.write(replica, time, 0);
        }
        for replica in 0..self.fleets.len() {
            self.read(replica, time);
        }
    }

    /// Sends a device's check to a replica, and downloads the offered file, which the device then runs or not. Returns
    /// whether there was an offer.
    pub fn visit(
        &mut self,
        replica: usize,
        catalog: &Catalog,
        device: &mut Device,
        time: u64,
    ) -> bool {
        let now = self.moment(time);
        let version = if device.updated { "2.0.0" } else { "1.0.0" };
        let who = (&*device.id, device.address);
        let fleet = &mut self.fleets[replica];
        if !visit(fleet, catalog, who, version, TransferOutcome::Whole, now) {
            return false;
        }
        device.updated = !device.fails;
        true
    }

    /// Whether the fuse of a replica has paused a release by now.
    pub fn is_paused(&mut self, replica: usize, time: u64) -> bool {
        let now = self.moment(time);
        !self.fleets[replica].tick(now).is_empty()
    }
}
