"""Lines 1 to 16 and others that the API alone can show, with an engine of any kind."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from world import ROLE, expect_refusal, refused


def b01_bare_image_name_refused_arn_accepted(w):
    expect_refusal(w.mv.get_microvm_image, 400, "Invalid ARN format", imageIdentifier="app")
    expect_refusal(w.mv.run_microvm, 400, "Malformed ARN - doesn't start with 'arn:'", imageIdentifier="app")
    arn = w.created["imageArn"]
    assert w.mv.get_microvm_image(imageIdentifier=arn)["name"] == "app"


def b02_create_answers_201_creating_with_defaults(w):
    made = w.mv.create_microvm_image(
        name="least", codeArtifact={"uri": "s3://appendix-b/none.zip"}, baseImageArn=w.base, buildRoleArn=ROLE
    )
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201, made
    assert (made["state"], made["imageVersion"]) == ("CREATING", "1.0"), made
    assert made["resources"] == [{"minimumMemoryInMiB": 2048}], made
    assert [arn.rsplit(":", 1)[1] for arn in made["egressNetworkConnectors"]] == ["INTERNET_EGRESS"], made
    assert made["baseImageVersion"].endswith(".0"), made
    for absent in ("cpuConfigurations", "hooks", "logging", "environmentVariables", "tags"):
        assert absent not in made, made


def b03_duplicate_name_refused(w):
    expect_refusal(w.create, 400, "A MicroVM image with the name 'app' already exists in this account", name="app")


def b04_update_mints_next_major_and_resets(w):
    made = w.updated
    assert (made["state"], made["imageVersion"]) == ("UPDATING", "2.0"), made
    assert made["resources"] == [{"minimumMemoryInMiB": 2048}], made
    assert "description" not in made and "environmentVariables" not in made, made
    assert w.mv.get_microvm_image(imageIdentifier=w.plain)["latestActiveImageVersion"] == "2.0"


def b05_other_sizes_refused_with_the_five(w):
    words = "Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192]."
    for size in (511, 600, 16384):
        expect_refusal(w.create, 400, words, name="never", resources=[{"minimumMemoryInMiB": size}])


def b06_runtime_hook_without_ready_refused(w):
    for hook in ("run", "resume", "suspend", "terminate"):
        hooks = {"port": 9000, "microvmHooks": {hook: "ENABLED"}}
        words = "The ready (/ready) MicroVM image hook must be enabled"
        expect_refusal(w.create, 400, words, name="never", hooks=hooks)


def b07_payload_of_4096_characters_and_no_more(w):
    payload = '{"fill": "' + "x" * (4096 - 12) + '"}'
    assert len(payload) == 4096
    vm = w.run(runHookPayload=payload)
    w.terminate(vm)
    status, response = refused(w.mv.run_microvm, imageIdentifier=w.app, runHookPayload=payload + "x")
    said = response["Error"]["Message"]
    assert status == 400 and "'runHookPayload'" in said and "4096" in said and "xxx" not in said, (status, said)


def b08_payload_without_run_hook_refused(w):
    words = "The run hook must be enabled in the MicroVM image to pass the run hook payload."
    expect_refusal(w.mv.run_microvm, 400, words, imageIdentifier=w.plain, runHookPayload="{}")


def b09_run_without_anything_optional(w):
    vm = w.run()
    assert (vm["maximumDurationInSeconds"], vm["imageVersion"]) == (28800, "1.0"), vm
    assert "idlePolicy" not in vm and "executionRoleArn" not in vm, vm
    assert [arn.rsplit(":", 1)[1] for arn in vm["ingressNetworkConnectors"]] == ["HTTP_INGRESS"], vm
    w.terminate(vm)


def b10_no_active_version_is_404(w):
    words, run = "No active version found for MicroVM image", w.mv.run_microvm
    expect_refusal(run, 404, f"{words} {w.oldest}", imageIdentifier=w.oldest)
    expect_refusal(run, 404, f"{words} {w.app} and version 9.0", imageIdentifier=w.app, imageVersion="9.0")
    arn = w.updated["imageArn"]
    w.mv.update_microvm_image_version(imageIdentifier=arn, imageVersion="1.0", status="INACTIVE")
    expect_refusal(run, 404, f"{words} {arn} and version 1.0", imageIdentifier=arn, imageVersion="1.0")


def b11_quota_is_402_with_null_details(w):
    """On a server of its own, for its quotas would be in the way of all other lines."""
    with tempfile.TemporaryDirectory() as directory:
        data = pathlib.Path(directory)
        (data / "hearth.toml").write_text("[quotas]\nenabled = true\nmemory_gib = 1\nother_rate = 1000\n")
        serve = [os.environ["HEARTH_BIN"], "serve", "--engine", "fake", "--api", "127.0.0.1:0", "--ingress", "127.0.0.1:0"]
        with open(data / "log", "wb") as log:
            server = subprocess.Popen([*serve, "--data-dir", directory], stdout=log, stderr=log)
        try:
            shell = 'eval "$("$0" env --wait 1 --data-dir "$1")" && env -0'
            for _ in range(30):
                told = subprocess.run(["sh", "-c", shell, serve[0], directory], capture_output=True, text=True)
                if told.returncode == 0 or server.poll() is not None:
                    break
            assert told.returncode == 0, told.stderr + (data / "log").read_text()
            settings = dict(pair.split("=", 1) for pair in told.stdout.split("\0") if "=" in pair)
            judge_quota(settings)
        finally:
            server.terminate()
            server.wait(30)


def judge_quota(settings):
    here = pathlib.Path(__file__).with_name("quota.py")
    done = subprocess.run([sys.executable, here], env=settings, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    status, body = json.loads(done.stdout)
    assert status == 402, (status, body)
    words = body.pop("message")
    assert words == "The base maximum allocated memory limit has been reached for this account.", words
    assert body == dict.fromkeys(("resourceId", "resourceType", "serviceCode", "quotaCode")), body


def b12_token_of_61_minutes_refused_suspended_ok(w):
    vm = w.run()
    mint = w.mv.create_microvm_auth_token
    arguments = {"microvmIdentifier": vm["microvmId"], "allowedPorts": [{"port": 8080}]}
    expect_refusal(mint, 400, "ExpirationMinutes 61 exceeded max allowed of 60.", expirationInMinutes=61, **arguments)
    w.suspend(vm)
    assert mint(expirationInMinutes=60, **arguments)["authToken"]
    assert w.state(vm) == "SUSPENDED"
    w.terminate(vm)


def b13_shell_token_without_connector_refused(w):
    vm = w.run()
    words = "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM."
    mint = w.mv.create_microvm_shell_auth_token
    expect_refusal(mint, 400, words, microvmIdentifier=vm["microvmId"], expirationInMinutes=5)
    w.terminate(vm)


def b14_terminate_twice_is_200_then_suspend_is_400(w):
    vm = w.run()
    w.terminate(vm)
    w.mv.terminate_microvm(microvmIdentifier=vm["microvmId"])
    words = f"The MicroVM {vm['microvmId']} has been terminated and its state cannot be changed."
    expect_refusal(w.mv.suspend_microvm, 400, words, microvmIdentifier=vm["microvmId"])


def b15_terminated_readable_with_success(w):
    vm = w.run()
    w.terminate(vm)
    got = w.get(vm)
    assert got["stateReason"] == "Success." and got["terminatedAt"] >= got["startedAt"], got


def b16_empty_page_with_cursor_is_legal(w):
    """A client that stops at the cursor's end only, as it must, finds what lies behind pages that hold nothing for it."""
    found, pages, cursor = [], 0, {}
    while True:
        page = w.mv.list_microvm_images(nameFilter="oldest", maxResults=1, **cursor)
        found += [item["imageArn"] for item in page["items"]]
        pages += 1
        assert len(page["items"]) <= 1 and pages < 100, page
        if not page.get("nextToken"):
            break
        cursor = {"nextToken": page["nextToken"]}
    assert found == [w.oldest], found
