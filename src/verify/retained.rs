//! Holds and dispositions against the store, and what is due for review.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::objects::{Versions, meant};
use super::{AuditError, AuditJob, Chains, Finding};
use crate::store::{LockMode, ObjectInfo};
use crate::vault::attestation::{Kind, ObjectRef};
use crate::vault::names::{ChainName, period_folder, period_of};
use crate::vault::{Attested, DispositionDetails, Hold, HoldDetails, Kept, approvers, disposable_from, holds_in};

/// Review begins so long before a lock ends.
const REVIEW: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What holds in force keep, by name, with the hold.
type Expected<'a> = BTreeMap<String, (Kept, &'a Hold)>;

pub(super) fn check(job: &AuditJob<'_>, chains: &Chains, stored: &Versions, out: &mut Vec<Finding>) -> Result<(), AuditError> {
    let attested: Vec<&Attested> = chains.iter().flat_map(|(_, view)| &view.attested).collect();
    let holds = holds_in(attested.iter().copied());
    let mut expected = Expected::new();
    for hold in holds.iter().filter(|h| h.in_force()) {
        for (name, kept) in hold.keeps(attested.iter().copied()) {
            expected.entry(name).or_insert((kept, hold));
        }
    }
    details(&attested, out);
    // A plain copy has neither locks nor holds.
    if !job.ignore_locks {
        held(&expected, &holds, &attested, stored, out);
    }
    dispositions(job, &holds, &attested, stored, out);
    if !job.ignore_locks {
        review(job, chains, &expected, stored, out)?;
    }
    Ok(())
}

/// Holds and dispositions that say nothing which could be read.
fn details(attested: &[&Attested], out: &mut Vec<Finding>) {
    for a in attested {
        let problem = match a.statement.kind {
            Kind::Hold => a.statement.predicate.details::<HoldDetails>().err(),
            Kind::Disposition => a.statement.predicate.details::<DispositionDetails>().err(),
            _ => None,
        };
        if let Some(e) = problem {
            let message = format!("its details cannot be read, and it counts for nothing: {e}");
            out.push(Finding::warning("not_a_statement", message).object(&a.name).at(&ChainName::vault(), a.sequence()));
        }
    }
}

fn held(expected: &Expected<'_>, holds: &[Hold], attested: &[&Attested], stored: &Versions, out: &mut Vec<Finding>) {
    for (name, (kept, hold)) in expected {
        let object = ObjectRef {
            name: name.clone(),
            sha256: kept.sha256,
            size: 0,
            version: kept.version.clone(),
            lock: crate::store::LockState {
                mode: LockMode::None,
                until: None,
                enforced_by: crate::store::EnforcedBy::Service,
                container: None,
            },
        };
        let Some(info) = meant(stored, &object) else { continue };
        let here = |f: Finding| f.object(name).at(&ChainName::vault(), hold.sequence);
        if !info.held {
            let message = format!(
                "the hold {} covers it, and the store does not hold it: say `backstop hold add` with the same scope and reason again",
                hold.hold
            );
            out.push(here(Finding::error("not_held", message)));
        }
        if let (Some(until), Some(lock)) = (hold.until, &info.lock)
            && lock.mode != LockMode::None
            && lock.until.is_none_or(|end| end < until)
        {
            let said = lock.until.map_or_else(|| "no instant".to_owned(), |end| end.to_string());
            out.push(here(Finding::error("short_lock", format!("it is locked until {said}; the hold {} demands {until}", hold.hold))));
        }
    }
    let mut unexplained: Vec<&str> = stored
        .iter()
        .filter(|(name, v)| v.iter().any(|i| i.held) && !expected.contains_key(*name))
        .map(|(name, _)| name.as_str())
        .collect();
    unexplained.sort_unstable();
    if let Some(first) = unexplained.first() {
        // What an interrupted removal left is known by its name.
        let removed = holds.iter().find(|h| !h.in_force() && h.keeps(attested.iter().copied()).contains_key(*first));
        let hint = match removed {
            Some(hold) => format!("the hold {} was removed: `backstop hold remove` it again to lift what it left", hold.hold),
            None => "an interrupted `backstop hold add` left it, or somebody set it: run that again, or see who did".to_owned(),
        };
        let message = format!("{} objects are held in the store, and no hold in force explains it; {hint}", unexplained.len());
        out.push(Finding::warning("unexplained_hold", message).object(first));
    }
}

/// Each disposition: approved by two, of nothing that was locked or held, and finished.
fn dispositions(job: &AuditJob<'_>, holds: &[Hold], attested: &[&Attested], stored: &Versions, out: &mut Vec<Finding>) {
    if job.ledger.disposals().is_empty() {
        return;
    }
    let mut ends: HashMap<&str, Timestamp> = HashMap::new();
    for a in attested {
        for object in &a.statement.predicate.objects {
            let end = ends.entry(&object.name).or_insert(Timestamp::MIN);
            *end = (*end).max(disposable_from(&a.statement, object));
        }
    }
    for disposal in job.ledger.disposals() {
        let here = |f: Finding| f.at(&ChainName::vault(), disposal.sequence);
        let by = disposal
            .details
            .plan_sha256
            .map_or(0, |plan| approvers(job.ledger.trust(), &disposal.details.approvals, &plan, disposal.sequence).len());
        if by < 2 {
            let message = format!("{by} operator(s) validly approved the disposition {}, and it needs two", disposal.run);
            out.push(here(Finding::error("improper_disposal", message)));
        }
        let then: Vec<BTreeMap<String, Kept>> =
            holds.iter().filter(|h| h.in_force_at(disposal.sequence)).map(|h| h.keeps(attested.iter().copied())).collect();
        let mut standing = Vec::new();
        for object in &disposal.details.disposed {
            if let Some(end) = ends.get(object.name.as_str()).filter(|end| **end > disposal.at) {
                let message = format!("it was disposed of at {}, and was to be kept until {end}", disposal.at);
                out.push(here(Finding::error("improper_disposal", message)).object(&object.name));
            } else if period_folder(&object.name).is_none() {
                let message = "it is kept for ever, and a disposition names it";
                out.push(here(Finding::error("improper_disposal", message)).object(&object.name));
            } else if then.iter().any(|kept| kept.contains_key(&object.name)) {
                let message = "it was disposed of while a legal hold covered it";
                out.push(here(Finding::error("improper_disposal", message)).object(&object.name));
            }
            if stored.contains_key(&object.name) {
                standing.push(object.name.as_str());
            }
        }
        if let Some(first) = standing.first() {
            let certified = if disposal.certificates.is_empty() { "" } else { "; the certificate says why" };
            let message = format!(
                "{} of the {} objects that the disposition {} names still stand{certified}: `backstop dispose apply` its plan again",
                standing.len(),
                disposal.details.disposed.len(),
                disposal.run
            );
            out.push(here(Finding::warning("disposal_unfinished", message)).object(first));
        } else if disposal.certificates.is_empty() {
            let message = format!("the disposition {} has no certificate yet: `backstop dispose apply` its plan again", disposal.run);
            out.push(here(Finding::warning("disposal_unfinished", message)));
        }
    }
}

/// Epochs and log months whose locks end soon, or have ended.
#[derive(Default)]
struct Due {
    objects: u64,
    bytes: u64,
    earliest: Option<Timestamp>,
    held: bool,
}

fn review(
    job: &AuditJob<'_>,
    chains: &Chains,
    expected: &Expected<'_>,
    stored: &Versions,
    out: &mut Vec<Finding>,
) -> Result<(), AuditError> {
    let now = job.ledger.store().now()?;
    let soon = now.checked_add(REVIEW).unwrap_or(Timestamp::MAX);
    let mut due: BTreeMap<&str, Due> = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    for (_, view) in chains {
        for a in &view.attested {
            for object in &a.statement.predicate.objects {
                let Some(folder) = period_folder(&object.name) else { continue };
                let Some(info) = meant(stored, object) else { continue };
                if job.ledger.disposal_of(&object.name, &object.sha256).is_some() || !seen.insert(&object.name) {
                    continue;
                }
                let shown = |info: &ObjectInfo| info.lock.as_ref().filter(|l| l.mode != LockMode::None).and_then(|l| l.until);
                let end = disposable_from(&a.statement, object).max(shown(info).unwrap_or(Timestamp::MIN));
                let group = due.entry(folder).or_default();
                group.objects += 1;
                group.bytes += info.size;
                group.earliest = Some(group.earliest.map_or(end, |e| e.min(end)));
                group.held |= info.held || expected.contains_key(&object.name);
            }
        }
    }
    for (folder, group) in due {
        let Some((end, (chain, period))) = group.earliest.filter(|end| *end <= soon && !group.held).zip(period_of(folder)) else {
            continue;
        };
        let when = if end <= now { format!("ended at {end}") } else { format!("ends at {end}") };
        let message = format!(
            "{period}: {} objects, {} bytes; their first lock {when}. Review them: `backstop hold add` keeps them, `backstop dispose plan` \
             lists what may go once every lock has ended; until then nothing is deleted",
            group.objects, group.bytes
        );
        let mut finding = Finding::warning("review_due", message).object(folder);
        finding.chain = Some(chain);
        out.push(finding);
    }
    Ok(())
}
