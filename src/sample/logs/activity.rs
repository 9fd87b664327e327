//! The activity log of Azure subscriptions.

use serde_json::json;

use super::Event;
use crate::sample::estate::{Basis, person};
use crate::sample::instant::ticks_text;
use crate::sample::rng::{Rng, guid};

/// Operations: provider, type of the resource, name, action.
const OPERATIONS: [(&str, &str, &str, &str); 10] = [
    ("Microsoft.Authorization", "roleAssignments", "Create role assignment", "write"),
    ("Microsoft.Authorization", "roleAssignments", "Delete role assignment", "delete"),
    ("Microsoft.Resources", "deployments", "Create Deployment", "write"),
    ("Microsoft.Compute", "virtualMachines", "Start Virtual Machine", "start/action"),
    ("Microsoft.Compute", "virtualMachines", "Deallocate Virtual Machine", "deallocate/action"),
    ("Microsoft.KeyVault", "vaults", "Update Key Vault", "write"),
    ("Microsoft.Storage", "storageAccounts", "List Storage Account Keys", "listKeys/action"),
    ("Microsoft.Network", "networkSecurityGroups", "Create or Update Network Security Group", "write"),
    ("Microsoft.Insights", "diagnosticSettings", "Create or update resource diagnostic setting", "write"),
    ("Microsoft.Authorization", "policyAssignments", "Create policy assignment", "write"),
];

pub(super) fn write(basis: &Basis, subscriptions: &[String], event: &Event, out: &mut Vec<u8>) {
    let mut rng = Rng::new(&[event.draw, 0xac7]);
    let subscription = &subscriptions[usize::from(event.part) % subscriptions.len()];
    let (provider, kind, name, action) = *rng.pick(&OPERATIONS);
    let caller = person(basis, 2 + rng.below(basis.users.max(4) - 2));
    let group = ["rg-app", "rg-data", "rg-network", "rg-shared"][rng.below(4)];
    let resource = format!(
        "/subscriptions/{subscription}/resourceGroups/{group}/providers/{provider}/{kind}/{}-{:03}",
        &kind[..3].to_lowercase(),
        rng.next() % 200
    );
    let operation = format!("{provider}/{kind}/{action}");
    let mut id = Vec::with_capacity(36);
    super::push_id(event, &mut id);
    let id = String::from_utf8(id).unwrap_or_default();
    let correlation = guid(event.draw, "correlation", 0);
    let failed = rng.chance(40);
    let (status, code) = if failed { ("Failed", "Conflict") } else { ("Succeeded", "OK") };
    let both = |value: &str, shown: &str| json!({"value": value, "localizedValue": shown});
    let ticks = event.time / 100 + 621_355_968_000_000_000;
    let address = format!("198.51.100.{}", rng.next() % 254 + 1);
    let value = json!({
        "authorization": {"action": operation, "role": "Contributor", "scope": resource}, "caller": caller.upn, "channels": "Operation",
        "claims": {"appid": "c44b4083-3bb0-49c1-b47d-974e53cbdf3c", "ipaddr": address, "name": caller.display, "http://schemas.microsoft.com/identity/claims/objectidentifier": caller.id},
        "correlationId": correlation, "description": "", "eventDataId": id, "eventName": both("EndRequest", "End request"),
        "category": both("Administrative", "Administrative"), "eventTimestamp": ticks_text(event.time),
        "httpRequest": {"clientRequestId": guid(event.draw, "client", 0), "clientIpAddress": address, "method": if action == "delete" { "DELETE" } else if action == "write" { "PUT" } else { "POST" }},
        "id": format!("{resource}/events/{id}/ticks/{ticks}"), "level": if failed { "Error" } else { "Informational" }, "operationId": correlation,
        "operationName": both(&operation, name), "properties": {"statusCode": code, "serviceRequestId": guid(event.draw, "service", 0), "eventCategory": "Administrative"},
        "resourceGroupName": group, "resourceId": resource, "resourceProviderName": both(provider, provider),
        "resourceType": both(&format!("{provider}/{kind}"), &format!("{provider}/{kind}")), "status": both(status, status),
        "subStatus": both(code, code), "submissionTimestamp": ticks_text(event.arrival), "subscriptionId": subscription, "tenantId": basis.tenant,
    });
    let _ = serde_json::to_writer(out, &value);
}
