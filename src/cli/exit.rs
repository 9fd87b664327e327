//! Exit codes and the errors that carry them: what went wrong, why, and what to do next.

use std::error::Error;
use std::process::ExitCode;

use crate::agent::HostError;
use crate::backup::{ExportError, ImportError, SnapshotError};
use crate::drill::DrillError;
use crate::objective::SurveyError;
use crate::policy::PolicyError;
use crate::restore::RestoreError;
use crate::retention::RetentionError;
use crate::store::StoreError;
use crate::store::azure::AzureError;
use crate::vault::keys::KeyError;
use crate::vault::seal::SealError;
use crate::vault::{CommitError, GenesisError, LedgerError, RotationError, TrustError};
use crate::verify::{AuditError, RestoreTestError};

/// What the program's exit code says. People script against these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Bad usage or policy.
    Usage = 2,
    /// Damage or tampering was found.
    Damage = 3,
    /// An objective was missed; the work itself was done.
    ObjectiveMissed = 4,
    /// A lock or hold refused.
    Refused = 5,
    /// Something was not captured; what was is committed and says so.
    Partial = 6,
    /// Try again later: throttled, busy, or another agent was first.
    TryAgain = 75,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error as the command line shows it.
#[derive(Debug)]
pub struct CliError {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong, and its causes.
    pub causes: Vec<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl CliError {
    /// From a message alone.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, causes: vec![message.into()], hint: None }
    }

    /// With advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn of(exit: Exit, error: &(dyn Error + 'static)) -> Self {
        let mut causes = vec![error.to_string()];
        let mut next = error.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            // A transparent error repeats its cause word for word.
            if causes.last() != Some(&text) {
                causes.push(text);
            }
            next = cause.source();
        }
        Self { exit, causes, hint: None }
    }
}

fn store(error: &StoreError) -> (Exit, Option<String>) {
    match error {
        StoreError::NoStore { .. } => {
            (Exit::Usage, Some("check vault.local.path in the policy, or make a vault with `backstop init`".into()))
        }
        StoreError::NoSpace { .. } => (
            Exit::Failed,
            Some("free some room and run the same command again: it carries on, and nothing that was committed is lost".into()),
        ),
        StoreError::Azure(e) => (
            match **e {
                AzureError::Setup { .. } | AzureError::NoContainer { .. } => Exit::Usage,
                _ if e.passing() => Exit::TryAgain,
                _ => Exit::Failed,
            },
            e.hint(),
        ),
        StoreError::Locked { .. } => (Exit::Refused, Some("nothing was removed; `backstop hold ls` shows the holds".into())),
        StoreError::Archived { .. } => (Exit::TryAgain, Some("`backstop restore … --rehydrate standard` brings it back first".into())),
        StoreError::LockRefused { .. } => (Exit::Refused, Some("data that is not locked is no backup; nothing was committed".into())),
        StoreError::BadName { .. } => (Exit::Usage, None),
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::FileTooLarge => (
            Exit::Failed,
            Some("a limit on file sizes stops it: raise it (ulimit -f, LimitFSIZE of the service) and run the same command again".into()),
        ),
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            (Exit::Failed, Some("run it as the user that owns the vault, or give this one access".into()))
        }
        _ => (Exit::Failed, None),
    }
}

fn commit(error: &CommitError) -> (Exit, Option<String>) {
    match error {
        CommitError::Store(e) => store(e),
        CommitError::Ledger(e) => ledger(e),
        CommitError::Dropped(_) => {
            (Exit::TryAgain, Some("nothing is lost: run it again and it builds on what the other agent committed".into()))
        }
        CommitError::Skew { .. } | CommitError::ClockBack { .. } => {
            (Exit::Failed, Some("set this machine's clock (timedatectl, chronyc tracking) and run again".into()))
        }
        CommitError::LockTooLong { .. } => (Exit::Refused, Some("check this machine's clock and the policy's retention and grace".into())),
        CommitError::LockNotKept { .. } => {
            (Exit::Refused, Some(
                "the store does not lock as the policy demands; nothing was committed. An emulator takes locks and ignores them: \
                 for a trial there say `lock: { mode: none }`, and every report will say it too"
                    .into(),
            ))
        }
        CommitError::Vanished { .. } => (
            Exit::Failed,
            Some(
                "the store lost it, or failed over to its secondary region: see to the store, and run it again; earlier runs stand".into(),
            ),
        ),
        CommitError::NotHeld { .. } => (
            Exit::Refused,
            Some("see to the store's legal holds, then say `backstop hold add` with the same scope and reason again; `backstop verify` names what is not held".into()),
        ),
        CommitError::Void(_) => (Exit::Failed, Some("`backstop key ls` shows who has which role; nothing was committed".into())),
        CommitError::Encode(_) | CommitError::NoNumber(_) => (Exit::Failed, None),
    }
}

fn survey(error: &SurveyError) -> (Exit, Option<String>) {
    match error {
        SurveyError::Store(e) => store(e),
        SurveyError::Unusable { .. } => (Exit::Failed, None),
    }
}

fn ledger(error: &LedgerError) -> (Exit, Option<String>) {
    match error {
        LedgerError::Store(e) => store(e),
        LedgerError::Trust(TrustError::OtherGenesis { .. }) => (
            Exit::Damage,
            Some("do not write to it; compare vault.genesis_file and vault.local.path in the policy with what `init` printed".into()),
        ),
        LedgerError::Trust(TrustError::NoGenesis(_)) => (
            Exit::Damage,
            Some(
                "if this is the right place, give the genesis that `init` kept: vault.genesis_file in the policy, or --genesis DIGEST"
                    .into(),
            ),
        ),
    }
}

fn restore(error: &RestoreError) -> (Exit, Option<String>) {
    match error {
        RestoreError::NoSnapshot(_) => (Exit::Usage, Some("`backstop ls` shows every run".into())),
        RestoreError::Archived { .. } => (
            Exit::TryAgain,
            Some("say --rehydrate standard, or --rehydrate high (dearer), and it brings them back, waits and restores; stopped and run again it goes on".into()),
        ),
        RestoreError::FailedRun(_) => (Exit::Usage, Some("`backstop ls` shows which runs are complete".into())),
        RestoreError::WrongIdentity { .. } => {
            (Exit::Usage, Some("give the identity of one of these recipients with --identity FILE or BACKSTOP_IDENTITY".into()))
        }
        RestoreError::Nothing(_) => (Exit::Damage, Some("`backstop verify` names what is damaged; an earlier run may be whole".into())),
        RestoreError::Disposed { sequence, .. } => {
            (Exit::Failed, Some(format!("`backstop show vault/{sequence}` shows the disposition; its certificate lies in the vault")))
        }
        RestoreError::TargetNotEmpty(_) => (Exit::Usage, None),
        RestoreError::Write { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            (Exit::Failed, Some("free some room, or restore into another file system".into()))
        }
        RestoreError::Write { .. } => (Exit::Failed, None),
        RestoreError::Store(e) => store(e),
        RestoreError::Ledger(e) => ledger(e),
        RestoreError::Seal(_) | RestoreError::Manifest(_) => (Exit::Damage, Some("`backstop verify --deep` names what is damaged".into())),
    }
}

fn retention(error: &RetentionError) -> (Exit, Option<String>) {
    match error {
        RetentionError::NothingInScope => (Exit::Usage, Some("`backstop ls` shows every run; nothing was held".into())),
        RetentionError::UntilPassed { .. } | RetentionError::UntilTooFar { .. } => (Exit::Usage, None),
        RetentionError::NotHeld { .. } => {
            (Exit::Refused, Some("see to the store's legal holds and run it again: what is held already stays held".into()))
        }
        RetentionError::NoHold(_) => (Exit::Usage, Some("`backstop hold ls` shows every hold".into())),
        RetentionError::NotAPlan(_) | RetentionError::OtherVault(_) => {
            (Exit::Usage, Some("nothing was destroyed; `backstop dispose plan` makes a plan".into()))
        }
        RetentionError::NotAnOperator(_) => (Exit::Usage, Some("`backstop key ls` shows who has which role".into())),
        RetentionError::ApprovedAlready(_) => {
            (Exit::Usage, Some("`backstop key add-signer --role operator` names a second operator".into()))
        }
        RetentionError::NoName => (Exit::Usage, None),
        RetentionError::NotApproved(_) => {
            (Exit::Usage, Some("nothing was destroyed; `backstop dispose approve` adds an operator's approval".into()))
        }
        RetentionError::Obstacles { .. } => (Exit::Refused, Some("nothing was destroyed; make a new plan, and have it approved".into())),
        RetentionError::Seal(_) => (Exit::Failed, None),
        RetentionError::Commit(e) => commit(e),
        RetentionError::Store(e) => store(e),
        RetentionError::Ledger(e) => ledger(e),
    }
}

macro_rules! errors {
    ($($kind:ty => $judge:expr),* $(,)?) => {$(
        impl From<$kind> for CliError {
            fn from(error: $kind) -> Self {
                let judge: fn(&$kind) -> (Exit, Option<String>) = $judge;
                let (exit, hint) = judge(&error);
                Self { hint, ..Self::of(exit, &error) }
            }
        }
    )*};
}

errors! {
    PolicyError => |e| match e {
        PolicyError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound =>
            (Exit::Usage, Some("say --policy FILE, change into the policy's directory, or make one with `backstop init`".into())),
        PolicyError::Read { .. } => (Exit::Usage, None),
        PolicyError::Invalid { .. } => (Exit::Usage, None),
    },
    KeyError => |e| match e {
        KeyError::Write { .. } => (Exit::Failed, None),
        KeyError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound =>
            (Exit::Usage, Some("check the path; keys that were taken offline must be brought back for this".into())),
        _ => (Exit::Usage, None),
    },
    StoreError => store,
    CommitError => commit,
    LedgerError => ledger,
    SurveyError => survey,
    SealError => |_| (Exit::Failed, None),
    GenesisError => |e| match e {
        GenesisError::AlreadyFounded(_) => (Exit::Usage, Some("choose another directory".into())),
        GenesisError::Commit(e) => commit(e),
    },
    SnapshotError => |e| match e {
        SnapshotError::Source(e) if e.passing => (Exit::TryAgain, Some("nothing was captured and nothing was deleted; earlier snapshots stand; run it again later".into())),
        SnapshotError::Source(_) => (Exit::Failed, Some("nothing was captured and nothing was deleted; earlier snapshots stand".into())),
        SnapshotError::State(source) if source.kind() == std::io::ErrorKind::StorageFull =>
            (Exit::Failed, Some("free some room in the state directory; nothing that was committed is lost".into())),
        SnapshotError::State(_) => (Exit::Failed, Some("check the state directory (`state` in the policy, .backstop unless said)".into())),
        SnapshotError::Commit(e) => commit(e),
        SnapshotError::Store(e) => store(e),
        SnapshotError::Ledger(e) => ledger(e),
        SnapshotError::Busy(_) => (Exit::TryAgain, None),
        SnapshotError::NotStanding(_) => (Exit::Failed, Some("run it again: the next snapshot writes everything anew".into())),
        SnapshotError::Seal(_) | SnapshotError::Stopped => (Exit::Failed, None),
    },
    ExportError => |e| match e {
        e if e.passing() =>
            (Exit::TryAgain, Some("nothing of this window was committed; the next export begins where the last one ended".into())),
        ExportError::State(source) if source.kind() == std::io::ErrorKind::StorageFull =>
            (Exit::Failed, Some("free some room in the state directory; nothing that was committed is lost".into())),
        ExportError::Log { .. } => (Exit::Failed, Some("nothing of this window was committed; the next export begins where the last one ended".into())),
        ExportError::State(_) => (Exit::Failed, Some("check the state directory (`state` in the policy, .backstop unless said)".into())),
        ExportError::Commit(e) => commit(e),
        ExportError::Store(e) => store(e),
        ExportError::Ledger(e) => ledger(e),
        ExportError::Busy(_) => (Exit::TryAgain, None),
        ExportError::Seal(_) => (Exit::Failed, None),
    },
    ImportError => |e| match e {
        ImportError::Read { .. } => (Exit::Usage, None),
        ImportError::Parse { .. } => (Exit::Failed, Some("nothing of this import was committed; mend the file, or import the others without it".into())),
        ImportError::NoTimes { .. } => (Exit::Usage, Some("set the stream's `time` in the policy to the JSON pointer of the event time; nothing was committed".into())),
        ImportError::Commit(e) => commit(e),
        ImportError::Store(e) => store(e),
        ImportError::Ledger(e) => ledger(e),
        ImportError::Seal(_) => (Exit::Failed, None),
    },
    RestoreError => restore,
    RetentionError => retention,
    RotationError => |e| match e {
        RotationError::Commit(e) => commit(e),
        _ => (Exit::Usage, Some("`backstop key ls` shows the signers".into())),
    },
    RestoreTestError => |e| match e {
        RestoreTestError::NothingYet => (Exit::Usage, Some("`backstop snapshot` and `backstop export` make recovery points".into())),
        RestoreTestError::Scratch { source, .. } | RestoreTestError::Restore(RestoreError::Write { source, .. })
            if source.kind() == std::io::ErrorKind::StorageFull =>
            (Exit::Failed, Some("free some room, or say --temporary DIR or --disk BYTES: then it is restored in parts".into())),
        RestoreTestError::Scratch { .. } => (Exit::Failed, Some("say --temporary DIR for a directory that this user can write, and nobody clears meanwhile".into())),
        RestoreTestError::Restore(e) => restore(e),
        RestoreTestError::Store(e) => store(e),
        RestoreTestError::Ledger(e) => ledger(e),
        RestoreTestError::Commit(e) => commit(e),
        RestoreTestError::Seal(_) => (Exit::Failed, None),
    },
    DrillError => |e| match e {
        DrillError::NothingYet => (Exit::Usage, Some("`backstop snapshot` makes one of a source with `graph` or `arm`; a partial one does not count, and `backstop status` says what is not complete".into())),
        DrillError::Scratch { source, .. } | DrillError::Restore(RestoreError::Write { source, .. })
            if source.kind() == std::io::ErrorKind::StorageFull =>
            (Exit::Failed, Some("free some room, or say --temporary DIR: nothing was attested".into())),
        DrillError::Scratch { .. } => (Exit::Failed, Some("say --temporary DIR for a directory that this user can write".into())),
        DrillError::Sample(_) | DrillError::Seal(_) => (Exit::Failed, None),
        DrillError::Restore(e) => restore(e),
        DrillError::Store(e) => store(e),
        DrillError::Ledger(e) => ledger(e),
        DrillError::Commit(e) => commit(e),
    },
    HostError => |e| match e {
        HostError::Busy { .. } => (Exit::TryAgain, Some("one agent a state directory: stop the other one, or give this one its own (`state` in the policy)".into())),
        HostError::Newer { .. } => (Exit::Failed, Some("run the newer version, or give this one another state directory (`state` in the policy): what stands there is only a cache".into())),
        HostError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull =>
            (Exit::Failed, Some("free some room in the state directory".into())),
        HostError::Io { .. } => (Exit::Failed, Some("give this user the right to write there, or say another place with `state` in the policy".into())),
    },
    AuditError => |e| match e {
        AuditError::Store(e) => store(e),
        AuditError::Ledger(e) => ledger(e),
        AuditError::Restore(e) => restore(e),
    },
}
