//! This machine: keys and who could read them, room on the disk, schedules.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::Findings;
use crate::policy::{LoadedPolicy, next_due};
use crate::vault::Ledger;
use crate::vault::attestation::Kind;
use crate::vault::keys::{Role, Signer};
use crate::vault::names::ChainName;

/// Less free room than this is told.
const LITTLE_ROOM: u64 = 1 << 30;

/// A vault that is older was tested, or should have been.
const FIRST_TEST_WITHIN: SignedDuration = SignedDuration::from_hours(8 * 24);

/// What is looked at on this machine.
pub struct HostCheck<'a> {
    /// The policy.
    pub policy: &'a LoadedPolicy,
    /// Where the local state is kept.
    pub state: &'a Path,
    /// Identities that this process was given.
    pub identities: &'a [PathBuf],
    /// The vault, if it could be read.
    pub ledger: Option<&'a Ledger>,
    /// Now.
    pub now: Timestamp,
}

/// Looks at this machine.
pub fn check_host(check: &HostCheck<'_>, out: &mut Findings) {
    for problem in &check.policy.warnings {
        out.warn("policy", problem.to_string(), "mend the policy, and run `backstop policy check`");
    }
    signing_key(check, out);
    secrets(check, out);
    separation(check, out);
    recipients(check, out);
    disk(check, out);
    schedules(check, out);
}

fn signing_key(check: &HostCheck<'_>, out: &mut Findings) {
    let path = check.policy.path(&check.policy.policy.signing.key_file.value);
    let shown = path.display();
    let signer = match Signer::load(&path) {
        Ok(signer) => signer,
        Err(e) => {
            return out.error("signing_key", format!("{e}: nothing can be committed"), format!("bring the agent's key back to {shown}"));
        }
    };
    if fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0) {
        out.warn(
            "signing_key",
            format!("{shown} can be read by others on this machine, who could sign as this agent"),
            format!("chmod 600 {shown}"),
        );
    }
    match check.ledger {
        Some(ledger) if !ledger.trust().signers().any(|(entry, valid)| entry.keyid == signer.key_id() && valid) => {
            out.error(
                "signing_key",
                format!("{shown} is not, or no longer, a signer of this vault: what it attests would be void"),
                "`backstop key ls` shows the signers; put the right key in its place, or `backstop key rotate` names this one",
            );
        }
        Some(ledger) if !ledger.trust().signers().any(|(entry, _)| entry.keyid == signer.key_id() && entry.role == Role::Agent) => {
            out.error(
                "signing_key",
                format!("{shown} has another role than the agent's in this vault: snapshots and exports that it signs would be void"),
                "put the agent's own key in its place",
            );
        }
        Some(_) => out.well("signing_key", format!("{shown} is a valid signer of this vault")),
        None => out.well("signing_key", format!("{shown} can be read; the vault could not be asked whether it is valid")),
    }
}

/// Secrets that have no place beside an agent.
fn secrets(check: &HostCheck<'_>, out: &mut Findings) {
    // The directory that a policy lies in has no name where the policy is named without one.
    let named = |dir: PathBuf| if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir };
    let base = named(check.policy.path(""));
    let key_dir = named(check.policy.path(&check.policy.policy.signing.key_file.value).parent().map(Path::to_owned).unwrap_or_default());
    let mut files: Vec<PathBuf> = Vec::new();
    let mut looked = true;
    for dir in [base, key_dir.clone()] {
        match fs::read_dir(&dir) {
            Ok(entries) => files.extend(entries.flatten().map(|e| e.path())),
            Err(e) => {
                looked = false;
                let message = format!("{} cannot be looked into for identities: {e}", dir.display());
                out.warn("identities", message, "run doctor as somebody who may list it");
            }
        }
    }
    files.extend(check.identities.iter().cloned());
    files.sort();
    files.dedup();
    let identity = |path: &PathBuf| {
        let small = fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() < 1 << 16);
        small && fs::read(path).is_ok_and(|text| text.split(|b| *b == b'\n').any(|line| line.starts_with(b"AGE-SECRET-KEY-")))
    };
    let found: Vec<String> = files.iter().filter(|path| identity(path)).map(|path| path.display().to_string()).collect();
    if found.is_empty() && looked {
        out.well("identities", "no identity lies beside the policy: this machine cannot read what it backs up");
    } else if !found.is_empty() {
        out.warn(
            "identities",
            format!("{} can be read here: whoever takes over this machine can read every backup", found.join(", ")),
            "move the identities to where backups are restored and to a safe, and delete them here",
        );
    }
    let tester = check.policy.policy.signing.tester_key_file.as_ref().map(|f| check.policy.path(&f.value));
    let keys = [
        (key_dir.join("operator.key"), "rotate keys, lift holds and dispose"),
        (tester.unwrap_or_else(|| key_dir.join("tester.key")), "attest restore tests that never ran"),
    ];
    for (path, what) in keys {
        if path.exists() {
            let message = format!("{} lies beside the agent's key: whoever takes over this machine can {what}", path.display());
            out.warn("keys", message, "move it to another machine or offline, and delete it here");
        }
    }
}

/// Whether who proves that backups restore is somebody else than who makes them, by what both attested last.
fn separation(check: &HostCheck<'_>, out: &mut Findings) {
    let Some(ledger) = check.ledger else { return };
    let newest = |chain: &ChainName, kinds: &[Kind]| {
        let view = ledger.chain_until(chain, |a| kinds.contains(&a.statement.kind)).ok()?;
        let found = view.attested.into_iter().rev().find(|a| kinds.contains(&a.statement.kind))?;
        Some(found.statement.predicate.agent.host_id)
    };
    let Some(tester) = newest(&ChainName::restore_test(), &[Kind::RestoreTest]) else {
        let founded = ledger.vault_chain().attested.first().map(|genesis| genesis.statement.predicate.finished);
        if founded.is_some_and(|at| check.now.duration_since(at) < FIRST_TEST_WITHIN) {
            return out.well("tester", "no restore test was attested yet; the vault is young");
        }
        return out.warn(
            "tester",
            "no restore test was ever attested: that the backups restore is hoped for",
            "on a machine that does not back up, with the tester's key and an identity: `backstop restore-test`",
        );
    };
    let chains = ledger.chains().unwrap_or_default();
    let data = chains.iter().filter(|c| c.source().is_some() || c.stream().is_some());
    let same: Vec<&str> =
        data.filter(|c| newest(c, &[Kind::Snapshot, Kind::Export]).is_some_and(|host| host == tester)).map(|c| c.as_str()).collect();
    if same.is_empty() {
        return out.well("tester", "restore tests are attested from another machine than backups");
    }
    out.warn(
        "tester",
        format!("the machine that writes {} also attests the restore tests: whoever takes it over reads every backup, and attests tests that never ran", same.join(", ")),
        "run `backstop restore-test` on another machine, as another user, with rights to read the store and to write its own chain",
    );
}

fn recipients(check: &HostCheck<'_>, out: &mut Findings) {
    let recipients = &check.policy.policy.encryption.recipients.value;
    match recipients.len() {
        0 | 1 => out.warn(
            "recipients",
            "everything is sealed to one recipient: if its identity is lost, every backup is",
            "`backstop key new identity --out FILE` makes another; add its recipient to encryption.recipients",
        ),
        n => out.well("recipients", format!("everything is sealed to {n} recipients")),
    }
    match (&check.policy.policy.vault.genesis_file, check.ledger) {
        (None, _) => out.warn(
            "genesis",
            "the policy keeps no genesis: a vault that was put in the place of this one would be taken for it",
            "keep the first attestation and name it as vault.genesis_file",
        ),
        (Some(_), Some(ledger)) => out.well("genesis", format!("trust starts from {}", ledger.trust().genesis())),
        (Some(_), None) => {}
    }
}

fn disk(check: &HostCheck<'_>, out: &mut Findings) {
    let state = check.state;
    let shown = state.display();
    let probe = fs::create_dir_all(state).and_then(|()| tempfile::tempfile_in(state).map(drop));
    if let Err(e) = probe {
        return out.error(
            "disk",
            format!("the state directory {shown} cannot be written: {e}; snapshots would fail"),
            format!("give this user {shown}, or say another `state` in the policy"),
        );
    }
    match rustix::fs::statvfs(state) {
        Ok(v) if v.f_bavail.saturating_mul(v.f_frsize) < LITTLE_ROOM => {
            let free = v.f_bavail.saturating_mul(v.f_frsize) >> 20;
            out.warn(
                "disk",
                format!("{free} MiB are free at {shown}: a large run spools there and would stop"),
                "free some room, or say another `state` in the policy",
            );
        }
        Ok(v) => out.well("disk", format!("{} GiB are free at {shown}", v.f_bavail.saturating_mul(v.f_frsize) >> 30)),
        Err(e) => out.warn("disk", format!("how much room {shown} has cannot be asked: {e}"), "look at it with df"),
    }
}

fn schedules(check: &HostCheck<'_>, out: &mut Findings) {
    let policy = &check.policy.policy;
    if policy.jobs.is_empty() {
        return out.warn(
            "schedule",
            "the policy has no jobs: nothing runs by itself",
            "add `jobs` to the policy; policies/production.yaml shows some",
        );
    }
    let zone = policy.zone();
    for (name, job) in &policy.jobs {
        match next_due(&job.value.schedule.value, zone, check.now) {
            Some(due) => out.well("schedule", format!("{name} is due next at {due}")),
            None => out.error(
                "schedule",
                format!("{name} is never due: its schedule {:?} has no instant ahead", job.value.schedule.value),
                "mend the schedule in the policy",
            ),
        }
    }
}
