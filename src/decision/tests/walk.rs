//! Tests of the walk over the releases: loop guard, fuse, downgrades and their notes.

use super::*;

const PATH: &str = "P/2.0.0/u.bin";

fn with(json: &str) -> Catalog {
    generic(&[PATH], &[("P/2.0.0/release.json", json)])
}

fn old() -> Check<'static> {
    check("P_Luat_V0035_8955", "1.0.0")
}

#[test]
fn a_held_content_stops_the_walk() {
    let catalog = generic(&["P/1.5.0/u.bin", PATH], &[]);
    let Verdict::Offer(offer) = ask(&catalog, &old()) else {
        panic!("not offered");
    };
    let question = Question {
        catalog: &catalog,
        known: Known {
            held: {
                let mut held = HeldContents::default();
                held.add(ContentId([9; 32]), false);
                held.add(offer.package.content, false);
                held
            },
            ..Known::default()
        },
        check: &old(),
        unix: NOON,
    };
    let verdict = decide(&question, &mut Notes::off());
    assert_eq!(answer(verdict), Err(Refusal::Looping));
    let known = Known {
        is_unknown_device: true,
        ..Known::default()
    };
    let verdict = decide(&Question { known, ..question }, &mut Notes::off());
    assert_eq!(answer(verdict), Err(Refusal::UnknownDevice));
}

#[test]
fn a_release_that_the_fuse_paused_is_only_for_trials() {
    let asked = |rules: &str, fused: &[Fused], may_try_fused: bool| {
        let catalog = generic(&["P/1.5.0/u.bin", PATH], &[("P/2.0.0/release.json", rules)]);
        let check = old();
        let question = Question {
            catalog: &catalog,
            known: Known {
                fused,
                may_try_fused,
                ..Known::default()
            },
            check: &check,
            unix: NOON,
        };
        answer(decide(&question, &mut Notes::off())).map(str::to_owned)
    };
    let older = Ok("P/1.5.0/u.bin".to_owned());
    let newest = Ok(PATH.to_owned());
    let by_fuse = format!("{{\"paused\": \"{FUSE}3 of 9 devices came back\"}}");
    assert_eq!(asked(&by_fuse, &[], false), older);
    assert_eq!(asked(&by_fuse, &[], true), newest);
    // A pause that an operator wrote applies to all devices.
    for paused in ["true", "\"the fuse: has tripped\""] {
        let by_hand = format!("{{\"paused\": {paused}}}");
        assert_eq!(asked(&by_hand, &[], true), older);
    }
    let kept = |version: &str| {
        [Fused {
            project: "P".into(),
            version: version.into(),
            sentence: format!("{FUSE}3 of 9").into(),
        }]
    };
    assert_eq!(asked("{}", &kept("2.0.0"), false), older);
    assert_eq!(asked("{}", &kept("2.0.0"), true), newest);
    assert_eq!(asked("{}", &kept("2.0.1"), false), newest);
}

#[test]
fn a_downgrade_is_offered_only_if_it_is_allowed_and_not_undone_afterwards() {
    let newer = check("P", "3.0.0");
    assert_no(&with("{}"), &newer, Refusal::NothingNewer);
    let back = with(r#"{"allow_downgrade": true}"#);
    assert_offer(&back, &newer, PATH);
    assert_no(&back, &check("P", "2.0.0"), Refusal::NothingNewer);
    let both = |json| {
        generic(
            &[PATH, "P/3.0.0/u.bin"],
            &[
                ("P/2.0.0/release.json", r#"{"allow_downgrade": true}"#),
                ("P/3.0.0/release.json", json),
            ],
        )
    };
    assert_no(&both("{}"), &newer, Refusal::NothingNewer);
    // A window that is closed now opens again tomorrow.
    let shut = both(r#"{"window": "01:00-05:00Z"}"#);
    assert_no(&shut, &newer, Refusal::NothingNewer);
    assert_offer(&both(r#"{"paused": true}"#), &newer, PATH);
}

#[test]
fn an_unknown_project_is_refused() {
    assert_no(&with("{}"), &check("Q", "1.0.0"), Refusal::UnknownProject);
    assert_no(&with("{}"), &check("", "1.0.0"), Refusal::NoProject);
}

#[test]
fn notes_name_every_release_that_was_considered() {
    let catalog = generic(
        &["P/1.5.0/u.bin", PATH],
        &[("P/2.0.0/release.json", r#"{"paused": "waiting for Li"}"#)],
    );
    let mut notes = Notes::collecting();
    let question = Question {
        catalog: &catalog,
        known: Known::default(),
        check: &old(),
        unix: NOON,
    };
    decide(&question, &mut notes);
    let text: Vec<String> = notes
        .list()
        .iter()
        .map(|note| format!("{} {}", note.release, note.text))
        .collect();
    let text = text.join("\n");
    assert!(text.contains("2.0.0 refused: waiting for Li"), "{text}");
    assert!(text.contains("1.5.0 offered: P/1.5.0/u.bin"), "{text}");
}
