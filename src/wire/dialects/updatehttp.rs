//! Recognition of the first-edition 2G client over HTTP (updatehttp.lua; docs/protocol.md 1b, 2a, 9g).
//!
//! That client never installs a file that arrives together with the head of the reply, so only this client gets head
//! and body in separate segments. It is identified by `Connection: keep-alive` and then `Host`, in this spelling and
//! with no other header, and by the five parameters in its order. No other client of docs/protocol.md sends that.

use crate::wire::head::Head;

/// The keys of the client's query, in order.
const KEYS: [&[u8]; 5] = [
    b"project_key=",
    b"imei=",
    b"device_key=",
    b"firmware_name=",
    b"version=",
];

/// Whether this head is from that client. A client behind a proxy that changes the headers is not recognised. Separate
/// segments could not be guaranteed there anyway.
pub fn is_from_updatehttp(head: &Head<'_>) -> bool {
    let mut headers = head.headers();
    head.method == b"GET"
        && head.minor == 1
        && headers.next() == Some((b"Connection", b"keep-alive"))
        && headers.next().is_some_and(|(name, _)| name == b"Host")
        && headers.next().is_none()
        && has_its_query(head.target)
}

/// Whether the query begins with the first key and contains the others in order. Nothing else is compared, because the
/// values may contain any byte, including `&`.
fn has_its_query(target: &[u8]) -> bool {
    let Some(at) = memchr::memchr(b'?', target) else {
        return false;
    };
    let query = target.get(at.saturating_add(1)..).unwrap_or_default();
    let [first, others @ ..] = KEYS;
    let mut rest = query.strip_prefix(first);
    for key in others {
        rest = rest.and_then(|rest| {
            let at = memchr::memmem::find(rest, &[b"&", key].concat())?;
            rest.get(at.saturating_add(key.len())..)
        });
    }
    rest.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head::{HeadLimits, HeadProgress, read};

    const ASK: &str = "GET /api/site/firmware_upgrade?project_key=KEY&imei=862991443753386&device_key=SN\
        &firmware_name=DEMO_Luat_V0035_8955&version=1.0.0 HTTP/1.1\r\nConnection: keep-alive\r\n\
        Host: ota.test\r\n\r\n";

    fn is_it(request: &str) -> bool {
        let limits = HeadLimits {
            bytes: 8192,
            headers: 64,
        };
        match read(request.as_bytes(), limits) {
            HeadProgress::Complete(head, _) => is_from_updatehttp(&head),
            other => panic!("{request}: {other:?}"),
        }
    }

    #[test]
    fn the_request_of_the_vendor_is_known_with_any_values_and_path() {
        assert!(is_it(ASK));
        assert!(is_it(&ASK.replace("device_key=SN", "device_key=")));
        assert!(is_it(&ASK.replace("device_key=SN", "device_key=a b&c=d")));
        assert!(is_it(
            &ASK.replace("/api/site/firmware_upgrade", "/luat/update")
        ));
        assert!(is_it(&ASK.replace("Host: ota.test", "Host: 192.0.2.1")));
    }

    #[test]
    fn no_other_request_is_taken_for_it() {
        for (from, to) in [
            ("GET", "POST"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("keep-alive", "close"),
            ("keep-alive", "Keep-Alive"),
            (
                "Connection: keep-alive\r\nHost: ota.test",
                "Host: ota.test\r\nConnection: keep-alive",
            ),
            ("Connection: keep-alive\r\n", ""),
            (
                "Host: ota.test\r\n",
                "Host: ota.test\r\nRange: bytes=0-\r\n",
            ),
            (
                "Host: ota.test\r\n",
                "Host: ota.test\r\nX-Forwarded-For: 192.0.2.1\r\n",
            ),
            ("Connection: keep-alive", "connection: keep-alive"),
            ("&device_key=SN", ""),
            ("&version=1.0.0", ""),
            (
                "project_key=KEY&imei=862991443753386",
                "imei=862991443753386&project_key=KEY",
            ),
            ("?", "/"),
        ] {
            let other = ASK.replacen(from, to, 1);
            assert_ne!(other, ASK);
            assert!(!is_it(&other), "{other}");
        }
    }
}
