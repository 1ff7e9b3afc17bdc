//! `POST /api/v1/explain`: the output of `luat-ota explain`, with the server's record of the device.

use std::time::Instant;

use serde_json::{Map, Value};

use super::releases::established;
use crate::decision::Check;
use crate::explain::{CheckFields, explain, from_request};
use crate::export;
use crate::fleet::clock::unix_now;
use crate::operator::body::RequestBody;
use crate::operator::context::OperatorContext;
use crate::operator::response::{ApiResult, Response};
use crate::operator::slice::Slice;
use crate::wire::dialects::datagram;

pub(super) async fn post(context: &OperatorContext, body: &mut RequestBody<'_>) -> ApiResult {
    let body = super::json_object(body).await?;
    let check = check(&body).map_err(Response::unprocessable)?;
    Ok(Response::json(&explanation(context, check).await))
}

/// Builds the check that a body describes, by a request or by its parts. The error is a sentence.
fn check(body: &Map<String, Value>) -> Result<Check<'_>, String> {
    let text = |key: &str| match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("{key} must be a text")),
    };
    if let Some(request) = text("request")? {
        return from_request(request.as_bytes());
    }
    let core_version = match body.get("core_version") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(text.parse().map_err(|_| CORE)?),
        Some(number) => Some(number.to_string().parse().map_err(|_| CORE)?),
    };
    let need_oss_url = match body.get("need_oss_url") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(need)) => *need,
        Some(_) => return Err("need_oss_url must be true or false".to_owned()),
    };
    let fields = CheckFields {
        device: text("imei")?.unwrap_or_default(),
        firmware_name: text("firmware_name")?,
        version: text("version")?.unwrap_or_default(),
        core_version,
        project_key: text("project_key")?,
        need_oss_url,
    };
    if fields.firmware_name.is_none() {
        return Err("no request: give request, or imei, firmware_name and version".to_owned());
    }
    let mut check = fields.check();
    match text("proto")? {
        None | Some("http") => {}
        Some("udp") => check.largest = Some(datagram::LARGEST),
        Some(_) => return Err("proto must be http or udp".to_owned()),
    }
    Ok(check)
}

const CORE: &str = "core_version must be a number";

/// Returns the current decision on a check, with the record of its device.
pub(super) async fn explanation(context: &OperatorContext, mut check: Check<'_>) -> Value {
    let catalog = (context.catalog)();
    check.complete(&catalog);
    let projects = std::iter::once(check.project());
    let established = established(context, projects, &mut Slice::begin()).await;
    let fleet = context.fleet.borrow();
    let known = fleet.known_for_operator(&check, Instant::now());
    let explanation = explain(&catalog, known, &check, unix_now());
    let project = catalog.project(check.project());
    let stages = project.map(|project| fleet.stage_texts(project, Instant::now(), unix_now()));
    // The reason why the same check may get another reply later.
    let unknown = fleet.few_established_after(&established, check.project());
    let remarks = stages.into_iter().flatten().chain(unknown);
    export::explanation(&explanation, remarks)
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
    fn a_check_that_cannot_be_explained_gives_a_sentence() {
        for (value, part) in [
            (json!({}), "no request: give request"),
            (json!({"request": 5}), "request must be a text"),
            (json!({"request": "/index.html"}), "is not a check"),
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
