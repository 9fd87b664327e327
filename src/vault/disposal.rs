//! Disposition: what was destroyed after its retention, on whose decision, and what still stands in the way.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::attestation::{ExportDetails, Kind, ObjectRef, SnapshotDetails, Statement};
use super::dsse::{Envelope, EnvelopeSignature, pre_authentication_encoding};
use super::epoch::{locked_until, month_end};
use super::keys::{Signer, base64, from_base64};
use super::ledger::{Attested, Ledger};
use super::names::{Container, RunId, period_folder};
use super::trust::Trust;
use crate::store::{LockMode, Sha256};

/// The payload type of an approval: never that of an attestation.
pub const APPROVAL_TYPE: &str = "application/vnd.backstop.disposition-approval+json";

/// One object that was destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisposedObject {
    /// Logical name.
    pub name: String,
    /// Digest of its bytes.
    pub sha256: Sha256,
}

/// Who approved a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The operator's key.
    pub keyid: Sha256,
    /// Name and role, as given.
    pub name: String,
    /// When, by the store's clock.
    pub at: Timestamp,
    /// Ed25519 over [`Approval::payload`] in DSSE's encoding, in base64.
    pub signature: String,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    backstop: String,
    vault: String,
    plan_sha256: Sha256,
    name: String,
    at: Timestamp,
}

impl Approval {
    /// The bytes that an approver signs.
    pub fn payload(vault: &str, plan: &Sha256, name: &str, at: Timestamp) -> Vec<u8> {
        let backstop = "disposition-approval/1".to_owned();
        let payload = Payload { backstop, vault: vault.to_owned(), plan_sha256: *plan, name: name.to_owned(), at };
        serde_json::to_vec(&payload).unwrap_or_default()
    }

    /// The DSSE envelope of an approval, on one line.
    pub fn to_envelope(&self, vault: &str, plan: &Sha256) -> Vec<u8> {
        let envelope = Envelope {
            payload: base64(&Self::payload(vault, plan, &self.name, self.at)),
            payload_type: APPROVAL_TYPE.to_owned(),
            signatures: vec![EnvelopeSignature { keyid: self.keyid, sig: self.signature.clone() }],
        };
        serde_json::to_vec(&envelope).unwrap_or_default()
    }

    /// Reads the envelope of an approval of a plan; nothing of its signature is judged yet.
    pub fn from_envelope(line: &[u8], vault: &str, plan: &Sha256) -> Option<Self> {
        let envelope = Envelope::parse_as(APPROVAL_TYPE, line)?;
        let bytes = from_base64(&envelope.payload)?;
        let payload: Payload = serde_json::from_slice(&bytes).ok()?;
        let signature = envelope.signatures.into_iter().next()?;
        let approval = Self { keyid: signature.keyid, name: payload.name, at: payload.at, signature: signature.sig };
        (Self::payload(vault, plan, &approval.name, approval.at) == bytes).then_some(approval)
    }

    /// Signs.
    pub fn sign(vault: &str, plan: &Sha256, name: &str, at: Timestamp, signer: &Signer) -> Self {
        let payload = Self::payload(vault, plan, name, at);
        let signature = base64(&signer.sign(&pre_authentication_encoding(APPROVAL_TYPE, &payload)));
        Self { keyid: signer.key_id(), name: name.to_owned(), at, signature }
    }
}

/// The different operators who validly approved a plan by a number of the chain `vault`.
pub fn approvers(trust: &Trust, approvals: &[Approval], plan: &Sha256, number: u64) -> HashSet<Sha256> {
    let valid = |a: &&Approval| {
        let payload = Approval::payload(trust.vault(), plan, &a.name, a.at);
        let signed = pre_authentication_encoding(APPROVAL_TYPE, &payload);
        let key = trust.operator_at(&a.keyid, number);
        key.zip(from_base64(&a.signature)).is_some_and(|(key, signature)| key.verifies(&signed, &signature))
    };
    approvals.iter().filter(valid).map(|a| a.keyid).collect()
}

/// What was removed, and between which instants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Objects of which nothing stands any more.
    pub objects: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// When the removal began.
    pub from: Timestamp,
    /// When it ended.
    pub to: Timestamp,
}

/// Something that the store did not remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRemoved {
    /// Logical name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What a disposition adds to the predicate. The first of a plan names what is disposed of, before anything is
/// removed; the certificate that follows names that run and what was done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DispositionDetails {
    /// What is destroyed.
    pub disposed: Vec<DisposedObject>,
    /// Digest of the approved plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_sha256: Option<Sha256>,
    /// Who approved it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// In a certificate: the disposition that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_of: Option<RunId>,
    /// In a certificate: what was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removed>,
    /// In a certificate: what could not be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_removed: Vec<NotRemoved>,
}

/// One disposition that a vault attests.
#[derive(Debug, Clone)]
pub struct Disposal {
    /// Its run.
    pub run: RunId,
    /// Its number on the chain `vault`.
    pub sequence: u64,
    /// When it was attested.
    pub at: Timestamp,
    /// What it says.
    pub details: DispositionDetails,
    /// Certificates of it.
    pub certificates: Vec<DispositionDetails>,
}

/// Every disposition of a vault.
#[derive(Debug, Default)]
pub struct Disposals {
    list: Vec<Disposal>,
    by_name: HashMap<String, Vec<(Sha256, usize)>>,
}

impl Disposals {
    fn of<'a>(vault_chain: impl IntoIterator<Item = &'a Attested>) -> Self {
        let mut out = Self::default();
        for attested in vault_chain.into_iter().filter(|a| a.statement.kind == Kind::Disposition) {
            let Ok(details) = attested.statement.predicate.details::<DispositionDetails>() else { continue };
            if let Some(of) = details.certificate_of {
                out.list.iter_mut().filter(|d| d.run == of).for_each(|d| d.certificates.push(details.clone()));
                continue;
            }
            for object in &details.disposed {
                out.by_name.entry(object.name.clone()).or_default().push((object.sha256, out.list.len()));
            }
            let p = &attested.statement.predicate;
            let certificates = Vec::new();
            out.list.push(Disposal { run: p.run, sequence: attested.sequence(), at: p.finished, details, certificates });
        }
        out
    }
}

impl Ledger {
    fn all_disposals(&self) -> &Disposals {
        self.disposals.get_or_init(|| Disposals::of(&self.vault_chain().attested))
    }

    /// The dispositions that the chain `vault` attests, in order.
    pub fn disposals(&self) -> &[Disposal] {
        &self.all_disposals().list
    }

    /// The disposition that destroyed an object, if one did.
    pub fn disposal_of(&self, name: &str, sha256: &Sha256) -> Option<&Disposal> {
        let all = self.all_disposals();
        let (_, at) = all.by_name.get(name)?.iter().find(|(digest, _)| digest == sha256)?;
        all.list.get(*at)
    }
}

/// The instant until which the policy that a run was made under keeps one of its objects; none where the policy
/// asks for no lock, or the object's kind has no rule.
pub fn kept_until(statement: &Statement, object: &ObjectRef) -> Option<Timestamp> {
    let predicate = &statement.predicate;
    let container = Container::of(&object.name)?;
    let base = match (statement.kind, container) {
        (_, Container::Attestations) => month_end(predicate.started),
        (Kind::Snapshot, _) => predicate.details::<SnapshotDetails>().ok()?.epoch.end,
        (Kind::Export, _) => month_end(predicate.details::<ExportDetails>().ok()?.window.map_or(predicate.started, |w| w.from)),
        (Kind::Disposition, Container::Evidence) => month_end(predicate.started),
        _ => return None,
    };
    Some(locked_until(base, predicate.retention.of(container), predicate.grace))
}

/// When an object may be disposed of: after its policy, and after the lock that it got.
pub fn disposable_from(statement: &Statement, object: &ObjectRef) -> Timestamp {
    let policy = kept_until(statement, object).unwrap_or(Timestamp::MIN);
    let lock = object.lock.until.filter(|_| object.lock.mode != LockMode::None).unwrap_or(Timestamp::MIN);
    policy.max(lock)
}

/// Runs outside a folder that need a run whose objects lie in it, by folder: no such folder can go alone.
pub fn needed_elsewhere<'a>(attested: impl IntoIterator<Item = &'a Attested> + Clone) -> HashMap<String, RunId> {
    let mut folders: HashMap<RunId, &str> = HashMap::new();
    for a in attested.clone() {
        let p = &a.statement.predicate;
        folders.extend(p.objects.iter().filter_map(|o| period_folder(&o.name)).map(|folder| (p.run, folder)));
    }
    let mut out = HashMap::new();
    for a in attested.into_iter().filter(|a| a.statement.kind == Kind::Snapshot) {
        let run = a.statement.predicate.run;
        let Ok(details) = a.statement.predicate.details::<SnapshotDetails>() else { continue };
        for need in details.segments_from.iter().chain(&details.base) {
            let (theirs, own) = (folders.get(need), folders.get(&run));
            if let Some(theirs) = theirs.filter(|f| own.is_some_and(|own| own != *f)) {
                out.insert((*theirs).to_owned(), run);
            }
        }
    }
    out
}
