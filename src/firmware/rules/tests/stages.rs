//! Tests of the stages of a rollout.

use super::*;

#[test]
fn stages_are_a_list_of_growing_shares_with_a_time_each() {
    let rules = read(
        r#"{"stages": [{"percent": 0.5}, {"percent": 10, "after": "24h"}, {"after": "30d", "percent": 100}]}"#,
    );
    let stages: Vec<_> = rules
        .stages
        .iter()
        .flatten()
        .map(|stage| (stage.percent, stage.after))
        .collect();
    assert_eq!(stages, [(0.5, 0), (10.0, 86_400), (100.0, 30 * 86_400)]);
    let words: Vec<_> = rules.words().into_iter().map(|(_, words)| words).collect();
    assert_eq!(words, ["stages 0.5, 10, 100 percent"]);
    for (wrong, parts) in [
        (
            r#"{"stages": [], "percent": 5}"#,
            &["`stages` is a list", "such as [{"][..],
        ),
        (r#"{"stages": {"percent": 1}}"#, &["`stages` is an object"]),
        (r#"{"stages": [1]}"#, &["`stages[0]` is 1"]),
        (r#"{"stages": [{}]}"#, &["`stages[0].percent` is null"]),
        (
            r#"{"stages": [{"percent": 101}]}"#,
            &["`stages[0].percent` is 101"],
        ),
        (
            r#"{"stages": [{"percent": 1, "for": "1h"}]}"#,
            &["`stages[0]`", "`for`"],
        ),
        (
            r#"{"stages": [{"percent": 1, "after": "1h"}]}"#,
            &["`stages[0].after`", "at once"],
        ),
        (
            r#"{"stages": [{"percent": 1}, {"percent": 2}]}"#,
            &["`stages[1].after` is null"],
        ),
        (
            r#"{"stages": [{"percent": 1}, {"percent": 2, "after": "31d"}]}"#,
            &["`stages[1].after`", "30 days"],
        ),
        (
            r#"{"stages": [{"percent": 2}, {"percent": 2, "after": "1h"}]}"#,
            &["`stages[1].percent` must be more"],
        ),
        (
            r#"{"percent": 5, "stages": [{"percent": 1}]}"#,
            &["`stages`: `percent` is set as well"],
        ),
    ] {
        refused(wrong, parts);
    }
    let many: Vec<String> = (1..=21)
        .map(|n| format!(r#"{{"percent": {n}, "after": "1h"}}"#))
        .collect();
    refused(
        &format!(r#"{{"stages": [{}]}}"#, many.join(", ")),
        &["more than 20 stages"],
    );
}

#[test]
fn percent_or_stages_of_a_release_replace_both_of_its_project() {
    let percent = read(r#"{"percent": 5}"#);
    let stages = read(r#"{"stages": [{"percent": 1}]}"#);
    let none = Rules::default();
    for (own, project, is_percent) in [
        (&percent, &stages, true),
        (&stages, &percent, false),
        (&none, &stages, false),
        (&none, &percent, true),
    ] {
        let merged = own.over(project);
        assert_eq!(
            (merged.percent.is_some(), merged.stages.is_some()),
            (is_percent, !is_percent)
        );
    }
}
