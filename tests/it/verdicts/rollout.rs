//! Promise: rollouts, redirects and rules of a release and its project apply as documented.

use super::*;

#[test]
fn a_refused_release_does_not_hide_an_older_one_but_a_running_rollout_does() {
    let place = Place::new();
    let old = noise(30, 1100);
    let new = noise(31, 1200);
    for (project, rules) in [
        ("paused", json!({ "paused": true })),
        ("later", json!({ "not_before": "2099-01-01T00:00:00Z" })),
        ("deny", json!({ "deny": [IMEI] })),
        ("allow", json!({ "allow": [OTHER] })),
        ("from", json!({ "from": "7.0.0" })),
        ("key", json!({ "project_key": "other" })),
        ("percent", json!({ "percent": 0 })),
    ] {
        place.drop_firmware(&format!("{project}/2.0.1/update.bin"), &old);
        place.rules(&format!("{project}/2.0.2/release.json"), rules);
        place.drop_firmware(&format!("{project}/2.0.2/update.bin"), &new);
    }
    let server = Server::start_in(place, &[]);
    let mut rows = Rows::default();
    for project in ["paused", "later", "deny", "allow", "from", "key"] {
        rows.row(
            project,
            must_get(&server, &CheckForm::luat(project, IMEI, "2.0.0"), &old),
        );
    }
    rows.row(
        "percent",
        must_be_refused(
            &server,
            &CheckForm::luat("percent", IMEI, "2.0.0"),
            404,
            27,
            "no upgrade",
        ),
    );
    rows.finish();
}

#[test]
fn the_rules_of_a_release_win_over_those_of_its_project_except_that_deny_adds_up() {
    let place = Place::new();
    let bytes = noise(32, 700);
    place.rules(
        "P/release.json",
        json!({ "paused": true, "deny": [OTHER], "allow": ["862991443750000-862991443759999"] }),
    );
    place.rules(
        "P/2.0.1/release.json",
        json!({ "paused": false, "deny": ["862991443751111"] }),
    );
    place.drop_firmware("P/2.0.1/update.bin", &bytes);
    place.drop_firmware("P/2.0.2/update.bin", &noise(33, 701));
    let server = Server::start_in(place, &[]);
    let mut rows = Rows::default();
    rows.row(
        "unpaused by the release",
        must_get(&server, &CheckForm::luat("P", IMEI, "2.0.0"), &bytes),
    );
    for denied in [OTHER, "862991443751111"] {
        rows.row(
            denied,
            server
                .wait_for_reply(
                    &get(&luat("P", denied, "2.0.0")),
                    common::PATIENCE,
                    |reply| reply.status == 403 || reply.status == 404,
                )
                .map(|_| ()),
        );
    }
    rows.row(
        "not in the project's allow",
        server
            .try_get(&luat("P", "862991440000000", "2.0.0"))
            .and_then(|reply| {
                // Refused by the rules of one release, and not offered the other one now: either code is correct.
                reply
                    .must_refuse(403, 21)
                    .or_else(|_| reply.must_refuse(404, 27))
            }),
    );
    rows.finish();
}

#[test]
fn ten_percent_are_about_a_tenth_and_always_the_same_ones() {
    let place = Place::new();
    let bytes = noise(34, 300);
    place.drop_firmware("P/2.0.1/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &bytes);
    let members = |percent: u32, server: &Server| -> Vec<bool> {
        // The denied device shows that these rules are in force.
        let marker = format!("86299144400{percent:04}");
        server.rules(
            "P/2.0.1/release.json",
            json!({ "percent": percent, "deny": [marker] }),
        );
        server.wait_until_refused(&luat("P", &marker, "2.0.0"), 403, 21);
        (0..300)
            .map(|n| {
                let imei = format!("8629914437{n:05}");
                server.get(&luat("P", &imei, "2.0.0")).status == 200
            })
            .collect()
    };
    let ten = members(10, &server);
    let sixty = members(60, &server);
    let count = |list: &[bool]| list.iter().filter(|member| **member).count();
    assert!((9..=66).contains(&count(&ten)), "{} of 300", count(&ten));
    assert!(
        (130..=230).contains(&count(&sixty)),
        "{} of 300",
        count(&sixty)
    );
    for (number, (first, second)) in ten.iter().zip(&sixty).enumerate() {
        assert!(
            !first || *second,
            "device {number} fell out of a growing rollout"
        );
    }
}

#[test]
fn a_redirect_is_only_for_modules_that_can_follow_it() {
    let place = Place::new();
    let bytes = noise(35, 1300);
    place.drop_firmware("中文 项目/2.0.1/固件 一.bin", &bytes);
    place.rules(
        "中文 项目/2.0.1/release.json",
        json!({ "redirect": "https://cdn.example.com/{project}/{version}/{file}?s={sha256}&i={imei}&f={from}" }),
    );
    let server = Server::start_in(place, &[]);
    let target = |rest: &str| format!("{}{rest}", luat("中文%20项目", IMEI, "2.0.0"));
    server.wait_until_offered(&target(""), &bytes);
    let mut rows = Rows::default();
    for rest in ["", "&need_oss_url=0", "&need_oss_url="] {
        rows.row(
            &format!("{rest:?}"),
            server
                .try_get(&target(rest))
                .and_then(|reply| reply.must_be_file(&bytes)),
        );
    }
    let reply = server.get(&target("&need_oss_url=1"));
    assert_eq!(reply.status, 302, "{}", reply.show());
    let hash: String = <sha2::Sha256 as sha2::Digest>::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let chinese = "%E4%B8%AD%E6%96%87%20%E9%A1%B9%E7%9B%AE";
    let file = "%E5%9B%BA%E4%BB%B6%20%E4%B8%80.bin";
    assert_eq!(
        reply.header("Location"),
        Some(
            format!("https://cdn.example.com/{chinese}/2.0.1/{file}?s={hash}&i={IMEI}&f=2.0.0")
                .as_str()
        )
    );
    // A refusal contains no redirect.
    rows.row(
        "nothing newer",
        server
            .try_get(&format!(
                "{}&need_oss_url=1",
                luat("中文%20项目", IMEI, "2.0.1")
            ))
            .and_then(|reply| reply.must_refuse(404, 27)),
    );
    // UDP has no redirects: the server sends the file itself.
    let device = Device::new(server.udp);
    let offer = device
        .check(format!("{IMEI},中文 项目_Luat_V0017_ASR1802,2.0.0"))
        .unwrap();
    assert_eq!(device.download(offer).unwrap(), bytes);
    rows.finish();
}

#[test]
fn luatos_modules_are_never_redirected() {
    let place = Place::new();
    let bytes = noise(36, 1300);
    place.drop_firmware("P/1.0.9/update.bin", &bytes);
    place.rules(
        "P/1.0.9/release.json",
        json!({ "redirect": "https://cdn.example.com/{file}" }),
    );
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luatos("P", "EC618", IMEI, "1103.1.2"), &bytes);
}
