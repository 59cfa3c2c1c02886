//! The profile `aws`: what suites recorded from the live service meet here.

use e2e::Server;

use super::{build, run, served};

const AWS: &str = "[compat]\nprofile = \"aws\"\n";

const BUILDS: &str = "
arn = mv.list_microvm_images()['items'][0]['imageArn']
of = dict(imageIdentifier=arn, imageVersion='1.0')
items = mv.list_microvm_image_builds(**of)['items']
";

fn aws() -> Server {
    let server = Server::start_with(AWS).unwrap_or_else(|error| panic!("{error:#}"));
    build(&server, "hello", &[]).ok();
    server
}

#[test]
fn endpoints_are_called_as_the_service_calls_them_and_answer() {
    let server = aws();
    let id = run(&server, &[]);
    let text = "
import re, sys
vm = mv.get_microvm(microvmIdentifier=sys.argv[1])
uuid = re.fullmatch(r'([0-9a-f-]{36})\\.lambda-microvm\\.us-east-1\\.on\\.aws', vm['endpoint']).group(1)
assert uuid not in vm['microvmId']
port = os.environ['HEARTH_INGRESS'].rsplit(':', 1)[1]
headers = {'X-aws-proxy-auth': token(vm['microvmId']), 'X-aws-proxy-port': '8080'}
for domain in ('on.aws', 'localhost'):
    status, _, body = get({'endpoint': f'{uuid}.lambda-microvm.us-east-1.{domain}:{port}'}, headers)
    assert status == 200, (domain, status, body)
try:
    get({'endpoint': f'{uuid}.lambda-microvm.eu-west-1.on.aws:{port}'}, headers)
except urllib.error.URLError as error:
    assert 'CERTIFICATE' in str(error), error
else:
    raise AssertionError('the certificate is good for another region')
";
    server.python(text, &[&id]).ok();
    assert_eq!(served(&server, &id), 3, "hearth curl finds it too");
    server.hearth(&["ls"]).ok();
}

#[test]
fn an_arm64_version_has_two_builds_that_stay() {
    let mut server = aws();
    let text = "
assert [(b['architecture'], b['chipset'], b['chipsetGeneration']) for b in items] == [
    ('ARM_64', 'GRAVITON', '4'), ('ARM_64', 'GRAVITON', '3')], items
assert items[0]['buildId'] != items[1]['buildId'] and items[0]['createdAt'] == items[1]['createdAt']
for item in items:
    found = mv.get_microvm_image_build(buildId=item['buildId'], **of)
    assert found['buildState'] == item['buildState'] == 'SUCCESSFUL', found
    assert found['chipsetGeneration'] == item['chipsetGeneration'] and found['snapshotBuild'], found
page = mv.list_microvm_image_builds(maxResults=1, **of)
rest = mv.list_microvm_image_builds(maxResults=1, nextToken=page['nextToken'], **of)
assert page['items'] + rest['items'] == items and not rest.get('nextToken'), (page, rest)
third = mv.list_microvm_image_builds(chipsetGeneration='3', **of)['items']
assert third == items[1:], third
assert mv.list_microvm_image_builds(architecture='X86_64', **of)['items'] == []
base = mv.list_managed_microvm_images()['items'][0]['imageArn']
managed = mv.list_managed_microvm_image_versions(imageIdentifier=base)['items'][0]
assert {'architecture': 'ARM_64'} in managed['supportedCpuConfigurations'], managed
for item in items:
    print(item['buildId'])
";
    let text = format!("{BUILDS}{text}");
    let before = server.python(&text, &[]).ok();
    server.kill().unwrap();
    server.serve().unwrap();
    assert_eq!(server.python(&text, &[]).ok(), before);
}

const ASK: &str = "
s3.create_bucket(Bucket='artifacts')
s3.put_object(Bucket='artifacts', Key='a.zip', Body=artifact({'Dockerfile': 'FROM scratch'}))
def ask(name, architecture):
    return create(name, 's3://artifacts/a.zip', cpuConfigurations=[{'architecture': architecture}])['imageArn']
";

#[test]
fn any_architecture_may_be_asked_for() {
    let text = "
for name, architecture, wanted in (('arm', 'ARM_64', ['4', '3']), ('x86', 'X86_64', ['1'])):
    arn = ask(name, architecture)
    until(lambda: image_state(arn), ['CREATED'])
    items = mv.list_microvm_image_builds(imageIdentifier=arn, imageVersion='1.0')['items']
    assert [item['chipsetGeneration'] for item in items] == wanted, items
    assert {item['architecture'] for item in items} == {architecture}, items
";
    let server = Server::start_with(AWS).unwrap_or_else(|error| panic!("{error:#}"));
    server.python(&format!("{ASK}{text}"), &[]).ok();
}

#[test]
fn without_it_what_this_host_does_not_run_is_refused() {
    let text = "
import platform
host, other = ('ARM_64', 'X86_64') if platform.machine() == 'aarch64' else ('X86_64', 'ARM_64')
status, kind, said = refused(ask, name='other', architecture=other)
assert (status, kind) == (400, 'ValidationException'), (status, kind)
assert other in said and said.endswith(f'Supported architectures are: [{host}].'), said
arn = ask('host', host)
until(lambda: image_state(arn), ['CREATED'])
items = mv.list_microvm_image_builds(imageIdentifier=arn, imageVersion='1.0')['items']
assert [item['architecture'] for item in items] == [host], items
base = mv.list_managed_microvm_images()['items'][0]['imageArn']
managed = mv.list_managed_microvm_image_versions(imageIdentifier=base)['items'][0]
assert managed['supportedCpuConfigurations'] == [{'architecture': host}], managed
current = mv.get_microvm_image_version(imageIdentifier=arn, imageVersion='1.0')
update = {key: current[key] for key in ('baseImageArn', 'codeArtifact', 'buildRoleArn')}
update['cpuConfigurations'] = [{'architecture': other}]
assert refused(mv.update_microvm_image, imageIdentifier=arn, **update)[0] == 400
";
    super::server().python(&format!("{ASK}{text}"), &[]).ok();
}

/// The profile can be turned on and off: microVMs are called as the server says now.
#[test]
fn microvms_follow_a_change_of_the_profile() {
    let mut server = super::with_image();
    let id = run(&server, &["--idle", "300"]);
    server.hearth(&["suspend", &id]).ok();
    let endpoint = |server: &Server| {
        let text = "import sys\nprint(mv.get_microvm(microvmIdentifier=sys.argv[1])['endpoint'])";
        server.python(text, &[&id]).ok().trim().to_owned()
    };
    assert!(endpoint(&server).contains(".localhost:"));
    let settings = server.data_dir.join("hearth.toml");
    std::fs::write(&settings, AWS).unwrap();
    server.stop().unwrap();
    server.serve().unwrap();
    assert!(endpoint(&server).ends_with(".on.aws"));
    assert_eq!(served(&server, &id), 1);
    std::fs::remove_file(&settings).unwrap();
    server.hearth(&["suspend", &id]).ok();
    server.stop().unwrap();
    server.serve().unwrap();
    assert!(endpoint(&server).contains(".localhost:"));
    assert_eq!(served(&server, &id), 2);
}

#[test]
fn a_failed_suspend_hook_ends_the_microvm() {
    for (settings, wanted) in [(AWS, "TERMINATED"), ("", "RUNNING")] {
        let server = Server::start_with(settings).unwrap_or_else(|error| panic!("{error:#}"));
        build(&server, "hello", &["--env", "HEARTH_FAKE_SUSPEND_STATUS=500"]).ok();
        let id = run(&server, &[]);
        let text = "
import sys
vm = sys.argv[1]
mv.suspend_microvm(microvmIdentifier=vm)
look = lambda: mv.get_microvm(microvmIdentifier=vm)
until(lambda: look()['state'] if look().get('stateReason') else None, [sys.argv[2]])
reason = look()['stateReason']
assert reason.startswith('Suspend lifecycle hook returned HTTP status 500. '), reason
";
        server.python(text, &[&id, wanted]).ok();
    }
}
