//! The policy's part about tenants: which one, what of it, by which service, as whom.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::credential::CredentialPolicy;

/// A tenant's configuration from Microsoft Graph.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GraphPolicy {
    /// The tenant's id or domain.
    #[schemars(with = "String")]
    pub tenant: Spanned<String>,
    /// Which catalogs: `entra`, `pim`.
    #[schemars(with = "Vec<String>")]
    pub catalog: Spanned<Vec<Spanned<String>>>,
    /// As whom.
    #[schemars(with = "CredentialPolicy")]
    pub credential: Spanned<CredentialPolicy>,
    /// The service; `https://graph.microsoft.com` unless said.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub endpoint: Option<Spanned<String>>,
    /// The token service; `https://login.microsoftonline.com` unless said.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub authority: Option<Spanned<String>>,
}

/// A tenant's configuration from Azure Resource Manager.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmPolicy {
    /// The tenant's id or domain.
    #[schemars(with = "String")]
    pub tenant: Spanned<String>,
    /// `all` that the agent sees, or a list of ids.
    #[serde(default)]
    #[schemars(with = "SubscriptionsPolicy")]
    pub subscriptions: Option<Spanned<SubscriptionsPolicy>>,
    /// Which catalogs: `azure`.
    #[schemars(with = "Vec<String>")]
    pub catalog: Spanned<Vec<Spanned<String>>>,
    /// As whom.
    #[schemars(with = "CredentialPolicy")]
    pub credential: Spanned<CredentialPolicy>,
    /// The service; `https://management.azure.com` unless said.
    #[serde(default, alias = "endpoint")]
    #[schemars(with = "Option<String>")]
    pub arm_endpoint: Option<Spanned<String>>,
    /// The token service; `https://login.microsoftonline.com` unless said.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub authority: Option<Spanned<String>>,
}

/// One log, exported window by window.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogPolicy {
    /// The tenant's id or domain.
    #[schemars(with = "String")]
    pub tenant: Spanned<String>,
    /// Which log of the catalog: `signIns`, `directoryAudits`, …
    #[schemars(with = "String")]
    pub log: Spanned<String>,
    /// As whom.
    #[schemars(with = "CredentialPolicy")]
    pub credential: Spanned<CredentialPolicy>,
    /// How far each export reads back for events that arrived late: `60m`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub lookback: Option<Spanned<String>>,
    /// How far a window stays behind now, because the newest events are not there yet: `10m`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub settle: Option<Spanned<String>>,
    /// How long the service keeps events, where the licence gives less than the catalog says: `7d`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub available: Option<Spanned<String>>,
    /// Of Azure: `all` subscriptions, or a list of ids.
    #[serde(default)]
    #[schemars(with = "SubscriptionsPolicy")]
    pub subscriptions: Option<Spanned<SubscriptionsPolicy>>,
    /// The service, where it is not the public cloud's.
    #[serde(default, alias = "arm_endpoint")]
    #[schemars(with = "Option<String>")]
    pub endpoint: Option<Spanned<String>>,
    /// The token service, where it is not the public cloud's.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub authority: Option<Spanned<String>>,
}

/// Which subscriptions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SubscriptionsPolicy {
    /// `all`.
    Word(String),
    /// These ids.
    These(Vec<String>),
}

/// What the three kinds have in common.
pub struct TenantAccess<'p> {
    /// The tenant's id or domain.
    pub tenant: &'p Spanned<String>,
    /// As whom.
    pub credential: &'p Spanned<CredentialPolicy>,
    /// The service.
    pub endpoint: Option<&'p Spanned<String>>,
    /// The token service.
    pub authority: Option<&'p Spanned<String>>,
}

impl GraphPolicy {
    /// How to reach the tenant.
    pub fn access(&self) -> TenantAccess<'_> {
        let Self { tenant, credential, endpoint, authority, .. } = self;
        TenantAccess { tenant, credential, endpoint: endpoint.as_ref(), authority: authority.as_ref() }
    }
}

impl ArmPolicy {
    /// How to reach the tenant.
    pub fn access(&self) -> TenantAccess<'_> {
        let Self { tenant, credential, arm_endpoint, authority, .. } = self;
        TenantAccess { tenant, credential, endpoint: arm_endpoint.as_ref(), authority: authority.as_ref() }
    }
}

impl LogPolicy {
    /// How to reach the tenant.
    pub fn access(&self) -> TenantAccess<'_> {
        let Self { tenant, credential, endpoint, authority, .. } = self;
        TenantAccess { tenant, credential, endpoint: endpoint.as_ref(), authority: authority.as_ref() }
    }
}
