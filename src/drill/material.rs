//! What is brought back from the vault: documents of tenants, and the newest events of streams.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{DrillError, DrillJob, check};
use crate::objective::{Point, Subject};
use crate::path::encode_component;
use crate::restore::{
    Existing, FilesJob, FilesReport, LogsJob, LogsReport, Pick, RestoreError, open_manifest, restore_files, restore_logs,
};
use crate::sample::{Events, StandIn};
use crate::source::catalog::{Catalog, CollectionSpec, Plane};
use crate::source::import::{Pointers, event_key};
use crate::store::Sha256;
use crate::vault::Attested;
use crate::vault::attestation::{CheckRecord, DrillRpo, DrillSource, DrillStream, ExportDetails, SnapshotDetails};
use crate::vault::names::{is_manifest, period_folder};

/// So much of each stream is brought back.
const EVENTS_OF: SignedDuration = SignedDuration::from_hours(24);

/// A source or stream, and what of it there is.
pub struct Selected {
    /// Which.
    pub subject: Subject,
    /// Its newest recovery point, if it has one.
    pub point: Option<(Point, Attested)>,
}

impl Selected {
    /// Opens its first object, as a proof that the key is at hand. What cannot be read is told when it is restored.
    pub fn open(&self, job: &DrillJob<'_>) -> Result<(), DrillError> {
        let objects = self.point.iter().flat_map(|(_, attested)| &attested.statement.predicate.objects);
        let Some(manifest) = objects.into_iter().find(|o| is_manifest(&o.name)) else { return Ok(()) };
        match open_manifest(&job.writer.ledger, job.identities, manifest) {
            Err(e @ RestoreError::WrongIdentity { .. }) => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// How old what is brought back was when the disaster struck.
    pub fn rpo(&self, struck: Timestamp, objective: SignedDuration) -> DrillRpo {
        let age = |(point, _): &(Point, Attested)| struck.duration_since(point.captured).as_secs().max(0);
        DrillRpo {
            class: serde_json::to_value(self.subject.class).ok().and_then(|c| Some(c.as_str()?.to_owned())).unwrap_or_default(),
            name: self.subject.name.clone(),
            achieved_seconds: self.point.as_ref().map(age),
            objective_seconds: (!self.subject.delivered).then_some(objective.as_secs()),
        }
    }
}

/// What was restored of one source or stream.
enum Restored {
    Source { dir: PathBuf, report: FilesReport },
    Stream { file: PathBuf, report: LogsReport, from: Timestamp, to: Timestamp, pointers: Pointers },
}

/// Everything that was restored.
pub struct Material(Vec<(Subject, Attested, Restored, f64)>);

impl Material {
    /// Restores it, from the vault alone.
    pub fn fetch(job: &DrillJob<'_>, selected: &[Selected], to: &Path) -> Result<Self, DrillError> {
        let scratch = |source| DrillError::Scratch { path: job.temporary.to_owned(), source };
        fs::create_dir_all(to).map_err(scratch)?;
        let mut out = Vec::new();
        for s in selected {
            let Some((point, attested)) = &s.point else { continue };
            let begun = Instant::now();
            let restored = if s.subject.chain.source().is_some() {
                let dir = to.join(&s.subject.name);
                let report = restore_files(&FilesJob {
                    ledger: &job.writer.ledger,
                    identities: job.identities,
                    chain: &s.subject.chain,
                    run: attested.statement.predicate.run,
                    to: &dir,
                    pick: Pick::All,
                    existing: Existing::Refuse,
                    outside_links: true,
                    threads: job.threads,
                    monitor: job.monitor,
                })?;
                Restored::Source { dir, report }
            } else {
                let details = attested.statement.predicate.details::<ExportDetails>().ok();
                let pointers = details.and_then(|d| Pointers::new(d.id.to_list(), d.time.to_list()).ok()).unwrap_or_default();
                let end = point.captured.checked_add(SignedDuration::from_nanos(1)).unwrap_or(point.captured);
                let (from, file) = (end - EVENTS_OF, to.join(format!("{}.ndjson", s.subject.name)));
                let logs = LogsJob {
                    ledger: &job.writer.ledger,
                    identities: job.identities,
                    chain: &s.subject.chain,
                    from,
                    to: end,
                    as_of: Some(point.sequence),
                    all_versions: false,
                    temporary: to,
                    monitor: job.monitor,
                };
                let mut writer = BufWriter::with_capacity(1 << 18, File::create_new(&file).map_err(scratch)?);
                let report = restore_logs(&logs, &mut writer)?;
                writer.into_inner().map_err(|e| scratch(e.into_error()))?;
                Restored::Stream { file, report, from, to: end, pointers }
            };
            out.push((s.subject.clone(), attested.clone(), restored, begun.elapsed().as_secs_f64()));
        }
        Ok(Self(out))
    }

    /// Shows every document of a tenant with its collection and what tells it apart there.
    pub fn documents(&self, mut each: impl FnMut(&'static CollectionSpec, String, Value)) -> io::Result<()> {
        for (_, _, restored, _) in &self.0 {
            if let Restored::Source { dir, .. } = restored {
                below(dir, "", &mut |path, at| {
                    let Some(spec) = Catalog::all().collection_of(&path) else { return Ok(()) };
                    let Ok(value) = serde_json::from_slice::<Value>(&fs::read(at)?) else { return Ok(()) };
                    // Azure's names are of their own only with what is around them.
                    let id = match (spec.plane, value.get(&spec.key).and_then(Value::as_str)) {
                        (Plane::Graph, Some(id)) => id.to_owned(),
                        _ => path,
                    };
                    each(spec, id, value);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// How many documents of tenants are attested.
    pub fn expected(&self) -> u64 {
        let details = self.0.iter().filter_map(|(_, attested, ..)| attested.statement.predicate.details::<SnapshotDetails>().ok());
        let known = |name: &str| Catalog::all().collection(name).is_some();
        details.flat_map(|d| d.collections).filter(|c| known(&c.name)).map(|c| c.count).sum()
    }

    /// Bytes that were restored.
    pub fn restored_bytes(&self) -> u64 {
        let of = |restored: &Restored| match restored {
            Restored::Source { report, .. } => report.restored_bytes,
            Restored::Stream { file, .. } => fs::metadata(file).map_or(0, |m| m.len()),
        };
        self.0.iter().map(|(_, _, restored, _)| of(restored)).sum()
    }

    /// Loads a stand-in with all of it.
    pub fn load(&self, job: &DrillJob<'_>, stand_in: &mut StandIn) -> Result<(), DrillError> {
        let scratch = |source| DrillError::Scratch { path: job.temporary.to_owned(), source };
        self.documents(|spec, id, value| stand_in.put(&spec.id, &id, &value)).map_err(scratch)?;
        self.load_events(job, stand_in)
    }

    /// Loads a stand-in with the events.
    pub fn load_events(&self, job: &DrillJob<'_>, stand_in: &mut StandIn) -> Result<(), DrillError> {
        for (subject, _, restored, _) in &self.0 {
            if let Restored::Stream { file, pointers, .. } = restored {
                let events = read_events(file, pointers, stand_in.events(&subject.name));
                events.map_err(|source| DrillError::Scratch { path: job.temporary.to_owned(), source })?;
            }
        }
        Ok(())
    }

    /// Whether all of it was restored, and is what was attested.
    pub fn judge(&self, checks: &mut Vec<CheckRecord>, problems: &mut Vec<String>) {
        let (mut entries, mut trees, mut bad_trees, mut lost) = (0, 0, 0, 0);
        for (subject, _, restored, _) in &self.0 {
            let failed = match restored {
                Restored::Source { report, .. } => {
                    trees += 1;
                    bad_trees += u64::from(report.tree_matches != Some(true));
                    entries += report.entries;
                    &report.failed
                }
                Restored::Stream { report, .. } => {
                    entries += report.events;
                    &report.failed
                }
            };
            lost += failed.len() as u64;
            problems.extend(failed.iter().map(|f| {
                let what = f.path.as_deref().or(f.object.as_deref()).unwrap_or_default();
                format!("restored: {}: {what}: {}", subject.chain, f.message)
            }));
        }
        checks.push(check("restored", entries + lost, lost));
        checks.push(check("trees", trees, bad_trees));
    }

    /// The snapshots that were restored, as they are attested.
    pub fn sources(&self) -> Vec<DrillSource> {
        let source = |(_, attested, restored, seconds): &(Subject, Attested, Restored, f64)| {
            let Restored::Source { report, .. } = restored else { return None };
            let p = &attested.statement.predicate;
            let lock = p.objects.iter().filter(|o| period_folder(&o.name).is_some()).map(|o| &o.lock).min_by_key(|l| l.until);
            Some(DrillSource {
                chain: p.chain.clone(),
                run: p.run,
                sequence: p.sequence,
                outcome: p.outcome,
                tree_sha256: report.tree_sha256,
                tree_matches: report.tree_matches == Some(true),
                entries: report.entries,
                restored_bytes: report.restored_bytes,
                lock_until: lock.and_then(|l| l.until),
                duration_seconds: *seconds,
            })
        };
        self.0.iter().filter_map(source).collect()
    }

    /// The streams that were restored.
    pub fn streams(&self) -> Vec<DrillStream> {
        let stream = |(_, attested, restored, seconds): &(Subject, Attested, Restored, f64)| {
            let Restored::Stream { report, from, to, .. } = restored else { return None };
            let p = &attested.statement.predicate;
            let (chain, run, sequence) = (p.chain.clone(), p.run, p.sequence);
            Some(DrillStream { chain, run, sequence, from: *from, to: *to, events: report.events, duration_seconds: *seconds })
        };
        self.0.iter().filter_map(stream).collect()
    }
}

/// Shows every file below a directory with its encoded path.
fn below(dir: &Path, prefix: &str, each: &mut dyn FnMut(String, &Path) -> io::Result<()>) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(dir)?.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let mut path = prefix.to_owned();
        encode_component(entry.file_name().as_bytes(), &mut path);
        let kind = entry.file_type()?;
        if kind.is_dir() {
            below(&entry.path(), &format!("{path}/"), each)?;
        } else if kind.is_file() {
            each(path, &entry.path())?;
        }
    }
    Ok(())
}

fn read_events(file: &Path, pointers: &Pointers, into: &mut Events) -> io::Result<()> {
    let short = |bytes: &[u8]| <[u8; 16]>::try_from(&Sha256::of(bytes).0[..16]).unwrap_or_default();
    let mut input = BufReader::with_capacity(1 << 18, File::open(file)?);
    let mut line = Vec::new();
    let mut number = 0u64;
    while input.read_until(b'\n', &mut line)? > 0 {
        let key = event_key(line.strip_suffix(b"\n").unwrap_or(&line), pointers).map_err(io::Error::other)?;
        let id = key.id.map_or_else(|| short(format!("line {number}").as_bytes()), |id| short(id.as_bytes()));
        into.insert(id, short(&line));
        number += 1;
        line.clear();
    }
    Ok(())
}
