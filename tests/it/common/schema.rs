//! A validator for the subset of JSON Schema that `openapi.json` uses. An unknown keyword is an error.

use serde_json::Value;

/// Checks a value against a schema. The error names the place that does not match.
pub fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let fail = |why: String| Err(format!("{at}: {why}"));
    for (key, rule) in schema.as_object().unwrap() {
        match key.as_str() {
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                let target = root.pointer(pointer);
                let target = target.unwrap_or_else(|| panic!("no {pointer}"));
                check(root, target, value, at)?;
            }
            "anyOf" => {
                let fits = |one: &Value| check(root, one, value, at).is_ok();
                if !rule.as_array().unwrap().iter().any(fits) {
                    return fail(format!("none of anyOf: {value}"));
                }
            }
            "type" => {
                let is = |kind: &str| match kind {
                    "null" => value.is_null(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "number" => value.is_number(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    other => panic!("type {other}"),
                };
                let good = match rule {
                    Value::String(kind) => is(kind),
                    Value::Array(kinds) => kinds.iter().any(|kind| is(kind.as_str().unwrap())),
                    other => panic!("type {other}"),
                };
                if !good {
                    return fail(format!("{value} is no {rule}"));
                }
            }
            "enum" => {
                if !rule.as_array().unwrap().contains(value) {
                    return fail(format!("{value} is none of {rule}"));
                }
            }
            "required" => {
                for name in rule.as_array().unwrap() {
                    if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
                        return fail(format!("no {name}"));
                    }
                }
            }
            "properties" => {
                for (name, inner) in rule.as_object().unwrap() {
                    if let Some(found) = value.get(name) {
                        check(root, inner, found, &format!("{at}.{name}"))?;
                    }
                }
            }
            "additionalProperties" => {
                let known = schema["properties"].as_object().unwrap();
                for name in value.as_object().into_iter().flat_map(|map| map.keys()) {
                    if !known.contains_key(name) {
                        return fail(format!("{name} is not described"));
                    }
                }
            }
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{at}[{n}]"))?;
                }
            }
            "minimum" => {
                if value
                    .as_f64()
                    .is_some_and(|number| number < rule.as_f64().unwrap())
                {
                    return fail(format!("{value} is below {rule}"));
                }
            }
            "minItems" | "maxItems" => {
                let wanted = rule.as_u64().unwrap() as usize;
                let count = value.as_array().map_or(wanted, Vec::len);
                if (key == "minItems" && count < wanted) || (key == "maxItems" && count > wanted) {
                    return fail(format!("{count} items"));
                }
            }
            "pattern" => {
                // The only pattern that the schema contains.
                assert_eq!(rule, "^[0-9a-f]{64}$");
                let hex = |text: &str| {
                    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                };
                if !value.as_str().is_some_and(hex) {
                    return fail(format!("{value} is no SHA-256"));
                }
            }
            "format" => {
                assert_eq!(rule, "date-time");
                let form = |text: &str| {
                    text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T'
                };
                if !value.is_null() && !value.as_str().is_some_and(form) {
                    return fail(format!("{value} is no time"));
                }
            }
            other => panic!("the checker does not know {other}"),
        }
    }
    Ok(())
}

/// The schema of the reply with this status to a method and a path (with names in braces).
pub fn of_reply<'s>(root: &'s Value, method: &str, path: &str, status: u16) -> &'s Value {
    let responses = &root["paths"][path][method.to_lowercase()]["responses"];
    assert!(responses.is_object(), "{method} {path} is not described");
    let reply = match responses.get(status.to_string()) {
        Some(reply) => reply,
        None => &responses["default"],
    };
    let content = reply["content"].as_object().expect("a content");
    &content.values().next().unwrap()["schema"]
}
