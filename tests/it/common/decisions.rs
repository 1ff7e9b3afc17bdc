//! Decisions on checks, with a fleet in memory.

use std::time::Instant;

use luat_ota::decision::{Check, Notes, Question, Verdict, decide};
use luat_ota::firmware::catalog::Catalog;
use luat_ota::fleet::Fleet;
use luat_ota::fleet::requester::Requester;

/// Decides on a device's check, and records the decision.
pub fn decide_and_record<'c>(
    fleet: &mut Fleet,
    catalog: &'c Catalog,
    check: &Check<'_>,
    who: &Requester,
    now: Instant,
) -> Verdict<'c> {
    let verdict = {
        let question = Question {
            catalog,
            known: fleet.known(check, Some(who), now),
            check,
            unix: 1_800_000_000,
        };
        decide(&question, &mut Notes::off())
    };
    fleet.record_check(check, Some(who), &verdict, false, now);
    verdict
}
