//! The canary: an object under a real lock that this agent must be unable to take away.

use jiff::{SignedDuration, Timestamp};

use super::Findings;
use crate::store::azure::{AzureStore, Deletion};
use crate::store::{Body, EnforcedBy, LockMode, LockRequest, Sha256, Store, StoreError};
use crate::vault::names::{RunId, canary};

/// Clocks that differ by more are told.
const SKEW_TOLD: i64 = 60;
/// Clocks that differ by more stop every commit.
const SKEW_REFUSED: i64 = 300;

/// Compares the clocks, puts a canary under the policy's lock for a day, reads the lock back, and tries to take it away.
pub fn check_canary(store: &dyn Store, azure: Option<&AzureStore>, mode: LockMode, now: Timestamp, out: &mut Findings) {
    let shown = match store.now() {
        Ok(shown) => shown,
        Err(e) => return unreachable(&e, out),
    };
    let skew = (now.as_second() - shown.as_second()).abs();
    let mend = "set this machine's clock: timedatectl set-ntp true, chronyc makestep";
    match skew {
        s if s > SKEW_REFUSED => {
            out.error("clock", format!("this machine says {now}, the store {shown}: {s} s apart, and every commit is refused"), mend);
        }
        s if s > SKEW_TOLD => out.warn("clock", format!("this machine says {now}, the store {shown}: {s} s apart"), mend),
        s => out.well("clock", format!("this machine and the store agree to {s} s")),
    }
    if mode == LockMode::None {
        return out.error(
            "lock",
            "the policy says `lock: { mode: none }`: nothing is protected, and whoever may write can delete every backup",
            "say `mode: locked` once the store keeps locks",
        );
    }
    let until = shown.checked_add(SignedDuration::from_hours(24)).unwrap_or(shown);
    let until = Timestamp::from_second(until.as_second() + 1).unwrap_or(until);
    let name = canary(RunId::new(now));
    let body = b"put by `backstop doctor` to see what the store does to it";
    match store.put(&name, Body::Bytes(body), &Sha256::of(body), &LockRequest { mode, until }) {
        Ok(_) => {}
        Err(StoreError::LockRefused { reason, .. }) => {
            return out.error(
                "lock",
                format!("the store refuses a lock: {reason}. Nothing that is not locked is committed, so no backup is made"),
                "deploy/azure/setup.sh --dry-run prints the commands that set up locks and the agent's role",
            );
        }
        Err(e) => return unreachable(&e, out),
    }
    let state = store.head(&name).ok().flatten().and_then(|info| info.lock);
    match &state {
        Some(state) if state.mode == mode && state.until.is_some_and(|shown| shown >= until) => match state.enforced_by {
            EnforcedBy::Service => out.well("lock", format!("a lock until {until} was taken, and the service shows it")),
            EnforcedBy::Kernel => out.well("lock", "locks are kept by the kernel's immutable flag; root of this machine can lift it"),
            EnforcedBy::Advisory => out.warn(
                "lock",
                "locks are advisory: only this program and the files' mode respect them, and whoever owns the files can delete them",
                "run as a user with CAP_LINUX_IMMUTABLE on a file system with flags (ext4, xfs, btrfs), or keep the vault in Azure",
            ),
        },
        _ => {
            return out.error(
                "lock",
                "the store took a lock and shows none: it ignores locks, as Azurite does. No commit is made there",
                "use a storage account with version-level immutability; for a trial say `lock: { mode: none }`",
            );
        }
    }
    match store.put(&name, Body::Bytes(b"over it"), &Sha256::of(b"over it"), &LockRequest { mode, until }) {
        Err(StoreError::AlreadyExists { .. }) => out.well("create", "an object is created once: a second one under its name is refused"),
        Ok(_) => out.error(
            "create",
            "a second object under the same name was taken: two agents could commit one number",
            "this store cannot keep a vault",
        ),
        Err(e) => unreachable(&e, out),
    }
    let Some(azure) = azure else { return };
    match azure.try_delete(&name) {
        Ok(Deletion::NoRight) => out.well("rights", "this credential cannot delete: an object stays even after its lock"),
        Ok(Deletion::Locked) => out.warn(
            "rights",
            "the lock refused a deletion that this credential is allowed: once locks end, or for what is not locked, it can delete",
            "give it the role of deploy/azure/role.json in the place of the one it has: az role assignment create --assignee PRINCIPAL --role \"Backstop agent\" --scope ACCOUNT; or a SAS without d and x",
        ),
        Ok(Deletion::Done) => out.warn(
            "rights",
            "this credential can delete by name: the locked version stays and restores, but ordinary listings no longer show it",
            "give it the role of deploy/azure/role.json in the place of the one it has: az role assignment create --assignee PRINCIPAL --role \"Backstop agent\" --scope ACCOUNT; or a SAS without d and x",
        ),
        Err(e) => unreachable(&e, out),
    }
}

fn unreachable(error: &StoreError, out: &mut Findings) {
    let mend = match error {
        StoreError::Azure(e) => e.hint(),
        _ => None,
    };
    out.error("store", format!("{error}: no backup is made"), mend.unwrap_or_else(|| "see to the store, and run this again".into()));
}
