//! The members of the requests for network connectors (spec 9.2).

use super::{Member, Shape, Text, bounds::*, forms, inputs::TAGS, patterns};
use crate::{ComputeResourceType, ConnectorIdentifier, ConnectorState, ElasticIpType, NetworkProtocol, OperatorRole};

const ANY_TEXT: Shape = Shape::Text(Text::ANY);
const NAME: Shape = Shape::Text(Text::of(1, 140).pattern(patterns::CONNECTOR_NAME).form(forms::connector_name));
const IDENTIFIER: Shape = Shape::Text(Text::of(1, ConnectorIdentifier::MAX).form(forms::connector_identifier));
const ROLE: Shape = Shape::Text(Text::of(0, OperatorRole::MAX).pattern(patterns::OPERATOR_ROLE));
const CLIENT_TOKEN: Shape = Shape::Text(Text::of(1, CONNECTOR_CLIENT_TOKEN_CHARS));
const STATE: Shape = Shape::Enum(ConnectorState::NAMES);
const MAX_ITEMS: Shape = Shape::Integer { min: 1, max: CONNECTORS_MAX_ITEMS as i32 };

const SUBNETS: Shape = Shape::List {
    min: 1,
    max: CONNECTOR_SUBNETS,
    item: &Shape::Text(Text::of(0, CONNECTOR_EC2_ID_CHARS).pattern(patterns::SUBNET)),
};
const SECURITY_GROUPS: Shape = Shape::List {
    min: 0,
    max: CONNECTOR_SECURITY_GROUPS,
    item: &Shape::Text(Text::of(0, CONNECTOR_EC2_ID_CHARS).pattern(patterns::SECURITY_GROUP)),
};
const COMPUTE_TYPES: Shape = Shape::List { min: 1, max: 1, item: &Shape::Enum(ComputeResourceType::NAMES) };
const ELASTIC_IP: Shape = Shape::Structure(&[Member::body("Type", &Shape::Enum(ElasticIpType::NAMES)).required()]);
const VPC_EGRESS: Shape = Shape::Structure(&[
    Member::body("SubnetIds", &SUBNETS),
    Member::body("SecurityGroupIds", &SECURITY_GROUPS),
    Member::body("NetworkProtocol", &Shape::Enum(NetworkProtocol::NAMES)),
    Member::body("AssociatedComputeResourceTypes", &COMPUTE_TYPES),
    Member::body("ElasticIpConfiguration", &ELASTIC_IP),
]);
const CONFIGURATION: Shape = Shape::Union(&[Member::body("VpcEgressConfiguration", &VPC_EGRESS)]);

const IDENTIFIER_IN_PATH: Member = Member::path("Identifier", &IDENTIFIER);
const OPERATOR: Member = Member::body("OperatorRole", &ROLE);
const CLIENT: Member = Member::body("ClientToken", &CLIENT_TOKEN);
const ONLY_STATE: Member = Member::query("State", &STATE);
const MARKER: Member = Member::query("Marker", &ANY_TEXT);
const ITEMS: Member = Member::query("MaxItems", &MAX_ITEMS);

pub(crate) const CREATE: &[Member] = &[
    Member::body("Name", &NAME).required(),
    Member::body("Configuration", &CONFIGURATION).required(),
    OPERATOR,
    CLIENT,
    Member::body("Tags", &TAGS),
];

pub(crate) const CONNECTOR_ONLY: &[Member] = &[IDENTIFIER_IN_PATH];

pub(crate) const LIST: &[Member] = &[ONLY_STATE, MARKER, ITEMS];

pub(crate) const LIST_VERSIONS: &[Member] = &[IDENTIFIER_IN_PATH, ONLY_STATE, MARKER, ITEMS];

pub(crate) const UPDATE: &[Member] =
    &[IDENTIFIER_IN_PATH, Member::body("Configuration", &CONFIGURATION), OPERATOR, CLIENT];
