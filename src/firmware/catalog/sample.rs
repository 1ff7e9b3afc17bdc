//! Catalogues for tests.

use std::sync::Arc;

use super::{Catalog, ScanResult, ScannedFile, ScannedRules};
use crate::firmware::ContentId;
use crate::firmware::package::{Inspected, PackageKind};
use crate::firmware::rules::Rules;
use crate::os::fs::FileStamp;

/// Content id whose bytes are all the same.
pub fn content_id(content: u8) -> ContentId {
    ContentId([content; 32])
}

/// A file with this path, content, kind and size.
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

/// A rules file with this JSON text.
pub fn rules(path: &str, json: &str) -> ScannedRules {
    ScannedRules {
        path: path.to_owned(),
        rules: Some(Arc::new(Rules::parse(json.as_bytes()).unwrap())),
        error: None,
    }
}

/// Catalogue of these files, each with its content, and one rules file.
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

/// Catalogue with release 2.0.0 of project P: one file with this content, and these rules.
pub fn release(content: u8, json: &str) -> Catalog {
    let rules = ("P/2.0.0/release.json", json);
    catalogue(&[("P/2.0.0/u.bin", content)], 1000, rules)
}
