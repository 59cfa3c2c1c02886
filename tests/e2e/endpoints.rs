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

/// What a request with each of these tokens gets, on a connection of its own.
const EACH: &str = r#"
import sys
vm = mv.get_microvm(microvmIdentifier=sys.argv[1])
for each in sys.argv[2:]:
    status, _, body = get(vm, {"X-aws-proxy-auth": each})
    print(status, body.decode() if status == 403 else "")
"#;

fn minted(server: &Server, id: &str) -> String {
    server.python("import sys\nprint(token(sys.argv[1]))", &[id]).ok().trim().to_owned()
}

#[test]
fn revoked_tokens_open_nothing_even_after_kill_9() {
    let mut server = with("");
    let (id, other) = (run(&server, &["--idle", "300"]), run(&server, &["--idle", "300"]));
    let (old, of_other) = (minted(&server, &id), minted(&server, &other));
    assert_eq!(server.python(EACH, &[&id, &old]).ok().trim(), "200");
    assert_eq!(server.hearth(&["tokens", "revoke", &id]).ok().trim(), id);
    let new = minted(&server, &id);
    let expected = "403 Token authentication failed\n200 \n";
    assert_eq!(server.python(EACH, &[&id, &old, &new]).ok(), expected);
    assert_eq!(server.python(EACH, &[&other, &of_other]).ok().trim(), "200", "another's stay as they are");
    server.hearth(&["suspend", &id]).ok();
    server.kill().unwrap();
    server.serve().unwrap();
    assert_eq!(server.python(EACH, &[&id, &old, &new]).ok(), expected);
    server.hearth(&["terminate", &id]).ok();
    server.hearth(&["tokens", "revoke", &id]).ok();
}

#[test]
fn a_shell_ends_when_its_token_is_revoked() {
    let server = with("");
    let id = run(&server, &["--shell"]);
    let script = r#"
import sys
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
of = dict(microvmIdentifier=sys.argv[1])
vm = mv.get_microvm(**of)
shell = mv.create_microvm_shell_auth_token(expirationInMinutes=5, **of)["authToken"]["X-aws-proxy-auth"]
name, _, port = vm["endpoint"].partition(":")
raw = socket.create_connection(("127.0.0.1", int(port)), timeout=30)
tls = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"]).wrap_socket(raw, server_hostname=name)
lines = ["GET /shell HTTP/1.1", f"Host: {vm['endpoint']}", "Connection: Upgrade", "Upgrade: websocket",
         "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"X-aws-proxy-auth: {shell}"]
tls.sendall("\r\n".join([*lines, "", ""]).encode())
assert tls.recv(4096).startswith(b"HTTP/1.1 101")
url = f"{os.environ['AWS_ENDPOINT_URL']}/hearth/v1/microvms/{sys.argv[1]}/tokens/revoke"
request = AWSRequest("POST", url, data=b"")
SigV4Auth(boto3.Session().get_credentials(), "lambda", "us-east-1").add_auth(request)
with urllib.request.urlopen(urllib.request.Request(url, method="POST", data=b"", headers=dict(request.headers))) as answer:
    assert answer.status == 200
try:
    while tls.recv(4096):
        pass
except (ssl.SSLError, ConnectionError):
    pass
"#;
    server.python(script, &[&id]).ok();
}

#[test]
fn revoking_asks_for_permission() {
    let server = with("");
    let id = run(&server, &[]);
    let old = minted(&server, &id);
    let image = "arn:aws:lambda:us-east-1:000000000000:microvm-image:hello";
    let policy = server.data_dir.join("policy");
    let text = format!(
        r#"{{"Statement":[{{"Effect":"Allow","Action":"lambda:*","Resource":"*"}},
        {{"Effect":"Allow","Action":"hearth:RevokeMicrovmTokens","Resource":"{image}"}}]}}"#
    );
    std::fs::write(&policy, text).unwrap();
    let may =
        server.hearth(&["keys", "create", "--user", "may", "--policy", policy.to_str().unwrap(), "--json"]).json();
    let may_not = server.hearth(&["keys", "create", "--user", "not", "--json"]).json();
    let foreign = server.hearth(&["keys", "create", "--user", "root", "--account", "222222222222", "--json"]).json();
    let script = r#"
import sys, json
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
vm, old, *keys = sys.argv[1:]
def revoke(vm, key):
    url = f"{os.environ['AWS_ENDPOINT_URL']}/hearth/v1/microvms/{vm}/tokens/revoke"
    request = AWSRequest("POST", url, data=b"")
    if key:
        key = json.loads(key)
        SigV4Auth(Credentials(key["accessKeyId"], key["secretAccessKey"]), "lambda", "us-east-1").add_auth(request)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="POST", data=b"", headers=dict(request.headers))) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
may, may_not, foreign = keys
status, body = revoke(vm, may_not)
assert status == 403 and "is not authorized to perform: hearth:RevokeMicrovmTokens on resource: arn:" in body, (status, body)
assert revoke(vm, None)[0] == 403
status, body = revoke(vm, foreign)
assert status == 404, (status, body)
absent = "microvm-00000000-0000-4000-8000-000000000000"
assert revoke(absent, may_not)[0] == 403 and revoke(absent, foreign)[0] == 404
assert get(mv.get_microvm(microvmIdentifier=vm), {"X-aws-proxy-auth": old})[0] == 200
assert revoke(vm, may) == (200, "{}")
assert get(mv.get_microvm(microvmIdentifier=vm), {"X-aws-proxy-auth": old})[0] == 403
"#;
    server.python(script, &[&id, &old, &may.to_string(), &may_not.to_string(), &foreign.to_string()]).ok();
}

/// curl to a microVM's endpoint through the plain listener; status and body.
const PLAIN: &str = r#"
import subprocess, sys
vm = mv.get_microvm(microvmIdentifier=sys.argv[1])
plain = os.environ["HEARTH_PLAIN_HTTP"]
uuid = vm["endpoint"].split(".")[0]
def curl(host, *more, token_of=vm):
    command = ["curl", "-sS", "--noproxy", "*", "-w", "\\n%{http_code} %{http_version}", f"http://{plain}/x", "-H", f"Host: {host}", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    return done.stdout.rsplit("\n", 1)[1]
key = ["-H", "X-aws-proxy-auth: " + token(sys.argv[1])]
"#;

#[test]
fn a_plain_listener_routes_by_host() {
    let server = with("[endpoint]\nplain_http = \"127.0.0.1:0\"\n");
    let id = run(&server, &["--idle", "300"]);
    let ready = std::fs::read_to_string(server.data_dir.join("run/ready.json")).unwrap();
    let plain = server.variable("HEARTH_PLAIN_HTTP");
    assert!(ready.contains(&format!("\"plain_http\":\"{plain}\"")) && plain.starts_with("127.0.0.1:"), "{ready}");
    server.hearth(&["suspend", &id]).ok();
    let script = r#"
assert curl(vm["endpoint"], *key) == "200 1.1"
assert curl(vm["endpoint"].upper().split(":")[0] + ".", *key) == "200 1.1"
assert curl(vm["endpoint"], "--http2-prior-knowledge", *key) == "200 2"
assert curl(vm["endpoint"]) == "403 1.1"
assert curl(plain, *key) == "403 1.1"
assert curl(f"{uuid}.lambda-microvm.us-east-1.on.aws", *key) == "403 1.1"
"#;
    server.python(&format!("{PLAIN}{script}"), &[&id]).ok();
}

#[test]
fn a_plain_listener_knows_the_names_of_the_profile_aws() {
    let server = with("[compat]\nprofile = \"aws\"\n[endpoint]\nplain_http = \"127.0.0.1:0\"\n");
    let id = run(&server, &[]);
    let script = r#"
for domain in ("on.aws", "localhost"):
    assert curl(f"{uuid}.lambda-microvm.us-east-1.{domain}", *key) == "200 1.1", domain
assert curl(f"{uuid}.lambda-microvm.eu-west-1.on.aws", *key) == "403 1.1"
"#;
    server.python(&format!("{PLAIN}{script}"), &[&id]).ok();
}

#[test]
fn a_plain_listener_is_for_this_host_only() {
    let mut server = super::server();
    server.kill().unwrap();
    std::fs::write(server.data_dir.join("hearth.toml"), "[endpoint]\nplain_http = \"0.0.0.0:8080\"\n").unwrap();
    let said = server.hearth(&["serve", "--engine", "fake"]);
    let words = "endpoint.plain_http is 0.0.0.0:8080, must be a loopback address";
    assert!(said.code == Some(1) && said.stderr.contains(words), "{said:?}");
}

/// A browser that is curl: it keeps cookies and follows redirects.
const BROWSER: &str = r#"
import subprocess, sys, tempfile
vm = mv.get_microvm(microvmIdentifier=sys.argv[1])
jar = tempfile.NamedTemporaryFile()
def browse(url, *more):
    command = ["curl", "-sS", "--noproxy", "*", "-b", jar.name, "-c", jar.name, "-w", "\\n%{http_code} %{url_effective}", url, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    body, _, rest = done.stdout.rpartition("\n")
    status, _, at = rest.partition(" ")
    return int(status), body, at
page = f"https://{vm['endpoint']}"
"#;

#[test]
fn a_browser_opens_a_microvm_by_a_link_that_works_once() {
    let server = with("[endpoint]\nbrowser = true\n");
    let id = run(&server, &["--idle", "300"]);
    let url = server.hearth(&["open", &id, "--print"]).ok().trim().to_owned();
    let ticket = url.split_once("/.hearth/open?ticket=").expect("a link").1.to_owned();
    assert!(url.starts_with("https://") && ticket.len() == 43, "{url}");
    let script = r#"
url = sys.argv[2]
assert browse(page)[0] == 403
assert browse(url, "-I")[0] == 405
status, body, at = browse(url, "-L")
assert (status, at) == (200, page + "/") and "requests_served" in body, (status, body, at)
assert browse(page + "/more")[0] == 200
status, body, _ = browse(url)
assert (status, body) == (403, "This link has been used or has expired: make a new one with hearth open"), body
status, body, _ = browse(page, "-d", "x")
assert (status, body) == (403, "The Origin of this request is not this endpoint"), (status, body)
assert browse(page, "-d", "x", "-H", f"Origin: {page}")[0] == 200
assert browse(page, "-H", "X-aws-proxy-port: 3000")[0] == 403
print([line.split()[-1] for line in open(jar.name) if "__Host-hearth" in line][0])
"#;
    let cookie = server.python(&format!("{BROWSER}{script}"), &[&id, &url]).ok().trim().to_owned();
    assert!(cookie.starts_with("ey"), "{cookie}");
    let other = server.hearth(&["open", &id, "--port", "3000", "--minutes", "60", "--print"]).ok();
    server.python(&format!("{BROWSER}assert browse(sys.argv[2], '-L')[0] == 200"), &[&id, other.trim()]).ok();
    let too_long = server.hearth(&["open", &id, "--minutes", "61", "--print"]);
    assert!(too_long.stderr.contains("minutes is 61, must be 1..=60"), "{too_long:?}");
    server.hearth(&["tokens", "revoke", &id]).ok();
    let log = server.log();
    let newer = other.trim().rsplit_once('=').expect("a link").1;
    for (what, secret) in [("ticket", &ticket[..]), ("cookie", &cookie), ("second ticket", newer)] {
        let found = log.lines().find(|line| line.contains(secret));
        assert!(found.is_none() && log.contains("TRACE"), "the {what} is in the log: {found:?}");
    }
}

#[test]
fn links_and_public_ports_are_off_by_default() {
    let server = with("");
    let id = run(&server, &[]);
    for (arguments, words) in [
        (
            &["open", &id, "--print"][..],
            "links for browsers are off; set browser = true below [endpoint] in hearth.toml",
        ),
        (
            &["public", &id, "--port", "8080"],
            "public microVMs are off; set public = true below [endpoint] in hearth.toml",
        ),
    ] {
        let said = server.hearth(arguments);
        assert!(said.code == Some(1) && said.stderr.contains(words), "{said:?}");
    }
    assert_eq!(server.hearth(&["public", &id]).ok().trim(), "none");
}

#[test]
fn a_public_port_is_open_to_anybody_until_it_is_closed() {
    let mut server = with("[endpoint]\npublic = true\n");
    let id = run(&server, &["--idle", "300", "--shell"]);
    let ask = r#"
import sys
vm = mv.get_microvm(microvmIdentifier=sys.argv[1])
for headers in ({}, {"X-aws-proxy-port": "8080"}, {"X-aws-proxy-port": "3000"}, {"X-aws-proxy-auth": "x"},
                {"X-aws-proxy-auth": token(sys.argv[1], {"port": 8080}), "X-aws-proxy-port": "3000"}):
    status, _, body = get(vm, headers, "/shell")
    print(status, end=" ")
"#;
    let seen = |server: &Server| server.python(ask, &[&id]).ok().trim().to_owned();
    let (closed, open) = ("403 403 403 403 403", "200 200 403 403 403");
    assert_eq!(seen(&server), closed);
    server.hearth(&["public", &id, "--port", "8080"]).ok();
    assert_eq!((seen(&server), server.hearth(&["public", &id]).ok().trim()), (open.to_owned(), "8080"));
    server.hearth(&["suspend", &id]).ok();
    server.kill().unwrap();
    server.serve().unwrap();
    assert_eq!(seen(&server), open, "it survives the server, and wakes the microVM");
    server.hearth(&["public", &id, "--off"]).ok();
    assert_eq!(seen(&server), closed);
    server.hearth(&["public", &id, "--port", "8080"]).ok();
    // The setting is above it.
    server.hearth(&["suspend", &id]).ok();
    server.stop().unwrap();
    std::fs::write(server.data_dir.join("hearth.toml"), "").unwrap();
    server.serve().unwrap();
    assert_eq!(seen(&server), closed);
    server.hearth(&["public", &id, "--off"]).ok();
    server.hearth(&["terminate", &id]).ok();
    server.hearth(&["public", &id, "--off"]).ok();
    let over = server.hearth(&["public", &id, "--port", "8080"]);
    assert!(over.code == Some(1) && over.stderr.contains("terminated"), "{over:?}");
}

/// curl to a custom host name; what it got, and the issuer of the certificate it saw.
const NAMED: &str = r#"
import subprocess, sys
port = os.environ["HEARTH_INGRESS"].rsplit(":", 1)[1]
def curl(host, key, *more, cacert=os.environ["SSL_CERT_FILE"]):
    command = ["curl", "-sSv", "--noproxy", "*", "--resolve", f"{host}:{port}:127.0.0.1", "--cacert", cacert,
               "-w", "\\n%{http_code}", f"https://{host}:{port}/", "-H", f"X-aws-proxy-auth: {key}", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    issuer = next((line for line in done.stderr.splitlines() if "issuer:" in line), "")
    return done.stdout.rpartition("\n")[2], issuer
"#;

fn openssl(server: &Server, name: &str, days: &str) -> (String, String) {
    let at = |ending: &str| server.data_dir.join(format!("{name}.{ending}")).display().to_string();
    let (certificate, key) = (at("pem"), at("key"));
    let subject = format!("/CN={name}");
    let alternative = format!("subjectAltName=DNS:{name}");
    let made = e2e::run(std::process::Command::new("openssl").args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        &subject,
        "-addext",
        &alternative,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-days",
        days,
        "-out",
        &certificate,
        "-keyout",
        &key,
    ]));
    made.unwrap().ok();
    (certificate, key)
}

#[test]
fn custom_host_names_lead_to_microvms_with_certificates_of_their_own() {
    let mut server = with("");
    let (first, second) = (run(&server, &["--idle", "300"]), run(&server, &["--idle", "300"]));
    let (certificate, key) = openssl(&server, "own.example.test", "30");
    let (_, other_key) = openssl(&server, "other.example.test", "30");
    server.hearth(&["names", "add", "App.Example.test", &first]).ok();
    let own = ["--port", "3000", "--certificate", &certificate, "--key", &key];
    server.hearth(&[&["names", "add", "own.example.test", &first][..], &own].concat()).ok();
    let wrong =
        server.hearth(&["names", "add", "x.example.test", &first, "--certificate", &certificate, "--key", &key]);
    assert!(wrong.stderr.contains("the certificate is not for x.example.test"), "{wrong:?}");
    let wrong = ["--certificate", &certificate, "--key", &other_key];
    let wrong = server.hearth(&[&["names", "add", "own.example.test", &first][..], &wrong].concat());
    assert!(wrong.stderr.contains("do not belong together"), "{wrong:?}");
    for (host, words) in [("localhost", "this server's own"), ("127.0.0.1", "must be a DNS name")] {
        let wrong = server.hearth(&["names", "add", host, &first]);
        assert!(wrong.code == Some(1) && wrong.stderr.contains(words), "{wrong:?}");
    }
    let listed = server.hearth(&["names", "list", "--json"]).json();
    let shown: Vec<_> =
        listed.as_array().unwrap().iter().map(|name| format!("{} {}", name["host"], name["port"])).collect();
    assert_eq!(shown, ["\"app.example.test\" 8080", "\"own.example.test\" 3000"]);

    let script = r#"
first, second, chain = sys.argv[1:]
status, issuer = curl("app.example.test", token(first))
assert status == "200" and "hearth local CA" in issuer, (status, issuer)
assert curl("app.example.test", token(second))[0] == "403"
assert curl("none.example.test", token(first), "-k")[0] == "403"
only = token(first, {"port": 3000})
status, issuer = curl("own.example.test", only, cacert=chain)
assert status == "200" and "CN=own.example.test" in issuer.replace(" ", ""), (status, issuer)
assert curl("own.example.test", token(first), cacert=chain)[0] == "403", "8080 is not its default"
assert curl("own.example.test", token(first), "-H", "X-aws-proxy-port: 8080", cacert=chain)[0] == "200"
assert curl("own.example.test", only, "-H", "Host: app.example.test", cacert=chain)[0] == "403", "SNI and Host differ"
"#;
    let all_hold = |server: &Server| server.python(&format!("{NAMED}{script}"), &[&first, &second, &certificate]).ok();
    all_hold(&server);
    for id in [&first, &second] {
        server.hearth(&["suspend", id]).ok();
    }
    server.kill().unwrap();
    server.serve().unwrap();
    all_hold(&server);
    assert_eq!(server.hearth(&["check"]).ok(), "");

    // Elsewhere at once, then nowhere.
    server.hearth(&["names", "add", "app.example.test", &second]).ok();
    let script = "assert curl('app.example.test', token(sys.argv[1]))[0] == sys.argv[2]";
    let asks = |id: &str, status: &str| server.python(&format!("{NAMED}{script}"), &[id, status]).ok();
    asks(&second, "200");
    asks(&first, "403");
    server.hearth(&["names", "remove", "own.example.test"]).ok();
    server.hearth(&["names", "remove", "app.example.test"]).ok();
    assert_eq!(server.hearth(&["names", "list", "--json"]).json(), serde_json::json!([]));
    let gone = server.hearth(&["names", "remove", "app.example.test"]);
    assert!(gone.code == Some(1) && gone.stderr.contains("not found"), "{gone:?}");
    assert_eq!(std::fs::read_dir(server.data_dir.join("names")).unwrap().count(), 0);
    let secret = std::fs::read_to_string(&key).unwrap();
    let line = secret.lines().nth(1).unwrap();
    assert!(!server.log().contains(line), "the key is in the log");
}

#[test]
fn a_host_name_is_one_account_s() {
    let server = with("");
    let id = run(&server, &[]);
    server.hearth(&["names", "add", "app.example.test", &id]).ok();
    let other = server.hearth(&["keys", "create", "--user", "root", "--account", "222222222222", "--json"]).json();
    let nobody = server.hearth(&["keys", "create", "--user", "nobody", "--json"]).json();
    let script = r#"
import sys, json
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
def call(key, method, path, body=b""):
    url = os.environ["AWS_ENDPOINT_URL"] + "/hearth/v1/names" + path
    request = AWSRequest(method, url, data=body)
    key = json.loads(key)
    SigV4Auth(Credentials(key["accessKeyId"], key["secretAccessKey"]), "lambda", "us-east-1").add_auth(request)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method, data=body, headers=dict(request.headers))) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
vm, other, nobody = sys.argv[1:]
assert call(other, "GET", "") == (200, '{"names":[]}')
assert call(other, "DELETE", "/app.example.test")[0] == 404
target = json.dumps({"microvm": vm}).encode()
assert call(other, "PUT", "/mine.example.test", target)[0] == 404, "another account's microVM"
arn = "arn:aws:lambda:us-east-1:000000000000:name/"
for method, path, action in [("GET", "", "List"), ("PUT", "/a.example.test", "Put"), ("DELETE", "/app.example.test", "Delete")]:
    status, body = call(nobody, method, path, target)
    assert status == 403 and f"not authorized to perform: hearth:{action}Name" in body and arn in body, (status, body)
assert call(other, "POST", "/a.example.test", target)[0] == 404
status, body = call(other, "PUT", "/a.example.test", b'{"microvm": "x"}')
assert status == 400 and "the request's body" in body, body
"#;
    server.python(script, &[&id, &other.to_string(), &nobody.to_string()]).ok();
}
