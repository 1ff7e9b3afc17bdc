use super::*;
use crate::fleet::brief::Brief;
use crate::fleet::journey::State;

const NOW: Stamp = Stamp(1 << 31);

/// A device came back from this content, from this network.
fn comes_back(targets: &mut Targets, target: TargetId, reverted: bool, network: u8) {
    let network = Some(Network::V4([192, 0, network]));
    let mut journey = Journey::offered(target, Brief::of("1.0.0"), NOW);
    journey.state = match reverted {
        true => State::Reverted,
        false => State::Confirmed,
    };
    journey.heard = targets.hear(target, reverted, network);
    targets.moved(None, Some(journey));
}

#[test]
fn a_release_is_judged_by_each_of_its_files_and_by_all_of_them() {
    let mut targets = Targets::default();
    let project = targets.intern_project("P").unwrap();
    let mut file = |content| {
        let content = ContentId([content; 32]);
        targets
            .intern(project, "2.0.0", content, 1000, NOW)
            .unwrap()
    };
    let (one, two, three) = (file(1), file(2), file(3));
    // A device of each of three platforms, each in a network of its own.
    comes_back(&mut targets, one, true, 1);
    comes_back(&mut targets, two, true, 2);
    comes_back(&mut targets, three, true, 3);
    comes_back(&mut targets, three, false, 3);
    targets.seen_in(project, Network::V4([192, 0, 1]));
    targets.seen_in(project, Network::V4([192, 0, 2]));
    let heard: Vec<_> = targets.heard().collect();
    let single = |confirmed| fuse::Heard {
        confirmed,
        reverted: 1,
        spread: false,
    };
    let all = fuse::Heard {
        confirmed: 1,
        reverted: 3,
        spread: true,
    };
    let each = [single(0), single(0), single(1), all];
    assert_eq!(heard, each.map(|heard| ("P", "2.0.0", heard)));
}

#[test]
fn what_came_back_with_the_new_version_alone_is_nothing_to_judge() {
    let mut targets = Targets::default();
    let project = targets.intern_project("P").unwrap();
    let id = targets.intern(project, "2.0.0", ContentId([1; 32]), 1000, NOW);
    comes_back(&mut targets, id.unwrap(), false, 1);
    assert_eq!(targets.heard().count(), 0);
}
