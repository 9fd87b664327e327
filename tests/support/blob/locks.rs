//! The rules of immutability: what a lock refuses, and how locks are set.

use jiff::Timestamp;

use super::call::Call;
use super::instants::{self, days};
use super::options::Options;
use super::reply::{Outcome, Reply};
use super::state::{Container, Lock, State, Version};

/// Why a version may be neither changed nor deleted, if so: the code of the refusal.
pub fn holds(container: &Container, version: &Version, now: Timestamp) -> Option<&'static str> {
    if version.legal_hold || (!container.options.legal_hold.is_empty() && !container.options.version_level) {
        return Some("BlobImmutableDueToLegalHold");
    }
    let by_container = container.worm().is_some_and(|p| version.created.checked_add(days(p.days)).is_ok_and(|end| end > now));
    let by_version = version.lock.is_some_and(|lock| lock.until > now);
    (by_container || by_version).then_some("BlobImmutableDueToPolicy")
}

pub fn refuse_if_held(container: &Container, version: &Version, now: Timestamp) -> Result<(), Reply> {
    holds(container, version, now).map_or(Ok(()), |code| Err(Reply::error(409, code)))
}

/// Whether new content may take the place of a version. Where there are versions it always may: the old one stays.
/// Under a policy of the container it never may, not even after the interval.
pub fn refuse_overwrite(container: &Container, version: &Version, now: Timestamp) -> Result<(), Reply> {
    if !container.options.legal_hold.is_empty() && !container.options.version_level {
        return Err(Reply::error(409, "BlobImmutableDueToLegalHold"));
    }
    if container.worm().is_some() {
        return Err(Reply::error(409, "BlobImmutableDueToPolicy"));
    }
    if container.options.versioning { Ok(()) } else { refuse_if_held(container, version, now) }
}

/// The lock and the hold that a new version gets, from the headers or from the container's default.
pub fn wanted(call: &Call, container: &Container, options: &Options, now: Timestamp) -> Result<(Option<Lock>, bool), Reply> {
    if !call.wants_lock() {
        return Ok((default_lock(container, now), false));
    }
    if !container.options.version_level {
        return if options.ignores_locks { Ok((None, false)) } else { Err(Reply::refusal(&options.lock_not_supported)) };
    }
    let hold = match call.header("x-ms-legal-hold") {
        None => false,
        Some(text) => boolean(text)?,
    };
    let lock = lock_from_headers(call)?;
    if lock.is_some_and(|lock| lock.until <= now) {
        return Err(Reply::refusal(&options.lock_in_the_past));
    }
    Ok((lock.or_else(|| default_lock(container, now)), hold))
}

/// A policy on a container with version-level support is what new versions get by default.
fn default_lock(container: &Container, now: Timestamp) -> Option<Lock> {
    let policy = container.options.policy.as_ref().filter(|_| container.options.version_level)?;
    let until = now.checked_add(days(policy.days)).ok()?;
    Some(Lock { until: instants::whole_seconds(until), locked: policy.state.eq_ignore_ascii_case("locked") })
}

fn lock_from_headers(call: &Call) -> Result<Option<Lock>, Reply> {
    let bad = || Reply::error(400, "InvalidHeaderValue");
    let locked = match call.header("x-ms-immutability-policy-mode").map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("locked") => Some(true),
        Some("unlocked") => Some(false),
        Some(_) => return Err(bad()),
    };
    match (call.header("x-ms-immutability-policy-until-date"), locked) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(bad()),
        (Some(until), locked) => {
            let until = instants::parse(until).ok_or_else(bad)?;
            Ok(Some(Lock { until, locked: locked.unwrap_or(false) }))
        }
    }
}

fn boolean(text: &str) -> Result<bool, Reply> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Reply::error(400, "InvalidHeaderValue")),
    }
}

/// Whether lock operations make sense here at all.
fn support(state: &mut State, container: &str) -> Result<(), Reply> {
    let refusal = state.options.lock_not_supported.clone();
    if state.container(container)?.options.version_level { Ok(()) } else { Err(Reply::refusal(&refusal)) }
}

/// PUT `?comp=immutabilityPolicies`
pub fn set_policy(state: &mut State, call: &Call, container: &str, blob: &str) -> Outcome {
    support(state, container)?;
    let (now, options) = (state.now(), state.options.clone());
    let version = state.version(container, blob, call.version_id())?;
    let lock = lock_from_headers(call)?.ok_or_else(|| Reply::error(400, "MissingRequiredHeader"))?;
    if let Some(limit) = call.header("if-unmodified-since").and_then(instants::parse)
        && instants::whole_seconds(version.modified) > limit
    {
        return Err(Reply::error(412, "ConditionNotMet"));
    }
    if lock.until <= now {
        return Err(Reply::refusal(&options.lock_in_the_past));
    }
    if version.lock.is_some_and(|old| old.locked && (!lock.locked || lock.until < old.until)) {
        return Err(Reply::refusal(&options.lock_shortened));
    }
    version.lock = Some(lock);
    Ok(Reply::new(200)
        .with("x-ms-immutability-policy-until-date", instants::http_date(lock.until))
        .with("x-ms-immutability-policy-mode", lock.mode()))
}

/// DELETE `?comp=immutabilityPolicies`
pub fn delete_policy(state: &mut State, call: &Call, container: &str, blob: &str) -> Outcome {
    support(state, container)?;
    let version = state.version(container, blob, call.version_id())?;
    if version.lock.is_some_and(|lock| lock.locked) {
        return Err(Reply::error(409, "ImmutabilityPolicyDeleteOnLockedPolicy"));
    }
    version.lock = None;
    Ok(Reply::new(200))
}

/// PUT `?comp=legalhold`
pub fn set_legal_hold(state: &mut State, call: &Call, container: &str, blob: &str) -> Outcome {
    support(state, container)?;
    let version = state.version(container, blob, call.version_id())?;
    let hold = boolean(call.header("x-ms-legal-hold").ok_or_else(|| Reply::error(400, "MissingRequiredHeader"))?)?;
    version.legal_hold = hold;
    Ok(Reply::new(200).with("x-ms-legal-hold", hold.to_string()))
}

/// The headers that show a version's lock.
pub fn show(reply: Reply, version: &Version) -> Reply {
    let reply = match version.lock {
        Some(lock) => reply
            .with("x-ms-immutability-policy-until-date", instants::http_date(lock.until))
            .with("x-ms-immutability-policy-mode", lock.mode()),
        None => reply,
    };
    if version.legal_hold { reply.with("x-ms-legal-hold", "true") } else { reply }
}
