//! Whatever bytes arrive on the operator's port: reading the head, decoding it, routing it and judging who
//! asks must neither panic, hang nor grow. `cargo fuzz run operator_head` (also on a stable compiler, with
//! RUSTC_BOOTSTRAP=1).
#![no_main]

use libfuzzer_sys::fuzz_target;
use luat_ota::operator::access::Access;
use luat_ota::operator::head::{Found, LONGEST, read};
use luat_ota::operator::route;

fuzz_target!(|bytes: &[u8]| {
    // In two pieces, as a network may bring it.
    let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
    let early = matches!(read(half), Found::Asked(..) | Found::Bad(_));
    let found = read(bytes);
    let Found::Asked(asked, used) = found else {
        return;
    };
    assert!(used <= bytes.len() && used <= LONGEST);
    // Nothing that decodes is anything but what we looked at.
    assert!(bytes[..used].is_ascii() && bytes[..used].ends_with(b"\r\n\r\n"));
    assert!(!early || used <= half.len());
    for part in &asked.target.parts {
        assert!(!part.contains(['/', '\\', '\0']) && part != ".." && !part.is_empty());
    }
    let method = asked.method();
    let route = route::route(method, &asked.target);
    let matter = route::matter(method, &route);
    let access = Access::new(
        "0123456789abcdef",
        &["ota.example.com".to_owned()],
        ([127, 0, 0, 1], 8081).into(),
    );
    if let Ok(bearing) = asked.bearing() {
        let _ = access.judge(matter, &bearing);
    }
    for name in ["if-match", "if-none-match", "repr-digest"] {
        let _ = asked.header(name);
    }
});
