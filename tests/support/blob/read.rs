//! Get Blob, Get Blob Properties, Get Block List, tags.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::call::Call;
use super::instants::http_date;
use super::locks;
use super::reply::{Outcome, Reply, elements, escape};
use super::state::{Blob, Lock, State, Version};
use super::sums;
use super::write::preconditions;

/// Get Blob and, without a body, Get Blob Properties.
pub fn get(state: &mut State, call: &Call, container: &str, blob: &str) -> Outcome {
    let (now, account_tier) = (state.now(), state.options.arm.access_tier.clone());
    let found = state.container(container)?;
    let versioning = found.options.versioning;
    let entry = found.blobs.get_mut(blob).ok_or_else(|| Reply::error(404, "BlobNotFound"))?;
    entry.find(call.version_id()).ok_or_else(|| Reply::error(404, "BlobNotFound"))?.settle(now);
    let version = entry.find(call.version_id()).unwrap().clone();
    preconditions(call, Some(&version), false)?;
    let shown = |reply| show(reply, entry, &version, versioning, &account_tier, now);
    let size = version.size();
    if call.method == hyper::Method::HEAD || call.query("comp") == Some("metadata") {
        let reply = shown(Reply::new(200)).with("content-length", size.to_string());
        return Ok(reply.with_if("content-md5", version.md5.clone()));
    }
    if version.archived() {
        return Err(Reply::error(409, "BlobArchived"));
    }
    let Some(range) = call.header("x-ms-range").or_else(|| call.header("range")) else {
        let mut reply = shown(Reply::new(200)).with_if("content-md5", version.md5.clone());
        reply.body = version.data.to_vec();
        return Ok(reply);
    };
    let Some((from, to)) = bounds(range, size) else {
        return Err(Reply::error(416, "InvalidRange").with("content-range", format!("bytes */{size}")));
    };
    let mut reply = shown(Reply::new(206)).with("content-range", format!("bytes {from}-{}/{size}", to - 1));
    reply = reply.with_if("x-ms-blob-content-md5", version.md5.clone());
    reply.body = version.slice(from, to);
    let wants = |header: &str| call.header(header).is_some_and(|v| v.eq_ignore_ascii_case("true"));
    if wants("x-ms-range-get-content-md5") {
        reply = reply.clone().with("content-md5", sums::md5(&reply.body.concat()));
    }
    if wants("x-ms-range-get-content-crc64") {
        reply = reply.clone().with("x-ms-content-crc64", sums::crc64(&reply.body.concat()));
    }
    Ok(reply)
}

/// `bytes=a-` or `bytes=a-b`, within the content: start and end, end excluded.
fn bounds(range: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let from: u64 = from.parse().ok()?;
    let to = if to.is_empty() { size } else { to.parse::<u64>().ok()?.checked_add(1)?.min(size) };
    (from < to).then_some((from, to))
}

/// The headers of a version.
fn show(reply: Reply, blob: &Blob, version: &Version, versioning: bool, account_tier: &str, now: Timestamp) -> Reply {
    let current = blob.is_current(&version.id);
    let mut reply = reply
        .with("etag", version.etag.clone())
        .with("last-modified", http_date(version.modified))
        .with("x-ms-creation-time", http_date(version.created))
        .with("x-ms-blob-type", "BlockBlob")
        .with("accept-ranges", "bytes")
        .with("x-ms-server-encrypted", "true")
        .with("x-ms-access-tier", version.tier.clone().unwrap_or_else(|| account_tier.to_owned()));
    if version.tier.is_none() {
        reply = reply.with("x-ms-access-tier-inferred", "true");
    }
    reply = reply.with_if("x-ms-access-tier-change-time", version.tier_changed.map(http_date));
    if let Some(pending) = &version.rehydrating {
        reply = reply.with("x-ms-archive-status", archive_status(&pending.to)).with("x-ms-rehydrate-priority", pending.priority.clone());
    }
    if current || !versioning {
        reply = reply
            .with("x-ms-lease-status", blob.lease.status(now))
            .with("x-ms-lease-state", blob.lease.state(now))
            .with_if("x-ms-lease-duration", blob.lease.duration(now));
    }
    if versioning {
        reply = reply.with("x-ms-version-id", version.id.clone());
        if current {
            reply = reply.with("x-ms-is-current-version", "true");
        }
    }
    for (name, value) in &version.properties {
        reply = reply.with(name, value.clone());
    }
    for (name, value) in &version.metadata {
        reply = reply.with(&format!("x-ms-meta-{name}"), value.clone());
    }
    if !version.tags.is_empty() {
        reply = reply.with("x-ms-tag-count", version.tags.len().to_string());
    }
    locks::show(reply, version)
}

pub fn archive_status(to: &str) -> String {
    format!("rehydrate-pending-to-{}", to.to_ascii_lowercase())
}

pub fn block_list(state: &mut State, call: &Call, container: &str, blob: &str) -> Outcome {
    let now = state.now();
    let found = state.container(container)?;
    let entry = found.blobs.get_mut(blob).ok_or_else(|| Reply::error(404, "BlobNotFound"))?;
    entry.drop_stale_blocks(now);
    if entry.is_empty() || (entry.current_ref().is_none() && entry.uncommitted.is_empty()) {
        return Err(Reply::error(404, "BlobNotFound"));
    }
    let which = call.query("blocklisttype").unwrap_or("committed").to_ascii_lowercase();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    if which != "uncommitted" {
        let committed = entry.current_ref().map_or_else(String::new, |v| text_of(&v.blocks));
        write!(text, "<CommittedBlocks>{committed}</CommittedBlocks>").unwrap();
    }
    if which != "committed" {
        let staged: Vec<_> = entry.uncommitted.iter().map(|(id, b)| (id.clone(), b.data.len() as u64)).collect();
        write!(text, "<UncommittedBlocks>{}</UncommittedBlocks>", text_of(&staged)).unwrap();
    }
    text.push_str("</BlockList>");
    let reply = Reply::xml(200, text);
    Ok(match entry.current_ref() {
        Some(v) => reply
            .with("etag", v.etag.clone())
            .with("last-modified", http_date(v.modified))
            .with("x-ms-blob-content-length", v.size().to_string()),
        None => reply.with("x-ms-blob-content-length", "0"),
    })
}

fn text_of(blocks: &[(String, u64)]) -> String {
    let one = |(id, size): &(String, u64)| format!("<Block><Name>{}</Name><Size>{size}</Size></Block>", escape(id));
    blocks.iter().map(one).collect()
}

pub fn tags_xml(tags: &[(String, String)]) -> String {
    let one = |(k, v): &(String, String)| format!("<Tag><Key>{}</Key><Value>{}</Value></Tag>", escape(k), escape(v));
    format!("<Tags><TagSet>{}</TagSet></Tags>", tags.iter().map(one).collect::<String>())
}

pub fn get_tags(state: &mut State, call: &Call, container: &str, blob: &str) -> Outcome {
    let version = state.version(container, blob, call.version_id())?;
    Ok(Reply::xml(200, format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>{}", tags_xml(&version.tags))))
}

/// Allowed on locked versions as well.
pub fn set_tags(state: &mut State, call: &Call, container: &str, blob: &str) -> Outcome {
    let text = String::from_utf8_lossy(&call.body).into_owned();
    let version = state.version(container, blob, call.version_id())?;
    version.tags = elements(&text, "Key").into_iter().zip(elements(&text, "Value")).collect();
    Ok(Reply::new(204))
}

/// The elements of a listing that show a lock.
pub fn lock_elements(lock: Option<Lock>) -> String {
    let one = |l: Lock| {
        format!(
            "<ImmutabilityPolicyUntilDate>{}</ImmutabilityPolicyUntilDate><ImmutabilityPolicyMode>{}</ImmutabilityPolicyMode>",
            http_date(l.until),
            l.mode()
        )
    };
    lock.map_or_else(String::new, one)
}
