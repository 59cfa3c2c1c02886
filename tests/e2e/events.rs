//! `hearth events`: the history of a microVM and of images, complete whatever happens to the server.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use e2e::Server;
use serde_json::Value;

use super::{build, run, state, with_image};

/// Events as the server tells them.
fn events(server: &Server, arguments: &[&str]) -> Vec<Value> {
    let text = server.hearth(&[&["events", "--json"], arguments].concat()).ok();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `what -> state` of each.
fn told(events: &[Value]) -> Vec<String> {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    events.iter().map(|event| format!("{} -> {}", text(event, "what"), text(event, "state"))).collect()
}

fn wait(server: &Server, id: &str, wanted: &str) {
    let script = "import sys\nuntil(lambda: state(sys.argv[1]), [sys.argv[2]])";
    server.python(script, &[id, wanted]).ok();
}

#[test]
fn a_microvm_s_history_survives_kill_9() {
    let mut server = with_image();
    let id = run(&server, &["--payload", "hunter2"]);
    server.hearth(&["suspend", &id]).ok();
    let before = events(&server, &[&id]);
    server.kill().unwrap();
    server.serve().unwrap();
    assert_eq!(events(&server, &[&id]), before);
    server.hearth(&["resume", &id]).ok();
    server.hearth(&["terminate", &id]).ok();
    wait(&server, &id, "TERMINATED");

    let all = events(&server, &[&id]);
    let expected = [
        "Accepted -> PENDING",
        "Started -> RUNNING",
        "Suspend -> SUSPENDING",
        "Suspended -> SUSPENDED",
        "Resume -> SUSPENDED",
        "Resumed -> RUNNING",
        "Terminate -> TERMINATING",
        "Ended -> TERMINATED",
    ];
    assert_eq!(told(&all), expected);
    let number = |nth: usize, name: &str| all[nth][name].as_u64().unwrap_or_else(|| panic!("{name} of {}", all[nth]));
    assert!((1..8).all(|nth| number(nth, "at") >= number(nth - 1, "at") && number(nth, "n") > number(nth - 1, "n")));
    let built = events(&server, &["hello"]).into_iter().find(|event| event["what"] == "BuildSucceeded").unwrap();
    assert_eq!(all[1]["memoryBytes"], built["memoryBytes"], "started from what was built");
    assert!(number(3, "memoryBytes") > 0 && number(5, "memoryBytes") == number(3, "memoryBytes"), "{all:?}");
    assert_eq!(all[7]["reason"], "Success.");

    let shown = server.hearth(&["events", &id]).ok();
    assert!(!shown.contains("hunter2"));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 1 + 8 + 2, "{shown}");
    assert!(lines[0].starts_with("TIME") && lines[4].contains("Suspended        SUSPENDED"), "{shown}");
    assert!(lines[10].starts_with("pending ") && lines[10].contains("suspends: 1, resumes: 1"), "{shown}");
    assert_eq!(server.hearth(&["check"]).code, Some(0));
}

#[test]
fn an_image_s_history_outlives_it_and_tells_why_a_build_failed() {
    let server = with_image();
    assert_eq!(build(&server, "broken", &["--env", "HEARTH_FAKE_READY_STATUS=500"]).code, Some(1));
    let failed = events(&server, &["broken"]);
    assert_eq!(told(&failed), ["Created -> CREATING", "BuildBegan -> CREATING", "BuildFailed -> CREATE_FAILED"]);
    let reason = failed[2]["reason"].as_str().unwrap();
    assert!(reason.starts_with("Ready hook check failed"), "{reason}");
    let script = "s3.create_bucket(Bucket='coded')
image = create('coded', 's3://coded/absent.zip')['imageArn']
until(lambda: image_state(image), ['CREATE_FAILED'])
for name in ['hello', 'coded']:
    mv.delete_microvm_image(imageIdentifier=image.replace('coded', name))
until(lambda: len(mv.list_microvm_images()['items']), [1])";
    server.python(script, &[]).ok();
    let coded = events(&server, &["coded"]);
    assert!(coded[2]["reason"].as_str().unwrap().starts_with("S3_NO_SUCH_KEY: "), "{coded:?}");
    let hello = events(&server, &["hello"]);
    assert_eq!(
        told(&hello),
        [
            "Created -> CREATING",
            "BuildBegan -> CREATING",
            "BuildSucceeded -> CREATED",
            "Deleting -> DELETING",
            "Deleted -> DELETED"
        ]
    );
    let summary = server.hearth(&["events", "hello"]).ok();
    assert!(summary.contains("builds: 1, failed: 0") && summary.contains("snapshots: 0 B there"), "{summary}");
    assert_eq!(events(&server, &[]).len(), 3 + 5 + 5);
    assert_eq!(events(&server, &["-n", "2"]).len(), 2);
    let said = server.hearth(&["events", "absent"]);
    assert_eq!(said.code, Some(1));
    assert_eq!(server.hearth(&["check"]).code, Some(0));
}

#[test]
fn events_are_followed_as_they_happen() {
    let server = with_image();
    let mut command = Command::new(e2e::hearth_path().unwrap());
    command.args(["events", "-f", "-n", "1", "--json"]).env("HEARTH_DATA_DIR", &server.data_dir);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().expect("goes on").unwrap()).unwrap() };
    assert_eq!(next()["what"], "BuildSucceeded", "what was last");
    let id = run(&server, &[]);
    server.hearth(&["terminate", &id]).ok();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last: &Value| last["what"] != "Ended") {
        seen.push(next());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen, events(&server, &[&id]), "each once, in order");
    assert_eq!(state(&server, &id), "TERMINATED");
}

#[test]
fn a_reader_that_waits_does_not_hold_up_the_end_of_the_server() {
    let mut server = with_image();
    let mut command = Command::new(e2e::hearth_path().unwrap());
    command.args(["events", "-f", "--json"]).env("HEARTH_DATA_DIR", &server.data_dir);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("Created"));
    // What happens from now on comes by following: once it is here, the reader waits.
    let id = run(&server, &[]);
    assert!(lines.by_ref().any(|line| line.unwrap().contains(&id)));
    wait(&server, &id, "RUNNING");
    assert!(lines.by_ref().any(|line| line.unwrap().contains("\"RUNNING\"")));
    let start = std::time::Instant::now();
    assert_eq!(server.stop().unwrap(), Some(0));
    assert!(start.elapsed().as_secs() < 8, "it waited for the reader: {:?}", start.elapsed());
    assert_eq!(lines.count(), 0, "nothing happened any more");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Time that has passed is written into the records: nothing else can make a test 31 days long.
#[test]
fn what_has_been_over_for_long_is_forgotten_at_a_start() {
    let mut server = with_image();
    let ids = [run(&server, &[]), run(&server, &[])];
    for id in &ids {
        server.hearth(&["terminate", id]).ok();
        wait(&server, id, "TERMINATED");
    }
    assert_eq!(server.stop().unwrap(), Some(0));
    let age = "import sqlite3, sys, time
store = sqlite3.connect(sys.argv[1])
past = int(time.time() * 1000) - 31 * 86400 * 1000
store.execute('update microvms set doc = json_set(doc, ?, ?) where id = ?', ('$.life.terminated_at', past, sys.argv[2]))
store.execute('update client_tokens set at = 0 where resource = ?', (sys.argv[2],))
store.commit()";
    server.python(age, &[server.data_dir.join("hearth.db").to_str().unwrap(), &ids[0]]).ok();
    server.serve().unwrap();
    let gone = "import sys
def look():
    try:
        return state(sys.argv[1])
    except ClientError as error:
        return error.response['Error']['Code']
until(look, ['ResourceNotFoundException'])";
    server.python(gone, &[&ids[0]]).ok();
    assert_eq!(server.hearth(&["events", &ids[0]]).code, Some(1));
    assert_eq!(events(&server, &[&ids[1]]).len(), 4);
    assert_eq!(server.hearth(&["check"]).code, Some(0));
}
