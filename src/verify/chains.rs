//! Numbering, links, roles, closure of snapshots, continuity of windows.

use std::collections::{HashMap, HashSet};

use jiff::tz::TimeZone;

use super::{Chains, Finding};
use crate::vault::attestation::{ExportDetails, Kind, ObjectRef, Outcome, SnapshotDetails, SnapshotKind};
use crate::vault::names::{ChainName, RunId};
use crate::vault::{Attested, ChainView, Ledger};

/// What one chain says of itself.
pub(super) fn check_chain(ledger: &Ledger, name: &ChainName, view: &ChainView, out: &mut Vec<Finding>) {
    let recovered: HashSet<u64> = view.attested.iter().filter(|a| a.from_bundle).map(Attested::sequence).collect();
    let listed: HashSet<u64> = view.attested.iter().flat_map(|a| a.statement.predicate.skipped.iter().copied()).collect();
    for void in &view.voids {
        let n = void.sequence;
        let finding = if recovered.contains(&n) {
            Finding::error(
                void.reason.code,
                format!("the attestation was damaged: {}; a checkpoint's bundle still holds it", void.reason.message),
            )
        } else if listed.contains(&n) {
            Finding::warning("void", format!("the number is void and was passed over: {}", void.reason.message))
        } else {
            Finding::error(void.reason.code, format!("the attestation is void: {}", void.reason.message))
        };
        out.push(finding.object(&void.name).at(name, n));
    }
    for n in &view.missing {
        let held = if recovered.contains(n) { "; a checkpoint's bundle still holds it" } else { "" };
        out.push(
            Finding::error("missing_attestation", format!("the attestation is missing{held}")).object(&name.envelope(*n)).at(name, *n),
        );
    }
    for stray in &view.strays {
        out.push(Finding::warning("stray_object", "its name is not that of an attestation").object(stray));
    }
    let genesis = ledger.trust().genesis();
    let mut before: Option<&Attested> = None;
    for attested in &view.attested {
        let predicate = &attested.statement.predicate;
        let n = attested.sequence();
        let here = |f: Finding| f.object(&attested.name).at(name, n);
        let expected = match before {
            Some(before) => Some(before.sha256),
            None if *name == ChainName::vault() => None,
            None => Some(genesis),
        };
        // Across a gap the link cannot be judged, unless it leads to the one before the gap.
        let after = before.map_or(0, Attested::sequence);
        let passed = view.voids.iter().filter(|v| (after + 1..n).contains(&v.sequence) && listed.contains(&v.sequence)).count() as u64;
        let gap = passed < n - after - 1;
        if predicate.previous != expected && !gap {
            out.push(here(Finding::error("broken_link", "it does not follow the attestation before it")));
        }
        if predicate.started > predicate.finished {
            out.push(here(Finding::error("time_backwards", "it was finished before it was started")));
        }
        if let Some(before) = before
            && before.statement.predicate.finished > predicate.finished
        {
            out.push(here(Finding::error("time_backwards", "it was finished before the attestation before it")));
        }
        subjects(attested, &here, out);
        names(attested, name, &here, out);
        before = Some(attested);
    }
    if name.source().is_some() {
        snapshots(name, view, out);
    }
    if name.stream().is_some() {
        windows(name, view, out);
    }
}

/// Subjects and objects must say the same.
fn subjects(attested: &Attested, here: &dyn Fn(Finding) -> Finding, out: &mut Vec<Finding>) {
    let predicate = &attested.statement.predicate;
    let key = |o: &ObjectRef| (o.name.clone(), o.sha256);
    let mut objects: Vec<_> = predicate.objects.iter().map(key).collect();
    let mut subjects: Vec<_> = attested.statement.subject.iter().map(|s| (s.name.clone(), s.digest.sha256)).collect();
    objects.sort();
    subjects.sort();
    let nothing = objects.is_empty() && subjects.len() == 1 && Some(subjects[0].1) == predicate.previous;
    let also_copies = !objects.is_empty() && objects.iter().all(|o| subjects.contains(o));
    let same = also_copies && objects.len() == subjects.len();
    if !nothing && !same {
        out.push(here(Finding::error("subjects_differ", "its subjects are not the objects that it describes")));
    }
}

/// Objects lie where their chain may write.
fn names(attested: &Attested, chain: &ChainName, here: &dyn Fn(Finding) -> Finding, out: &mut Vec<Finding>) {
    let kind = attested.statement.kind;
    for object in &attested.statement.predicate.objects {
        let parts: Vec<&str> = object.name.split('/').collect();
        let fits = match (kind, parts.as_slice()) {
            (_, ["attestations", "policies", _]) => true,
            (Kind::Snapshot, ["config-snapshots" | "evidence", source, _, run, _]) => {
                chain.source().is_some_and(|s| s.as_str() == *source) && run.parse::<RunId>().is_ok()
            }
            (Kind::Export, ["audit-logs", stream, _, _, _, _]) => chain.stream().is_some_and(|s| s.as_str() == *stream),
            (Kind::Genesis, ["attestations", "VAULT.json" | "RECOVERY.md"]) => true,
            (Kind::Checkpoint, ["attestations", "bundles", _] | ["attestations", "restated", ..]) => true,
            (Kind::RestoreTest | Kind::Drill | Kind::Failover | Kind::Disposition, ["evidence", "backstop", ..]) => true,
            (Kind::Heal, _) => true,
            _ => false,
        };
        if !fits {
            out.push(here(Finding::error("misnamed_object", format!("a {kind} on {chain} may not name {}", object.name))));
        }
    }
}

/// Every snapshot stands on what it names.
fn snapshots(name: &ChainName, view: &ChainView, out: &mut Vec<Finding>) {
    let mut seen: HashMap<RunId, (SnapshotDetails, u64)> = HashMap::new();
    let mut newest: Option<RunId> = None;
    let mut built_on: HashMap<RunId, u64> = HashMap::new();
    for attested in view.attested.iter().filter(|a| a.statement.kind == Kind::Snapshot) {
        let predicate = &attested.statement.predicate;
        let n = attested.sequence();
        let here = |f: Finding| f.object(&attested.name).at(name, n);
        let details: SnapshotDetails = match predicate.details() {
            Ok(details) => details,
            Err(e) => {
                out.push(here(Finding::error("not_a_statement", format!("its details cannot be read: {e}"))));
                continue;
            }
        };
        if predicate.outcome == Outcome::Failed {
            continue;
        }
        let run = predicate.run;
        if let Some(previous) = details.previous_snapshot {
            if let Some(other) = built_on.insert(previous, n) {
                out.push(here(Finding::error("fork", format!("it is built on the same snapshot {previous} as number {other}"))));
            } else if newest.is_some_and(|newest| newest != previous) && seen.contains_key(&previous) {
                out.push(here(Finding::error("fork", format!("it is built on {previous}, which was not the newest snapshot"))));
            }
            if !seen.contains_key(&previous) && details.snapshot_kind == SnapshotKind::Delta {
                out.push(here(Finding::error("open_closure", format!("the snapshot {previous} that it is built on is missing or void"))));
            }
        } else if newest.is_some() {
            out.push(here(Finding::error("fork", "it says that it is the first snapshot, and is not")));
        }
        let mut needs = details.segments_from.clone();
        needs.extend(details.base);
        for need in needs.iter().filter(|need| **need != run && !seen.contains_key(need)) {
            out.push(here(Finding::error("open_closure", format!("the run {need} that it needs is missing or void"))));
        }
        if !details.segments_from.contains(&run) {
            out.push(here(Finding::warning("open_closure", "it does not name itself among the runs that it needs")));
        }
        let base_epoch = details.base.and_then(|b| seen.get(&b)).map(|(d, _)| d.epoch);
        if base_epoch.is_some_and(|epoch| epoch != details.epoch) {
            out.push(here(Finding::error("open_closure", "its base is of another epoch")));
        }
        newest = Some(run);
        seen.insert(run, (details, n));
    }
}

/// Windows touch, and stay within a day.
fn windows(name: &ChainName, view: &ChainView, out: &mut Vec<Finding>) {
    let mut cursor = None;
    for attested in view.attested.iter().filter(|a| a.statement.kind == Kind::Export) {
        let here = |f: Finding| f.object(&attested.name).at(name, attested.sequence());
        let details: ExportDetails = match attested.statement.predicate.details() {
            Ok(details) => details,
            Err(e) => {
                out.push(here(Finding::error("not_a_statement", format!("its details cannot be read: {e}"))));
                continue;
            }
        };
        if details.spans.iter().map(|s| s.count).sum::<u64>() != details.events && attested.statement.predicate.outcome != Outcome::Failed {
            out.push(here(Finding::error("counts_differ", "its spans do not add up to its events")));
        }
        let Some(window) = details.window.filter(|_| attested.statement.predicate.outcome != Outcome::Failed) else { continue };
        if cursor.is_some_and(|cursor| cursor != window.from) {
            out.push(here(Finding::error("window_gap", format!("its window begins at {}, not where the one before ended", window.from))));
        }
        let day = |at: jiff::Timestamp| at.to_zoned(TimeZone::UTC).date();
        let last = window.to.checked_sub(jiff::SignedDuration::from_nanos(1)).unwrap_or(window.to);
        if window.from > window.to || (window.from < window.to && day(window.from) != day(last)) {
            out.push(here(Finding::error("window_gap", "its window is empty backwards or crosses midnight")));
        }
        cursor = Some(window.to);
    }
}

/// What chains say together.
pub(super) fn check_across(chains: &Chains, out: &mut Vec<Finding>) {
    let mut runs: HashMap<RunId, &str> = HashMap::new();
    for (name, view) in chains {
        for attested in &view.attested {
            // A heartbeat or a policy is nobody's run but its own: every run is attested once.
            if let Some(other) = runs.insert(attested.statement.predicate.run, &attested.name) {
                let message = format!("its run is attested by {other} as well");
                out.push(Finding::error("repeated_run", message).object(&attested.name).at(name, attested.sequence()));
            }
        }
    }
}
