//! `POST /api/v1/pack/…`: the package of the scripts in a `.soc` file, as `luat-ota pack` makes it.
//!
//! Nothing is stored. The body goes piece by piece to a thread, which writes it to an unnamed file and makes the
//! package from that file. So neither waiting for the disk nor compressing delays a check.

use std::fs::File;
use std::io::{self, BufReader, Seek, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use smol::channel::bounded;

use super::upload;
use crate::firmware::ContentId;
use crate::operator::blocking::start_thread;
use crate::operator::body::RequestBody;
use crate::operator::codec::StatusCode;
use crate::operator::context::OperatorContext;
use crate::operator::head::RequestHead;
use crate::operator::response::{ApiResult, Response, etag};
use crate::os::fs::{free_bytes, unnamed_file};
use crate::pack::{self, PackError, Plan, PlanOptions, luadb, soc::Soc};

/// Size of the largest `.soc` file, in bytes.
const LARGEST: u64 = 64 << 20;

/// Maximum number of pieces that wait to be written.
const QUEUE: usize = 4;

/// Space that is left free on the file system of the temporary file, in bytes.
const LEAVE_FREE: u64 = 1 << 20;

/// A finished package.
struct BuiltPackage {
    file_name: String,
    content: ContentId,
    bytes: Vec<u8>,
}

/// Reason for which no package was made.
enum BuildError {
    /// The body ended early.
    Cut,
    /// No temporary file can be written.
    Temporary(io::Error),
    /// The `.soc` file cannot be used.
    Unusable(PackError),
}

/// Makes a package. `name`: the name of the `.soc` file. The query may contain `project`, `version` and `bsp`, for
/// scripts and names that do not state them.
pub(super) async fn post(
    context: &OperatorContext,
    head: &RequestHead,
    name: &str,
    body: &mut RequestBody<'_>,
) -> ApiResult {
    let size = upload::length(body, LARGEST, "no .soc file has more than 64 MiB")?;
    let said = |key| head.target.query(key).map(str::to_owned);
    let options = PlanOptions {
        project: said("project"),
        version: said("version"),
        bsp: said("bsp"),
    };
    let _slot = context.uploads.try_acquire().ok_or_else(upload::busy)?;
    let folders = [context.state.clone(), context.folder.clone()];
    let (pieces, received) = bounded::<Vec<u8>>(QUEUE);
    let (outcome_sender, outcome) = bounded(1);
    let soc_name = name.to_owned();
    start_thread("pack", move || {
        let make = || {
            let mut file = temporary_file(&folders, size).map_err(BuildError::Temporary)?;
            loop {
                match received.recv_blocking() {
                    Ok(piece) if piece.is_empty() => break,
                    Ok(piece) => file.write_all(&piece).map_err(BuildError::Temporary)?,
                    Err(_) => return Err(BuildError::Cut),
                }
            }
            file.rewind().map_err(BuildError::Temporary)?;
            build(file, &soc_name, &options).map_err(BuildError::Unusable)
        };
        // Sent before `received` is dropped, so that the outcome is available after a failed send.
        let _ = outcome_sender.try_send(make());
    })?;
    loop {
        let piece = body.next().await?;
        if piece.is_empty() || pieces.send(piece).await.is_err() {
            break;
        }
    }
    // The empty piece makes the thread build. If the thread has failed, the outcome is available.
    let _build = context.builds.acquire().await;
    let _ = pieces.send(Vec::new()).await;
    match outcome.recv().await {
        Ok(Ok(built)) => Ok(done(name, built)),
        Ok(Err(BuildError::Unusable(error))) => {
            log::info!(target: "operator", soc = name; "no package was made: {error}");
            Err(Response::unprocessable(error.to_string()))
        }
        Ok(Err(BuildError::Temporary(error))) if error.kind() == io::ErrorKind::StorageFull => {
            Err(Response::problem(
                StatusCode::InsufficientStorage,
                "there is no room for the .soc file in the state folder: remove old releases",
            ))
        }
        Ok(Err(BuildError::Temporary(error))) => Err(Response::problem(
            StatusCode::InternalServerError,
            format!(
                "no temporary file can be written ({error}): name a writable state folder with --state"
            ),
        )),
        Ok(Err(BuildError::Cut)) | Err(_) => Err(Response::problem(
            StatusCode::InternalServerError,
            "the build was stopped",
        )),
    }
}

/// Creates an unnamed file for `size` bytes in the first folder that can be written and has space.
fn temporary_file(folders: &[PathBuf], size: u64) -> io::Result<File> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for folder in folders {
        match unnamed_file(folder) {
            // If the file system does not report its free space, a later write fails when it is full.
            Ok(file)
                if free_bytes(&file).is_ok_and(|free| free < size.saturating_add(LEAVE_FREE)) =>
            {
                last = io::ErrorKind::StorageFull.into();
            }
            Ok(file) => return Ok(file),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Builds the package of a `.soc` file. Compresses, so it blocks for up to some seconds.
fn build(file: File, soc_name: &str, options: &PlanOptions) -> Result<BuiltPackage, PackError> {
    let soc = Soc::read(BufReader::new(file))?;
    let image = soc.script_image()?;
    let plan = Plan::new(&soc.info, soc_name, &luadb::read(&image)?, options)?;
    let bytes = pack::package(&plan, &image)?;
    Ok(BuiltPackage {
        file_name: plan.file_name,
        content: ContentId(Sha256::digest(&bytes).into()),
        bytes,
    })
}

fn done(soc_name: &str, built: BuiltPackage) -> Response {
    log::info!(
        target: "operator",
        soc = soc_name, package = built.file_name.as_str(), size = built.bytes.len(), sha256:% = built.content;
        "a package was made"
    );
    let disposition = disposition(&built.file_name);
    Response::ok("application/octet-stream", built.bytes)
        .with("content-disposition", disposition)
        .with("etag", etag(built.content))
}

/// Returns the `Content-Disposition` (RFC 6266, RFC 8187) of a download with this name.
fn disposition(file_name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if file_name.bytes().all(is_plain) {
        return format!("attachment; filename=\"{file_name}\"");
    }
    let encode = |byte: u8| match is_plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    let encoded: String = file_name.bytes().map(encode).collect();
    format!("attachment; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_downloads_name_is_quoted_or_encoded() {
        assert_eq!(
            disposition("P_2012.1.1_LuatOS-SoC_Air780E.bin"),
            "attachment; filename=\"P_2012.1.1_LuatOS-SoC_Air780E.bin\""
        );
        assert_eq!(
            disposition("水\".bin"),
            "attachment; filename*=UTF-8''%E6%B0%B4%22.bin"
        );
    }
}
