//! Proof: the keyless audit of a whole vault, the deep check that opens every record, and the restore test.
//!
//! It promises to name every deviation from `docs/vault-format.md` and never to mend one. Without a key it
//! proves that nothing attested is missing and nothing was changed; with an identity also that every
//! record is what its manifest says. The restore test brings recovery points back and looks at what they mean.

mod chains;
mod checkpoints;
mod deep;
mod objects;
mod restore_test;
mod retained;

use jiff::Timestamp;

use crate::observe::Monitor;
use crate::store::{Sha256, StoreError};
use crate::vault::attestation::Head;
use crate::vault::keys::Identities;
use crate::vault::names::ChainName;
use crate::vault::{ChainView, Ledger, LedgerError};

pub use checkpoints::{KeptCheckpoint, KeptCheckpointError};
pub use restore_test::{Check, Count, LiveCapture, LiveSample, Problem, RestoreTestError, StillGood, TestJob, TestReport, restore_test};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Damage or tampering.
    Error,
    /// Not damage, but somebody should look.
    Warning,
    /// Good to know.
    Info,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// For machines.
    pub kind: &'static str,
    /// The object, if one is concerned.
    pub object: Option<String>,
    /// The chain, if one is concerned.
    pub chain: Option<ChainName>,
    /// The number on it.
    pub sequence: Option<u64>,
    /// For people.
    pub message: String,
}

impl Finding {
    fn new(severity: Severity, kind: &'static str, message: impl Into<String>) -> Self {
        Self { severity, kind, object: None, chain: None, sequence: None, message: message.into() }
    }

    fn error(kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, kind, message)
    }

    fn warning(kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, kind, message)
    }

    fn object(mut self, name: &str) -> Self {
        self.object = Some(name.to_owned());
        self
    }

    fn at(mut self, chain: &ChainName, sequence: u64) -> Self {
        self.chain = Some(chain.clone());
        self.sequence = Some(sequence);
        self
    }
}

/// What is verified.
pub struct AuditJob<'a> {
    /// The vault.
    pub ledger: &'a Ledger,
    /// A checkpoint that was kept elsewhere.
    pub kept: Option<&'a KeptCheckpoint>,
    /// Objects attested up to this checkpoint are listed but not read.
    pub since: Option<&'a KeptCheckpoint>,
    /// To open everything.
    pub deep: Option<&'a Identities>,
    /// Whether the locks that the store shows are left out: for the audit of a plain copy.
    pub ignore_locks: bool,
    /// Worker threads.
    pub threads: usize,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

/// The newest checkpoint in the vault.
#[derive(Debug, Clone, serde::Serialize)]
pub struct NewestCheckpoint {
    /// Its number.
    pub sequence: u64,
    /// Digest of its envelope.
    pub sha256: Sha256,
    /// When it was committed.
    pub finished: Timestamp,
}

/// What an audit found.
#[derive(Debug)]
pub struct AuditReport {
    /// No finding is an error.
    pub ok: bool,
    /// Whether everything was opened.
    pub deep: bool,
    /// Valid attestations.
    pub attestations: u64,
    /// Objects attested.
    pub objects: u64,
    /// Bytes read and compared with their digests.
    pub verified_bytes: u64,
    /// Records opened and compared, when deep.
    pub records: u64,
    /// What was found, worst first.
    pub findings: Vec<Finding>,
    /// The newest checkpoint in the vault.
    pub checkpoint: Option<NewestCheckpoint>,
    /// How far each chain reaches: with a checkpoint, what can be kept elsewhere.
    pub heads: Vec<Head>,
}

/// Why an audit could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no trustworthy genesis.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// No identity opens the vault.
    #[error(transparent)]
    Restore(#[from] crate::restore::RestoreError),
}

/// Every chain of a vault.
type Chains = Vec<(ChainName, ChainView)>;

/// Audits a vault.
pub fn audit(job: &AuditJob<'_>) -> Result<AuditReport, AuditError> {
    let ledger = job.ledger;
    let mut findings = Vec::new();
    let mut chains: Chains = Vec::new();
    for name in ledger.chains()? {
        let proved = job.since.and_then(|k| k.heads.iter().find(|h| h.chain == name)).map_or(0, |h| h.sequence);
        let view = ledger.chain_since(&name, proved)?;
        chains.push((name, view));
    }
    if !chains.iter().any(|(name, _)| *name == ChainName::vault()) {
        chains.push((ChainName::vault(), ledger.vault_chain().clone()));
    }
    for (name, view) in &chains {
        chains::check_chain(ledger, name, view, &mut findings);
    }
    chains::check_across(&chains, &mut findings);
    let checkpoint = checkpoints::check(ledger, &chains, &mut findings)?;
    if let Some(kept) = job.kept {
        checkpoints::check_kept(ledger, &chains, kept, &mut findings);
    }
    let counted = objects::check(job, &chains, &mut findings)?;
    let mut records = 0;
    if let Some(identities) = job.deep {
        records = deep::check(job, identities, &chains, &counted.archived, &mut findings)?;
    }
    findings.sort_by(|a, b| (a.severity, &a.chain, a.sequence, &a.object).cmp(&(b.severity, &b.chain, b.sequence, &b.object)));
    findings.dedup();
    Ok(AuditReport {
        ok: findings.iter().all(|f| f.severity != Severity::Error),
        deep: job.deep.is_some(),
        attestations: chains.iter().map(|(_, v)| v.attested.len() as u64).sum(),
        objects: counted.objects,
        verified_bytes: counted.bytes,
        records,
        findings,
        checkpoint,
        heads: chains.iter().filter_map(|(chain, view)| head(chain, view)).collect(),
    })
}

fn head(chain: &ChainName, view: &ChainView) -> Option<Head> {
    let last = view.head()?;
    Some(Head { chain: chain.clone(), sequence: last.sequence(), sha256: last.sha256 })
}
