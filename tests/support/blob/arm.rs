//! The resource manager: what it says of the account, its blob service, containers and lifecycle rules.

use serde_json::{Value, json};

use super::call::{Call, decode};
use super::reply::{Outcome, Reply};
use super::state::{Container, State};

fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({ "error": { "code": code, "message": message } }))
}

pub fn answer(state: &State, call: &Call, endpoint: &str) -> Outcome {
    permit(state, call)?;
    let arm = &state.options.arm;
    let path = decode(&call.path);
    let path = path.trim_end_matches('/');
    let subscription = format!("/subscriptions/{}", arm.subscription);
    let account = account_id(state);
    if call.method != hyper::Method::GET {
        return Err(error(405, "MethodNotAllowed", "The double only reads here."));
    }
    if path == "/subscriptions" {
        return Ok(listed(vec![subscription_of(state)]));
    }
    if same(path, &subscription) {
        return Ok(Reply::json(200, &subscription_of(state)));
    }
    if same(path, &format!("{subscription}/providers/Microsoft.Storage/storageAccounts")) {
        return Ok(listed(vec![account_of(state, endpoint)]));
    }
    let Some(rest) = path.get(..account.len()).filter(|head| same(head, &account)).map(|_| &path[account.len()..]) else {
        return Err(error(404, "ResourceNotFound", &format!("The Resource '{path}' was not found.")));
    };
    let parts: Vec<&str> = rest.split('/').filter(|p| !p.is_empty()).collect();
    match parts.as_slice() {
        [] => Ok(Reply::json(200, &account_of(state, endpoint))),
        ["blobServices"] => Ok(listed(vec![service_of(state)])),
        ["blobServices", "default"] => Ok(Reply::json(200, &service_of(state))),
        ["blobServices", "default", "containers"] => {
            Ok(listed(state.containers.iter().map(|(name, c)| container_of(state, name, c)).collect()))
        }
        ["blobServices", "default", "containers", name] => {
            let found = container(state, name)?;
            Ok(Reply::json(200, &container_of(state, name, found)))
        }
        ["blobServices", "default", "containers", name, "immutabilityPolicies", "default"] => {
            let found = container(state, name)?;
            let id = format!("{account}/blobServices/default/containers/{name}/immutabilityPolicies/default");
            let (days, kind, etag, append) = match &found.options.policy {
                Some(p) => (p.days, p.state.as_str(), p.etag.as_str(), p.allow_append),
                None => (0, "Deleted", "", false),
            };
            let properties = json!({ "immutabilityPeriodSinceCreationInDays": days, "state": kind, "allowProtectedAppendWrites": append });
            Ok(Reply::json(200, &json!({ "id": id, "name": "default", "etag": etag, "properties": properties })))
        }
        ["managementPolicies", "default"] => match &arm.management_policy {
            Some(policy) => {
                let id = format!("{account}/managementPolicies/default");
                Ok(Reply::json(200, &json!({ "id": id, "name": "DefaultManagementPolicy", "properties": policy })))
            }
            None => Err(error(404, "ManagementPolicyNotFound", "No ManagementPolicy found for account.")),
        },
        _ => Err(error(404, "ResourceNotFound", &format!("The Resource '{path}' was not found."))),
    }
}

fn permit(state: &State, call: &Call) -> Result<(), Reply> {
    let missing = || error(401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing or invalid.");
    let token = call.header("authorization").and_then(|a| a.strip_prefix("Bearer ")).ok_or_else(missing)?;
    let token = state.tokens.get(token).ok_or_else(|| error(401, "InvalidAuthenticationToken", "The access token is invalid."))?;
    if token.expires <= state.now() {
        return Err(error(401, "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC time.")
            .with("www-authenticate", "Bearer error=\"invalid_token\""));
    }
    if token.audience.contains("storage.azure.com") {
        return Err(error(401, "InvalidAuthenticationTokenAudience", "The access token has been obtained for wrong audience or resource."));
    }
    if !token.arm || state.options.arm.refuse {
        return Err(error(403, "AuthorizationFailed", "The client does not have authorization to perform action over scope."));
    }
    Ok(())
}

/// Ids in the resource manager are the same in any case.
fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn listed(values: Vec<Value>) -> Reply {
    Reply::json(200, &json!({ "value": values }))
}

pub fn account_id(state: &State) -> String {
    let arm = &state.options.arm;
    format!(
        "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Storage/storageAccounts/{}",
        arm.subscription, arm.resource_group, state.options.account
    )
}

fn subscription_of(state: &State) -> Value {
    let arm = &state.options.arm;
    json!({
        "id": format!("/subscriptions/{}", arm.subscription), "subscriptionId": arm.subscription,
        "tenantId": state.options.tenant, "displayName": "Vault", "state": "Enabled",
    })
}

fn container<'s>(state: &'s State, name: &str) -> Result<&'s Container, Reply> {
    state.containers.get(name).ok_or_else(|| error(404, "ContainerNotFound", "The specified container does not exist."))
}

/// Lays what the test wants over an answer.
fn overridden(state: &State, key: &str, mut value: Value) -> Value {
    merge(&mut value, &state.options.arm.overrides[key]);
    value
}

/// As RFC 7396 merges, but that nothing to merge changes nothing.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        if !patch.is_null() {
            *target = patch.clone();
        }
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(map) = target else { return };
    for (key, value) in fields {
        if value.is_null() {
            map.insert(key.clone(), Value::Null);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn account_of(state: &State, endpoint: &str) -> Value {
    let (options, arm) = (&state.options, &state.options.arm);
    let value = json!({
        "id": account_id(state), "name": options.account, "type": "Microsoft.Storage/storageAccounts",
        "location": arm.location, "kind": options.kind, "tags": {},
        "sku": { "name": options.sku, "tier": options.sku.split('_').next() },
        "properties": {
            "provisioningState": "Succeeded",
            "accessTier": arm.access_tier,
            "allowSharedKeyAccess": arm.allow_shared_key_access,
            "minimumTlsVersion": arm.minimum_tls_version,
            "supportsHttpsTrafficOnly": arm.supports_https_traffic_only,
            "allowBlobPublicAccess": arm.allow_blob_public_access,
            "immutableStorageWithVersioning": arm.immutable_storage_with_versioning,
            "isHnsEnabled": options.hierarchical_namespace,
            "primaryLocation": arm.location,
            "statusOfPrimary": "available",
            "secondaryLocation": arm.secondary_location,
            "primaryEndpoints": { "blob": format!("{endpoint}/") },
        },
    });
    overridden(state, "account", value)
}

fn service_of(state: &State) -> Value {
    let (options, arm) = (&state.options, &state.options.arm);
    let retention = |days: Option<u32>| match days {
        Some(days) => json!({ "enabled": true, "days": days }),
        None => json!({ "enabled": false }),
    };
    let value = json!({
        "id": format!("{}/blobServices/default", account_id(state)), "name": "default",
        "type": "Microsoft.Storage/storageAccounts/blobServices",
        "properties": {
            "isVersioningEnabled": arm.is_versioning_enabled,
            "deleteRetentionPolicy": retention(options.soft_delete_days),
            "containerDeleteRetentionPolicy": retention(arm.container_delete_retention_days),
            "restorePolicy": retention(arm.restore_policy_days),
            "lastAccessTimeTrackingPolicy": { "enable": arm.last_access_time_tracking },
            "changeFeed": { "enabled": arm.change_feed },
        },
    });
    overridden(state, "blobServices", value)
}

fn container_of(state: &State, name: &str, container: &Container) -> Value {
    let options = &container.options;
    let policy = options.policy.as_ref().map(|p| {
        json!({
            "etag": p.etag,
            "properties": {
                "immutabilityPeriodSinceCreationInDays": p.days, "state": p.state, "allowProtectedAppendWrites": p.allow_append,
            },
        })
    });
    let tags: Vec<Value> = options.legal_hold.iter().map(|tag| json!({ "tag": tag })).collect();
    let migration = options.version_level.then_some("Completed");
    let value = json!({
        "id": format!("{}/blobServices/default/containers/{name}", account_id(state)), "name": name,
        "type": "Microsoft.Storage/storageAccounts/blobServices/containers", "etag": container.etag,
        "properties": {
            "immutableStorageWithVersioning": { "enabled": options.version_level, "migrationState": migration },
            "immutabilityPolicy": policy,
            "legalHold": { "hasLegalHold": !tags.is_empty(), "tags": tags },
            "hasLegalHold": !options.legal_hold.is_empty(),
            "hasImmutabilityPolicy": options.policy.is_some(),
            "publicAccess": options.public_access.as_deref().unwrap_or("None"),
            "lastModifiedTime": container.modified.to_string(),
        },
    });
    overridden(state, &format!("containers/{name}"), value)
}
