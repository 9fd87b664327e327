//! The record of a test: sealed in full, since it names records, and attested in numbers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::tally::{Check, Count, Problem};
use super::{RestoreTestError, StillGood, TestJob};
use crate::store::Body;
use crate::vault::attestation::{CheckRecord, Kind, Outcome, RestoreTestDetails};
use crate::vault::epoch::{Epoch, EpochKind};
use crate::vault::names::{self, ChainName, Container, RunId};
use crate::vault::seal::{Frames, Tuning, seal};
use crate::vault::{CommitError, Draft};

/// So many problems stand in the record; their number stands in the attestation.
const MOST: usize = 100_000;

/// What is recorded.
#[derive(Serialize)]
pub struct Record<'a> {
    pub run: RunId,
    pub started: Timestamp,
    pub outcome: Outcome,
    #[serde(flatten)]
    pub details: &'a RestoreTestDetails,
    pub problems: &'a [Problem],
    pub skipped: &'a [String],
    pub notes: &'a [String],
    pub still_good: &'a [StillGood],
}

/// The checks as attestations name them.
pub fn checks(counts: &BTreeMap<Check, Count>) -> Vec<CheckRecord> {
    let record = |check: &Check| {
        let count = counts.get(check).copied().unwrap_or_default();
        let outcome = match count {
            Count { failed: 1.., .. } => "failed",
            Count { ran: 0, .. } => "skipped",
            _ => "passed",
        };
        CheckRecord { name: check.as_str().to_owned(), outcome: outcome.to_owned(), count: count.ran, failed: count.failed }
    };
    Check::ALL.iter().map(record).collect()
}

/// Seals the record, and attests it; gives its number.
pub fn commit(job: &TestJob<'_>, record: &Record<'_>) -> Result<u64, RestoreTestError> {
    let writer = job.writer;
    let Record { problems, .. } = record;
    let short = Record { problems: &problems[..problems.len().min(MOST)], ..*record };
    let text = serde_json::to_vec(&short).map_err(CommitError::Encode)?;
    let sealed = seal(&text, &mut Frames::new(Tuning::Level(9))?, &writer.recipients)?;
    let epoch = Epoch::containing(record.started, EpochKind::Month);
    let lock = writer.lock_from(Container::Evidence, epoch.end());
    let name = names::test_record(&epoch, record.run);
    let mut objects = vec![writer.put(&name, Body::Bytes(&sealed.bytes), &sealed.sha256, sealed.bytes.len() as u64, &lock)?];
    objects.extend(writer.put_policy(job.policy, record.started)?);
    let draft = Draft {
        kind: Kind::RestoreTest,
        chain: ChainName::restore_test(),
        run: record.run,
        started: record.started,
        outcome: record.outcome,
        objects,
        details: serde_json::Map::new(),
    };
    let committed = writer.commit(&draft.with_details(record.details)?, |_| true, |_| Ok(()))?;
    Ok(committed.sequence)
}
