//! `PUT /api/v1/firmware/…`: a file for the folder. The body goes to a thread that writes and inspects
//! it, piece by piece; the reply is what became of it there.

use std::path::Path;
use std::sync::Arc;

use http_types::StatusCode;
use smol::channel::{Receiver, bounded};

use super::object;
use crate::firmware::ContentId;
use crate::firmware::catalog::Catalog;
use crate::firmware::plain;
use crate::firmware::receive::{Intake, Refused, Taken};
use crate::firmware::rules::{Paused, Rules};
use crate::operator::body::Incoming;
use crate::operator::head::{Asked, Length};
use crate::operator::reply::Reply;
use crate::operator::{Desk, base64};
use crate::os::process::start_thread;

/// The largest file, in bytes.
const LARGEST: u64 = 256 << 20;

/// Pieces on their way to the disk.
const AHEAD: usize = 4;

/// What the writing thread is told.
enum Piece {
    Bytes(Vec<u8>),
    /// That was all. The catalogue is the one of now.
    End(Arc<Catalog>),
}

/// A place among the uploads, given back on drop.
struct Slot<'d>(&'d Desk);

impl<'d> Slot<'d> {
    fn take(desk: &'d Desk) -> Option<Slot<'d>> {
        if desk.uploads.get() >= desk.limits.uploads {
            return None;
        }
        desk.uploads.set(desk.uploads.get().saturating_add(1));
        Some(Slot(desk))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.uploads.set(self.0.uploads.get().saturating_sub(1));
    }
}

/// Takes a file in. `parts`: of its path.
pub(super) async fn upload(
    desk: &Desk,
    asked: &Asked,
    parts: &[String],
    body: &mut Incoming<'_>,
) -> Reply {
    match take(desk, asked, parts, body).await {
        Ok(reply) | Err(reply) => reply,
    }
}

async fn take(
    desk: &Desk,
    asked: &Asked,
    parts: &[String],
    body: &mut Incoming<'_>,
) -> Result<Reply, Reply> {
    let size = match body.length() {
        Length::Missing => {
            return Err(Reply::problem(
                StatusCode::LengthRequired,
                "send the file's length as Content-Length",
            ));
        }
        Length::Bytes(size) if size > LARGEST => {
            return Err(Reply::problem(
                StatusCode::PayloadTooLarge,
                "no firmware has more than 256 MiB",
            ));
        }
        Length::Bytes(size) => size,
    };
    let digest = match asked.header("repr-digest").map_err(Reply::bad)? {
        None => None,
        Some(text) => digest(text)?,
    };
    let rules = match asked.header("release-rules").map_err(Reply::bad)? {
        None => None,
        Some(text) => Some(rules(text)?),
    };
    let only_new = asked.header("if-none-match").map_err(Reply::bad)?.is_some();
    let Some(_slot) = Slot::take(desk) else {
        return Err(Reply::problem(
            StatusCode::ServiceUnavailable,
            "other files are on their way: try again when they are done",
        )
        .with("retry-after", "5"));
    };
    let path = parts.join("/");
    let (pieces, to_write) = bounded(AHEAD);
    let (say, said) = bounded(1);
    let (root, target) = (desk.folder.clone(), path.clone());
    let write = move || {
        let written = match Intake::begin(&root, &target, size) {
            Ok(intake) => write(intake, &to_write, &root, digest, rules.as_deref()),
            Err(refused) => Some(Err(refused)),
        };
        // Before the channel of the pieces closes: whoever finds that closed looks here.
        if let Some(outcome) = written {
            let _nobody_waits_any_more = say.try_send(outcome);
        }
    };
    start_thread("upload", Box::new(write)).map_err(|_| {
        Reply::problem(
            StatusCode::ServiceUnavailable,
            "the machine has no thread to spare: try again",
        )
    })?;
    loop {
        let piece = match body.next().await {
            Ok(piece) => piece,
            // With the channel's end the thread removes what there is.
            Err(cut) => {
                log::info!(target: "operator", path = path.as_str(); "an upload was cut");
                return Err(cut.reply());
            }
        };
        let end = piece.is_empty();
        let piece = match end {
            true => Piece::End((desk.catalog)()),
            false => Piece::Bytes(piece),
        };
        // An error: the thread has ended, and has said why.
        if pieces.send(piece).await.is_err() || end {
            break;
        }
    }
    let taken = match said.recv().await {
        Ok(Ok(taken)) => taken,
        Ok(Err(refused)) => return Err(refuse(&path, refused)),
        Err(_) => {
            return Err(Reply::problem(
                StatusCode::InternalServerError,
                "the upload was given up",
            ));
        }
    };
    if taken.was_there && only_new {
        return Err(Reply::problem(
            StatusCode::PreconditionFailed,
            format!("{path} is there already, with the same bytes"),
        ));
    }
    Ok(done(desk, &path, &taken))
}

/// The thread: writes pieces until the end, or (`None`) until nobody sends any more.
fn write(
    mut intake: Intake,
    pieces: &Receiver<Piece>,
    root: &Path,
    digest: Option<ContentId>,
    rules: Option<&[u8]>,
) -> Option<Result<Taken, Refused>> {
    loop {
        match pieces.recv_blocking().ok()? {
            Piece::Bytes(bytes) => {
                if let Err(refused) = intake.add(&bytes) {
                    return Some(Err(refused));
                }
            }
            Piece::End(catalog) => return Some(intake.finish(root, &catalog, digest, rules)),
        }
    }
}

fn done(desk: &Desk, path: &str, taken: &Taken) -> Reply {
    let Taken {
        inspected,
        was_there,
    } = taken;
    let content = inspected.content;
    if !was_there {
        log::info!(
            target: "operator",
            path = path, size = inspected.size, sha256:% = content;
            "uploaded"
        );
        // Where the kernel reports no changes it would be found only at the next scan.
        (desk.rescan)();
    }
    let status = match was_there {
        true => StatusCode::Ok,
        false => StatusCode::Created,
    };
    Reply::json(&object([
        ("path", path.into()),
        ("size", inspected.size.into()),
        ("sha256", content.to_string().into()),
    ]))
    .with_status(status)
}

fn refuse(path: &str, refused: Refused) -> Reply {
    let (status, sentence) = match refused {
        Refused::Wrong(sentence) => (StatusCode::UnprocessableEntity, sentence),
        Refused::Taken(sentence) => (StatusCode::Conflict, sentence),
        Refused::Full(sentence) => (StatusCode::InsufficientStorage, sentence),
        Refused::Unwritable(sentence) => (StatusCode::InternalServerError, sentence),
    };
    log::info!(target: "operator", path = path; "an upload was refused: {sentence}");
    Reply::problem(status, sentence)
}

/// `Release-Rules`: the JSON of a release.json in one line of ASCII (other characters as `\uXXXX`). A header has
/// room for 8 KiB; longer rules are PUT before the file.
fn rules(text: &str) -> Result<Vec<u8>, Reply> {
    let wrong = |why: String| {
        Reply::problem(
            StatusCode::UnprocessableEntity,
            format!("Release-Rules: {why}"),
        )
    };
    let rules = Rules::parse(text.as_bytes()).map_err(wrong)?;
    if let Some(Paused::Because(why)) = &rules.paused {
        plain::text(why).map_err(wrong)?;
    }
    Ok(format!("{}\n", text.trim()).into_bytes())
}

/// `sha-256=:BASE64:` of a Repr-Digest (RFC 9530 section 2); `None` if only other algorithms are named.
fn digest(text: &str) -> Result<Option<ContentId>, Reply> {
    let Some(said) = text
        .split(',')
        .find_map(|one| one.trim().strip_prefix("sha-256="))
    else {
        return Ok(None);
    };
    said.strip_prefix(':')
        .and_then(|rest| rest.strip_suffix(':'))
        .and_then(base64::decode)
        .and_then(|bytes| bytes.try_into().ok())
        .map(|bytes| Some(ContentId(bytes)))
        .ok_or_else(|| {
            Reply::problem(
                StatusCode::BadRequest,
                "Repr-Digest must look like sha-256=:BASE64 OF 32 BYTES:",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read() {
        let zeros = format!("sha-256=:{}=:", "A".repeat(43));
        assert_eq!(digest(&zeros), Ok(Some(ContentId([0; 32]))));
        let both = format!("md5=:x:, {zeros}");
        assert_eq!(digest(&both), Ok(Some(ContentId([0; 32]))));
        assert_eq!(digest("md5=:AAAA:"), Ok(None));
        for wrong in ["sha-256=:AAAA:", "sha-256=AAAA", "sha-256=:", "sha-256=:!:"] {
            assert!(digest(wrong).is_err(), "{wrong}");
        }
    }
}
