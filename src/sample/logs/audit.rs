//! Changes of the directory.

use serde_json::{Value, json};

use super::Event;
use crate::sample::estate::{Basis, person};
use crate::sample::instant::ticks_text;
use crate::sample::rng::{Rng, guid};

/// What happens in a directory: activity, category, operation, service, type of the target.
const ACTIVITIES: [(&str, &str, &str, &str, &str); 12] = [
    ("Update user", "UserManagement", "Update", "Core Directory", "User"),
    ("Add member to group", "GroupManagement", "Assign", "Core Directory", "Group"),
    ("Remove member from group", "GroupManagement", "Unassign", "Core Directory", "Group"),
    ("Reset user password", "UserManagement", "Update", "Core Directory", "User"),
    ("Update service principal", "ApplicationManagement", "Update", "Core Directory", "ServicePrincipal"),
    ("Update application", "ApplicationManagement", "Update", "Core Directory", "Application"),
    ("User registered security info", "UserManagement", "Add", "Authentication Methods", "User"),
    ("Add member to role completed (PIM activation)", "RoleManagement", "Assign", "PIM", "Role"),
    ("Remove member from role (PIM activation expired)", "RoleManagement", "Unassign", "PIM", "Role"),
    ("Add eligible member to role in PIM completed (timebound)", "RoleManagement", "Assign", "PIM", "Role"),
    ("Consent to application", "ApplicationManagement", "Assign", "Core Directory", "ServicePrincipal"),
    ("Change user license", "UserManagement", "Update", "Core Directory", "User"),
];

/// The parts of an audit record.
pub struct Audit<'a> {
    /// `activityDisplayName`
    pub activity: &'a str,
    /// `category`
    pub category: &'a str,
    /// `operationType`
    pub operation: &'a str,
    /// `loggedByService`
    pub service: &'a str,
    /// The id of who did it, and the name to sign in with.
    pub by: (&'a str, &'a str),
    /// The target: type, id, name.
    pub target: (&'a str, &'a str, &'a str),
    /// Property, old value, new value.
    pub modified: Option<(&'a str, Value, Value)>,
}

/// An audit record.
pub fn record(audit: &Audit<'_>, id: &str, correlation: &str, time: i64, address: &str) -> Value {
    let modified: Vec<Value> = audit
        .modified
        .iter()
        .map(|(name, old, new)| {
            let text = |v: &Value| if v.is_null() { Value::Null } else { json!(v.to_string()) };
            json!({"displayName": name, "oldValue": text(old), "newValue": text(new)})
        })
        .collect();
    json!({
        "id": id, "category": audit.category, "correlationId": correlation, "result": "success", "resultReason": "",
        "activityDisplayName": audit.activity, "activityDateTime": ticks_text(time), "loggedByService": audit.service,
        "operationType": audit.operation,
        "initiatedBy": {"app": null, "user": {"id": audit.by.0, "displayName": null, "userPrincipalName": audit.by.1, "ipAddress": address}},
        "targetResources": [{
            "id": audit.target.1, "displayName": audit.target.2, "type": audit.target.0,
            "userPrincipalName": (audit.target.0 == "User").then_some(audit.target.2), "groupType": (audit.target.0 == "Group").then_some("azureAD"),
            "modifiedProperties": modified,
        }],
        "additionalDetails": [{"key": "User-Agent", "value": "Mozilla/5.0"}],
    })
}

pub(super) fn push_id(event: &Event, out: &mut Vec<u8>) {
    let kind = ACTIVITIES[(event.draw % ACTIVITIES.len() as u64) as usize].3;
    out.extend_from_slice(if kind == "PIM" { b"PIM_" } else { b"Directory_" });
    super::push_id(event, out);
    out.extend_from_slice(format!("_{:05X}_{}", event.draw % 0xf_ffff, event.draw % 100_000_000).as_bytes());
}

pub(super) fn write(basis: &Basis, event: &Event, out: &mut Vec<u8>) {
    let mut rng = Rng::new(&[event.draw, 0xa0d1]);
    let (activity, category, operation, service, kind) = ACTIVITIES[(event.draw % ACTIVITIES.len() as u64) as usize];
    let by = person(basis, rng.below(basis.users.max(4)));
    let n = rng.below(basis.users.max(4));
    let (id, name) = match kind {
        "User" => {
            let target = person(basis, n);
            (target.id, target.upn)
        }
        "Group" => (basis.guid("group", n % (basis.users / 20).max(14)), format!("Group {n}")),
        "Application" => (basis.guid("application", n % 10), format!("Application {}", n % 10)),
        "ServicePrincipal" => (basis.guid("servicePrincipal", n % 10), format!("Application {}", n % 10)),
        _ => ("fe930be7-5e62-47db-91af-98c3a49a38b1".to_owned(), "User Administrator".to_owned()),
    };
    let modified = (operation == "Update").then(|| ("Included Updated Properties", Value::Null, json!("LastModified")));
    let audit = Audit { activity, category, operation, service, by: (&by.id, &by.upn), target: (kind, &id, &name), modified };
    let mut text = Vec::with_capacity(80);
    push_id(event, &mut text);
    let text = String::from_utf8(text).unwrap_or_default();
    let address = format!("203.0.113.{}", rng.next() % 254 + 1);
    let value = record(&audit, &text, &guid(event.draw, "correlation", 0), event.time, &address);
    let _ = serde_json::to_writer(out, &value);
}
