//! One unit of a source: a recovery point restored and looked at, and every record of the earlier states of its epoch proved.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Instant;

use super::RestoreTestError;
use super::bench::{Bench, Proof};
use super::documents::{Here, Known, Look};
use super::draw::Unit;
use super::history::prove_history;
use super::plan::Plan;
use super::spool::Spool;
use super::tally::Check;
use crate::restore::{Existing, FilesJob, Pick, RestoreError, TreeInfo, open_manifest, read_history, restore_tree};
use crate::vault::Attested;
use crate::vault::attestation::{ObjectRef, SnapshotDetails};
use crate::vault::manifest::{Content, Entry};
use crate::vault::names;

/// Entries that are handed to a thread at once.
const BATCH: usize = 64;

/// Restores and checks one recovery point of a unit, and proves the rest of the unit.
#[tracing::instrument(skip_all, fields(chain = %unit.chain))]
pub fn prove(bench: &Bench<'_>, unit: &Unit<'_>, point: &Attested) -> Result<Proof, RestoreTestError> {
    let mut proof = Proof::default();
    let data = unit.runs.iter().flat_map(|a| &a.statement.predicate.objects).filter(|o| names::period_folder(&o.name).is_some());
    let objects: Vec<&ObjectRef> = data.collect();
    let archived = bench.archived(&objects)?;
    proof.archived = objects.iter().filter(|o| archived.contains(&o.name)).map(|o| (*o).clone()).collect();
    let snapshot = Snapshot { bench, unit, point, objects: &objects, archived: &archived };
    let done = snapshot.restore(&mut proof).and_then(|plan| prove_history(&snapshot, &plan, &mut proof));
    match done {
        Err(RestoreTestError::Restore(RestoreError::WrongIdentity { object, .. })) => proof.cannot_open = Some(object),
        other => other?,
    }
    Ok(proof)
}

/// What is restored and proved.
pub struct Snapshot<'a> {
    pub bench: &'a Bench<'a>,
    pub unit: &'a Unit<'a>,
    /// The recovery point.
    pub point: &'a Attested,
    /// What the unit's runs attest.
    pub objects: &'a [&'a ObjectRef],
    /// What of that lies in the archive tier.
    pub archived: &'a HashSet<String>,
}

impl Snapshot<'_> {
    /// Restores the recovery point, in as many parts as the disk needs, and looks at each.
    fn restore(&self, proof: &mut Proof) -> Result<Plan, RestoreTestError> {
        let (bench, job, predicate) = (self.bench, self.bench.job, &self.point.statement.predicate);
        let run = predicate.run;
        let begun = Instant::now();
        let Ok(details) = predicate.details::<SnapshotDetails>() else { return self.nothing() };
        // What lies in the archive tier is told, and not restored.
        let needs = |o: &&&ObjectRef| bench.writers.get(o.name.as_str()).is_some_and(|(_, run)| details.segments_from.contains(run));
        if self.objects.iter().filter(needs).any(|o| self.archived.contains(&o.name)) {
            return self.nothing();
        }
        let budget = job.disk_budget(bench.scratch.free().map_err(|e| bench.trouble(e))?);
        let plan = Plan::new(budget, self.prefixes(&details)?, &details, bench.scratch.path());
        let mut plan = plan.map_err(|e| bench.trouble(e))?;
        let spill = |source| RestoreError::Write { operation: "write a temporary file in", path: bench.scratch.path().to_owned(), source };
        let mut superseded = Spool::new(bench.scratch.path()).map_err(spill)?;
        let info = read_history(
            &job.writer.ledger,
            job.identities,
            (self.unit.chain, run),
            |entry| plan.add(&entry).map_err(spill),
            |entry| superseded.add(&entry).map_err(spill),
        )?;
        plan.superseded = superseded;
        plan.finish(info.clone()).map_err(spill)?;
        let mut entries = plan.entries.entries();
        let mut restored = plan.entries.entries();
        proof.opened.extend(plan.opened().iter().map(|(sha256, size)| (*sha256, *size)));
        let manifests = self.objects.iter().filter(|o| names::is_manifest(&o.name));
        let manifests = manifests.filter(|o| bench.writers.get(o.name.as_str()).is_some_and(|(_, run)| info.manifests.contains(run)));
        let sizes = || plan.opened().values().copied().chain(manifests.clone().map(|o| o.size));
        proof.read = (sizes().sum(), sizes().count() as u64);
        // Reading the manifests is a part of every restore.
        proof.restore_seconds += begun.elapsed().as_secs_f64();
        bench.lost(Check::Records, self.unit.chain, run, info.failed.clone());
        for (from, to, count) in plan.parts() {
            let dir = bench.scratch.part().map_err(|e| bench.trouble(e))?;
            let begun = Instant::now();
            let pick = Pick::Range(from, to);
            let files = FilesJob {
                ledger: &job.writer.ledger,
                identities: job.identities,
                chain: self.unit.chain,
                run,
                to: &dir,
                pick,
                existing: Existing::Refuse,
                // They lie in a directory of their own, and nothing follows them.
                outside_links: true,
                threads: job.threads,
                monitor: job.monitor,
            };
            let report = restore_tree(&files, |visit| {
                for entry in restored.by_ref().take(count) {
                    visit(entry.map_err(spill)?)?;
                }
                Ok(TreeInfo { failed: Vec::new(), ..info.clone() })
            })?;
            proof.restore_seconds += begun.elapsed().as_secs_f64();
            proof.entries += report.entries;
            proof.restored_bytes += report.restored_bytes;
            let begun = Instant::now();
            let lost: HashSet<String> = report.failed.iter().filter_map(|f| f.path.clone()).collect();
            bench.tally.ran(Check::Records, lost.len() as u64);
            bench.lost(Check::Records, self.unit.chain, run, report.failed);
            self.look(&plan.known, &dir, entries.by_ref().take(count), &lost)?;
            bench.scratch.clear(&dir).map_err(|e| bench.trouble(e))?;
            proof.check_seconds += begun.elapsed().as_secs_f64();
        }
        // What lacks a manifest was told, and is another state.
        let manifests_whole = info.failed.is_empty();
        bench.tally.ran(Check::Trees, u64::from(manifests_whole));
        if manifests_whole && info.attested_tree != Some(info.tree_sha256) {
            let message = "what was restored is not the state that the attestation says: its digest is another";
            bench.problem(Check::Trees, self.unit.chain, run, None, None, message);
        }
        for (ran, message) in plan.counts(&details).into_iter().filter(|_| manifests_whole) {
            bench.tally.ran(Check::Counts, ran);
            if let Some(message) = message {
                bench.problem(Check::Counts, self.unit.chain, run, None, None, message);
            }
        }
        Ok(plan)
    }

    /// The prefix of each collection, as the manifest says it.
    fn prefixes(&self, details: &SnapshotDetails) -> Result<HashMap<String, String>, RestoreTestError> {
        let manifest = self.point.statement.predicate.objects.iter().find(|o| names::is_manifest(&o.name));
        let Some(manifest) = manifest else { return Ok(HashMap::new()) };
        match open_manifest(&self.bench.job.writer.ledger, self.bench.job.identities, manifest) {
            Ok(reader) => Ok(reader.header().collections.iter().map(|c| (c.name.clone(), c.prefix.clone())).collect()),
            Err(e @ RestoreError::WrongIdentity { .. }) => Err(e.into()),
            // The restore names what cannot be read; without it everything counts as one.
            Err(_) => Ok(details.collections.iter().map(|c| (c.name.clone(), String::new())).collect()),
        }
    }

    fn nothing(&self) -> Result<Plan, RestoreTestError> {
        Plan::nothing(self.bench.scratch.path()).map_err(|e| self.bench.trouble(e))
    }

    /// Reads back what was restored, on several threads.
    fn look(
        &self,
        known: &Known,
        dir: &Path,
        entries: impl Iterator<Item = io::Result<Entry>>,
        lost: &HashSet<String>,
    ) -> Result<(), RestoreTestError> {
        let run = self.point.statement.predicate.run;
        let look = Look { bench: self.bench, known, chain: self.unit.chain, run, dir };
        let (give, take) = crossbeam_channel::bounded::<Vec<Entry>>(4);
        thread::scope(|scope| {
            for _ in 0..self.bench.job.threads.max(1) {
                let (take, look) = (take.clone(), &look);
                scope.spawn(move || {
                    let mut here = Here::default();
                    take.into_iter().flatten().for_each(|entry| look.at(&entry, &mut here));
                });
            }
            drop(take);
            let mut batch = Vec::with_capacity(BATCH);
            let mut here = Here::default();
            for entry in entries {
                let entry = entry?;
                // A directory is opened to its owner before anybody looks at what is in it.
                match entry.content {
                    _ if lost.contains(&entry.path) => {}
                    Content::Dir => look.at(&entry, &mut here),
                    _ => batch.push(entry),
                }
                if batch.len() >= BATCH {
                    _ = give.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)));
                }
            }
            _ = give.send(batch);
            drop(give);
            io::Result::Ok(())
        })
        .map_err(|e| self.bench.trouble(e))?;
        let left = count(dir).map_err(|e| self.bench.trouble(e))?;
        if left > 0 {
            let message = format!("{left} files lie in the restored directory that no manifest names");
            self.bench.problem(Check::Records, self.unit.chain, run, None, None, message);
        }
        Ok(())
    }
}

/// How many files and links lie below a directory.
fn count(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(sum)
}
