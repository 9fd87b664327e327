//! Days that nobody wants: what an intruder does, and what is lost when things go wrong at large.

use serde_json::{Value, json};

use super::change::{Trace, add_user, deed, edit_rule, some_id, text_of, trace};
use super::estate::{Estate, GLOBAL_ADMINISTRATOR, USUAL_ROLES, assign};
use super::instant::{SECOND, seconds_text, ticks_text};
use super::kinds::Kind;
use super::logs::Journal;
use super::rng::{Rng, guid};
use super::{Deed, SampleError};

/// Names of the disasters.
pub const DISASTERS: [&str; 5] =
    ["users-deleted", "eligibilities-wiped", "pim-policies-weakened", "rogue-global-admin", "conditional-access-removed"];

/// Where the intruder comes from.
const ADDRESS: &str = "192.0.2.66";

/// Who does it: an account that was taken over.
fn intruder(estate: &Estate) -> (String, String) {
    let mut rng = Rng::new(&[estate.basis.seed, 0xbad]);
    let id = some_id(estate, Kind::Users, &mut rng, 2).unwrap_or_default();
    let name = text_of(estate, Kind::Users, &id, "userPrincipalName");
    (id, name)
}

fn note(estate: &Estate, journal: &Journal, now: i64, by: &(String, String), what: Trace<'_>) {
    trace(estate, journal, now, (&by.0, &by.1), ADDRESS, what);
}

/// A Global Administrator that nobody asked for.
fn rogue(estate: &mut Estate, journal: &Journal, now: i64, by: &(String, String)) -> Vec<Deed> {
    let change = estate.next_change();
    let (user, name) = add_user(estate, change, now, "Svc", "Sync", true);
    let target = ("User", user.as_str(), name.as_str());
    let activity = "Invite external user";
    note(
        estate,
        journal,
        now,
        by,
        Trace { activity, category: "UserManagement", operation: "Add", service: "Invited Users", target, modified: None },
    );
    estate.next_change();
    let id = assign(estate, GLOBAL_ADMINISTRATOR, &user, "/", now);
    let target = ("Role", GLOBAL_ADMINISTRATOR, "Global Administrator");
    let modified = Some(("Role.WellKnownObjectName", Value::Null, json!("CompanyAdministrator")));
    let activity = "Add member to role outside of PIM (permanent)";
    note(estate, journal, now, by, Trace { activity, category: "RoleManagement", operation: "Assign", service: "PIM", target, modified });
    vec![
        deed(Kind::Users, &user, format!("new guest {name}")),
        deed(Kind::RoleAssignments, &id, format!("{name} is Global Administrator for good")),
        deed(Kind::RoleAssignmentSchedules, &id, format!("{name} has it as a schedule of PIM, too")),
    ]
}

/// Takes multifactor authentication and approval out of the rules of a role.
fn weaken(estate: &mut Estate, journal: &Journal, now: i64, by: &(String, String), role: &str) -> Option<Deed> {
    let change = estate.next_change();
    edit_rule(estate, role, change, now, "Enablement_EndUser_Assignment", |rule| rule["enabledRules"] = json!([]))?;
    let policy = edit_rule(estate, role, change, now, "Approval_EndUser_Assignment", |rule| {
        // A stand-in's rules are as the tenant had them.
        for (at, none) in [("/setting/isApprovalRequired", json!(false)), ("/setting/approvalStages/0/primaryApprovers", json!([]))] {
            if let Some(value) = rule.pointer_mut(at) {
                *value = none;
            }
        }
    })?;
    let role = text_of(estate, Kind::RoleDefinitions, role, "displayName");
    let modified = Some(("Enablement_EndUser_Assignment", json!(["MultiFactorAuthentication"]), json!([])));
    let target = ("Policy", policy.as_str(), role.as_str());
    let activity = "Update role setting in PIM";
    note(estate, journal, now, by, Trace { activity, category: "RoleManagement", operation: "Update", service: "PIM", target, modified });
    Some(deed(Kind::RoleManagementPolicies, &policy, format!("{role} needs neither MFA nor approval any more")))
}

/// What an intruder does first, for all to see.
pub fn mischief(estate: &mut Estate, journal: &Journal, now: i64) -> Vec<Deed> {
    let by = intruder(estate);
    let mut deeds = rogue(estate, journal, now, &by);
    deeds.extend(weaken(estate, journal, now, &by, GLOBAL_ADMINISTRATOR));
    let enabled = estate.table(Kind::ConditionalAccessPolicies).records().find(|(_, r)| r.text("state") == Some("enabled"));
    if let Some(id) = enabled.map(|(id, _)| id.to_owned()) {
        let change = estate.next_change();
        estate.table_mut(Kind::ConditionalAccessPolicies).edit(&id, change, |v| {
            v["state"] = json!("disabled");
            v["modifiedDateTime"] = json!(ticks_text(now));
        });
        let name = text_of(estate, Kind::ConditionalAccessPolicies, &id, "displayName");
        let target = ("Policy", id.as_str(), name.as_str());
        let modified = Some(("ConditionalAccessPolicy", json!({"state": "enabled"}), json!({"state": "disabled"})));
        let activity = "Update conditional access policy";
        note(
            estate,
            journal,
            now,
            &by,
            Trace { activity, category: "Policy", operation: "Update", service: "Conditional Access", target, modified },
        );
        deeds.push(deed(Kind::ConditionalAccessPolicies, &id, format!("{name:?} is disabled")));
    }
    deeds.extend(credential(estate, journal, now, &by));
    deeds
}

fn credential(estate: &mut Estate, journal: &Journal, now: i64, by: &(String, String)) -> Option<Deed> {
    let id = some_id(estate, Kind::Applications, &mut Rng::new(&[estate.basis.seed, 0xc2ed, estate.change]), 0)?;
    let change = estate.next_change();
    let key = guid(estate.basis.seed, "rogue credential", change);
    let credential = json!({
        "customKeyIdentifier": null, "displayName": "sync", "endDateTime": seconds_text(now + 3650 * 86_400 * SECOND), "hint": "q7X", "keyId": key,
        "secretText": null, "startDateTime": seconds_text(now),
    });
    estate.table_mut(Kind::Applications).edit(&id, change, |v| {
        if let Some(list) = v["passwordCredentials"].as_array_mut() {
            list.push(credential);
        }
    });
    let name = text_of(estate, Kind::Applications, &id, "displayName");
    let target = ("Application", id.as_str(), name.as_str());
    let modified =
        Some(("KeyDescription", json!([]), json!([format!("[KeyIdentifier={key},KeyType=Password,KeyUsage=Verify,DisplayName=sync]")])));
    let activity = "Update application – Certificates and secrets management";
    note(
        estate,
        journal,
        now,
        by,
        Trace { activity, category: "ApplicationManagement", operation: "Update", service: "Core Directory", target, modified },
    );
    Some(deed(Kind::Applications, &id, format!("{name:?} gets a credential of ten years")))
}

/// Deletes what is named, each with its trace.
fn delete(estate: &mut Estate, journal: &Journal, now: i64, kind: Kind, ids: &[String], activity: &str, shown: &str) -> Vec<Deed> {
    let by = intruder(estate);
    let kind_of_target = match kind {
        Kind::Users => ("User", "UserManagement", "Core Directory"),
        Kind::ConditionalAccessPolicies => ("Policy", "Policy", "Conditional Access"),
        _ => ("Role", "RoleManagement", "PIM"),
    };
    let mut deeds = Vec::with_capacity(ids.len());
    for id in ids {
        let name = text_of(estate, kind, id, shown);
        if estate.delete(kind, id) {
            let target = (kind_of_target.0, id.as_str(), name.as_str());
            let (category, service) = (kind_of_target.1, kind_of_target.2);
            note(estate, journal, now, &by, Trace { activity, category, operation: "Delete", service, target, modified: None });
            deeds.push(deed(kind, id, format!("{name} is deleted")));
        }
    }
    deeds
}

/// Lets a disaster happen.
pub fn disaster(estate: &mut Estate, journal: &Journal, now: i64, name: &str) -> Result<Vec<Deed>, SampleError> {
    let by = intruder(estate);
    let ids = |estate: &Estate, kind: Kind| estate.table(kind).records().map(|(id, _)| id.to_owned()).collect::<Vec<_>>();
    Ok(match name {
        "users-deleted" => {
            // Every fifth, never those that break the glass.
            let users = estate.table(Kind::Users).entries().iter().enumerate().skip(2);
            let some: Vec<String> = users.filter(|(at, e)| at % 5 == 0 && e.record.is_some()).map(|(_, e)| e.id.to_string()).collect();
            delete(estate, journal, now, Kind::Users, &some, "Delete user", "userPrincipalName")
        }
        "eligibilities-wiped" => {
            let all = ids(estate, Kind::RoleEligibilitySchedules);
            delete(
                estate,
                journal,
                now,
                Kind::RoleEligibilitySchedules,
                &all,
                "Remove eligible member from role in PIM completed (permanent)",
                "principalId",
            )
        }
        "pim-policies-weakened" => USUAL_ROLES.iter().filter_map(|role| weaken(estate, journal, now, &by, role)).collect(),
        "rogue-global-admin" => rogue(estate, journal, now, &by),
        "conditional-access-removed" => {
            let all = ids(estate, Kind::ConditionalAccessPolicies);
            delete(estate, journal, now, Kind::ConditionalAccessPolicies, &all, "Delete conditional access policy", "displayName")
        }
        other => return Err(SampleError::UnknownDisaster { name: other.into() }),
    })
}
