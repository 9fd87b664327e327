//! List Blobs: pages of names in order, with what is asked for of each.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Bound;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::call::Call;
use super::instants::{days, http_date};
use super::read::{archive_status, lock_elements, tags_xml};
use super::reply::{Outcome, Reply, escape, name_element};
use super::state::{Blob, State, Version};
use super::write::PROPERTIES;

pub const PAGE: usize = 5000;

struct Wanted<'a> {
    include: BTreeSet<&'a str>,
    versioning: bool,
    account_tier: String,
    soft_delete_days: Option<u32>,
    now: Timestamp,
}

pub fn blobs(state: &mut State, call: &Call, container: &str, endpoint: &str) -> Outcome {
    let now = state.now();
    let (account_tier, soft_delete_days) = (state.options.arm.access_tier.clone(), state.options.soft_delete_days);
    let found = state.container(container)?;
    let include = call.query("include").unwrap_or_default().split(',').filter(|i| !i.is_empty()).collect();
    let wanted = Wanted { include, versioning: found.options.versioning, account_tier, soft_delete_days, now };
    let (limit, prefix) = (page_size(call)?, call.query("prefix").unwrap_or_default());
    let delimiter = call.query("delimiter").filter(|d| !d.is_empty());
    let marker = call.query("marker").filter(|m| !m.is_empty());
    let (mut from, mut skip) = match marker {
        None => (call.query("startFrom").unwrap_or_default().max(prefix).to_owned(), 0),
        Some(marker) => read_marker(marker).ok_or_else(|| Reply::error(400, "InvalidQueryParameterValue"))?,
    };
    let mut items = String::new();
    let (mut count, mut next) = (0, None);
    'pages: loop {
        let range = (Bound::Included(from.clone()), Bound::Unbounded);
        let mut jump = None;
        for (name, blob) in found.blobs.range_mut(range).take_while(|(name, _)| name.starts_with(prefix)) {
            let first = if *name == from { skip } else { 0 };
            let shown = entries(name, blob, &wanted, first);
            if shown.is_empty() {
                continue;
            }
            if let Some(group) = delimiter.and_then(|d| name[prefix.len()..].find(d).map(|at| &name[..prefix.len() + at + d.len()])) {
                if count == limit {
                    next = Some(make_marker(name, 0));
                    break 'pages;
                }
                write!(items, "<BlobPrefix>{}</BlobPrefix>", name_element("Name", group)).unwrap();
                count += 1;
                jump = Some(format!("{group}\u{10ffff}"));
                break;
            }
            for (n, entry) in shown.iter().enumerate() {
                if count == limit {
                    next = Some(make_marker(name, first + n));
                    break 'pages;
                }
                items.push_str(entry);
                count += 1;
            }
        }
        // A group stands for all its names: go on behind it.
        match jump {
            Some(behind) => (from, skip) = (behind, 0),
            None => break,
        }
    }
    let mut text = head(endpoint, Some(container), call);
    write!(text, "<Blobs>{items}</Blobs><NextMarker>{}</NextMarker></EnumerationResults>", next.unwrap_or_default()).unwrap();
    Ok(Reply::xml(200, text))
}

pub fn page_size(call: &Call) -> Result<usize, Reply> {
    match call.query("maxresults").map(str::parse::<i64>) {
        None => Ok(PAGE),
        Some(Ok(n)) if n > 0 => Ok(usize::try_from(n).unwrap_or(PAGE).min(PAGE)),
        Some(_) => Err(Reply::error(400, "OutOfRangeQueryParameterValue")),
    }
}

pub fn head(endpoint: &str, container: Option<&str>, call: &Call) -> String {
    let mut text = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"{}/\"", escape(endpoint));
    if let Some(container) = container {
        write!(text, " ContainerName=\"{}\"", escape(container)).unwrap();
    }
    text.push('>');
    for (parameter, element) in [("prefix", "Prefix"), ("marker", "Marker"), ("maxresults", "MaxResults"), ("delimiter", "Delimiter")] {
        if let Some(value) = call.query(parameter).filter(|v| !v.is_empty()) {
            write!(text, "<{element}>{}</{element}>", escape(value)).unwrap();
        }
    }
    text
}

/// Where the next page starts: a name, and how many of its entries are behind.
fn make_marker(name: &str, skip: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!("{skip}:{name}"))
}

fn read_marker(marker: &str) -> Option<(String, usize)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(marker).ok()?).ok()?;
    let (skip, name) = text.split_once(':')?;
    Some((name.to_owned(), skip.parse().ok()?))
}

/// What a listing shows of a name, oldest version first.
fn entries(name: &str, blob: &mut Blob, wanted: &Wanted, skip: usize) -> Vec<String> {
    let asks = |what: &str| wanted.include.contains(what);
    let kept = |at: Timestamp| at.checked_add(days(i64::from(wanted.soft_delete_days.unwrap_or(0)))).is_ok_and(|end| end > wanted.now);
    let mut out = Vec::new();
    if asks("uncommittedblobs") && !blob.live {
        blob.drop_stale_blocks(wanted.now);
        if !blob.uncommitted.is_empty() {
            out.push(uncommitted(name));
        }
    }
    let last = blob.versions.len().wrapping_sub(1);
    let mut chosen = Vec::new();
    for (at, version) in blob.versions.iter_mut().enumerate() {
        let current = blob.live && at == last;
        let deleted = version.deleted;
        let visible = match deleted {
            Some(when) => asks("deleted") && (asks("versions") || !wanted.versioning) && kept(when),
            None => current || (asks("versions") && wanted.versioning),
        };
        if visible {
            version.settle(wanted.now);
            chosen.push((at, current));
        }
    }
    out.extend(chosen.into_iter().map(|(at, current)| entry(name, blob, &blob.versions[at], current, wanted)));
    out.drain(..skip.min(out.len()));
    out
}

fn uncommitted(name: &str) -> String {
    let properties = "<Properties><Content-Length>0</Content-Length><BlobType>BlockBlob</BlobType></Properties>";
    format!("<Blob>{}{properties}</Blob>", name_element("Name", name))
}

fn entry(name: &str, blob: &Blob, version: &Version, current: bool, wanted: &Wanted) -> String {
    let asks = |what: &str| wanted.include.contains(what);
    let mut text = format!("<Blob>{}", name_element("Name", name));
    if version.deleted.is_some() {
        text.push_str("<Deleted>true</Deleted>");
    }
    if asks("versions") && wanted.versioning {
        write!(text, "<VersionId>{}</VersionId>", version.id).unwrap();
        if current {
            text.push_str("<IsCurrentVersion>true</IsCurrentVersion>");
        }
    }
    write!(
        text,
        "<Properties><Creation-Time>{}</Creation-Time><Last-Modified>{}</Last-Modified><Etag>{}</Etag><Content-Length>{}</Content-Length>",
        http_date(version.created),
        http_date(version.modified),
        version.etag.trim_matches('"'),
        version.size()
    )
    .unwrap();
    for (key, element) in PROPERTIES.iter().map(|(key, _)| (*key, title(key))) {
        let value = version.properties.get(key).map_or("", String::as_str);
        write!(text, "<{element}>{}</{element}>", escape(value)).unwrap();
    }
    if let Some(md5) = &version.md5 {
        write!(text, "<Content-MD5>{md5}</Content-MD5>").unwrap();
    }
    let tier = version.tier.as_deref().unwrap_or(&wanted.account_tier);
    write!(text, "<BlobType>BlockBlob</BlobType><AccessTier>{tier}</AccessTier>").unwrap();
    if version.tier.is_none() {
        text.push_str("<AccessTierInferred>true</AccessTierInferred>");
    }
    if let Some(at) = version.tier_changed {
        write!(text, "<AccessTierChangeTime>{}</AccessTierChangeTime>", http_date(at)).unwrap();
    }
    if let Some(pending) = &version.rehydrating {
        let (status, priority) = (archive_status(&pending.to), &pending.priority);
        write!(text, "<ArchiveStatus>{status}</ArchiveStatus><RehydratePriority>{priority}</RehydratePriority>").unwrap();
    }
    if current {
        let (status, state) = (blob.lease.status(wanted.now), blob.lease.state(wanted.now));
        write!(text, "<LeaseStatus>{status}</LeaseStatus><LeaseState>{state}</LeaseState>").unwrap();
    }
    if let Some(at) = version.deleted {
        let left = wanted.soft_delete_days.unwrap_or(0).saturating_sub(days_since(at, wanted.now));
        write!(text, "<DeletedTime>{}</DeletedTime><RemainingRetentionDays>{left}</RemainingRetentionDays>", http_date(at)).unwrap();
    }
    if asks("immutabilitypolicy") {
        text.push_str(&lock_elements(version.lock));
    }
    if asks("legalhold") && version.legal_hold {
        text.push_str("<LegalHold>true</LegalHold>");
    }
    if !version.tags.is_empty() {
        write!(text, "<TagCount>{}</TagCount>", version.tags.len()).unwrap();
    }
    text.push_str("<ServerEncrypted>true</ServerEncrypted></Properties>");
    if asks("metadata") && !version.metadata.is_empty() {
        let one = |(key, value): &(String, String)| format!("<{key}>{}</{key}>", escape(value));
        write!(text, "<Metadata>{}</Metadata>", version.metadata.iter().map(one).collect::<String>()).unwrap();
    }
    if asks("tags") && !version.tags.is_empty() {
        text.push_str(&tags_xml(&version.tags));
    }
    text.push_str("</Blob>");
    text
}

fn days_since(at: Timestamp, now: Timestamp) -> u32 {
    u32::try_from((now.as_second() - at.as_second()).max(0) / 86_400).unwrap_or(u32::MAX)
}

fn title(key: &str) -> &'static str {
    match key {
        "content-type" => "Content-Type",
        "content-encoding" => "Content-Encoding",
        "content-language" => "Content-Language",
        "content-disposition" => "Content-Disposition",
        _ => "Cache-Control",
    }
}
