//! Measures the memory per recorded device: at most 200 bytes. A quarter of a million devices fill the tables to the
//! same share as a million; `LUAT_OTA_DEVICES=1000000` measures a million.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use luat_ota::firmware::ContentId;
use luat_ota::firmware::audience::DeviceId;
use luat_ota::fleet::clock::{Stamp, Wall};
use luat_ota::fleet::devices::{DeviceColumn, DeviceSearch, Devices};
use luat_ota::fleet::entry::{DeviceEntry, ProgressEntry};
use luat_ota::fleet::network::Network;
use luat_ota::fleet::progress::State;
use luat_ota::fleet::view::Filter;

/// An allocator that counts the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator; only the sizes are added up.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `pointer` came from `alloc` above, which is the system's, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn entry(number: u64, now: Stamp) -> DeviceEntry {
    DeviceEntry {
        first: now.minus(1000),
        interval: 600,
        network: Some(Network::V4([10, 0, 1])),
        progress: Some(ProgressEntry {
            state: State::Delivered,
            reached: 100_000,
            ..ProgressEntry::new(
                "AIR724UG-PUMP",
                "2.0.1",
                ContentId([7; 32]),
                100_000,
                "2012.1.4",
                now,
            )
        }),
        ..DeviceEntry::new(
            DeviceId::Imei(860_000_000_000_000 + number * 7),
            "860000000000000",
            "AIR724UG-PUMP",
            "2012.1.4",
            now,
        )
    }
}

/// CPU time of this thread.
fn work() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

#[test]
fn a_device_takes_at_most_200_bytes() {
    let many = std::env::var("LUAT_OTA_DEVICES").map_or(250_000, |many| many.parse().unwrap());
    assert!(many >= 100_000, "fewer say nothing");
    let now = Stamp(1 << 31);
    let before = IN_USE.load(Ordering::Relaxed);
    // A tenth of the table is for devices on probation.
    let mut devices = Devices::new(many + many / 5, now);
    for number in 0..many as u64 {
        devices.load(entry(number, now));
    }
    let used = IN_USE.load(Ordering::Relaxed) - before;
    assert_eq!(devices.established(), many);
    println!("{:.1} bytes a device", used as f64 / many as f64);
    assert!(used <= 200 * many, "{used} bytes");

    // One pass over all devices, in which no single call takes long.
    let began = std::time::Instant::now();
    for _ in 0..many.div_ceil(2000) {
        devices.sweep_silent(now.plus(10_000));
        devices.take().for_each(drop);
    }
    println!("all looked at in {:?}", began.elapsed());
    let counts = devices.releases().counts("AIR724UG-PUMP", "2.0.1");
    assert_eq!(counts.of(State::Silent) as usize, many);

    // A search whose only match is in the last slice.
    let filter = Filter {
        prefix: (860_000_000_000_000 + (many as u64 - 1) * 7).to_string(),
        ..Filter::default()
    };
    let (mut found, mut from, mut pages) = (0, 0, 0);
    let began = std::time::Instant::now();
    loop {
        let (page, next) = devices.page(&filter, from, 100, Wall::default(), |_| false);
        found += page.len();
        pages += 1;
        match next {
            Some(next) => from = next,
            None => break,
        }
    }
    println!("{pages} pages in {:?}", began.elapsed());
    assert_eq!(found, 1);

    // The same devices by a sorted search. For each slice the CPU time of this thread is measured. The promise is 5 ms;
    // unoptimised code may take 20 ms.
    let promised = Duration::from_millis(if cfg!(debug_assertions) { 20 } else { 5 });
    for order in [
        None,
        Some((DeviceColumn::Id, true)),
        Some((DeviceColumn::Version, false)),
    ] {
        for search in ["", "7"] {
            let filter = Filter {
                search: search.to_owned(),
                ..Filter::default()
            };
            let mut search = DeviceSearch::new(filter, order, None, 500);
            let (mut longest, began) = (Duration::ZERO, work());
            loop {
                let start = work();
                let has_more = devices.search(&mut search, |_| false);
                longest = longest.max(work().saturating_sub(start));
                if !has_more {
                    break;
                }
            }
            println!(
                "{order:?}: {:?}, a slice at most {longest:?}",
                work() - began
            );
            assert_eq!(search.found().0.len(), 500);
            assert!(longest < promised, "{longest:?}");
        }
    }
}
