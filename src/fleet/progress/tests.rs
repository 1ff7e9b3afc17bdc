use super::*;

const NOW: Stamp = Stamp(1_000_000);
const SIZE: u64 = 1000;

fn offered() -> Progress {
    Progress::offered(TargetId(3), ShortVersion::of("1.0.0"), NOW)
}

fn delivered() -> Progress {
    let progress = offered().begun().acknowledged(0, SIZE, NOW);
    progress.delivered(SIZE, false, NOW)
}

fn sent() -> Progress {
    let progress = offered().begun().acknowledged(0, SIZE, NOW);
    progress.delivered(SIZE, true, NOW)
}

const HERE: Circumstances = Circumstances {
    same_place: true,
    same_session: false,
    reboot_within: 0,
    is_given: false,
};

const ELSEWHERE: Circumstances = Circumstances {
    same_place: false,
    ..HERE
};

fn state(progress: Option<Progress>) -> Option<State> {
    progress.map(|progress| progress.state)
}

#[test]
fn bytes_count_only_where_they_join_those_before() {
    let progress = offered().acknowledged(500, 600, NOW);
    assert_eq!((progress.state, progress.reached), (State::Offered, 0));
    let progress = offered()
        .acknowledged(0, 400, NOW)
        .acknowledged(500, SIZE, NOW);
    assert_eq!(progress.state, State::Downloading);
    assert_eq!(progress.reached, 400);
    assert_eq!(
        progress.delivered(SIZE, false, NOW).state,
        State::Downloading
    );
    let progress = progress
        .acknowledged(300, 700, NOW)
        .acknowledged(700, SIZE, NOW);
    assert_eq!(progress.delivered(SIZE, false, NOW).state, State::Delivered);
}

#[test]
fn ranges_of_a_kilobyte_make_one_delivery() {
    let mut progress = offered().begun();
    for start in (0..SIZE).step_by(100) {
        progress = progress.acknowledged(start, start + 100, NOW);
    }
    assert_eq!(progress.delivered(SIZE, false, NOW).state, State::Delivered);
}

#[test]
fn a_download_that_begins_again_has_no_bytes() {
    let progress = offered().acknowledged(0, 900, NOW).begun();
    assert_eq!(progress.reached, 0);
    let progress = progress.acknowledged(900, SIZE, NOW);
    assert_eq!(
        progress.delivered(SIZE, false, NOW).state,
        State::Downloading
    );
}

#[test]
fn the_new_version_confirms_in_every_state_and_cancels_a_revert() {
    for progress in [
        offered(),
        offered().acknowledged(0, 5, NOW),
        delivered(),
        sent(),
    ] {
        let back = progress.back(Back::New, ELSEWHERE, NOW.plus(1)).unwrap();
        assert_eq!(back.state, State::Confirmed);
        assert_eq!(back.outcome, Some(Outcome::Confirmed));
    }
    let reverted = delivered().back(Back::Old, HERE, NOW.plus(90)).unwrap();
    assert_eq!(reverted.outcome, Some(Outcome::Reverted));
    let back = reverted.back(Back::New, HERE, NOW.plus(500)).unwrap();
    assert_eq!(back.state, State::Confirmed);
    assert_eq!(back.outcome, Some(Outcome::Confirmed));
}

// Case 30.
#[test]
fn the_old_version_is_a_revert_after_three_seconds() {
    let old = |check, after| state(delivered().back(Back::Old, check, NOW.plus(after)));
    assert_eq!(old(HERE, TOO_SOON), Some(State::Delivered));
    assert_eq!(old(HERE, 12), Some(State::Reverted));
    assert_eq!(old(ELSEWHERE, 12), Some(State::Delivered));
    let in_session = Circumstances {
        same_session: true,
        ..HERE
    };
    assert_eq!(old(in_session, 60), Some(State::Delivered));
    assert_eq!(old(in_session, 61), Some(State::Reverted));
    let under_way = offered().acknowledged(0, 999, NOW);
    let back = under_way.back(Back::Old, HERE, NOW.plus(999));
    assert_eq!(state(back), Some(State::Downloading));
}

// Case 30b.
#[test]
fn a_postponed_reboot_is_awaited_as_long_as_the_rules_allow() {
    let check = Circumstances {
        reboot_within: 12 * 3600,
        ..HERE
    };
    let mut progress = delivered();
    for hours in [1, 5, 9, 11] {
        progress = progress
            .back(Back::Old, check, NOW.plus(hours * 3600))
            .unwrap();
        assert_eq!((progress.state, progress.outcome), (State::Waiting, None));
    }
    let late = progress.back(Back::Old, check, NOW.plus(12 * 3600));
    assert_eq!(state(late), Some(State::Reverted));
    let new = progress.back(Back::New, check, NOW.plus(12 * 3600 - 1));
    assert_eq!(state(new), Some(State::Confirmed));
    let silent = delivered().waited(3 * 600 + 1, 600, 12 * 3600, NOW);
    assert_eq!(silent.state, State::Delivered);
}

#[test]
fn a_fallback_within_a_day_of_the_confirmation_is_a_revert() {
    let confirmed = delivered().back(Back::New, HERE, NOW).unwrap();
    let old = |check, after| state(confirmed.back(Back::Old, check, NOW.plus(after)));
    assert_eq!(old(HERE, 5), Some(State::Reverted));
    assert_eq!(old(HERE, 23 * 3600), Some(State::Reverted));
    assert_eq!(old(ELSEWHERE, 600), Some(State::Confirmed));
    assert_eq!(old(HERE, 25 * 3600), None);
    // The proxy received the whole file.
    let confirmed = sent().back(Back::New, HERE, NOW).unwrap();
    let back = confirmed.back(Back::Old, HERE, NOW.plus(600));
    assert_eq!(state(back), Some(State::Reverted));
}

// Case 29.
#[test]
fn a_device_that_always_reports_the_new_version_first_stays_reverted_for_a_day() {
    let confirmed = delivered().back(Back::New, HERE, NOW).unwrap();
    let fallen = confirmed.back(Back::Old, HERE, NOW.plus(40)).unwrap();
    assert_eq!(fallen.outcome, Some(Outcome::FellBack));
    // Without another download the new version cancels the revert.
    let back = fallen.back(Back::New, HERE, NOW.plus(80)).unwrap();
    assert_eq!(back.outcome, Some(Outcome::Confirmed));
    let again = fallen.begun().acknowledged(0, SIZE, NOW.plus(80));
    let again = again.delivered(SIZE, false, NOW.plus(80));
    let again = again.back(Back::New, HERE, NOW.plus(120)).unwrap();
    assert_eq!(
        (again.state, again.outcome),
        (State::Confirmed, Some(Outcome::FellBack))
    );
    let later = again
        .back(Back::New, HERE, NOW.plus(121 + FALLBACK))
        .unwrap();
    assert_eq!(later.outcome, Some(Outcome::Confirmed));
}

// Case 29b.
#[test]
fn a_rollback_by_the_rules_is_no_revert() {
    let confirmed = delivered().back(Back::New, HERE, NOW).unwrap();
    let given = Circumstances {
        is_given: true,
        ..HERE
    };
    assert_eq!(confirmed.back(Back::Old, given, NOW.plus(600)), None);
}

#[test]
fn a_device_behind_a_proxy_is_reverted_from_its_second_weak_attempt_in_a_row() {
    let again = |progress: Progress| {
        let progress = progress.begun().acknowledged(0, SIZE, NOW);
        progress.delivered(SIZE, true, NOW)
    };
    let first = sent().back(Back::Old, HERE, NOW.plus(30)).unwrap();
    assert_eq!((first.state, first.outcome), (State::Offered, None));
    let second = again(first).back(Back::Old, HERE, NOW.plus(30)).unwrap();
    assert_eq!(second.outcome, Some(Outcome::Reverted));
    let confirmed = again(first).back(Back::New, HERE, NOW.plus(30)).unwrap();
    assert_eq!((confirmed.state, confirmed.weak), (State::Confirmed, 0));
    // Silence in between makes no difference.
    let silent = again(first).waited(9999, 60, 0, NOW);
    let back = silent.back(Back::Old, HERE, NOW.plus(9999));
    assert_eq!(state(back), Some(State::Reverted));
}

#[test]
fn an_incomparable_version_ends_the_update_without_a_result() {
    assert_eq!(delivered().back(Back::Other, HERE, NOW), None);
    assert_eq!(offered().back(Back::Other, ELSEWHERE, NOW), None);
    let elsewhere = delivered().back(Back::Other, ELSEWHERE, NOW);
    assert_eq!(state(elsewhere), Some(State::Delivered));
}

#[test]
fn a_device_is_silent_after_three_intervals_and_never_before_the_delivery() {
    assert_eq!(
        delivered().waited(3 * 600, 600, 0, NOW).state,
        State::Delivered
    );
    let silent = delivered().waited(3 * 600 + 1, 600, 0, NOW);
    assert_eq!(silent.state, State::Silent);
    assert_eq!(
        delivered().waited(3 * 86_400, 0, 0, NOW).state,
        State::Delivered
    );
    assert_eq!(
        offered().waited(u32::MAX, 600, 0, NOW).state,
        State::Offered
    );
    let back = silent.back(Back::Old, HERE, NOW.plus(9999));
    assert_eq!(state(back), Some(State::Reverted));
}

#[test]
fn a_second_download_after_a_revert_is_tracked() {
    let reverted = delivered().back(Back::Old, HERE, NOW.plus(90)).unwrap();
    let again = reverted.begun().acknowledged(0, 10, NOW.plus(91));
    assert_eq!((again.state, again.reached), (State::Downloading, 10));
}
