use super::*;
use crate::modems::luatos::tests::{Played, ServerAction, closing, ok_head, play, segments};

const FILE: &[u8] = b"the bytes of a firmware";

fn identity() -> Identity {
    Identity {
        imei: "862991443753386".to_owned(),
        project: "A B&C".to_owned(),
        version: "001.000.000".to_owned(),
        core: 2012,
        bsp: None,
        key: "KEY".to_owned(),
        serial: String::new(),
    }
}

fn server() -> Endpoint {
    Endpoint {
        host: "iot.example".to_owned(),
        port: 80,
        path: "/unused".to_owned(),
    }
}

fn offer(more: &str) -> String {
    format!(
        "{{\"code\":0,\"script_version\":\"001.000.001\",\"core_id\":1,\"core_version\":\"2012\",\"size\":{},\
         \"fota_sn\":\"SN-7\",\"url\":\"http://files.example:81/f.bin?x=1\"{more}}}",
        FILE.len()
    )
}

fn ok(body: &[u8]) -> Vec<ServerAction> {
    closing(segments(&ok_head(body.len()), body))
}

fn status(status: &str) -> Vec<ServerAction> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    closing(segments(&head, b""))
}

/// Plays v2.0 against these replies to the check, the download and the reports.
fn run(answers: &[Vec<ServerAction>]) -> (Played, Option<String>) {
    let mut update = Libfota3::V2.update(Core::D2026_05_08, &identity(), None, server());
    let played = play(&mut update, |n, _| answers[n].clone());
    (played, update.report_error().map(str::to_owned))
}

#[test]
fn check_download_and_report_are_three_requests_of_this_form() {
    for (edition, code) in [(Libfota3::V1, 1), (Libfota3::V2, 1)] {
        let mut update = edition.update(Core::D2026_05_08, &identity(), None, server());
        let played = play(&mut update, |n, _| match n {
            0 => ok(offer("").as_bytes()),
            1 => ok(FILE),
            _ => ok(b"{\"code\":0}"),
        });
        assert_eq!(played.outcome, Outcome::Updated(FILE.to_vec()));
        assert_eq!(update.report_error(), None);
        let body = format!("{{\"fota_sn\":\"SN-7\",\"result_code\":{code}}}");
        assert_eq!(
            played.requests,
            [
                vec![
                    "GET /api/site/turnkey_fota?imei=862991443753386&project_key=KEY\
                     &model=Air780EPM&core_id=1&core_version=2012&script_name=A%20B%26C\
                     &script_version=001.000.000 HTTP/1.1\r\n",
                    "Connection: Close\r\n",
                    "Host: iot.example:80\r\n",
                    "\r\n",
                ],
                vec![
                    "GET /f.bin?x=1 HTTP/1.1\r\n",
                    "Connection: Close\r\n",
                    "Host: files.example:81\r\n",
                    "\r\n",
                ],
                vec![
                    "POST /api/site/turnkey_fota_result HTTP/1.1\r\n",
                    "Connection: Close\r\n",
                    "Host: iot.example:80\r\n",
                    "Content-Type: application/json\r\n",
                    &format!("Content-Length: {}\r\n", body.len()),
                    "\r\n",
                    &body,
                ],
            ]
        );
    }
}

#[test]
fn no_update_is_a_200_with_another_code_and_a_404_is_an_error() {
    let (played, _) = run(&[ok(b"{\"code\":27,\"msg\":\"newest\"}")]);
    assert_eq!(
        played.outcome,
        Outcome::NoUpdate("code 27: newest".to_owned())
    );
    for (answer, word) in [
        (status("404 Not Found"), "status 404"),
        (ok(b"no update"), "not JSON"),
        (ok(b""), "not JSON"),
        (ok(b"{\"msg\":\"\"}"), "no code"),
        (ok(b"{\"code\":0}"), "without a url"),
        (
            ok(b"{\"code\":0,\"url\":\"ftp://x/y\"}"),
            "not an http:// URL",
        ),
    ] {
        let (played, _) = run(&[answer]);
        let Outcome::Failed(Failure::GaveUp(why)) = &played.outcome else {
            panic!("{word}: {played:?}");
        };
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn the_download_must_be_exactly_200_and_match_its_sha256() {
    let sum = hex(&Sha256::digest(FILE));
    let done = ok(b"{\"code\":0}");
    for sum in [sum.clone(), sum.to_uppercase(), String::new()] {
        let check = ok(offer(&format!(",\"sha256\":\"{sum}\"")).as_bytes());
        let (played, _) = run(&[check, ok(FILE), done.clone()]);
        assert_eq!(played.outcome, Outcome::Updated(FILE.to_vec()));
    }
    let check = ok(offer(&format!(",\"sha256\":\"{sum}\"")).as_bytes());
    for (answer, word) in [
        (ok(b"other bytes"), "SHA-256"),
        (status("404 Not Found"), "status 404"),
        (
            closing(segments(
                "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\n",
                b"bytes",
            )),
            "status 206",
        ),
        (status("302 Found\r\nLocation: http://x/"), "status 302"),
    ] {
        let (played, _) = run(&[check.clone(), answer]);
        let Outcome::Failed(Failure::GaveUp(why)) = &played.outcome else {
            panic!("{word}: {played:?}");
        };
        assert!(why.contains(word), "{why}");
        assert_eq!(played.requests.len(), 2);
    }
}

#[test]
fn a_failed_report_is_tried_twice_and_does_not_change_the_outcome() {
    let check = ok(offer("").as_bytes());
    let refused = status("500 Oops");
    let (played, error) = run(&[check.clone(), ok(FILE), refused.clone(), refused.clone()]);
    assert_eq!(played.outcome, Outcome::Updated(FILE.to_vec()));
    assert_eq!(played.requests.len(), 4);
    assert!(error.unwrap().contains("status 500"));
    let (played, error) = run(&[check, ok(FILE), refused, ok(b"{\"code\":0}")]);
    assert_eq!((played.requests.len(), error), (4, None));
}

/// Returns what a module of this edition reports after a reply in which `from` is replaced by `to`.
fn reported(edition: Libfota3, from: &str, to: &str, new: Option<&str>) -> (String, Outcome) {
    let answer = offer("");
    assert!(answer.contains(from));
    let answer = answer.replace(from, to);
    let mut update = edition.update(Core::D2026_05_08, &identity(), new, server());
    let played = play(&mut update, |n, _| match n {
        0 => ok(answer.as_bytes()),
        1 => ok(FILE),
        _ => ok(b"{\"code\":0}"),
    });
    let report = played.requests[2].last().unwrap();
    (report.to_string(), played.outcome)
}

#[test]
fn a_module_reports_success_only_if_the_reply_matches_what_it_runs_after_the_restart() {
    let good = ("\"core_id\":1", "\"core_id\":1");
    let rows = [
        (good, None, [1, 1]),
        (good, Some("001.000.001"), [1, 1]),
        (good, Some("001.000.002"), [2, 2]),
        (("\"core_id\":1,", ""), None, [2, 2]),
        (("\"core_id\":1", "\"core_id\":\"1\""), None, [2, 2]),
        (("\"core_id\":1", "\"core_id\":2"), None, [2, 2]),
        (("\"2012\"", "2012"), None, [2, 1]),
        (("\"2012\"", "\"2013\""), None, [1, 1]),
        (("\"2012\"", "\"2011\""), None, [2, 2]),
        (("\"2012\"", "null"), None, [2, 2]),
        (("\"001.000.001\"", "\"1.0.1\""), None, [2, 2]),
        (("\"001.000.001\"", "\"2012.001.001\""), None, [2, 2]),
    ];
    for ((from, to), new, codes) in rows {
        for (edition, code) in Libfota3::ALL.into_iter().zip(codes) {
            let (report, outcome) = reported(edition, from, to, new);
            let wanted = format!("\"result_code\":{code}}}");
            assert!(
                report.ends_with(&wanted),
                "{edition:?} {to} {new:?}: {report}"
            );
            let updated = outcome == Outcome::Updated(FILE.to_vec());
            assert_eq!(updated, code == 1, "{edition:?} {to}: {outcome:?}");
        }
    }
}

#[test]
fn a_download_that_is_cut_short_fails_at_once_by_its_sha256() {
    let sum = hex(&Sha256::digest(FILE));
    let check = ok(offer(&format!(",\"sha256\":\"{sum}\"")).as_bytes());
    let cut = closing(segments(&ok_head(FILE.len()), &FILE[..9]));
    let (played, _) = run(&[check, cut]);
    let Outcome::Failed(Failure::GaveUp(why)) = &played.outcome else {
        panic!("{played:?}");
    };
    assert!(why.contains("SHA-256"), "{why}");
    assert!(played.ended < Duration::from_secs(1), "{:?}", played.ended);
}

#[test]
fn each_step_has_its_own_timeout() {
    let check = ok(offer("").as_bytes());
    for (answers, seconds) in [
        (vec![Vec::new()], 120),
        (vec![check.clone(), Vec::new()], 600),
    ] {
        let (played, _) = run(&answers);
        let Outcome::Failed(Failure::Hung { after, .. }) = played.outcome else {
            panic!("{played:?}");
        };
        assert_eq!(after.as_secs(), seconds);
    }
    let (played, _) = run(&[check, ok(FILE), Vec::new(), Vec::new()]);
    assert_eq!(played.outcome, Outcome::Updated(FILE.to_vec()));
    assert_eq!(played.ended.as_secs(), 60);
}

#[test]
fn a_url_is_parsed_and_values_are_partly_escaped() {
    let at = |url: &str| endpoint(url).map(|at| (at.host, at.port, at.path));
    let expected = |host: &str, port, path: &str| Some((host.to_owned(), port, path.to_owned()));
    assert_eq!(at("http://a"), expected("a", 80, "/"));
    assert_eq!(at("http://a:8?b"), expected("a", 8, "/?b"));
    assert_eq!(at("http://a:8/b"), expected("a", 8, "/b"));
    for wrong in ["a/b", "https://a/", "http:///b", "http://a:x/"] {
        assert_eq!(at(wrong), None, "{wrong}");
    }
    assert_eq!(escaped("a b#&=+%/中\r\n"), "a%20b%23%26%3D%2B%25/中%0D%0A");
}
