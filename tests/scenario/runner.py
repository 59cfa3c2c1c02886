"""Plays a scenario file with boto3 or with the AWS CLI: `runner.py boto3|aws scenario.toml`.

The file's own first lines say what a step is. Settings come from the environment alone, as `hearth env` prints them.
The AWS CLI does not tell an error's HTTP status, so that is compared by the SDKs only.
"""

import base64
import datetime
import gc
import http.client
import json
import os
import re
import socket
import ssl
import sys
import tempfile
import time
import tomllib

PAUSE_SECONDS = 0.02


class Refused(Exception):
    """The service's error."""

    def __init__(self, status, code, message):
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


class Boto3:
    def __init__(self):
        import boto3
        from botocore import xform_name
        from botocore.exceptions import ClientError

        self.microvms, self.s3 = boto3.client("lambda-microvms"), boto3.client("s3")
        self.name, self.error = xform_name, ClientError

    def call(self, operation, given):
        try:
            answer = getattr(self.microvms, self.name(operation))(**given)
        except self.error as error:
            told = error.response["Error"]
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            raise Refused(status, told["Code"], told["Message"]) from None
        answer.pop("ResponseMetadata")
        return answer

    def upload(self, bucket, key, body):
        self.s3.create_bucket(Bucket=bucket)
        self.s3.put_object(Bucket=bucket, Key=key, Body=body)


class AwsCli:
    TOLD = re.compile(r"An error occurred \((\w+)\) when calling the \w+ operation: (.*)", re.DOTALL)

    def __init__(self):
        from awscli import clidriver

        self.main = clidriver.main
        gc.freeze()  # what a child's collector does not touch is not copied

    def run(self, *arguments, stdin=b""):
        """`aws <arguments>`, in a process forked from this one: most of a call's time would be Python's imports."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            child = os.fork()
            if child == 0:
                self.become(arguments, given, out, err)
            _, status = os.waitpid(child, 0)
            for file in (out, err):
                file.seek(0)
            return os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode()

    def become(self, arguments, *files):
        code = 255
        try:
            for descriptor, file in enumerate(files):
                os.dup2(file.fileno(), descriptor)
            sys.argv = ["aws", *arguments]
            code = self.main()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def call(self, operation, given):
        verb = re.sub(r"(?<!^)(?=[A-Z])", "-", operation).lower()
        # One page is one call, as it is for the others.
        more = ["--cli-input-json", json.dumps(given), "--output", "json", "--no-paginate"]
        code, out, err = self.run("lambda-microvms", verb, *more)
        if code == 0:
            return json.loads(out) if out.strip() else {}
        told = self.TOLD.search(err)
        assert told, f"aws {verb} ended with {code}: {err}"
        raise Refused(None, told[1], told[2].strip())

    def upload(self, bucket, key, body):
        for arguments in (["s3", "mb", f"s3://{bucket}"], ["s3", "cp", "-", f"s3://{bucket}/{key}"]):
            code, _, err = self.run(*arguments, stdin=body)
            assert code == 0, f"aws {arguments}: {err}"


def request(step):
    """An HTTPS request to an endpoint. `*.localhost` is this host (RFC 6761), whatever the resolver thinks."""
    host, _, port = step["host"].partition(":")
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    raw = socket.create_connection(("127.0.0.1", int(port or 443)), timeout=30)
    connection = http.client.HTTPSConnection(host, int(port or 443), context=context)
    connection.sock = context.wrap_socket(raw, server_hostname=host)
    headers = {"Host": step["host"], **step.get("headers", {})}
    connection.request(step.get("method", "GET"), step.get("path", "/"), step.get("body"), headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    try:
        body = json.loads(text)
    except ValueError:
        body = text
    return {"status": answer.status, "headers": {k.lower(): v for k, v in answer.getheaders()}, "body": body}


def filled(value, variables):
    """`value` with each ${name} replaced."""
    if isinstance(value, dict):
        return {filled(key, variables): filled(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, variables) for each in value]
    if not isinstance(value, str):
        return value
    return re.sub(r"\$\{(\w+)\}", lambda found: variables[found[1]], value)


def look(value, path):
    """What lies at a dotted path; None when there is nothing. `*` is each element of a list."""
    for at, name in enumerate(path):
        if name == "*":
            return [look(each, path[at + 1 :]) for each in value or []]
        if isinstance(value, list) and name.isdigit():
            value = value[int(name)] if int(name) < len(value) else None
        elif isinstance(value, dict):
            value = value.get(name)
        else:
            return None
    return value


def seconds(value):
    """A point in time, whatever the client makes of it, in seconds since 1970."""
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    return value.timestamp() if isinstance(value, datetime.datetime) else value


def fits(found, wanted):
    """Is it what the matcher wants?"""
    kind, bound = next(iter(wanted.items())) if isinstance(wanted, dict) and len(wanted) == 1 else (None, None)
    match kind:
        case "absent":
            return (found is None) == bound
        case "matches":
            return isinstance(found, str) and re.search(bound, found) is not None
        case "count":
            return found is not None and len(found) == bound
        case "recent":
            return found is not None and abs(time.time() - seconds(found)) < bound
        case "above":
            return isinstance(found, (int, float)) and found > bound
        case "has":
            return isinstance(found, list) and bound in found
    return found == wanted


def pages(client, operation, given):
    """Every page, and all items."""
    items, count = [], 0
    while True:
        page = client.call(operation, given)
        items, count = items + page["items"], count + 1
        if not page.get("nextToken"):
            return {"items": items, "pages": count}
        assert count < 100, "the list does not end"
        given = {**given, "nextToken": page["nextToken"]}


def perform(client, step):
    if "upload" in step:
        upload = step["upload"]
        client.upload(upload["bucket"], upload["key"], base64.b64decode(upload["base64"]))
        return {}
    if "request" in step:
        return request(step["request"])
    given = step.get("input", {})
    return pages(client, step["call"], given) if step.get("pages") else client.call(step["call"], given)


def judged(client, step):
    """What came of the step, and what is wrong with it."""
    wanted = step.get("error")
    try:
        answer = perform(client, step)
    except Refused as refused:
        if wanted is None:
            return {}, [f"refused: {refused}"]
        told = {"status": refused.status or wanted["status"], "code": refused.code, "message": refused.message}
        return {}, differences(told, wanted)
    if wanted is not None:
        return answer, [f"not refused, wanted {wanted}"]
    found = {path: look(answer, path.split(".")) for path in step.get("expect", {})}
    return answer, differences(found, step.get("expect", {}))


def differences(found, wanted):
    return [f"{key} is {found[key]!r}, wanted {want!r}" for key, want in wanted.items() if not fits(found[key], want)]


def play(client, step, variables):
    step = filled(step, variables)
    end = time.monotonic() + step.get("within", 0)
    while True:
        answer, wrong = judged(client, step)
        if not wrong or time.monotonic() >= end:
            break
        time.sleep(PAUSE_SECONDS)
    for name, path in step.get("save", {}).items() if not wrong else ():
        value = look(answer, path.split("."))
        if not isinstance(value, str):
            wrong.append(f"{path} is {value!r}, which is no text to keep as {name}")
        variables[name] = value
    return wrong


def main():
    kind, path = sys.argv[1:]
    client = {"boto3": Boto3, "aws": AwsCli}[kind]()
    with open(path, "rb") as file:
        steps = tomllib.load(file)["step"]
    variables, operations = {}, set()
    for number, step in enumerate(steps, 1):
        if kind in step.get("not_by", []):
            continue
        wrong = play(client, step, variables)
        if wrong:
            sys.exit(f"step {number}, {step['say']}: " + "; ".join(wrong))
        operations.add(step.get("call"))
    print(json.dumps({"steps": len(steps), "operations": sorted(operations - {None})}))


main()
