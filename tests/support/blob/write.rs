//! Put Blob, Put Block, Put Block List.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::body::Bytes;
use jiff::Timestamp;

use super::auth::Caller;
use super::call::Call;
use super::instants;
use super::locks;
use super::reply::{Outcome, Reply};
use super::state::{Block, State, Version};
use super::sums;

/// The content headers that a blob keeps, and under which header a write brings them.
pub const PROPERTIES: [(&str, &str); 5] = [
    ("content-type", "x-ms-blob-content-type"),
    ("content-encoding", "x-ms-blob-content-encoding"),
    ("content-language", "x-ms-blob-content-language"),
    ("content-disposition", "x-ms-blob-content-disposition"),
    ("cache-control", "x-ms-blob-cache-control"),
];

pub const TIERS: [&str; 4] = ["Hot", "Cool", "Cold", "Archive"];

/// Whether the conditional headers let a request go on.
pub fn preconditions(call: &Call, current: Option<&Version>, create: bool) -> Result<(), Reply> {
    let read = call.method == hyper::Method::GET || call.method == hyper::Method::HEAD;
    let failed = || Err(Reply::error(412, "ConditionNotMet"));
    if let Some(wanted) = call.header("if-match")
        && !current.is_some_and(|v| wanted == "*" || same_tag(wanted, &v.etag))
    {
        return failed();
    }
    match (call.header("if-none-match"), current) {
        (Some("*"), Some(_)) if create => return Err(Reply::error(409, "BlobAlreadyExists")),
        (Some(unwanted), Some(v)) if unwanted == "*" || same_tag(unwanted, &v.etag) => {
            return if read {
                Err(Reply::new(304).with("x-ms-error-code", "ConditionNotMet").with("etag", v.etag.clone()))
            } else {
                failed()
            };
        }
        _ => {}
    }
    let Some(version) = current else { return Ok(()) };
    let modified = instants::whole_seconds(version.modified);
    if call.header("if-unmodified-since").and_then(instants::parse).is_some_and(|limit| modified > limit) {
        return failed();
    }
    if call.header("if-modified-since").and_then(instants::parse).is_some_and(|limit| modified <= limit) {
        return if read { Err(Reply::new(304).with("x-ms-error-code", "ConditionNotMet")) } else { failed() };
    }
    Ok(())
}

fn same_tag(a: &str, b: &str) -> bool {
    a.trim_matches('"') == b.trim_matches('"')
}

/// What was computed of the body before anything was locked.
#[derive(Default)]
pub struct Sums {
    pub md5: Option<String>,
    pub crc64: Option<String>,
}

/// Refuses a body that is not what its headers say.
pub fn check_sums(call: &Call, sums: &Sums) -> Result<(), Reply> {
    let differs = |header: &str, computed: &Option<String>| call.header(header).is_some_and(|given| computed.as_deref() != Some(given));
    if call.header("content-md5").is_some_and(|given| sums::from_base64(given).is_none_or(|bytes| bytes.len() != 16)) {
        return Err(Reply::error(400, "InvalidMd5"));
    }
    if differs("content-md5", &sums.md5) {
        return Err(Reply::error(400, "Md5Mismatch"));
    }
    if differs("x-ms-content-crc64", &sums.crc64) {
        return Err(Reply::error(400, "Crc64Mismatch"));
    }
    Ok(())
}

pub fn put_blob(state: &mut State, call: &Call, caller: &Caller, container: &str, blob: &str, sums: &Sums) -> Outcome {
    if call.header("x-ms-blob-type") != Some("BlockBlob") {
        let known = matches!(call.header("x-ms-blob-type"), Some("AppendBlob" | "PageBlob"));
        return Err(Reply::error(400, if known { "FeatureNotSupportedByDouble" } else { "InvalidHeaderValue" }));
    }
    state.container(container)?;
    check_sums(call, sums)?;
    if call.header("x-ms-blob-content-md5").is_some_and(|given| sums.md5.as_deref() != Some(given)) {
        return Err(Reply::error(400, "Md5Mismatch"));
    }
    let data = if call.body.is_empty() { Vec::new() } else { vec![call.body.clone()] };
    let reply = store(state, call, caller, (container, blob), Content { data, blocks: Vec::new(), md5: sums.md5.clone() })?;
    Ok(reply.with_if("content-md5", sums.md5.clone()).with_if("x-ms-content-crc64", sums.crc64.clone()))
}

pub fn put_block(state: &mut State, call: &Call, container: &str, blob: &str, sums: &Sums) -> Outcome {
    let id = call.query("blockid").unwrap_or_default().to_owned();
    let length = |id: &str| sums::from_base64(id).map_or(0, |bytes| bytes.len());
    if !(1..=64).contains(&length(&id)) {
        return Err(Reply::error(400, "InvalidQueryParameterValue"));
    }
    let now = state.now();
    let found = state.container(container)?;
    check_sums(call, sums)?;
    let new = !found.blobs.contains_key(blob);
    let entry = found.blobs.entry(blob.to_owned()).or_default();
    let allowed = entry.lease.permits(call.header("x-ms-lease-id"), now).and_then(|()| {
        entry.drop_stale_blocks(now);
        let alike = entry.uncommitted.keys().all(|other| length(other) == length(&id));
        if alike { Ok(()) } else { Err(Reply::error(400, "InvalidBlobOrBlock")) }
    });
    if let Err(refusal) = allowed {
        if new {
            found.blobs.remove(blob);
        }
        return Err(refusal);
    }
    entry.uncommitted.insert(id, Block { data: call.body.clone(), written: now });
    Ok(Reply::new(201)
        .with("x-ms-request-server-encrypted", "true")
        .with_if("content-md5", call.header("content-md5"))
        .with_if("x-ms-content-crc64", sums.crc64.clone()))
}

/// The entries of a block list, in order: which kind, and the id.
fn entries(xml: &str) -> Option<Vec<(&str, &str)>> {
    let mut out = Vec::new();
    let mut rest = xml.get(xml.find("<BlockList")?..)?;
    rest = &rest[rest.find('>')? + 1..];
    while let Some(open) = rest.find('<') {
        rest = &rest[open + 1..];
        let end = rest.find('>')?;
        let tag = rest[..end].trim();
        rest = &rest[end + 1..];
        if matches!(tag, "Latest" | "Committed" | "Uncommitted") {
            let close = rest.find("</")?;
            out.push((tag, rest[..close].trim()));
            rest = &rest[close + 2..];
            rest = &rest[rest.find('>')? + 1..];
        }
    }
    Some(out)
}

pub fn put_block_list(state: &mut State, call: &Call, caller: &Caller, container: &str, blob: &str, sums: &Sums) -> Outcome {
    let now = state.now();
    let found = state.container(container)?;
    check_sums(call, sums)?;
    let text = std::str::from_utf8(&call.body).map_err(|_| Reply::error(400, "InvalidXmlDocument"))?;
    let list = entries(text).ok_or_else(|| Reply::error(400, "InvalidXmlDocument"))?;
    if list.len() > 50_000 {
        return Err(Reply::error(400, "BlockListTooLong"));
    }
    let mut content = Content { data: Vec::new(), blocks: Vec::new(), md5: call.header("x-ms-blob-content-md5").map(str::to_owned) };
    let mut empty = super::state::Blob::default();
    let entry = found.blobs.get_mut(blob).unwrap_or(&mut empty);
    entry.drop_stale_blocks(now);
    let committed: BTreeMap<&str, &Bytes> = match entry.current_ref() {
        Some(version) => version.blocks.iter().map(|(id, _)| id.as_str()).zip(version.data.iter()).collect(),
        None => BTreeMap::new(),
    };
    for (kind, id) in list {
        let staged = entry.uncommitted.get(id).map(|block| &block.data).filter(|_| kind != "Committed");
        let kept = committed.get(id).copied().filter(|_| kind != "Uncommitted");
        let data = staged.or(kept).ok_or_else(|| Reply::error(400, "InvalidBlockList"))?.clone();
        content.blocks.push((id.to_owned(), data.len() as u64));
        content.data.push(data);
    }
    let reply = store(state, call, caller, (container, blob), content)?;
    Ok(reply.with_if("content-md5", call.header("content-md5")).with_if("x-ms-content-crc64", sums.crc64.clone()))
}

struct Content {
    data: Vec<Bytes>,
    blocks: Vec<(String, u64)>,
    md5: Option<String>,
}

/// Makes a version of what was sent, if conditions, leases and locks let it.
fn store(state: &mut State, call: &Call, caller: &Caller, (container, blob): (&str, &str), content: Content) -> Outcome {
    let now = state.now();
    let (id, etag, options) = (state.next_version_id(), state.next_etag(), state.options.clone());
    let found = state.container(container)?;
    let tier = match call.header("x-ms-access-tier") {
        Some(tier) if !TIERS.contains(&tier) => return Err(Reply::error(400, "InvalidHeaderValue")),
        tier => tier.map(str::to_owned),
    };
    if let Some(entry) = found.blobs.get(blob) {
        preconditions(call, entry.current_ref(), true)?;
        entry.lease.permits(call.header("x-ms-lease-id"), now)?;
        if let Some(current) = entry.current_ref() {
            if !caller.may_overwrite() {
                return Err(Reply::error(403, "UnauthorizedBlobOverwrite"));
            }
            locks::refuse_overwrite(found, current, now)?;
        }
    } else {
        preconditions(call, None, true)?;
    }
    let (lock, legal_hold) = locks::wanted(call, found, &options, now)?;
    let tags = call.header("x-ms-tags").map_or_else(Vec::new, |t| url::form_urlencoded::parse(t.as_bytes()).into_owned().collect());
    let version = Version {
        id,
        etag: etag.clone(),
        created: now,
        modified: now,
        written: now,
        data: Arc::new(content.data),
        blocks: Arc::new(content.blocks),
        md5: content.md5,
        properties: properties(call),
        metadata: call.metadata(),
        tags,
        tier_changed: tier.is_some().then_some(now),
        tier,
        rehydrating: None,
        lock,
        legal_hold,
        deleted: None,
    };
    let shown = shown_id(found.options.versioning, &version);
    let versioning = found.options.versioning;
    let entry = found.blobs.entry(blob.to_owned()).or_default();
    if !versioning {
        entry.versions.clear();
    }
    entry.versions.push(version);
    entry.live = true;
    entry.uncommitted.clear();
    Ok(written(201, &etag, now, shown).with("x-ms-request-server-encrypted", "true"))
}

fn shown_id(versioning: bool, version: &Version) -> Option<String> {
    versioning.then(|| version.id.clone())
}

/// What every write answers.
pub fn written(status: u16, etag: &str, modified: Timestamp, version: Option<String>) -> Reply {
    Reply::new(status).with("etag", etag).with("last-modified", instants::http_date(modified)).with_if("x-ms-version-id", version)
}

/// The content headers of a write; a block list's own content type says nothing about the blob.
pub fn properties(call: &Call) -> BTreeMap<&'static str, String> {
    let plain = call.query("comp").is_none();
    let value = |(name, header): &(&'static str, &str)| {
        let own = call.header(header).or_else(|| call.header(name).filter(|_| plain))?;
        Some((*name, own.to_owned()))
    };
    let mut out: BTreeMap<_, _> = PROPERTIES.iter().filter_map(value).collect();
    out.entry("content-type").or_insert_with(|| "application/octet-stream".to_owned());
    out
}
