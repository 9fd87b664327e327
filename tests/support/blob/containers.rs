//! Operations on containers and on the service itself.

use std::fmt::Write as _;

use super::call::Call;
use super::instants::{http_date, whole_seconds};
use super::lease;
use super::list::{self, page_size};
use super::options::ContainerOptions;
use super::reply::{Outcome, Reply, elements, escape};
use super::state::{Container, State};

/// A container made through the data plane can lock nothing: support is switched on elsewhere.
pub fn create(state: &mut State, call: &Call, name: &str) -> Outcome {
    if state.containers.contains_key(name) {
        return Err(Reply::error(409, "ContainerAlreadyExists"));
    }
    let sound = (3..=63).contains(&name.len()) && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !sound || name.contains("--") || name.starts_with('-') || name.ends_with('-') {
        return Err(Reply::error(400, "InvalidResourceName"));
    }
    let public_access = call.header("x-ms-blob-public-access").map(str::to_owned);
    state.put_container(ContainerOptions { name: name.to_owned(), public_access, ..ContainerOptions::default() });
    let found = state.container(name)?;
    found.metadata = call.metadata();
    Ok(stamped(Reply::new(201), found))
}

fn stamped(reply: Reply, container: &Container) -> Reply {
    reply.with("etag", container.etag.clone()).with("last-modified", http_date(container.modified))
}

pub fn properties(state: &mut State, name: &str) -> Outcome {
    let now = state.now();
    let found = state.container(name)?;
    let options = &found.options;
    let mut reply = stamped(Reply::new(200), found)
        .with("x-ms-lease-status", found.lease.status(now))
        .with("x-ms-lease-state", found.lease.state(now))
        .with("x-ms-has-immutability-policy", options.policy.is_some().to_string())
        .with("x-ms-has-legal-hold", (!options.legal_hold.is_empty()).to_string())
        .with("x-ms-immutable-storage-with-versioning-enabled", options.version_level.to_string())
        .with("x-ms-default-encryption-scope", "$account-encryption-key")
        .with("x-ms-deny-encryption-scope-override", "false")
        .with_if("x-ms-blob-public-access", options.public_access.clone());
    for (key, value) in &found.metadata {
        reply = reply.with(&format!("x-ms-meta-{key}"), value.clone());
    }
    Ok(reply)
}

pub fn delete(state: &mut State, call: &Call, name: &str) -> Outcome {
    let now = state.now();
    let found = state.container(name)?;
    if found.options.version_level {
        return Err(Reply::error(409, "ContainerImmutableStorageWithVersioningEnabled"));
    }
    if !found.options.legal_hold.is_empty() {
        return Err(Reply::error(409, "ContainerImmutableDueToLegalHold"));
    }
    if found.worm().is_some_and(|p| p.state.eq_ignore_ascii_case("locked")) && !found.blobs.is_empty() {
        return Err(Reply::error(409, "ContainerImmutableDueToPolicy"));
    }
    found.lease.permits(call.header("x-ms-lease-id"), now)?;
    state.containers.remove(name);
    Ok(Reply::new(202))
}

pub fn set_metadata(state: &mut State, call: &Call, name: &str) -> Outcome {
    let (now, etag) = (whole_seconds(state.now()), state.next_etag());
    let found = state.container(name)?;
    found.metadata = call.metadata();
    (found.modified, found.etag) = (now, etag);
    Ok(stamped(Reply::new(200), found))
}

pub fn lease_container(state: &mut State, call: &Call, name: &str) -> Outcome {
    let now = state.now();
    let fresh = format!("00000000-0000-4000-8000-{:012x}", state.next_serial());
    let found = state.container(name)?;
    let reply = lease::act(&mut found.lease, call, now, fresh)?;
    Ok(stamped(reply, found))
}

pub fn list(state: &State, call: &Call, endpoint: &str) -> Outcome {
    let (now, limit) = (state.now(), page_size(call)?);
    let prefix = call.query("prefix").unwrap_or_default();
    let from = call.query("marker").unwrap_or_default().max(prefix).to_owned();
    let mut text = list::head(endpoint, None, call) + "<Containers>";
    let mut next = String::new();
    for (n, (name, container)) in state.containers.range(from..).take_while(|(name, _)| name.starts_with(prefix)).enumerate() {
        if n == limit {
            next.clone_from(name);
            break;
        }
        let options = &container.options;
        write!(
            text,
            "<Container><Name>{}</Name><Properties><Last-Modified>{}</Last-Modified><Etag>{}</Etag><LeaseStatus>{}</LeaseStatus>\
             <LeaseState>{}</LeaseState><HasImmutabilityPolicy>{}</HasImmutabilityPolicy><HasLegalHold>{}</HasLegalHold>\
             <ImmutableStorageWithVersioningEnabled>{}</ImmutableStorageWithVersioningEnabled></Properties>",
            escape(name),
            http_date(container.modified),
            escape(&container.etag),
            container.lease.status(now),
            container.lease.state(now),
            options.policy.is_some(),
            !options.legal_hold.is_empty(),
            options.version_level
        )
        .unwrap();
        if call.query("include").is_some_and(|i| i.contains("metadata")) {
            let one = |(key, value): &(String, String)| format!("<{key}>{}</{key}>", escape(value));
            write!(text, "<Metadata>{}</Metadata>", container.metadata.iter().map(one).collect::<String>()).unwrap();
        }
        text.push_str("</Container>");
    }
    write!(text, "</Containers><NextMarker>{}</NextMarker></EnumerationResults>", escape(&next)).unwrap();
    Ok(Reply::xml(200, text))
}

pub fn account(state: &State) -> Outcome {
    Ok(Reply::new(200)
        .with("x-ms-sku-name", state.options.sku.clone())
        .with("x-ms-account-kind", state.options.kind.clone())
        .with("x-ms-is-hns-enabled", state.options.hierarchical_namespace.to_string()))
}

pub fn service_properties(state: &State) -> Outcome {
    let policy = match state.options.soft_delete_days {
        Some(days) => format!("<Enabled>true</Enabled><Days>{days}</Days><AllowPermanentDelete>false</AllowPermanentDelete>"),
        None => "<Enabled>false</Enabled>".to_owned(),
    };
    Ok(Reply::xml(
        200,
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><StorageServiceProperties><Logging><Version>1.0</Version><Read>false</Read>\
             <Write>false</Write><Delete>false</Delete><RetentionPolicy><Enabled>false</Enabled></RetentionPolicy></Logging><Cors />\
             <DefaultServiceVersion>2021-12-02</DefaultServiceVersion><DeleteRetentionPolicy>{policy}</DeleteRetentionPolicy>\
             <StaticWebsite><Enabled>false</Enabled></StaticWebsite></StorageServiceProperties>"
        ),
    ))
}

/// Takes soft delete over; the rest of the service's properties is of no use here.
pub fn set_service_properties(state: &mut State, call: &Call) -> Outcome {
    let text = String::from_utf8_lossy(&call.body).into_owned();
    if let Some(policy) = elements(&text, "DeleteRetentionPolicy").first() {
        let enabled = elements(policy, "Enabled").first().is_some_and(|e| e == "true");
        let kept = elements(policy, "Days").first().and_then(|d| d.parse().ok());
        state.options.soft_delete_days = kept.filter(|_| enabled);
    }
    Ok(Reply::new(202))
}
