//! Quotas and rates, as an account meets them.

use e2e::Server;

use super::build;

/// Rates that no test here reaches, unless it says so.
const FAST: &str = "other_rate = 10000\nrates = { RunMicrovm = 10000, GetMicrovm = 10000, TerminateMicrovm = 10000 }\n";

fn server(quotas: &str) -> Server {
    let settings = format!("[quotas]\nenabled = true\n{quotas}");
    Server::start_with(&settings).unwrap_or_else(|error| panic!("{error:#}"))
}

const RUN: &str = "
import sys, uuid
from concurrent.futures import ThreadPoolExecutor
arn = mv.list_microvm_images()['items'][0]['imageArn']
def run(token=None, **more):
    try:
        return mv.run_microvm(imageIdentifier=arn, clientToken=token or str(uuid.uuid4()), **more)['microvmId']
    except ClientError as error:
        return error
def full(answer):
    meta = answer.response['ResponseMetadata']
    assert (meta['HTTPStatusCode'], answer.response['Error']['Code']) == (402, 'ServiceQuotaExceededException'), answer
    return answer.response['Error']['Message']
def live():
    return [vm['microvmId'] for vm in mv.list_microvms()['items'] if vm['state'] != 'TERMINATED']
MEMORY = 'The base maximum allocated memory limit has been reached for this account.'
";

fn script(server: &Server, text: &str) {
    server.python(&format!("{RUN}{text}"), &[]).ok();
}

#[test]
fn twenty_at_once_never_exceed_the_memory_and_an_end_gives_it_back() {
    let mut server = server(&format!("memory_gib = 4\n{FAST}"));
    build(&server, "hello", &[]).ok();
    script(
        &server,
        "
with ThreadPoolExecutor(20) as pool:
    answers = list(pool.map(lambda _: run(), range(20)))
started = [answer for answer in answers if isinstance(answer, str)]
assert len(started) == 2 and sorted(live()) == sorted(started), answers
assert {full(answer) for answer in answers if not isinstance(answer, str)} == {MEMORY}

# A repeat adds nothing; a token that was refused is as good as new.
for vm in started:
    until(lambda: state(vm), ['RUNNING'])
mv.terminate_microvm(microvmIdentifier=started[0])
until(lambda: state(started[0]), ['TERMINATED'])
first = run('a-token-of-mine')
assert full(run('another-token')) == MEMORY
assert run('a-token-of-mine') == first and len(live()) == 2

# What sleeps still counts.
until(lambda: state(first), ['RUNNING'])
mv.suspend_microvm(microvmIdentifier=first)
until(lambda: state(first), ['SUSPENDED'])
assert full(run()) == MEMORY
mv.terminate_microvm(microvmIdentifier=started[1])
until(lambda: state(started[1]), ['TERMINATED'])
second = run('another-token')
assert isinstance(second, str), second
until(lambda: state(second), ['RUNNING'])
mv.suspend_microvm(microvmIdentifier=second)
until(lambda: state(second), ['SUSPENDED'])
",
    );
    server.kill().unwrap();
    server.serve().unwrap();
    script(&server, "assert len(live()) == 2 and full(run()) == MEMORY");
}

#[test]
fn microvms_have_a_number_too() {
    let server = server(&format!("microvms = 3\n{FAST}"));
    build(&server, "hello", &["--memory", "512"]).ok();
    script(
        &server,
        "
with ThreadPoolExecutor(10) as pool:
    answers = list(pool.map(lambda _: run(), range(10)))
assert len(live()) == 3
refused = [answer for answer in answers if not isinstance(answer, str)]
assert len(refused) == 7 and {full(answer)[-11:] for answer in refused} == {'MicroVMs: 3'}, refused
",
    );
}

#[test]
fn images_versions_and_builds_have_their_quotas() {
    let server = server(&format!("images = 2\nversions = 2\nbuilds = 1\n{FAST}"));
    let text = "
s3.create_bucket(Bucket='artifacts')
s3.put_object(Bucket='artifacts', Key='a.zip', Body=artifact({'Dockerfile': 'FROM scratch'}))
SLOW = dict(
    hooks={**HOOKS, 'microvmImageHooks': {'ready': 'ENABLED', 'readyTimeoutInSeconds': 2}},
    environmentVariables={'HEARTH_FAKE_READY_STATUS': '503'},
)
def full(call, **arguments):
    status, kind, text = refused(call, **arguments)
    assert (status, kind) == (402, 'ServiceQuotaExceededException'), (status, kind, text)
    return text
slow = create('slow', 's3://artifacts/a.zip', **SLOW)['imageArn']
assert 'concurrent MicroVM image builds: 1' in full(create, name='fine', uri='s3://artifacts/a.zip')
until(lambda: image_state(slow), ['CREATE_FAILED'])
fine = create('fine', 's3://artifacts/a.zip', hooks=HOOKS)['imageArn']
until(lambda: image_state(fine), ['CREATED'])
assert 'MicroVM images: 2' in full(create, name='third', uri='s3://artifacts/a.zip')
assert 'already exists' in refused(create, name='fine', uri='s3://artifacts/a.zip')[2], 'which is told first'

def update(**more):
    current = mv.get_microvm_image_version(imageIdentifier=fine, imageVersion='1.0')
    keys = ('baseImageArn', 'codeArtifact', 'buildRoleArn', 'hooks')
    return mv.update_microvm_image(imageIdentifier=fine, **{**{key: current[key] for key in keys}, **more})
assert update()['imageVersion'] == '2.0'
until(lambda: image_state(fine), ['UPDATED'])
assert 'versions of a MicroVM image: 2' in full(update)
assert image_state(fine) == 'UPDATED', 'nothing was changed'
mv.delete_microvm_image_version(imageIdentifier=fine, imageVersion='2.0')
until(lambda: image_state(fine), ['UPDATED'])
assert update()['imageVersion'] == '3.0'
until(lambda: image_state(fine), ['UPDATED'])
mv.delete_microvm_image(imageIdentifier=slow)
until(lambda: len(mv.list_microvm_images()['items']), [1])
create('third', 's3://artifacts/a.zip', hooks=HOOKS)
";
    server.python(text, &[]).ok();
}

const IMPATIENT: &str = "
from botocore.config import Config
fast = boto3.client('lambda-microvms', config=Config(retries={'max_attempts': 0}))
def calls(call, times, **arguments):
    errors = []
    for _ in range(times):
        try:
            call(**arguments)
        except ClientError as error:
            errors.append(error.response)
    return errors
";

#[test]
fn who_is_too_fast_gets_429_and_clients_that_wait_get_through() {
    let server = server("other_rate = 1000\nrates = { ListMicrovms = 2, ListTags = 1 }\nbursts = { ListMicrovms = 3 }");
    let text = "
errors = calls(fast.list_microvms, 20)
assert 14 <= len(errors) <= 17, len(errors)
for error in errors:
    meta = error['ResponseMetadata']
    assert (meta['HTTPStatusCode'], error['Error']['Code']) == (429, 'ThrottlingException'), error
    assert meta['HTTPHeaders']['retry-after'] == '1', meta
arn = 'arn:aws:lambda:us-east-1:000000000000:microvm-image:none'
codes = [error['Error']['Code'] for error in calls(fast.list_tags, 3, Resource=arn)]
assert codes == ['ResourceNotFoundException', 'TooManyRequestsException', 'TooManyRequestsException'], codes
for _ in range(2):
    time.sleep(1)  # as Retry-After says
    assert calls(fast.list_microvms, 1) == []
";
    server.python(&format!("{IMPATIENT}{text}"), &[]).ok();
    for _ in 0..5 {
        server.hearth(&["ls"]).ok();
    }
}

#[test]
fn one_switch_turns_everything_off() {
    for settings in ["", "[compat]\nprofile = \"aws\"\n[quotas]\nenabled = false\nmemory_gib = 1\nother_rate = 1"] {
        let server = Server::start_with(settings).unwrap_or_else(|error| panic!("{error:#}"));
        build(&server, "hello", &[]).ok();
        script(&server, &format!("{IMPATIENT}\nassert calls(fast.list_microvms, 50) == []"));
        script(&server, "assert all(isinstance(run(), str) for _ in range(8)) and len(live()) == 8");
    }
}

#[test]
fn a_setting_out_of_its_bounds_stops_the_start() {
    for (settings, said) in [
        ("[quotas]\nbuilds = 0", "quotas.builds is 0, must be 1..=1000000"),
        ("[quotas.rates]\nRunMicrovm = 0", "quotas.rates.RunMicrovm is 0, must be 1..=100000"),
        ("[quotas.rates]\nStartMicrovm = 1", "StartMicrovm"),
        ("[compat]\nprofile = \"azure\"", "azure"),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("hearth.toml"), settings).unwrap();
        let mut command = std::process::Command::new(e2e::hearth_path().unwrap());
        let ports = ["--engine", "fake", "--api", "127.0.0.1:0", "--ingress", "127.0.0.1:0"];
        let refused = e2e::run(command.arg("serve").args(ports).arg("--data-dir").arg(scratch.path())).unwrap();
        assert_eq!(refused.code, Some(1), "{settings}");
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
}
