//! Promise: a module gets the one package of the newest release that fits its chip, platform and core.

use super::*;

#[test]
fn a_package_that_does_not_fit_the_module_is_not_offered() {
    let place = Place::new();
    let air780epm = script_package(EC7XX, 23);
    let ec618 = script_package(EC618, 24);
    let delta = delta_package(EC7XX, 25);
    // A package for one platform, one for another family, and a generic name with a package of a family.
    place.drop_firmware(
        "one/2012.001.004/one_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &air780epm,
    );
    place.drop_firmware("ec7xx/1.0.4/update.bin", &air780epm);
    place.drop_firmware("ec618/1.0.4/update.bin", &ec618);
    // From core 2008 only.
    place.drop_firmware(
        "delta/2012.001.004/from-2008/delta_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &delta,
    );
    place.drop_firmware(
        "based/2012.001.004/based_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &delta,
    );
    place.rules(
        "based/2012.001.004/release.json",
        json!({ "base_core": 2008 }),
    );
    // The base core is not stated.
    place.drop_firmware(
        "guess/2012.001.004/guess_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &delta,
    );
    // A core delta for one core, and a script package for the others.
    place.drop_firmware(
        "both/2012.001.004/from-2008/both_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &delta,
    );
    place.drop_firmware(
        "both/2012.001.004/both_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &air780epm,
    );
    let server = Server::start_in(place, &[]);
    let mut rows = Rows::default();
    let none = (404, 26, "no upgrade");
    let soc = CheckForm::luatos;
    for (row, form, bytes) in [
        (
            "its platform",
            soc("one", "Air780EPM", "2012.1.3"),
            Some(&air780epm),
        ),
        ("another platform", soc("one", "Air8000", "2012.1.3"), None),
        ("another family", soc("one", "EC618", "2012.1.3"), None),
        (
            "EC7xx for an 8955",
            CheckForm::luat("ec7xx", IMEI, "1.0.3"),
            None,
        ),
        (
            "EC7xx for an EC618",
            soc("ec7xx", "EC618", "1103.1.3"),
            None,
        ),
        (
            "EC7xx for an EC718P",
            soc("ec7xx", "EC718P", "2012.1.3"),
            Some(&air780epm),
        ),
        (
            "EC7xx for an Air8000",
            soc("ec7xx", "Air8000", "2012.1.3"),
            Some(&air780epm),
        ),
        (
            "EC7xx for an ESP32",
            soc("ec7xx", "ESP32C3", "1004.1.3"),
            None,
        ),
        (
            "EC618 for an EC618",
            soc("ec618", "EC618", "1103.1.3"),
            Some(&ec618),
        ),
        (
            "EC618 for an Air780EPM",
            soc("ec618", "Air780EPM", "2012.1.3"),
            None,
        ),
        (
            "a delta from its base",
            soc("delta", "Air780EPM", "2008.1.3"),
            Some(&delta),
        ),
        (
            "a delta from its base, core alone",
            soc("delta", "Air780EPM", "2008.1.4"),
            Some(&delta),
        ),
        (
            "a delta from another core",
            soc("delta", "Air780EPM", "2007.1.3"),
            None,
        ),
        (
            "a delta from its own core",
            soc("delta", "Air780EPM", "2012.1.3"),
            None,
        ),
        (
            "base_core",
            soc("based", "Air780EPM", "2008.1.3"),
            Some(&delta),
        ),
        ("not base_core", soc("based", "Air780EPM", "2009.1.3"), None),
        (
            "both: the delta",
            soc("both", "Air780EPM", "2008.1.3"),
            Some(&delta),
        ),
        (
            "both: the script",
            soc("both", "Air780EPM", "2012.1.3"),
            Some(&air780epm),
        ),
        ("both: neither", soc("both", "Air780EPM", "2010.1.3"), None),
    ] {
        rows.row(
            row,
            match bytes {
                Some(bytes) => must_get(&server, &form, bytes),
                None => must_be_refused(&server, &form, none.0, none.1, none.2),
            },
        );
    }
    // A file without a stated base core is no release, or a release without a package.
    for version in ["2008.1.3", "2012.1.3"] {
        let form = CheckForm::luatos("guess", "Air780EPM", version);
        rows.row(
            "a delta without a base",
            server.try_get(&form.target()).and_then(|reply| {
                reply
                    .must_refuse(404, 26)
                    .or_else(|_| reply.must_refuse(403, 25))?;
                Device::new(server.udp).must_reply(form.datagram(), "no upgrade")
            }),
        );
    }
    rows.finish();
}

#[test]
fn the_2g_module_itself_never_gets_an_ec7xx_package() {
    let place = Place::new();
    place.drop_firmware("mixed/1.0.4/update.bin", &script_package(EC7XX, 26));
    let server = Server::start_in(place, &[]);
    for name in ["mixed_Luat_V0035_8955", "mixed_Luat_V0040_8955_SSL_TTS"] {
        let form = CheckForm {
            name: name.to_owned(),
            ..CheckForm::luat("mixed", IMEI, "1.0.3")
        };
        must_be_refused(&server, &form, 404, 26, "no upgrade").unwrap();
    }
}

#[test]
fn an_exact_platform_goes_before_the_generic_file_and_the_newest_release_before_both() {
    let place = Place::new();
    let generic = noise(27, 900);
    let exact = script_package(EC7XX, 28);
    let old = noise(29, 800);
    place.drop_firmware("P/2012.001.004/update.bin", &generic);
    place.drop_firmware(
        "P/2012.001.004/P_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &exact,
    );
    place.drop_firmware("P/2012.001.003/P_2012.001.003_LuatOS-SoC_Air8000.bin", &old);
    let server = Server::start_in(place, &[]);
    let mut rows = Rows::default();
    rows.row(
        "exact",
        must_get(
            &server,
            &CheckForm::luatos("P", "Air780EPM", "2012.1.2"),
            &exact,
        ),
    );
    rows.row(
        "generic",
        must_get(
            &server,
            &CheckForm::luatos("P", "Air780EHM", "2012.1.2"),
            &generic,
        ),
    );
    rows.row(
        "newest, though generic",
        must_get(
            &server,
            &CheckForm::luatos("P", "Air8000", "2012.1.2"),
            &generic,
        ),
    );
    rows.finish();
}
