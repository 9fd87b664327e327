//! Plans: whole epochs and whole log months past all their locks and under no hold, and who approved that they go.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RetentionError;
use super::standing::Standing;
use crate::store::{LockMode, ObjectInfo, Sha256};
use crate::vault::attestation::{ObjectRef, Statement};
use crate::vault::keys::Signer;
use crate::vault::names::{ChainName, RunId, ShortName, period_folder, period_of};
use crate::vault::{Approval, Kept, Ledger, approvers, disposable_from, needed_elsewhere, strict};

/// So many objects go with one plan: their names must fit into one attestation.
const MOST_OBJECTS: usize = 200_000;
/// The longest line of a plan file, in bytes.
const LONGEST_LINE: usize = 256 << 20;

/// The version of the plan's own format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlanVersion {
    /// The first.
    #[serde(rename = "disposition-plan/1")]
    One,
}

/// What a plan is limited to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlanFilter {
    /// Only this source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ShortName>,
    /// Only this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<ShortName>,
}

/// One object of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanObject {
    /// Logical name.
    pub name: String,
    /// Digest of its bytes.
    pub sha256: Sha256,
    /// Stored bytes of all its versions.
    pub bytes: u64,
    /// When its last lock ended.
    pub lock_until: Option<Timestamp>,
    /// The ids of all its versions; none where the store has no versions.
    pub versions: Vec<String>,
    /// Whether an attestation names it; what an interrupted run left is named by none.
    pub attested: bool,
}

/// One epoch of a source, or one month of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanItem {
    /// The chain.
    pub chain: ChainName,
    /// `2026-11`, `2026-Q4` or `2026`.
    pub period: String,
    /// The folder that goes.
    pub folder: String,
    /// When the last lock in it ended.
    pub lock_until: Option<Timestamp>,
    /// Stored bytes.
    pub bytes: u64,
    /// All its objects, in order of name.
    pub objects: Vec<PlanObject>,
}

/// Why an epoch or a month stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A lock in it has not ended.
    Locked,
    /// A hold stands on something in it.
    Held,
    /// A run outside needs a run in it.
    Needed,
    /// A digest in it is not known, or not the attested one: see to the damage first.
    Differs,
    /// A disposition named it already, and was not finished: apply that plan again.
    Unfinished,
    /// It is for the next plan: this one is full.
    NextPlan,
}

/// What stays, counted by reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Why.
    pub reason: Reason,
    /// Epochs and months.
    pub items: u64,
    /// Objects in them.
    pub objects: u64,
    /// Stored bytes.
    pub bytes: u64,
}

/// What goes, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanTotal {
    /// Epochs and months.
    pub items: u64,
    /// Objects.
    pub objects: u64,
    /// Stored bytes.
    pub bytes: u64,
}

/// What would be destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The version of this format.
    pub backstop: PlanVersion,
    /// The vault.
    pub vault: String,
    /// Digest of its genesis.
    pub genesis_sha256: Sha256,
    /// When, by the store's clock.
    pub created: Timestamp,
    /// What it was limited to.
    pub filter: PlanFilter,
    /// What goes.
    pub items: Vec<PlanItem>,
    /// What stays.
    pub left_out: Vec<LeftOut>,
    /// What goes, counted.
    pub total: PlanTotal,
}

/// Something that stands in the way of a folder.
pub(super) struct Obstacle {
    pub reason: Reason,
    pub message: String,
}

/// What folders are judged by.
pub(super) struct Judge<'a> {
    ledger: &'a Ledger,
    standing: &'a Standing,
    kept: BTreeMap<String, Kept>,
    claims: HashMap<&'a str, Vec<(&'a Statement, &'a ObjectRef)>>,
    needed: HashMap<String, RunId>,
}

impl<'a> Judge<'a> {
    pub fn new(ledger: &'a Ledger, standing: &'a Standing) -> Self {
        let mut claims: HashMap<&str, Vec<(&Statement, &ObjectRef)>> = HashMap::new();
        for attested in &standing.attested {
            for object in &attested.statement.predicate.objects {
                claims.entry(&object.name).or_default().push((&attested.statement, object));
            }
        }
        Self { ledger, standing, kept: standing.kept(None), claims, needed: needed_elsewhere(&standing.attested) }
    }

    /// Whether an attested hold keeps an object.
    pub fn is_kept(&self, name: &str) -> bool {
        self.kept.contains_key(name)
    }

    /// A folder as a plan's item, or what stands in its way.
    pub fn folder(&self, folder: &str, objects: &[(&str, &[ObjectInfo])]) -> Result<PlanItem, Obstacle> {
        let no = |reason, message: String| Err(Obstacle { reason, message });
        let Some((chain, period)) = period_of(folder) else { return no(Reason::Differs, format!("{folder} is no epoch and no month")) };
        if let Some(run) = self.needed.get(folder) {
            return no(Reason::Needed, format!("the run {run} needs what lies in {folder}"));
        }
        let mut out = Vec::with_capacity(objects.len());
        for (name, versions) in objects {
            out.push(self.object(name, versions)?);
        }
        let lock_until = out.iter().filter_map(|o| o.lock_until).max();
        Ok(PlanItem { chain, period, folder: folder.to_owned(), lock_until, bytes: out.iter().map(|o| o.bytes).sum(), objects: out })
    }

    fn object(&self, name: &str, versions: &[ObjectInfo]) -> Result<PlanObject, Obstacle> {
        let no = |reason, message: String| Err(Obstacle { reason, message });
        let now = self.standing.now;
        if self.is_kept(name) || versions.iter().any(|v| v.held) {
            return no(Reason::Held, format!("a legal hold stands on {name}"));
        }
        let claims = self.claims.get(name).map(Vec::as_slice).unwrap_or_default();
        let locks = versions.iter().filter_map(|v| v.lock.as_ref()).filter(|l| l.mode != LockMode::None).filter_map(|l| l.until);
        let ends = locks.chain(claims.iter().map(|(s, o)| disposable_from(s, o)).filter(|end| *end > Timestamp::MIN)).max();
        if let Some(end) = ends.filter(|end| *end > now) {
            return no(Reason::Locked, format!("{name} is locked until {end}"));
        }
        let first = versions.first();
        let recorded = first.and_then(|v| v.recorded_sha256);
        let Some(sha256) = recorded.filter(|sha256| claims.iter().all(|(_, o)| o.sha256 == *sha256)) else {
            return no(Reason::Differs, format!("the digest beside {name} is not known, or not the attested one"));
        };
        if claims.iter().any(|(_, o)| first.is_some_and(|v| v.size != o.size)) {
            return no(Reason::Differs, format!("{name} has not the size that was attested"));
        }
        if self.ledger.disposal_of(name, &sha256).is_some() {
            return no(Reason::Unfinished, format!("{name} was disposed of before, and still stands"));
        }
        Ok(PlanObject {
            name: name.to_owned(),
            sha256,
            bytes: versions.iter().map(|v| v.size).sum(),
            lock_until: ends,
            versions: versions.iter().filter_map(|v| v.version.clone()).collect(),
            attested: !claims.is_empty(),
        })
    }
}

/// Everything that lies in folders which are disposed of as a whole, by folder.
pub(super) fn folders(standing: &Standing) -> BTreeMap<&str, Vec<(&str, &[ObjectInfo])>> {
    let mut out: BTreeMap<&str, Vec<(&str, &[ObjectInfo])>> = BTreeMap::new();
    for (name, versions) in &standing.versions {
        if let Some(folder) = period_folder(name) {
            out.entry(folder).or_default().push((name, versions));
        }
    }
    out
}

/// What could be destroyed now. Nothing is changed.
pub fn make_plan(ledger: &Ledger, filter: PlanFilter) -> Result<Plan, RetentionError> {
    let standing = Standing::read(ledger)?;
    let judge = Judge::new(ledger, &standing);
    let (mut items, mut left): (Vec<PlanItem>, BTreeMap<Reason, LeftOut>) = Default::default();
    let mut total = PlanTotal::default();
    for (folder, objects) in folders(&standing) {
        let of = period_of(folder).map(|(chain, _)| chain);
        let source = filter.source.as_ref().is_none_or(|s| of.as_ref().and_then(ChainName::source).as_ref() == Some(s));
        let stream = filter.stream.as_ref().is_none_or(|s| of.as_ref().and_then(ChainName::stream).as_ref() == Some(s));
        if !source || !stream {
            continue;
        }
        let full = total.items > 0 && total.objects as usize + objects.len() > MOST_OBJECTS;
        let reason = match judge.folder(folder, &objects) {
            Ok(item) if !full => {
                total.items += 1;
                total.objects += item.objects.len() as u64;
                total.bytes += item.bytes;
                items.push(item);
                continue;
            }
            Ok(_) => Reason::NextPlan,
            Err(obstacle) => obstacle.reason,
        };
        let counted = left.entry(reason).or_insert(LeftOut { reason, items: 0, objects: 0, bytes: 0 });
        counted.items += 1;
        counted.objects += objects.len() as u64;
        counted.bytes += objects.iter().flat_map(|(_, versions)| versions.iter()).map(|v| v.size).sum::<u64>();
    }
    Ok(Plan {
        backstop: PlanVersion::One,
        vault: ledger.trust().vault().to_owned(),
        genesis_sha256: ledger.trust().genesis(),
        created: standing.now,
        filter,
        items,
        left_out: left.into_values().collect(),
        total,
    })
}

/// A plan's file: the plan on its first line, an approval on each further one.
#[derive(Debug, Clone)]
pub struct PlanFile {
    /// The plan.
    pub plan: Plan,
    /// Digest of the first line without its line feed.
    pub sha256: Sha256,
    /// The approvals, of which nothing is judged yet.
    pub approvals: Vec<Approval>,
    line: Vec<u8>,
}

impl PlanFile {
    /// A plan that nobody approved yet.
    pub fn new(plan: Plan) -> Result<Self, RetentionError> {
        let line = serde_json::to_vec(&plan).map_err(|e| RetentionError::NotAPlan(e.to_string()))?;
        Ok(Self { plan, sha256: Sha256::of(&line), approvals: Vec::new(), line })
    }

    /// Reads a file and holds it to this vault.
    pub fn read(bytes: &[u8], ledger: &Ledger) -> Result<Self, RetentionError> {
        let bad = |why: String| RetentionError::NotAPlan(why);
        let mut lines = bytes.split(|b| *b == b'\n');
        let line = lines.next().unwrap_or_default();
        if line.len() > LONGEST_LINE {
            return Err(bad("its first line is too long".into()));
        }
        let plan: Plan = strict::from_slice(line).map_err(|e| bad(format!("line 1: {e}")))?;
        if plan.vault != ledger.trust().vault() || plan.genesis_sha256 != ledger.trust().genesis() {
            return Err(RetentionError::OtherVault(plan.vault));
        }
        if plan.items.iter().any(|item| item.objects.iter().any(|o| period_folder(&o.name) != Some(item.folder.as_str()))) {
            return Err(bad("an object does not lie in the folder of its item".into()));
        }
        let sha256 = Sha256::of(line);
        let read = |(n, line): (usize, &[u8])| {
            let approval = Approval::from_envelope(line, ledger.trust().vault(), &sha256);
            approval.ok_or_else(|| {
                bad(format!("line {} is no approval of this plan: the plan was changed after it, or it is another's", n + 2))
            })
        };
        let approvals = lines.enumerate().filter(|(_, line)| !line.is_empty()).map(read).collect::<Result<_, _>>()?;
        Ok(Self { plan, sha256, approvals, line: line.to_vec() })
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.line.clone();
        out.push(b'\n');
        for approval in &self.approvals {
            out.extend(approval.to_envelope(&self.plan.vault, &self.sha256));
            out.push(b'\n');
        }
        out
    }

    /// Different operators who validly approved it, as of now.
    pub fn approved_by(&self, ledger: &Ledger) -> usize {
        approvers(ledger.trust(), &self.approvals, &self.sha256, u64::MAX).len()
    }

    /// Adds an operator's approval.
    pub fn approve(&mut self, ledger: &Ledger, signer: &Signer, name: &str) -> Result<(), RetentionError> {
        let keyid = signer.key_id();
        if ledger.trust().operator_at(&keyid, u64::MAX).is_none() {
            return Err(RetentionError::NotAnOperator(keyid.to_string()));
        }
        if name.trim().is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
            return Err(RetentionError::NoName);
        }
        if approvers(ledger.trust(), &self.approvals, &self.sha256, u64::MAX).contains(&keyid) {
            return Err(RetentionError::ApprovedAlready(keyid.to_string()));
        }
        let now = ledger.store().now()?;
        self.approvals.push(Approval::sign(&self.plan.vault, &self.sha256, name.trim(), now, signer));
        Ok(())
    }
}
