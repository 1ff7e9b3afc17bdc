//! Promise: a module that can follow a redirect downloads the file from its target.

use super::*;

/// Plays a LuaTask client that loses its connection after `cut_after` bytes.
fn play_luatask(
    server: &Server,
    generation: Generation,
    (version, need_oss_url): (&str, bool),
    cut_after: Option<u64>,
) -> Played {
    let client = Client::LuaTask(generation);
    let mut attempt = LuaTask::new(
        &client.identity(&module(version)),
        &endpoint(server, client),
        generation,
        Options {
            need_oss_url,
            header_seed: 3,
        },
    );
    let settings = Settings {
        cut_after,
        ..settings()
    };
    smol::block_on(play(&mut attempt, &settings))
}

#[test]
fn a_module_that_can_follow_a_redirect_does_and_accepts_a_refusal_there() {
    let bytes = noise(15, 50_000);
    // The server with the files: the same release, with `direct`.
    let files = Place::new();
    files.rules("P/release.json", json!({ "direct": true }));
    files.drop_firmware("P/1.0.3/update.bin", &bytes);
    let files = Server::start_in(files, &[]);
    files.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let redirect = format!(
        "http://{}/firmware/{{project}}/{{version}}/{{file}}?imei={{imei}}",
        files.http
    );
    let server = server(Some(json!({ "redirect": redirect })), &bytes);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let mut rows = Rows::default();
    for generation in [Generation::Gen2g, Generation::Asr1802, Generation::Rda8910] {
        let client = Client::LuaTask(generation);
        for (need_oss_url, version) in [(true, "1.0.0"), (false, "1.0.0"), (true, "1.0.3")] {
            for cut_after in [None, Some(20_000)] {
                let played = play_luatask(&server, generation, (version, need_oss_url), cut_after);
                let asked: Vec<&str> = played.exchanges.iter().map(|e| e.to.as_str()).collect();
                let elsewhere = asked.contains(&files.http.to_string().as_str());
                let result = match version {
                    "1.0.0" => must_update(&played, &bytes),
                    _ => must_not_update(client, &played),
                };
                rows.row(
                    &format!("{} {need_oss_url} {version} {cut_after:?}", client.name()),
                    result.and_then(|()| {
                        ensure!(
                            elsewhere == (need_oss_url && version == "1.0.0"),
                            "asked {asked:?}"
                        );
                        Ok(())
                    }),
                );
            }
        }
    }
    rows.finish();
    // All other modules get the file from this server, whatever the rules state about redirects.
    let mut rows = Rows::default();
    all_must_update(&server, &bytes, &mut rows);
    rows.finish();
}

// Case 64.
#[test]
fn a_module_redirected_to_this_server_resumes_with_the_content_in_the_url() {
    let bytes = noise(64, 60_000);
    let place = Place::new();
    place.drop_firmware("P/1.0.3/update.bin", &bytes);
    // Fewer attempts than the rounds below: the download after a redirect is not counted as an attempt.
    let server = Server::start_in(place, &["--attempts", "2"]);
    let redirect = format!(
        "http://{}/firmware/{{project}}/{{version}}/{{file}}?sha256={{sha256}}",
        server.http
    );
    server.rules(
        "P/release.json",
        json!({ "direct": true, "redirect": redirect }),
    );
    let check = luat("P", "862991443753387", "1.0.0") + "&need_oss_url=1";
    server
        .wait_for_reply(&common::get(&check), common::PATIENCE, |reply| {
            matches!(reply.status, 301..=308)
        })
        .unwrap();
    let mut rows = Rows::default();
    for generation in [Generation::Gen2g, Generation::Asr1802, Generation::Rda8910] {
        let client = Client::LuaTask(generation);
        for cut_after in [None, Some(5_000), Some(20_000), Some(59_000)] {
            let played = play_luatask(&server, generation, ("1.0.0", true), cut_after);
            let statuses: Vec<_> = played.exchanges.iter().map(|e| e.status()).collect();
            let is_redirect = |status: &Option<u16>| matches!(status, Some(301..=308));
            rows.row(
                &format!("{} {cut_after:?}", client.name()),
                must_update(&played, &bytes).and_then(|()| {
                    ensure!(
                        statuses.iter().filter(|status| is_redirect(status)).count() == 1,
                        "{statuses:?}"
                    );
                    // The 2G clients begin again after a cut.
                    let resumes = cut_after.is_some() && generation != Generation::Gen2g;
                    ensure!(
                        !resumes || statuses.last() == Some(&Some(206)),
                        "the rest was not asked for: {statuses:?}"
                    );
                    ensure!(
                        !resumes || played.body < 2 * bytes.len() as u64,
                        "{} bytes",
                        played.body
                    );
                    Ok(())
                }),
            );
        }
        let played = play_luatask(&server, generation, ("1.0.3", true), None);
        rows.row(client.name().as_str(), must_not_update(client, &played));
    }
    rows.finish();
}
