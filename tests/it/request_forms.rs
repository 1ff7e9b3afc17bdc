//! Promise: a check in every form that real modules send (docs/protocol.md 1) gets a reply that this
//! module can read, both with and without an update.

use crate::common;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use common::packages::noise;
use common::{IMEI, Place, Reply, Rows, Server, luat, luatos, reply};

/// A server with one release for each kind of name, and the bytes of their file.
fn server() -> (Server, Vec<u8>) {
    let place = Place::new();
    let bytes = noise(1, 3000);
    place.drop_firmware("ALIYUN/2.0.1/update.bin", &bytes);
    place.drop_firmware("fotademo/1.0.9/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("ALIYUN", "862991443750001", "2.0.0"), &bytes);
    server.wait_until_offered(
        &luatos("fotademo", "EC618", "862991443750001", "1103.1.2"),
        &bytes,
    );
    (server, bytes)
}

/// The expected reply to a check.
#[derive(Clone, Copy)]
enum Wanted {
    File,
    /// 206 with the whole file, for modules that send `Range: bytes=0-` in the first request.
    WholePart,
    Nothing,
}

fn must_match(reply: &Reply, wanted: Wanted, bytes: &[u8]) -> Result<(), String> {
    match wanted {
        Wanted::File => reply.must_be_file(bytes),
        Wanted::WholePart => reply.must_be_part(bytes, 0, bytes.len()),
        Wanted::Nothing => reply.must_refuse(404, 27),
    }
}

#[test]
fn the_first_edition_over_http_gets_its_file_and_a_refusal() {
    let (server, bytes) = server();
    let mut rows = Rows::default();
    for (version, wanted) in [
        ("1.0.0", Wanted::File),
        ("2.0.0", Wanted::File),
        ("2.0.1", Wanted::Nothing),
        ("3.0.0", Wanted::Nothing),
    ] {
        // 1b: updatehttp.lua sends one write, in this order, with a Host without its port.
        let request = format!(
            "GET /api/site/firmware_upgrade?project_key=KEY&imei={IMEI}&device_key=SN&firmware_name=ALIYUN_Luat_V0035_8955&version={version} HTTP/1.1\r\nConnection: keep-alive\r\nHost: 127.0.0.1\r\n\r\n"
        );
        rows.row(
            version,
            server
                .try_http(request.as_bytes())
                .and_then(|reply| must_match(&reply, wanted, &bytes)),
        );
    }
    rows.finish();
}

#[test]
fn luatask_modules_get_their_file_and_a_refusal() {
    let (server, bytes) = server();
    let mut rows = Rows::default();
    let cores = [
        "ALIYUN_Luat_V0035_8955",
        "ALIYUN_Luat_V0040_8955_SSL_UI_FLOAT",
        "ALIYUN_Luat_V0017_ASR1802",
    ];
    let paths = [
        "/luat/update",
        "/api/site/firmware_upgrade",
        "/any/other",
        "/",
    ];
    for core in cores {
        for path in paths {
            for redirect in ["", "&need_oss_url=1", "&need_oss_url=0"] {
                for (version, wanted) in [("2.0.0", Wanted::File), ("2.0.1", Wanted::Nothing)] {
                    // 1c: the order of the headers is random, and the value of Connection is not a known token.
                    for headers in [
                        "Host: 127.0.0.1\r\nConnection: short\r\n",
                        "Connection: short\r\nHost: 127.0.0.1\r\n",
                    ] {
                        let request = format!(
                            "GET {path}?project_key=KEY&imei={IMEI}&device_key=&firmware_name={core}&version={version}{redirect} HTTP/1.1\r\n{headers}\r\n"
                        );
                        rows.row(
                            &format!("{core} {path} {redirect} {version}"),
                            server
                                .try_http(request.as_bytes())
                                .and_then(|reply| must_match(&reply, wanted, &bytes)),
                        );
                    }
                }
            }
        }
    }
    rows.finish();
}

#[test]
fn air720_and_rda8910_whose_first_check_has_a_range_get_206_and_a_refusal() {
    let (server, bytes) = server();
    let mut rows = Rows::default();
    for (version, wanted) in [("2.0.0", Wanted::WholePart), ("2.0.1", Wanted::Nothing)] {
        // 1d
        let asr = format!(
            "/path?project_key=KEY&imei={IMEI}&device_key=&firmware_name=ALIYUN_Luat_V0017_ASR1802&version={version}&need_oss_url=1"
        );
        // 1e: no device_key, and a separate core version.
        let rda = format!(
            "/path?project_key=KEY&imei={IMEI}&firmware_name=ALIYUN_Luat_RDA8910_FLOAT&core_version=3033&dfota=1&version={version}&need_oss_url=1"
        );
        let old_rda = format!(
            "/path?project_key=KEY&imei={IMEI}&firmware_name=ALIYUN_Luat_RDA8910_TTS_NOLVGL_FLOAT&core_version=22&dfota=1&version={version}"
        );
        for target in [&asr, &rda, &old_rda] {
            let request = format!(
                "GET {target} HTTP/1.1\r\nRange: bytes=0-\r\nHost: 127.0.0.1\r\nConnection: short\r\n\r\n"
            );
            rows.row(
                target,
                server
                    .try_http(request.as_bytes())
                    .and_then(|reply| must_match(&reply, wanted, &bytes)),
            );
        }
    }
    rows.finish();
}

#[test]
fn libfota_with_and_without_a_url_of_its_own_gets_the_right_answer() {
    let (server, bytes) = server();
    let mut rows = Rows::default();
    let mut row = |target: String, wanted| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n");
        rows.row(
            &target.clone(),
            server
                .try_http(request.as_bytes())
                .and_then(|reply| must_match(&reply, wanted, &bytes)),
        );
    };
    for (version, wanted) in [("1103.1.2", Wanted::File), ("1103.1.9", Wanted::Nothing)] {
        // 1f, at the platform's path: today's order, and the order before 2024-12.
        row(
            format!(
                "/api/site/firmware_upgrade?project_key=k&firmware_name=fotademo_LuatOS-SoC_EC618&version={version}&imei={IMEI}"
            ),
            wanted,
        );
        row(
            format!(
                "/api/site/firmware_upgrade?project_key=k&imei={IMEI}&device_key=&firmware_name=fotademo_LuatOS-SoC_EC618&version={version}&model=Air780E"
            ),
            wanted,
        );
        for device in ["mac=A0B1C2D3E4F5", "uid=0123456789ABCDEF0123"] {
            row(
                format!(
                    "/api/site/firmware_upgrade?project_key=k&firmware_name=fotademo_LuatOS-SoC_EC618&version={version}&{device}"
                ),
                wanted,
            );
        }
    }
    // 1f with a URL that the user wrote: the project is in the path.
    row(
        format!("/luat/update/fotademo?version=1.0.8&imei={IMEI}"),
        Wanted::File,
    );
    row(
        "/luat/update/fotademo?version=1.0.8".to_owned(),
        Wanted::File,
    );
    row(
        format!("/luat/update/fotademo?version=1.0.9&imei={IMEI}"),
        Wanted::Nothing,
    );
    row(
        "/luat/update/fotademo?version=1.0.10".to_owned(),
        Wanted::Nothing,
    );
    rows.finish();
}

#[test]
fn libfota2_of_every_date_gets_its_file_and_a_refusal() {
    let (server, bytes) = server();
    let mut rows = Rows::default();
    for (version, plain, wanted) in [
        ("1103.1.2", "1.0.2", Wanted::File),
        ("2012.001.008", "001.000.008", Wanted::File),
        ("1103.1.9", "1.0.9", Wanted::Nothing),
        ("1103.2.0", "2.0.0", Wanted::Nothing),
    ] {
        let soc = "firmware_name=fotademo_LuatOS-SoC_EC618";
        let targets = [
            // 2024-04-09: appends another `?`.
            format!("/upgrade?imei={IMEI}&project_key=k&{soc}&version={version}"),
            format!("/upgrade??imei={IMEI}&project_key=k&{soc}&version={version}"),
            // Later calls append everything again: the first value counts.
            format!(
                "/upgrade?imei={IMEI}&project_key=k&{soc}&version={version}?imei={IMEI}&project_key=k&{soc}&version=9999.9.9"
            ),
            // 2024-09-09: with a model.
            format!("/upgrade?imei={IMEI}&project_key=k&{soc}&version={version}&model=Air780E_A12"),
            // 2024-11-22: no `?` of its own, and none from the user.
            format!("/upgradeimei={IMEI}&project_key=k&{soc}&version={version}"),
            format!("/upgrade?a=b&imei={IMEI}&project_key=k&{soc}&version={version}"),
            // 2025-01-10: modules other than 4G: a core in the name, a plain version.
            format!(
                "/upgrade?mac=A0B1C2D3E4F5&project_key=k&firmware_name=fotademo_LuatOS-SoC_V1004_ESP32C3&version={plain}"
            ),
            format!(
                "/upgrade?uid=3230353533470F0A&project_key=k&firmware_name=fotademo_LuatOS-SoC_V1004_AIR101&version={plain}"
            ),
            // HEAD, and a model that the library does not know.
            format!(
                "/upgrade?mac=A0B1C2D3E4F5&project_key=k&firmware_name=fotademo_LuatOS-SoC_Air8101&version={version}"
            ),
            format!(
                "/upgrade?mac=0123456789ABCDEF&project_key=k&firmware_name=fotademo_LuatOS-SoC_Air1601&version={version}"
            ),
            format!("/upgrade?nil&project_key=k&{soc}&version={version}"),
        ];
        for target in targets {
            let request = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n");
            rows.row(
                &target,
                server
                    .try_http(request.as_bytes())
                    .and_then(|reply| must_match(&reply, wanted, &bytes)),
            );
        }
    }
    rows.finish();
}

#[test]
fn the_c_client_that_sends_each_line_in_its_own_segment_gets_its_file_and_a_refusal() {
    let (server, bytes) = server();
    let mut rows = Rows::default();
    for (version, wanted) in [("1103.1.2", Wanted::File), ("1103.1.9", Wanted::Nothing)] {
        let line = format!(
            "GET /upgrade?imei={IMEI}&project_key=k&firmware_name=fotademo_LuatOS-SoC_EC618&version={version} HTTP/1.1\r\n"
        );
        let heads: [&[&str]; 4] = [
            // Before and since 2025-12-14, with a user's own headers, and before 2023-12.
            &["Host: 127.0.0.1:80\r\n", "\r\n"],
            &["Connection: Close\r\n", "Host: 127.0.0.1:80\r\n", "\r\n"],
            &[
                "Host: 127.0.0.1:80\r\n",
                "Authorization: Basic dXNlcjpwYXNz\r\n",
                "X-Mine: a value\r\n",
                "\r\n",
            ],
            &["Host: 127.0.0.1\r\n", "\r", "\n"],
        ];
        for (number, head) in heads.iter().enumerate() {
            let mut segments = vec![line.as_bytes()];
            segments.extend(head.iter().map(|line| line.as_bytes()));
            rows.row(
                &format!("head {number}, {version}"),
                server
                    .try_http_segments(&segments, Duration::from_millis(15))
                    .and_then(|reply| must_match(&reply, wanted, &bytes)),
            );
        }
        // The module requests the rest in its own retry.
        if matches!(wanted, Wanted::File) {
            let segments: [&[u8]; 4] = [
                line.as_bytes(),
                b"Host: 127.0.0.1:80\r\n",
                b"Range: bytes=1000-\r\n",
                b"\r\n",
            ];
            rows.row(
                "its own retry",
                server
                    .try_http_segments(&segments, Duration::from_millis(15))
                    .and_then(|reply| reply.must_be_part(&bytes, 1000, bytes.len())),
            );
        }
    }
    rows.finish();
}

#[test]
fn a_post_is_a_check_whose_body_is_read_and_ignored() {
    let (server, bytes) = server();
    let mut rows = Rows::default();
    for (version, wanted) in [("1103.1.2", Wanted::File), ("1103.1.9", Wanted::Nothing)] {
        let target = luatos("fotademo", "EC618", IMEI, version);
        let body = "{\"imei\":\"000000000000000\",\"version\":\"0.0.1\"}";
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        rows.row(
            "at once",
            server
                .try_http(format!("{head}{body}").as_bytes())
                .and_then(|reply| must_match(&reply, wanted, &bytes)),
        );
        rows.row(
            "the body later",
            server
                .try_http_segments(
                    &[
                        head.as_bytes(),
                        &body.as_bytes()[..10],
                        &body.as_bytes()[10..],
                    ],
                    Duration::from_millis(15),
                )
                .and_then(|reply| must_match(&reply, wanted, &bytes)),
        );
        // A body that is larger than any receive buffer of the server: a reset must not destroy the reply.
        let large = vec![b'x'; 50_000];
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Length: {}\r\n\r\n",
            large.len()
        );
        rows.row(
            "50 kB of body",
            server
                .try_http(&[head.as_bytes(), &large].concat())
                .and_then(|reply| must_match(&reply, wanted, &bytes)),
        );
    }
    rows.finish();
}

#[test]
fn old_and_careless_http_is_understood() {
    let (server, bytes) = server();
    let mut rows = Rows::default();
    for (version, wanted) in [("2.0.0", Wanted::File), ("2.0.1", Wanted::Nothing)] {
        let target = luat("ALIYUN", IMEI, version);
        for request in [
            format!("GET {target} HTTP/1.0\r\n\r\n"),
            format!("GET {target} HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\n\r\n"),
            format!("GET {target} HTTP/1.1\r\n\r\n"),
            format!("GET {target} HTTP/1.1\nHost: 127.0.0.1\n\n"),
            format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\n\r\n"),
            format!("\r\nGET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
            format!("GET {target} HTTP/1.1\r\nHost:127.0.0.1\r\nX-Empty:\r\n\r\n"),
            format!("GET {target} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
            format!("GET {target} HTTP/1.1\r\nHost: nonsense::::\r\n\r\n"),
        ] {
            rows.row(
                &reply::show(request.as_bytes()),
                server
                    .try_http(request.as_bytes())
                    .and_then(|reply| must_match(&reply, wanted, &bytes)),
            );
        }
    }
    rows.finish();
}

#[test]
fn a_client_that_half_closes_first_still_gets_its_reply() {
    let (server, bytes) = server();
    let mut rows = Rows::default();
    for (version, wanted) in [("2.0.0", Wanted::File), ("2.0.1", Wanted::Nothing)] {
        let mut stream = TcpStream::connect(server.http).unwrap();
        stream
            .write_all(&common::get(&luat("ALIYUN", IMEI, version)))
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        rows.row(
            version,
            reply::read(&mut stream, false).and_then(|reply| must_match(&reply, wanted, &bytes)),
        );
    }
    rows.finish();
}
