use std::path::Path;

use althing_components::{ComponentService, Operation, Reply};
use althing_replica::{InstallError, Outcome, Pages, Service};
use althing_services::{Kv, Null};
use althing_types::ClientId;
use serde_json::{Value, json};

use super::site::SiteMachine;
use super::{ReplicaError, RunOptions};
use crate::config::{ComponentConfig, ImplementationConfig, ServiceConfig};
use crate::process_component::ChildComponent;

/// Any of the services that a replica can run.
pub(super) enum NodeService {
    Kv(Box<Kv>),
    Null(Null),
    Own { name: String, service: Box<dyn Service + Send> },
    Component(Box<ComponentService>),
    Site(SiteMachine),
}

impl NodeService {
    /// The service in its initial state.
    pub(super) fn new(config: &ServiceConfig, options: &RunOptions) -> Result<Self, ReplicaError> {
        Ok(match config {
            ServiceConfig::Kv => Self::Kv(Box::new(Kv::new())),
            ServiceConfig::Null { reply_bytes } => Self::Null(Null::new(*reply_bytes)),
            ServiceConfig::Own(name) => {
                let service = options.services.make(name);
                let service = service.ok_or_else(|| ReplicaError::NoSuchService(name.clone()))?;
                Self::Own { name: name.clone(), service }
            }
            ServiceConfig::Component(component) => {
                Self::Component(Box::new(build(component, options.launcher.as_deref())?))
            }
            ServiceConfig::Site(site) => {
                let replicated = Self::new(site.system.service(), options)?;
                Self::Site(SiteMachine::new(site, replicated))
            }
        })
    }

    /// Why this replica's component no longer works, if it doesn't.
    pub(super) fn broken(&self) -> Option<String> {
        match self {
            Self::Component(service) => service.broken(),
            Self::Kv(_) | Self::Null(_) | Self::Own { .. } | Self::Site(_) => None,
        }
    }

    /// What the service says about itself; `client` is one that may ask a component.
    pub(super) fn inspect(&self, client: Option<ClientId>) -> Value {
        match self {
            Self::Kv(kv) => json!({ "service": "kv", "keys": kv.len() }),
            Self::Null(service) => json!({ "service": "null", "operations": service.executed() }),
            Self::Own { name, .. } => json!({ "service": name }),
            Self::Site(machine) => machine.service().inspect(client),
            Self::Component(service) => client
                .and_then(|client| service.query(&Operation::Inspect.encode(), client))
                .and_then(|reply| match Reply::decode(&reply) {
                    Ok(Reply::Inspection { json }) => serde_json::from_str(&json).ok(),
                    _ => None,
                })
                .unwrap_or(Value::Null),
        }
    }
}

/// A program is started through `launcher`, if there is one.
fn build(config: &ComponentConfig, launcher: Option<&Path>) -> Result<ComponentService, ReplicaError> {
    let component = match &config.implementation {
        ImplementationConfig::Builtin { .. } => config.build_builtin().map_err(ReplicaError::Component)?,
        ImplementationConfig::Process(_) => None,
    };
    let component = match (component, &config.implementation) {
        (Some(builtin), _) => builtin,
        (None, ImplementationConfig::Process(process)) => {
            Box::new(ChildComponent::start(process, launcher).map_err(ReplicaError::Program)?)
        }
        (None, ImplementationConfig::Builtin { .. }) => unreachable!("a builtin builds a component"),
    };
    Ok(ComponentService::new(config.table.clone(), component))
}

/// Hands each call to the service that there is.
macro_rules! each {
    ($self:expr, $service:ident => $call:expr) => {
        match $self {
            Self::Kv($service) => $call,
            Self::Null($service) => $call,
            Self::Own { service: $service, .. } => $call,
            Self::Component($service) => $call,
            Self::Site($service) => $call,
        }
    };
}

impl Service for NodeService {
    fn execute(&mut self, operation: &[u8], context: &althing_replica::Context) -> Outcome {
        each!(self, service => service.execute(operation, context))
    }

    fn foresee(&mut self, operation: &[u8], client: ClientId) {
        each!(self, service => service.foresee(operation, client));
    }

    fn query(&self, operation: &[u8], client: ClientId) -> Option<Vec<u8>> {
        each!(self, service => service.query(operation, client))
    }

    fn save(&mut self, pages: &mut Pages) {
        each!(self, service => service.save(pages));
    }

    fn install(&mut self, pages: &Pages, changed: &[u32]) -> Result<(), InstallError> {
        each!(self, service => service.install(pages, changed))
    }
}
