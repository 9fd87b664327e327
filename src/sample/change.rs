//! Everyday life: people move, groups and eligibilities come and go, somebody becomes an approver.

use serde_json::{Value, json};

use super::Deed;
use super::estate::{Estate, GLASS_GROUP, Member, USUAL_ROLES, make_eligible, person, policy_of_role};
use super::instant::{seconds_text, ticks_text};
use super::kinds::Kind;
use super::logs::{Audit, Journal, Source, audit_record};
use super::names::DEPARTMENTS;
use super::rng::{Rng, guid};

/// Who does what is done every day: the first break-glass account stands for the administrators.
fn administrator(estate: &Estate) -> (String, String) {
    let person = person(&estate.basis, 0);
    (person.id, person.upn)
}

/// What a deed leaves in the audit log.
pub struct Trace<'a> {
    /// `activityDisplayName`
    pub activity: &'a str,
    /// `category`
    pub category: &'a str,
    /// `operationType`
    pub operation: &'a str,
    /// `loggedByService`
    pub service: &'a str,
    /// The target: type, id, name.
    pub target: (&'a str, &'a str, &'a str),
    /// Property, old value, new value.
    pub modified: Option<(&'a str, Value, Value)>,
}

/// Writes a deed into the audit log, as done by somebody from an address.
pub fn trace(estate: &Estate, journal: &Journal, now: i64, by: (&str, &str), address: &str, trace: Trace<'_>) {
    let seed = estate.basis.seed ^ estate.change;
    let id = format!("Directory_{}_{:05X}_{}", guid(seed, trace.activity, estate.change), estate.change & 0xf_ffff, estate.change);
    let Trace { activity, category, operation, service, target, modified } = trace;
    let audit = Audit { activity, category, operation, service, by, target, modified };
    let value = audit_record(&audit, &id, &guid(seed, "correlation", estate.change), now, address);
    journal.record(Source::DirectoryAudits, now, &id, serde_json::to_vec(&value).unwrap_or_default());
}

/// A deed on an object of a collection.
pub fn deed(kind: Kind, id: &str, what: impl Into<String>) -> Deed {
    let rules = kind.rules();
    Deed { collection: rules.catalog.into(), path: format!("/v1.0/{}/{id}", rules.path), id: id.into(), what: what.into() }
}

/// The object at some place that is still there, looking on from a place that is drawn.
pub fn some_id(estate: &Estate, kind: Kind, rng: &mut Rng, from: usize) -> Option<String> {
    let entries = estate.table(kind).entries();
    let room = entries.len().checked_sub(from).filter(|n| *n > 0)?;
    let start = rng.below(room);
    (0..room).map(|n| &entries[from + (start + n) % room]).find(|e| e.record.is_some()).map(|e| e.id.to_string())
}

/// A text of an object.
pub fn text_of(estate: &Estate, kind: Kind, id: &str, name: &str) -> String {
    estate.table(kind).get(id).and_then(|r| r.text(name)).unwrap_or_default().to_owned()
}

/// Does some changes.
pub fn everyday(estate: &mut Estate, journal: &Journal, now: i64, count: usize) -> Vec<Deed> {
    (0..count).filter_map(|_| one(estate, journal, now)).collect()
}

fn one(estate: &mut Estate, journal: &Journal, now: i64) -> Option<Deed> {
    let mut rng = Rng::new(&[estate.basis.seed, 0xc4a2, estate.change]);
    let change = estate.next_change();
    match change % 10 {
        1..=3 => job_title(estate, journal, now, change, &mut rng),
        4..=6 => membership(estate, journal, now, &mut rng),
        7 => new_user(estate, journal, now, change, &mut rng),
        8 => eligibility(estate, journal, now, change, &mut rng),
        9 => approver(estate, journal, now, change, &mut rng),
        _ => description(estate, journal, now, change, &mut rng),
    }
}

fn note(estate: &Estate, journal: &Journal, now: i64, what: Trace<'_>) {
    let (id, upn) = administrator(estate);
    trace(estate, journal, now, (&id, &upn), "203.0.113.10", what);
}

fn job_title(estate: &mut Estate, journal: &Journal, now: i64, change: u64, rng: &mut Rng) -> Option<Deed> {
    let id = some_id(estate, Kind::Users, rng, 2)?;
    let (department, titles) = rng.pick(&DEPARTMENTS);
    let (old, name) = (text_of(estate, Kind::Users, &id, "jobTitle"), text_of(estate, Kind::Users, &id, "userPrincipalName"));
    let title = titles.iter().find(|t| **t != old)?;
    estate.table_mut(Kind::Users).edit(&id, change, |v| {
        v["jobTitle"] = json!(title);
        v["department"] = json!(department);
    });
    let modified = Some(("JobTitle", json!([old]), json!([title])));
    let target = ("User", id.as_str(), name.as_str());
    note(
        estate,
        journal,
        now,
        Trace { activity: "Update user", category: "UserManagement", operation: "Update", service: "Core Directory", target, modified },
    );
    Some(deed(Kind::Users, &id, format!("jobTitle {old:?} becomes {title:?} in {department}")))
}

fn membership(estate: &mut Estate, journal: &Journal, now: i64, rng: &mut Rng) -> Option<Deed> {
    let group = some_id(estate, Kind::Groups, rng, GLASS_GROUP + 1)?;
    let place = estate.table(Kind::Groups).place_of(&group)?;
    let leaves = rng.chance(400);
    let there = estate.members(place).to_vec();
    let member = if leaves && !there.is_empty() {
        *rng.pick(&there)
    } else {
        let user = some_id(estate, Kind::Users, rng, 2)?;
        Member::new(Kind::Users, estate.table(Kind::Users).place_of(&user)?)
    };
    let joins = !there.contains(&member);
    estate.set_member(place, member, joins);
    let id = estate.table(member.kind()).entries().get(member.place()).map(|e| e.id.to_string()).unwrap_or_default();
    let name = text_of(estate, Kind::Groups, &group, "displayName");
    let (activity, operation) = if joins { ("Add member to group", "Assign") } else { ("Remove member from group", "Unassign") };
    let modified = Some(("Member.ObjectID", Value::Null, json!(id)));
    let target = ("Group", group.as_str(), name.as_str());
    note(estate, journal, now, Trace { activity, category: "GroupManagement", operation, service: "Core Directory", target, modified });
    let what = format!("{id} {} {name:?}", if joins { "joins" } else { "leaves" });
    let path = format!("/v1.0/groups/{group}/members");
    Some(Deed { collection: "entra.groups.members".into(), path, id: group, what })
}

/// Adds a user; its id and name.
pub fn add_user(estate: &mut Estate, change: u64, now: i64, given: &str, surname: &str, guest: bool) -> (String, String) {
    let id = guid(estate.basis.seed, "later user", change);
    let nickname = format!("{}.{}.{change}", given.to_lowercase(), surname.to_lowercase());
    let upn = if guest { format!("{nickname}_mail.example#EXT#@{}", super::DOMAIN) } else { format!("{nickname}@{}", super::DOMAIN) };
    // Made after the likeness of another, so that no property is missing.
    let mut value =
        estate.table(Kind::Users).entries().iter().find_map(|e| e.record.as_ref()).map(|r| r.to_value()).unwrap_or_else(|| json!({}));
    for (name, to) in [
        ("id", json!(id)),
        ("displayName", json!(format!("{given} {surname}"))),
        ("givenName", json!(given)),
        ("surname", json!(surname)),
        ("userPrincipalName", json!(upn)),
        ("mail", json!(if guest { format!("{nickname}@mail.example") } else { upn.clone() })),
        ("mailNickname", json!(nickname)),
        ("userType", json!(if guest { "Guest" } else { "Member" })),
        ("externalUserState", if guest { json!("Accepted") } else { Value::Null }),
        ("department", if guest { Value::Null } else { json!("Engineering") }),
        ("jobTitle", if guest { Value::Null } else { json!("Software Engineer") }),
        ("createdDateTime", json!(seconds_text(now))),
    ] {
        value[name] = to;
    }
    estate.table_mut(Kind::Users).put_value(&id, &value, change);
    (id, upn)
}

fn new_user(estate: &mut Estate, journal: &Journal, now: i64, change: u64, rng: &mut Rng) -> Option<Deed> {
    let given = *rng.pick(&["Robin", "Kim", "Sasha", "Noor", "Jamie", "Charlie"]);
    let surname = *rng.pick(&["Meier", "Lopez", "Baptiste", "Okoye", "Lindgren"]);
    let (id, upn) = add_user(estate, change, now, given, surname, false);
    let target = ("User", id.as_str(), upn.as_str());
    note(
        estate,
        journal,
        now,
        Trace { activity: "Add user", category: "UserManagement", operation: "Add", service: "Core Directory", target, modified: None },
    );
    Some(deed(Kind::Users, &id, format!("new user {upn}")))
}

fn eligibility(estate: &mut Estate, journal: &Journal, now: i64, change: u64, rng: &mut Rng) -> Option<Deed> {
    let user = some_id(estate, Kind::Users, rng, 2)?;
    let role = *rng.pick(&USUAL_ROLES[4..]);
    let id = guid(estate.basis.seed, "later eligibility", change);
    make_eligible(estate, &id, role, &user, "/", now, Some(365));
    let name = text_of(estate, Kind::RoleDefinitions, role, "displayName");
    let target = ("Role", role, name.as_str());
    let modified = Some(("RoleDefinition.Principal", Value::Null, json!(user)));
    let activity = "Add eligible member to role in PIM completed (timebound)";
    note(estate, journal, now, Trace { activity, category: "RoleManagement", operation: "Assign", service: "PIM", target, modified });
    Some(deed(Kind::RoleEligibilitySchedules, &id, format!("{user} may activate {name}")))
}

/// Changes a rule of the policy of a role; the policy's id.
pub fn edit_rule(estate: &mut Estate, role: &str, change: u64, now: i64, rule: &str, with: impl FnOnce(&mut Value)) -> Option<String> {
    let policy = policy_of_role(estate, role)?;
    let by = administrator(estate).0;
    estate.table_mut(Kind::RoleManagementPolicies).edit(&policy, change, |v| {
        v["lastModifiedDateTime"] = json!(ticks_text(now));
        v["lastModifiedBy"] = json!({"displayName": null, "id": by});
        if let Some(found) = v["rules"].as_array_mut().and_then(|rules| rules.iter_mut().find(|r| r["id"] == rule)) {
            with(found);
        }
    });
    Some(policy)
}

fn approver(estate: &mut Estate, journal: &Journal, now: i64, change: u64, rng: &mut Rng) -> Option<Deed> {
    let role = *rng.pick(&USUAL_ROLES[..8]);
    let place = 2 + rng.below(6);
    let group = estate.table(Kind::Groups).entries().get(place).map(|e| e.id.to_string())?;
    let name = text_of(estate, Kind::Groups, &group, "displayName");
    let policy = edit_rule(estate, role, change, now, "Approval_EndUser_Assignment", |rule| {
        rule["setting"]["isApprovalRequired"] = json!(true);
        let entry = json!({"@odata.type": "#microsoft.graph.groupMembers", "description": name, "groupId": group, "isBackup": false});
        if let Some(list) = rule["setting"]["approvalStages"][0]["primaryApprovers"].as_array_mut()
            && !list.contains(&entry)
        {
            list.push(entry);
        }
    })?;
    let target = ("Policy", policy.as_str(), "DirectoryRole");
    let modified = Some(("Approval_EndUser_Assignment", Value::Null, json!(group)));
    let activity = "Update role setting in PIM";
    note(estate, journal, now, Trace { activity, category: "RoleManagement", operation: "Update", service: "PIM", target, modified });
    Some(deed(
        Kind::RoleManagementPolicies,
        &policy,
        format!("{name:?} approves activations of {}", text_of(estate, Kind::RoleDefinitions, role, "displayName")),
    ))
}

fn description(estate: &mut Estate, journal: &Journal, now: i64, change: u64, rng: &mut Rng) -> Option<Deed> {
    let group = some_id(estate, Kind::Groups, rng, 0)?;
    let name = text_of(estate, Kind::Groups, &group, "displayName");
    let text = format!("{name}, reviewed on {}", &seconds_text(now)[..10]);
    estate.table_mut(Kind::Groups).edit(&group, change, |v| v["description"] = json!(text));
    let target = ("Group", group.as_str(), name.as_str());
    let modified = Some(("Description", Value::Null, json!([text])));
    note(
        estate,
        journal,
        now,
        Trace { activity: "Update group", category: "GroupManagement", operation: "Update", service: "Core Directory", target, modified },
    );
    Some(deed(Kind::Groups, &group, "description is rewritten"))
}
