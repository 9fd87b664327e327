//! A store in Azure Blob Storage.
//!
//! It promises: an object is created once, under the lock that was asked for, and its bytes arrived as they were
//! sent; a success whose answer was lost is recognised, not taken for somebody else's object; what it says of a lock
//! is what the service shows. Objects are read by their version id. It cannot keep others with the right to write
//! from putting versions over them; the listing shows every version, and `verify` tells.
//!
//! Facts of the service: <https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api>.

mod arm;
mod control;
mod error;
mod gate;
mod lease;
mod list;
mod probe;
mod put;
mod read;
mod sas;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io::Read;
use std::sync::{Arc, OnceLock};

use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, ExponentialRetryOptions, HttpClient, RetryOptions, Transport};
use azure_storage_blob::clients::{BlobClient, BlobContainerClient, BlobServiceClient, BlobServiceClientOptions};
use azure_storage_blob::models::{
    AccessTier, BlobClientSetImmutabilityPolicyOptions, BlobClientSetTierOptions, ImmutabilityPolicyMode, RehydratePriority,
};
use jiff::Timestamp;
use time::OffsetDateTime;
use url::Url;

pub use arm::Manager;
pub use control::ControlPlane;
pub use error::AzureError;
use error::{Doing, refusal, translate};
use gate::Gate;
pub use lease::AzureLeases;
pub use probe::{ContainerFacts, Deletion};
pub use sas::{SasFacts, check_sas, sas_facts};

use super::{Body, ContainerLock, EnforcedBy, LockMode, LockRequest, LockState, ObjectInfo, Priority, Receipt, Sha256, Store, StoreError};

/// How many requests an account's store has under way for one caller.
const PARALLEL: usize = 8;

/// As whom the store is used.
#[derive(Clone)]
pub enum Access {
    /// A shared access signature: the query of a URL, without `?`.
    Sas(String),
    /// Tokens of Microsoft Entra.
    Token(Arc<dyn TokenCredential>),
}

/// Which way objects are locked.
#[derive(Clone)]
pub enum LockBy {
    /// Each version carries its own instant.
    Version,
    /// The container's own policy locks; it is read through the control plane.
    Container(Arc<dyn ControlPlane>),
}

/// Which account, as whom, and how.
#[derive(Clone)]
pub struct AzureOptions {
    /// The account's Blob endpoint, such as `https://pimvault.blob.core.windows.net`.
    pub endpoint: Url,
    /// Logical container names and the real ones.
    pub containers: BTreeMap<String, String>,
    /// As whom.
    pub access: Access,
    /// The credential in words, for messages.
    pub who: String,
    /// Sends the requests.
    pub transport: Arc<dyn HttpClient>,
    /// What locks.
    pub by: LockBy,
}

impl fmt::Debug for AzureOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureOptions").field("endpoint", &self.endpoint.as_str()).field("who", &self.who).finish_non_exhaustive()
    }
}

/// Objects as blobs of one account.
pub struct AzureStore {
    runtime: &'static tokio::runtime::Runtime,
    service: BlobServiceClient,
    gate: Arc<Gate>,
    options: AzureOptions,
    /// For messages.
    place: String,
    /// The containers' own policies, read once a run.
    policies: OnceLock<BTreeMap<String, ContainerLock>>,
}

impl AzureStore {
    /// A client of one account; sends nothing yet.
    pub fn open(options: AzureOptions) -> Result<Self, StoreError> {
        let place = crate::http::place(&options.endpoint);
        let setup = |what: String| StoreError::from(Box::new(AzureError::Setup { what, mend: "check vault.azure in the policy".into() }));
        let gate = Arc::new(Gate::new(options.transport.clone()));
        let mut url = crate::http::for_sdk(&options.endpoint);
        let token = match &options.access {
            Access::Token(credential) => Some(credential.clone()),
            Access::Sas(query) => {
                url.set_query(Some(query.trim_start_matches('?')));
                None
            }
        };
        let client = ClientOptions {
            transport: Some(Transport::new(gate.clone())),
            retry: RetryOptions::exponential(ExponentialRetryOptions {
                initial_delay: azure_core::time::Duration::milliseconds(200),
                max_retries: 6,
                max_total_elapsed: azure_core::time::Duration::minutes(5),
                max_delay: azure_core::time::Duration::seconds(20),
            }),
            ..ClientOptions::default()
        };
        let client = BlobServiceClientOptions { client_options: client, ..BlobServiceClientOptions::default() };
        let service = BlobServiceClient::new(url, token, Some(client)).map_err(|e| setup(e.to_string()))?;
        let runtime = crate::http::runtime().map_err(|e| setup(e.to_string()))?;
        Ok(Self { runtime, service, gate, options, place, policies: OnceLock::new() })
    }

    /// Requests sent so far, repeated ones included.
    pub fn requests(&self) -> u64 {
        self.gate.requests()
    }

    /// The real container of a logical name, and the blob's name in it.
    fn split<'a>(&'a self, name: &'a str) -> Result<(&'a str, &'a str), StoreError> {
        let bad = || StoreError::BadName { name: name.to_owned() };
        let (container, rest) = name.split_once('/').ok_or_else(bad)?;
        let ordinary = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\0', '\\']);
        if !ordinary(container) || rest.len() > 1024 || !rest.split('/').all(ordinary) {
            return Err(bad());
        }
        Ok((self.real(container), rest))
    }

    fn real<'a>(&'a self, container: &'a str) -> &'a str {
        self.options.containers.get(container).map_or(container, String::as_str)
    }

    fn container(&self, real: &str) -> BlobContainerClient {
        self.service.blob_container_client(real)
    }

    fn blob(&self, name: &str, version: Option<&str>) -> Result<BlobClient, StoreError> {
        let (container, rest) = self.split(name)?;
        let blob = self.service.blob_client(container, rest);
        match version {
            Some(version) => blob.with_version(version).map_err(|_| StoreError::BadName { name: format!("{name} version {version}") }),
            None => Ok(blob),
        }
    }

    fn doing<'a>(&'a self, operation: &'static str, name: &'a str) -> Doing<'a> {
        Doing { operation, name, place: &self.place, who: &self.options.who }
    }

    fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The lock of one version, once something was done to it.
    fn lock_of(&self, name: &str, version: Option<&str>) -> Result<ObjectInfo, StoreError> {
        let found =
            self.list(name)?.into_iter().find(|info| info.name == name && (version.is_none() || info.version.as_deref() == version));
        found.ok_or_else(|| StoreError::NotFound { name: name.to_owned() })
    }
}

impl Store for AzureStore {
    fn put(&self, name: &str, body: Body<'_>, sha256: &Sha256, lock: &LockRequest) -> Result<Receipt, StoreError> {
        put::put(self, name, body, sha256, lock)
    }

    fn open(&self, name: &str, version: Option<&str>) -> Result<Box<dyn Read + Send>, StoreError> {
        read::open(self, name, version)
    }

    fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        self.split(name)?;
        Ok(self.list(name)?.into_iter().find(|info| info.name == name))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        list::list(self, prefix)
    }

    fn extend_lock(&self, name: &str, version: Option<&str>, lock: &LockRequest) -> Result<LockState, StoreError> {
        self.split(name)?;
        let info = self.lock_of(name, version)?;
        let state = info.lock.clone().unwrap_or_else(|| LockState::none(EnforcedBy::Service));
        let refused = |reason: String| StoreError::LockRefused { name: name.to_owned(), reason };
        if state.mode == LockMode::Locked && (lock.mode != LockMode::Locked || state.until.is_some_and(|until| lock.until < until)) {
            let until = state.until.map_or_else(String::new, |u| u.to_string());
            return Err(refused(format!("it is locked until {until}, and a lock is never shortened")));
        }
        if lock.mode == LockMode::None || state.mode == lock.mode && state.until.is_some_and(|until| until >= lock.until) {
            return Ok(state);
        }
        if matches!(self.options.by, LockBy::Container(_)) {
            return Err(refused("the container's policy locks it; extend that policy's interval".to_owned()));
        }
        let blob = self.blob(name, info.version.as_deref())?;
        let options = BlobClientSetImmutabilityPolicyOptions {
            immutability_policy_mode: mode_of(lock.mode),
            ..BlobClientSetImmutabilityPolicyOptions::default()
        };
        let done = self.block_on(blob.set_immutability_policy(&instant(lock.until), Some(options)));
        done.map_err(|e| put::lock_problem(&e, name, self.doing("lock", name)))?;
        Ok(self.lock_of(name, info.version.as_deref())?.lock.unwrap_or_else(|| LockState::none(EnforcedBy::Service)))
    }

    fn set_hold(&self, name: &str, version: Option<&str>, held: bool) -> Result<bool, StoreError> {
        let info = self.lock_of(name, version)?;
        if info.held != held {
            let blob = self.blob(name, info.version.as_deref())?;
            let done = self.block_on(blob.set_legal_hold(held, None));
            done.map_err(|e| translate(&e, self.doing("set the legal hold of", name)))?;
        }
        Ok(self.lock_of(name, info.version.as_deref())?.held)
    }

    fn remove(&self, name: &str, version: Option<&str>) -> Result<(), StoreError> {
        let info = self.lock_of(name, version)?;
        let doing = self.doing("remove", name);
        if info.current {
            // The service deletes no current version by its id: what stands under the name becomes an earlier one first.
            match self.block_on(self.blob(name, None)?.delete(None)) {
                Ok(_) => {}
                Err(e) if refusal(&e).is_some_and(|r| r.status == 404) => {}
                Err(e) => return Err(translate(&e, doing)),
            }
        }
        let Some(version) = info.version.as_deref() else { return Ok(()) };
        match self.block_on(self.blob(name, Some(version))?.delete(None)) {
            Ok(_) => Ok(()),
            Err(e) if refusal(&e).is_some_and(|r| r.status == 404) => Ok(()),
            Err(e) => Err(translate(&e, doing)),
        }
    }

    fn rehydrate(&self, name: &str, version: Option<&str>, priority: Priority) -> Result<(), StoreError> {
        let blob = self.blob(name, version)?;
        let priority = match priority {
            Priority::Standard => RehydratePriority::Standard,
            Priority::High => RehydratePriority::High,
        };
        let options = BlobClientSetTierOptions { rehydrate_priority: Some(priority), ..BlobClientSetTierOptions::default() };
        match self.block_on(blob.set_tier(AccessTier::Hot, Some(options))) {
            Ok(_) => Ok(()),
            // On its way back already.
            Err(e) if refusal(&e).is_some_and(|r| r.status == 409 && r.code == "BlobBeingRehydrated") => Ok(()),
            Err(e) => Err(translate(&e, self.doing("bring back", name))),
        }
    }

    fn parallelism(&self) -> usize {
        PARALLEL
    }

    fn now(&self) -> Result<Timestamp, StoreError> {
        if let Some(now) = self.gate.now() {
            return Ok(now);
        }
        // Any of them has the service's clock.
        let container = self.options.containers.values().next().map_or("", String::as_str);
        self.block_on(self.container(container).get_properties(None)).map_err(|e| translate(&e, self.doing("look at", container)))?;
        self.gate.now().ok_or_else(|| {
            let what = "its answer has no Date, so no lock can be judged".to_owned();
            Box::new(AzureError::NotTheService { place: self.place.clone(), what }).into()
        })
    }

    fn describe(&self) -> String {
        self.place.trim_end_matches('/').to_owned()
    }
}

/// How the service spells a mode.
fn mode_of(mode: LockMode) -> Option<ImmutabilityPolicyMode> {
    match mode {
        LockMode::Locked => Some(ImmutabilityPolicyMode::Locked),
        LockMode::Unlocked => Some(ImmutabilityPolicyMode::Unlocked),
        LockMode::None => None,
    }
}

/// An instant in whole seconds, as the official crate takes it.
fn instant(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn timestamp(at: OffsetDateTime) -> Option<Timestamp> {
    Timestamp::from_second(at.unix_timestamp()).ok()
}
