//! Test of rules that are edited through both servers at the same time.

use serde_json::{Value, json};

use super::fleet::PROJECTS;
use super::pair::Pair;
use crate::common;
use common::operator::Operator;
use common::{PATIENCE, luat, wait_until};

/// Number of edits through each server.
const EDITS: u32 = 10;

/// The id of a device that no module of the fleet has.
fn stranger(replica: usize, edit: u32) -> String {
    format!("8629914499{replica}{edit:04}")
}

/// The rules of a project with their ETag.
fn read(operator: &Operator) -> (Value, String) {
    let reply = operator.get(&target());
    let tag = reply.header("etag").unwrap().to_owned();
    (reply.json(), tag)
}

fn target() -> String {
    format!("/api/v1/rules/{}", PROJECTS[1])
}

/// The status of an edit that requires the rules to have this ETag.
fn write(operator: &Operator, tag: &str, rules: &Value) -> u16 {
    let condition = format!("If-Match: {tag}\r\n");
    let rules = rules.to_string();
    operator
        .send("PUT", &target(), &condition, rules.as_bytes())
        .status
}

/// Adds devices to `deny` through both servers. No edit may be lost, and both servers must apply all.
pub fn edit_through_both(pair: &mut Pair) {
    let project = PROJECTS[1];
    pair.shared
        .rules(&format!("{project}/release.json"), json!({"deny": []}));
    let operators = pair.replicas.each_ref().map(|replica| replica.operator());
    let deny = |rules: &Value| rules["deny"].as_array().cloned().unwrap_or_default();
    let conflicts = std::thread::scope(|scope| {
        let writers = [0, 1].map(|replica: usize| {
            let operator = &operators[replica];
            scope.spawn(move || {
                let mut conflicts = 0;
                for edit in 0..EDITS {
                    loop {
                        let (mut rules, tag) = read(operator);
                        let mut denied = deny(&rules);
                        denied.push(stranger(replica, edit).into());
                        rules["deny"] = denied.into();
                        match write(operator, &tag, &rules) {
                            200 => break,
                            412 => conflicts += 1,
                            other => panic!("status {other}"),
                        }
                        assert!(conflicts < 1000);
                    }
                }
                conflicts
            })
        });
        writers.map(|writer| writer.join().unwrap())
    });
    println!("edits: {EDITS} through each server, {conflicts:?} conflicts");
    // A server refuses an edit that is based on rules without the other server's edit.
    let (rules, tag) = read(&operators[0]);
    let mut newer = rules.clone();
    newer["percent"] = json!(100);
    assert_eq!(write(&operators[1], &tag, &newer), 200);
    assert_eq!(write(&operators[0], &tag, &rules), 412);
    // The file contains every edit.
    let path = pair.shared.path(&format!("{project}/release.json"));
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(file["percent"], 100);
    let mut denied: Vec<_> = deny(&file);
    denied.sort_by_key(Value::to_string);
    let all = (0..2).flat_map(|replica| (0..EDITS).map(move |edit| stranger(replica, edit)));
    assert_eq!(denied, all.map(Value::from).collect::<Vec<_>>());
    // Both servers apply the rules.
    for (operator, replica) in operators.iter().zip(&pair.replicas) {
        assert_eq!(read(operator).0, file);
        for stranger in [stranger(0, 0), stranger(1, EDITS - 1)] {
            let check = luat(project, &stranger, "1.0.0");
            wait_until("the device is denied", PATIENCE, || {
                replica.server().get(&check).status != 200
            });
        }
    }
}
