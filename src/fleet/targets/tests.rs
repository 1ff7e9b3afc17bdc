use super::*;
use crate::fleet::short_version::ShortVersion;

const NOW: Stamp = Stamp(1 << 31);

#[test]
fn a_release_is_suspect_by_the_reverts_of_all_of_its_files() {
    let mut targets = Targets::default();
    let project = targets.intern_project("P").unwrap();
    for (content, outcome) in [
        (1, Outcome::Reverted),
        (2, Outcome::Reverted),
        (3, Outcome::Confirmed),
    ] {
        let content = ContentId([content; 32]);
        let id = targets
            .intern(project, "2.0.0", content, 1000, NOW)
            .unwrap();
        assert_eq!(
            targets.suspects().count(),
            if content.0[0] < 2 { 0 } else { 1 }
        );
        let journey = Journey {
            outcome: Some(outcome),
            ..Journey::offered(id, ShortVersion::of("1.0.0"), NOW)
        };
        targets.moved(None, Some(journey));
    }
    let suspects: Vec<_> = targets.suspects().collect();
    assert_eq!(suspects, [("P", "2.0.0", 2)]);
}
