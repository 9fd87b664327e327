//! A storage account: its containers, what its settings do to locks, its lifecycle rules, its SAS.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Findings;
use crate::policy::{AzureVault, LoadedPolicy, parse_duration};
use crate::store::azure::{AzureStore, Manager, SasFacts};
use crate::vault::epoch::EpochKind;
use crate::vault::names::Container;

/// Objects younger than this must be readable at once: the newest recovery points are among them.
const NEVER_ARCHIVED_DAYS: u64 = 90;
/// How long bringing back from the archive tier takes at most, in seconds.
const REHYDRATION: u64 = 15 * 3600;

/// What is looked at on an account.
pub struct AccountCheck<'a> {
    /// The policy.
    pub policy: &'a LoadedPolicy,
    /// What it says of the account.
    pub said: &'a AzureVault,
    /// The account.
    pub store: &'a AzureStore,
    /// The control plane; tokens open it, a SAS does not.
    pub manager: Option<&'a Manager>,
    /// The SAS, where one is used.
    pub sas: Option<&'a SasFacts>,
    /// Now.
    pub now: Timestamp,
}

/// Looks at an account.
pub fn check_account(check: &AccountCheck<'_>, out: &mut Findings) {
    if let Some(sas) = check.sas {
        signature(sas, check.now, out);
    }
    if !containers(check, out) {
        return;
    }
    let Some(manager) = check.manager else {
        return out.warn(
            "account",
            "a SAS does not open Azure Resource Manager: versioning, retention policies, soft delete and lifecycle rules could not be looked at",
            "run `backstop doctor` once with another credential that has Reader on the account, such as `azure_cli: {}`",
        );
    };
    let (account, service) = match (manager.account(), manager.blob_service()) {
        (Ok(account), Ok(service)) => (account, service),
        (Err(e), _) | (_, Err(e)) => {
            return out.warn(
                "account",
                format!("Azure Resource Manager does not show the account: {e}. Versioning, retention policies and lifecycle rules could not be looked at"),
                format!(
                    "az role assignment create --assignee PRINCIPAL --role Reader --scope $(az storage account show --name {} --query id --output tsv)",
                    check.said.account.value
                ),
            );
        }
    };
    let id = manager.id().unwrap_or_default();
    let group = id.split('/').skip_while(|part| !part.eq_ignore_ascii_case("resourceGroups")).nth(1).unwrap_or("GROUP").to_owned();
    let here = format!("--account-name {} --resource-group {group}", check.said.account.value);
    settings(&account["properties"], &account["sku"], &here, check, out);
    blobs(&service["properties"], &here, out);
    policies(check, manager, &here, out);
    lifecycle(check, manager, &here, out);
}

fn signature(sas: &SasFacts, now: Timestamp, out: &mut Findings) {
    let mend = "az storage account generate-sas --account-name ACCOUNT --services b --resource-types co --permissions rclwi --expiry DATE --https-only";
    for (letters, what) in [("r", "read"), ("l", "list"), ("cw", "write"), ("i", "lock")] {
        if !sas.permissions.chars().any(|c| letters.contains(c)) {
            out.error("credential", format!("the SAS has no permission {letters}: this agent cannot {what}"), mend);
        }
    }
    let more: String = sas.permissions.chars().filter(|c| "dxy".contains(*c)).collect();
    if !more.is_empty() {
        out.warn("credential", format!("the SAS has the permission {more}: whoever holds it can delete what no lock protects"), mend);
    }
    match sas.ends {
        Some(ends) if ends <= now => out.error("credential", format!("the SAS ended at {ends}"), mend),
        Some(ends) if ends < now.checked_add(SignedDuration::from_hours(24 * 7)).unwrap_or(now) => {
            out.warn("credential", format!("the SAS ends at {ends}: from then on no backup is made"), mend);
        }
        Some(ends) => out.well("credential", format!("the SAS has the permissions {} and ends at {ends}", sas.permissions)),
        None => {
            out.warn("credential", "the SAS does not say when it ends: a stored access policy decides, and can end it at any time", mend)
        }
    }
}

/// Whether all four are there.
fn containers(check: &AccountCheck<'_>, out: &mut Findings) -> bool {
    let account = &check.said.account.value;
    let by_container = check.policy.policy.vault.lock.by.as_ref().is_some_and(|by| by.value == "container");
    let mut all = true;
    for container in Container::ALL {
        let facts = match check.store.container_facts(container.as_str()) {
            Ok(facts) => facts,
            Err(e) => {
                let mend = match &e {
                    crate::store::StoreError::Azure(e) => e.hint(),
                    _ => None,
                };
                out.error(
                    "store",
                    format!("{e}: no backup is made"),
                    mend.unwrap_or_else(|| "see to the network and the credential".into()),
                );
                return false;
            }
        };
        let name = check.said.container(container);
        match facts {
            None => {
                all = false;
                out.error(
                    "containers",
                    format!("there is no container {name}: nothing of {container} can be stored"),
                    format!("az storage container-rm create --storage-account {account} --name {name} --enable-vlw true"),
                );
            }
            Some(facts) if !by_container && facts.version_level == Some(false) => out.error(
                "containers",
                format!("the container {name} has no version-level immutability: every lock is refused, so no backup is made (deploy/azure/README.md says what a migration changes)"),
                format!(
                    "az storage account blob-service-properties update --account-name {account} --enable-versioning true && \
                     az storage container immutability-policy create --account-name {account} --container-name {name} --period 1 && \
                     az storage container-rm migrate-vlw --storage-account {account} --name {name} --no-wait"
                ),
            ),
            Some(facts) if by_container && !facts.has_policy => out.error(
                "containers",
                format!("the container {name} has no retention policy: nothing in it is locked"),
                format!(
                    "az storage container immutability-policy create --account-name {account} --container-name {name} --period {}",
                    days(check)
                ),
            ),
            Some(facts) if facts.version_level.is_none() && !facts.has_policy => out.warn(
                "containers",
                format!("{name}: the service does not say whether it locks"),
                format!("az storage container show --account-name {account} --name {name} --query properties.immutableStorageWithVersioning"),
            ),
            Some(facts) => {
                let locks = match (facts.version_level, facts.has_policy) {
                    (Some(true), _) => "each version can carry its own lock",
                    (_, true) => "its own policy locks it",
                    _ => "the service does not say whether it locks",
                };
                let held = if facts.has_hold { "; a legal hold stands on it" } else { "" };
                out.well("containers", format!("{name}: {locks}{held}"));
            }
        }
    }
    all
}

/// How long a container's own policy must last: retention, one epoch, grace.
fn days(check: &AccountCheck<'_>) -> u64 {
    let policy = &check.policy.policy;
    let years = Container::ALL.into_iter().map(|c| policy.retention().of(c).years).max().unwrap_or(7);
    // An object may be created at the beginning of its epoch, and the retention counts from the epoch's end.
    let yearly = policy.sources.values().any(|source| source.value.epoch == EpochKind::Year);
    u64::from(years) * 366 + if yearly { 366 } else { 92 } + u64::from(policy.vault.lock.grace.days)
}

fn settings(account: &Value, sku: &Value, here: &str, check: &AccountCheck<'_>, out: &mut Findings) {
    let account_name = here.replace("--account-name", "--name");
    let update = |what: &str| format!("az storage account update {account_name} {what}");
    if account["isHnsEnabled"] == true {
        let message = "the account has a hierarchical namespace, which has no version-level immutability: no lock can be set";
        out.error("account", message, "deploy/azure/setup.sh makes an account without one; copy the vault there");
    }
    let checks = [
        (
            account["allowSharedKeyAccess"] != false,
            "account keys are allowed: whoever holds one can do everything that no lock forbids",
            "--allow-shared-key-access false",
        ),
        (account["supportsHttpsTrafficOnly"] == false, "the account answers in plain http", "--https-only true"),
        (
            account["minimumTlsVersion"].as_str().is_some_and(|v| v != "TLS1_2" && v != "TLS1_3"),
            "the account takes TLS older than 1.2",
            "--min-tls-version TLS1_2",
        ),
        (account["allowBlobPublicAccess"] == true, "containers may be made public", "--allow-blob-public-access false"),
    ];
    for (wrong, message, flag) in checks {
        if wrong {
            out.warn("account", message, update(flag));
        }
    }
    let sku = sku["name"].as_str().unwrap_or_default();
    if sku.contains("LRS") || sku.contains("_ZRS") {
        out.warn(
            "account",
            format!("the account is {sku}: one region holds the only copy, and its loss is the vault's"),
            update("--sku Standard_RAGRS"),
        );
    } else {
        out.well("account", format!("{} is {sku}", check.said.account.value));
    }
}

fn blobs(service: &Value, here: &str, out: &mut Findings) {
    let update = |what: &str| format!("az storage account blob-service-properties update {here} {what}");
    if service["isVersioningEnabled"] == true {
        out.well("versioning", "versions are kept");
    } else {
        let message = "versioning is off: what somebody puts over an object replaces it, and locks by version cannot be set";
        out.error("versioning", message, update("--enable-versioning true"));
    }
    if service["restorePolicy"]["enabled"] == true {
        out.error(
            "account",
            "point-in-time restore is on, which version-level immutability excludes",
            update("--enable-restore-policy false"),
        );
    }
    if service["lastAccessTimeTrackingPolicy"]["enable"] == true {
        out.warn(
            "account",
            "last-access tracking is on, which version-level immutability excludes",
            update("--enable-last-access-tracking false"),
        );
    }
    let soft = |policy: &Value| policy["enabled"] == true;
    if soft(&service["deleteRetentionPolicy"]) && soft(&service["containerDeleteRetentionPolicy"]) {
        out.well("soft_delete", "deleted blobs and containers can be brought back for some days");
    } else {
        out.warn(
            "soft_delete",
            "soft delete of blobs or containers is off: what is not locked yet is gone at once when it is deleted",
            update("--enable-delete-retention true --delete-retention-days 30 --enable-container-delete-retention true --container-delete-retention-days 30"),
        );
    }
}

fn policies(check: &AccountCheck<'_>, manager: &Manager, here: &str, out: &mut Findings) {
    let by_container = check.policy.policy.vault.lock.by.as_ref().is_some_and(|by| by.value == "container");
    let names: Vec<String> = Container::ALL.into_iter().map(|c| check.said.container(c)).collect();
    for (name, shown) in manager.containers(&names) {
        let shown = match shown {
            Ok(shown) => shown,
            Err(e) => {
                out.warn(
                    "containers",
                    format!("the policy of {name} could not be looked at: {e}"),
                    "give this credential Reader on the account",
                );
                continue;
            }
        };
        let properties = &shown["properties"];
        if properties["publicAccess"].as_str().is_some_and(|access| access != "None") {
            let mend = format!(
                "az storage container set-permission --name {name} --public-access off --account-name {}",
                check.said.account.value
            );
            out.error("containers", format!("the container {name} is public: anybody can read its names and objects"), mend);
        }
        let policy = &properties["immutabilityPolicy"];
        let Some(interval) = policy["properties"]["immutabilityPeriodSinceCreationInDays"].as_u64() else { continue };
        let (state, etag) = (policy["properties"]["state"].as_str().unwrap_or_default(), policy["etag"].as_str().unwrap_or_default());
        if !by_container {
            continue;
        }
        let least = days(check);
        let of = format!("{here} --container-name {name} --if-match '{etag}'");
        if interval < least {
            out.error(
                "containers",
                format!("the policy of {name} lasts {interval} days, shorter than the policy's retention, one epoch and grace ({least} days): no commit is made"),
                format!("az storage container immutability-policy extend {of} --period {least}"),
            );
        }
        if state != "Locked" {
            out.error(
                "containers",
                format!("the policy of {name} is not locked: whoever may change it can end it at any time"),
                format!("az storage container immutability-policy lock {of}"),
            );
        }
        if interval >= least && state == "Locked" {
            out.well("containers", format!("{name} is locked by its own policy for {interval} days"));
        }
    }
}

fn lifecycle(check: &AccountCheck<'_>, manager: &Manager, here: &str, out: &mut Findings) {
    let rules = match manager.lifecycle() {
        Ok(Some(shown)) => shown["properties"]["policy"]["rules"].as_array().cloned().unwrap_or_default(),
        Ok(None) => Vec::new(),
        Err(e) => {
            return out.warn(
                "lifecycle",
                format!("the lifecycle rules could not be looked at: {e}"),
                "give this credential Reader on the account",
            );
        }
    };
    let mend = format!("az storage account management-policy create {here} --policy @deploy/azure/lifecycle.json");
    if rules.is_empty() {
        return out.warn(
            "lifecycle",
            "there are no lifecycle rules: seven years of backups stay in the hot tier and cost accordingly",
            mend,
        );
    }
    let rto = parse_duration(&check.policy.policy.objectives.rto.value).unwrap_or(4 * 3600);
    let mut well = true;
    for rule in rules.iter().filter(|rule| rule["enabled"] != false) {
        let name = rule["name"].as_str().unwrap_or("without a name");
        let prefixes: Vec<&str> =
            rule["definition"]["filters"]["prefixMatch"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let touches = |container: &str| {
            prefixes.is_empty()
                || prefixes.iter().any(|p| p.starts_with(&format!("{container}/")) || format!("{container}/").starts_with(p))
        };
        let ours: Vec<Container> = Container::ALL.into_iter().filter(|c| touches(&check.said.container(*c))).collect();
        let actions = &rule["definition"]["actions"];
        for (on, list) in actions.as_object().into_iter().flatten().filter(|_| !ours.is_empty()) {
            if !list["delete"].is_null() {
                well = false;
                let message = format!(
                    "the lifecycle rule {name} deletes {on} of the vault: what its lock has ended is destroyed on a timer, without review or certificate"
                );
                out.error("lifecycle", message, mend.clone());
            }
            let archive = &list["tierToArchive"];
            let after = ["daysAfterModificationGreaterThan", "daysAfterCreationGreaterThan", "daysAfterLastAccessTimeGreaterThan"];
            let after = after.iter().filter_map(|key| archive[*key].as_u64().or_else(|| archive[*key].as_f64().map(|d| d as u64))).min();
            if archive.is_null() {
                continue;
            }
            if after.is_none_or(|days| days < NEVER_ARCHIVED_DAYS) {
                well = false;
                let message = format!(
                    "the lifecycle rule {name} archives {on} after {} days: the newest recovery points would have to be brought back first, \
                     which takes up to {} h where the objective is {} h",
                    after.unwrap_or(0),
                    REHYDRATION / 3600,
                    rto / 3600
                );
                out.error("lifecycle", message, mend.clone());
            }
            if ours.contains(&Container::Attestations) {
                well = false;
                let message = format!(
                    "the lifecycle rule {name} archives attestations: nothing can be verified or restored before they are brought back"
                );
                out.error("lifecycle", message, mend.clone());
            }
        }
    }
    if well {
        out.well("lifecycle", format!("{} lifecycle rules delete nothing, and archive nothing that a restore needs at once", rules.len()));
    }
}
