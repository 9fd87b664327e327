//! Beginning a job: who may, what of it is done already, what was missed before it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{AGAIN, Agent, Happening, Head, Job, Order, Record, Run, State, WITHOUT_LEASES, is_past, note, write};
use crate::store::{LeaseToken, StoreError};
use crate::vault::names::ChainName;

impl Agent {
    pub(super) fn try_to_begin(&mut self, at: usize, now: Timestamp, steady: Duration) {
        let slot = &mut self.slots[at];
        let name = slot.job.name.clone();
        let lease = Record::lease(&name);
        let warn = |message: String| (self.means.listener)(&Happening::Warning { job: Some(name.clone()), message });
        slot.not_before = steady.saturating_add(AGAIN);
        let token = match self.means.leases.acquire(&lease) {
            Ok(Some(token)) => {
                (slot.trouble, slot.alone) = (None, false);
                Some(token)
            }
            Ok(None) => {
                (slot.trouble, slot.alone) = (None, false);
                if let Ok(Some(record)) = note(&*self.means.leases, &name, now) {
                    slot.record = Some(record);
                }
                return;
            }
            Err(e) => {
                let since = *slot.trouble.get_or_insert(steady);
                if since == steady {
                    warn(format!("its lease cannot be asked for: {e}; in two minutes it runs without one"));
                }
                // Who cannot reach the vault either knows nothing of what others do, and could do nothing.
                if steady.saturating_sub(since) < WITHOUT_LEASES || self.means.head.founded().is_err() {
                    return;
                }
                slot.alone = true;
                None
            }
        };
        if token.is_some()
            && let Ok(Some(record)) = note(&*self.means.leases, &name, now)
        {
            slot.record = Some(record);
        }
        if slot.record.is_none() && slot.baseline.is_none() {
            slot.baseline = baseline(&*self.means.head, &slot.job, now).ok();
        }
        let release = |token: &Option<LeaseToken>| {
            if let Some(token) = token {
                let _ = self.means.leases.release(&lease, token);
            }
        };
        // Another agent may have done it meanwhile.
        let waiting = slot.waiting(now).filter(|due| slot.ready_at(*due, self.settings.jitter) <= now);
        let Some(due) = waiting else { return release(&token) };
        slot.not_before = steady;
        let before = slot.record.clone();
        // Whoever ran the one before may have done it, and not have been able to note it.
        let open = before.as_ref().filter(|r| !r.is_over() && r.due < due).map(|r| r.due);
        let found = open.filter(|open| remaining(&*self.means.head, &slot.job, *open, now).is_empty());
        let (missed, missed_from) = missed(&slot.job, before.as_ref().map(|r| r.due), open.filter(|_| found.is_none()), due);
        let same = before.as_ref().filter(|record| record.due == due);
        let mut record = Record {
            version: 1,
            job: name.clone(),
            due,
            state: State::Running,
            attempts: same.map_or(0, |r| r.attempts) + 1,
            failures: before.as_ref().map_or(0, Record::failures_before),
            started: now,
            finished: None,
            success: before.as_ref().and_then(|r| r.success),
            exit: None,
            message: None,
            agent: self.name.clone(),
            policy_sha256: self.settings.policy_sha256.clone(),
            missed: same.map_or(missed, |r| r.missed),
            missed_from: same.map_or(missed_from, |r| r.missed_from),
            results: Vec::new(),
        };
        let other = before.as_ref().filter(|r| r.policy_sha256 != record.policy_sha256 && r.agent != self.name);
        slot.other_policy = other.map(|other| {
            let (theirs, own) = (short(&other.policy_sha256), short(&record.policy_sha256));
            format!("the agent {} ran it by another policy ({theirs}) than this one ({own}): give all agents the same", other.agent)
        });
        if let Some(other) = &slot.other_policy {
            warn(other.clone());
        }
        let remaining = remaining(&*self.means.head, &slot.job, due, now);
        if remaining.is_empty() {
            record.state = State::Done;
            record.finished = Some(now);
            record.success = Some(now);
            record.message = Some("the vault shows that it was done".to_owned());
        }
        // Looking into the vault may have taken longer than the lease lasts.
        let kept = token.as_ref().is_none_or(|token| {
            !matches!(self.means.leases.renew(&lease, token), Ok(false)) && !matches!(write(&*self.means.leases, token, &record), Ok(false))
        });
        if !kept {
            slot.not_before = steady.saturating_add(AGAIN);
            return warn("its lease ended while the vault was looked into: the store answers slowly; it is tried again".to_owned());
        }
        // Told only now, so that it is told once.
        if let Some(due) = found {
            (self.means.listener)(&Happening::Found { job: name.clone(), due });
        }
        if let Some(from) = missed_from.filter(|_| missed > 0 && same.is_none()) {
            (self.means.listener)(&Happening::Missed { job: name.clone(), from, until: due, count: missed });
        }
        if remaining.is_empty() {
            release(&token);
            slot.record = Some(record);
            return (self.means.listener)(&Happening::Found { job: name.clone(), due });
        }
        let steady = self.means.clock.monotonic();
        let order = Order { job: name.clone(), command: slot.job.work.command(), targets: remaining, due, attempt: record.attempts };
        match self.means.runner.start(&order) {
            Ok(running) => {
                (self.means.listener)(&Happening::Begun { job: name.clone(), due, attempt: record.attempts });
                slot.run =
                    Some(Run { running, token, record, began: steady, renewed: steady, asked: steady, stopped: None, killed: false });
            }
            Err(e) => {
                record.state = State::Failed;
                record.finished = Some(now);
                record.message = Some(format!("its process could not be started: {e}"));
                if let Some(token) = &token {
                    let _ = write(&*self.means.leases, token, &record);
                }
                release(&token);
                slot.record = Some(record.clone());
                (self.means.listener)(&Happening::Ended { record: Box::new(record), duration: SignedDuration::ZERO });
            }
        }
    }
}

/// What of a firing is not done by what the vault shows.
fn remaining(head: &dyn Head, job: &Job, due: Timestamp, now: Timestamp) -> Vec<Option<String>> {
    let done = |chain: &Option<ChainName>| {
        let newest = chain.as_ref().and_then(|chain| head.newest(chain).ok().flatten());
        newest.is_some_and(|started| started >= due && is_past(started, now))
    };
    job.work.targets().into_iter().filter(|(_, chain)| !done(chain)).map(|(name, _)| name.map(str::to_owned)).collect()
}

/// Up to when a job of which nothing is noted is done: by what the vault shows.
pub(super) fn baseline(head: &dyn Head, job: &Job, now: Timestamp) -> Result<Timestamp, StoreError> {
    let founded = head.founded()?;
    let mut oldest: Option<Timestamp> = None;
    for (_, chain) in job.work.targets() {
        let newest = match chain {
            Some(chain) => head.newest(&chain)?.unwrap_or(founded),
            None => founded,
        };
        oldest = Some(oldest.map_or(newest, |o| o.min(newest)));
    }
    // A chain that a wrong clock wrote to is not done until then.
    Ok(oldest.unwrap_or(founded).min(now))
}

/// How many firings before `due` nothing was done at, and the first of them: those after what was noted last, and that
/// one itself where nothing came of it.
///
/// Where nothing was noted, nobody knows since when there is such a job.
fn missed(job: &Job, after: Option<Timestamp>, open: Option<Timestamp>, due: Timestamp) -> (u64, Option<Timestamp>) {
    let Some(after) = after else { return (0, None) };
    let between = job.table.between(after, due);
    let first = open.or_else(|| (between > 0).then(|| job.table.next_after(after)).flatten());
    (u64::try_from(between).unwrap_or(u64::MAX) + u64::from(open.is_some()), first)
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
