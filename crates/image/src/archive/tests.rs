use std::{
    fs,
    io::Cursor,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;

type Writer = ZipWriter<Cursor<Vec<u8>>>;

/// A zip made by `fill`, in a directory that also has an empty `out`.
fn artifact(fill: impl FnOnce(&mut Writer)) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    fill(&mut writer);
    raw(&writer.finish().expect("a zip").into_inner())
}

fn raw(bytes: &[u8]) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let (zip, out) = (dir.path().join("a.zip"), dir.path().join("out"));
    fs::write(&zip, bytes).expect("writes");
    fs::create_dir(&out).expect("creates");
    (dir, zip, out)
}

fn add(writer: &mut Writer, name: &str, mode: u32, content: &[u8]) {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).unix_permissions(mode);
    writer.start_file(name, options).expect("starts");
    writer.write_all(content).expect("writes");
}

fn dockerfile(writer: &mut Writer) {
    add(writer, "Dockerfile", 0o644, b"FROM scratch\n");
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn unpack(zip: &Path, out: &Path, limits: &Limits) -> Result<Unpacked, BuildError> {
    Artifact::open(zip, limits)?.unpack(out, me(), limits, &|| false)
}

fn code(fill: impl FnOnce(&mut Writer)) -> (FailureCode, String) {
    let (_dir, zip, out) = artifact(fill);
    let error = unpack(&zip, &out, &Limits::default()).expect_err("must be refused");
    (error.code, error.message)
}

/// Renames an entry in place, in its local header and in the directory: for names that a careful writer refuses.
fn rename(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let positions: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|at| &bytes[*at..*at + from.len()] == from.as_bytes()).collect();
    assert!(positions.len() >= 2, "local header and directory");
    for at in positions {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
}

#[test]
fn files_modes_symlinks_and_times_are_kept() {
    let (_dir, zip, out) = artifact(|writer| {
        dockerfile(writer);
        add(writer, "bin/run.sh", 0o4755, b"#!/bin/sh\n");
        add(writer, "deep/er/file", 0o600, b"x");
        writer.add_directory("empty", SimpleFileOptions::default().unix_permissions(0o750)).expect("adds");
        writer.add_symlink("link", "bin/run.sh", SimpleFileOptions::default()).expect("adds");
        writer.add_symlink("away", "/etc/passwd", SimpleFileOptions::default()).expect("adds");
        let when = zip::DateTime::from_date_and_time(2024, 2, 29, 12, 30, 10).expect("a date");
        writer.start_file("dated", SimpleFileOptions::default().last_modified_time(when)).expect("starts");
    });
    let done = unpack(&zip, &out, &Limits::default()).expect("unpacks");
    assert_eq!(done, Unpacked { files: 6, bytes: 13 + 10 + 1 });
    let mode = |name: &str| fs::metadata(out.join(name)).expect("exists").permissions().mode() & 0o7777;
    assert_eq!((mode("bin/run.sh"), mode("deep/er/file"), mode("empty")), (0o755, 0o600, 0o750));
    assert_eq!(fs::read_link(out.join("link")).expect("a link"), Path::new("bin/run.sh"));
    assert_eq!(fs::read_link(out.join("away")).expect("a link"), Path::new("/etc/passwd"));
    assert_eq!(fs::metadata(out.join("dated")).expect("exists").mtime(), 1_709_209_810);
}

#[test]
fn what_is_no_zip_is_invalid() {
    for bytes in [&b""[..], b"hello", &[0; 4096], b"PK\x03\x04 cut short", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]] {
        let (_dir, zip, out) = raw(bytes);
        let error = unpack(&zip, &out, &Limits::default()).expect_err("must be refused");
        assert_eq!(error.code, FailureCode::ArchiveInvalid, "{error}");
    }
}

#[test]
fn a_missing_dockerfile_is_said_with_a_hint() {
    let (code_empty, message) = code(|_| {});
    assert_eq!(code_empty, FailureCode::ArchiveDockerfileNotFound);
    assert!(message.contains("no entries"), "{message}");
    let (code_nested, message) = code(|writer| add(writer, "app/Dockerfile", 0o644, b"FROM scratch"));
    assert_eq!(code_nested, FailureCode::ArchiveDockerfileNotFound);
    assert!(message.contains("app/Dockerfile") && message.contains("contents of that directory"), "{message}");
    let (_, message) = code(|writer| add(writer, "dockerfile", 0o644, b"FROM scratch"));
    assert!(message.contains("exactly"), "{message}");
}

#[test]
fn a_dockerfile_that_is_no_file_is_not_found() {
    for target in ["/etc/passwd", "../a.zip", "missing", "sub"] {
        let (found, _) = code(|writer| {
            writer.add_symlink("Dockerfile", target, SimpleFileOptions::default()).expect("adds");
            add(writer, "sub/x", 0o644, b"");
        });
        assert_eq!(found, FailureCode::ArchiveDockerfileNotFound, "{target}");
    }
    let (_dir, zip, out) = artifact(|writer| {
        writer.add_symlink("Dockerfile", "docker/real", SimpleFileOptions::default()).expect("adds");
        add(writer, "docker/real", 0o644, b"FROM scratch");
    });
    unpack(&zip, &out, &Limits::default()).expect("a link within the artifact is fine");
}

#[test]
fn no_name_leads_out() {
    for name in ["../evil", "/evil00", "a/../..", "a/b/../", "..", "x\0/abcd"] {
        let stand_in = "Q".repeat(name.len());
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        dockerfile(&mut writer);
        add(&mut writer, &stand_in, 0o644, b"evil");
        let mut bytes = writer.finish().expect("a zip").into_inner();
        rename(&mut bytes, &stand_in, name);
        let (dir, zip, out) = raw(&bytes);
        let error = unpack(&zip, &out, &Limits::default()).expect_err(name);
        assert_eq!(error.code, FailureCode::ArchiveInvalid, "{error}");
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 2, "{name} wrote outside");
    }
}

#[test]
fn nothing_is_written_through_a_symlink() {
    let (dir, zip, out) = artifact(|writer| {
        dockerfile(writer);
        writer.add_symlink("trap", "..", SimpleFileOptions::default()).expect("adds");
        add(writer, "trap/evil", 0o644, b"evil");
    });
    let error = unpack(&zip, &out, &Limits::default()).expect_err("must be refused");
    assert_eq!(error.code, FailureCode::ArchiveInvalid, "{error}");
    assert!(!dir.path().join("evil").exists());
    let (_dir, zip, _) = artifact(dockerfile);
    fs::remove_dir(&out).or_else(|_| fs::remove_dir_all(&out)).expect("removes");
    fs::create_dir(&out).expect("creates");
    std::os::unix::fs::symlink(dir.path(), out.join("Dockerfile")).expect("links");
    let error = unpack(&zip, &out, &Limits::default()).expect_err("an existing name is not reused");
    assert_eq!(error.code, FailureCode::ArchiveInvalid, "{error}");
}

#[test]
fn a_name_that_is_file_and_directory_is_refused() {
    let (found, message) = code(|writer| {
        dockerfile(writer);
        add(writer, "a", 0o644, b"");
        add(writer, "a/b", 0o644, b"");
    });
    assert_eq!(found, FailureCode::ArchiveInvalid, "{message}");
}

#[test]
fn devices_are_refused() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    dockerfile(&mut writer);
    add(&mut writer, "device", 0o644, b"");
    let mut bytes = writer.finish().expect("a zip").into_inner();
    // The mode is in the upper half of the external attributes, 38 bytes into the directory's record.
    let at = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").expect("a record");
    bytes[at + 40..at + 42].copy_from_slice(&0o020_666_u16.to_le_bytes());
    let (_dir, zip, out) = raw(&bytes);
    let error = unpack(&zip, &out, &Limits::default()).expect_err("must be refused");
    assert!(error.message.contains("device"), "{error}");
}

#[test]
fn bombs_are_stopped() {
    let limits = Limits { entries: 3, total_bytes: 1 << 20, ratio: 200 };
    let bomb = |size: usize| {
        move |writer: &mut Writer| {
            dockerfile(writer);
            add(writer, "zeroes", 0o644, &vec![0; size]);
        }
    };
    let (_dir, zip, out) = artifact(bomb(2 << 20));
    let error = unpack(&zip, &out, &limits).expect_err("too many bytes");
    assert!(error.message.contains("1 MiB"), "{error}");
    let (_dir, zip, out) = artifact(bomb(80 << 20));
    let error = unpack(&zip, &out, &Limits::default()).expect_err("too dense");
    assert!(error.message.contains("zip bomb"), "{error}");
    let (_dir, zip, _) = artifact(|writer| (0..4).for_each(|index| add(writer, &index.to_string(), 0o644, b"")));
    let error = Artifact::open(&zip, &limits).err().expect("too many entries");
    assert!(error.message.contains("4 entries"), "{error}");
}

#[test]
fn damage_and_cancellation_are_noticed() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    dockerfile(&mut writer);
    writer
        .start_file("stored", SimpleFileOptions::default().compression_method(CompressionMethod::Stored))
        .expect("starts");
    writer.write_all(b"0123456789abcdef").expect("writes");
    let mut bytes = writer.finish().expect("a zip").into_inner();
    let at = bytes.windows(4).position(|window| window == b"0123").expect("stored");
    bytes[at] = b'X';
    let (_dir, zip, out) = raw(&bytes);
    let error = unpack(&zip, &out, &Limits::default()).expect_err("the checksum is wrong");
    assert_eq!(error.code, FailureCode::ArchiveInvalid, "{error}");

    let (_dir, zip, out) = artifact(dockerfile);
    let limits = Limits::default();
    let opened = Artifact::open(&zip, &limits).expect("opens");
    opened.unpack(&out, me(), &limits, &|| true).expect_err("cancelled");
}
