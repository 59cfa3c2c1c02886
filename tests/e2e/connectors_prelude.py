core = boto3.client("lambda-core")
ROLE = "arn:aws:iam::000000000000:role/operator"
OTHER_ROLE = "arn:aws:iam::000000000000:role/other"


def vpc(**changes):
    vpc = {"SubnetIds": ["subnet-0a"], "NetworkProtocol": "IPv4", "AssociatedComputeResourceTypes": ["MicroVm"]}
    return {"VpcEgressConfiguration": {**vpc, **changes}}


def connector(name, **more):
    return core.create_network_connector(
        **{"Name": name, "Configuration": vpc(), "OperatorRole": ROLE, **more}
    )


def connector_state(identifier):
    return core.get_network_connector(Identifier=identifier)["State"]


def update_status(identifier):
    return core.get_network_connector(Identifier=identifier).get("LastUpdateStatus")


def gone(identifier):
    try:
        connector_state(identifier)
    except ClientError as error:
        return error.response["Error"]["Code"] == "ResourceNotFoundException"
    return False
