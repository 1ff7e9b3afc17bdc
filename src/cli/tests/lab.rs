use super::*;

/// A valid value for each flag, other than its default.
const VALUES: [(&str, &str); 28] = [
    ("http", "http://127.0.0.1:1/u"),
    ("udp", "127.0.0.1:2"),
    ("tcp", "127.0.0.1:3"),
    ("imei", "862991443753386"),
    ("project", "P"),
    ("core", "2008"),
    ("bsp", "EC618"),
    ("version", "1.0.1"),
    ("key", "K"),
    ("expect", "/some/file"),
    ("patience", "4"),
    ("json", "yes"),
    ("devices", "5"),
    ("to", "1.0.2"),
    ("mix", "libfota2=3,udp=1"),
    ("interval", "6"),
    ("rounds", "7"),
    ("duration", "8"),
    ("bandwidth", "9K"),
    ("latency", "10"),
    ("loss", "11"),
    ("fail", "12"),
    ("fallback-after-report", "yes"),
    ("back-within", "16"),
    ("cut", "13"),
    ("speed", "14"),
    ("seed", "15"),
    ("yes-really", "yes"),
];

#[test]
fn a_flag_and_its_variable_have_the_same_effect() {
    for command in [Command::Probe, Command::Simulate] {
        // At least one address is required.
        let server = ["--http=http://h/", "--udp=h:1"];
        for flag in flags::of(command) {
            let (_, value) = VALUES.iter().find(|(name, _)| *name == flag.name).unwrap();
            let server = server
                .iter()
                .filter(|it| !it.contains(&format!("--{}=", flag.name)));
            let words: Vec<&str> = std::iter::once(command.name())
                .chain(server.copied())
                .collect();
            let own = match flag.is_switch() {
                true => format!("--{}", flag.name),
                false => format!("--{}={value}", flag.name),
            };
            let mut with = words.clone();
            with.push(&own);
            let by_flag = format!("{:?}", line(&[], &with));
            let variable = flag.env_var(command);
            let by_variable = format!("{:?}", line(&[(&variable, value)], &words));
            assert_eq!(by_flag, by_variable, "{}", flag.name);
            assert_ne!(by_flag, format!("{:?}", line(&[], &words)), "{}", flag.name);
        }
    }
}

#[test]
fn a_probe_ignores_the_variables_of_the_server() {
    let environment = [("LUAT_OTA_HTTP", "8080"), ("LUAT_OTA_IMEI", "1")];
    let line = line(&environment, &["probe", "--udp", "h:1"]);
    assert_eq!(
        (line.lab.options.http, line.lab.options.module.imei.as_str()),
        (None, "")
    );
    assert!(line.remarks.is_empty());
}

#[test]
fn missing_and_extra_arguments_are_reported_in_a_sentence() {
    for (words, beginning) in [
        (&["probe"][..], "no server: give --http URL"),
        (&["simulate", "--devices", "5"], "no server: give"),
        (&["probe", "fw"], "luat-ota probe takes only flags"),
        (
            &["probe", "--http", "https://h/"],
            "--http: \"https://h/\" is not a URL",
        ),
        (
            &["probe", "--http", "8080"],
            "--http: \"8080\" is not a URL",
        ),
        (
            &["probe", "--udp", "h"],
            "--udp: \"h\" is not a host and a port",
        ),
        (
            &["probe", "--imei", "123"],
            "--imei: \"123\" is not 15 digits",
        ),
        (
            &["probe", "--devices", "5"],
            "--devices is a flag of luat-ota simulate",
        ),
        (
            &["simulate", "--mix", "x"],
            "--mix: \"x\" is not realistic, all",
        ),
        (
            &["simulate", "--udp", "h:1", "--mix", "libfota"],
            "--mix: no server is given",
        ),
        (
            &["simulate", "--loss", "101"],
            "--loss: \"101\" is not a number from 0 to 100",
        ),
        (
            &["probe", "--htpp", "x"],
            "unknown flag --htpp: did you mean --http?",
        ),
        (
            &["prob"],
            "unknown command \"prob\": did you mean \"probe\"?",
        ),
    ] {
        let sentence = wrong(&[], words);
        assert!(sentence.starts_with(beginning), "{sentence}");
    }
}

#[test]
fn the_version_flag_of_a_probe_is_that_of_its_module() {
    let words = ["probe", "--udp", "h:1", "--version", "2.0.0"];
    assert_eq!(line(&[], &words).lab.options.module.version, "2.0.0");
    assert!(matches!(
        read_in(&[], &["probe", "-V"]),
        Ok(Request::Version)
    ));
}
