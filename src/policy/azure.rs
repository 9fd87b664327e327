//! The policy's part about a vault in Azure Blob Storage.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::credential::{CredentialKind, StoreCredentialPolicy};
use crate::vault::names::Container;

/// The container of the leases unless the policy says.
pub const LEASES: &str = "backstop-leases";

/// A vault in Azure Blob Storage.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AzureVault {
    /// The storage account's name.
    #[schemars(with = "String")]
    pub account: Spanned<String>,
    /// Its Blob endpoint; `https://ACCOUNT.blob.core.windows.net` unless said.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub endpoint: Option<Spanned<String>>,
    /// Real names of the four containers, where they differ.
    #[serde(default)]
    #[schemars(with = "BTreeMap<Container, String>")]
    pub containers: BTreeMap<Container, Spanned<String>>,
    /// The container of the leases by which several agents share the work; `backstop-leases` unless said. No policy locks it.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub leases: Option<Spanned<String>>,
    /// The tenant of the credential: its id or a domain.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub tenant: Option<Spanned<String>>,
    /// The token service; `https://login.microsoftonline.com` unless said.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub authority: Option<Spanned<String>>,
    /// Azure Resource Manager; `https://management.azure.com` unless said. It tells what the account is set to.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub arm_endpoint: Option<Spanned<String>>,
    /// The account's subscription; all that the credential sees are searched unless said.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub subscription: Option<Spanned<String>>,
    /// As whom.
    #[schemars(with = "StoreCredentialPolicy")]
    pub credential: Spanned<StoreCredentialPolicy>,
}

impl AzureVault {
    /// The Blob endpoint.
    pub fn endpoint(&self) -> String {
        self.endpoint.as_ref().map_or_else(|| format!("https://{}.blob.core.windows.net", self.account.value), |e| e.value.clone())
    }

    /// The real name of a container.
    pub fn container(&self, container: Container) -> String {
        self.containers.get(&container).map_or_else(|| container.as_str().to_owned(), |name| name.value.clone())
    }

    /// The container of the leases.
    pub fn leases(&self) -> String {
        self.leases.as_ref().map_or_else(|| LEASES.to_owned(), |name| name.value.clone())
    }

    /// Whether tokens are used, which the resource manager takes as well.
    pub fn has_tokens(&self) -> bool {
        self.credential.value.kinds().iter().all(|kind| !matches!(kind, CredentialKind::Sas(_)))
    }
}
