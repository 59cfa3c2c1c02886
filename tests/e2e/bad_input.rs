//! Bad artifacts and bad applications: the version becomes FAILED with the specification's code, in bounded time, the reason
//! can be read, and the next build works.

use super::{build, server};

#[test]
fn bad_artifacts_fail_the_version() {
    let server = server();
    assert_eq!(server.python(include_str!("bad_input.py"), &[]).ok().trim(), "all refused");
}

#[test]
fn hearth_build_says_why() {
    let server = server();
    let said = build(&server, "broken", &["--env", "HEARTH_FAKE_READY_STATUS=500"]);
    assert_eq!(said.code, Some(1));
    assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    assert!(said.stderr.contains("Ready hook check failed") && said.stderr.contains("HTTP 5xx"), "{}", said.stderr);
    let images = server.hearth(&["ls", "--images"]).ok();
    assert!(images.contains("CREATE_FAILED"), "{images}");
    assert!(server.hearth(&["logs", "broken"]).ok().contains("500"), "the log tells of the answer");
    let said = server.hearth(&["run", "broken"]);
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("No active version found"), "{}", said.stderr);
    build(&server, "hello", &[]).ok();
}

#[test]
fn nothing_is_left_of_a_failed_build() {
    let server = server();
    build(&server, "hello", &[]).ok();
    let before = files(&server.data_dir.join("images"));
    assert!(!before.is_empty(), "images are kept below images/");
    assert_eq!(build(&server, "broken", &["--env", "HEARTH_FAKE_EXIT_AFTER_MS=0"]).code, Some(1));
    assert_eq!(build(&server, "worse", &["--env", "HEARTH_FAKE_READY_STATUS=404"]).code, Some(1));
    assert_eq!(files(&server.data_dir.join("images")), before);
}

fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => left.push(entry.path()),
                false => all.push(entry.path()),
            }
        }
    }
    all.sort();
    all
}
