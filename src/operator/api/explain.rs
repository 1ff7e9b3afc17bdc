//! `POST /api/v1/explain`: what `luat-ota explain` says, with what is remembered of the device.

use std::time::Instant;

use http_types::StatusCode;
use serde_json::{Map, Value};

use super::{object, or_null};
use crate::decision::{Check, Verdict};
use crate::explain::{Described, explain, from_request};
use crate::operator::body::Incoming;
use crate::operator::reply::Reply;
use crate::operator::{Desk, unix_now};
use crate::wire::datagram;

pub(super) async fn answer(desk: &Desk, body: &mut Incoming<'_>) -> Reply {
    let said = match super::json(body).await {
        Ok(said) => said,
        Err(reply) => return reply,
    };
    match check(&said) {
        Ok(check) => explained(desk, &check),
        Err(sentence) => Reply::problem(StatusCode::UnprocessableEntity, sentence),
    }
}

/// The check that is described, by a request or by its parts.
fn check(said: &Map<String, Value>) -> Result<Check<'_>, String> {
    let text = |key: &str| match said.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("{key} must be a text")),
    };
    if let Some(request) = text("request")? {
        return from_request(request.as_bytes());
    }
    let core_version = match said.get("core_version") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(text.parse().map_err(|_| CORE.to_owned())?),
        Some(number) => Some(
            number
                .as_u64()
                .and_then(|number| u32::try_from(number).ok())
                .ok_or_else(|| CORE.to_owned())?,
        ),
    };
    let need_oss_url = match said.get("need_oss_url") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(need)) => *need,
        Some(_) => return Err("need_oss_url must be true or false".to_owned()),
    };
    let described = Described {
        device: text("imei")?.unwrap_or_default(),
        firmware_name: text("firmware_name")?,
        version: text("version")?.unwrap_or_default(),
        core_version,
        project_key: text("project_key")?,
        need_oss_url,
    };
    if described.firmware_name.is_none() {
        return Err(
            "what shall be explained? Give request, or imei, firmware_name and version".to_owned(),
        );
    }
    let mut check = described.check();
    match text("proto")? {
        None | Some("http") => {}
        Some("udp") => check.largest = Some(datagram::LARGEST),
        Some(_) => return Err("proto must be http or udp".to_owned()),
    }
    Ok(check)
}

const CORE: &str = "core_version must be a number";

fn explained(desk: &Desk, check: &Check<'_>) -> Reply {
    let catalog = (desk.catalog)();
    let (now, unix) = (Instant::now(), unix_now());
    let fleet = desk.fleet.borrow();
    let mut check = check.clone();
    check.complete(&catalog);
    let check = &check;
    let known = fleet.known_of(check, now);
    let explanation = explain(&catalog, known, check, unix);
    let (word, release, package, reason) = match &explanation.verdict {
        Verdict::Offer(offer) => (
            "offer",
            Some(offer.release.version_text.as_ref()),
            Some(offer.package.path.as_ref()),
            format!("{} is offered", offer.release.version_text),
        ),
        Verdict::Refuse(refused) => (
            "refuse",
            refused.release.map(|release| release.version_text.as_ref()),
            None,
            refused.to_string(),
        ),
    };
    let note = |(release, text): (&str, &str)| {
        object([("release", release.into()), ("text", text.into())])
    };
    let notes = explanation.notes.list().iter();
    let notes = notes.map(|note| (note.release.as_str(), note.text.as_str()));
    // What the answer may depend on tomorrow.
    let unknown = fleet.unknown(check.project());
    let unknown = unknown.as_deref().map(|text| ("", text));
    let notes: Vec<Value> = notes.chain(unknown).map(note).collect();
    let udp = match &explanation.udp_reason {
        Some(reason) => format!("{} ({reason})", explanation.udp),
        None => explanation.udp,
    };
    let http = object([
        ("status", explanation.status.into()),
        ("code", or_null(explanation.code)),
    ]);
    Reply::json(&object([
        ("verdict", word.into()),
        ("http", http),
        ("udp", udp.into()),
        ("release", or_null(release)),
        ("package", or_null(package)),
        ("reason", reason.into()),
        ("notes", notes.into()),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(value: &Value) -> Result<Check<'_>, String> {
        check(value.as_object().unwrap())
    }

    #[test]
    fn a_request_and_its_parts_describe_the_same() {
        let request = json!({"request": "862991443753386,ALIYUN_Luat_V0035_8955,2.0.0"});
        let parts = json!({
            "imei": "862991443753386",
            "firmware_name": "ALIYUN_Luat_V0035_8955",
            "version": "2.0.0",
            "proto": "udp",
            "core_version": "",
        });
        let (one, other) = (of(&request).unwrap(), of(&parts).unwrap());
        assert_eq!(one.project(), other.project());
        assert_eq!((one.device, one.version), (other.device, other.version));
    }

    #[test]
    fn what_cannot_be_explained_is_a_sentence() {
        for (value, part) in [
            (json!({}), "what shall be explained"),
            (json!({"request": 5}), "request must be a text"),
            (json!({"request": "/index.html"}), "no update check"),
            (
                json!({"firmware_name": "A", "core_version": -1}),
                "a number",
            ),
            (json!({"firmware_name": "A", "proto": "ftp"}), "http or udp"),
            (
                json!({"firmware_name": "A", "need_oss_url": 1}),
                "true or false",
            ),
        ] {
            let sentence = of(&value).unwrap_err();
            assert!(sentence.contains(part), "{value}: {sentence}");
        }
    }
}
