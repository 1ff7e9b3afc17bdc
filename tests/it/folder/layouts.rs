//! Tests of layouts and names in the firmware folder.

use super::*;

#[test]
fn all_layouts_of_the_folder_mean_the_same_and_may_be_mixed() {
    let place = Place::new();
    let script = script_package(EC7XX, 130);
    let delta = delta_package(EC7XX, 131);
    let plain: Vec<Vec<u8>> = (0..6).map(|n| noise(132 + n, 700 + n as usize)).collect();
    place.drop_firmware("ALIYUN/0.2.1/update.bin", &plain[0]);
    place.drop_firmware(
        "ALIYUN/2012.001.004/ALIYUN_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &script,
    );
    place.drop_firmware(
        "ALIYUN/2012.001.004/from-2008/ALIYUN_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &delta,
    );
    place.drop_firmware("ALIYUN_0.2.2/update.bin", &plain[1]);
    place.drop_firmware("FOTA2_DEMO_2012.001.001_LuatOS-SoC_Air780EPM.bin", &script);
    place.drop_firmware("my_app/v1.2/固件.ota", &plain[2]);
    place.drop_firmware("中文_项目_3.1.0/update.dfota.bin", &plain[3]);
    place.drop_firmware("app_3.0.5_Luat_V0022_RDA8910.dfota.bin", &plain[4]);
    place.drop_firmware("esp/1.0.1/image.BIN", &luadb(140));
    let (good, said) = check(&place);
    assert!(good, "nothing is wrong here: {said}");
    let server = Server::start_in(place, &[]);
    let rda = format!(
        "/luat/update?imei={IMEI}&firmware_name=app_Luat_RDA8910&core_version=22&dfota=1&version=3.0.4"
    );
    let soc = |project, version| luatos(project, "Air780EPM", IMEI, version);
    let mut rows = Rows::default();
    for (what, target, bytes) in [
        (
            "a folder in a project",
            luat("ALIYUN", IMEI, "0.2.0"),
            &plain[1],
        ),
        (
            "project and version in one name",
            luat("ALIYUN", IMEI, "0.2.1"),
            &plain[1],
        ),
        ("only for its platform", soc("ALIYUN", "2012.1.3"), &script),
        ("a delta from its core", soc("ALIYUN", "2008.1.3"), &delta),
        (
            "Luatools' file as it is",
            soc("FOTA2_DEMO", "2012.1.0"),
            &script,
        ),
        (
            "underscores and a v",
            luat("my_app", IMEI, "1.1.9"),
            &plain[2],
        ),
        ("Chinese", luat("中文_项目", IMEI, "3.0.9"), &plain[3]),
        (
            "Chinese, encoded",
            luat("%E4%B8%AD%E6%96%87_%E9%A1%B9%E7%9B%AE", IMEI, "3.0.9"),
            &plain[3],
        ),
        ("an 8910's file", rda, &plain[4]),
        (
            "any case of the ending",
            luat("esp", IMEI, "1.0.0"),
            &luadb(140),
        ),
    ] {
        rows.row(
            what,
            server
                .wait_for_reply(&get(&target), PATIENCE, |reply| reply.body == *bytes)
                .and_then(|reply| reply.must_be_file(bytes)),
        );
    }
    // The same name in GBK.
    let mut request = b"GET /luat/update?imei=1&firmware_name=".to_vec();
    request.extend_from_slice(&[0xD6, 0xD0, 0xCE, 0xC4, b'_', 0xCF, 0xEE, 0xC4, 0xBF]);
    request.extend_from_slice(b"_Luat_V0017_ASR1802&version=3.0.9 HTTP/1.1\r\nHost: h\r\n\r\n");
    rows.row(
        "Chinese in GBK",
        server
            .try_http(&request)
            .and_then(|reply| reply.must_be_file(&plain[3])),
    );
    rows.finish();
}

#[test]
fn a_project_whose_name_ends_like_a_version_can_have_a_folder() {
    let place = Place::new();
    let bytes = noise(145, 700);
    place.drop_firmware("GPS_4G_2/1.0.1/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("GPS_4G_2", IMEI, "1.0.0"), &bytes);
}

#[test]
fn contradictory_and_meaningless_names_are_quarantined() {
    let place = Place::new();
    let bytes = noise(141, 600);
    // A file name with another version or project than its folder.
    place.drop_firmware("A/1.0.1/A_1.0.2_LuatOS-SoC_Air780EPM.bin", &bytes);
    place.drop_firmware("B/1.0.1/C_1.0.1_LuatOS-SoC_Air780EPM.bin", &bytes);
    // No version.
    place.drop_firmware("D/update.bin", &bytes);
    place.drop_firmware("stray.bin", &bytes);
    place.drop_firmware("E/latest/update.bin", &bytes);
    place.drop_firmware("F/1.0.1/from-nowhere/update.bin", &bytes);
    // Two files for the same modules.
    place.drop_firmware("G/1.0.1/update.bin", &bytes);
    place.drop_firmware("G/1.0.1/other.bin", &noise(142, 600));
    // Two files with the same bytes are no contradiction.
    place.drop_firmware("H/1.0.1/update.bin", &bytes);
    place.drop_firmware("H/1.0.1/other.bin", &bytes);
    let (good, said) = check(&place);
    assert!(!good, "{said}");
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("H", IMEI, "1.0.0"), &bytes);
    let mut rows = Rows::default();
    for name in [
        "A_1.0.2_LuatOS-SoC_Air780EPM.bin",
        "C_1.0.1_LuatOS-SoC_Air780EPM.bin",
        "D/update.bin",
        "stray.bin",
        "latest",
        "from-nowhere",
        "G/1.0.1/update.bin",
        "G/1.0.1/other.bin",
    ] {
        rows.row(
            name,
            if said.contains(name) {
                Ok(())
            } else {
                Err(format!("not named by `check`: {said}"))
            },
        );
    }
    for project in ["A", "B", "C", "D", "E", "F", "G", "stray"] {
        for target in [
            luat(project, IMEI, "0.0.1"),
            luatos(project, "Air780EPM", IMEI, "1103.0.1"),
        ] {
            rows.row(
                project,
                server.try_get(&target).and_then(|reply| {
                    ensure!(reply.status != 200, "served: {}", reply.head);
                    Ok(())
                }),
            );
        }
    }
    rows.finish();
}
