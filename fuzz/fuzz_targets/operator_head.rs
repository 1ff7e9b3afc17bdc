//! Parses any bytes of the operator port. Reading the head, decoding it, routing it and checking access must
//! neither panic, hang nor allocate without bound. `cargo fuzz run operator_head` (on a stable compiler with
//! RUSTC_BOOTSTRAP=1).
#![no_main]

use libfuzzer_sys::fuzz_target;
use luat_ota::operator::access::Access;
use luat_ota::operator::head::{LONGEST, read};
use luat_ota::operator::route;

fuzz_target!(|bytes: &[u8]| {
    // In two parts, as they may arrive from a network.
    let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
    let is_decided_early = !matches!(read(half), Ok(None));
    let Ok(Some((head, used))) = read(bytes) else {
        return;
    };
    assert!(used <= bytes.len() && used <= LONGEST);
    // Exactly the checked bytes are decoded.
    assert!(bytes[..used].is_ascii() && bytes[..used].ends_with(b"\r\n\r\n"));
    assert!(!is_decided_early || used <= half.len());
    for part in &head.target.parts {
        assert!(!part.contains(['/', '\\', '\0']) && part != ".." && !part.is_empty());
    }
    let method = head.method();
    let route = route::route(method, &head.target);
    let permission = route::permission(method, &route);
    let access = Access::new(
        "0123456789abcdef",
        Some("fedcba9876543210"),
        &["ota.example.com".to_owned()],
        ([127, 0, 0, 1], 8081).into(),
    );
    if let Ok(credentials) = head.credentials() {
        let _ = access.authorise(permission, &credentials);
    }
    for name in ["if-match", "if-none-match", "repr-digest"] {
        let _ = head.header(name);
    }
});
