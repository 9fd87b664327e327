//! The record of a drill: sealed with the names, and attested in numbers.

use jiff::Timestamp;
use serde_json::json;

use super::{DrillError, DrillJob};
use crate::store::Body;
use crate::vault::attestation::{DrillDetails, EarlierDrill, Kind, Outcome};
use crate::vault::epoch::{Epoch, EpochKind};
use crate::vault::names::{self, ChainName, Container, RunId};
use crate::vault::seal::{Frames, Tuning, seal};
use crate::vault::{Attested, Draft};

/// What an earlier drill came to.
pub fn earlier(attested: &Attested) -> Option<EarlierDrill> {
    let p = &attested.statement.predicate;
    let details: DrillDetails = p.details().ok()?;
    Some(EarlierDrill {
        run: p.run,
        finished: p.finished,
        scenario: details.scenario,
        passed: details.passed,
        rto_achieved_seconds: details.rto_achieved_seconds,
        worst_rpo_seconds: details.rpo.iter().filter(|r| r.objective_seconds.is_some()).filter_map(|r| r.achieved_seconds).max(),
    })
}

/// Seals the record with the runbook as it was, and attests it; gives its number.
pub fn commit(
    job: &DrillJob<'_>,
    run: RunId,
    started: Timestamp,
    outcome: Outcome,
    details: &DrillDetails,
    problems: &[String],
) -> Result<u64, DrillError> {
    let writer = job.writer;
    let document = json!({
        "run": run, "outcome": outcome, "drill": details, "problems": problems, "runbook": job.runbook.text,
        "program": writer.agent, "signer": writer.signer.key_id(),
    });
    let sealed = seal(document.to_string().as_bytes(), &mut Frames::new(Tuning::Level(9))?, &writer.recipients)?;
    let epoch = Epoch::containing(started, EpochKind::Month);
    let lock = writer.lock_from(Container::Evidence, epoch.end());
    let name = names::drill_record(&epoch, run);
    let mut objects = vec![writer.put(&name, Body::Bytes(&sealed.bytes), &sealed.sha256, sealed.bytes.len() as u64, &lock)?];
    objects.extend(writer.put_policy(job.policy, started)?);
    let details_of = serde_json::Map::new();
    let draft = Draft { kind: Kind::Drill, chain: ChainName::drill(), run, started, outcome, objects, details: details_of };
    let draft = draft.with_details(details)?;
    Ok(writer.commit(&draft, |_| true, |_| Ok(()))?.sequence)
}
