//! Keys, tokens, payloads and values of environment variables appear in no log, not even at the trace level.

use super::{build, run, server};

#[test]
fn the_log_holds_no_secret() {
    let server = server();
    let (variable, payload) = ("value-of-a-variable-3141", "body-of-a-run-hook-2718");
    build(&server, "hello", &["--env", &format!("SECRET={variable}")]).ok();
    let id = run(&server, &["--idle", "300", "--payload", payload]);
    server.hearth(&["curl", &id]).ok();
    let script = "import sys
key = token(sys.argv[1])
vm = mv.get_microvm(microvmIdentifier=sys.argv[1])
assert get(vm, {'X-aws-proxy-auth': key})[0] == 200
assert get(vm, {'X-aws-proxy-auth': key[:-3] + 'AAA'})[0] == 403
print(key)";
    let token = server.python(script, &[&id]).ok().trim().to_owned();
    server.hearth(&["suspend", &id]).ok();
    server.hearth(&["curl", &id]).ok();
    server.hearth(&["terminate", &id]).ok();
    let root = server.variable("AWS_ACCESS_KEY_ID").to_owned();
    let made = server.hearth(&["keys", "create", "--user", "ci", "--json"]).json();
    let rotated = server.hearth(&["keys", "rotate", &root, "--keep-old", "--json"]).json();
    let script = "made = boto3.client('sts').get_session_token()['Credentials']
own = dict(aws_access_key_id=made['AccessKeyId'], aws_secret_access_key=made['SecretAccessKey'])
boto3.client('lambda-microvms', aws_session_token=made['SessionToken'], **own).list_microvms()
assert refused(boto3.client('lambda-microvms', aws_session_token='garbage-1618', **own).list_microvms)[0] == 403
print(made['SecretAccessKey'], made['SessionToken'])";
    let session = server.python(script, &[]).ok();
    let (temporary, session_token) = session.trim().split_once(' ').unwrap();
    let log = server.log();
    assert!(log.contains(&id) && log.contains("TRACE"), "the log is there and talkative");
    let secret = server.variable("AWS_SECRET_ACCESS_KEY").to_owned();
    for (what, text) in [
        ("secret key", secret.as_str()),
        ("token", &token),
        ("variable", variable),
        ("payload", payload),
        ("new key", made["secretAccessKey"].as_str().unwrap()),
        ("rotated key", rotated["secretAccessKey"].as_str().unwrap()),
        ("temporary key", temporary),
        ("session token", session_token),
        ("wrong session token", "garbage-1618"),
    ] {
        let found = log.lines().find(|line| line.contains(text));
        assert!(found.is_none(), "the {what} is in the log: {found:?}");
    }
    for line in server.hearth(&["logs", "hello", "--all"]).ok().lines() {
        assert!(![secret.as_str(), &token, variable].iter().any(|text| line.contains(text)), "{line}");
    }
}

#[test]
fn only_the_owner_reads_what_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let server = server();
    build(&server, "hello", &[]).ok();
    let private = [
        "hearth.db",
        "hearth.db-wal",
        "credentials.json",
        "secrets-key.json",
        "token-keys.json",
        "ca/ca.key",
        "s3",
        "logs",
        "images",
        "names",
    ];
    for name in private {
        let path = server.data_dir.join(name);
        let mode = std::fs::metadata(&path).unwrap_or_else(|error| panic!("{name}: {error}")).permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} has mode {:o}", mode & 0o777);
    }
    let bundle = server.data_dir.join("ca/bundle.pem");
    let mode = std::fs::metadata(&bundle).expect("bundle").permissions().mode();
    assert_eq!(mode & 0o444, 0o444, "whoever is handed the CA bundle can read it");
}
