//! Checkpoints against chains: tails that were cut off, history that was replaced, vaults that were
//! replayed.

use std::collections::HashMap;

use jiff::SignedDuration;

use super::{AuditError, Chains, Finding, NewestCheckpoint};
use crate::store::Sha256;
use crate::vault::attestation::{CheckpointDetails, Head, Kind};
use crate::vault::names::ChainName;
use crate::vault::{Attested, Ledger, read_bundle};

/// A newest checkpoint older than this is a warning.
const OLD: SignedDuration = SignedDuration::from_hours(26);

/// A checkpoint that was kept outside the vault: what `backstop checkpoint --json` printed, or the
/// envelope itself.
#[derive(Debug, Clone)]
pub struct KeptCheckpoint {
    /// The vault, when the document says.
    pub genesis: Option<Sha256>,
    /// The heads then, that of the chain `checkpoint` included.
    pub heads: Vec<Head>,
}

/// Why a file is no checkpoint.
#[derive(Debug, thiserror::Error)]
#[error("it is neither what `backstop checkpoint --json` prints nor a checkpoint's envelope: {0}")]
pub struct KeptCheckpointError(String);

#[derive(serde::Deserialize)]
struct Printed {
    genesis_sha256: Sha256,
    heads: Vec<Head>,
    sequence: u64,
    sha256: Sha256,
}

impl KeptCheckpoint {
    /// Reads a kept checkpoint; an envelope must bear a signature that this vault accepts.
    pub fn read(bytes: &[u8], ledger: &Ledger) -> Result<Self, KeptCheckpointError> {
        let own = |sequence, sha256| Head { chain: ChainName::checkpoint(), sequence, sha256 };
        let at_place = |mut heads: Vec<Head>, head: Head| {
            heads.retain(|h| h.chain != head.chain);
            heads.push(head);
            heads
        };
        if let Ok(printed) = serde_json::from_slice::<Printed>(bytes) {
            let heads = at_place(printed.heads, own(printed.sequence, printed.sha256));
            return Ok(Self { genesis: Some(printed.genesis_sha256), heads });
        }
        let trimmed = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bad = |why: &str| KeptCheckpointError(why.to_owned());
        let envelope = crate::vault::dsse::Envelope::parse(trimmed).ok_or_else(|| bad("it is no JSON of either form"))?;
        let payload = crate::vault::keys::from_base64(&envelope.payload).ok_or_else(|| bad("its payload is damaged"))?;
        let claimed = crate::vault::attestation::Statement::parse(&payload).map_err(KeptCheckpointError)?;
        let sequence = claimed.predicate.sequence;
        let (statement, _) =
            ledger.trust().accept(trimmed, &ChainName::checkpoint(), sequence).map_err(|e| KeptCheckpointError(e.message))?;
        let details: CheckpointDetails = statement.predicate.details().map_err(|e| KeptCheckpointError(e.to_string()))?;
        Ok(Self { genesis: None, heads: at_place(details.heads, own(sequence, Sha256::of(trimmed))) })
    }
}

fn envelope_at(chains: &Chains, chain: &ChainName, sequence: u64) -> Option<Sha256> {
    let view = &chains.iter().find(|(name, _)| name == chain)?.1;
    view.attested.iter().find(|a| a.sequence() == sequence).map(|a| a.sha256)
}

fn head_of(chains: &Chains, chain: &ChainName) -> u64 {
    chains.iter().find(|(name, _)| name == chain).and_then(|(_, v)| v.head()).map_or(0, Attested::sequence)
}

/// Whether the chains still reach a head, and reach it the same way.
fn check_head(chains: &Chains, head: &Head, who: &str) -> Option<Finding> {
    let there = head_of(chains, &head.chain);
    let finding = match envelope_at(chains, &head.chain, head.sequence) {
        Some(sha256) if sha256 == head.sha256 => return None,
        Some(_) => Finding::error("replaced_history", format!("{who} names another attestation at this number")),
        None if there < head.sequence => {
            Finding::error("cut_off_tail", format!("{who} saw {} attestations on this chain; it ends at {there}", head.sequence))
        }
        None => Finding::error("missing_attestation", format!("{who} saw this attestation, and it is missing or void")),
    };
    Some(finding.at(&head.chain, head.sequence))
}

/// A checkpoint kept elsewhere against the vault.
pub(super) fn check_kept(ledger: &Ledger, chains: &Chains, kept: &KeptCheckpoint, out: &mut Vec<Finding>) {
    if kept.genesis.is_some_and(|g| g != ledger.trust().genesis()) {
        out.push(Finding::error("other_vault", "the checkpoint that was kept is of another vault"));
        return;
    }
    out.extend(kept.heads.iter().filter_map(|head| check_head(chains, head, "the checkpoint that was kept")));
}

/// The vault's own checkpoints.
pub(super) fn check(ledger: &Ledger, chains: &Chains, out: &mut Vec<Finding>) -> Result<Option<NewestCheckpoint>, AuditError> {
    let own = ChainName::checkpoint();
    let view = chains.iter().find(|(name, _)| *name == own).map(|(_, v)| v.clone()).unwrap_or_default();
    let mut before: HashMap<ChainName, u64> = HashMap::new();
    let mut newest = None;
    for attested in view.attested.iter().filter(|a| a.statement.kind == Kind::Checkpoint) {
        let n = attested.sequence();
        let details: CheckpointDetails = match attested.statement.predicate.details() {
            Ok(details) => details,
            Err(e) => {
                out.push(Finding::error("not_a_statement", format!("its details cannot be read: {e}")).object(&attested.name).at(&own, n));
                continue;
            }
        };
        let who = format!("checkpoint {n}");
        for head in &details.heads {
            out.extend(check_head(chains, head, &who).map(|f| f.object(&head.chain.envelope(head.sequence))));
            if before.get(&head.chain).is_some_and(|last| *last > head.sequence) {
                let message = format!("its head of {} went backwards", head.chain);
                out.push(Finding::error("checkpoint_backwards", message).object(&attested.name).at(&own, n));
            }
        }
        for chain in before.keys().filter(|c| !details.heads.iter().any(|h| h.chain == **c)) {
            let message = format!("it no longer names the chain {chain}");
            out.push(Finding::error("checkpoint_backwards", message).object(&attested.name).at(&own, n));
        }
        check_bundle(ledger, chains, attested, &details, &before, out);
        check_locks(chains, attested, &details, out);
        before = details.heads.into_iter().map(|h| (h.chain, h.sequence)).collect();
        newest = Some(NewestCheckpoint { sequence: n, sha256: attested.sha256, finished: attested.statement.predicate.finished });
    }
    let now = ledger.store().now()?;
    let founded = ledger.vault_chain().attested.first().map(|g| g.statement.predicate.finished);
    match &newest {
        None if founded.is_some_and(|at| now.duration_since(at) > OLD) => {
            out.push(Finding::warning("no_checkpoint", "there is no checkpoint: a cut-off tail could not be seen"));
        }
        Some(newest) if now.duration_since(newest.finished) > OLD => {
            let message = format!("the newest checkpoint is of {}, more than 26 hours ago", newest.finished);
            out.push(Finding::warning("checkpoint_old", message).at(&own, newest.sequence));
        }
        _ => {}
    }
    Ok(newest)
}

/// A bundle holds exactly the envelopes between two checkpoints.
fn check_bundle(
    ledger: &Ledger,
    chains: &Chains,
    attested: &Attested,
    details: &CheckpointDetails,
    before: &HashMap<ChainName, u64>,
    out: &mut Vec<Finding>,
) {
    let Some(name) = &details.bundle else { return };
    let here = |f: Finding| f.object(name).at(&ChainName::checkpoint(), attested.sequence());
    let Some(object) = attested.statement.predicate.objects.iter().find(|o| o.name == *name) else {
        out.push(here(Finding::error("subjects_differ", "the bundle is not among the checkpoint's objects")));
        return;
    };
    // A bundle that is not there or not itself is told where objects are compared.
    let Ok(bytes) = ledger.read_object(name, object.version.as_deref(), &object.sha256, object.size) else { return };
    let envelopes = match read_bundle(&bytes) {
        Ok(envelopes) => envelopes,
        Err(e) => {
            out.push(here(Finding::error("bad_bundle", e.to_string())));
            return;
        }
    };
    let held: std::collections::HashSet<Sha256> = envelopes.iter().map(|e| Sha256::of(e)).collect();
    for head in &details.heads {
        let from = before.get(&head.chain).copied().unwrap_or(0);
        let Some((_, view)) = chains.iter().find(|(c, _)| *c == head.chain) else { continue };
        let lost = view
            .attested
            .iter()
            .find(|a| !a.from_bundle && (from + 1..=head.sequence).contains(&a.sequence()) && !held.contains(&a.sha256));
        if let Some(lost) = lost {
            out.push(here(Finding::error("bad_bundle", format!("it lacks {}", lost.name))));
        }
    }
}

/// The locks of envelopes are at least what a checkpoint recorded.
fn check_locks(chains: &Chains, attested: &Attested, details: &CheckpointDetails, out: &mut Vec<Finding>) {
    for recorded in &details.locks {
        let Some((_, view)) = chains.iter().find(|(c, _)| *c == recorded.chain) else { continue };
        let Some(envelope) = view.attested.iter().find(|a| a.sequence() == recorded.sequence && !a.from_bundle) else { continue };
        let now = envelope.lock.as_ref().and_then(|l| l.until);
        // No instant is before any; what shows no lock at all, as a plain copy does, is told once for the vault.
        if recorded.until.is_some() && envelope.lock.is_some() && now < recorded.until {
            let message = format!("its lock ends before the instant that checkpoint {} recorded", attested.sequence());
            out.push(Finding::error("lock_weakened", message).object(&envelope.name).at(&recorded.chain, recorded.sequence));
        }
    }
}
