//! Azure: subscriptions, roles, who holds them, the rules of activation, and policy definitions.

use serde_json::{Value, json};

use super::{Estate, directory};
use crate::sample::instant::ticks_text;
use crate::sample::kinds::Kind;
use crate::sample::rng::Rng;

/// Names of the subscriptions.
pub const SUBSCRIPTIONS: [&str; 3] = ["Contoso Production", "Contoso Development", "Contoso Identity"];

static ROLES: &str = include_str!("../../../sample/tenant/azure-roles.json");
static POLICIES: &str = include_str!("../../../sample/tenant/azure-policies.json");
static RULES: &str = include_str!("../../../sample/tenant/pim-rules.json");

const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";

/// Azure roles that people of this tenant hold.
const USUAL: [&str; 12] = [
    OWNER,
    "b24988ac-6180-42a0-ab88-20f7382dd24c", // Contributor
    "acdd72a7-3385-48ef-bd42-f606fba81ae7", // Reader
    "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9", // User Access Administrator
    "f58310d9-a9f6-439a-9e8d-f62e7b41a168", // Role Based Access Control Administrator
    "4633458b-17de-408a-b874-0445c86b69e6", // Key Vault Secrets User
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe", // Storage Blob Data Contributor
    "73c42c96-874c-492b-b04d-ab87d138a893", // Log Analytics Reader
    "9980e02c-c2be-4d73-94e8-173b1dc7cf3c", // Virtual Machine Contributor
    "4d97b98b-1d4f-4787-a291-c67834d212e7", // Network Contributor
    "43d0d8ad-25c7-4714-9337-8ba259a9fe05", // Monitoring Reader
    "fb1c8493-542b-48eb-b624-b4c8fea62acd", // Security Admin
];

/// A built-in role as Azure writes it; its conditions stand beside each permission.
fn built_in(role: &Value) -> Value {
    let name = role["name"].as_str().unwrap_or_default();
    json!({
        "id": format!("/providers/Microsoft.Authorization/roleDefinitions/{name}"), "type": "Microsoft.Authorization/roleDefinitions", "name": name,
        "properties": {
            "roleName": role["roleName"], "type": "BuiltInRole", "description": role["description"], "assignableScopes": role["assignableScopes"],
            "permissions": role["permissions"], "createdOn": "2015-02-02T21:55:09.8806423Z", "updatedOn": "2024-08-20T15:14:42.1132413Z",
            "createdBy": null, "updatedBy": null,
        },
    })
}

pub(super) fn build(estate: &mut Estate) {
    let roles: Vec<Value> = serde_json::from_str(ROLES).unwrap_or_default();
    for role in &roles {
        let value = built_in(role);
        let id = value["id"].as_str().unwrap_or_default().to_owned();
        estate.put(Kind::ArmRoleDefinitions, &id, &value);
    }
    let policies: Vec<Value> = serde_json::from_str(POLICIES).unwrap_or_default();
    for policy in &policies {
        estate.put(Kind::ArmPolicyDefinitions, policy["id"].as_str().unwrap_or_default(), policy);
    }
    for (n, name) in SUBSCRIPTIONS.iter().enumerate() {
        subscription(estate, n, name);
        custom_roles(estate, n);
        role_assignments(estate, n);
        role_policies(estate, n);
        custom_policies(estate, n);
    }
}

fn subscription(estate: &mut Estate, n: usize, name: &str) {
    let basis = &estate.basis;
    let id = basis.guid("subscription", n);
    let value = json!({
        "id": format!("/subscriptions/{id}"), "subscriptionId": id, "tenantId": basis.tenant, "displayName": name, "state": "Enabled",
        "authorizationSource": "RoleBased", "managedByTenants": [], "tags": {"costCenter": format!("{}", 4100 + n)},
        "subscriptionPolicies": {"locationPlacementId": "Public_2014-09-01", "quotaId": "EnterpriseAgreement_2014-09-01", "spendingLimit": "Off"},
    });
    estate.put(Kind::Subscriptions, &id, &value);
}

fn custom_roles(estate: &mut Estate, n: usize) {
    let basis = estate.basis.clone();
    let scope = format!("/subscriptions/{}", basis.guid("subscription", n));
    let roles = [
        ("Landing Zone Operator", vec!["Microsoft.Resources/subscriptions/resourceGroups/*", "Microsoft.Network/*/read"]),
        ("Backup Log Reader", vec!["Microsoft.Insights/eventtypes/values/read", "Microsoft.Storage/storageAccounts/read"]),
        ("VM Restarter", vec!["Microsoft.Compute/virtualMachines/restart/action", "Microsoft.Compute/virtualMachines/read"]),
    ];
    for (k, (name, actions)) in roles.into_iter().enumerate() {
        let guid = basis.guid("armRoleDefinition", n * 8 + k);
        let id = format!("{scope}/providers/Microsoft.Authorization/roleDefinitions/{guid}");
        let at = ticks_text(basis.before(20, n * 8 + k, 700));
        let value = json!({
            "id": id, "type": "Microsoft.Authorization/roleDefinitions", "name": guid,
            "properties": {
                "roleName": format!("{name} ({})", SUBSCRIPTIONS[n]), "type": "CustomRole", "description": format!("Custom role: {name}"),
                "assignableScopes": [scope], "createdOn": at, "updatedOn": at, "createdBy": basis.guid("user", 2), "updatedBy": basis.guid("user", 2),
                "permissions": [{"actions": actions, "notActions": [], "dataActions": [], "notDataActions": [], "condition": null, "conditionVersion": null}],
            },
        });
        estate.put(Kind::ArmRoleDefinitions, &id, &value);
    }
}

fn role_assignments(estate: &mut Estate, n: usize) {
    let basis = estate.basis.clone();
    let scope = format!("/subscriptions/{}", basis.guid("subscription", n));
    let services = estate.table(Kind::ServicePrincipals).entries().len();
    for k in 0..(basis.users / 25).clamp(12, 400) {
        let mut rng = Rng::new(&[basis.seed, 0xa2a, n as u64, k as u64]);
        let name = basis.guid("armRoleAssignment", n * 1000 + k);
        let role = if k < 2 { OWNER } else { USUAL[1 + rng.below(USUAL.len() - 1)] };
        let (principal, kind) = match k % 5 {
            0 | 1 => (basis.guid("group", 2 + rng.below(directory::ASSIGNABLE - 2)), "Group"),
            2 => (basis.guid("servicePrincipal", rng.below(services)), "ServicePrincipal"),
            _ => (basis.guid("user", 2 + rng.below(basis.users.max(4) - 2)), "User"),
        };
        let at = ticks_text(basis.before(21, n * 1000 + k, 900));
        let inside = if k % 3 == 2 {
            format!("{scope}/resourceGroups/rg-{}", ["app", "data", "network", "shared"][rng.below(4)])
        } else {
            scope.clone()
        };
        let id = format!("{inside}/providers/Microsoft.Authorization/roleAssignments/{name}");
        let value = json!({
            "id": id, "type": "Microsoft.Authorization/roleAssignments", "name": name,
            "properties": {
                "roleDefinitionId": format!("{scope}/providers/Microsoft.Authorization/roleDefinitions/{role}"), "principalId": principal,
                "principalType": kind, "scope": inside, "condition": null, "conditionVersion": null, "createdOn": at, "updatedOn": at,
                "createdBy": basis.guid("user", 2), "updatedBy": basis.guid("user", 2), "delegatedManagedIdentityResourceId": null, "description": null,
            },
        });
        estate.put(Kind::ArmRoleAssignments, &id, &value);
    }
}

/// Azure writes the same rules with other words for their types.
fn azure_rule(rule: &Value) -> Value {
    let mut rule = rule.clone();
    let kind = rule["@odata.type"].as_str().unwrap_or_default().trim_start_matches("#microsoft.graph.unified").to_owned();
    if let Value::Object(map) = &mut rule {
        map.remove("@odata.type");
        map.insert("ruleType".into(), json!(kind));
    }
    rule["target"]["operations"] = json!(["All"]);
    rule
}

fn role_policies(estate: &mut Estate, n: usize) {
    let basis = estate.basis.clone();
    let subscription = basis.guid("subscription", n);
    let scope = format!("/subscriptions/{subscription}");
    let rules: Vec<Value> = serde_json::from_str(RULES).unwrap_or_default();
    let custom = (0..3).map(|k| basis.guid("armRoleDefinition", n * 8 + k));
    let roles: Vec<String> = USUAL.iter().map(|r| (*r).to_owned()).chain(custom).collect();
    for (k, role) in roles.iter().enumerate() {
        let name = basis.guid("armRoleManagementPolicy", n * 64 + k);
        let mut rules: Vec<Value> = rules.iter().map(azure_rule).collect();
        for rule in &mut rules {
            match rule["id"].as_str() {
                Some("Approval_EndUser_Assignment") if k < 2 => {
                    rule["setting"]["isApprovalRequired"] = json!(true);
                    rule["setting"]["approvalStages"][0]["primaryApprovers"] =
                        json!([{"id": basis.approvers(), "description": "PIM Approvers", "isBackup": false, "userType": "Group"}]);
                }
                Some("Expiration_EndUser_Assignment") => rule["maximumDuration"] = json!(if k < 5 { "PT2H" } else { "PT8H" }),
                _ => {}
            }
        }
        let policy = format!("{scope}/providers/Microsoft.Authorization/roleManagementPolicies/{name}");
        let definition = format!("{scope}/providers/Microsoft.Authorization/roleDefinitions/{role}");
        let value = json!({
            "id": policy, "type": "Microsoft.Authorization/roleManagementPolicies", "name": name,
            "properties": {
                "scope": scope, "isOrganizationDefault": false, "displayName": null, "description": null, "rules": rules,
                "lastModifiedDateTime": ticks_text(basis.before(22, n * 64 + k, 300)),
                "lastModifiedBy": {"id": basis.guid("user", 2), "displayName": null, "type": "User", "email": null},
                "policyProperties": {"scope": {"id": scope, "displayName": SUBSCRIPTIONS[n], "type": "subscription"}},
            },
        });
        estate.put(Kind::ArmRoleManagementPolicies, &policy, &value);
        let name = format!("{name}_{role}");
        let id = format!("{scope}/providers/Microsoft.Authorization/roleManagementPolicyAssignments/{name}");
        let value = json!({
            "id": id, "type": "Microsoft.Authorization/roleManagementPolicyAssignments", "name": name,
            "properties": {"scope": scope, "roleDefinitionId": definition, "policyId": policy},
        });
        estate.put(Kind::ArmRoleManagementPolicyAssignments, &id, &value);
    }
}

fn custom_policies(estate: &mut Estate, n: usize) {
    let basis = estate.basis.clone();
    let scope = format!("/subscriptions/{}", basis.guid("subscription", n));
    let regions = ["switzerlandnorth", "westeurope", "germanywestcentral"];
    let wishes = [
        ("Only regions of the company", json!({"not": {"field": "location", "in": regions}}), "deny"),
        (
            "Resource groups carry a cost centre",
            json!({"allOf": [{"field": "type", "equals": "Microsoft.Resources/subscriptions/resourceGroups"}, {"field": "tags['costCenter']", "exists": "false"}]}),
            "deny",
        ),
        (
            "No public addresses on network interfaces",
            json!({"allOf": [{"field": "type", "equals": "Microsoft.Network/publicIPAddresses"}]}),
            "audit",
        ),
    ];
    for (k, (name, condition, effect)) in wishes.into_iter().enumerate() {
        let guid = basis.guid("armPolicyDefinition", n * 8 + k);
        let id = format!("{scope}/providers/Microsoft.Authorization/policyDefinitions/{guid}");
        let value = json!({
            "id": id, "type": "Microsoft.Authorization/policyDefinitions", "name": guid,
            "properties": {
                "displayName": name, "policyType": "Custom", "mode": "All", "description": name, "parameters": {}, "version": "1.0.0",
                "metadata": {"category": "Contoso", "createdBy": basis.guid("user", 2), "createdOn": ticks_text(basis.before(23, n * 8 + k, 500)), "updatedBy": null, "updatedOn": null},
                "policyRule": {"if": condition, "then": {"effect": effect}},
            },
        });
        estate.put(Kind::ArmPolicyDefinitions, &id, &value);
    }
}
