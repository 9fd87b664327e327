//! Requests of privileged identity management: pending at first where somebody must approve.

use serde_json::{Value, json};

use super::{Event, HOUR, Source, push_id};
use crate::sample::estate::{Basis, USUAL_ROLES, person};
use crate::sample::instant::{SECOND, ticks_text};
use crate::sample::rng::{Rng, guid, mix};

const REASONS: [&str; 6] = [
    "Quarterly access review follow-up",
    "Incident INC-20417: mailbox forwarding",
    "Onboarding of new starters",
    "Change CHG-1183: conditional access rollout",
    "Licence clean-up",
    "Application registration for the travel portal",
];

/// Whether somebody must approve.
pub(super) fn needs_approval(draw: u64) -> bool {
    mix(draw ^ 0xa9) % 100 < 45
}

pub(super) fn write(basis: &Basis, event: &Event, second: bool, out: &mut Vec<u8>) {
    let mut rng = Rng::new(&[event.draw, 0x9e9]);
    let eligibility = event.source == Source::DirectoryEligibilityRequests;
    let mut id = Vec::with_capacity(36);
    push_id(event, &mut id);
    let id = String::from_utf8(id).unwrap_or_default();
    let principal = person(basis, 2 + rng.below(basis.users.max(4) - 2));
    let role = USUAL_ROLES[rng.below(USUAL_ROLES.len())];
    let denied = rng.chance(150);
    let status = match (event.again, second) {
        (Some(_), false) => "PendingApproval",
        (Some(_), true) if denied => "Denied",
        _ => "Provisioned",
    };
    let completed = match (event.again, second) {
        (Some(_), false) => None,
        (Some(at), true) => Some(at),
        (None, _) => Some(event.time + SECOND + (event.draw % 900) as i64 * 1_000_000),
    };
    let by = if eligibility { person(basis, rng.below(2)) } else { principal.clone() };
    let hours = 1 + (rng.next() % 8) as i64;
    let expiration = if eligibility {
        json!({"type": "afterDateTime", "endDateTime": ticks_text(event.time + 365 * 24 * HOUR), "duration": null})
    } else {
        json!({"type": "afterDuration", "endDateTime": null, "duration": format!("PT{hours}H")})
    };
    let schedule = (status == "Provisioned").then(|| id.clone());
    let ticket: Value = if rng.chance(300) {
        json!({"ticketNumber": format!("INC-{}", rng.next() % 90_000 + 10_000), "ticketSystem": "ServiceNow"})
    } else {
        json!({"ticketNumber": null, "ticketSystem": null})
    };
    let value = json!({
        "id": id, "status": status, "createdDateTime": ticks_text(event.time), "completedDateTime": completed.map(ticks_text),
        "approvalId": event.again.map(|_| guid(event.draw, "approval", 0)), "customData": null,
        "action": if eligibility { "adminAssign" } else { "selfActivate" }, "principalId": principal.id, "roleDefinitionId": role,
        "directoryScopeId": "/", "appScopeId": null, "isValidationOnly": false, "targetScheduleId": schedule, "justification": rng.pick(&REASONS),
        "createdBy": {"application": null, "device": null, "user": {"displayName": null, "id": by.id}},
        "scheduleInfo": {"startDateTime": ticks_text(event.time), "recurrence": null, "expiration": expiration},
        "ticketInfo": ticket,
    });
    let _ = serde_json::to_writer(out, &value);
}
