//! Parses release.json: one small function per kind of value, each with its own sentence for an error.

use serde_json::{Map, Value};
use strsim::osa_distance;

use super::{FromVersions, FuseLimits, MAX_BYTES, Paused, Redirect, Rules, Stage, Window, time};
use crate::firmware::audience::DeviceSet;
use crate::firmware::json;
use crate::firmware::version::Version;

/// Maximum length of the sentence in `paused`, in characters.
const LONGEST_REASON: usize = 500;

/// Sentence about a file that has both keys.
const BOTH_KEYS: &str = "`stages`: `percent` is set as well: keep one of the two";

/// All keys of `fuse`.
const FUSE_KEYS: [&str; 2] = ["devices", "percent"];

/// Parses the whole file.
pub(super) fn rules(json: &[u8]) -> Result<Rules, String> {
    let mut rules = Rules::default();
    for (key, value) in &object(json)? {
        rules.set(key, value)?;
    }
    match rules.percent.is_some() && rules.stages.is_some() {
        true => Err(BOTH_KEYS.to_owned()),
        false => Ok(rules),
    }
}

/// Returns all faults of the file: the key, if the fault is in one, and the sentence.
pub(super) fn problems(json: &[u8]) -> Vec<(Option<String>, String)> {
    let object = match object(json) {
        Ok(object) => object,
        Err(why) => return vec![(None, why)],
    };
    let mut rules = Rules::default();
    let wrong = |(key, value): (&String, &Value)| {
        let why = rules.set(key, value).err()?;
        Some((Some(key.clone()), why))
    };
    let mut all: Vec<_> = object.iter().filter_map(wrong).collect();
    if object.contains_key("percent") && object.contains_key("stages") {
        all.push((Some("stages".to_owned()), BOTH_KEYS.to_owned()));
    }
    all
}

/// Parses the file as a JSON object.
fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(
            "the file has more than 16 MiB: write ranges instead of single IMEIs".to_owned(),
        );
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.trim_ascii().is_empty() {
        return Err("the file is empty: write `{}` for no rules, or delete it".to_owned());
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| "the file is not UTF-8: save it again in that encoding".to_owned())?;
    match json::parse(text)? {
        Value::Object(object) => Ok(object),
        _ => Err("the file must be one JSON object: `{ \"percent\": 10 }`".to_owned()),
    }
}

/// Adds the key to the sentence about its value.
fn with_key<T>(key: &str, result: Result<T, String>) -> Result<T, String> {
    result.map_err(|why| format!("`{key}`: {why}"))
}

/// Returns the error for a value of the wrong type or outside its bounds.
fn wrong<T>(key: &str, value: &Value, should_be: &str) -> Result<T, String> {
    Err(format!(
        "`{key}` is {}, but must be {should_be}",
        shown(value)
    ))
}

/// Returns a value as written in the file, shortened if it is long.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => {
            let text = serde_json::to_string(text).unwrap_or_default();
            match text.char_indices().nth(60) {
                Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
                None => text,
            }
        }
    }
}

/// Returns the sentence about an unknown key.
pub(super) fn unknown_key(key: &str, keys: &[&str]) -> String {
    let shown: String = key.chars().take(60).collect();
    // The beginning of a long text is enough.
    let typed: String = key.to_ascii_lowercase().chars().take(40).collect();
    let nearest = keys
        .iter()
        .min_by_key(|known| osa_distance(&typed, known))
        .copied()
        .unwrap_or_default();
    format!(
        "there is no key `{}`: the nearest is `{nearest}`",
        shown.escape_debug()
    )
}

pub(super) fn flag(key: &str, value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        _ => wrong(key, value, "true or false, without quotes"),
    }
}

/// Parses a text that is not empty.
fn nonempty<'v>(key: &str, value: &'v Value) -> Result<&'v str, String> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        _ => wrong(key, value, "a text in quotes"),
    }
}

pub(super) fn text(key: &str, value: &Value) -> Result<String, String> {
    nonempty(key, value).map(str::to_owned)
}

pub(super) fn window(key: &str, value: &Value) -> Result<Window, String> {
    with_key(key, Window::parse(nonempty(key, value)?))
}

pub(super) fn moment(key: &str, value: &Value) -> Result<i64, String> {
    with_key(key, time::moment(nonempty(key, value)?))
}

pub(super) fn redirect(key: &str, value: &Value) -> Result<Redirect, String> {
    with_key(key, Redirect::parse(nonempty(key, value)?))
}

pub(super) fn percent(key: &str, value: &Value) -> Result<f64, String> {
    match value.as_f64() {
        Some(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => wrong(key, value, "a number from 0 to 100, without quotes or `%`"),
    }
}

/// Parses a number that is at least 1.
pub(super) fn count(key: &str, value: &Value) -> Result<u32, String> {
    match value.as_u64().and_then(|count| u32::try_from(count).ok()) {
        Some(count) if count > 0 => Ok(count),
        _ => wrong(
            key,
            value,
            "a whole number above 0, such as 2008, without quotes",
        ),
    }
}

/// Parses a list of texts, none of them empty.
fn list<'v>(key: &str, value: &'v Value) -> Result<Vec<&'v str>, String> {
    let Value::Array(list) = value else {
        return wrong(
            key,
            value,
            "a list of texts in brackets, such as [\"a\", \"b\"]",
        );
    };
    list.iter()
        .enumerate()
        .map(|(index, entry)| match entry {
            Value::String(text) if !text.is_empty() => Ok(text.as_str()),
            _ => wrong(
                &format!("{key}[{index}]"),
                entry,
                "a text in quotes (IMEIs and versions too)",
            ),
        })
        .collect()
}

pub(super) fn texts(key: &str, value: &Value) -> Result<Vec<String>, String> {
    Ok(list(key, value)?.into_iter().map(str::to_owned).collect())
}

pub(super) fn devices(key: &str, value: &Value) -> Result<DeviceSet, String> {
    with_key(key, DeviceSet::parse(list(key, value)?))
}

/// Parses `true`, `false`, or the reason of the pause.
pub(super) fn paused(key: &str, value: &Value) -> Result<Paused, String> {
    match value {
        Value::Bool(true) => Ok(Paused::Yes),
        Value::Bool(false) => Ok(Paused::No),
        Value::String(reason)
            if !reason.trim().is_empty()
                && reason.chars().count() <= LONGEST_REASON
                && !reason.chars().any(char::is_control) =>
        {
            Ok(Paused::Because(reason.trim().to_owned()))
        }
        _ => wrong(
            key,
            value,
            "true, false, or a sentence of one line and at most 500 characters",
        ),
    }
}

/// Parses `"1.9.0"`, `"1.9.0-2.0.0"`, or a list of exact texts.
pub(super) fn from(key: &str, value: &Value) -> Result<FromVersions, String> {
    let should_be =
        "a version (\"1.9.0\"), a range (\"1.9.0-2.0.0\") or a list of exact texts ([\"factory\"])";
    match value {
        Value::Array(_) => texts(key, value).map(FromVersions::Texts),
        Value::String(text) => match (Version::parse(text), text.split_once('-')) {
            (Some(one), _) => Some(FromVersions::One(one)),
            (None, None) => None,
            (None, Some((first, last))) => match (Version::parse(first), Version::parse(last)) {
                (Some(first), Some(last)) if first > last => {
                    return Err(format!(
                        "`{key}` is {}, which ends before it begins: swap its two ends",
                        shown(value)
                    ));
                }
                (Some(first), Some(last)) => Some(FromVersions::Range(first, last)),
                _ => None,
            },
        }
        .map_or_else(|| wrong(key, value, should_be), Ok),
        _ => wrong(key, value, should_be),
    }
}

/// All keys of a stage.
const STAGE_KEYS: [&str; 2] = ["percent", "after"];

/// Maximum number of stages.
const MAX_STAGES: usize = 20;

/// Longest time before a stage, in seconds.
const LONGEST_STAGE: u32 = 30 * 24 * 60 * 60;

/// Parses `[{ "percent": 1 }, { "percent": 100, "after": "24h" }]`. Each stage has more percent than the one before.
pub(super) fn stages(key: &str, value: &Value) -> Result<Vec<Stage>, String> {
    let should_be =
        "a list of stages such as [{ \"percent\": 1 }, { \"percent\": 100, \"after\": \"24h\" }]";
    let list = match value {
        Value::Array(list) if (1..=MAX_STAGES).contains(&list.len()) => list,
        Value::Array(list) if !list.is_empty() => {
            return Err(format!("`{key}` has more than {MAX_STAGES} stages"));
        }
        _ => return wrong(key, value, should_be),
    };
    let mut stages: Vec<Stage> = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let key = format!("{key}[{index}]");
        let Value::Object(object) = value else {
            return wrong(
                &key,
                value,
                "an object such as { \"percent\": 10, \"after\": \"24h\" }",
            );
        };
        if let Some(other) = object
            .keys()
            .find(|key| !STAGE_KEYS.contains(&key.as_str()))
        {
            return Err(format!("`{key}`: {}", unknown_key(other, &STAGE_KEYS)));
        }
        let share = object.get("percent").unwrap_or(&Value::Null);
        let share = percent(&format!("{key}.percent"), share)?;
        if stages.last().is_some_and(|before| share <= before.percent) {
            return Err(format!(
                "`{key}.percent` must be more than that of the stage before"
            ));
        }
        let name = format!("{key}.after");
        let after = match (object.get("after"), stages.is_empty()) {
            (None, true) => 0,
            (Some(_), true) => {
                return Err(format!(
                    "`{name}`: the first stage begins at once: leave it out"
                ));
            }
            (after, false) => {
                let after = after.unwrap_or(&Value::Null);
                time_span(&name, after, LONGEST_STAGE, "30 days")?
            }
        };
        stages.push(Stage {
            percent: share,
            after,
        });
    }
    Ok(stages)
}

/// Longest time that may pass before a reboot, in seconds.
const LONGEST_REBOOT: u32 = 7 * 24 * 60 * 60;

/// Parses a time of at most seven days, in seconds.
pub(super) fn duration(key: &str, value: &Value) -> Result<u32, String> {
    time_span(key, value, LONGEST_REBOOT, "7 days")
}

/// Parses `"12h"`, `"90m"` or `"2d"` into seconds: more than 0 and at most `longest`, which the sentence shows as
/// `shown`.
fn time_span(key: &str, value: &Value, longest: u32, shown: &str) -> Result<u32, String> {
    let should_be =
        &format!("a time such as \"12h\", \"90m\" or \"2d\", in quotes and at most {shown}");
    let seconds = |text: &str| {
        let text = text.trim();
        let at = text.len().checked_sub(1)?;
        let (number, unit) = text.split_at_checked(at)?;
        let unit: u32 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            "d" => 24 * 60 * 60,
            _ => return None,
        };
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        number.parse::<u32>().ok()?.checked_mul(unit)
    };
    match value.as_str().and_then(seconds) {
        Some(seconds) if (1..=longest).contains(&seconds) => Ok(seconds),
        _ => wrong(key, value, should_be),
    }
}

/// Parses `{ "devices": 3, "percent": 20 }`.
pub(super) fn fuse(key: &str, value: &Value) -> Result<FuseLimits, String> {
    let should_be = "an object with both its keys, such as { \"devices\": 3, \"percent\": 20 }";
    let Value::Object(object) = value else {
        return wrong(key, value, should_be);
    };
    if let Some(other) = object.keys().find(|key| !FUSE_KEYS.contains(&key.as_str())) {
        return Err(format!("`{key}`: {}", unknown_key(other, &FUSE_KEYS)));
    }
    match (object.get("devices"), object.get("percent")) {
        (Some(devices), Some(share)) => Ok(FuseLimits {
            devices: count("fuse.devices", devices)?,
            percent: percent("fuse.percent", share)?,
        }),
        _ => wrong(key, value, should_be),
    }
}
