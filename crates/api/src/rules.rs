//! Rules between members of one request, that need no state (spec 3.2, 3.3).

use crate::{
    ApiError, ErrorKind, Input, Operation,
    arns::{ConnectorArn, Direction, ManagedConnector},
    schema::bounds::{self, Bounds},
    shapes::{
        CreateMicrovmAuthTokenInput, CreateMicrovmAuthTokenOutput, CreateMicrovmImageInput, CreateMicrovmImageOutput,
        CreateMicrovmShellAuthTokenInput, CreateMicrovmShellAuthTokenOutput, CreateNetworkConnectorInput,
        CreateNetworkConnectorOutput, Environment, Hooks, IdlePolicy, ImageConfiguration, PortSpecification,
        RunMicrovmInput, RunMicrovmOutput, TagResourceInput, TagResourceOutput, Tags, UntagResourceInput,
        UntagResourceOutput, UpdateMicrovmImageInput, UpdateMicrovmImageOutput,
    },
};

impl Input for CreateMicrovmImageInput {
    const OPERATION: Operation = Operation::CreateMicrovmImage;
    type Output = CreateMicrovmImageOutput;

    fn check(&self) -> Result<(), ApiError> {
        check_tags(self.tags.iter().flat_map(Tags::keys), ErrorKind::Validation)?;
        self.configuration.check()
    }
}

impl Input for UpdateMicrovmImageInput {
    const OPERATION: Operation = Operation::UpdateMicrovmImage;
    type Output = UpdateMicrovmImageOutput;

    fn check(&self) -> Result<(), ApiError> {
        self.configuration.check()
    }
}

impl ImageConfiguration {
    /// What `CreateMicrovmImage` and `UpdateMicrovmImage` ask of a configuration.
    ///
    /// # Errors
    /// `ValidationException` in the service's words.
    pub fn check(&self) -> Result<(), ApiError> {
        if let Some(hooks) = &self.hooks {
            check_hooks(hooks)?;
        }
        if let Some(environment) = &self.environment_variables {
            check_environment(environment)?;
        }
        for resources in self.resources.iter().flatten() {
            if !bounds::MEMORY_SIZES_MIB.contains(&resources.minimum_memory_in_mib) {
                return Err(ApiError::unsupported_memory(resources.minimum_memory_in_mib, &self.base_image_arn));
            }
        }
        check_direction(self.egress_network_connectors.as_deref(), Direction::Egress)
    }
}

fn check_hooks(hooks: &Hooks) -> Result<(), ApiError> {
    if hooks.any_of_microvm() && !hooks.ready() {
        return Err(ApiError::validation(
            "The ready (/ready) MicroVM image hook must be enabled when any MicroVM lifecycle hook \
             (run, resume, suspend, or terminate) is enabled.",
        ));
    }
    if hooks.any() && hooks.port.is_none() {
        return Err(ApiError::validation("The hooks port must be specified when any hook is enabled."));
    }
    Ok(())
}

fn check_environment(environment: &Environment) -> Result<(), ApiError> {
    for key in environment.keys() {
        if key == "AWS_REGION" || key.starts_with("AWS_LAMBDA_MICROVM_") {
            return Err(ApiError::validation(format!("Environment variable key '{key}' is reserved")));
        }
        if key.contains(['=', '\0']) {
            // Nothing could pass it to a process; the service's words are not known.
            return Err(ApiError::validation(format!(
                "Environment variable key '{}' is invalid",
                key.escape_default()
            )));
        }
    }
    let nul = environment.iter().find(|(_, value)| value.expose().contains('\0'));
    nul.map_or(Ok(()), |(key, _)| {
        Err(ApiError::validation(format!("Environment variable value of '{key}' is invalid")))
    })
}

impl Input for RunMicrovmInput {
    const OPERATION: Operation = Operation::RunMicrovm;
    type Output = RunMicrovmOutput;

    fn check(&self) -> Result<(), ApiError> {
        check_direction(self.ingress_network_connectors.as_deref(), Direction::Ingress)?;
        check_direction(self.egress_network_connectors.as_deref(), Direction::Egress)?;
        let ingress = self.ingress_network_connectors.as_deref().unwrap_or_default();
        let all = ingress.iter().any(|arn| arn.managed() == Some(ManagedConnector::AllIngress));
        if all && ingress.len() > 1 {
            // AWS notices only when a shell token is made (spec 3.2); noticing at launch costs nobody anything.
            return Err(ApiError::validation(
                "ALL_INGRESS cannot be combined with other ingress network connectors; \
                 use HTTP_INGRESS and/or SHELL_INGRESS instead",
            ));
        }
        Ok(())
    }

    fn check_bounds(&self, bounds: Bounds) -> Result<(), ApiError> {
        self.idle_policy.as_ref().map_or(Ok(()), |policy| check_idle_policy(policy, bounds))
    }
}

fn check_idle_policy(policy: &IdlePolicy, Bounds { life: longest, .. }: Bounds) -> Result<(), ApiError> {
    if policy.max_idle_duration_seconds <= longest.get() {
        return Ok(());
    }
    Err(ApiError::validation(format!(
        "1 validation error detected: Value '{}' at 'idlePolicy.maxIdleDurationSeconds' failed to satisfy constraint: \
         Member must have value less than or equal to {}",
        policy.max_idle_duration_seconds,
        longest.get()
    )))
}

/// The service's words for a connector in the wrong list are not known.
fn check_direction(connectors: Option<&[ConnectorArn]>, direction: Direction) -> Result<(), ApiError> {
    let wrong = connectors.unwrap_or_default().iter().find(|arn| arn.direction() != direction);
    let kind = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    wrong.map_or(Ok(()), |arn| Err(ApiError::validation(format!("Network connector {arn} is not an {kind} connector"))))
}

impl Input for CreateMicrovmAuthTokenInput {
    const OPERATION: Operation = Operation::CreateMicrovmAuthToken;
    type Output = CreateMicrovmAuthTokenOutput;

    fn check(&self) -> Result<(), ApiError> {
        for port in &self.allowed_ports {
            if let PortSpecification::Range(range) = port
                && range.start_port > range.end_port
            {
                return Err(ApiError::validation(format!(
                    "Port range start {} must not be greater than its end {}",
                    range.start_port, range.end_port
                )));
            }
        }
        Ok(())
    }

    fn check_bounds(&self, bounds: Bounds) -> Result<(), ApiError> {
        check_expiration(self.expiration_in_minutes, bounds)
    }
}

impl Input for CreateMicrovmShellAuthTokenInput {
    const OPERATION: Operation = Operation::CreateMicrovmShellAuthToken;
    type Output = CreateMicrovmShellAuthTokenOutput;

    fn check_bounds(&self, bounds: Bounds) -> Result<(), ApiError> {
        check_expiration(self.expiration_in_minutes, bounds)
    }
}

fn check_expiration(minutes: u32, Bounds { token_minutes: max, .. }: Bounds) -> Result<(), ApiError> {
    if minutes <= max {
        return Ok(());
    }
    Err(ApiError::validation(format!("ExpirationMinutes {minutes} exceeded max allowed of {max}.")))
}

impl Input for TagResourceInput {
    const OPERATION: Operation = Operation::TagResource;
    type Output = TagResourceOutput;

    fn check(&self) -> Result<(), ApiError> {
        check_tags(self.tags.keys(), ErrorKind::InvalidParameterValue)
    }
}

impl Input for UntagResourceInput {
    const OPERATION: Operation = Operation::UntagResource;
    type Output = UntagResourceOutput;

    fn check(&self) -> Result<(), ApiError> {
        check_tags(self.tag_keys.iter(), ErrorKind::InvalidParameterValue)
    }
}

impl Input for CreateNetworkConnectorInput {
    const OPERATION: Operation = Operation::CreateNetworkConnector;
    type Output = CreateNetworkConnectorOutput;

    /// What is required beyond the model, each missing member reported by itself (spec 9.2). The words for the last three
    /// are ours, modelled on the service's for the role.
    fn check(&self) -> Result<(), ApiError> {
        let vpc = self.configuration.vpc_egress();
        if self.client_token.is_none() {
            return Err(ApiError::invalid_parameter("ClientToken is a required field"));
        }
        let missing = [
            (self.operator_role.is_none(), "NetworkConnectorOperatorRole"),
            (vpc.network_protocol.is_none(), "NetworkProtocol"),
            (vpc.associated_compute_resource_types.is_none(), "AssociatedComputeResourceTypes"),
            (vpc.subnet_ids.is_none(), "SubnetIds"),
        ];
        if let Some((_, member)) = missing.into_iter().find(|(missing, _)| *missing) {
            return Err(ApiError::connector_needs(member));
        }
        check_tags(self.tags.iter().flat_map(Tags::keys), ErrorKind::InvalidParameterValue)
    }
}

/// The rules that all of AWS has for tags; the service's own words are not known. How many tags a resource may have in all
/// is [`bounds::TAGS`].
fn check_tags<'a>(keys: impl Iterator<Item = &'a String>, kind: ErrorKind) -> Result<(), ApiError> {
    let mut count = 0;
    for key in keys {
        count += 1;
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(ApiError::new(kind, format!("Tag key '{key}' is reserved: it must not start with aws:")));
        }
    }
    if count > bounds::TAGS {
        return Err(ApiError::too_many_tags(kind));
    }
    Ok(())
}
