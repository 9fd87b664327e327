//! Listing: every version, with its lock, its hold and its tier.

use std::collections::BTreeMap;

use azure_storage_blob::models::{
    ArchiveStatus, BlobContainerClientListBlobsOptions, BlobItem, ImmutabilityPolicyMode, ListBlobsIncludeItem,
};
use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};

use super::{AzureStore, LockBy, put, timestamp, translate};
use crate::store::{Archive, ContainerLock, EnforcedBy, LockMode, LockState, ObjectInfo, Sha256, StoreError};

pub(super) fn list(store: &AzureStore, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
    let (container, rest) = prefix.split_once('/').unwrap_or((prefix, ""));
    let whole_name = !rest.is_empty() && !prefix.ends_with('/');
    let real = store.real(container);
    let policy = container_policies(store)?.get(real);
    let options = BlobContainerClientListBlobsOptions {
        include: Some(vec![
            ListBlobsIncludeItem::Versions,
            ListBlobsIncludeItem::Metadata,
            ListBlobsIncludeItem::ImmutabilityPolicy,
            ListBlobsIncludeItem::LegalHold,
        ]),
        prefix: (!rest.is_empty()).then(|| rest.to_owned()),
        ..BlobContainerClientListBlobsOptions::default()
    };
    let problem = |e: azure_core::Error| translate(&e, store.doing("list", prefix));
    let mut out = Vec::new();
    store.block_on(async {
        let mut pages = store.container(real).list_blobs(Some(options)).map_err(problem)?.into_pages();
        while let Some(page) = pages.try_next().await.map_err(problem)? {
            let page = page.into_model().map_err(problem)?;
            for item in page.blob_items {
                let info = info(container, item, policy);
                out.extend(info.filter(|info| !whole_name || info.name == prefix));
            }
        }
        Ok::<(), StoreError>(())
    })?;
    out.sort_unstable_by(|a: &ObjectInfo, b| a.name.cmp(&b.name).then_with(|| a.version.cmp(&b.version)));
    Ok(out)
}

fn info(container: &str, item: BlobItem, policy: Option<&ContainerLock>) -> Option<ObjectInfo> {
    let name = item.name?;
    // Soft-deleted ones and snapshots are not asked for; should they come all the same, they are not objects.
    if item.deleted == Some(true) || item.snapshot.is_some() {
        return None;
    }
    let properties = item.properties.unwrap_or_default();
    let own = properties.immutability_policy_expires_on.and_then(timestamp).map(|until| {
        let mode = match properties.immutability_policy_mode {
            Some(ImmutabilityPolicyMode::Locked) => LockMode::Locked,
            _ => LockMode::Unlocked,
        };
        LockState { mode, until: Some(until), enforced_by: EnforcedBy::Service, container: None }
    });
    let by_container = policy.and_then(|p| locked_by(p, properties.creation_time.and_then(timestamp)?));
    let metadata = item.metadata.and_then(|m| m.values).unwrap_or_default();
    let sha256 = metadata.iter().find(|(k, _)| k.eq_ignore_ascii_case(put::SHA256)).and_then(|(_, v)| v.parse::<Sha256>().ok());
    let archived = properties.access_tier.as_ref().is_some_and(|tier| tier.to_string().eq_ignore_ascii_case("archive"));
    let archive = match properties.archive_status {
        Some(ArchiveStatus::RehydratePendingToHot | ArchiveStatus::RehydratePendingToCool | ArchiveStatus::RehydratePendingToCold) => {
            Some(Archive::Rehydrating)
        }
        _ => archived.then_some(Archive::Archived),
    };
    Some(ObjectInfo {
        name: format!("{container}/{name}"),
        size: properties.content_length.unwrap_or(0),
        recorded_sha256: sha256,
        // Without versions an account shows neither.
        current: item.is_current_version.unwrap_or(item.version_id.is_none()),
        version: item.version_id,
        lock: Some(own.or(by_container).unwrap_or_else(|| LockState::none(EnforcedBy::Service))),
        held: properties.legal_hold == Some(true),
        archive,
    })
}

/// The lock that a container's policy puts on an object of that age.
fn locked_by(policy: &ContainerLock, created: Timestamp) -> Option<LockState> {
    let until = created.checked_add(SignedDuration::from_hours(24 * i64::from(policy.interval_days))).ok()?;
    let mode = if policy.state.eq_ignore_ascii_case("locked") { LockMode::Locked } else { LockMode::Unlocked };
    Some(LockState { mode, until: Some(until), enforced_by: EnforcedBy::Service, container: Some(policy.clone()) })
}

/// The policies of all containers, where those lock: asked once.
fn container_policies(store: &AzureStore) -> Result<&BTreeMap<String, ContainerLock>, StoreError> {
    if let Some(known) = store.policies.get() {
        return Ok(known);
    }
    let mut found = BTreeMap::new();
    if let LockBy::Container(control) = &store.options.by {
        for real in store.options.containers.values() {
            if let Some(policy) = control.container_policy(real)? {
                found.insert(real.clone(), policy);
            }
        }
    }
    Ok(store.policies.get_or_init(|| found))
}
