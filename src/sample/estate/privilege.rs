//! Directory roles: definitions, who holds them, who may activate them, and the rules of activation.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Basis, Estate, directory};
use crate::sample::instant::{SECOND, seconds_text, ticks_text};
use crate::sample::kinds::Kind;
use crate::sample::rng::Rng;

/// Template of Global Administrator.
pub const GLOBAL_ADMINISTRATOR: &str = "62e90394-69f5-4237-9190-012177145e10";
const DIRECTORY_READERS: &str = "88d8e3e3-8f55-4a1e-953a-9b9898b8876b";

/// Roles that people hold or may activate, the weightiest first.
pub const USUAL: [&str; 16] = [
    GLOBAL_ADMINISTRATOR,
    "e8611ab8-c189-46e8-94e1-60213ab1f814", // Privileged Role Administrator
    "194ae4cb-b126-40b2-bd5b-6091b380977d", // Security Administrator
    "b1be1c3e-b65d-4f19-8427-f6fa0d97feb9", // Conditional Access Administrator
    "9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3", // Application Administrator
    "158c047a-c907-4556-b7ef-446551a6b5f7", // Cloud Application Administrator
    "c4e39bd9-1100-46d3-8c65-fb160da0071f", // Authentication Administrator
    "fe930be7-5e62-47db-91af-98c3a49a38b1", // User Administrator
    "fdd7a751-b60b-444a-984c-02652fe8fa1c", // Groups Administrator
    "729827e3-9c14-49f7-bb1b-9608f156bbb8", // Helpdesk Administrator
    "29232cdf-9323-42fd-ade2-1d097af3e4de", // Exchange Administrator
    "f28a1f50-f6e7-4571-818b-6a12f2af6b6c", // SharePoint Administrator
    "69091246-20e8-4a56-aa4d-066075b2a7a8", // Teams Administrator
    "3a2c62db-5318-420d-8d74-23affee5d9d5", // Intune Administrator
    "5d6b6bb7-de71-4623-b4af-96380a352509", // Security Reader
    "f2ef992c-3afb-46b9-b7cf-a126ee74c451", // Global Reader
];

/// Roles whose activation needs approval: the first of [`USUAL`].
const APPROVED: usize = 4;

static ROLES: &str = include_str!("../../../sample/tenant/entra-roles.json");
static RULES: &str = include_str!("../../../sample/tenant/pim-rules.json");

pub(super) fn build(estate: &mut Estate) {
    definitions(estate);
    policies(estate);
    assignments(estate);
    eligibilities(estate);
}

/// The built-in roles as they are published.
fn published(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap_or_default()
}

fn definitions(estate: &mut Estate) {
    let basis = estate.basis.clone();
    for mut role in published(ROLES) {
        let id = role["templateId"].as_str().unwrap_or_default().to_owned();
        role["allowedPrincipalTypes"] = Value::Null;
        role["inheritsPermissionsFrom"] = if id == DIRECTORY_READERS { json!([]) } else { json!([{"id": DIRECTORY_READERS}]) };
        estate.put(Kind::RoleDefinitions, &id, &role);
    }
    let custom = [
        (
            "Application Credential Reader",
            ["microsoft.directory/applications/credentials/read", "microsoft.directory/applications/standard/read"],
        ),
        ("Group Membership Operator", ["microsoft.directory/groups/members/update", "microsoft.directory/groups/standard/read"]),
        (
            "Service Principal Auditor",
            ["microsoft.directory/servicePrincipals/standard/read", "microsoft.directory/servicePrincipals/audience/update"],
        ),
        ("Device Retirement Operator", ["microsoft.directory/devices/disable", "microsoft.directory/devices/standard/read"]),
    ];
    for (n, (name, actions)) in custom.iter().enumerate() {
        let id = basis.guid("roleDefinition", n);
        let value = json!({
            "id": id, "templateId": id, "displayName": name, "description": format!("Custom role: {name}"), "isBuiltIn": false, "isEnabled": true,
            "isPrivileged": false, "resourceScopes": ["/"], "version": "1", "allowedPrincipalTypes": null, "inheritsPermissionsFrom": [],
            "rolePermissions": [{"allowedResourceActions": actions, "condition": null}],
        });
        estate.put(Kind::RoleDefinitions, &id, &value);
    }
}

/// The id of a role's policy.
pub fn policy_id(basis: &Basis, role: usize) -> String {
    format!("DirectoryRole_{}_{}", basis.tenant, basis.guid("roleManagementPolicy", role))
}

/// The policy that governs a role.
pub fn policy_of_role(estate: &Estate, role: &str) -> Option<String> {
    let mut assigned = estate.table(Kind::RoleManagementPolicyAssignments).records();
    let policy = assigned.find_map(|(_, r)| r.text("policyId").filter(|_| r.text("roleDefinitionId") == Some(role)))?;
    estate.table(Kind::RoleManagementPolicies).get(policy).map(|_| policy.to_owned())
}

fn policies(estate: &mut Estate) {
    let basis = estate.basis.clone();
    let roles: Vec<(String, bool)> =
        estate.table(Kind::RoleDefinitions).records().map(|(id, r)| (id.to_owned(), r.raw("isPrivileged") == Some(b"true"))).collect();
    for (n, (role, privileged)) in roles.iter().enumerate() {
        let mut rules = published(RULES);
        let mut rng = Rng::new(&[basis.seed, 0x9011, n as u64]);
        let weight = USUAL.iter().position(|r| r == role);
        for rule in &mut rules {
            tune(&basis, rule, weight, *privileged, &mut rng);
        }
        let policy = policy_id(&basis, n);
        let changed = weight.map(|w| seconds_text(basis.before(7, w, 400)));
        let value = json!({
            "id": policy, "displayName": "DirectoryRole", "description": "DirectoryRole", "isOrganizationDefault": false, "scopeId": "/",
            "scopeType": "DirectoryRole", "lastModifiedDateTime": changed,
            "lastModifiedBy": {"displayName": changed.is_some().then_some("Break Glass 1"), "id": changed.is_some().then(|| basis.guid("user", 0))},
            "rules": rules,
        });
        estate.put(Kind::RoleManagementPolicies, &policy, &value);
        let id = format!("{policy}_{role}");
        let value = json!({"id": id, "policyId": policy, "scopeId": "/", "scopeType": "DirectoryRole", "roleDefinitionId": role});
        estate.put(Kind::RoleManagementPolicyAssignments, &id, &value);
    }
}

/// What an administrator of this tenant made of a rule's default.
fn tune(basis: &Basis, rule: &mut Value, weight: Option<usize>, privileged: bool, rng: &mut Rng) {
    let id = rule["id"].as_str().unwrap_or_default().to_owned();
    match id.as_str() {
        "Expiration_Admin_Eligibility" if weight.is_some() => {
            rule["isExpirationRequired"] = json!(true);
        }
        "Expiration_Admin_Assignment" if weight.is_some_and(|w| w > 0) => {
            rule["isExpirationRequired"] = json!(true);
        }
        "Expiration_EndUser_Assignment" => {
            let hours = if weight.is_some_and(|w| w < APPROVED) { "PT1H" } else { *rng.pick(&["PT4H", "PT8H", "PT8H"]) };
            rule["maximumDuration"] = json!(hours);
        }
        "Enablement_EndUser_Assignment" => {
            rule["enabledRules"] = if weight.is_some_and(|w| w < APPROVED) {
                json!(["MultiFactorAuthentication", "Justification", "Ticketing"])
            } else if privileged || weight.is_some() {
                json!(["MultiFactorAuthentication", "Justification"])
            } else {
                json!(["Justification"])
            };
        }
        "Approval_EndUser_Assignment" if weight.is_some_and(|w| w < APPROVED) => {
            rule["setting"]["isApprovalRequired"] = json!(true);
            rule["setting"]["approvalStages"][0]["primaryApprovers"] = json!([{
                "@odata.type": "#microsoft.graph.groupMembers", "description": "PIM Approvers", "groupId": basis.approvers(), "isBackup": false,
            }]);
        }
        "Notification_Admin_EndUser_Assignment" if weight.is_some_and(|w| w < APPROVED) => {
            rule["notificationRecipients"] = json!([format!("soc@{}", super::DOMAIN)]);
        }
        _ => {}
    }
}

/// The id that the service gives an assignment: role and principal, packed.
pub fn assignment_id(role: &str, principal: &str, n: usize) -> String {
    let mut bytes = Vec::with_capacity(32);
    for id in [role, principal] {
        bytes.extend_from_slice(&Uuid::parse_str(id).unwrap_or_default().to_bytes_le());
    }
    format!("{}-{n}", URL_SAFE_NO_PAD.encode(bytes))
}

/// A permanent active assignment, and its schedule; the assignment's id.
pub fn assign(estate: &mut Estate, role: &str, principal: &str, scope: &str, at: i64) -> String {
    let n = if scope == "/" { 1 } else { 2 };
    let id = assignment_id(role, principal, n);
    let value = json!({"id": id, "principalId": principal, "roleDefinitionId": role, "directoryScopeId": scope, "appScopeId": null, "condition": null});
    estate.put(Kind::RoleAssignments, &id, &value);
    let at = ticks_text(at);
    let value = json!({
        "id": id, "principalId": principal, "roleDefinitionId": role, "directoryScopeId": scope, "appScopeId": null, "createdUsing": null,
        "createdDateTime": at, "modifiedDateTime": null, "status": "Provisioned", "assignmentType": "Assigned", "memberType": "Direct",
        "scheduleInfo": {"startDateTime": at, "recurrence": null, "expiration": {"type": "noExpiration", "endDateTime": null, "duration": null}},
    });
    estate.put(Kind::RoleAssignmentSchedules, &id, &value);
    id
}

fn assignments(estate: &mut Estate) {
    let basis = estate.basis.clone();
    let (users, services) = (basis.users.max(4), estate.table(Kind::ServicePrincipals).entries().len());
    for n in 0..2 {
        let glass = basis.guid("user", n);
        assign(estate, GLOBAL_ADMINISTRATOR, &glass, "/", basis.before(8, n, 1500));
    }
    for n in 0..34 {
        let mut rng = Rng::new(&[basis.seed, 0xa55, n as u64]);
        let role = USUAL[4 + rng.below(USUAL.len() - 4)];
        let principal = match n % 4 {
            0 => basis.guid("servicePrincipal", rng.below(services)),
            1 => basis.guid("group", 2 + rng.below(directory::ASSIGNABLE - 2)),
            _ => basis.guid("user", 2 + rng.below(users - 2)),
        };
        let scope =
            if n % 7 == 6 { format!("/administrativeUnits/{}", basis.guid("administrativeUnit", rng.below(10))) } else { "/".to_owned() };
        assign(estate, role, &principal, &scope, basis.before(9, n, 1200));
    }
}

/// An eligibility; its id.
pub fn make_eligible(estate: &mut Estate, id: &str, role: &str, principal: &str, scope: &str, at: i64, days: Option<i64>) {
    let text = ticks_text(at);
    let expiration = match days {
        Some(days) => json!({"type": "afterDateTime", "endDateTime": seconds_text(at + days * 86_400 * SECOND), "duration": null}),
        None => json!({"type": "noExpiration", "endDateTime": null, "duration": null}),
    };
    let value = json!({
        "id": id, "principalId": principal, "roleDefinitionId": role, "directoryScopeId": scope, "appScopeId": null, "createdUsing": id,
        "createdDateTime": text, "modifiedDateTime": text, "status": "Provisioned", "memberType": "Direct",
        "scheduleInfo": {"startDateTime": text, "recurrence": null, "expiration": expiration},
    });
    estate.put(Kind::RoleEligibilitySchedules, id, &value);
}

fn eligibilities(estate: &mut Estate) {
    let basis = estate.basis.clone();
    let users = basis.users.max(4);
    for n in 0..(users / 10).clamp(20, 5000) {
        let mut rng = Rng::new(&[basis.seed, 0xe11, n as u64]);
        // The weightier a role, the fewer may activate it.
        let at = rng.below(USUAL.len()).max(rng.below(USUAL.len()));
        let role = USUAL[at];
        let principal = if n < directory::ASSIGNABLE - 2 || n % 25 == 24 {
            basis.guid("group", 2 + n % (directory::ASSIGNABLE - 2))
        } else {
            basis.guid("user", 2 + rng.below(users - 2))
        };
        let scope = if at > 5 && rng.chance(120) {
            format!("/administrativeUnits/{}", basis.guid("administrativeUnit", rng.below(10)))
        } else {
            "/".to_owned()
        };
        let days = rng.chance(700).then_some(365);
        make_eligible(estate, &basis.guid("eligibility", n), role, &principal, &scope, basis.before(10, n, 360), days);
    }
}
