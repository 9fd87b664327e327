//! From what a policy says of its vault to a store.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::store_options;
use super::credential;
use super::exit::{CliError, Exit};
use super::tenant::{ARM, AUTHORITY};
use crate::http::{self, Identity, IdentityOptions, Service, ServiceOptions, Transport};
use crate::policy::{AzureVault, CredentialKind, LoadedPolicy};
use crate::store::azure::{Access, AzureLeases, AzureOptions, AzureStore, LockBy, Manager, check_sas};
use crate::store::{Leases, LocalLeases, LocalStore, Store, SystemClock};
use crate::vault::names::Container;

/// Beside the containers of a local vault; names that begin with a dot are no objects.
const LEASES: &str = ".leases";

fn usage(message: impl Into<String>) -> CliError {
    CliError::new(Exit::Usage, message)
}

/// The store that a policy names.
pub fn open(policy: &LoadedPolicy) -> Result<Arc<dyn Store>, CliError> {
    let vault = &policy.policy.vault;
    match (&vault.local, &vault.azure) {
        (Some(local), _) => Ok(Arc::new(LocalStore::open(policy.path(&local.path), store_options(local))?)),
        (None, Some(said)) => Ok(azure(policy, &said.value)?),
        (None, None) => Err(usage("the policy names no place for its vault")),
    }
}

/// The same, made where it can be: a directory, or the containers of an emulator.
pub fn create(policy: &LoadedPolicy) -> Result<Arc<dyn Store>, CliError> {
    match &policy.policy.vault.local {
        Some(local) => Ok(Arc::new(LocalStore::create(policy.path(&local.path), store_options(local))?)),
        None => open(policy),
    }
}

/// The leases by which several agents on a vault share the work.
pub fn leases(policy: &LoadedPolicy) -> Result<Arc<dyn Leases>, CliError> {
    let vault = &policy.policy.vault;
    match (&vault.local, &vault.azure) {
        (Some(local), _) => Ok(Arc::new(LocalLeases::open(policy.path(&local.path).join(LEASES), Arc::new(SystemClock)))),
        (None, Some(said)) => Ok(Arc::new(AzureLeases::new(client(policy, &said.value)?, said.value.leases()))),
        (None, None) => Err(usage("the policy names no place for its vault")),
    }
}

/// A client of the account.
pub fn azure(policy: &LoadedPolicy, said: &AzureVault) -> Result<Arc<AzureStore>, CliError> {
    client(policy, said).map(Arc::new)
}

fn client(policy: &LoadedPolicy, said: &AzureVault) -> Result<AzureStore, CliError> {
    let endpoint = http::endpoint(&said.endpoint()).map_err(usage)?;
    let (access, who) = access(policy, said)?;
    let transport = Transport::new([&endpoint]).map_err(credential::unfit)?;
    let by = match policy.policy.vault.lock.by.as_ref().map(|by| by.value.as_str()) {
        Some("container") => LockBy::Container(Arc::new(manager(policy, said)?)),
        _ => LockBy::Version,
    };
    let containers: BTreeMap<String, String> = Container::ALL.into_iter().map(|c| (c.as_str().to_owned(), said.container(c))).collect();
    Ok(AzureStore::open(AzureOptions { endpoint, containers, access, who, transport, by })?)
}

/// The account through the resource manager; only tokens open it.
pub fn manager(policy: &LoadedPolicy, said: &AzureVault) -> Result<Manager, CliError> {
    let endpoint = http::endpoint(said.arm_endpoint.as_ref().map_or(ARM, |e| &e.value)).map_err(usage)?;
    let resource = if http::is_loopback(&endpoint) { ARM.to_owned() } else { endpoint.origin().ascii_serialization() };
    let Some(identity) = identity(policy, said)? else {
        return Err(usage("a shared access signature does not open Azure Resource Manager"));
    };
    let options = ServiceOptions {
        endpoint,
        authority: identity.authority,
        tenant: identity.tenant.unwrap_or_default(),
        resource,
        credential: identity.credential,
    };
    let service = Arc::new(Service::new(options).map_err(credential::unfit)?);
    Ok(Manager::new(service, said.account.value.clone(), said.subscription.as_ref().map(|s| s.value.clone())))
}

fn identity(policy: &LoadedPolicy, said: &AzureVault) -> Result<Option<IdentityOptions>, CliError> {
    let authority = http::endpoint(said.authority.as_ref().map_or(AUTHORITY, |a| &a.value)).map_err(usage)?;
    let [kind] = said.credential.value.kinds()[..] else { return Err(usage("the credential is not of exactly one kind")) };
    let tenant = said.tenant.as_ref().map(|t| t.value.clone());
    Ok(credential::of_kind(policy, kind)?.map(|credential| IdentityOptions { authority, tenant, credential }))
}

/// As whom, and in words.
fn access(policy: &LoadedPolicy, said: &AzureVault) -> Result<(Access, String), CliError> {
    let [kind] = said.credential.value.kinds()[..] else { return Err(usage("the credential is not of exactly one kind")) };
    if let CredentialKind::Sas(sas) = kind {
        let place = (sas.value.env.as_deref(), sas.value.file.as_deref());
        let hint = "put a SAS of the account or its containers there, readable by this user alone";
        let secret = credential::secret(policy, "the shared access signature", place, hint)?;
        let now = crate::store::Clock::now(&SystemClock);
        let query = check_sas(secret.reveal(), now)?;
        return Ok((Access::Sas(query), "the SAS".into()));
    }
    let Some(options) = identity(policy, said)? else { return Err(usage("the credential gives no tokens")) };
    let who = format!("the credential ({})", kind.name());
    let transport = Transport::new([&options.authority]).map_err(credential::unfit)?;
    let identity = Identity::new(options, transport).map_err(credential::unfit)?;
    Ok((Access::Token(identity), who))
}
