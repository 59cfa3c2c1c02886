//! Network connectors, by boto3's `lambda-core`: the whole life, every refusal, versions, pages, tags, and a server that is
//! killed in the middle.

use super::server;

#[test]
fn connectors_live_as_the_service_s() {
    let server = server();
    let script = concat!(include_str!("connectors_prelude.py"), "\n", include_str!("connectors.py"));
    assert_eq!(server.python(script, &[]).ok().trim(), "all as the service");
}

#[test]
fn the_aws_cli_reads_them() {
    let server = server();
    let configuration = "VpcEgressConfiguration={SubnetIds=[subnet-0a],NetworkProtocol=IPv4,\
                         AssociatedComputeResourceTypes=[MicroVm]}";
    let role = "arn:aws:iam::000000000000:role/operator";
    let create = ["lambda-core", "create-network-connector", "--name", "cli", "--operator-role", role];
    let made = server.aws(&[&create[..], &["--configuration", configuration, "--tags", "a=b"]].concat()).json();
    assert_eq!(made["State"], "PENDING");
    // The CLI's own model is older than boto3's and does not know every member.
    let got = server.aws(&["lambda-core", "get-network-connector", "--identifier", "cli"]).json();
    assert_eq!((got["Arn"].as_str(), got["Version"].as_u64()), (made["Arn"].as_str(), Some(1)));
    let listed = server.aws(&["lambda-core", "list-network-connectors"]).json();
    assert_eq!(listed["NetworkConnectors"][0]["Name"], "cli");
}

/// Whatever the server was doing with them when it died, connectors settle, and what was to go is gone.
#[test]
fn kill_9_leaves_no_connector_between_states() {
    let mut server = server();
    let script = "made = [connector(f'n{i}')['Arn'] for i in range(20)]
for arn in made[:10]:
    until(lambda: connector_state(arn), ['ACTIVE'])
for arn in made[:5]:
    core.delete_network_connector(Identifier=arn)
for arn in made[5:10]:
    core.update_network_connector(Identifier=arn, OperatorRole=OTHER_ROLE)
print(core.list_network_connectors()['NetworkConnectors'][-1]['Id'])
page = core.list_network_connectors(MaxItems=3)
print(page['NextMarker'])";
    let prelude = include_str!("connectors_prelude.py");
    let said = server.python(&format!("{prelude}\n{script}"), &[]).ok();
    let marker = said.lines().last().unwrap().to_owned();
    server.kill().unwrap();
    server.serve().unwrap();
    let script = "import sys
def settled():
    all = core.list_network_connectors()['NetworkConnectors']
    return sorted((one['Name'], one['State'], one['LatestVersion']) for one in all)
wanted = sorted((f'n{i}', 'ACTIVE', 2 if i < 10 else 1) for i in range(5, 20))
until(settled, [wanted])
for i in range(5, 10):
    got = core.get_network_connector(Identifier=f'n{i}')
    assert got['LastUpdateStatus'] == 'Successful' and got['OperatorRole'] == OTHER_ROLE, got
names = [one['Name'] for one in core.list_network_connectors(Marker=sys.argv[1])['NetworkConnectors']]
assert names == [f'n{i}' for i in range(16, 4, -1)], names
print('settled')";
    assert_eq!(server.python(&format!("{prelude}\n{script}"), &[&marker]).ok().trim(), "settled");
}
