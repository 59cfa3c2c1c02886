import re

INVALID = (400, "InvalidParameterValueException")
CONFLICT = (409, "ResourceConflictException")
ABSENT = (404, "ResourceNotFoundException")
LIMIT = (400, "NetworkConnectorLimitExceededException")


def is_refused(kind, call, words="", **arguments):
    status, code, text = refused(call, **arguments)
    assert (status, code) == kind and words in text, (status, code, text)


# Life: PENDING, ACTIVE, by every name.
made = connector("main", Tags={"team": "a"}, ClientToken="first")
arn, nc = made["Arn"], made["Id"]
assert re.fullmatch(r"arn:aws:lambda:[a-z0-9-]+:000000000000:network-connector:nc-[0-9a-f-]{36}", arn), arn
assert arn.endswith(nc) and made["VersionArn"] == f"{arn}:1" and made["State"] == "PENDING", made
assert made["Configuration"]["VpcEgressConfiguration"]["SubnetIds"] == ["subnet-0a"], made
until(lambda: connector_state(arn), ["ACTIVE"])
for identifier in (arn, nc, "main"):
    got = core.get_network_connector(Identifier=identifier)
    assert (got["Arn"], got["Version"], got["StateReason"]) == (arn, 1, "Initial creation"), got
    assert "LastUpdateStatus" not in got and "Type" not in got, got
    assert got["LastModified"].year >= 2024, got

# Tokens: the same again is the same connector; the same token with something else is refused.
again = connector("main", Tags={"team": "a"}, ClientToken="first")
assert again["Arn"] == arn, again
is_refused(CONFLICT, connector, "client token", name="other", ClientToken="first")
is_refused(CONFLICT, connector, "'main' already exists", name="main")

# Versions: an update of ACTIVE stays ACTIVE and makes the next one; what it does not name stays.
up = core.update_network_connector(
    Identifier="main", Configuration={"VpcEgressConfiguration": {"SubnetIds": ["subnet-0b"]}}, ClientToken="second"
)
assert (up["State"], up["LastUpdateStatus"], up["Version"]) == ("ACTIVE", "InProgress", 2), up
assert up["Configuration"]["VpcEgressConfiguration"]["NetworkProtocol"] == "IPv4", up
until(lambda: update_status("main"), ["Successful"])
same = core.update_network_connector(
    Identifier="main", Configuration={"VpcEgressConfiguration": {"SubnetIds": ["subnet-0b"]}}, ClientToken="second"
)
assert (same["Version"], same["LastUpdateStatus"]) == (2, "Successful"), same
nothing = core.update_network_connector(Identifier=arn, OperatorRole=ROLE)
assert nothing["ResponseMetadata"]["HTTPStatusCode"] == 202 and nothing["Version"] == 2, nothing
assert nothing["LastUpdateStatus"] == "Successful", nothing
assert nothing["LastUpdateStatusReason"] == "No configuration changes detected", nothing
is_refused(CONFLICT, core.update_network_connector, "client token", Identifier="main", ClientToken="second")
is_refused(INVALID, core.update_network_connector, "names a version", Identifier=f"{arn}:1", OperatorRole=OTHER_ROLE)
old = core.get_network_connector(Identifier=f"{arn}:1")
assert old["Configuration"]["VpcEgressConfiguration"]["SubnetIds"] == ["subnet-0a"], old
assert (old["Version"], old["LatestVersion"], old["LatestVersionArn"]) == (1, 2, f"{arn}:2"), old
is_refused(ABSENT, core.get_network_connector, f"{arn}:9", Identifier=f"{arn}:9")

# Deleting a version: an old one only; its number never comes back.
is_refused(CONFLICT, core.delete_network_connector, "latest version", Identifier=f"{arn}:2")
part = core.delete_network_connector(Identifier=f"{arn}:1")
assert (part["State"], part["Version"]) == ("DELETING", 1), part
assert gone(f"{arn}:1") and connector_state(arn) == "ACTIVE"
core.update_network_connector(Identifier=nc, OperatorRole=OTHER_ROLE)
until(lambda: update_status(nc), ["Successful"])


def numbers(**arguments):
    page = core.list_network_connector_versions(Identifier="main", **arguments)
    return [one["Version"] for one in page["NetworkConnectorVersions"]], page.get("NextMarker")


assert numbers() == ([3, 2], None)
assert numbers(State="ACTIVE") == ([3, 2], None) and numbers(State="FAILED") == ([], None)
first, marker = numbers(MaxItems=1)
assert first == [3] and numbers(MaxItems=1, Marker=marker) == ([2], None)
is_refused(INVALID, core.list_network_connectors, "Marker", Marker=marker)
is_refused(INVALID, core.list_network_connector_versions, "Marker", Identifier="main", Marker="x" + marker)

# The limit of versions, and room again after one went.
for i in range(48):
    core.update_network_connector(Identifier="main", Configuration=vpc(SubnetIds=[f"subnet-{i}"]))
    until(lambda: update_status("main"), ["Successful"])
more = {"Identifier": "main", "Configuration": vpc(SubnetIds=["subnet-more"])}
is_refused(LIMIT, core.update_network_connector, "50 versions", **more)
assert len(numbers()[0]) == 50 and update_status("main") == "Successful"
core.delete_network_connector(Identifier=f"{arn}:2")
assert core.update_network_connector(**more)["Version"] == 52
until(lambda: update_status("main"), ["Successful"])

# Tags.
tags = lambda: mv.list_tags(Resource=arn)["Tags"]
assert tags() == {"team": "a"}
mv.tag_resource(Resource=arn, Tags={"team": "b", "cost": "1"})
mv.untag_resource(Resource=arn, TagKeys=["cost", "nothing"])
assert tags() == {"team": "b"}
is_refused(INVALID, mv.tag_resource, "50 tags at most", Resource=arn, Tags={f"k{i}": "v" for i in range(50)})
is_refused(INVALID, connector, "aws:", name="reserved", Tags={"AWS:x": "v"})
assert tags() == {"team": "b"}
is_refused(ABSENT, mv.list_tags, Resource=arn[:-1] + ("0" if arn[-1] != "0" else "1"))

# Images and microVMs take those that are there, ACTIVE and for MicroVMs.
s3.create_bucket(Bucket="net")
s3.put_object(Bucket="net", Key="a.zip", Body=artifact({"Dockerfile": "FROM scratch\n"}))
REFUSED = (400, "ValidationException")
web = connector("web", Configuration=vpc(AssociatedComputeResourceTypes=["WebFunction"]))["Arn"]
until(lambda: connector_state(web), ["ACTIVE"])
elsewhere = arn.replace(":000000000000:", ":111122223333:")
for wrong, words in (
    (elsewhere, f"Unrecognized network connector ARN: {elsewhere}"),
    (f"{arn}:1", f"Unrecognized network connector ARN: {arn}:1"),
    (web, "MicroVm"),
):
    is_refused(REFUSED, create, words, name="refused", uri="s3://net/a.zip", egressNetworkConnectors=[wrong])
image = create("net", "s3://net/a.zip", hooks=HOOKS, egressNetworkConnectors=[arn])["imageArn"]
until(lambda: image_state(image), ["CREATED"])
is_refused(REFUSED, mv.run_microvm, "MicroVm", imageIdentifier=image, egressNetworkConnectors=[web])
vm = mv.run_microvm(imageIdentifier=image)
assert vm["egressNetworkConnectors"] == [arn], vm
mv.terminate_microvm(microvmIdentifier=vm["microvmId"])
base = mv.list_managed_microvm_images()["items"][0]["imageArn"]
update = {"imageIdentifier": image, "baseImageArn": base, "codeArtifact": {"uri": "s3://net/a.zip"}, "buildRoleArn": ROLE}
is_refused(REFUSED, mv.update_microvm_image, "MicroVm", **update, egressNetworkConnectors=[web])

# The end: idempotent while it lasts, then nothing by that name, and the name is free.
bye = core.delete_network_connector(Identifier="main")
assert bye["State"] == "DELETING", bye
until(lambda: gone(arn), [True])
is_refused(ABSENT, core.delete_network_connector, "main", Identifier="main")
is_refused(ABSENT, core.update_network_connector, "main", Identifier="main")
is_refused(ABSENT, core.list_network_connector_versions, "main", Identifier="main")
is_refused(REFUSED, mv.run_microvm, f"Unrecognized network connector ARN: {arn}", imageIdentifier=image)
fresh = connector("main", Tags={"team": "a"}, ClientToken="first")
assert fresh["Arn"] != arn, "a token that outlived its connector makes a new one"

# Lists, their pages, and the limit of connectors.
for i in range(98):
    connector(f"c{i}")
is_refused(LIMIT, connector, "100 network connectors", name="more")
until(lambda: len(core.list_network_connectors(State="PENDING")["NetworkConnectors"]), [0])
page = core.list_network_connectors(MaxItems=100)
assert len(page["NetworkConnectors"]) == 50, "never more than 50"
rest = core.list_network_connectors(Marker=page["NextMarker"])
assert "NextMarker" not in rest and len(rest["NetworkConnectors"]) == 50
names = [one["Name"] for one in page["NetworkConnectors"] + rest["NetworkConnectors"]]
assert names == [f"c{i}" for i in range(97, -1, -1)] + ["main", "web"], names
assert page["NetworkConnectors"][0]["Type"] == "VPC_EGRESS" and page["NetworkConnectors"][0]["LatestVersion"] == 1
active = core.list_network_connectors(State="ACTIVE", MaxItems=2)
assert [one["Name"] for one in active["NetworkConnectors"]] == ["c97", "c96"], active
is_refused(INVALID, core.list_network_connectors, "Marker", State="FAILED", Marker=active["NextMarker"])
print("all as the service")
