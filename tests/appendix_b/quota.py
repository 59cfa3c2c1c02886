"""Runs microVMs until the server refuses; prints the refusal's status and body. Settings come from the environment."""

import io
import json
import sys
import time
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

mv, s3 = boto3.client("lambda-microvms", config=Config(retries={"mode": "standard"})), boto3.client("s3")
bodies = []
mv.meta.events.register("before-parse.lambda-microvms.RunMicrovm", lambda response_dict, **_: bodies.append(response_dict["body"]))
zipped = io.BytesIO()
with zipfile.ZipFile(zipped, "w") as archive:
    archive.writestr("Dockerfile", "FROM scratch\n")
s3.create_bucket(Bucket="quota")
s3.put_object(Bucket="quota", Key="a.zip", Body=zipped.getvalue())
image = mv.create_microvm_image(
    name="quota",
    codeArtifact={"uri": "s3://quota/a.zip"},
    baseImageArn=mv.list_managed_microvm_images()["items"][0]["imageArn"],
    buildRoleArn="arn:aws:iam::000000000000:role/build",
    resources=[{"minimumMemoryInMiB": 512}],
)["imageArn"]
end = time.monotonic() + 20
while mv.get_microvm_image(imageIdentifier=image)["state"] == "CREATING" and time.monotonic() < end:
    time.sleep(0.05)
for _ in range(3):
    try:
        mv.run_microvm(imageIdentifier=image)
    except ClientError as error:
        print(json.dumps([error.response["ResponseMetadata"]["HTTPStatusCode"], json.loads(bodies[-1])]))
        sys.exit()
sys.exit("three microVMs of 512 MiB ran in 1 GiB")
