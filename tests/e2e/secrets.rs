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
    let log = server.log();
    assert!(log.contains(&id) && log.contains("TRACE"), "the log is there and talkative");
    let secret = server.variable("AWS_SECRET_ACCESS_KEY").to_owned();
    for (what, text) in
        [("secret key", secret.as_str()), ("token", &token), ("variable", variable), ("payload", payload)]
    {
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
    let private =
        ["hearth.db", "hearth.db-wal", "credentials.json", "token-keys.json", "ca/ca.key", "s3", "logs", "images"];
    for name in private {
        let path = server.data_dir.join(name);
        let mode = std::fs::metadata(&path).unwrap_or_else(|error| panic!("{name}: {error}")).permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} has mode {:o}", mode & 0o777);
    }
    let bundle = server.data_dir.join("ca/bundle.pem");
    let mode = std::fs::metadata(&bundle).expect("bundle").permissions().mode();
    assert_eq!(mode & 0o444, 0o444, "whoever is handed the CA bundle can read it");
}
