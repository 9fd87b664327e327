//! What Azure Resource Manager says of a storage account: its settings, its containers' policies, its lifecycle.
//!
//! Shapes: <https://learn.microsoft.com/rest/api/storagerp>, API version 2023-05-01.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{AzureError, ControlPlane};
use crate::http::{HttpError, Service};
use crate::observe::Silent;
use crate::store::{ContainerLock, StoreError};

const VERSION: (&str, &str) = ("api-version", "2023-05-01");
const SUBSCRIPTIONS: (&str, &str) = ("api-version", "2022-12-01");

/// One account, through the control plane.
pub struct Manager {
    service: Arc<Service>,
    account: String,
    subscription: Option<String>,
    /// The account's resource id, once it was found.
    id: Mutex<Option<String>>,
}

impl Manager {
    /// Asks nothing yet.
    pub fn new(service: Arc<Service>, account: impl Into<String>, subscription: Option<String>) -> Self {
        Self { service, account: account.into(), subscription, id: Mutex::default() }
    }

    fn get(&self, path: &str, version: (&str, &str)) -> Result<Value, HttpError> {
        let url = self.service.url(path, &[version]);
        self.service.get(&url, None, &Silent, |body| serde_json::from_slice(body).map_err(|e| e.to_string()))
    }

    /// The account's resource id: `/subscriptions/…/storageAccounts/NAME`.
    pub fn id(&self) -> Result<String, HttpError> {
        if let Some(id) = self.id.lock().ok().and_then(|known| known.clone()) {
            return Ok(id);
        }
        let subscriptions = match &self.subscription {
            Some(one) => vec![one.clone()],
            None => {
                let listed = self.get("/subscriptions", SUBSCRIPTIONS)?;
                let ids = listed["value"].as_array().into_iter().flatten();
                ids.filter_map(|s| s["subscriptionId"].as_str().map(str::to_owned)).collect()
            }
        };
        for subscription in &subscriptions {
            let mut next =
                Some(self.service.url(&format!("/subscriptions/{subscription}/providers/Microsoft.Storage/storageAccounts"), &[VERSION]));
            while let Some(url) = next {
                let page: Value = self.service.get(&url, None, &Silent, |body| serde_json::from_slice(body).map_err(|e| e.to_string()))?;
                let found = page["value"].as_array().into_iter().flatten().find(|a| a["name"].as_str() == Some(&self.account));
                if let Some(id) = found.and_then(|a| a["id"].as_str()) {
                    if let Ok(mut known) = self.id.lock() {
                        *known = Some(id.to_owned());
                    }
                    return Ok(id.to_owned());
                }
                // A page's successor is followed on this service only.
                next = page["nextLink"].as_str().and_then(|link| url.join(link).ok()).filter(|link| link.origin() == url.origin());
            }
        }
        Err(HttpError::Refused {
            place: "Azure Resource Manager".into(),
            status: 404,
            code: "AccountNotSeen".into(),
            said: format!(
                "the credential sees no storage account {} in {} subscription(s); it needs Reader on the account, or say vault.azure.subscription",
                self.account,
                subscriptions.len()
            ),
        })
    }

    /// The account as the resource manager describes it.
    pub fn account(&self) -> Result<Value, HttpError> {
        self.get(&self.id()?, VERSION)
    }

    /// Versioning, soft delete, restore and tracking of its blobs.
    pub fn blob_service(&self) -> Result<Value, HttpError> {
        self.get(&format!("{}/blobServices/default", self.id()?), VERSION)
    }

    /// A container with its immutability.
    pub fn container(&self, name: &str) -> Result<Value, HttpError> {
        self.get(&format!("{}/blobServices/default/containers/{name}", self.id()?), VERSION)
    }

    /// The lifecycle rules; `None` where there are none.
    pub fn lifecycle(&self) -> Result<Option<Value>, HttpError> {
        match self.get(&format!("{}/managementPolicies/default", self.id()?), VERSION) {
            Ok(value) => Ok(Some(value)),
            Err(HttpError::Refused { status: 404, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Every container of a vault by its real name.
    pub fn containers<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, Result<Value, HttpError>> {
        names.into_iter().map(|name| (name.clone(), self.container(name))).collect()
    }
}

impl ControlPlane for Manager {
    fn container_policy(&self, container: &str) -> Result<Option<ContainerLock>, StoreError> {
        let shown = match self.container(container) {
            Ok(shown) => shown,
            Err(HttpError::Refused { status: 404, ref code, .. }) if code != "AccountNotSeen" => return Ok(None),
            Err(e) => {
                let what = format!("the policy of the container {container} cannot be read from Azure Resource Manager: {e}");
                let mend = "locks by `container` need Reader on the storage account; or lock by `version`".to_owned();
                return Err(Box::new(AzureError::Setup { what, mend }).into());
            }
        };
        let policy = &shown["properties"]["immutabilityPolicy"];
        let days = policy["properties"]["immutabilityPeriodSinceCreationInDays"].as_u64();
        Ok(days.and_then(|days| u32::try_from(days).ok()).map(|interval_days| ContainerLock {
            interval_days,
            state: policy["properties"]["state"].as_str().unwrap_or("Unlocked").to_owned(),
            etag: policy["etag"].as_str().unwrap_or_default().to_owned(),
        }))
    }
}
