//! Leases on blobs and containers.

use jiff::Timestamp;

use super::call::Call;
use super::instants::seconds;
use super::reply::{Outcome, Reply};

#[derive(Default, Clone)]
pub struct Lease {
    id: Option<String>,
    /// No end: for ever.
    until: Option<Timestamp>,
    duration: i64,
    breaking: Option<Timestamp>,
    broken: bool,
}

impl Lease {
    pub fn active(&self, now: Timestamp) -> bool {
        self.id.is_some() && !self.broken && self.until.is_none_or(|u| u > now) && self.breaking.is_none_or(|b| b > now)
    }

    /// `leased`, `available`, `expired`, `breaking` or `broken`.
    pub fn state(&self, now: Timestamp) -> &'static str {
        match &self.id {
            None => "available",
            Some(_) if self.broken || self.breaking.is_some_and(|b| b <= now) => "broken",
            Some(_) if self.breaking.is_some() => "breaking",
            Some(_) if self.until.is_some_and(|u| u <= now) => "expired",
            Some(_) => "leased",
        }
    }

    pub fn status(&self, now: Timestamp) -> &'static str {
        if self.active(now) { "locked" } else { "unlocked" }
    }

    pub fn duration(&self, now: Timestamp) -> Option<&'static str> {
        self.active(now).then(|| if self.until.is_none() { "infinite" } else { "fixed" })
    }

    /// Whether a write may go on, given the lease id that it carries.
    pub fn permits(&self, given: Option<&str>, now: Timestamp) -> Result<(), Reply> {
        match (self.active(now), given) {
            (true, None) => Err(Reply::error(412, "LeaseIdMissing")),
            (true, Some(given)) if self.id.as_deref() != Some(given) => Err(Reply::error(412, "LeaseIdMismatchWithBlobOperation")),
            (false, Some(_)) if self.id.is_some() => Err(Reply::error(412, "LeaseLost")),
            (false, Some(_)) => Err(Reply::error(412, "LeaseNotPresentWithBlobOperation")),
            _ => Ok(()),
        }
    }
}

/// Lease Blob and Lease Container. `fresh` is the id of a new lease where the client proposes none.
pub fn act(lease: &mut Lease, call: &Call, now: Timestamp, fresh: String) -> Outcome {
    let given = call.header("x-ms-lease-id");
    let proposed = call.header("x-ms-proposed-lease-id").map(str::to_owned);
    let mine = |lease: &Lease| given.is_some() && lease.id.as_deref() == given;
    match call.header("x-ms-lease-action").unwrap_or_default().to_ascii_lowercase().as_str() {
        "acquire" => {
            let duration: i64 = call.header("x-ms-lease-duration").and_then(|d| d.parse().ok()).unwrap_or(-1);
            if duration != -1 && !(15..=60).contains(&duration) {
                return Err(Reply::error(400, "InvalidHeaderValue"));
            }
            if lease.active(now) && (proposed.is_none() || lease.id != proposed) {
                return Err(Reply::error(409, "LeaseAlreadyPresent"));
            }
            let id = proposed.unwrap_or(fresh);
            let until = (duration > 0).then(|| now.checked_add(seconds(duration)).unwrap());
            *lease = Lease { id: Some(id.clone()), until, duration, breaking: None, broken: false };
            Ok(Reply::new(201).with("x-ms-lease-id", id))
        }
        _ if lease.id.is_none() => Err(Reply::error(409, "LeaseNotPresentWithLeaseOperation")),
        "break" => {
            if !lease.active(now) && !lease.broken && lease.breaking.is_none() {
                lease.broken = true;
                return Ok(Reply::new(202).with("x-ms-lease-time", "0"));
            }
            let left = lease.until.map_or(0, |u| (u.as_second() - now.as_second()).max(0));
            let asked = call.header("x-ms-lease-break-period").and_then(|p| p.parse::<i64>().ok());
            let wait = asked.map_or(left, |asked| if lease.until.is_some() { asked.min(left) } else { asked });
            lease.breaking = Some(now.checked_add(seconds(wait)).unwrap());
            Ok(Reply::new(202).with("x-ms-lease-time", wait.to_string()))
        }
        _ if !mine(lease) => Err(Reply::error(409, "LeaseIdMismatchWithLeaseOperation")),
        "renew" if lease.broken || lease.breaking.is_some() => Err(Reply::error(409, "LeaseIsBrokenAndCannotBeRenewed")),
        "renew" => {
            lease.until = (lease.duration > 0).then(|| now.checked_add(seconds(lease.duration)).unwrap());
            Ok(Reply::new(200).with_if("x-ms-lease-id", lease.id.clone()))
        }
        "change" if proposed.is_some() && lease.active(now) => {
            lease.id.clone_from(&proposed);
            Ok(Reply::new(200).with_if("x-ms-lease-id", proposed))
        }
        "change" => Err(Reply::error(409, "LeaseNotPresentWithLeaseOperation")),
        "release" => {
            *lease = Lease::default();
            Ok(Reply::new(200))
        }
        _ => Err(Reply::error(400, "InvalidHeaderValue")),
    }
}
