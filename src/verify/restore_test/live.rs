//! A sample of the live tenant against the newest snapshot: each difference is explained by a later change, proves the
//! snapshot wrong, or is reported.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::RestoreTestError;
use super::bench::Bench;
use super::tally::Check;
use crate::restore::{Members, RestoreError, Walk, Wanted, log_objects_of, read_log_object, read_tree};
use crate::source::catalog::{Catalog, CollectionSpec};
use crate::source::{Source, Walked};
use crate::store::Sha256;
use crate::vault::attestation::{CollectionOutcome, SnapshotDetails};
use crate::vault::manifest::{Content, Placement};
use crate::vault::names::{ChainName, ShortName};
use crate::vault::{Attested, ChainView};

/// So many collections are compared.
const COLLECTIONS: usize = 3;
/// None that is larger, in records.
const LARGEST: u64 = 5_000;
/// So many differences are looked into.
const MOST: usize = 200;
/// A tenant shows a change at all of its places only after so long.
const SETTLED: SignedDuration = SignedDuration::from_mins(15);

/// Opens a live tenant for some of its collections, or says why that cannot be.
pub type LiveCapture<'a> = dyn Fn(&[&'static CollectionSpec]) -> Result<Box<dyn Source>, String> + 'a;

/// A live tenant.
pub struct LiveSample<'a> {
    /// The source.
    pub source: &'a ShortName,
    /// How it is opened.
    pub open: &'a LiveCapture<'a>,
}

/// What a difference turned out to be.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    /// It was changed after the snapshot.
    Explained,
    /// It was so before the snapshot, which has something else.
    Contradicts(&'static str),
    /// Neither can be told.
    Open,
}

/// Compares; gives why that could not be done, or what remains open.
pub fn compare(
    bench: &Bench<'_>,
    sample: &LiveSample<'_>,
    point: Option<&Attested>,
    chains: &[(ChainName, ChainView)],
) -> Result<Option<String>, RestoreTestError> {
    let Some(point) = point else { return Ok(None) };
    let predicate = &point.statement.predicate;
    let Ok(details) = predicate.details::<SnapshotDetails>() else { return Ok(None) };
    let name = sample.source;
    let mut able: Vec<&'static CollectionSpec> = details
        .collections
        .iter()
        .filter(|c| c.outcome == CollectionOutcome::Complete && (1..=LARGEST).contains(&c.count))
        .filter_map(|c| Catalog::all().collection(&c.name))
        .filter(|spec| spec.parent.is_none())
        .collect();
    // In an order that is another one each time.
    let lot = |spec: &&CollectionSpec| Sha256::of(format!("{} {}", spec.id, Timestamp::now()).as_bytes()).0;
    able.sort_by_cached_key(lot);
    able.truncate(COLLECTIONS);
    if able.is_empty() {
        return Ok(None);
    }
    let mut live: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    if let Err(why) = read_live(sample, &able, &mut live) {
        return Ok(Some(format!("{name}: the live tenant could not be compared: {why}")));
    }
    let (kept, unknown) = read_kept(bench, predicate, &able, &live)?;
    live.retain(|path, _| !unknown.contains(path));
    let mut differences: BTreeMap<&str, (Option<&Value>, Option<Value>)> = BTreeMap::new();
    let parsed = |bytes: &Vec<u8>| serde_json::from_slice::<Value>(bytes).ok();
    for (path, bytes) in &live {
        match kept.get(path) {
            // The same bytes.
            Some(None) => {}
            Some(Some(value)) => {
                let spec = Catalog::all().collection_of(path);
                if let (Some(spec), Some(now)) = (spec, parsed(bytes))
                    && spec.settled(value.clone()) != spec.settled(now.clone())
                {
                    differences.insert(path, (Some(value), Some(now)));
                }
            }
            None => _ = differences.insert(path, (None, parsed(bytes))),
        }
    }
    for (path, value) in kept.iter().filter(|(path, _)| !live.contains_key(*path)) {
        differences.insert(path, (value.as_ref(), None));
    }
    bench.tally.ran(Check::Live, (live.len() + kept.iter().filter(|(path, _)| !live.contains_key(*path)).count()) as u64);
    let ids: HashMap<&str, String> = differences.keys().take(MOST).map(|path| (*path, id_of(path))).collect();
    let mentioned = mentioned(bench, chains, details.captured, &ids.values().map(String::as_str).collect())?;
    let mut open = Vec::new();
    for (path, (kept, now)) in &differences {
        let known = ids.get(path).is_some_and(|id| mentioned.contains(id));
        match if known { Judged::Explained } else { judge(*kept, now.as_ref(), details.captured) } {
            Judged::Explained => bench.tally.excused(Check::Live, 1),
            Judged::Contradicts(what) => bench.problem(Check::Live, &predicate.chain, predicate.run, None, Some(path), what),
            Judged::Open => open.push((*path).to_owned()),
        }
    }
    if open.is_empty() {
        return Ok(None);
    }
    let (n, first) = (open.len(), &open[0]);
    bench.tally.excused(Check::Live, n as u64);
    Ok(Some(format!(
        "{name}: {n} records of the live tenant are not as in the snapshot of {}, and no log in the vault tells why: {first}{}",
        details.captured,
        if n > 1 { " and others" } else { "" }
    )))
}

fn read_live(sample: &LiveSample<'_>, specs: &[&'static CollectionSpec], out: &mut BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let source = (sample.open)(specs)?;
    let mut nodes = Vec::new();
    let mut problem = None;
    source
        .walk(&mut |walked| {
            match walked {
                Walked::Node(node) => nodes.push(node),
                Walked::Hole { problem: p, .. } => problem = Some(p.message),
            }
            problem.is_none()
        })
        .map_err(|e| e.to_string())?;
    if let Some(problem) = problem {
        return Err(problem);
    }
    for node in &nodes {
        let mut bytes = Vec::new();
        source.read(node, 16 << 20, &mut bytes).map_err(|p| p.message)?;
        out.insert(node.path.clone(), bytes);
    }
    Ok(())
}

/// By path: nothing where the snapshot has the same bytes, else its record.
type Kept = BTreeMap<String, Option<Value>>;

/// What the snapshot has of some collections: nothing where it is the same bytes, else the record; and what it has that cannot
/// be read.
fn read_kept(
    bench: &Bench<'_>,
    predicate: &crate::vault::attestation::Predicate,
    specs: &[&'static CollectionSpec],
    live: &BTreeMap<String, Vec<u8>>,
) -> Result<(Kept, HashSet<String>), RestoreTestError> {
    let job = bench.job;
    let (mut out, mut unknown) = (BTreeMap::new(), HashSet::new());
    let mut wanted: BTreeMap<u32, Members<()>> = BTreeMap::new();
    let info = read_tree(&job.writer.ledger, job.identities, &predicate.chain, predicate.run, |entry| {
        let of = |spec: &&&CollectionSpec| spec.folder_around(&entry.path).is_some();
        if specs.iter().any(|s| of(&s))
            && let Content::File { sha256, size, placement: Placement::Whole { segment, member } } = entry.content
        {
            let same = live.get(&entry.path).is_some_and(|bytes| Sha256::of(bytes) == sha256);
            if !same {
                let member = member.unwrap_or_else(|| entry.path.clone());
                let want = Wanted { sha256, size, path: entry.path.clone(), tag: () };
                wanted.entry(segment).or_default().entry(member).or_default().push(want);
                unknown.insert(entry.path);
            } else {
                out.insert(entry.path, None);
            }
        }
        Ok(())
    })?;
    let walk = Walk { ledger: &job.writer.ledger, identities: job.identities, segments: &info.segments, threads: job.threads };
    let read: Mutex<Vec<(String, Value)>> = Mutex::default();
    walk.run(
        |give| {
            _ = wanted.into_iter().try_for_each(|(n, members)| give(n, members));
            Ok(())
        },
        || (),
        |(), want, bytes| {
            if let (Ok(value), Ok(mut read)) = (serde_json::from_slice(bytes), read.lock()) {
                read.push((want.path.clone(), value));
            }
            Ok(())
        },
        // What is damaged was told when it was restored.
        |_| {},
    )?;
    for (path, value) in read.into_inner().unwrap_or_default() {
        unknown.remove(&path);
        out.insert(path, Some(value));
    }
    Ok((out, unknown))
}

/// The id in a record's path.
fn id_of(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".json");
    let raw = crate::path::decode(name).ok().and_then(|raw| String::from_utf8(raw).ok()).unwrap_or_else(|| name.to_owned());
    raw.replace("~1", "/").replace("~0", "~")
}

/// Which of some ids the vault's logs of since then speak of.
fn mentioned(
    bench: &Bench<'_>,
    chains: &[(ChainName, ChainView)],
    since: Timestamp,
    ids: &HashSet<&str>,
) -> Result<HashSet<String>, RestoreTestError> {
    let mut out = HashSet::new();
    if ids.is_empty() {
        return Ok(out);
    }
    let logs = chains.iter().filter(|(chain, _)| chain.stream().is_some()).flat_map(|(_, view)| &view.attested);
    for attested in logs {
        for log in log_objects_of(attested)?.iter().filter(|log| log.span.last.is_none_or(|last| last >= since)) {
            let read = read_log_object(&bench.job.writer.ledger, bench.job.identities, log, |line, key, _| {
                if key.time.is_none_or(|time| time >= since)
                    && let Ok(text) = std::str::from_utf8(line)
                {
                    out.extend(ids.iter().filter(|id| text.contains(**id)).map(|id| (*id).to_owned()));
                }
                Ok(())
            });
            // What cannot be read explains nothing.
            if let Err(e @ RestoreError::Write { .. }) = read {
                return Err(e.into());
            }
        }
    }
    Ok(out)
}

/// What a difference is, by the instants that the records themselves carry.
fn judge(kept: Option<&Value>, now: Option<&Value>, captured: Timestamp) -> Judged {
    let stamps = now.map(|value| stamps(value)).unwrap_or_default();
    if stamps.values().any(|at| *at >= captured - SETTLED) {
        return Judged::Explained;
    }
    match (kept, now) {
        (None, Some(_)) if stamps.keys().any(|name| name.starts_with("created")) => {
            Judged::Contradicts("the live tenant has it since before the snapshot, and the snapshot has not")
        }
        (Some(_), Some(_)) if stamps.keys().any(|name| name.contains("odified") || name.starts_with("updated")) => {
            Judged::Contradicts("the live tenant has something else, and says that it was not changed since the snapshot")
        }
        _ => Judged::Open,
    }
}

/// The instants at which a record says that it was made or changed.
fn stamps(value: &Value) -> BTreeMap<&str, Timestamp> {
    let own = value.as_object().into_iter().flatten();
    let properties = value.get("properties").and_then(Value::as_object).into_iter().flatten();
    let says = |name: &str| ["created", "modified", "lastModified", "updated", "renewed"].iter().any(|s| name.starts_with(s));
    own.chain(properties).filter(|(name, _)| says(name)).filter_map(|(name, v)| Some((name.as_str(), v.as_str()?.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_is_explained_contradicts_or_stays_open() {
        let captured: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let of = |kept: Option<Value>, now: Option<Value>| judge(kept.as_ref(), now.as_ref(), captured);
        let old = json!({ "id": "1", "createdDateTime": "2026-01-01T00:00:00Z", "modifiedDateTime": "2026-02-01T00:00:00Z", "n": 1 });
        let new = json!({ "id": "1", "createdDateTime": "2026-01-01T00:00:00Z", "modifiedDateTime": "2026-11-25T10:30:00Z", "n": 1 });
        assert_eq!(of(Some(old.clone()), Some(new)), Judged::Explained);
        assert!(matches!(of(Some(json!({ "id": "1" })), Some(old.clone())), Judged::Contradicts(_)));
        assert!(matches!(of(None, Some(old.clone())), Judged::Contradicts(_)));
        assert_eq!(of(Some(old), None), Judged::Open);
        assert_eq!(of(None, Some(json!({ "id": "1" }))), Judged::Open);
        assert_eq!(id_of("users/a~1b.json"), "a/b");
    }
}
