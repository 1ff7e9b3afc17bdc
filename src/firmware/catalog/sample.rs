//! Catalogues for tests.

use std::sync::Arc;

use super::{Catalog, ScanResult, ScannedFile, ScannedRules};
use crate::firmware::ContentId;
use crate::firmware::package::{Inspected, PackageKind};
use crate::firmware::rules::Rules;
use crate::os::fs::FileStamp;

/// A content whose bytes are all the same.
pub fn content_id(content: u8) -> ContentId {
    ContentId([content; 32])
}

/// A file of this path, content and size.
pub fn file(path: &str, content: u8, kind: PackageKind, size: u64) -> ScannedFile {
    ScannedFile {
        path: path.to_owned(),
        stamp: FileStamp {
            dev: 1,
            ino: u64::from(content),
            size,
            mtime: 0,
            ctime: 0,
        },
        inspected: Inspected {
            content: content_id(content),
            md5: [0; 16],
            size,
            kind,
        },
    }
}

/// A file with rules.
pub fn rules(path: &str, json: &str) -> ScannedRules {
    ScannedRules {
        path: path.to_owned(),
        rules: Some(Arc::new(Rules::parse(json.as_bytes()).unwrap())),
        error: None,
    }
}

/// A folder with these files, each with its content, and this file with rules.
pub fn catalogue(files: &[(&str, u8)], size: u64, (path, json): (&str, &str)) -> Catalog {
    let files = files
        .iter()
        .map(|&(path, content)| file(path, content, PackageKind::Generic, size));
    Catalog::build(ScanResult {
        files: files.collect(),
        rules: vec![rules(path, json)],
        ..ScanResult::default()
    })
}

/// A folder with release 2.0.0 of project P: a file with this content, and these rules.
pub fn release(content: u8, json: &str) -> Catalog {
    let rules = ("P/2.0.0/release.json", json);
    catalogue(&[("P/2.0.0/u.bin", content)], 1000, rules)
}
