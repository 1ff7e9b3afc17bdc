use super::*;
use crate::os::scratch::Scratch;

fn bytes(seed: u8) -> Vec<u8> {
    (0..3000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed)
        .collect()
}

fn send(dir: &Scratch, path: &str, bytes: &[u8]) -> Result<StoredFile, UploadError> {
    let mut intake = Intake::begin(dir.path(), path, bytes.len() as u64)?;
    for piece in bytes.chunks(700) {
        intake.add(piece)?;
    }
    intake.finish(dir.path(), &Catalog::default(), None, None)
}

fn files(dir: &Scratch) -> Vec<String> {
    fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            found.push(name.clone());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &format!("{name}/"), found);
            }
        }
    }
    let mut found = Vec::new();
    walk(dir.path(), "", &mut found);
    found.sort();
    found
}

#[test]
fn a_file_appears_when_it_is_complete() {
    let dir = Scratch::new();
    let taken = send(&dir, "P/2.0.1/from-2008/u.bin", &bytes(1)).unwrap();
    assert!(!taken.existed && taken.inspected.size == 3000);
    let path = dir.path().join("P/2.0.1/from-2008/u.bin");
    assert_eq!(std::fs::read(path).unwrap(), bytes(1));
    assert_eq!(files(&dir).len(), 4);
}

#[test]
fn the_same_bytes_are_accepted_again_and_others_are_refused() {
    let dir = Scratch::new();
    send(&dir, "P/2.0.1/u.bin", &bytes(1)).unwrap();
    assert!(send(&dir, "P/2.0.1/u.bin", &bytes(1)).unwrap().existed);
    for other in [bytes(2), bytes(1)[..2999].to_vec()] {
        let refused = send(&dir, "P/2.0.1/u.bin", &other).unwrap_err();
        assert!(matches!(refused, UploadError::NameTaken(_)), "{refused:?}");
    }
    let path = dir.path().join("P/2.0.1/u.bin");
    assert_eq!(std::fs::read(path).unwrap(), bytes(1));
    assert_eq!(files(&dir), ["P", "P/2.0.1", "P/2.0.1/u.bin"]);
}

#[test]
fn an_incomplete_or_refused_upload_leaves_nothing() {
    let dir = Scratch::new();
    let mut intake = Intake::begin(dir.path(), "P/2.0.1/u.bin", 3000).unwrap();
    intake.add(&bytes(1)[..1000]).unwrap();
    drop(intake);
    assert_eq!(files(&dir), [""; 0]);
    let page = b"<!doctype html><title>404</title>".repeat(20);
    let refused = send(&dir, "P/2.0.1/u.bin", &page).unwrap_err();
    assert!(matches!(refused, UploadError::Wrong(_)), "{refused:?}");
    assert_eq!(files(&dir), [""; 0]);
    let mut intake = Intake::begin(dir.path(), "P/2.0.1/u.bin", 3000).unwrap();
    intake.add(&bytes(1)).unwrap();
    let digest = Some(ContentId([0; 32]));
    assert!(
        intake
            .finish(dir.path(), &Catalog::default(), digest, None)
            .is_err()
    );
    assert_eq!(files(&dir), [""; 0]);
}

#[test]
fn no_link_is_followed() {
    let dir = Scratch::new();
    let elsewhere = Scratch::new();
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("P")).unwrap();
    for path in ["P/2.0.1/u.bin", "P/2.0.1/from-2008/u.bin"] {
        let refused = send(&dir, path, &bytes(1)).unwrap_err();
        assert!(matches!(refused, UploadError::NameTaken(_)), "{refused:?}");
    }
    dir.write("Q/2.0.1/v.bin", b"x");
    let target = elsewhere.write("target.bin", &bytes(1));
    std::os::unix::fs::symlink(&target, dir.path().join("Q/2.0.1/u.bin")).unwrap();
    let refused = send(&dir, "Q/2.0.1/u.bin", &bytes(1)).unwrap_err();
    assert!(matches!(refused, UploadError::NameTaken(_)), "{refused:?}");
    assert_eq!(files(&elsewhere), ["target.bin"]);
}

#[test]
fn a_file_in_place_of_a_folder_is_reported() {
    let dir = Scratch::new();
    dir.write("P", b"a file");
    let refused = send(&dir, "P/2.0.1/u.bin", &bytes(1)).unwrap_err();
    assert!(matches!(refused, UploadError::NameTaken(_)), "{refused:?}");
    std::fs::create_dir_all(dir.path().join("Q/2.0.1/u.bin")).unwrap();
    let refused = send(&dir, "Q/2.0.1/u.bin", &bytes(1)).unwrap_err();
    assert!(matches!(refused, UploadError::NameTaken(_)), "{refused:?}");
}

#[test]
fn the_rules_in_the_folder_state_the_base() {
    let dir = Scratch::new();
    dir.write("P/release.json", br#"{"base_core": 2008, "percent": 5}"#);
    dir.write("P/2012.1.4/release.json", br#"{"percent": 10}"#);
    let rules = rules_of(dir.path(), "P/2012.001.004/u.bin");
    assert_eq!((rules.base_core, rules.percent), (Some(2008), Some(10.0)));
    assert_eq!(rules_of(dir.path(), "Q/1.0.0/u.bin"), Rules::default());
}
