//! What the resource manager says of the account.

use serde_json::{Value, json};

use super::Harness;
use super::blob::Role;

const AUDIENCE: &str = "https://management.azure.com/";

fn get(h: &Harness, path: &str, token: &str) -> (u16, Value) {
    let url = format!("{}{path}?api-version=2024-01-01", h.double.origin());
    let response = h.client.get(url).bearer_auth(token).send().unwrap();
    (response.status().as_u16(), serde_json::from_slice(&response.bytes().unwrap()).unwrap())
}

#[test]
fn the_account_is_found_and_described() {
    let h = Harness::with(|o| o.soft_delete_days = Some(14));
    let token = h.double.token(Role::Reader, AUDIENCE);
    let subscriptions = get(&h, "/subscriptions", &token).1;
    let subscription = subscriptions["value"][0]["id"].as_str().unwrap();
    let accounts = get(&h, &format!("{subscription}/providers/Microsoft.Storage/storageAccounts"), &token).1;
    let id = accounts["value"][0]["id"].as_str().unwrap().to_owned();
    let account = get(&h, &id, &token).1;
    assert_eq!(account["properties"]["primaryEndpoints"]["blob"], format!("{}/", h.double.endpoint()));
    assert_eq!((&account["sku"]["name"], &account["properties"]["allowSharedKeyAccess"]), (&json!("Standard_GRS"), &json!(true)));
    assert_eq!(
        (&account["properties"]["isHnsEnabled"], &account["properties"]["secondaryLocation"]),
        (&json!(false), &json!("northeurope"))
    );
    let service = get(&h, &format!("{id}/blobServices/default"), &token).1;
    assert_eq!(service["properties"]["isVersioningEnabled"], true);
    assert_eq!(service["properties"]["deleteRetentionPolicy"], json!({ "enabled": true, "days": 14 }));
    assert_eq!(service["properties"]["restorePolicy"]["enabled"], false);
    let locking = get(&h, &format!("{id}/blobServices/default/containers/evidence"), &token).1;
    assert_eq!(locking["properties"]["immutableStorageWithVersioning"]["enabled"], true);
    let worm = get(&h, &format!("{id}/blobServices/default/containers/worm"), &token).1;
    assert_eq!(worm["properties"]["immutabilityPolicy"]["properties"]["immutabilityPeriodSinceCreationInDays"], 10);
    let policy = get(&h, &format!("{id}/blobServices/default/containers/worm/immutabilityPolicies/default"), &token).1;
    assert_eq!((&policy["properties"]["state"], policy["etag"].is_string()), (&json!("Locked"), true));
    assert_eq!(get(&h, &format!("{id}/blobServices/default/containers/none"), &token).0, 404);
    assert_eq!(get(&h, &format!("{id}/managementPolicies/default"), &token).0, 404);
    let rules = json!({ "policy": { "rules": [{ "name": "expire", "enabled": true, "type": "Lifecycle" }] } });
    h.double.configure(|o| o.arm.management_policy = Some(rules));
    let policy = get(&h, &format!("{id}/managementPolicies/default"), &token).1;
    assert_eq!(policy["properties"]["policy"]["rules"][0]["name"], "expire");
    h.double.configure(|o| o.arm.overrides = json!({ "blobServices": { "properties": { "isVersioningEnabled": false } } }));
    assert_eq!(get(&h, &format!("{id}/blobServices/default"), &token).1["properties"]["isVersioningEnabled"], false);
}

#[test]
fn it_answers_only_those_who_may_read_it() {
    let h = Harness::new();
    let status =
        |token: &str| (get(&h, "/subscriptions", token).0, get(&h, "/subscriptions", token).1["error"]["code"].as_str().map(str::to_owned));
    assert_eq!(status("made-up"), (401, Some("InvalidAuthenticationToken".into())));
    assert_eq!(status(&h.double.token(Role::Owner, "https://storage.azure.com/")).0, 401);
    assert_eq!(status(&h.double.token(Role::Agent, AUDIENCE)), (403, Some("AuthorizationFailed".into())));
    let owner = h.double.token(Role::Owner, AUDIENCE);
    assert_eq!(status(&owner).0, 200);
    h.double.configure(|o| o.arm.refuse = true);
    assert_eq!(status(&owner).0, 403);
}
