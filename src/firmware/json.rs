//! Parser for JSON written by a person. It differs from serde_json in that a repeated key of an object is an error.
//! serde_json keeps the last value, so that `"percent": 0, "percent": 100` would mean 100.

use std::collections::HashSet;

use serde_json::Value;

/// Parses a JSON text. The error is a sentence without a full stop, which names the key if a key is repeated.
pub fn parse(text: &str) -> Result<Value, String> {
    let value =
        serde_json::from_str(text).map_err(|error| format!("this is not valid JSON: {error}"))?;
    match repeated_key(text) {
        None => Ok(value),
        Some(key) => {
            let shown: String = key.chars().take(60).collect();
            Err(format!(
                "the key `{}` appears twice: keep one of them",
                shown.escape_debug()
            ))
        }
    }
}

/// Returns the first key that occurs twice in one object, at any depth. `json` must be valid.
fn repeated_key(json: &str) -> Option<String> {
    // Keys of each object that is open; `None` for an array.
    let mut open: Vec<Option<HashSet<String>>> = Vec::new();
    let mut rest = json.char_indices();
    // The string that ended last. It is a key if a colon follows.
    let mut text = None;
    while let Some((start, character)) = rest.next() {
        match character {
            '{' => open.push(Some(HashSet::new())),
            '[' => open.push(None),
            '}' | ']' => drop(open.pop()),
            '"' => text = json.get(start..text_end(&mut rest)?),
            ':' => {
                // Compare decoded keys: `"per\u0063ent"` is `"percent"`.
                let key: String = serde_json::from_str(text.take()?).ok()?;
                let keys = open.last_mut()?.as_mut()?;
                if let Some(key) = keys.replace(key) {
                    return Some(key);
                }
            }
            _ => {}
        }
    }
    None
}

/// Returns the end of a string whose opening quote was read.
fn text_end(rest: &mut std::str::CharIndices<'_>) -> Option<usize> {
    while let Some((at, character)) = rest.next() {
        match character {
            '\\' => drop(rest.next()),
            '"' => return at.checked_add(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_repeated_key_is_named() {
        for (text, key) in [
            (r#"{"percent":0,"percent":100}"#, "percent"),
            (r#"{"paused":true,"x":[1,{}],"paused":true}"#, "paused"),
            (
                r#"{"fuse":{"devices":3,"percent":20,"devices":4}}"#,
                "devices",
            ),
            (r#"[{"a":1},{"b":[{"c":1,"c":2}]}]"#, "c"),
            (r#"{"per\u0063ent":0,"percent":1}"#, "percent"),
            (r#"{"a\"b":0,"a\"b":1}"#, r#"a\"b"#),
            (r#"{"":0,"":1}"#, ""),
            ("{\n \"a\" : 1 ,\n \"a\"\t: 2 }", "a"),
        ] {
            let sentence = parse(text).unwrap_err();
            let named = format!("the key `{key}` appears twice");
            assert!(sentence.starts_with(&named), "{text}: {sentence}");
        }
    }

    #[test]
    fn the_same_key_of_two_objects_is_no_mistake() {
        for text in [
            r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}"#,
            r#"{"a":"a","b":"\"a\":1,\"a\":2"}"#,
            r#"{"a":1,"A":2," a":3}"#,
            r#"["a","a",":"]"#,
            r#""a""#,
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        assert!(
            parse("{")
                .unwrap_err()
                .starts_with("this is not valid JSON")
        );
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert_eq!(parse(r#"{"a":[1,"x"]}"#), Ok(json!({"a": [1, "x"]})));
    }

    proptest! {
        #[test]
        fn a_value_that_serde_json_writes_is_read_unchanged(keys in prop::collection::hash_map(".*", ".*", 0..8)) {
            let value = json!({ "inner": keys });
            prop_assert_eq!(parse(&value.to_string()), Ok(value));
        }

        #[test]
        fn any_key_twice_is_found(key in ".*", other in ".*") {
            let (name, value) = (Value::from(key), Value::from(other));
            let text = format!("[{{{name}:{value},\"x\":{{}},{name}:[]}}]");
            prop_assert!(parse(&text).is_err());
        }
    }
}
