use super::*;
use crate::os::scratch::Scratch;
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn a_file_deep_beneath_the_folder_is_opened() {
    let dir = Scratch::new();
    dir.write("a/b/c.bin", b"deep");
    dir.write("top.bin", b"top");
    let folder = Folder::open(dir.path()).unwrap();
    for (path, bytes) in [("a/b/c.bin", "deep"), ("top.bin", "top")] {
        let mut text = String::new();
        let mut file = folder.open_file(path).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, bytes);
    }
}

#[test]
fn paths_that_leave_the_folder_or_pass_through_a_link_are_refused() {
    let dir = Scratch::new();
    dir.write("secret.bin", b"secret");
    dir.write("root/in/real.bin", b"real");
    symlink("../secret.bin", dir.path().join("root/link.bin")).unwrap();
    symlink("in", dir.path().join("root/alias")).unwrap();
    let folder = Folder::open(&dir.path().join("root")).unwrap();
    let absolute = dir.path().join("secret.bin");
    for path in [
        "../secret.bin",
        "in/../../secret.bin",
        "./in/real.bin",
        "in//real.bin",
        "in/real.bin/",
        "",
        ".",
        "..",
        "/",
        "in/real.bin\0",
        absolute.to_str().unwrap(),
        "link.bin",
        "alias/real.bin",
        "in",
        "in/missing.bin",
        "in/real.bin/x",
    ] {
        assert!(folder.open_file(path).is_err(), "{path:?} was opened");
    }
    assert!(folder.child(OsStr::new("alias")).is_err());
    assert!(folder.child(OsStr::new("..")).is_err());
    assert!(folder.child(OsStr::new("in/..")).is_err());
    assert!(folder.child(OsStr::new("in")).is_ok());
}

#[test]
fn a_fifo_is_refused_at_once() {
    let dir = Scratch::new();
    fifo(&dir.path().join("pipe.bin"));
    let folder = Folder::open(dir.path()).unwrap();
    // Without the preceding check and O_NONBLOCK this would wait for a writer without limit.
    let error = folder.open_file("pipe.bin").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_hole_is_one_line_end_and_takes_no_time() {
    use std::os::unix::fs::FileExt;
    let dir = Scratch::new();
    let path = dir.write("holes", b"one\n");
    let file = File::options().write(true).open(&path).unwrap();
    let far = 1 << 40;
    if file.set_len(2 * far).is_err() {
        return;
    }
    file.write_all_at(b"two\n", far).unwrap();
    let mut content = Content::new(open_to_read(&path).unwrap());
    for _ in 0..2 {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).unwrap();
        bytes.retain(|byte| *byte != 0);
        assert_eq!(String::from_utf8(bytes).unwrap(), "one\n\ntwo\n");
        content.rewind().unwrap();
    }
}

#[test]
fn a_file_without_holes_is_read_as_it_is() {
    let dir = Scratch::new();
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    for bytes in [&bytes[..], b"", b"x"] {
        let path = dir.write("plain", bytes);
        let mut read = Vec::new();
        let mut content = Content::new(open_to_read(&path).unwrap());
        content.read_to_end(&mut read).unwrap();
        assert!(read == bytes);
    }
}

#[test]
fn only_a_regular_file_is_opened_to_be_read() {
    let dir = Scratch::new();
    fifo(&dir.path().join("fifo"));
    symlink("fifo", dir.path().join("to-fifo")).unwrap();
    symlink("loop", dir.path().join("loop")).unwrap();
    for path in ["fifo", "to-fifo", "loop", "."] {
        let error = open_to_read(&dir.path().join(path)).unwrap_err();
        assert!(is_not_regular(&error), "{path}: {error}");
    }
    assert!(is_not_regular(
        &open_to_read(Path::new("/dev/zero")).unwrap_err()
    ));
    dir.write("file", b"");
    symlink("file", dir.path().join("to-file")).unwrap();
    assert!(open_to_read(&dir.path().join("to-file")).is_ok());
}

#[test]
fn entries_are_sorted_and_have_their_kinds() {
    let dir = Scratch::new();
    dir.write("b.bin", b"12345");
    dir.write("folder/x", b"");
    symlink("/dev/null", dir.path().join("a-link")).unwrap();
    fifo(&dir.path().join("pipe"));
    let odd = OsStr::from_bytes(b"\xff\xfe.bin");
    std::fs::write(dir.path().join(odd), b"").unwrap();
    let entries = Folder::open(dir.path()).unwrap().entries().unwrap();
    let seen: Vec<_> = entries
        .iter()
        .map(|e| (e.name.as_os_str(), e.kind))
        .collect();
    assert_eq!(
        seen,
        [
            (OsStr::new("a-link"), EntryKind::Link),
            (OsStr::new("b.bin"), EntryKind::File),
            (OsStr::new("folder"), EntryKind::Folder),
            (OsStr::new("pipe"), EntryKind::Special),
            (odd, EntryKind::File),
        ]
    );
    assert_eq!(entries[1].stamp.size, 5);
}

#[test]
fn the_stamp_of_an_entry_is_that_of_the_open_file_and_changes_with_its_bytes() {
    let dir = Scratch::new();
    dir.write("a.bin", b"one");
    let folder = Folder::open(dir.path()).unwrap();
    let before = folder.entries().unwrap()[0].stamp;
    let file = folder.open_file("a.bin").unwrap();
    assert_eq!(stamp(&file).unwrap(), before);
    assert!(before.mtime > 1_500_000_000 * 1_000_000_000);
    dir.write("a.bin", b"three");
    let after = stamp(&file).unwrap();
    assert_ne!(after, before);
    assert_eq!(
        (after.dev, after.ino, after.size),
        (before.dev, before.ino, 5)
    );
}

#[test]
fn a_recreated_folder_has_another_stamp() {
    let dir = Scratch::new();
    dir.write("root/a", b"");
    let root = dir.path().join("root");
    let old = Folder::open(&root).unwrap();
    std::fs::rename(&root, dir.path().join("old")).unwrap();
    std::fs::create_dir(&root).unwrap();
    let new = Folder::open(&root).unwrap();
    assert_ne!(old.stamp().unwrap().ino, new.stamp().unwrap().ino);
}

#[test]
fn an_unnamed_file_holds_bytes_and_leaves_no_name() {
    let dir = Scratch::new();
    for make in [unnamed_file, create_and_unlink] {
        let mut file = make(dir.path()).unwrap();
        file.write_all(b"kept").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept");
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
        assert!(free_bytes(&file).unwrap() > 0);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(unnamed_file(&dir.path().join("missing")).is_err());
}
