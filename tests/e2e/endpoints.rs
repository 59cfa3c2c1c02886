//! What endpoints do beyond AWS's, each switched on by a setting (docs/guide/endpoints.md).

use e2e::Server;

use super::{build, run};

fn with(settings: &str) -> Server {
    let server = Server::start_with(settings).unwrap_or_else(|error| panic!("{error:#}"));
    build(&server, "hello", &[]).ok();
    server
}

#[test]
fn unchanged_clients_may_ask_for_longer_tokens_when_the_server_allows_it() {
    let server = with("[endpoint]\ntoken_minutes = 525600\n");
    let id = run(&server, &["--shell"]);
    let script = r#"
import sys
vm = mv.get_microvm(microvmIdentifier=sys.argv[1])
of = dict(microvmIdentifier=sys.argv[1])
def refused(call, **more):
    try:
        call(**of, **more)
    except ClientError as error:
        return error.response["Error"]["Message"]
    raise AssertionError("accepted")
ports = [{"port": 8080}]
year = {"X-aws-proxy-auth": token(sys.argv[1], minutes=525600)}
assert get(vm, year)[0] == 200
assert mv.create_microvm_shell_auth_token(expirationInMinutes=525600, **of)["authToken"]
words = "ExpirationMinutes 525601 exceeded max allowed of 525600."
assert refused(mv.create_microvm_auth_token, expirationInMinutes=525601, allowedPorts=ports) == words
assert refused(mv.create_microvm_shell_auth_token, expirationInMinutes=525601) == words
"#;
    server.python(script, &[&id]).ok();
}
