//! Promise: the command line states what it does and recognises near misses, and for every mistake
//! at the start it prints one clear sentence with the flag to change.

use crate::common;

use std::net::{TcpListener, UdpSocket};

use common::packages::noise;
use common::{
    IMEI, PATIENCE, Place, Rows, Server, both, get, listens, luat, luat_ota, run, run_command,
    serve_arguments,
};

/// A place with one release, and the bytes of its file.
pub fn place() -> (Place, Vec<u8>) {
    let place = Place::new();
    let bytes = noise(170, 2000);
    place.drop_firmware("P/2.0.1/update.bin", &bytes);
    (place, bytes)
}

#[test]
fn help_names_every_flag_with_its_variable_in_the_environment() {
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["serve", "--help"],
        &["serve", "-h"],
        &["check", "--help"],
        &["check", "-h"],
        &["explain", "--help"],
        &["explain", "-h"],
    ] {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", both(&output));
        assert!(
            !output.stdout.is_empty() && output.stderr.is_empty(),
            "{arguments:?}: help goes to standard output: {}",
            both(&output)
        );
    }
    let help = both(&run(&["serve", "--help"]));
    for flag in [
        "http",
        "udp",
        "operator",
        "state",
        "trusted-proxy",
        "grace",
        "log-format",
        "log-level",
        "udp-roaming",
        "max-connections",
        "head-timeout",
        "stall-timeout",
    ] {
        assert!(help.contains(&format!("--{flag}")), "no --{flag}: {help}");
        let variable = format!("LUAT_OTA_{}", flag.replace('-', "_").to_uppercase());
        assert!(help.contains(&variable), "no {variable}: {help}");
    }
}

#[test]
fn version_is_one_line() {
    let output = run(&["--version"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("luat-ota ") && text.lines().count() == 1,
        "{text:?}"
    );
}

#[test]
fn mistakes_at_start_are_reported_in_one_sentence_that_names_the_flag() {
    let (place, _) = place();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = listener.local_addr().unwrap().to_string();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = socket.local_addr().unwrap().to_string();
    let mut rows = Rows::default();
    for (name, flags, needles) in [
        (
            "near miss",
            vec!["--htpp", "127.0.0.1:0"],
            vec!["--htpp", "--http"],
        ),
        (
            "near miss 2",
            vec!["--max-conections", "5"],
            vec!["--max-connections"],
        ),
        (
            "no address",
            vec!["--http", "nonsense"],
            vec!["--http", "nonsense"],
        ),
        (
            "no port",
            vec!["--udp", "127.0.0.1:99999"],
            vec!["--udp", "99999"],
        ),
        ("no value", vec!["--http"], vec!["--http"]),
        (
            "port taken",
            vec!["--http", http.as_str()],
            vec!["--http", http.as_str()],
        ),
        (
            "UDP port taken",
            vec!["--udp", udp.as_str()],
            vec!["--udp", udp.as_str()],
        ),
        (
            "no number",
            vec!["--max-connections", "many"],
            vec!["--max-connections", "many"],
        ),
        (
            "no format",
            vec!["--log-format", "xml"],
            vec!["--log-format", "xml"],
        ),
        (
            "no network",
            vec!["--trusted-proxy", "10.0.0.0/99"],
            vec!["--trusted-proxy"],
        ),
    ] {
        let mut command = luat_ota();
        command.args(serve_arguments(&place, &flags));
        let output = run_command(&mut command);
        let said = both(&output);
        rows.row(
            name,
            (|| {
                ensure!(!output.status.success(), "it started: {said}");
                ensure!(
                    output.status.code().is_some(),
                    "it was killed: {}: {said}",
                    output.status
                );
                for needle in needles {
                    ensure!(said.contains(needle), "does not say {needle:?}: {said}");
                }
                ensure!(
                    !said.contains("panicked") && !said.contains("RUST_BACKTRACE"),
                    "a panic: {said}"
                );
                Ok(())
            })(),
        );
    }
    rows.finish();
}

#[test]
fn a_state_in_use_by_another_server_is_reported_in_one_sentence() {
    let server = Server::start(&[]);
    let mut command = luat_ota();
    command.args(serve_arguments(server.place(), &[]));
    let output = run_command(&mut command);
    let said = both(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("--state"), "{said}");
    // The first server is unaffected.
    server.get("/healthz");
}

#[test]
fn a_missing_folder_is_created_and_reported() {
    let place = Place::new();
    std::fs::remove_dir(place.firmware()).unwrap();
    let server = Server::start_in(place, &[]);
    let folder = server.place().firmware();
    assert!(folder.is_dir());
    let name = folder.display().to_string();
    server.wait_for_log("says that the folder was made", |line| {
        line.contains(&name) && line.contains("creat")
    });
    let bytes = noise(171, 300);
    server.drop_firmware("P/1.0.1/update.bin", &bytes);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
}

#[test]
fn serve_is_the_default_and_every_flag_has_a_variable_in_the_environment() {
    let (place, bytes) = place();
    let mut command = luat_ota();
    command
        .current_dir(&place.root)
        .env("LUAT_OTA_HTTP", "127.0.0.1:0")
        .env("LUAT_OTA_UDP", "127.0.0.1:0")
        .env("LUAT_OTA_OPERATOR", "127.0.0.1:0")
        .env("LUAT_OTA_LOG_FORMAT", "json")
        .env("LUAT_OTA_HEAD_TIMEOUT", "1")
        .env("LUAT_OTA_STATE", place.state());
    let server = Server::from_command(place, &mut command);
    server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &bytes);
    let mut stream = std::net::TcpStream::connect(server.http).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /").unwrap();
    let reply = common::reply::read(&mut stream, false).unwrap();
    assert_eq!(reply.status, 408);
    assert!(!common::files_under(&server.place().state()).is_empty());
}

#[test]
fn a_flag_wins_over_its_variable_in_the_environment() {
    let (place, bytes) = place();
    let mut command = luat_ota();
    command
        .args(serve_arguments(&place, &[]))
        .env("LUAT_OTA_HTTP", "nonsense")
        .env("LUAT_OTA_STATE", "/nowhere/at/all");
    let server = Server::from_command(place, &mut command);
    server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &bytes);
}

#[test]
fn addresses_may_be_given_several_times() {
    let (place, bytes) = place();
    let server = Server::start_in(
        place,
        &[
            "--http",
            "127.0.0.1:0",
            "--http",
            "127.0.0.2:0",
            "--udp",
            "127.0.0.1:0",
            "--udp",
            "127.0.0.3:0",
        ],
    );
    server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &bytes);
    let addresses = |proto: &str| -> Vec<std::net::SocketAddr> {
        server
            .log
            .all()
            .iter()
            .filter_map(|line| listens(line, proto))
            .collect()
    };
    let http = addresses("http");
    assert_eq!(http.len(), 2, "{http:?}");
    for address in http {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut stream, &get(&luat("P", IMEI, "2.0.0"))).unwrap();
        common::reply::read(&mut stream, false)
            .unwrap()
            .must_be_file(&bytes)
            .unwrap();
    }
    let udp = addresses("udp");
    assert_eq!(udp.len(), 2, "{udp:?}");
    for address in udp {
        common::datagrams::Device::new(address)
            .check(format!("{IMEI},P_Luat_V0035_8955,2.0.0"))
            .unwrap();
    }
}

#[test]
fn each_check_and_each_finished_download_is_one_line() {
    let (place, bytes) = place();
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", "862991443750002", "2.0.0"), &bytes);
    let mark = server.log_mark();
    server
        .get(&luat("P", IMEI, "2.0.0"))
        .must_be_file(&bytes)
        .unwrap();
    server
        .get(&luat("P", IMEI, "2.0.1"))
        .must_refuse(404, 27)
        .unwrap();
    let about = |wanted: &[&str]| {
        let line = server.log.wait(mark, PATIENCE, |line| {
            wanted.iter().all(|word| line.contains(word))
        });
        line.unwrap_or_else(|| panic!("no line with {wanted:?}"))
    };
    // Device, project, from, to and peer; bytes of the finished download.
    about(&[IMEI, "\"P\"", "2.0.0", "2.0.1", "127.0.0.1"]);
    about(&[IMEI, &bytes.len().to_string()]);
    about(&[IMEI, "nothing"]);
    for line in server.log.all() {
        let value: Result<serde_json::Value, _> = serde_json::from_str(&line);
        assert!(
            value.is_ok_and(|value| value.is_object()),
            "no JSON: {line}"
        );
    }
}

#[test]
fn the_log_as_text_is_readable_lines() {
    let (place, _) = place();
    let mut command = luat_ota();
    command.args(serve_arguments(&place, &["--log-format", "text"]));
    let mut child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let log = std::sync::Arc::new(common::Log::default());
    common::collect(child.stderr.take().unwrap(), log.clone());
    let line = log.wait(0, PATIENCE, |line| line.contains("127.0.0.1:"));
    let ready = log.wait(0, PATIENCE, |line| line.contains("ready"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.is_some() && ready.is_some(), "{:?}", log.all());
    assert!(log.all().iter().all(|line| !line.starts_with('{')));
}

#[test]
fn only_a_trusted_proxy_can_name_the_client() {
    for (flags, trusted) in [
        (&["--trusted-proxy", "127.0.0.0/8"][..], true),
        (&["--trusted-proxy", "10.0.0.0/8"], false),
        (&[], false),
    ] {
        let (place, bytes) = place();
        let server = Server::start_in(place, flags);
        server.wait_until_offered(&luat("P", "862991443750002", "2.0.0"), &bytes);
        let mark = server.log_mark();
        server
            .http(&common::get_with(
                &luat("P", IMEI, "2.0.0"),
                "X-Forwarded-For: 203.0.113.7\r\n",
            ))
            .must_be_file(&bytes)
            .unwrap();
        let line = server
            .log
            .wait(mark, PATIENCE, |line| line.contains(IMEI))
            .expect("a line about the check");
        assert_eq!(line.contains("203.0.113.7"), trusted, "{flags:?}: {line}");
    }
}

#[cfg(feature = "packages")]
#[test]
fn health_succeeds_while_the_server_replies_and_fails_without_it() {
    let server = Server::start(&[]);
    let address = server.http.to_string();
    let output = run(&["health", "--http", &address]);
    assert!(output.status.success(), "{}", both(&output));
    // As in a container, where the server's own variable is set.
    let output = run_command(luat_ota().arg("health").env("LUAT_OTA_HTTP", &address));
    assert!(output.status.success(), "{}", both(&output));
    server.terminate();
    let output = run(&["health", "--http", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(both(&output).contains(&address), "{}", both(&output));
}

#[cfg(feature = "packages")]
#[test]
fn completions_and_the_manual_page_are_printed_and_mistakes_are_explained() {
    for (arguments, begins) in [
        (&["man"][..], ".TH LUAT"),
        (&["completions", "bash"], "# luat-ota completions bash\n"),
        (&["completions", "zsh"], "#compdef luat-ota\n"),
        (&["completions", "fish"], "# luat-ota completions fish\n"),
    ] {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", both(&output));
        assert!(both(&output).starts_with(begins), "{arguments:?}");
    }
    for (arguments, says) in [
        (&["completions"][..], "bash, zsh or fish"),
        (&["completions", "tcsh"], "bash, zsh or fish"),
        (&["completions", "bash", "zsh"], "takes no folder"),
        (&["man", "firmware"], "takes no folder"),
        (&["man", "--http", "8080"], "not of luat-ota man"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            both(&output).contains(says),
            "{arguments:?}: {}",
            both(&output)
        );
    }
}

// Case 45.
#[test]
fn an_unknown_command_creates_nothing_and_serves_nothing() {
    let place = Place::new();
    for words in [
        &["init"][..],
        &["status"],
        &["version"],
        &["new-folder"],
        &["help", "me"],
        &["Check"],
        &["-v"],
        &["status", "--http", "127.0.0.1:0"],
    ] {
        let output = common::run_command(luat_ota().args(words).current_dir(&place.root));
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let said = both(&output);
        if !words[0].starts_with('-') {
            assert!(
                said.contains("serve, check, explain, devices, lift"),
                "{said}"
            );
            assert!(said.contains("luat-ota serve "), "{said}");
        }
        let made: Vec<_> = std::fs::read_dir(&place.root).unwrap().flatten().collect();
        assert_eq!(made.len(), 2, "{words:?} made {made:?}");
    }
}

// Case 45.
#[test]
fn the_default_folder_and_that_of_serve_are_created_as_before() {
    for (words, folder) in [
        (&["serve", "new"][..], "new"),
        (&["./new"], "new"),
        (&["serve"], "firmware"),
        (&[], "firmware"),
    ] {
        let place = Place::new();
        std::fs::remove_dir(place.firmware()).unwrap();
        let root = place.root.clone();
        let mut command = luat_ota();
        command.args(words).current_dir(&root);
        command.args(["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"]);
        command.args(["--operator", "127.0.0.1:0", "--log-format", "json"]);
        let server = Server::from_command(place, &mut command);
        assert!(root.join(folder).is_dir(), "{words:?}");
        server.terminate();
    }
}

// Case 54.
#[test]
fn a_test_server_without_a_stated_port_runs_beside_any_other() {
    let start = || {
        let place = Place::new();
        let mut command = luat_ota();
        command.arg("serve").arg(place.firmware());
        command.arg("--state").arg(place.state());
        command.args(["--log-format", "json"]);
        Server::from_command(place, &mut command)
    };
    let (one, other) = (start(), start());
    assert_ne!((one.http, one.udp), (other.http, other.udp));
    assert_eq!(one.get("/healthz").status, 200);
    assert_eq!(other.get("/healthz").status, 200);
}
