# Clients of other keys than the server's own; goes between prelude.py and a test.
import sys

KEYS = json.loads(sys.argv[1])


def of(key, service="lambda-microvms", token=None):
    return boto3.client(
        service,
        aws_access_key_id=key["accessKeyId"],
        aws_secret_access_key=key["secretAccessKey"],
        aws_session_token=token,
    )


def session(key):
    """A client for a session of that key, and its credentials."""
    made = of(key, "sts").get_session_token(DurationSeconds=900)["Credentials"]
    own = {"accessKeyId": made["AccessKeyId"], "secretAccessKey": made["SecretAccessKey"]}
    return own, made["SessionToken"]


def denied(call, action, resource, **arguments):
    status, code, message = refused(call, **arguments)
    assert (status, code) == (403, "AccessDeniedException"), (status, code, message)
    assert f"is not authorized to perform: {action} on resource: {resource} " in message, message
    return message


ACCOUNT, OTHER = "000000000000", "222222222222"
ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:microvm-image:"
IMAGE = ARN + "hello"
