//! A server that is killed at any moment loses nothing; one that is told to stop goes in order.

use super::{run, served, server, state, with_image};

#[test]
fn kill_9_loses_nothing_that_sleeps() {
    let mut server = with_image();
    let id = run(&server, &["--idle", "300"]);
    assert_eq!([served(&server, &id), served(&server, &id)], [1, 2]);
    server.hearth(&["suspend", &id]).ok();
    let ended = run(&server, &[]);
    server.hearth(&["terminate", &ended]).ok();
    let key = server.variable("AWS_SECRET_ACCESS_KEY").to_owned();
    let log = server.hearth(&["logs", "hello"]).ok();
    let images = server.hearth(&["ls", "--images", "--json"]).json();

    server.kill().unwrap();
    server.serve().unwrap();
    assert_eq!(server.variable("AWS_SECRET_ACCESS_KEY"), key);
    assert_eq!(server.hearth(&["ls", "--images", "--json"]).json(), images);
    assert_eq!(server.hearth(&["logs", "hello"]).ok(), log);
    assert_eq!([state(&server, &id), state(&server, &ended)], ["SUSPENDED", "TERMINATED"]);
    assert_eq!(served(&server, &id), 3, "a request wakes it, and its memory is as it was");

    // The object store and new machines too.
    super::build(&server, "second", &[]).ok();
    let fresh = run(&server, &[]);
    assert_eq!(served(&server, &fresh), 1);
    let objects =
        server.python("print(len(s3.list_objects_v2(Bucket='hearth-artifacts-000000000000')['Contents']))", &[]);
    assert_eq!(objects.ok().trim(), "2");
}

/// The fake engine's machines live in the server: with it they are gone, and that must be told, not hidden.
#[test]
fn a_machine_that_did_not_survive_is_terminated_with_a_reason() {
    let mut server = with_image();
    let id = run(&server, &[]);
    server.kill().unwrap();
    server.serve().unwrap();
    let script = "until(lambda: state(sys.argv[1]), ['TERMINATED'])
print(mv.get_microvm(microvmIdentifier=sys.argv[1])['stateReason'])";
    let reason = server.python(&format!("import sys\n{script}"), &[&id]).ok();
    assert!(reason.trim().len() > 3 && reason.trim() != "None", "{reason}");
}

/// Whatever a build was doing when the server died, its image does not stay CREATING for ever.
#[test]
fn a_build_that_was_killed_comes_to_an_end() {
    let mut server = server();
    let script = "s3.create_bucket(Bucket='slow')
s3.put_object(Bucket='slow', Key='a.zip', Body=artifact({'Dockerfile': 'FROM scratch'}))
hooks = {**HOOKS, 'microvmImageHooks': {'ready': 'ENABLED', 'readyTimeoutInSeconds': 3}}
image = create('slow', 's3://slow/a.zip', hooks=hooks, environmentVariables={'HEARTH_FAKE_READY_STATUS': '503'})
print(image['imageArn'])";
    let arn = server.python(script, &[]).ok().trim().to_owned();
    server.kill().unwrap();
    server.serve().unwrap();
    let script = "import sys
print(until(lambda: image_state(sys.argv[1]), ['CREATE_FAILED']))
build = mv.list_microvm_image_builds(imageIdentifier=sys.argv[1], imageVersion='1.0')['items'][0]
assert build['buildState'] == 'FAILED' and build['stateReason'], build
mv.delete_microvm_image(imageIdentifier=sys.argv[1])";
    server.python(script, &[&arn]).ok();
}

#[test]
fn sigterm_stops_in_order() {
    let mut server = server();
    let ready = server.data_dir.join("run/ready.json");
    assert!(ready.exists());
    assert_eq!(server.stop().unwrap(), Some(0));
    assert!(!ready.exists());
    let said = server.hearth(&["ls"]);
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("hearth serve --data-dir"), "the hint says how to start one: {}", said.stderr);
}

#[test]
fn a_ready_file_of_a_killed_server_fools_nobody() {
    let mut server = server();
    server.kill().unwrap();
    assert!(server.data_dir.join("run/ready.json").exists());
    let said = server.hearth(&["ls"]);
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("no server runs"), "{}", said.stderr);
}

#[test]
fn two_servers_never_share_a_data_directory() {
    let server = server();
    let said = server.hearth(&["serve", "--api", "127.0.0.1:0", "--ingress", "127.0.0.1:0", "--engine", "fake"]);
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("in use"), "{}", said.stderr);
    server.hearth(&["ls"]).ok();
}
