use super::*;
use crate::logging::Format;
use parse::{UsageError, parse};

#[cfg(feature = "lab")]
mod lab;
#[cfg(feature = "pack")]
mod pack;

/// Parses a command line in an environment where only `firmware` and `fw` are folders.
fn read_in(environment: &[(&str, &str)], words: &[&str]) -> Result<Request, UsageError> {
    let environment: Vec<(OsString, OsString)> = environment
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let is_folder = |word: &OsStr| word == "firmware" || word == "fw";
    parse(words.iter().map(OsString::from), &environment, &is_folder)
}

fn line(environment: &[(&str, &str)], words: &[&str]) -> Args {
    match read_in(environment, words) {
        Ok(Request::Run(line)) => *line,
        other => panic!("{words:?} came to {other:?}"),
    }
}

fn wrong(environment: &[(&str, &str)], words: &[&str]) -> String {
    match read_in(environment, words) {
        Err(wrong) => wrong.sentence,
        Ok(other) => panic!("{words:?} came to {other:?}"),
    }
}

fn addresses(addresses: &[std::net::SocketAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn the_first_word_is_a_command_or_the_folder() {
    for (words, command, folder) in [
        (&[][..], Command::Serve, "firmware"),
        (&["serve"], Command::Serve, "firmware"),
        (&["serve", "fw"], Command::Serve, "fw"),
        (&["fw"], Command::Serve, "fw"),
        // The default folder is created, whether it is named or not.
        (&["firmware"], Command::Serve, "firmware"),
        (&["./not-there-yet"], Command::Serve, "./not-there-yet"),
        (&["/srv/ota"], Command::Serve, "/srv/ota"),
        (&["--grace", "1", "fw"], Command::Serve, "fw"),
        (&["fw", "--grace=1"], Command::Serve, "fw"),
        (&["--", "fw"], Command::Serve, "fw"),
        (&["check"], Command::Check, "firmware"),
        (&["check", "fw"], Command::Check, "fw"),
        (&["explain", "fw", "/u?a=b"], Command::Explain, "fw"),
        (&["explain", "/u?a=b", "fw"], Command::Explain, "fw"),
        (&["explain", "/u?a=b"], Command::Explain, "firmware"),
    ] {
        let line = line(&[], words);
        assert_eq!(line.command, command, "{words:?}");
        assert_eq!(line.settings.folder, Path::new(folder), "{words:?}");
    }
}

#[test]
fn a_mistyped_command_does_not_become_a_folder() {
    for (word, command) in [
        ("sevre", "serve"),
        ("chek", "check"),
        ("explian", "explain"),
    ] {
        let sentence = wrong(&[], &[word]);
        assert!(
            sentence.contains(&format!("did you mean {command:?}")),
            "{sentence}"
        );
    }
    for word in ["Check", "SERVE"] {
        assert!(wrong(&[], &[word]).contains("did you mean"), "{word}");
    }
    // If a folder has this name, the word is not an error.
    let is_folder = |_: &OsStr| true;
    assert!(parse([OsString::from("sevre")].into_iter(), &[], &is_folder).is_ok());
}

#[test]
fn without_flags_the_defaults_apply() {
    let settings = line(&[], &[]).settings;
    assert_eq!(addresses(&settings.http), ["[::]:8080"]);
    assert_eq!(addresses(&settings.udp), ["[::]:2234"]);
    let operator = settings.operator;
    assert_eq!(operator.address.unwrap().to_string(), "127.0.0.1:8081");
    assert!(operator.token.is_none() && operator.hosts.is_empty());
    let off = line(&[], &["--operator", "off"]).settings.operator;
    assert_eq!(off.address, None);
    assert_eq!(settings.grace.as_secs(), 30);
    assert_eq!(settings.rescan.as_secs(), 30);
    assert_eq!(settings.log_format, Format::Text);
    assert_eq!(settings.log_level, log::LevelFilter::Info);
    assert!(settings.state.is_none() && settings.snapshot_memory.is_none());
    assert!(!settings.limits.udp_roaming && settings.limits.max_connections.is_none());
}

#[test]
fn a_flag_overrides_its_variable_and_a_variable_the_default() {
    let environment = [("LUAT_OTA_GRACE", "7"), ("LUAT_OTA_HTTP", "1.2.3.4:80, 81")];
    assert_eq!(line(&environment, &[]).settings.grace.as_secs(), 7);
    assert_eq!(
        line(&environment, &["--grace", "3"])
            .settings
            .grace
            .as_secs(),
        3
    );
    assert_eq!(
        addresses(&line(&environment, &[]).settings.http),
        ["1.2.3.4:80", "[::]:81"]
    );
    let http = line(&environment, &["--http", "82", "--http=127.0.0.1:83"])
        .settings
        .http;
    assert_eq!(addresses(&http), ["[::]:82", "127.0.0.1:83"]);
    // An empty variable counts as not set.
    assert_eq!(
        line(&[("LUAT_OTA_GRACE", "")], &[])
            .settings
            .grace
            .as_secs(),
        30
    );
    assert_eq!(
        line(&[("LUAT_OTA_DIR", "fw")], &[]).settings.folder,
        Path::new("fw")
    );
    assert_eq!(
        line(&[("LUAT_OTA_DIR", "fw")], &["x/y"]).settings.folder,
        Path::new("x/y")
    );
}

/// Gives each flag of the table a valid value by the command line and by the environment, with the same result.
#[test]
fn a_flag_and_its_variable_have_the_same_effect() {
    let values = [
        ("http", "1.1.1.1:1"),
        ("udp", "1.1.1.1:2"),
        ("operator", "1.1.1.1:3"),
        ("operator-token", "long-enough"),
        ("operator-token-file", "/etc/x"),
        ("operator-host", "ota.example.com"),
        ("state", "/var/lib/x"),
        ("secret-file", "/srv/shared/secret"),
        ("fleet", "/srv/shared/fleet"),
        ("trusted-proxy", "10.0.0.0/8"),
        ("grace", "11"),
        ("rescan", "12"),
        ("udp-roaming", "yes"),
        ("log-format", "json"),
        ("log-level", "debug"),
        ("max-head", "2K"),
        ("max-headers", "13"),
        ("head-timeout", "14"),
        ("stall-timeout", "15"),
        ("max-connections", "16"),
        ("max-connections-per-address", "17"),
        ("udp-checks", "18"),
        ("udp-errors", "19"),
        ("udp-gets", "20"),
        ("snapshot-memory", "64M"),
        ("without", "leases"),
        ("max-downloads", "22"),
        ("uplink", "250K"),
        ("max-devices", "21000"),
        ("attempts", "4"),
        ("known-devices-only", "yes"),
        ("on-event", "/usr/bin/notify -x"),
        ("imei", "862991443753386"),
        ("firmware-name", "A_Luat_V0035_8955"),
        ("version", "2.0.0"),
        ("project-key", "k"),
        ("core-version", "3033"),
        ("need-oss-url", "true"),
        ("json", "yes"),
        ("csv", "yes"),
        ("undo", "yes"),
    ];
    let needed = ["--imei=1", "--firmware-name=n", "--version=v"];
    // The flags of `probe`, `simulate` and `pack` have tests of their own.
    for (command, flag) in flags::all().filter(|(command, _)| !command.has_own_variables()) {
        let (_, value) = values.iter().find(|(name, _)| *name == flag.name).unwrap();
        let words = |own: Vec<String>| -> Vec<String> {
            let mut words = vec![command.name().to_owned()];
            if command == Command::Explain {
                let name = format!("--{}=", flag.name);
                words.extend(
                    needed
                        .map(str::to_owned)
                        .into_iter()
                        .filter(|n| !n.starts_with(&name)),
                );
            }
            if command == Command::Lift && flag.name != "imei" {
                words.push("--imei=862991443753386".to_owned());
            }
            if command == Command::Resume {
                words.push("P/2.0.0".to_owned());
            }
            words.extend(own);
            words
        };
        let seen = |environment: &[(&str, &str)], words: Vec<String>| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let line = line(environment, &words);
            assert!(line.remarks.is_empty(), "{:?}", line.remarks);
            format!("{line:?}")
        };
        let name = format!("--{}", flag.name);
        let by_flag = match flag.is_switch() {
            true => seen(&[], words(vec![name])),
            false => seen(&[], words(vec![name, (*value).to_owned()])),
        };
        let by_variable = seen(&[(&flag.env_var(command), value)], words(vec![]));
        assert_eq!(by_flag, by_variable, "{}", flag.name);
        if !needed.iter().any(|n| n.contains(flag.name)) {
            assert_ne!(
                by_flag,
                seen(&[], words(vec![])),
                "{} changes nothing",
                flag.name
            );
        }
    }
}

#[test]
fn a_similar_flag_is_suggested() {
    for (words, near) in [
        (&["--htpp", "80"][..], "--http"),
        (&["serve", "--upd", "80"], "--udp"),
        (&["--log_format=json"], "--log-format"),
        (&["check", "--hlep"], "--help"),
        (&["explain", "--imie", "1"], "--imei"),
    ] {
        let sentence = wrong(&[], words);
        let flag = words.iter().find(|word| word.starts_with("--")).unwrap();
        let flag = flag.split('=').next().unwrap();
        assert_eq!(
            sentence,
            format!("unknown flag {flag}: did you mean {near}?")
        );
    }
    assert_eq!(wrong(&[], &["--colour"]), "unknown flag --colour");
    assert!(wrong(&[], &["-p", "80"]).starts_with("unknown flag -p"));
}

#[test]
fn the_error_on_a_wrong_value_names_the_flag_and_a_good_value() {
    assert_eq!(
        wrong(&[], &["--http", "nowhere"]),
        "--http: \"nowhere\" is not an address to listen on, like 8080, 192.168.1.2:8080 or [::]:8080"
    );
    assert_eq!(
        wrong(&[("LUAT_OTA_GRACE", "soon")], &[]),
        "LUAT_OTA_GRACE: \"soon\" is not a number of seconds from 0 to 86400"
    );
    assert_eq!(
        wrong(&[], &["--udp-roaming=perhaps"]),
        "--udp-roaming: \"perhaps\" is not yes or no"
    );
    assert!(wrong(&[], &["--grace"]).starts_with("--grace needs a value: a number of seconds"));
    for (_, flag) in flags::all().filter(|(_, flag)| !flag.is_switch()) {
        let set = (flag.store)(&mut Args::new(), OsStr::new(""));
        assert_eq!(set, None, "{} takes an empty value", flag.name);
    }
}

#[test]
fn the_error_on_a_flag_of_another_command_names_that_command() {
    assert_eq!(
        wrong(&[], &["--imei", "1", "fw"]),
        "--imei is a flag of luat-ota explain, not of luat-ota serve"
    );
    assert_eq!(
        wrong(&[], &["check", "--http", "80"]),
        "--http is a flag of luat-ota serve, not of luat-ota check"
    );
}

#[test]
fn a_second_folder_is_refused() {
    assert_eq!(wrong(&[], &[""]), "the folder name is empty");
    assert!(wrong(&[], &["fw", "check"]).contains("\"fw\" and \"check\""));
    assert!(wrong(&[], &["check", "fw", "firmware"]).contains("takes one folder"));
}

// Case 45.
#[test]
fn a_bare_word_that_is_no_command_and_no_folder_is_an_error_that_names_the_commands() {
    for words in [
        &["init"][..],
        &["status"],
        &["version"],
        &["start"],
        &["run"],
        &["list"],
        &["new-folder"],
        &["水表"],
        &["update.bin"],
        &["--grace", "1", "init"],
        &["init", "--grace", "1"],
        &["init", "firmware"],
        &["help", "me"],
    ] {
        let sentence = wrong(&[], words);
        for name in ["serve", "check", "explain", "devices", "lift"] {
            assert!(sentence.contains(name), "{words:?}: {sentence}");
        }
        let word = words
            .iter()
            .find(|word| sentence.contains(&format!("{word:?}")));
        let serve = format!("luat-ota serve {}", word.unwrap());
        assert!(sentence.contains(&serve), "{words:?}: {sentence}");
    }
    assert!(wrong(&[], &["version"]).contains("luat-ota --version"));
    assert!(wrong(&[], &["-v"]).contains("--version"));
    assert!(wrong(&[], &["it's mine"]).contains("luat-ota serve 'it'\\''s mine'"));
    // A value in the environment cannot be a mistyped command.
    let line = line(&[("LUAT_OTA_DIR", "new-folder")], &[]);
    assert_eq!(line.settings.folder, Path::new("new-folder"));
}

// Case 46.
#[test]
fn the_installed_server_is_used_only_if_no_folder_is_named() {
    let installed = || {
        Some(InstalledServer {
            folder: "/srv/fw".into(),
            state: "/var/state".into(),
        })
    };
    let env: &[(&str, &str)] = &[("LUAT_OTA_DIR", "fw")];
    let none: &[(&str, &str)] = &[];
    let state_env: &[(&str, &str)] = &[("LUAT_OTA_STATE", "st")];
    for (environment, words, is_here, folder, state) in [
        (none, &["devices"][..], false, "/srv/fw", Some("/var/state")),
        (none, &["check"], false, "/srv/fw", Some("/var/state")),
        (none, &["devices"], true, "firmware", None),
        (none, &["devices", "fw"], false, "fw", None),
        (
            none,
            &["devices", "/srv/fw"],
            false,
            "/srv/fw",
            Some("/var/state"),
        ),
        (env, &["devices"], false, "fw", None),
        (
            none,
            &["devices", "--state", "st"],
            false,
            "/srv/fw",
            Some("st"),
        ),
        (state_env, &["devices"], false, "/srv/fw", Some("st")),
    ] {
        let mut line = line(environment, words);
        find_server(&mut line, false, installed(), &|_| is_here);
        assert_eq!(line.settings.folder, Path::new(folder), "{words:?}");
        assert_eq!(
            line.settings.state.as_deref(),
            state.map(Path::new),
            "{words:?}"
        );
    }
    let mut with_directory = line(none, &["devices"]);
    find_server(&mut with_directory, true, installed(), &|_| false);
    assert_eq!(with_directory.settings.state, None);
    let mut without = line(none, &["devices"]);
    find_server(&mut without, false, None, &|_| false);
    assert_eq!(without.settings.folder, Path::new("firmware"));
}

#[test]
fn version_means_the_program_except_in_explain() {
    for words in [
        &["--version"][..],
        &["-V"],
        &["serve", "--version"],
        &["explain", "-V"],
    ] {
        assert!(
            matches!(read_in(&[], words), Ok(Request::Version)),
            "{words:?}"
        );
    }
    let words = [
        "explain",
        "--imei",
        "1",
        "--firmware-name",
        "n",
        "--version",
        "2.0.0",
    ];
    assert_eq!(line(&[], &words).query.version.as_deref(), Some("2.0.0"));
}

#[test]
fn help_describes_the_command_before_it() {
    for (words, command) in [
        (&["--help"][..], None),
        (&["-h"], None),
        (&["help"], None),
        (&["help", "check"], Some(Command::Check)),
        (&["serve", "-h"], Some(Command::Serve)),
        (&["fw", "--help"], Some(Command::Serve)),
        (&["check", "--help"], Some(Command::Check)),
        (&["explain", "--imei", "1", "-h"], Some(Command::Explain)),
    ] {
        match read_in(&[], words) {
            Ok(Request::Help(found)) => assert_eq!(found, command, "{words:?}"),
            other => panic!("{words:?} came to {other:?}"),
        }
    }
}

#[test]
fn explain_takes_a_request_with_or_without_quotes() {
    for (words, request) in [
        (
            &["explain", "GET /u?a=b HTTP/1.1"][..],
            "GET /u?a=b HTTP/1.1",
        ),
        (
            &["explain", "fw", "GET", "/u?a=b", "HTTP/1.1"],
            "GET /u?a=b HTTP/1.1",
        ),
        (&["explain", "http://h:1/u?a=b"], "http://h:1/u?a=b"),
        (
            &["explain", "/upgradeimei=1&version=2"],
            "/upgradeimei=1&version=2",
        ),
        (
            &["explain", "1,A_Luat_V0035_8955,2.0.0"],
            "1,A_Luat_V0035_8955,2.0.0",
        ),
    ] {
        let query = line(&[("LUAT_OTA_IMEI", "1")], words).query;
        let found = query
            .request
            .map(|request| String::from_utf8(request).unwrap());
        assert_eq!(found.as_deref(), Some(request), "{words:?}");
        // Variables that describe a module are ignored if a request is given.
        assert_eq!(query.device, None);
    }
}

#[test]
fn explain_names_missing_flags() {
    assert!(wrong(&[], &["explain"]).starts_with("no request: give one"));
    assert_eq!(
        wrong(&[], &["explain", "--version", "1"]),
        "missing: --imei and --firmware-name"
    );
    let sentence = wrong(&[], &["explain", "/u?a=b", "--imei", "1"]);
    assert!(sentence.contains("give one of the two"), "{sentence}");
}

#[test]
fn a_remark_names_each_variable_without_a_flag() {
    let remarks = line(&[("LUAT_OTA_HTPP", "80"), ("LUAT_OTA_COLOUR", "1")], &[]).remarks;
    assert_eq!(
        remarks,
        [
            "LUAT_OTA_HTPP is set, but no flag has this name: did you mean LUAT_OTA_HTTP?",
            "LUAT_OTA_COLOUR is set, but no flag has this name",
        ]
    );
}

#[cfg(not(feature = "lab"))]
#[test]
fn a_build_without_the_lab_refuses_its_commands() {
    for word in ["probe", "simulate"] {
        let sentence = wrong(&[], &[word]);
        assert!(
            sentence.starts_with("this build has no command"),
            "{sentence}"
        );
    }
}
