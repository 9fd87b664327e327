//! Every record that only earlier states of a unit have, and every object that no state wants anything of: opened, and proved.

use std::collections::HashMap;
use std::io;
use std::time::Instant;

use super::RestoreTestError;
use super::bench::Proof;
use super::plan::Plan;
use super::snapshot::Snapshot;
use super::tally::Check;
use crate::restore::{Members, RestoreError, Walk, Wanted, open_manifest, unpack_segment};
use crate::sort::Sorter;
use crate::store::Sha256;
use crate::vault::Attested;
use crate::vault::attestation::ObjectRef;
use crate::vault::manifest::{Content, Entry, Line, Placement, SegmentRef};
use crate::vault::names;

/// Memory for sorting what manifests want by segment, in bytes.
const SORT_BUDGET: usize = 16 << 20;

/// Opens everything of a unit that restoring its recovery point did not.
pub fn prove_history(snapshot: &Snapshot<'_>, plan: &Plan, proof: &mut Proof) -> Result<(), RestoreTestError> {
    let begun = Instant::now();
    let (bench, job, chain) = (snapshot.bench, snapshot.bench.job, snapshot.unit.chain);
    let run = snapshot.point.statement.predicate.run;
    let stands = |o: &&&ObjectRef| !snapshot.archived.contains(&o.name);
    let mut wanted = Sorter::new(bench.scratch.path(), SORT_BUDGET);
    let mut segments = Segments::new(snapshot.objects);
    let read = plan.info.as_ref();
    for entry in plan.superseded.entries() {
        let entry = entry.map_err(|e| bench.trouble(e))?;
        let table = |n: u32| read.and_then(|info| info.segments.get(n as usize)).map(|(segment, _)| segment);
        want(plan, &entry, table, &mut wanted, &mut segments).map_err(|e| bench.trouble(e))?;
    }
    for attested in &snapshot.unit.runs {
        // Those of the recovery point were read when it was restored.
        if read.is_some_and(|info| info.manifests.contains(&attested.statement.predicate.run)) {
            let manifests = attested.statement.predicate.objects.iter().filter(|o| names::is_manifest(&o.name));
            bench.tally.ran(Check::History, manifests.clone().count() as u64);
            proof.opened.extend(manifests.map(|o| (o.sha256, o.size)));
            continue;
        }
        for object in attested.statement.predicate.objects.iter().filter(|o| names::is_manifest(&o.name) && stands(&o)) {
            proof.opened.insert(object.sha256, object.size);
            wants(snapshot, plan, attested, object, &mut wanted, &mut segments)?;
        }
    }
    let list = segments.list.clone();
    let walk = Walk { ledger: &job.writer.ledger, identities: job.identities, segments: &list, threads: job.threads };
    walk.run(
        |give| {
            let mut group: (u32, Members<()>) = (0, HashMap::new());
            let mut full = |(number, members): (u32, Members<()>)| {
                let Some((segment, size)) = list.get(number as usize) else { return Ok(()) };
                if members.is_empty() || snapshot.archived.contains(&segment.name) {
                    return Ok(());
                }
                proof.opened.insert(segment.sha256, *size);
                give(number, members).map_err(|_| io::Error::other("stopped"))
            };
            let mut last = Vec::new();
            let sorted = wanted.finish(|key, value| {
                let (number, member, want) = read_want(key, value, &segments)?;
                if number != group.0 {
                    full(std::mem::replace(&mut group, (number, HashMap::new())))?;
                }
                // Several manifests name the same member.
                if last != key {
                    last.clear();
                    last.extend_from_slice(key);
                    group.1.entry(member).or_default().push(want);
                }
                Ok(())
            });
            let spill = |source| RestoreError::Write { operation: "sort in", path: bench.scratch.path().to_owned(), source };
            sorted.and_then(|()| full(group)).map_err(spill)
        },
        || (),
        |(), _, _| {
            bench.tally.ran(Check::History, 1);
            Ok(())
        },
        |f| {
            bench.tally.ran(Check::History, 1);
            bench.lost(Check::History, chain, run, vec![f]);
        },
    )?;
    // What no manifest of the unit wants anything of is opened all the same.
    for object in snapshot.objects.iter().filter(|o| names::is_segment(&o.name) && stands(o)) {
        if proof.opened.insert(object.sha256, object.size).is_some() {
            continue;
        }
        bench.tally.ran(Check::History, 1);
        match unpack_segment(&job.writer.ledger, job.identities, object) {
            Ok(_) => {}
            Err(e @ RestoreError::WrongIdentity { .. }) => return Err(e.into()),
            Err(e) => bench.problem(Check::History, chain, run, Some(&object.name), None, super::said(&e)),
        }
    }
    proof.check_seconds += begun.elapsed().as_secs_f64();
    Ok(())
}

/// Notes what a manifest wants of which segment, and restoring does not prove.
fn wants(
    snapshot: &Snapshot<'_>,
    plan: &Plan,
    attested: &Attested,
    object: &ObjectRef,
    wanted: &mut Sorter,
    segments: &mut Segments,
) -> Result<(), RestoreTestError> {
    let bench = snapshot.bench;
    let predicate = &attested.statement.predicate;
    let problem = |message: String| bench.problem(Check::History, snapshot.unit.chain, predicate.run, Some(&object.name), None, message);
    bench.tally.ran(Check::History, 1);
    let mut reader = match open_manifest(&bench.job.writer.ledger, bench.job.identities, object) {
        Ok(reader) => reader,
        Err(e @ RestoreError::WrongIdentity { .. }) => return Err(e.into()),
        Err(e) => {
            problem(format!("the manifest cannot be read: {}", super::said(&e)));
            return Ok(());
        }
    };
    let header = reader.header().clone();
    if header.run != predicate.run {
        problem("it is the manifest of another run".into());
        return Ok(());
    }
    loop {
        let entry = match reader.next_line() {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(Line::Entry(entry)))) => entry,
            Ok(Some(Ok(Line::Deleted(_)))) => continue,
            Ok(Some(Err(e))) => {
                problem(e.to_string());
                continue;
            }
            Err(e) => {
                problem(e.to_string());
                return Ok(());
            }
        };
        want(plan, &entry, |n| header.segments.get(n as usize), wanted, segments).map_err(|e| bench.trouble(e))?;
    }
}

/// Notes what an entry wants of which segment, unless restoring proves it.
fn want<'s>(
    plan: &Plan,
    entry: &Entry,
    table: impl Fn(u32) -> Option<&'s SegmentRef>,
    wanted: &mut Sorter,
    segments: &mut Segments,
) -> io::Result<()> {
    each_member(entry, |segment, member, sha256, size| {
        let Some(segment) = table(segment).filter(|segment| !plan.proves(&segment.sha256, member, sha256)) else { return Ok(()) };
        segments.know(segment);
        let mut key = segment.sha256.0.to_vec();
        key.extend_from_slice(member.as_bytes());
        key.extend_from_slice(&sha256.0);
        let value = postcard::to_stdvec(&(&entry.path, size)).map_err(io::Error::other)?;
        wanted.push(&key, &value)
    })
}

/// The segments of an epoch under numbers, with their sizes as attested.
struct Segments {
    list: Vec<(SegmentRef, u64)>,
    numbers: HashMap<Sha256, u32>,
    sizes: HashMap<Sha256, u64>,
}

impl Segments {
    fn new(objects: &[&ObjectRef]) -> Self {
        let sizes = objects.iter().map(|o| (o.sha256, o.size)).collect();
        Self { list: Vec::new(), numbers: HashMap::new(), sizes }
    }

    fn know(&mut self, segment: &SegmentRef) {
        let next = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        if *self.numbers.entry(segment.sha256).or_insert(next) == next {
            self.list.push((segment.clone(), self.sizes.get(&segment.sha256).copied().unwrap_or(0)));
        }
    }
}

fn read_want(key: &[u8], value: &[u8], segments: &Segments) -> io::Result<(u32, String, Wanted<()>)> {
    let bad = || io::Error::other("a temporary file is damaged");
    let digest = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map(Sha256).map_err(|_| bad());
    let member_ends = key.len().checked_sub(32).filter(|end| *end >= 32).ok_or_else(bad)?;
    let number = segments.numbers.get(&digest(&key[..32])?).copied().ok_or_else(bad)?;
    let member = String::from_utf8(key[32..member_ends].to_vec()).map_err(io::Error::other)?;
    let (path, size) = postcard::from_bytes::<(String, u64)>(value).map_err(io::Error::other)?;
    Ok((number, member, Wanted { sha256: digest(&key[member_ends..])?, size, path, tag: () }))
}

fn each_member(entry: &Entry, mut note: impl FnMut(u32, &str, &Sha256, u64) -> io::Result<()>) -> io::Result<()> {
    let Content::File { sha256, size, placement } = &entry.content else { return Ok(()) };
    match placement {
        Placement::Whole { segment, member } => note(*segment, member.as_deref().unwrap_or(&entry.path), sha256, *size),
        Placement::Chunks(chunks) => chunks.iter().try_for_each(|c| note(c.segment, &c.member, &c.sha256, c.size)),
    }
}
