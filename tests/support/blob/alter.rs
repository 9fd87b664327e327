//! What changes or deletes a blob that is there: metadata, properties, tiers, deletion.

use super::call::Call;
use super::instants::{days, seconds};
use super::lease;
use super::locks;
use super::reply::{Outcome, Reply};
use super::state::{Container, Rehydration, State, Version};
use super::write::{TIERS, preconditions, properties, written};

fn not_found() -> Reply {
    Reply::error(404, "BlobNotFound")
}

/// The current version, if conditions, the lease and the lock let it be changed.
fn changeable<'c>(found: &'c mut Container, call: &Call, blob: &str, now: jiff::Timestamp) -> Result<&'c mut Version, Reply> {
    let entry = found.blobs.get(blob).ok_or_else(not_found)?;
    let current = entry.current_ref().ok_or_else(not_found)?;
    preconditions(call, Some(current), false)?;
    entry.lease.permits(call.header("x-ms-lease-id"), now)?;
    locks::refuse_if_held(found, current, now)?;
    Ok(found.blobs.get_mut(blob).unwrap().current().unwrap())
}

/// Where there are versions, new metadata makes a new one.
pub fn set_metadata(state: &mut State, call: &Call, container: &str, blob: &str) -> Outcome {
    let now = state.now();
    let (id, etag) = (state.next_version_id(), state.next_etag());
    let found = state.container(container)?;
    let versioning = found.options.versioning;
    let worm = found.worm().is_some();
    let version = changeable(found, call, blob, now)?;
    // Under a policy of the container nothing is ever rewritten, not even after the interval.
    if worm {
        return Err(Reply::error(409, "BlobImmutableDueToPolicy"));
    }
    let mut changed = version.clone();
    changed.metadata = call.metadata();
    (changed.etag, changed.modified) = (etag.clone(), now);
    if versioning {
        (changed.id, changed.lock, changed.legal_hold, changed.written) = (id.clone(), None, false, now);
        found.blobs.get_mut(blob).unwrap().versions.push(changed);
    } else {
        *version = changed;
    }
    Ok(written(200, &etag, now, versioning.then_some(id)).with("x-ms-request-server-encrypted", "true"))
}

pub fn set_properties(state: &mut State, call: &Call, container: &str, blob: &str) -> Outcome {
    let (now, etag) = (state.now(), state.next_etag());
    let found = state.container(container)?;
    let worm = found.worm().is_some();
    let version = changeable(found, call, blob, now)?;
    if worm {
        return Err(Reply::error(409, "BlobImmutableDueToPolicy"));
    }
    version.properties = properties(call);
    version.md5 = call.header("x-ms-blob-content-md5").map(str::to_owned);
    (version.etag, version.modified) = (etag.clone(), now);
    Ok(written(200, &etag, now, None))
}

/// Without a version the blob's name is emptied, and what was current becomes a previous version; with one, that is
/// gone for good, unless there is soft delete.
pub fn delete(state: &mut State, call: &Call, container: &str, blob: &str) -> Outcome {
    let (now, soft) = (state.now(), state.options.soft_delete_days.is_some());
    let found = state.container(container)?;
    let versioning = found.options.versioning;
    let entry = found.blobs.get(blob).ok_or_else(not_found)?;
    if let Some(id) = call.version_id() {
        let at = entry.versions.iter().position(|v| v.id == id && v.deleted.is_none()).ok_or_else(not_found)?;
        if entry.is_current(id) {
            return Err(Reply::error(403, "OperationNotAllowedOnRootBlob"));
        }
        locks::refuse_if_held(found, &entry.versions[at], now)?;
        let entry = found.blobs.get_mut(blob).unwrap();
        if soft && call.query("deletetype") != Some("permanent") {
            entry.versions[at].deleted = Some(now);
        } else {
            entry.versions.remove(at);
        }
        return Ok(gone(found, blob, soft));
    }
    let current = entry.current_ref().ok_or_else(not_found)?;
    preconditions(call, Some(current), false)?;
    entry.lease.permits(call.header("x-ms-lease-id"), now)?;
    locks::refuse_if_held(found, current, now)?;
    let entry = found.blobs.get_mut(blob).unwrap();
    entry.live = false;
    entry.lease = lease::Lease::default();
    if !versioning {
        if soft {
            entry.versions[0].deleted = Some(now);
        } else {
            entry.versions.clear();
        }
    }
    Ok(gone(found, blob, soft))
}

fn gone(container: &mut Container, blob: &str, soft: bool) -> Reply {
    if container.blobs.get(blob).is_some_and(|b| b.is_empty()) {
        container.blobs.remove(blob);
    }
    Reply::new(202).with("x-ms-delete-type-permanent", (!soft).to_string())
}

/// Brings soft-deleted versions back.
pub fn undelete(state: &mut State, container: &str, blob: &str) -> Outcome {
    let (now, kept) = (state.now(), state.options.soft_delete_days.unwrap_or(0));
    let found = state.container(container)?;
    let versioning = found.options.versioning;
    let entry = found.blobs.get_mut(blob).ok_or_else(not_found)?;
    for version in &mut entry.versions {
        version.deleted.take_if(|at| at.checked_add(days(i64::from(kept))).is_ok_and(|end| end > now));
    }
    if !versioning && entry.versions.iter().any(|v| v.deleted.is_none()) {
        entry.live = true;
    }
    Ok(Reply::new(200))
}

/// Allowed on locked versions too. Out of the archive takes hours.
pub fn set_tier(state: &mut State, call: &Call, container: &str, blob: &str) -> Outcome {
    let now = state.now();
    let (standard, high) = (state.options.rehydrate_standard_s, state.options.rehydrate_high_s);
    let tier = call.header("x-ms-access-tier").filter(|t| TIERS.contains(t)).ok_or_else(|| Reply::error(400, "InvalidHeaderValue"))?;
    let found = state.container(container)?;
    let entry = found.blobs.get_mut(blob).ok_or_else(not_found)?;
    if call.version_id().is_none() && call.headers.contains_key("x-ms-lease-id") {
        entry.lease.permits(call.header("x-ms-lease-id"), now)?;
    }
    let version = entry.find(call.version_id()).ok_or_else(not_found)?;
    version.settle(now);
    let priority = call.header("x-ms-rehydrate-priority").unwrap_or("Standard");
    let wait = if priority.eq_ignore_ascii_case("high") { high } else { standard };
    let due = now.checked_add(seconds(wait)).unwrap();
    if let Some(pending) = &mut version.rehydrating {
        // Only the priority may rise while it lasts.
        if pending.to != tier || !priority.eq_ignore_ascii_case("high") {
            return Err(Reply::error(409, "BlobBeingRehydrated"));
        }
        (pending.priority, pending.due) = ("High".to_owned(), due.min(pending.due));
        return Ok(Reply::new(202));
    }
    if version.archived() && tier != "Archive" {
        version.rehydrating = Some(Rehydration { to: tier.to_owned(), priority: priority.to_owned(), due });
        return Ok(Reply::new(202));
    }
    (version.tier, version.tier_changed) = (Some(tier.to_owned()), Some(now));
    Ok(Reply::new(200))
}

pub fn lease_blob(state: &mut State, call: &Call, container: &str, blob: &str) -> Outcome {
    let now = state.now();
    let fresh = format!("00000000-0000-4000-8000-{:012x}", state.next_serial());
    let entry = state.container(container)?.blobs.get_mut(blob).ok_or_else(not_found)?;
    let current = entry.current_ref().ok_or_else(not_found)?.clone();
    preconditions(call, Some(&current), false)?;
    let reply = lease::act(&mut entry.lease, call, now, fresh)?;
    Ok(reply.with("etag", current.etag).with("last-modified", super::instants::http_date(current.modified)))
}
