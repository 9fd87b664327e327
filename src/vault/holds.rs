//! Legal holds: what an operator's attestation says must not be destroyed, and that what is committed into its
//! scope later is held too.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::attestation::{ExportDetails, Kind, ObjectRef, Outcome, SnapshotDetails, Statement};
use super::commit::{CommitError, Committed, Draft, Writer};
use super::ledger::{Attested, Ledger};
use super::names::{ChainName, RunId, ShortName};
use crate::store::{EnforcedBy, LockMode, LockRequest, LockState, Sha256, Store};

/// What a hold is about. Nothing said: the whole vault.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HoldScope {
    /// Only the snapshots of this source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ShortName>,
    /// Only the exports of this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<ShortName>,
    /// Only what this run needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Only what reaches past this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Only what begins before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

/// Whether a hold begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldAction {
    /// It begins, or keeps more than before.
    Add,
    /// It ends.
    Remove,
}

/// One object that a hold keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Logical name.
    pub name: String,
    /// Digest of the stored bytes.
    pub sha256: Sha256,
    /// The store's version id, where it has versions.
    pub version: Option<String>,
}

/// What a hold adds to the predicate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldDetails {
    /// The hold: the run of its first attestation.
    pub hold: RunId,
    /// Whether it begins or ends.
    pub action: HoldAction,
    /// What it is about.
    pub scope: HoldScope,
    /// Why.
    pub reason: String,
    /// On whose authority.
    pub authority: String,
    /// Until when, where that is known; it ends by `remove` all the same.
    pub until: Option<Timestamp>,
    /// What the store held, or let go, when this was signed.
    pub held: Vec<Kept>,
    /// Objects in the scope that the store had lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// How a hold ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifted {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// On whose authority.
    pub authority: String,
}

/// How a hold stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// In force.
    Active,
    /// Its instant has passed; it is in force until an operator removes it.
    Ended,
    /// Removed.
    Removed,
}

/// A hold, from everything that was attested of it.
#[derive(Debug, Clone)]
pub struct Hold {
    /// Which.
    pub hold: RunId,
    /// What it is about.
    pub scope: HoldScope,
    /// Why.
    pub reason: String,
    /// On whose authority.
    pub authority: String,
    /// Until when.
    pub until: Option<Timestamp>,
    /// When it was attested first.
    pub since: Timestamp,
    /// The number of that attestation on the chain `vault`.
    pub sequence: u64,
    /// What was held when it was attested.
    pub held: Vec<Kept>,
    /// How it ended, if it did.
    pub lifted: Option<Lifted>,
    /// The number of the attestation that ended it.
    pub lifted_by: Option<u64>,
}

/// The holds that attestations of the chain `vault` make, in order. One whose details cannot be read makes none.
pub fn holds_in<'a>(vault_chain: impl IntoIterator<Item = &'a Attested>) -> Vec<Hold> {
    let mut out: Vec<Hold> = Vec::new();
    for attested in vault_chain.into_iter().filter(|a| a.statement.kind == Kind::Hold) {
        let Ok(details) = attested.statement.predicate.details::<HoldDetails>() else { continue };
        let HoldDetails { hold, action, scope, reason, authority, until, held, .. } = details;
        let since = attested.statement.predicate.finished;
        let known = out.iter_mut().find(|h| h.hold == hold);
        match (action, known) {
            (HoldAction::Add, None) => {
                let sequence = attested.sequence();
                out.push(Hold { hold, scope, reason, authority, until, since, sequence, held, lifted: None, lifted_by: None });
            }
            (HoldAction::Add, Some(known)) if known.in_force() => known.held.extend(held),
            (HoldAction::Remove, Some(known)) if known.in_force() => {
                known.lifted = Some(Lifted { at: since, reason, authority });
                known.lifted_by = Some(attested.sequence());
            }
            _ => {}
        }
    }
    out
}

/// What a scope is compared with.
struct Facts<'a> {
    kind: Kind,
    chain: &'a ChainName,
    run: RunId,
    started: Timestamp,
    outcome: Outcome,
    details: &'a Map<String, Value>,
}

impl Facts<'_> {
    fn details<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_value(Value::Object(self.details.clone())).ok()
    }
}

impl<'a> From<&'a Statement> for Facts<'a> {
    fn from(statement: &'a Statement) -> Self {
        let p = &statement.predicate;
        Self { kind: statement.kind, chain: &p.chain, run: p.run, started: p.started, outcome: p.outcome, details: &p.details }
    }
}

impl<'a> From<&'a Draft> for Facts<'a> {
    fn from(draft: &'a Draft) -> Self {
        Self {
            kind: draft.kind,
            chain: &draft.chain,
            run: draft.run,
            started: draft.started,
            outcome: draft.outcome,
            details: &draft.details,
        }
    }
}

impl HoldScope {
    /// Whether a run lies in it. Holds themselves never do. `needed` are the runs of [`HoldScope::needed`].
    fn covers(&self, facts: &Facts<'_>, needed: &HashSet<RunId>) -> bool {
        if facts.kind == Kind::Hold {
            return false;
        }
        if self.run.is_some() {
            return needed.contains(&facts.run);
        }
        let of_source = self.source.as_ref().is_none_or(|s| facts.chain.source().as_ref() == Some(s));
        let of_stream = self.stream.as_ref().is_none_or(|s| facts.chain.stream().as_ref() == Some(s));
        of_source && of_stream && self.overlaps(facts)
    }

    /// Whether the time of a run meets the period; what cannot be told does.
    fn overlaps(&self, facts: &Facts<'_>) -> bool {
        if self.from.is_none() && self.to.is_none() {
            return true;
        }
        let meets = |start: Timestamp, last: Timestamp| self.to.is_none_or(|to| start < to) && self.from.is_none_or(|from| last >= from);
        match facts.kind {
            // A restore needs the whole epoch.
            Kind::Snapshot => facts.details::<SnapshotDetails>().is_none_or(|d| {
                let last = d.epoch.end.checked_sub(jiff::SignedDuration::from_nanos(1)).unwrap_or(d.epoch.end);
                meets(d.epoch.start, last)
            }),
            // What a failed run left has no spans.
            Kind::Export if facts.outcome == Outcome::Failed => true,
            Kind::Export => facts.details::<ExportDetails>().is_none_or(|d| {
                let window = d.window.is_some_and(|w| meets(w.from, w.to) && self.from.is_none_or(|from| w.to > from));
                window || d.spans.iter().any(|s| s.first.zip(s.last).is_none_or(|(first, last)| meets(first, last)))
            }),
            _ => meets(facts.started, facts.started),
        }
    }

    /// Of a scope that is one run: the runs that its state needs, itself included.
    fn needed<'a>(&self, attested: impl IntoIterator<Item = &'a Attested>) -> HashSet<RunId> {
        let Some(run) = self.run else { return HashSet::new() };
        let found = attested.into_iter().find(|a| a.statement.predicate.run == run);
        let details = found.and_then(|a| Facts::from(&a.statement).details::<SnapshotDetails>());
        let more = details.into_iter().flat_map(|d| d.segments_from.into_iter().chain(d.base));
        more.chain([run]).collect()
    }

    /// Every object that these attestations name and the scope covers, and the attestations themselves, by name.
    pub fn chosen<'a>(&self, attested: impl IntoIterator<Item = &'a Attested> + Clone) -> BTreeMap<String, Kept> {
        let needed = self.needed(attested.clone());
        let mut out = BTreeMap::new();
        for a in attested.into_iter().filter(|a| self.covers(&Facts::from(&a.statement), &needed)) {
            let own = Kept { name: a.name.clone(), sha256: a.sha256, version: a.version.clone() };
            let objects = a.statement.predicate.objects.iter();
            let objects = objects.map(|o| Kept { name: o.name.clone(), sha256: o.sha256, version: o.version.clone() });
            out.extend(objects.chain([own]).map(|kept| (kept.name.clone(), kept)));
        }
        out
    }
}

impl Hold {
    /// Whether it keeps anything: until an operator removes it.
    pub fn in_force(&self) -> bool {
        self.lifted.is_none()
    }

    /// Whether it was in force at a number of the chain `vault`.
    pub fn in_force_at(&self, number: u64) -> bool {
        self.sequence < number && self.lifted_by.is_none_or(|by| by > number)
    }

    /// How it stands at an instant.
    pub fn state(&self, now: Timestamp) -> HoldState {
        match (&self.lifted, self.until) {
            (Some(_), _) => HoldState::Removed,
            (None, Some(until)) if until <= now => HoldState::Ended,
            _ => HoldState::Active,
        }
    }

    /// Everything that it keeps, by name: what it named, and what is attested in its scope.
    pub fn keeps<'a>(&self, attested: impl IntoIterator<Item = &'a Attested> + Clone) -> BTreeMap<String, Kept> {
        let mut out = self.scope.chosen(attested);
        out.extend(self.held.iter().map(|kept| (kept.name.clone(), kept.clone())));
        out
    }
}

impl Ledger {
    /// The holds that the chain `vault` makes.
    pub fn holds(&self) -> Vec<Hold> {
        holds_in(&self.vault_chain().attested)
    }
}

/// Sets the store's hold on an object and lets its lock reach to `until`.
fn hold_object(store: &dyn Store, object: &mut ObjectRef, until: Option<Timestamp>) -> Result<(), CommitError> {
    if !store.set_hold(&object.name, object.version.as_deref(), true)? {
        return Err(CommitError::NotHeld { name: object.name.clone() });
    }
    if let Some(until) = until.filter(|until| object.lock.mode != LockMode::None && object.lock.until.is_none_or(|end| end < *until)) {
        let request = LockRequest { mode: object.lock.mode, until };
        object.lock = store.extend_lock(&object.name, object.version.as_deref(), &request)?;
    }
    Ok(())
}

/// The holds whose scope covers what is about to be, or just was, committed.
fn concerned<'a>(holds: &'a [Hold], draft: &Draft) -> Vec<&'a Hold> {
    let none = HashSet::new();
    holds.iter().filter(|h| h.in_force() && h.scope.covers(&Facts::from(draft), &none)).collect()
}

impl Writer {
    /// Holds what a run is about to commit, where a hold's scope covers it.
    pub(super) fn hold_before(&self, draft: &Draft, objects: &mut [ObjectRef]) -> Result<(), CommitError> {
        self.hold_all(&concerned(&self.ledger.holds(), draft), objects)
    }

    /// Holds the envelope, and all of it where the hold was attested meanwhile.
    pub(super) fn hold_after(&self, draft: &Draft, committed: &Committed) -> Result<(), CommitError> {
        // The run is committed. That the chain cannot be read now does not undo it: what was known before counts.
        let holds = match self.ledger.vault_chain_now() {
            Ok(view) => holds_in(&view.attested),
            Err(_) => self.ledger.holds(),
        };
        let holds = concerned(&holds, draft);
        if holds.is_empty() {
            return Ok(());
        }
        let name = draft.chain.envelope(committed.sequence);
        let store = self.ledger.store();
        let info = store.head(&name)?.ok_or_else(|| CommitError::Vanished { name: name.clone() })?;
        let lock = info.lock.unwrap_or_else(|| LockState::none(EnforcedBy::Service));
        let mut objects = committed.objects.clone();
        objects.push(ObjectRef { name, sha256: committed.sha256, size: info.size, version: info.version, lock });
        self.hold_all(&holds, &mut objects)
    }

    fn hold_all(&self, holds: &[&Hold], objects: &mut [ObjectRef]) -> Result<(), CommitError> {
        if holds.is_empty() {
            return Ok(());
        }
        let until = holds.iter().filter_map(|h| h.until).max();
        objects.iter_mut().try_for_each(|object| hold_object(self.ledger.store().as_ref(), object, until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn covers(scope: Value, kind: Kind, chain: &str, outcome: Outcome, details: Value) -> bool {
        let scope: HoldScope = serde_json::from_value(scope).unwrap();
        let Value::Object(details) = details else { panic!("details are an object") };
        let run = RunId::new(at("2026-03-20T00:00:00Z"));
        let chain = chain.parse().unwrap();
        scope.covers(&Facts { kind, chain: &chain, run, started: at("2026-03-20T08:00:00Z"), outcome, details: &details }, &HashSet::new())
    }

    #[test]
    fn a_period_is_met_by_epochs_windows_and_spans() {
        let export = |window: Value, spans: Value| json!({ "window": window, "events": 1, "spans": spans });
        let march = json!({ "from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z" });
        let span = |first: &str, last: &str| json!([{ "name": "x", "first": first, "last": last, "count": 1 }]);
        let scope = |from: &str, to: &str| json!({ "stream": "log", "from": from, "to": to });
        let met = |scope: Value, details: Value| covers(scope, Kind::Export, "export.log", Outcome::Complete, details);
        assert!(met(scope("2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z"), export(march.clone(), json!([]))));
        // Half open on both sides.
        assert!(!met(scope("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"), export(march.clone(), json!([]))));
        assert!(!met(scope("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"), export(march.clone(), json!([]))));
        // A late event lies where it lies; one without a time may lie anywhere.
        let late = span("2026-01-05T00:00:00Z", "2026-01-05T00:00:00Z");
        assert!(met(scope("2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z"), export(march.clone(), late.clone())));
        assert!(!met(scope("2026-01-06T00:00:00Z", "2026-01-07T00:00:00Z"), export(march.clone(), late)));
        let untimed = json!([{ "name": "x", "first": null, "last": null, "count": 1 }]);
        let early = scope("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z");
        assert!(met(early.clone(), export(Value::Null, untimed)));
        assert!(!met(early.clone(), export(march.clone(), json!([]))));
        assert!(covers(early.clone(), Kind::Export, "export.log", Outcome::Failed, export(march.clone(), json!([]))));
        assert!(met(early.clone(), json!({ "odd": true })), "what cannot be told");
        assert!(!covers(early, Kind::Export, "export.other", Outcome::Failed, export(march, json!([]))));
    }

    #[test]
    fn holds_lie_in_no_scope_and_everything_else_in_the_whole() {
        for (kind, chain, covered) in [
            (Kind::Hold, "vault", false),
            (Kind::Disposition, "vault", true),
            (Kind::Checkpoint, "checkpoint", true),
            (Kind::Drill, "drill", true),
        ] {
            assert_eq!(covers(json!({}), kind, chain, Outcome::Complete, json!({})), covered, "{kind}");
        }
        let day = json!({ "from": "2026-03-20T00:00:00Z", "to": "2026-03-21T00:00:00Z" });
        assert!(covers(day, Kind::Checkpoint, "checkpoint", Outcome::Complete, json!({})));
        assert!(!covers(json!({ "to": "2026-03-20T00:00:00Z" }), Kind::Checkpoint, "checkpoint", Outcome::Complete, json!({})));
        assert!(!covers(json!({ "source": "log" }), Kind::Export, "export.log", Outcome::Complete, json!({})));
    }
}
