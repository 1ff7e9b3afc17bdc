//! Changes single keys in the text of a JSON object and keeps every other character: order, indentation, the notation
//! of numbers.

use std::ops::Range;

use serde_json::Value;

use crate::firmware::json as strict;

/// A key and its value, with their positions in the text.
struct Member {
    name: String,
    /// Range from the opening quote of the key to the last character of the value.
    whole: Range<usize>,
    value: Range<usize>,
}

/// Returns the object `json` with these keys set, or removed (`None`). The error is a sentence.
pub(super) fn change_keys(json: &str, changes: &[(&str, Option<Value>)]) -> Result<String, String> {
    match strict::parse(json)? {
        Value::Object(_) => {}
        _ => return Err("it is not one JSON object".to_owned()),
    }
    let mut text = json.to_owned();
    for (name, value) in changes {
        text = match value {
            Some(value) => set_key(&text, name, value),
            None => remove_key(text, name),
        };
    }
    Ok(text)
}

/// Returns the text with this key set.
fn set_key(json: &str, name: &str, value: &Value) -> String {
    let members = members(json);
    let mut text = json.to_owned();
    let mut is_there = false;
    // From the end, so that the earlier positions stay valid.
    for member in members.iter().rev().filter(|member| member.name == name) {
        text.replace_range(member.value.clone(), &to_json(value));
        is_there = true;
    }
    if is_there {
        return text;
    }
    let new = format!("{}: {}", to_json(&Value::from(name)), to_json(value));
    let Some(last) = members.last() else {
        return format!("{{\n  {new}\n}}\n");
    };
    // Use the same white space as before the last member.
    let before = json.get(..last.whole.start).unwrap_or_default();
    let gap = before.get(before.trim_end().len()..).unwrap_or_default();
    text.insert_str(last.whole.end, &format!(",{gap}{new}"));
    text
}

fn to_json(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Returns the text without this key.
fn remove_key(mut text: String, name: &str) -> String {
    loop {
        let members = members(&text);
        let Some(at) = members.iter().position(|member| member.name == name) else {
            return text;
        };
        let (before, rest) = members.split_at(at);
        let mut cut = match rest {
            [member, ..] => member.whole.clone(),
            [] => return text,
        };
        if let [_, next, ..] = rest {
            cut.end = next.whole.start;
        } else if let Some(previous) = before.last() {
            cut.start = previous.whole.end;
        }
        text.replace_range(cut, "");
    }
}

/// Returns the members of a JSON object in their order. `json` must be an object.
fn members(json: &str) -> Vec<Member> {
    let mut members = Vec::new();
    let mut start = position_after(json, 0, '{');
    while let Some((Value::String(name), end)) = value_at(json, start) {
        let value = position_after(json, end, ':');
        let Some((_, end)) = value_at(json, value) else {
            break;
        };
        members.push(Member {
            name,
            whole: start..end,
            value: value..end,
        });
        start = position_after(json, end, ',');
    }
    members
}

/// Returns the value that begins at `start`, and its end.
fn value_at(json: &str, start: usize) -> Option<(Value, usize)> {
    let mut values = serde_json::Deserializer::from_str(json.get(start..)?).into_iter();
    let value = values.next()?.ok()?;
    Some((value, start + values.byte_offset()))
}

/// Returns the position of the next value after this character and the white space around it.
fn position_after(json: &str, start: usize, character: char) -> usize {
    let rest = json.get(start..).unwrap_or_default().trim_start();
    let rest = rest.strip_prefix(character).unwrap_or(rest).trim_start();
    json.len() - rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, json};

    fn set(json: &str, name: &str, value: Value) -> String {
        change_keys(json, &[(name, Some(value))]).unwrap()
    }

    fn remove(json: &str, name: &str) -> String {
        change_keys(json, &[(name, None)]).unwrap()
    }

    #[test]
    fn everything_else_stays_as_it_is_written() {
        let file = "{\n\t\"percent\" : 10.0,\n\t\"deny\": [\"1, \\\"paused\\\": 2\", \"}\"],\n\
                    \t\"fuse\": { \"devices\": 3, \"percent\": 2e1 }\n}\r\n";
        assert_eq!(set(file, "percent", json!(25)), file.replace("10.0", "25"));
        assert_eq!(
            set(file, "paused", json!("why \"so\"?")),
            file.replace("2e1 }", "2e1 },\n\t\"paused\": \"why \\\"so\\\"?\"")
        );
        assert_eq!(
            remove(file, "percent"),
            file.replace("\"percent\" : 10.0,\n\t", "")
        );
        assert_eq!(
            remove(file, "fuse"),
            file.replace(",\n\t\"fuse\": { \"devices\": 3, \"percent\": 2e1 }", "")
        );
        assert_eq!(remove(file, "window"), file);
    }

    #[test]
    fn the_first_and_the_last_key_can_be_set_and_removed() {
        assert_eq!(set("{}", "a", json!(1)), "{\n  \"a\": 1\n}\n");
        assert_eq!(set("{\"b\":1}", "a", json!(2)), "{\"b\":1,\"a\": 2}");
        assert_eq!(remove("{ \"a\": 1 }", "a"), "{  }");
        // Case 38: it is unknown which of the two was meant.
        assert!(change_keys("{\"a\":1,\"b\":{},\"a\":[]}", &[("a", None)]).is_err());
    }

    #[test]
    fn a_text_that_is_no_object_is_not_changed() {
        for json in ["", "[]", "{", "{\"a\":1,}", "1 {}"] {
            assert!(change_keys(json, &[]).is_err(), "{json}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~é\\\\\"{}\\[\\],:\n]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c\\\\\"{},:]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_text_has_the_members_of_the_changed_object(
            object in prop::collection::btree_map("[a-c\\\\\"{},:]{0,3}", any_json(), 0..5),
            changes in prop::collection::vec(
                ("[a-c\\\\\"{},:]{0,3}", prop::option::of(any_json())), 0..4),
            pretty in any::<bool>(),
        ) {
            let mut object: Map<String, Value> = object.into_iter().collect();
            let text = if pretty {
                serde_json::to_string_pretty(&object).unwrap()
            } else {
                serde_json::to_string(&object).unwrap()
            };
            let borrowed: Vec<_> = changes.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
            let text = change_keys(&text, &borrowed).unwrap();
            for (name, value) in changes {
                match value {
                    Some(value) => object.insert(name, value),
                    None => object.remove(&name),
                };
            }
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), Value::Object(object));
        }
    }
}
