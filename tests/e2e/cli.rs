//! `hearth`'s own verbs.

use super::{run, served, server, state, with_image};

#[test]
fn a_life_by_hearths_own_verbs() {
    let server = with_image();
    let images = server.hearth(&["ls", "--images"]).ok();
    assert!(images.starts_with("IMAGE  STATE    ACTIVE  FAILED  AGE\nhello  CREATED  1.0     -"), "{images}");
    let log = server.hearth(&["logs", "hello"]).ok();
    assert!(log.contains("/ready") && log.contains("1.0 is ready"), "{log}");
    assert_eq!(server.hearth(&["logs", "-f", "hello"]).ok(), log, "following an ended build ends");

    let id = run(&server, &["--idle", "300", "--payload", "{}"]);
    let listed = server.hearth(&["ls", "hello"]).ok();
    assert!(listed.contains(&id) && listed.contains("RUNNING"), "{listed}");
    assert_eq!(served(&server, &id["microvm-".len()..]), 1, "an id without its prefix");
    assert_eq!(served(&server, &id[..20]), 2, "the beginning of an id");
    let answer = server.hearth(&["curl", "--include", &id, "/any", "-X", "PUT", "-d", "body", "-H", "A: b"]).ok();
    assert!(answer.starts_with("HTTP/1.1 200 OK\n") && answer.contains("x-amzn-requestid"), "{answer}");

    server.hearth(&["suspend", &id]).ok();
    assert_eq!(state(&server, &id), "SUSPENDED");
    server.hearth(&["resume", &id]).ok();
    assert_eq!(state(&server, &id), "RUNNING");
    server.hearth(&["suspend", &id]).ok();
    assert_eq!(served(&server, &id), 4, "a request wakes it");
    assert!(server.hearth(&["logs", &id]).ok().contains("hook suspend: 200"));

    let other = run(&server, &[]);
    let ended = server.hearth(&["terminate", "--all"]).ok();
    assert!(ended.contains(&id) && ended.contains(&other), "{ended}");
    assert_eq!(server.hearth(&["ls", "--json"]).json(), serde_json::json!([]));
    assert_eq!(state(&server, &id), "TERMINATED");
}

#[test]
fn building_again_makes_a_new_version() {
    let server = with_image();
    let id = run(&server, &[]);
    let said = super::build(&server, "hello", &["--env", "NEW=1"]).ok();
    assert!(said.contains("hello 2.0 is ready"), "{said}");
    let images = server.hearth(&["ls", "--images"]).ok();
    assert!(images.contains("UPDATED  2.0 "), "{images}");
    assert_eq!(served(&server, &id), 1, "a microVM of the version before goes on");
    assert!(server.hearth(&["logs", "hello"]).ok().contains("version 2.0 is ready"));
}

#[test]
fn bench_measures_and_leaves_nothing() {
    let server = with_image();
    let figures = server.hearth(&["bench", "hello", "--repeat", "2", "--json"]).json();
    for name in ["run_api", "run_to_running", "run_to_first_byte", "warm_request", "suspend", "wake_on_request"] {
        let median = figures["medians_ms"][name].as_f64().unwrap();
        assert!(median > 0.0 && median < 30_000.0, "{name}: {median}");
        assert_eq!(figures["all_ms"][name].as_array().unwrap().len(), 2);
    }
    assert_eq!(server.hearth(&["ls", "--json"]).json(), serde_json::json!([]));
}

#[test]
fn mistakes_are_told_in_one_line_with_a_way_out() {
    let server = server();
    for (arguments, code, words) in [
        (vec!["run", "nothing"], 1, "No active version found"),
        (vec!["run", "not a name"], 1, "not a name"),
        (vec!["curl", "microvm-1"], 1, "hearth ls"),
        (vec!["logs", "nothing"], 1, "not found"),
        (vec!["suspend", "microvm-00000000-0000-4000-8000-000000000000"], 1, "MicroVM not found"),
        (vec!["build", "/nonexistent", "--name", "x"], 1, "/nonexistent"),
        (vec!["build", "/proc/self/fd", "--name", "x"], 1, "no Dockerfile"),
        (vec!["ls", "--data-dir", "/nonexistent"], 1, "hearth serve --data-dir /nonexistent"),
        (vec!["env", "--data-dir", "/nonexistent", "--wait", "0"], 1, "hearth serve --data-dir /nonexistent"),
        (vec!["serve", "--engine", "xen"], 2, "auto, qemu, fake"),
        (vec!["no-such-verb"], 2, "no-such-verb"),
        (vec!["run"], 2, "IMAGE"),
    ] {
        let said = server.hearth(&arguments);
        assert_eq!(said.code, Some(code), "{arguments:?}: {}", said.stderr);
        assert!(said.stderr.contains(words), "{arguments:?}: {}", said.stderr);
        assert!(code == 2 || said.stderr.lines().count() == 1, "{arguments:?}: {}", said.stderr);
        assert_eq!(said.stdout, "", "{arguments:?}");
    }
}

#[test]
fn doctor_changes_nothing_and_tells_what_it_found() {
    let server = server();
    let said = server.hearth(&["doctor"]);
    let lacking = said.stdout.lines().any(|line| line.starts_with("LACK"));
    assert_eq!(said.code, Some(i32::from(lacking)), "{}", said.stdout);
    assert!(said.stdout.contains("mmdebstrap"), "{}", said.stdout);
}
