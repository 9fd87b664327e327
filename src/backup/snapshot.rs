//! One snapshot of one source: base or delta, sealed, locked, committed.

use std::collections::BTreeSet;
use std::fs::File;

use jiff::{SignedDuration, Timestamp};

use super::collect::{Collected, CollectionCount, Collector, Counts, Naming, segment_of};
use super::error::SnapshotError;
use super::journal::JournalWriter;
use super::pipeline::Pipeline;
use super::plan::{Joined, Plan, Standing};
use super::put_policy;
use super::state::{StateDir, StateHeader, StateSegment};
use crate::observe::{Event, Monitor};
use crate::source::Source;
use crate::store::{Body, ObjectInfo};
use crate::vault::Written;
use crate::vault::attestation::{CollectionOutcome, CollectionRecord, EpochSpan, Kind, Outcome, SnapshotDetails, SnapshotKind};
use crate::vault::epoch::{Epoch, EpochKind};
use crate::vault::manifest::{Header, HeaderCollection, ManifestVersion, SegmentRef};
use crate::vault::names::{self, ChainName, Container, RunId, ShortName, period_folder};
use crate::vault::{Attested, ChainView, CommitError, Draft, Writer};

/// What a snapshot is made of.
pub struct SnapshotJob<'a> {
    /// The source's name.
    pub name: &'a ShortName,
    /// The source.
    pub source: &'a dyn Source,
    /// Where its objects go.
    pub container: Container,
    /// The length of its epochs.
    pub epoch: EpochKind,
    /// Whether entries carry mode and modification time.
    pub metadata: bool,
    /// Who writes.
    pub writer: &'a Writer,
    /// The policy's bytes.
    pub policy: &'a [u8],
    /// The state directory of this source.
    pub state: &'a StateDir,
    /// zstd's level; the one tuned for this kind of data unless said.
    pub level: Option<i32>,
    /// Worker threads.
    pub threads: usize,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

/// What a snapshot did.
#[derive(Debug, Clone)]
pub struct SnapshotReport {
    /// The run.
    pub run: RunId,
    /// Its chain.
    pub chain: ChainName,
    /// Its number.
    pub sequence: u64,
    /// Base or delta.
    pub kind: SnapshotKind,
    /// How it ended.
    pub outcome: Outcome,
    /// When reading began.
    pub captured: Timestamp,
    /// Entries in the snapshot.
    pub entries: u64,
    /// Entries that are new or changed.
    pub changed: u64,
    /// Entries that are gone.
    pub deleted: u64,
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// Bytes of the objects that this run wrote or adopted.
    pub stored_bytes: u64,
    /// How many objects.
    pub objects: u64,
    /// Of them: adopted from interrupted runs.
    pub adopted: u64,
    /// Digest over the state.
    pub tree_sha256: crate::store::Sha256,
    /// By collection.
    pub collections: Vec<CollectionRecord>,
    /// Collections that lost more than half of their records, and some ten at least: name, records before, records now.
    pub shrunk: Vec<(String, u64, u64)>,
    /// Why this base is one, where a delta might have been expected.
    pub why_base: Option<&'static str>,
    /// Until when its segments and manifest are locked, if they are.
    pub lock_until: Option<Timestamp>,
}

/// The newest snapshot on a chain that did not fail.
fn newest(view: &ChainView) -> Option<&Attested> {
    view.attested.iter().rev().find(|a| is_snapshot(a))
}

fn is_snapshot(attested: &Attested) -> bool {
    attested.statement.kind == Kind::Snapshot && attested.statement.predicate.outcome != Outcome::Failed
}

/// Captures and commits a snapshot.
#[tracing::instrument(skip_all, fields(source = %job.name))]
pub fn snapshot(job: &SnapshotJob<'_>) -> Result<SnapshotReport, SnapshotError> {
    let _taken = job.state.lock().map_err(SnapshotError::State)?.ok_or_else(|| SnapshotError::Busy(job.name.to_string()))?;
    match attempt(job, false) {
        Err(SnapshotError::NotStanding(object)) => {
            job.monitor.event(Event::Warning(format!("{object} no longer stands as it was attested: everything is written again")));
            attempt(job, true)
        }
        other => other,
    }
}

fn attempt(job: &SnapshotJob<'_>, all_anew: bool) -> Result<SnapshotReport, SnapshotError> {
    let started = job.writer.now()?;
    let chain = ChainName::snapshot(job.name);
    let run = RunId::new(started);
    let epoch = Epoch::containing(started, job.epoch);
    let view = job.writer.ledger.chain_until(&chain, is_snapshot)?;
    let previous = newest(&view).cloned();
    let mut plan = Plan::new(job, &epoch, previous.as_ref(), all_anew)?;
    let mut attempt = Attempt { job, run, chain, epoch, started, previous, written: Vec::new() };
    let result = attempt.run(&mut plan);
    if let Err(error) = &result
        && !attempt.written.is_empty()
    {
        attempt.commit_failed(error);
    }
    result
}

/// One attempt at a snapshot.
struct Attempt<'a> {
    job: &'a SnapshotJob<'a>,
    run: RunId,
    chain: ChainName,
    epoch: Epoch,
    started: Timestamp,
    previous: Option<Attested>,
    /// What reached the store.
    written: Vec<Written>,
}

impl Attempt<'_> {
    fn run(&mut self, plan: &mut Plan) -> Result<SnapshotReport, SnapshotError> {
        let job = self.job;
        let old_header = plan.state.as_ref().map(|s| s.header().clone());
        let mut table: Vec<StateSegment> = old_header.as_ref().map(|h| h.segments.clone()).unwrap_or_default();
        let offset = u32::try_from(table.len()).unwrap_or(u32::MAX);
        let salvaged: Vec<(SegmentRef, u64)> = plan.salvage.as_ref().map(|s| s.segments().to_vec()).unwrap_or_default();
        table.extend(salvaged.iter().map(|(object, _)| StateSegment { object: object.clone(), run: self.run }));
        if let Some(h) = &old_header {
            job.monitor.event(Event::Expect { records: h.entries, bytes: 0 });
        }
        let joined = Joined::new(plan.state.take(), plan.salvage.take(), offset).map_err(SnapshotError::State)?;
        let naming = Naming { container: job.container, source: job.name, epoch: self.epoch, run: self.run };
        let base = plan.kind == SnapshotKind::Base;
        let mut collector = Collector::new(naming, job.monitor, base, job.level, job.state, table, job.source.collections())?;
        let journal = JournalWriter::create(job.state, &plan.key, self.run).map_err(SnapshotError::State)?;
        let pipeline = Pipeline {
            source: job.source,
            metadata: job.metadata,
            writer: job.writer,
            lock: plan.lock,
            level: job.level,
            threads: job.threads,
            monitor: job.monitor,
        };
        let (stored, result) = pipeline.run(joined, &mut collector, journal);
        self.written.extend(stored.into_iter().map(|(_, object)| object));
        result?;
        job.source.still_there()?;
        let mut collected = collector.finish();
        for (n, object) in self.written.iter().enumerate() {
            collected.table[collected.first_new as usize + n] = Some(segment_of(object, self.run));
        }
        let table: Vec<StateSegment> = collected.table.iter().flatten().cloned().collect();
        let adopted = self.adopt(plan, &collected, &salvaged, offset)?;
        self.finish(plan, old_header, collected, table, adopted)
    }

    /// Adds the salvaged objects that the state needs to those that this run attests.
    fn adopt(&mut self, plan: &Plan, collected: &Collected, salvaged: &[(SegmentRef, u64)], offset: u32) -> Result<u64, SnapshotError> {
        let mut adopted = 0;
        for (n, (object, size)) in salvaged.iter().enumerate() {
            if !collected.needed.get(offset as usize + n).copied().unwrap_or(false) {
                continue;
            }
            let gone = || SnapshotError::NotStanding(object.name.clone());
            let info = self.job.writer.ledger.store().head(&object.name)?.ok_or_else(gone)?;
            let ObjectInfo { name, version, lock, .. } = info;
            // Measured anew: what the epoch demands is what an adopted object must have.
            let lock = Some(lock.ok_or_else(gone)?);
            self.written.push(Written { name, sha256: object.sha256, size: *size, version, asked: plan.lock, lock });
            adopted += 1;
        }
        Ok(adopted)
    }

    fn finish(
        &mut self,
        plan: &Plan,
        old: Option<StateHeader>,
        collected: Collected,
        table: Vec<StateSegment>,
        adopted: u64,
    ) -> Result<SnapshotReport, SnapshotError> {
        let job = self.job;
        let counts = collected.counts.clone();
        let base = match (&old, plan.kind) {
            (Some(old), SnapshotKind::Delta) => old.base,
            _ => self.run,
        };
        let previous_run = self.previous.as_ref().map(|p| p.statement.predicate.run);
        let collections = self.collections(&counts, plan.kind, old.is_some());
        let manifest = self.put_manifest(
            plan,
            collected.lines,
            Header {
                backstop: ManifestVersion::One,
                kind: plan.kind,
                source: job.name.clone(),
                run: self.run,
                base,
                previous_snapshot: previous_run,
                entries: counts.lines,
                total_entries: counts.entries,
                tree_sha256: collected.tree_sha256,
                collections: job
                    .source
                    .collections()
                    .into_iter()
                    .zip(&collections)
                    .map(|(c, r)| HeaderCollection {
                        name: c.name,
                        prefix: c.prefix,
                        outcome: r.outcome,
                        as_of: r.as_of,
                        absent_since: r.absent_since,
                    })
                    .collect(),
                segments: collected.header_order.iter().map(|n| table[*n as usize].object.clone()).collect(),
            },
        )?;
        self.written.push(manifest.clone());

        let mut manifests = match (&old, plan.kind) {
            (Some(old), SnapshotKind::Delta) => old.manifests.clone(),
            _ => Vec::new(),
        };
        manifests.push(SegmentRef { name: manifest.name, sha256: manifest.sha256 });
        job.writer.measure(&mut self.written).map_err(|e| match e {
            // The store lost it, or failed over: it is written again.
            CommitError::Vanished { name } => SnapshotError::NotStanding(name),
            other => other.into(),
        })?;
        let needed: Vec<&StateSegment> = table.iter().zip(&collected.needed).filter(|(_, needed)| **needed).map(|(s, _)| s).collect();
        let standing = Standing::list(job, &plan.key.epoch_folder, &plan.lock)?;
        if let Some(lost) = needed.iter().map(|s| &s.object).chain(&manifests).find(|o| !standing.holds(o, None)) {
            return Err(SnapshotError::NotStanding(lost.name.clone()));
        }
        // A run whose manifest is needed counts too, also where it brought nothing but deletions.
        let mut segments_from: BTreeSet<RunId> = manifests.iter().filter_map(|m| names::run_of(&m.name)).collect();
        segments_from.extend(needed.iter().map(|s| s.run));
        segments_from.insert(self.run);

        let outcome = if counts.problems == 0 { Outcome::Complete } else { Outcome::Partial };
        let details = SnapshotDetails {
            snapshot_kind: plan.kind,
            base: Some(base),
            previous_snapshot: previous_run,
            segments_from: segments_from.into_iter().collect(),
            epoch: EpochSpan { start: self.epoch.start(), end: self.epoch.end() },
            tree_sha256: Some(collected.tree_sha256),
            captured: self.started,
            collections: collections.clone(),
            entries: counts.entries,
            error_code: None,
        };
        let objects = self.written.clone();
        let mut draft = self.draft(outcome, objects.clone()).with_details(&details)?;
        if let Some(policy) = put_policy(job.writer, job.policy, self.started)? {
            draft.objects.push(policy);
        }
        let grace_ends = plan_grace_end(&self.epoch, job.writer);
        let built_on = self.previous.as_ref().map(|p| p.sha256);
        let committed = job.writer.commit(&draft, is_snapshot, |view| {
            let head = newest(view);
            if head.map(|h| h.sha256) != built_on {
                let other = head.map_or_else(|| "none".to_owned(), |h| h.statement.predicate.run.to_string());
                return Err(CommitError::Dropped(format!(
                    "another agent committed the snapshot {other} on {} since this one began",
                    self.chain
                )));
            }
            let later = head
                .and_then(|h| h.statement.predicate.details::<SnapshotDetails>().ok())
                .is_some_and(|d| d.epoch.start > self.epoch.start());
            if later {
                return Err(CommitError::Dropped("a later epoch has begun on the chain".into()));
            }
            match job.writer.ledger.store().now()? {
                now if now > grace_ends => Err(CommitError::Dropped(format!("the grace after the epoch {} has passed", self.epoch))),
                _ => Ok(()),
            }
        })?;
        if counts.entries == 0 && counts.deleted > 0 {
            let lost = counts.deleted;
            let message =
                format!("{} is empty, and its {lost} records are recorded as deleted (is it mounted, and the right one?)", job.name);
            job.monitor.event(Event::Warning(message));
        }
        // From here on the snapshot is committed: a state that cannot be written costs one base, nothing else.
        let lines = counts.lines + if plan.kind == SnapshotKind::Delta { old.as_ref().map_or(0, |o| o.lines_since_base) } else { 0 };
        let header = StateHeader {
            vault: plan.key.vault.clone(),
            head: committed.sha256,
            run: self.run,
            epoch_start: self.epoch.start(),
            container: job.container.as_str().to_owned(),
            recipients: plan.key.recipients,
            base,
            base_captured: match (&old, plan.kind) {
                (Some(old), SnapshotKind::Delta) => old.base_captured,
                _ => self.started,
            },
            lines_since_base: if plan.kind == SnapshotKind::Base { 0 } else { lines },
            entries: counts.entries,
            manifests,
            segments: table,
        };
        let kept = collected.state.commit(job.state, &header).and_then(|()| job.state.forget_journals());
        if let Err(e) = kept {
            let message = format!("the snapshot is committed, but its local state could not be kept ({e}): the next one will be a base");
            job.monitor.event(Event::Warning(message));
        }
        Ok(SnapshotReport {
            run: self.run,
            chain: self.chain.clone(),
            sequence: committed.sequence,
            kind: plan.kind,
            outcome,
            captured: self.started,
            entries: counts.entries,
            changed: counts.changed,
            deleted: counts.deleted,
            read_bytes: counts.read_bytes,
            stored_bytes: objects.iter().map(|o| o.size).sum(),
            objects: objects.len() as u64,
            adopted,
            tree_sha256: collected.tree_sha256,
            shrunk: self.shrunk(&collections),
            collections,
            why_base: plan.why_base,
            // Not of the policy, which is locked by another rule.
            lock_until: committed.objects.iter().filter(|o| period_folder(&o.name).is_some()).filter_map(|o| o.lock.until).min(),
        })
    }

    /// What emptied since the snapshot before: more often a lost permission than a decision.
    fn shrunk(&self, now: &[CollectionRecord]) -> Vec<(String, u64, u64)> {
        let before = self.collections_before();
        let lost = |c: &CollectionRecord| {
            let had = before.iter().find(|b| b.name == c.name)?.count;
            (c.outcome != CollectionOutcome::Absent && had > 2 * c.count && had - c.count > 10).then(|| (c.name.clone(), had, c.count))
        };
        now.iter().filter_map(lost).collect()
    }

    fn collections_before(&self) -> Vec<CollectionRecord> {
        let details = self.previous.as_ref().and_then(|p| p.statement.predicate.details::<SnapshotDetails>().ok());
        details.map_or_else(Vec::new, |d| d.collections)
    }

    /// How each collection ended. One that failed is carried where there is something to carry; a base without it
    /// says that it is absent. Neither is a deletion.
    fn collections(&self, counts: &Counts, kind: SnapshotKind, carried: bool) -> Vec<CollectionRecord> {
        let before = self.collections_before();
        let record = |c: &CollectionCount| {
            let earlier = before.iter().find(|b| b.name == c.collection.name);
            let held = earlier.filter(|_| carried).and_then(|e| e.as_of);
            let outcome = match c {
                _ if c.problems == 0 => CollectionOutcome::Complete,
                _ if !c.failed => CollectionOutcome::Partial,
                _ if kind == SnapshotKind::Delta || held.is_some() => CollectionOutcome::Failed,
                _ => CollectionOutcome::Absent,
            };
            let there = matches!(outcome, CollectionOutcome::Complete | CollectionOutcome::Partial);
            let since = || earlier.and_then(|e| e.absent_since).unwrap_or(self.started);
            CollectionRecord {
                name: c.collection.name.clone(),
                outcome,
                count: c.entries,
                as_of: if there { Some(self.started) } else { held },
                error_code: c.first_code.map(str::to_owned),
                absent_since: (!there && held.is_none()).then(since),
            }
        };
        counts.collections.iter().map(record).collect()
    }

    fn put_manifest(&self, plan: &Plan, lines: crate::vault::seal::LineSpool, header: Header) -> Result<Written, SnapshotError> {
        let mut text = serde_json::to_vec(&header).map_err(CommitError::Encode)?;
        text.push(b'\n');
        let file = tempfile::NamedTempFile::new_in(self.job.state.path()).map_err(SnapshotError::State)?;
        let out: File = file.reopen().map_err(SnapshotError::State)?;
        let (sha256, size) = lines.seal(&text, &self.job.writer.recipients, out)?;
        let name = names::manifest(self.job.container, self.job.name, &self.epoch, self.run);
        let object = self.job.writer.put(&name, Body::File(file.path()), &sha256, size, &plan.lock)?;
        self.job.monitor.event(Event::Stored { name, bytes: size });
        Ok(object)
    }

    fn draft(&self, outcome: Outcome, objects: Vec<Written>) -> Draft {
        Draft {
            kind: Kind::Snapshot,
            chain: self.chain.clone(),
            run: self.run,
            started: self.started,
            outcome,
            objects,
            details: serde_json::Map::new(),
        }
    }

    /// Says on the chain that this run failed after it wrote objects, if that still can be said.
    fn commit_failed(&self, error: &SnapshotError) {
        let details = SnapshotDetails {
            snapshot_kind: SnapshotKind::Base,
            base: None,
            previous_snapshot: self.previous.as_ref().map(|p| p.statement.predicate.run),
            segments_from: Vec::new(),
            epoch: EpochSpan { start: self.epoch.start(), end: self.epoch.end() },
            tree_sha256: None,
            captured: self.started,
            collections: Vec::new(),
            entries: 0,
            error_code: Some(error.code().to_owned()),
        };
        let draft = self.draft(Outcome::Failed, self.written.clone()).with_details(&details);
        let committed = draft.and_then(|draft| self.job.writer.commit(&draft, |_| true, |_| Ok(())));
        if let Err(e) = committed {
            self.job.monitor.event(Event::Warning(format!("that this run failed could not be attested: {e}")));
        }
    }
}

fn plan_grace_end(epoch: &Epoch, writer: &Writer) -> Timestamp {
    let grace = SignedDuration::from_hours(i64::from(writer.grace.days) * 24);
    epoch.end().checked_add(grace).unwrap_or(Timestamp::MAX)
}
