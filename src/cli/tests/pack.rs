//! Command lines of `pack`.

use super::*;

#[test]
fn pack_takes_one_soc_file_or_scripts_for_a_core_or_a_file_to_show() {
    let args = line(&[], &["pack", "a.soc"]).pack;
    assert_eq!(args.inputs, [Path::new("a.soc")]);
    let words = ["pack", "--core", "c.soc", "src", "logo.png", "-o", "out"];
    let args = line(&[], &words).pack;
    assert_eq!(args.core.as_deref(), Some(Path::new("c.soc")));
    assert_eq!(args.inputs, [Path::new("src"), Path::new("logo.png")]);
    assert_eq!(args.output.as_deref(), Some(Path::new("out")));
    let args = line(&[], &["pack", "--show=x.bin"]).pack;
    assert_eq!(args.show.as_deref(), Some(Path::new("x.bin")));
    for (words, part) in [
        (&["pack"][..], "no .soc file"),
        (&["pack", "src", "lib"], "--core"),
        (&["pack", "--core", "c.soc"], "no scripts"),
        (&["pack", "--show", "x", "y"], "--show only lists one file"),
        (&["pack", "-x"], "unknown flag -x"),
        (&["check", "-o", "x"], "unknown flag -o"),
    ] {
        let sentence = wrong(&[], words);
        assert!(sentence.contains(part), "{words:?}: {sentence}");
    }
}

#[test]
fn every_flag_of_pack_is_stored_also_from_its_variable() {
    for flag in flags::of(Command::Pack) {
        let words: &[&str] = match flag.name {
            "show" => &["pack"],
            _ => &["pack", "x"],
        };
        let variable = format!("LUAT_OTA_PACK_{}", flag.name.to_uppercase());
        let by_variable = line(&[(&variable, "v")], words);
        let own = format!("--{}=v", flag.name);
        let by_flag = line(&[], &[words, &[own.as_str()]].concat());
        assert_eq!(format!("{by_variable:?}"), format!("{by_flag:?}"));
        assert!(format!("{by_flag:?}").contains("\"v\""), "{}", flag.name);
    }
}
