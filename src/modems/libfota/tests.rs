use super::*;
use crate::modems::luatos::tests::{Played, ServerAction, closing, ok_head, play, segments};

fn identity() -> Identity {
    Identity {
        imei: "862991443753386".to_owned(),
        project: "DEMO".to_owned(),
        version: "001.999.000".to_owned(),
        core: 2012,
        bsp: Some("Air780EPM".to_owned()),
        key: "KEY".to_owned(),
        serial: String::new(),
    }
}

fn on(bsp: &str) -> Identity {
    Identity {
        bsp: Some(bsp.to_owned()),
        ..identity()
    }
}

fn server(path: &str) -> Endpoint {
    Endpoint {
        host: "ota.example".to_owned(),
        port: 8080,
        path: path.to_owned(),
    }
}

fn refused(_: usize, _: &str) -> Vec<ServerAction> {
    let head = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    closing(segments(head, b""))
}

/// Returns the target of the first request.
fn target(mut update: Update) -> String {
    let played = play(&mut update, refused);
    let line = &played.requests[0][0];
    line.strip_prefix("GET ")
        .and_then(|line| line.strip_suffix(" HTTP/1.1\r\n"))
        .unwrap()
        .to_owned()
}

#[test]
fn libfota2_sends_the_request_form_of_each_date() {
    let core = Core::D2025_12_04;
    let forms = [
        (
            Libfota2::D2024_04_09,
            "/upgrade?imei=862991443753386&project_key=KEY\
             &firmware_name=DEMO_LuatOS-SoC_Air780EPM&version=2012.001.000",
        ),
        (
            Libfota2::D2024_09_09,
            "/upgrade?imei=862991443753386&project_key=KEY\
             &firmware_name=DEMO_LuatOS-SoC_Air780EPM&version=2012.001.000&model=Air780EPM_A12",
        ),
        (
            Libfota2::D2024_11_22,
            "/upgrade?imei=862991443753386&project_key=KEY\
             &firmware_name=DEMO_LuatOS-SoC_Air780EPM&version=2012.001.000&model=Air780EPM_A12",
        ),
        (
            Libfota2::D2025_01_10,
            "/upgrade?imei=862991443753386&project_key=KEY\
             &firmware_name=DEMO_LuatOS-SoC_Air780EPM&version=2012.001.000",
        ),
        (
            Libfota2::Head,
            "/upgrade?imei=862991443753386&project_key=KEY\
             &firmware_name=DEMO_LuatOS-SoC_Air780EPM&version=2012.001.000",
        ),
    ];
    assert_eq!(forms.map(|(library, _)| library), Libfota2::ALL);
    for (library, expected) in forms {
        for written in ["/upgrade", "/upgrade?"] {
            let update = library.update(core, &identity(), server(written));
            assert_eq!(target(update), expected, "{library:?}");
        }
    }
}

#[test]
fn a_wrongly_written_url_of_libfota2_gives_the_request_seen_in_the_field() {
    let asked = |library: Libfota2, path: &str, call| {
        target(library.at_url(Core::D2024_06_27, &identity(), server(path), call))
    };
    assert!(asked(Libfota2::D2024_04_09, "/upgrade?", 1).starts_with("/upgrade??imei=862"));
    assert!(asked(Libfota2::Head, "/upgrade", 1).starts_with("/upgradeimei=862"));
    assert!(asked(Libfota2::Head, "/upgrade?a=1", 1).starts_with("/upgrade?a=1imei=862"));
    assert_eq!(
        asked(Libfota2::D2024_04_09, "/upgrade", 2),
        "/upgrade?imei=862991443753386&project_key=KEY&firmware_name=DEMO_LuatOS-SoC_Air780EPM\
         &version=2012.001.000?imei=862991443753386&project_key=KEY\
         &firmware_name=DEMO_LuatOS-SoC_Air780EPM&version=2012.001.000"
    );
    assert_eq!(
        asked(Libfota2::Head, "/upgrade?", 5),
        asked(Libfota2::Head, "/upgrade?", 1)
    );
}

#[test]
fn libfota2_names_the_module_by_its_platform() {
    let asked =
        |library: Libfota2, bsp| target(library.update(Core::D2025_12_04, &on(bsp), server("/u")));
    let uid = "383632393931343433373533333836";
    for (bsp, id) in [
        ("Air780EPM-A", "imei=862991443753386&"),
        ("EC618", "imei=862991443753386&"),
        ("Air8000", "imei=862991443753386&"),
        ("Air8101", "mac=991443753386&"),
        ("Air1601", &format!("mac={uid}&")),
        ("Air201", "nil&"),
        ("ESP32C3", "nil&"),
    ] {
        let target = asked(Libfota2::Head, bsp);
        let expected = format!("/u?{id}project_key=KEY&firmware_name=DEMO_LuatOS-SoC_");
        assert!(target.starts_with(&expected), "{bsp}: {target}");
    }
    assert!(
        asked(Libfota2::Head, "Air780EPM-A")
            .ends_with("_LuatOS-SoC_Air780EPM&version=2012.001.000")
    );
    assert_eq!(
        asked(Libfota2::D2025_01_10, "ESP32C3"),
        "/u?mac=991443753386&project_key=KEY&firmware_name=DEMO_LuatOS-SoC_V2012_ESP32C3\
         &version=001.999.000"
    );
    assert!(asked(Libfota2::D2025_01_10, "AIR101").starts_with(&format!("/u?uid={uid}&")));
}

#[test]
fn libfota_requests_a_url_unchanged_and_the_platform_in_two_orders() {
    let core = Core::D2023_02;
    let url = "/upgrade?version=001.999.000";
    for library in Libfota::ALL {
        assert_eq!(target(library.at_url(core, server(url))), url);
    }
    let official = |library: Libfota, bsp| {
        let server = server("/api/site/firmware_upgrade");
        target(library.official(core, &on(bsp), server))
    };
    assert_eq!(
        official(Libfota::D2023, "EC618"),
        "/api/site/firmware_upgrade?project_key=KEY&imei=862991443753386&device_key=\
         &firmware_name=DEMO_LuatOS-SoC_EC618&version=2012.001.000"
    );
    let new = "/api/site/firmware_upgrade?project_key=KEY&firmware_name=DEMO_LuatOS-SoC_";
    for (bsp, id) in [
        ("EC618", "imei=862991443753386"),
        ("ESP32C3", "mac=991443753386"),
        ("AIR101", "uid=383632393931343433373533333836"),
    ] {
        for library in [Libfota::D2024_12, Libfota::D2025_12_15] {
            assert_eq!(
                official(library, bsp),
                format!("{new}{bsp}&version=2012.001.000&{id}")
            );
        }
    }
}

#[test]
fn the_version_is_core_a_c_with_its_digits_as_written() {
    let version = |version: &str, core| {
        core_version(&Identity {
            version: version.to_owned(),
            core,
            ..identity()
        })
    };
    assert_eq!(version("1.0.2", 1103).as_deref(), Some("1103.1.2"));
    assert_eq!(
        version("001.999.000", 2012).as_deref(),
        Some("2012.001.000")
    );
    assert_eq!(version("v1-2-3beta", 2012).as_deref(), Some("2012.1.3"));
    // Lua backtracks: here the second dot of the pattern matches a digit.
    assert_eq!(version("100.5", 2012).as_deref(), Some("2012.1.5"));
    assert_eq!(version("1.0", 2012), None);
    assert_eq!(version("", 2012), None);
}

#[test]
fn without_three_numbers_or_a_key_nothing_is_sent() {
    let two = Identity {
        version: "1.0".to_owned(),
        ..identity()
    };
    let keyless = Identity {
        key: String::new(),
        ..identity()
    };
    for library in Libfota2::ALL {
        let core = Core::D2025_12_04;
        let run = |identity: &Identity| -> Played {
            play(&mut library.update(core, identity, server("/u")), refused)
        };
        let crashed = run(&two);
        assert!(crashed.requests.is_empty());
        assert!(matches!(
            crashed.outcome,
            Outcome::Failed(Failure::ScriptError(_))
        ));
        let refused = run(&keyless);
        assert!(refused.requests.is_empty());
        assert_eq!(
            refused.outcome,
            Outcome::Failed(Failure::GaveUp("result 5: no PRODUCT_KEY".to_owned()))
        );
    }
}

#[test]
fn the_callback_gets_the_result_of_each_code() {
    let core = Core::D2025_12_04;
    let run = |answer: &dyn Fn(usize, &str) -> Vec<ServerAction>| {
        play(
            &mut Libfota2::Head.update(core, &identity(), server("/u")),
            answer,
        )
        .outcome
    };
    assert_eq!(
        run(&|_, _| closing(segments(&ok_head(5), b"bytes"))),
        Outcome::Updated(b"bytes".to_vec())
    );
    let Outcome::NoUpdate(text) = run(&refused) else {
        panic!("404 is no update");
    };
    assert!(text.starts_with("result 4 (code -9): status 404"), "{text}");
    for (answer, result) in [
        (
            closing(segments(&ok_head(6), b"bytes")),
            "result 3 (code -5)",
        ),
        (
            closing(segments(
                "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
                b"",
            )),
            "result 4 (code -9)",
        ),
    ] {
        let Outcome::Failed(Failure::GaveUp(why)) = run(&|_, _| answer.clone()) else {
            panic!("{result}");
        };
        assert!(why.starts_with(result), "{why}");
    }
    let Outcome::NoUpdate(empty) = run(&|_, _| closing(segments(&ok_head(0), b""))) else {
        panic!("nothing to install is no update");
    };
    assert!(empty.starts_with("result "), "{empty}");
    let mut update = Libfota2::Head.update(core, &identity(), server("/u"));
    update.step(Duration::ZERO, Event::Start);
    let actions = update.step(Duration::ZERO, Event::ConnectFailed);
    let Some(Action::Finish(Outcome::Failed(Failure::GaveUp(why)))) = actions.last() else {
        panic!("{actions:?}");
    };
    assert!(why.starts_with("result 1 (code -4)"), "{why}");
    assert_eq!(update.step(Duration::ZERO, Event::Start), []);
}

#[test]
fn each_library_has_the_timeout_of_its_date() {
    let silence = |mut update: Update| match play(&mut update, |_, _| Vec::new()).outcome {
        Outcome::Failed(Failure::Hung { after, .. }) => after.as_secs(),
        other => panic!("{other:?}"),
    };
    let core = Core::D2025_12_19;
    assert_eq!(silence(Libfota::D2024_12.at_url(core, server("/u"))), 30);
    assert_eq!(
        silence(Libfota::D2025_12_15.at_url(core, server("/u"))),
        180
    );
    let update = Libfota2::Head.update(core, &identity(), server("/u"));
    assert_eq!(silence(update), 600);
}

#[test]
fn the_generations_contain_every_library_and_core_in_order_and_all_update() {
    let fota2 = Libfota2::GENERATIONS;
    let fota = Libfota::GENERATIONS;
    assert!(fota2.is_sorted() && fota.is_sorted());
    for core in Core::ALL {
        assert!(fota2.iter().any(|pair| pair.1 == core), "{core:?}");
        assert!(fota.iter().any(|pair| pair.1 == core), "{core:?}");
    }
    for library in Libfota2::ALL {
        assert!(fota2.iter().any(|pair| pair.0 == library), "{library:?}");
    }
    let good = |_: usize, _: &str| closing(segments(&ok_head(5), b"bytes"));
    for (library, core) in fota2 {
        let mut update = library.update(core, &identity(), server("/u"));
        let outcome = play(&mut update, good).outcome;
        assert_eq!(outcome, Outcome::Updated(b"bytes".to_vec()));
    }
    for (library, core) in fota {
        let mut update = library.official(core, &identity(), server("/u"));
        let outcome = play(&mut update, good).outcome;
        assert_eq!(outcome, Outcome::Updated(b"bytes".to_vec()));
    }
}
