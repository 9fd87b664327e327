//! From what a policy says of a tenant to a service that can be asked.

use std::sync::Arc;

use super::credential;
use super::exit::{CliError, Exit};
use crate::http::{self, Service, ServiceOptions};
use crate::policy::{LoadedPolicy, SubscriptionsPolicy, TenantAccess};
use crate::source::catalog::Plane;
use crate::source::graph::Subscriptions;

/// Microsoft's public cloud, unless a policy says another.
const GRAPH: &str = "https://graph.microsoft.com";
pub(super) const ARM: &str = "https://management.azure.com";
pub(super) const AUTHORITY: &str = "https://login.microsoftonline.com";

/// A client of the service that a policy names.
pub fn service(policy: &LoadedPolicy, access: &TenantAccess<'_>, plane: Plane) -> Result<Arc<Service>, CliError> {
    let usage = |message: String| CliError::new(Exit::Usage, message);
    let cloud = if plane == Plane::Graph { GRAPH } else { ARM };
    let endpoint = http::endpoint(access.endpoint.map_or(cloud, |e| &e.value)).map_err(usage)?;
    let authority = http::endpoint(access.authority.map_or(AUTHORITY, |a| &a.value)).map_err(usage)?;
    // What stands in for the public cloud on this machine is asked for the public cloud's tokens.
    let resource = if http::is_loopback(&endpoint) { cloud.to_owned() } else { endpoint.origin().ascii_serialization() };
    let credential = credential::of_tenant(policy, &access.credential.value)?;
    let options = ServiceOptions { endpoint, authority, tenant: access.tenant.value.clone(), resource, credential };
    Ok(Arc::new(Service::new(options).map_err(credential::unfit)?))
}

/// Which subscriptions are asked.
pub fn subscriptions(said: Option<&SubscriptionsPolicy>) -> Subscriptions {
    match said {
        Some(SubscriptionsPolicy::These(ids)) => Subscriptions::These(ids.clone()),
        _ => Subscriptions::All,
    }
}
