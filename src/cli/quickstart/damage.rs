//! A copy of the vault with one byte changed, and the audit that must name it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::home::Home;
use crate::cli::context::threads;
use crate::cli::exit::{CliError, Exit};
use crate::cli::select;
use crate::observe::Silent;
use crate::vault::Ledger;
use crate::vault::names;
use crate::verify::{AuditJob, AuditReport, Severity, audit};

/// Copies the vault to `damaged` and flips a bit in the largest segment of the newest base; gives its name.
pub(super) fn flip_a_byte(home: &Home) -> Result<String, CliError> {
    let failed = |e: std::io::Error| CliError::new(Exit::Failed, format!("cannot copy the vault to damaged: {e}"));
    copy(Path::new("vault"), Path::new("damaged")).map_err(failed)?;
    let ledger = home.ledger()?;
    let newest = select::snapshot(&ledger, "entra~1")?;
    let objects = newest.statement.predicate.objects.iter().filter(|o| names::is_segment(&o.name) || names::is_manifest(&o.name));
    let Some(object) = objects.max_by_key(|o| o.size) else { return Err(CliError::new(Exit::Failed, "the snapshot has no object")) };
    let path = Path::new("damaged").join(&object.name);
    let mut bytes = fs::read(&path).map_err(failed)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).and_then(|()| fs::write(&path, bytes)).map_err(failed)?;
    Ok(object.name.clone())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() { copy(&entry.path(), &target)? } else { fs::copy(entry.path(), &target).map(drop)? }
    }
    Ok(())
}

/// Holds the audits to their claims: the vault is whole, and in the copy exactly this object is named. Gives
/// attestations and objects of the whole one.
pub(super) fn whole_and_found(home: &Home, vault: &Ledger, object: &str) -> Result<(u64, u64), CliError> {
    let whole = look(vault, false)?;
    let damaged = look(&home.damaged()?, true)?;
    let errors: Vec<_> = damaged.findings.iter().filter(|f| f.severity == Severity::Error).collect();
    let named = errors.iter().all(|f| f.object.as_deref() == Some(object)) && !errors.is_empty();
    if !whole.ok || !named {
        return Err(CliError::new(Exit::Failed, format!("the audits did not tell the damaged copy ({object}) from the vault")));
    }
    Ok((whole.attestations, whole.objects))
}

fn look(ledger: &Ledger, ignore_locks: bool) -> Result<AuditReport, CliError> {
    Ok(audit(&AuditJob { ledger, kept: None, since: None, deep: None, ignore_locks, threads: threads(), monitor: &Silent })?)
}
