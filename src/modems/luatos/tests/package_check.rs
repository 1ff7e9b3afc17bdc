//! The package check of the first segment.

use super::*;

#[test]
fn a_text_reply_is_code_minus_9_with_the_package_check_and_garbage_without() {
    let words = br#"{"code": 27, "msg": "\u5df2\u662f\u6700\u65b0\u7248\u672c"}"#;
    for body in [&words[..], &words.repeat(4)] {
        for core in Core::ALL {
            let answer = |_: usize, _: &str| closing(segments(&ok_head(body.len()), body));
            assert_eq!(unchecked(core, answer), "garbage", "{core:?}");
            assert_eq!(word(&run(core, Package::Ec7xx, answer)), "-9", "{core:?}");
        }
    }
}

#[test]
fn the_package_check_refuses_a_wrong_header_at_its_93rd_byte() {
    let mut wrong = file();
    wrong[70] ^= 1;
    for core in Core::ALL {
        let played = run(core, Package::Ec7xx, |_, _| {
            vec![
                ServerAction::Segment(ok_head(wrong.len()).into()),
                ServerAction::Segment(wrong[..93].to_vec()),
            ]
        });
        assert_eq!(word(&played), "-9", "{core:?}");
        assert!(played.ended < Duration::from_secs(1));
    }
}

#[test]
fn a_package_shorter_than_its_header_says_is_busy_as_its_core_is() {
    let file = file();
    let short = &file[..50_000];
    for core in Core::ALL {
        let played = run(core, Package::Ec7xx, |_, _| {
            closing(segments(&ok_head(short.len()), short))
        });
        let (expected, time) = match core {
            core if core < Core::D2025_12_02 => ("never", core.timeout()),
            Core::D2026_05_08 => ("hangs, -9", core.timeout()),
            _ => ("-9", Duration::from_secs(12)),
        };
        assert_eq!(word(&played), expected, "{core:?}");
        assert!(played.ended >= time && played.ended < time + Duration::from_secs(1));
        // The same check rejects the file of the cores that report 200 after a cut.
        if core >= Core::D2025_12_19 && core < Core::D2026_05_08 {
            assert_eq!(word(&run(core, Package::Ec7xx, cut_once)), "-9", "{core:?}");
        }
    }
}

#[test]
fn a_first_segment_that_is_a_whole_package_is_an_update() {
    let small = sample(500);
    for core in Core::ALL {
        let played = run(core, Package::Ec7xx, |_, _| {
            closing(segments("HTTP/1.1 200 OK\r\n\r\n", &small))
        });
        let taken = played.outcome == Outcome::Updated(small.clone());
        assert_eq!(taken, core >= Core::D2025_12_04, "{core:?}: {played:?}");
    }
}
