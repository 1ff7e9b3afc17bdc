//! Parses any bytes of the modules' HTTP port as a head and its query. Parsing must neither panic nor
//! hang, nor read the same bytes in two different ways. `cargo fuzz run http_head`.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use luat_ota::fleet::requester::Requester;
use luat_ota::wire::head::{HeadLimits, HeadProgress, read};
use luat_ota::wire::http_target::{HttpTarget, http_target};
use luat_ota::wire::range::{SelectedRange, Range};

const LIMITS: HeadLimits = HeadLimits {
    bytes: 8192,
    headers: 64,
};

fuzz_target!(|bytes: &[u8]| {
    let all = read(bytes, LIMITS);
    // Bytes may arrive in parts: the result of the first half must also be the result of the whole,
    // unless the half is incomplete.
    let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
    match (read(half, LIMITS), &all) {
        (HeadProgress::Complete(early, used), HeadProgress::Complete(late, same)) => {
            assert_eq!((early, used), (*late, *same));
        }
        (HeadProgress::Bad(_), HeadProgress::Bad(_)) | (HeadProgress::Partial, _) => {}
        (early, late) => panic!("{early:?}, then {late:?}"),
    }
    let HeadProgress::Complete(head, used) = all else {
        return;
    };
    assert!(used <= bytes.len() && used <= LIMITS.bytes);
    assert!(head.headers().count() <= LIMITS.headers);
    let range = Range::parse(head.header("range"));
    for size in [0, 1, 1000, u64::MAX] {
        if let SelectedRange::Bytes { start, end } = range.of(size) {
            assert!(start < end && end <= size, "{start}..{end} of {size}");
        }
    }
    match http_target(head.target) {
        HttpTarget::File(path, _) => {
            let is_inside = |part: &str| !matches!(part, "" | "." | "..");
            assert!(path.split('/').all(is_inside), "{path}");
        }
        HttpTarget::Check(check) => {
            let _ = check.project();
            let _ = Requester::of(&check, IpAddr::from([192, 0, 2, 1]));
        }
        _ => {}
    }
});
