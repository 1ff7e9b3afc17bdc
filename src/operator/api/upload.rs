//! `PUT /api/v1/firmware/…`: upload of a file to the firmware folder. The body goes piece by piece to a thread that
//! writes and inspects it.

use std::sync::Arc;

use serde_json::json;
use smol::channel::bounded;

use super::base64;
use crate::firmware::ContentId;
use crate::firmware::catalog::Catalog;
use crate::firmware::name;
use crate::firmware::plain;
use crate::firmware::receive::{Intake, StoredFile, UploadError};
use crate::firmware::rules::{Paused, Rules};
use crate::fleet::entry::ChangeEntry;
use crate::operator::blocking::start_thread;
use crate::operator::body::RequestBody;
use crate::operator::codec::StatusCode;
use crate::operator::context::OperatorContext;
use crate::operator::head::RequestHead;
use crate::operator::response::{ApiResult, Effect, Response};

/// Size of the largest file, in bytes.
const LARGEST: u64 = 256 << 20;

/// Maximum number of pieces that wait to be written.
const QUEUE: usize = 4;

/// A message for the writing thread.
enum UploadPiece {
    Bytes(Vec<u8>),
    /// The end of the file, and the catalogue at that time.
    End(Arc<Catalog>),
}

/// Receives a file. `parts`: the parts of its path.
pub(super) async fn put(
    context: &OperatorContext,
    head: &RequestHead,
    parts: &[String],
    body: &mut RequestBody<'_>,
) -> ApiResult {
    let size = length(body, LARGEST, "no firmware has more than 256 MiB")?;
    let digest = head
        .header("repr-digest")?
        .map(digest)
        .transpose()?
        .flatten();
    let rules = head.header("release-rules")?.map(rules).transpose()?;
    let only_new = head.header("if-none-match")?.is_some();
    let _slot = context.uploads.try_acquire().ok_or_else(busy)?;
    let path = parts.join("/");
    let (pieces, received) = bounded(QUEUE);
    let (outcome_sender, outcome) = bounded(1);
    let (root, target) = (context.folder.clone(), path.clone());
    start_thread("upload", move || {
        let write = || {
            let mut intake = Intake::begin(&root, &target, size)?;
            loop {
                match received.recv_blocking() {
                    Ok(UploadPiece::Bytes(bytes)) => intake.add(&bytes)?,
                    Ok(UploadPiece::End(catalog)) => {
                        let stored = intake.finish(&root, &catalog, digest, rules.as_deref())?;
                        return Ok(Some(stored));
                    }
                    // The upload was interrupted.
                    Err(_) => return Ok(None),
                }
            }
        };
        // Sent before `received` is dropped, so that the outcome is available after a failed send.
        let _ = outcome_sender.try_send(write());
    })?;
    loop {
        // After an error the channel is closed, and the thread removes its file.
        let piece = body.next().await.inspect_err(|_| {
            log::info!(target: "operator", path = path.as_str(); "an upload was interrupted");
        })?;
        let is_end = piece.is_empty();
        let piece = match is_end {
            true => UploadPiece::End((context.catalog)()),
            false => UploadPiece::Bytes(piece),
        };
        if pieces.send(piece).await.is_err() || is_end {
            break;
        }
    }
    match outcome.recv().await {
        Ok(Ok(Some(taken))) if taken.existed && only_new => Err(Response::problem(
            StatusCode::PreconditionFailed,
            format!("{path} exists already with the same content"),
        )),
        Ok(Ok(Some(taken))) => Ok(done(context, &path, &taken)),
        Ok(Err(refused)) => Err(refuse(&path, refused)),
        Ok(Ok(None)) | Err(_) => Err(Response::problem(
            StatusCode::InternalServerError,
            "the upload was stopped",
        )),
    }
}

/// Returns the announced length of a file. Fails if the length is missing or exceeds `largest` bytes; the latter is
/// reported with the sentence `too_large`.
pub(super) fn length(body: &RequestBody<'_>, largest: u64, too_large: &str) -> ApiResult<u64> {
    match body.length() {
        None => Err(Response::problem(
            StatusCode::LengthRequired,
            "send the file's length as Content-Length",
        )),
        Some(size) if size > largest => {
            Err(Response::problem(StatusCode::PayloadTooLarge, too_large))
        }
        Some(size) => Ok(size),
    }
}

/// Returns the response while the maximum number of files is being received.
pub(super) fn busy() -> Response {
    let sentence = "too many files are being uploaded: try again later";
    Response::unavailable(sentence).with("retry-after", "5")
}

fn done(context: &OperatorContext, path: &str, taken: &StoredFile) -> Response {
    let (size, content) = (taken.inspected.size, taken.inspected.content);
    let status = match taken.existed {
        true => StatusCode::Ok,
        false => StatusCode::Created,
    };
    if !taken.existed {
        // Needed on a file system that reports no changes.
        (context.rescan)();
    }
    let shown = json!({"path": path, "size": size, "sha256": content.to_string()});
    let effect = match (taken.existed, name::firmware_path(path)) {
        (true, _) => Effect::Nothing,
        (false, Ok(of)) => Effect::Change(Box::new(ChangeEntry::new(
            ChangeEntry::UPLOAD,
            of.project,
            of.version_text,
            &format!("{path}, {size} bytes, sha256 {content}"),
        ))),
        (false, Err(_)) => Effect::Unstated,
    };
    let response = Response::json(&shown).with_status(status);
    response.with_effect(effect)
}

fn refuse(path: &str, refused: UploadError) -> Response {
    let (status, sentence) = match refused {
        UploadError::Wrong(sentence) => (StatusCode::UnprocessableEntity, sentence),
        UploadError::NameTaken(sentence) => (StatusCode::Conflict, sentence),
        UploadError::Full(sentence) => (StatusCode::InsufficientStorage, sentence),
        UploadError::Unwritable(sentence) => (StatusCode::InternalServerError, sentence),
    };
    log::info!(target: "operator", path = path; "an upload was refused: {sentence}");
    Response::problem(status, sentence)
}

/// Parses `Release-Rules`: the JSON of a release.json in one line of ASCII (other characters as `\uXXXX`). A head has
/// at most 8 KiB; longer rules are PUT before the file.
fn rules(text: &str) -> ApiResult<Vec<u8>> {
    let wrong = |why: String| Response::unprocessable(format!("Release-Rules: {why}"));
    let rules = Rules::parse(text.as_bytes()).map_err(wrong)?;
    if let Some(Paused::Because(why)) = &rules.paused {
        plain::text(why).map_err(wrong)?;
    }
    Ok(format!("{}\n", text.trim()).into_bytes())
}

/// Parses `sha-256=:BASE64:` of a Repr-Digest (RFC 9530 section 2); `None` if only other algorithms are named.
fn digest(text: &str) -> ApiResult<Option<ContentId>> {
    let mut digests = text.split(',').map(str::trim);
    let Some(digest) = digests.find_map(|digest| digest.strip_prefix("sha-256=")) else {
        return Ok(None);
    };
    digest
        .strip_prefix(':')
        .and_then(|rest| rest.strip_suffix(':'))
        .and_then(base64::decode)
        .and_then(|bytes| bytes.try_into().ok())
        .map(|bytes| Some(ContentId(bytes)))
        .ok_or_else(|| {
            Response::bad_request("Repr-Digest must look like sha-256=:BASE64 OF 32 BYTES:")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_parsed() {
        let zeros = format!("sha-256=:{}=:", "A".repeat(43));
        assert_eq!(digest(&zeros).unwrap(), Some(ContentId([0; 32])));
        let both = format!("md5=:x:, {zeros}");
        assert_eq!(digest(&both).unwrap(), Some(ContentId([0; 32])));
        assert_eq!(digest("md5=:AAAA:").unwrap(), None);
        for wrong in ["sha-256=:AAAA:", "sha-256=AAAA", "sha-256=:", "sha-256=:!:"] {
            assert!(digest(wrong).is_err(), "{wrong}");
        }
    }
}
