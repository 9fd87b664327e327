//! A quickstart whose vault lies in a storage account: its containers, its locks, and a plain download of it.

use std::fs;
use std::io;
use std::path::Path;

use crate::cli::exit::{CliError, Exit};
use crate::cli::init::write_new;
use crate::cli::init_azure::vault_yaml;
use crate::cli::store;
use crate::policy::LoadedPolicy;
use crate::store::azure::AzureStore;
use crate::store::{Clock, LockMode, LockRequest, Store, SystemClock, originals};
use crate::vault::keys::new_identity;
use crate::vault::names::{Container, RunId, canary};

/// Where a SAS is looked for that the address does not carry.
const VARIABLE: &str = "AZURE_STORAGE_SAS_TOKEN";
const SAS: &str = "keys/vault.sas";

/// What the policy's `vault` says: where, and how it locks.
pub(super) struct Place {
    /// The lines that say where.
    pub yaml: String,
    /// `locked` or `none`.
    pub lock: String,
}

/// Said wherever a store takes locks and ignores them.
pub(super) const IGNORES_LOCKS: &str = "This store takes locks and ignores them, as Azurite does: whoever may write can delete everything. \
     The vault is made without locks (`lock: { mode: none }`), every attestation says so, and nothing here shows that anything is protected.";

/// Looks at an account: makes what containers are missing, and sees whether it keeps a lock.
pub(super) fn place(address: &str) -> Result<Place, CliError> {
    let (endpoint, query) = address.split_once('?').map_or((address, None), |(endpoint, query)| (endpoint, Some(query.to_owned())));
    let sas = query.or_else(|| std::env::var(VARIABLE).ok()).filter(|sas| !sas.is_empty());
    let credential = match &sas {
        Some(sas) => {
            fs::create_dir_all("keys").map_err(|e| CliError::new(Exit::Failed, format!("cannot make keys: {e}")))?;
            write_new(Path::new(SAS), sas.as_bytes(), 0o600)?;
            format!("sas: {{ file: {SAS} }}")
        }
        None => "azure_cli: {}".to_owned(),
    };
    let yaml = vault_yaml(endpoint, &credential, None, &[])?;
    let store = probe(&yaml)?;
    for container in Container::ALL {
        if store.container_facts(container.as_str())?.is_none() {
            store.make_container(container.as_str())?;
        }
    }
    let now = store.now()?;
    let until = now.checked_add(jiff::SignedDuration::from_hours(24)).unwrap_or(now);
    let lock = LockRequest { mode: LockMode::Locked, until };
    match store.keeps_lock(&canary(RunId::new(SystemClock.now())), &lock) {
        Ok(true) => Ok(Place { yaml, lock: "locked".into() }),
        Ok(false) => Ok(Place { yaml, lock: "none".into() }),
        Err(e) => Err(CliError::from(e).hint(
            "the account keeps no locks as it is set up: `backstop doctor` says what is missing, deploy/azure/setup.sh makes one that does",
        )),
    }
}

/// The account as the lines say, before there is a policy.
fn probe(yaml: &str) -> Result<std::sync::Arc<AzureStore>, CliError> {
    // Any recipient and any key serve: only the store is opened.
    let (_, recipient) = new_identity(SystemClock.now());
    let text = format!("version: 1\nvault:\n{yaml}\nencryption: {{ recipients: [{recipient}] }}\nsigning: {{ key_file: none }}\n");
    let policy = LoadedPolicy::from_bytes(Path::new(super::home::POLICY), text.into_bytes())?;
    match &policy.policy.vault.azure {
        Some(said) => store::azure(&policy, &said.value),
        None => Err(CliError::new(Exit::Failed, "no storage account was named")),
    }
}

/// Downloads every container as `az storage blob download-batch` would; gives objects and bytes.
pub(super) fn download(from: &dyn Store, to: &Path) -> Result<(u64, u64), CliError> {
    let failed = |path: &Path, e: io::Error| CliError::new(Exit::Failed, format!("cannot write {}: {e}", path.display()));
    let (mut objects, mut bytes) = (0, 0);
    for container in Container::ALL {
        for info in originals(from.list(&format!("{container}/"))?) {
            let path = to.join(&info.name);
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
            }
            let mut file = fs::File::create(&path).map_err(|e| failed(&path, e))?;
            bytes += io::copy(&mut from.open(&info.name, info.version.as_deref())?, &mut file).map_err(|e| failed(&path, e))?;
            objects += 1;
        }
    }
    Ok((objects, bytes))
}
