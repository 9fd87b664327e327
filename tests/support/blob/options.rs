//! What a double can be told: the account, its containers, who may do what, and how open questions are answered.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Everything that is settled before the start, and that `/__control/options` may change later.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    pub account: String,
    /// Base64, as the portal shows it.
    pub account_key: String,
    pub port: u16,
    /// Every request waits so long.
    pub latency_ms: u64,
    /// Where the clock starts; the real time unless given.
    pub now: Option<Timestamp>,
    pub tenant: String,
    pub sku: String,
    pub kind: String,
    pub hierarchical_namespace: bool,
    pub soft_delete_days: Option<u32>,
    pub containers: Vec<ContainerOptions>,
    /// Answers 201 to lock headers where version-level support is missing, and keeps no lock.
    pub ignores_locks: bool,
    /// Lock headers or lock operations where the container has no version-level support.
    pub lock_not_supported: Refusal,
    /// A lock until an instant that has passed.
    pub lock_in_the_past: Refusal,
    /// A locked policy that would end earlier, or become unlocked.
    pub lock_shortened: Refusal,
    pub rehydrate_standard_s: i64,
    pub rehydrate_high_s: i64,
    pub token_seconds: i64,
    pub identities: Vec<Identity>,
    /// The client id of the identity that the instance and the app service have.
    pub managed_identity: String,
    /// What `X-IDENTITY-HEADER` must say.
    pub identity_header: String,
    pub arm: Arm,
}

impl Default for Options {
    fn default() -> Self {
        let identity = |role: Role, digit: char, arm: bool| Identity {
            client_id: format!("{0}{0}-0000-4000-8000-000000000000", digit.to_string().repeat(4)),
            secret: format!("{role:?}-secret").to_lowercase(),
            role,
            arm,
        };
        Options {
            account: "pimvault".into(),
            account_key: "ZG91YmxlIG9mIHRoZSBCbG9iIHNlcnZpY2U6IDY0IGJ5dGVzIHRoYXQgc2lnbiBvbmx5IHdpdGhpbiB0ZXN0cw==".into(),
            port: 0,
            latency_ms: 0,
            now: None,
            tenant: "11111111-2222-4333-8444-555555555555".into(),
            sku: "Standard_GRS".into(),
            kind: "StorageV2".into(),
            hierarchical_namespace: false,
            soft_delete_days: None,
            containers: ["config-snapshots", "audit-logs", "evidence"].iter().map(|name| ContainerOptions::locking(name)).collect(),
            ignores_locks: false,
            lock_not_supported: Refusal::new(409, "ImmutableStorageWithVersioningNotEnabled"),
            lock_in_the_past: Refusal::new(400, "InvalidHeaderValue"),
            lock_shortened: Refusal::new(409, "BlobImmutableDueToPolicy"),
            rehydrate_standard_s: 15 * 3600,
            rehydrate_high_s: 3600,
            token_seconds: 3600,
            identities: vec![
                identity(Role::Owner, 'a', true),
                identity(Role::Contributor, 'b', false),
                identity(Role::Agent, 'c', false),
                identity(Role::Reader, 'd', true),
                identity(Role::Lister, 'e', false),
            ],
            managed_identity: "cccccccc-0000-4000-8000-000000000000".into(),
            identity_header: "identity-header".into(),
            arm: Arm::default(),
        }
    }
}

impl Options {
    /// The identity that has a role.
    pub fn identity(&self, role: Role) -> &Identity {
        self.identities.iter().find(|i| i.role == role).unwrap()
    }
}

/// The status and the code of an answer that no public source settles.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    pub status: u16,
    pub code: String,
}

impl Refusal {
    pub fn new(status: u16, code: &str) -> Self {
        Refusal { status, code: code.into() }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerOptions {
    pub name: String,
    pub versioning: bool,
    pub version_level: bool,
    pub policy: Option<ContainerPolicy>,
    /// Tags of a legal hold on the whole container.
    pub legal_hold: Vec<String>,
    pub public_access: Option<String>,
}

impl ContainerOptions {
    /// Version-level immutability, and so versions.
    pub fn locking(name: &str) -> Self {
        ContainerOptions { name: name.into(), versioning: true, version_level: true, ..Self::default() }
    }

    /// Neither versions nor locks.
    pub fn plain(name: &str) -> Self {
        ContainerOptions { name: name.into(), ..Self::default() }
    }

    /// A policy on the whole container.
    pub fn under_policy(name: &str, state: &str, days: i64) -> Self {
        let policy = ContainerPolicy { state: state.into(), days, etag: "\"8d8000000000001\"".into(), allow_append: false };
        ContainerOptions { name: name.into(), policy: Some(policy), ..Self::default() }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerPolicy {
    /// `Locked` or `Unlocked`.
    pub state: String,
    pub days: i64,
    pub etag: String,
    pub allow_append: bool,
}

/// Who holds a token, by the rights they have in the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Everything.
    Owner,
    /// The built-in data contributor: no locks.
    Contributor,
    /// The agent's own role: reads, writes and locks; deletes nothing.
    Agent,
    /// Reads.
    Reader,
    /// Sees names and properties of containers, no content.
    Lister,
    /// Nothing at all in the account.
    Nobody,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    pub client_id: String,
    pub secret: String,
    pub role: Role,
    /// May read the resource manager.
    pub arm: bool,
}

/// What the resource manager says of the account.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Arm {
    /// 403 to everybody.
    pub refuse: bool,
    pub subscription: String,
    pub resource_group: String,
    pub location: String,
    pub secondary_location: Option<String>,
    pub access_tier: String,
    pub allow_shared_key_access: bool,
    pub minimum_tls_version: String,
    pub supports_https_traffic_only: bool,
    pub allow_blob_public_access: bool,
    pub immutable_storage_with_versioning: Option<Value>,
    pub is_versioning_enabled: bool,
    pub container_delete_retention_days: Option<u32>,
    pub restore_policy_days: Option<u32>,
    pub last_access_time_tracking: bool,
    pub change_feed: bool,
    /// `{"policy": {"rules": [...]}}`, or nothing: 404.
    pub management_policy: Option<Value>,
    /// Merged over the answers at the end, by the last part of their path: `account`, `blobServices`, `containers/NAME`.
    pub overrides: Value,
}

impl Default for Arm {
    fn default() -> Self {
        Arm {
            refuse: false,
            subscription: "99999999-0000-4000-8000-000000000001".into(),
            resource_group: "rg-vault".into(),
            location: "westeurope".into(),
            secondary_location: Some("northeurope".into()),
            access_tier: "Hot".into(),
            allow_shared_key_access: true,
            minimum_tls_version: "TLS1_2".into(),
            supports_https_traffic_only: true,
            allow_blob_public_access: false,
            immutable_storage_with_versioning: None,
            is_versioning_enabled: true,
            container_delete_retention_days: Some(7),
            restore_policy_days: None,
            last_access_time_tracking: false,
            change_feed: false,
            management_policy: None,
            overrides: json!({}),
        }
    }
}
