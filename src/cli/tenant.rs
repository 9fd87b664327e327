//! From what a policy says of a tenant to a service that can be asked.

use std::fs;
use std::sync::Arc;

use super::exit::{CliError, Exit};
use crate::http::{self, Credential, HttpError, Secret, Service, ServiceOptions};
use crate::policy::{LoadedPolicy, SubscriptionsPolicy, TenantAccess};
use crate::source::catalog::Plane;
use crate::source::graph::Subscriptions;

/// Microsoft's public cloud, unless a policy says another.
const GRAPH: &str = "https://graph.microsoft.com";
const ARM: &str = "https://management.azure.com";
const AUTHORITY: &str = "https://login.microsoftonline.com";

/// A client of the service that a policy names.
pub fn service(policy: &LoadedPolicy, access: &TenantAccess<'_>, plane: Plane) -> Result<Arc<Service>, CliError> {
    let usage = |message: String| CliError::new(Exit::Usage, message);
    let cloud = if plane == Plane::Graph { GRAPH } else { ARM };
    let endpoint = http::endpoint(access.endpoint.map_or(cloud, |e| &e.value)).map_err(usage)?;
    let authority = http::endpoint(access.authority.map_or(AUTHORITY, |a| &a.value)).map_err(usage)?;
    // What stands in for the public cloud on this machine is asked for the public cloud's tokens.
    let resource = if http::is_loopback(&endpoint) { cloud.to_owned() } else { endpoint.origin().ascii_serialization() };
    let options =
        ServiceOptions { endpoint, authority, tenant: access.tenant.value.clone(), resource, credential: credential(policy, access)? };
    Service::new(options).map(Arc::new).map_err(|e| match e {
        // Nothing was asked yet: something that the policy names is not as it should be.
        HttpError::Credential { what, hint } => usage(what).hint(hint),
        other => CliError::new(Exit::Failed, other.to_string()),
    })
}

fn credential(policy: &LoadedPolicy, access: &TenantAccess<'_>) -> Result<Credential, CliError> {
    let usage = |message: String| CliError::new(Exit::Usage, message);
    let Some(said) = &access.credential.value.client_secret else { return Err(usage("the credential has no kind".into())) };
    let secret = match (&said.secret_env, &said.secret_file) {
        (Some(name), _) => std::env::var(name).map_err(|_| {
            usage(format!("the environment variable {name}, which holds the client's secret, is not set"))
                .hint("set it for this process; a service gets it from its unit or secret store")
        })?,
        (None, Some(file)) => {
            let file = policy.path(file);
            fs::read_to_string(&file).map_err(|e| {
                usage(format!("cannot read the client's secret from {}: {e}", file.display()))
                    .hint("put the secret of the application registration there, readable by this user alone")
            })?
        }
        (None, None) => return Err(usage("the credential does not say where the secret is".into())),
    };
    let secret = secret.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        let place = said.secret_env.as_ref().map_or_else(
            || format!("the file {}", said.secret_file.as_deref().unwrap_or_default()),
            |name| format!("the environment variable {name}"),
        );
        return Err(usage(format!("the client's secret is empty: it should stand in {place}")));
    }
    Ok(Credential::ClientSecret { client_id: said.client_id.clone(), secret: Secret::new(secret) })
}

/// Which subscriptions are asked.
pub fn subscriptions(said: Option<&SubscriptionsPolicy>) -> Subscriptions {
    match said {
        Some(SubscriptionsPolicy::These(ids)) => Subscriptions::These(ids.clone()),
        _ => Subscriptions::All,
    }
}
