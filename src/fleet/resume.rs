//! Requests of `luat-ota resume`: a file in the state folder asks the server to end the pause of a release. As in
//! [`super::clear_hold`], the name of the file contains the request, and the server replies by removing the file.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::clear_hold::unknown_reply_path;
use crate::state;

const PREFIX: &str = "resume-";

/// Suffix of a reply file that states why a release stays paused.
const REFUSED: &str = ".refused";

/// Maximum number of requests that are handled at once.
const MAX_REQUESTS: usize = 100;

/// Request to end the pause of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeRequest {
    /// The project.
    pub project: String,
    /// The version, as its folder writes it.
    pub version: String,
    /// Path of the request's file.
    pub path: PathBuf,
}

/// Creates a request in a state folder, and returns its path.
pub fn create_request(folder: &Path, project: &str, version: &str) -> io::Result<PathBuf> {
    let name = format!("{PREFIX}{}%2F{}", quoted(project), quoted(version));
    let path = folder.join(name);
    // Replies to an earlier request.
    fs::remove_file(unknown_reply_path(&path)).ok();
    fs::remove_file(refused_reply_path(&path)).ok();
    state::write_atomically(&path, b"")?;
    Ok(path)
}

/// Path of the reply file that states why a release stays paused. `request`: the path that [`create_request`] returned.
pub fn refused_reply_path(request: &Path) -> PathBuf {
    let mut path = request.as_os_str().to_owned();
    path.push(REFUSED);
    PathBuf::from(path)
}

/// Reads the requests in a state folder. Blocks.
pub fn requests(folder: &Path) -> Vec<ResumeRequest> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let requests = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let (project, version) = name.to_str()?.strip_prefix(PREFIX)?.split_once("%2F")?;
        let is_answer = Path::new(&name)
            .extension()
            .is_some_and(|end| end == "unknown" || end == "refused");
        (!is_answer).then(|| ResumeRequest {
            project: unquoted(project),
            version: unquoted(version),
            path: entry.path(),
        })
    });
    requests.take(MAX_REQUESTS).collect()
}

fn quoted(text: &str) -> String {
    text.replace('%', "%25").replace('/', "%2F")
}

fn unquoted(text: &str) -> String {
    text.replace("%2F", "/").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;

    #[test]
    fn requests_round_trip() {
        let scratch = Scratch::new();
        for (project, version) in [
            ("P", "1.0.1"),
            ("水表", "v2.0"),
            ("A%2FB", "1.0%"),
            ("a b", "1"),
        ] {
            let path = create_request(scratch.path(), project, version).unwrap();
            let expected = ResumeRequest {
                project: project.to_owned(),
                version: version.to_owned(),
                path: path.clone(),
            };
            assert_eq!(requests(scratch.path()), [expected]);
            fs::write(unknown_reply_path(&path), "").unwrap();
            fs::write(refused_reply_path(&path), "why").unwrap();
            fs::remove_file(&path).unwrap();
            assert_eq!(requests(scratch.path()), []);
            create_request(scratch.path(), project, version).unwrap();
            assert!(!unknown_reply_path(&path).exists() && !refused_reply_path(&path).exists());
            fs::remove_file(&path).unwrap();
        }
        assert!(create_request(scratch.path(), &"x".repeat(300), "1").is_err());
    }
}
