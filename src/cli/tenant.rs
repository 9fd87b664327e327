//! From what a policy says of a tenant to a service that can be asked.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::context::Context;
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

/// Which subscriptions are asked; `state` is where those that were seen before are kept.
pub fn subscriptions(said: Option<&SubscriptionsPolicy>, access: &TenantAccess<'_>, state: Option<&Path>) -> Subscriptions {
    match said {
        Some(SubscriptionsPolicy::These(ids)) => Subscriptions::These(ids.clone()),
        _ => Subscriptions::All { earlier: state.and_then(|state| seen(state, access)).unwrap_or_default() },
    }
}

/// The subscriptions that were seen before. A cache: without it one that is listed no more counts as deleted.
#[derive(Serialize, Deserialize)]
struct Seen {
    tenant: String,
    subscriptions: Vec<String>,
}

const SEEN: &str = "subscriptions.json";

fn seen(state: &Path, access: &TenantAccess<'_>) -> Option<Vec<String>> {
    let seen: Seen = serde_json::from_slice(&std::fs::read(state.join(SEEN)).ok()?).ok()?;
    let well = |id: &String| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (seen.tenant == access.tenant.value).then(|| seen.subscriptions.into_iter().filter(well).collect())
}

/// Keeps those that a run saw, once it is committed.
pub fn keep_seen(context: &Context, state: &Path, access: &TenantAccess<'_>, subscriptions: Vec<String>) {
    if subscriptions.is_empty() {
        return;
    }
    let seen = Seen { tenant: access.tenant.value.clone(), subscriptions };
    let kept = serde_json::to_vec(&seen).map_err(Into::into).and_then(|bytes| crate::store::replace(&state.join(SEEN), &bytes, false));
    if let Err(e) = kept {
        let state = state.display();
        context
            .output
            .warn(format!("which subscriptions there are could not be kept in {state} ({e}): one that is lost would count as deleted"));
    }
}
