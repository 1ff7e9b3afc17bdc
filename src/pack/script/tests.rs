use super::*;

fn of_source(source: &str) -> (Option<String>, Option<String>) {
    let identity = source::identity(source.as_bytes());
    (identity.project, identity.version)
}

#[test]
fn literals_that_are_assigned_to_the_globals_are_read() {
    for source in [
        "PROJECT = \"demo\"\nVERSION = \"1.0.2\"",
        "\u{feff}PROJECT='demo';VERSION='1.0.2'",
        "-- PROJECT = \"old\"\nPROJECT = \"demo\" VERSION = \"1.0.2\" require \"sys\"",
        "--[[ PROJECT = \"old\"\n]] PROJECT = [[demo]]\n--[==[ ]] ]==]\nVERSION = [==[\n1.0.2]==]",
        "log.info(\"PROJECT = 'x'\")\nPROJECT = 'demo'\nVERSION = \"1.0.2\" -- the last",
        "local cfg = { PROJECT = \"other\", n = 1, VERSION = \"2.0.0\" }\ncfg.PROJECT = \"third\"\nlocal VERSION = \
         \"3.0.0\"\nPROJECT = \"demo\"\nVERSION = \"1.0.2\"",
        "PROJECT = \"demo\"\nVERSION = \"1.0.2\"\nif PROJECT == \"x\" then PROJECT = \"demo\" end",
    ] {
        let (project, version) = of_source(source);
        let found = (project.as_deref(), version.as_deref());
        assert_eq!(found, (Some("demo"), Some("1.0.2")), "{source}");
    }
}

#[test]
fn a_computed_or_reassigned_value_is_unknown() {
    for source in [
        "PROJECT = \"demo\" .. suffix",
        "PROJECT = (\"demo\")",
        "PROJECT = name or \"demo\"",
        "PROJECT = \"demo\" or name",
        "PROJECT = \"demo\"\nPROJECT = \"other\"",
        "PROJECT, OTHER = \"demo\", 1",
        "OTHER, PROJECT = 1, \"demo\"",
        "PROJECT = 5",
        "_G.PROJECT = \"demo\"",
        "PROJECT",
        "PROJECT = \"demo",
        "PROJECT = \"de\\x6do\"\nPROJECT = \"demo\"",
        "",
    ] {
        let (project, _) = of_source(source);
        assert_eq!(project, None, "{source}");
    }
}

/// Returns a compiled main function with these instructions and constants.
fn compiled(integers: u8, code: &[u32], constants: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"\x1bLua\x53\x00\x19\x93\r\n\x1a\n\x04\x04\x04".to_vec();
    bytes.extend([integers, integers]);
    bytes.extend(vec![0; 2 * usize::from(integers) + 1]);
    bytes.extend(b"\x0a@main.lua\0\0\0\0\0\0\0\0\0\x01\x02");
    bytes.extend((code.len() as u32).to_le_bytes());
    bytes.extend(code.iter().flat_map(|code| code.to_le_bytes()));
    bytes.extend((constants.len() as u32).to_le_bytes());
    for constant in constants {
        bytes.extend([4, constant.len() as u8 + 1]);
        bytes.extend(*constant);
    }
    bytes
}

/// Encodes `SETTABUP`: the global whose name is a constant gets a constant, or with `value` below 256 a register.
fn set(key: u32, value: u32) -> u32 {
    8 | value << 14 | (0x100 + key) << 23
}

#[test]
fn constants_that_a_compiled_script_assigns_to_the_globals_are_read() {
    let constants: [&[u8]; 4] = [b"PROJECT", b"demo", b"VERSION", b"1.0.2"];
    for integers in [4, 8] {
        let bytes = compiled(integers, &[set(0, 0x101), set(2, 0x103)], &constants);
        let identity = compiled::identity(&bytes);
        assert_eq!(identity.project.as_deref(), Some("demo"));
        assert_eq!(identity.version.as_deref(), Some("1.0.2"));
        for length in 0..bytes.len() {
            assert_eq!(compiled::identity(&bytes[..length]), Identity::default());
        }
    }
    // A value from a register was computed.
    let bytes = compiled(4, &[set(0, 1)], &constants);
    assert_eq!(compiled::identity(&bytes), Identity::default());
}

#[test]
fn a_script_that_was_compiled_for_another_core_is_refused() {
    let narrow = compiled(4, &[], &[]);
    let files = |data| {
        [ImageFile {
            name: "main.luac".into(),
            data,
        }]
    };
    for wanted in [None, Some(IntegerSize::Four)] {
        assert_eq!(check_compiled(&files(&narrow), wanted), Ok(()));
    }
    let error = check_compiled(&files(&narrow), Some(IntegerSize::Eight)).unwrap_err();
    assert!(
        error.0.contains("32 bits") && error.0.contains("64"),
        "{error}"
    );
    assert!(check_compiled(&files(b"print(1)"), None).is_err());
}
