//! The daemon: when each job runs, and on which of several agents.
//!
//! It promises: each firing of a schedule is run once by one agent, or told as missed; after a time of absence the
//! newest missed firing of each job is made up for, and the older ones, which it covers, are told; a run that fails is
//! tried again until it succeeds or the next firing takes its place; a job never overlaps itself. Each run is a process
//! of its own, so nothing that it does can stop or swell the daemon. Leases save double work; what keeps a chain right
//! is its own fence.

mod begin;
mod clockwatch;
mod conditions;
mod head;
mod host;
mod job;
mod reader;
mod runner;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::store::{Clock, LeaseToken, Leases, StoreError};
use crate::vault::names::ChainName;
use begin::baseline;
use clockwatch::ClockWatch;

pub use conditions::{of_audit, of_jobs, of_quiet, of_status, of_unread};
pub use head::VaultHead;
pub use host::{HostError, StateLock};
pub use job::{Job, Record, State, Work, jobs};
pub use reader::{Reader, Unread};
pub use runner::{Ended, Order, Processes, Runner, Running, Said};

/// A lease is renewed this often while its job runs.
const RENEW: Duration = Duration::from_secs(20);
/// What another agent has, or what cannot be asked now, is looked at again after so long.
const AGAIN: Duration = Duration::from_secs(10);
/// What another job is about to be done with is looked at again after so long.
const BRIEFLY: Duration = Duration::from_secs(2);
/// Without leases for so long, an agent works without them.
const WITHOUT_LEASES: Duration = Duration::from_secs(120);
/// A process that was told to stop is killed after so long.
const GRACE: Duration = Duration::from_secs(25);
/// On the agent's own way out: runs may end by themselves for so long, then are told to stop, then are killed.
const MAY_FINISH: Duration = Duration::from_secs(15);
const MUST_END: Duration = Duration::from_secs(24);
/// What other agents noted is read this often.
const LOOK: Duration = Duration::from_secs(30);
/// Nothing happens for longer than this without a look.
const IDLE: Duration = Duration::from_secs(600);
/// Tests and drills that fail are tried no more often than this; the next firing comes.
const MOST_TRIES: u32 = 5;

/// What the agent must know of the vault.
pub trait Head: Send {
    /// When the newest run that counts began, on a chain.
    fn newest(&self, chain: &ChainName) -> Result<Option<Timestamp>, StoreError>;

    /// When the vault was founded.
    fn founded(&self) -> Result<Timestamp, StoreError>;

    /// The store's clock, if it is another one than this machine's.
    fn clock(&self) -> Option<Timestamp>;
}

/// What happened, for logs and metrics.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// A run begins.
    Begun {
        /// The job.
        job: String,
        /// Its firing.
        due: Timestamp,
        /// Which try.
        attempt: u32,
    },
    /// A run ended.
    Ended {
        /// What is noted of it.
        record: Box<Record>,
        /// How long it took.
        duration: SignedDuration,
    },
    /// Firings passed at which nothing was done, and nothing will be.
    Missed {
        /// The job.
        job: String,
        /// The first.
        from: Timestamp,
        /// The firing that is run in their place.
        until: Timestamp,
        /// How many.
        count: u64,
    },
    /// A firing was done already, by what the vault shows: nothing is run.
    Found {
        /// The job.
        job: String,
        /// Its firing.
        due: Timestamp,
    },
    /// Something that the operator should know.
    Warning {
        /// About which job.
        job: Option<String>,
        /// What.
        message: String,
    },
}

/// How an agent goes about its jobs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Each run begins up to so much later than it is due.
    pub jitter: SignedDuration,
    /// So many at a time.
    pub concurrency: usize,
    /// A drill needs snapshots that are no older.
    pub rpo: SignedDuration,
    /// The digest of what agents must agree on.
    pub policy_sha256: String,
}

/// What an agent works with.
pub struct Means {
    /// The machine's clock.
    pub clock: Arc<dyn Clock>,
    /// Who does what.
    pub leases: Arc<dyn Leases>,
    /// Runs commands.
    pub runner: Box<dyn Runner>,
    /// The vault.
    pub head: Box<dyn Head>,
    /// Listens.
    pub listener: Box<dyn Fn(&Happening) + Send>,
}

/// One job, and how it stands.
pub struct Slot {
    /// The job.
    pub job: Job,
    /// Whether this agent runs it, or leaves it to others.
    pub own: bool,
    /// What was last noted of it.
    pub record: Option<Record>,
    /// Whether this agent runs it now.
    run: Option<Run>,
    /// Not looked at before, by the steady clock.
    not_before: Duration,
    /// Since when its lease cannot be asked for.
    trouble: Option<Duration>,
    /// For so long that it is run without.
    alone: bool,
    /// The other agent that runs it by another policy.
    other_policy: Option<String>,
    /// Up to when everything is done, where nothing is noted.
    baseline: Option<Timestamp>,
    /// It is in the policy no more.
    retired: bool,
    /// The first firing after an instant, so that it is not computed over and over.
    upcoming: Cell<Option<(Timestamp, Option<Timestamp>)>>,
}

struct Run {
    running: Box<dyn Running>,
    token: Option<LeaseToken>,
    record: Record,
    began: Duration,
    renewed: Duration,
    asked: Duration,
    /// Since when it was told to stop, and why.
    stopped: Option<(Duration, Stop)>,
    killed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Deadline,
    LeaseLost,
    Shutdown,
}

impl Slot {
    fn new(job: Job, own: bool) -> Self {
        Self {
            job,
            own,
            record: None,
            run: None,
            not_before: Duration::ZERO,
            trouble: None,
            alone: false,
            other_policy: None,
            baseline: None,
            retired: false,
            upcoming: Cell::default(),
        }
    }

    /// What stands in the way of sharing it with other agents.
    pub fn discord(&self) -> (bool, Option<&str>) {
        (self.alone, self.other_policy.as_deref())
    }

    /// What is to be told of it: of the run under way, else what was last noted.
    pub fn told(&self) -> Option<&Record> {
        self.run.as_ref().map(|run| &run.record).or(self.record.as_ref())
    }

    /// Whether this agent runs it now.
    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// The firing that waits to be run, up to now.
    pub fn waiting(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.record {
            Some(record) => {
                let newer = self.newer(record.due, now);
                newer.or_else(|| (!record.is_over() && !self.has_given_up(record)).then_some(record.due))
            }
            None => self.newer(self.baseline?, now),
        }
    }

    /// The newest firing after an instant up to now.
    fn newer(&self, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let first = self.first_after(after)?;
        if first > now { None } else { self.job.table.newest(after, now) }
    }

    fn first_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self.upcoming.get() {
            Some((known, first)) if known == after => first,
            _ => {
                let first = self.job.table.next_after(after);
                self.upcoming.set(Some((after, first)));
                first
            }
        }
    }

    fn has_given_up(&self, record: &Record) -> bool {
        !record.is_over() && !self.job.work.is_backup() && record.attempts >= MOST_TRIES
    }

    /// When the firing that waits may begin.
    fn ready_at(&self, due: Timestamp, jitter: SignedDuration) -> Timestamp {
        match &self.record {
            Some(record) if record.due == due => record.retry_at(&self.job),
            _ => due.saturating_add(self.job.jitter(due, jitter)).unwrap_or(due),
        }
    }

    /// When its schedule fires next.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let last = self.record.as_ref().map(|r| r.due).or(self.baseline).filter(|last| *last <= now);
        last.and_then(|last| self.first_after(last)).filter(|next| *next > now).or_else(|| self.job.table.next_after(now))
    }
}

/// One agent.
pub struct Agent {
    name: String,
    settings: Settings,
    means: Means,
    slots: Vec<Slot>,
    clockwatch: ClockWatch,
    looked: Option<Duration>,
    stopping: Option<Duration>,
}

impl Agent {
    /// An agent that runs those of the jobs for which `own` says so.
    pub fn new(name: String, settings: Settings, means: Means, jobs: Vec<Job>, own: impl Fn(&Job) -> bool) -> Self {
        let clockwatch = ClockWatch::new(means.clock.now(), means.clock.monotonic());
        let mut agent = Self { name, settings, means, slots: Vec::new(), clockwatch, looked: None, stopping: None };
        agent.reload(agent.settings.clone(), jobs, own);
        agent
    }

    /// Takes other jobs; what runs goes on.
    pub fn reload(&mut self, settings: Settings, jobs: Vec<Job>, own: impl Fn(&Job) -> bool) {
        self.settings = settings;
        let mut before: Vec<Slot> = std::mem::take(&mut self.slots);
        for job in jobs {
            let own = own(&job);
            let known = before.iter().position(|slot| slot.job.name == job.name).map(|at| before.swap_remove(at));
            // The same name for something else begins anew.
            let known = known.filter(|slot| slot.run.is_some() || slot.job.work.command() == job.work.command());
            self.slots.push(match known {
                Some(slot) => Slot { job, own, retired: false, upcoming: Cell::default(), ..slot },
                None => Slot::new(job, own),
            });
        }
        self.slots.extend(before.into_iter().filter(|slot| slot.run.is_some()).map(|slot| Slot { retired: true, ..slot }));
        self.looked = None;
    }

    /// How each job stands.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Why nothing is begun now, if it is so.
    pub fn held(&self) -> Option<String> {
        self.clockwatch.held()
    }

    /// From now on nothing is begun, and what runs is ended within half a minute.
    pub fn stop(&mut self) {
        self.stopping.get_or_insert(self.means.clock.monotonic());
    }

    /// Whether nothing runs any more.
    pub fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| slot.run.is_none())
    }

    /// Does what is to be done now; to be called again after what it answers, or when a run ends.
    pub fn tick(&mut self) -> Duration {
        let (now, steady) = (self.means.clock.now(), self.means.clock.monotonic());
        if let Some(message) = self.clockwatch.look(now, steady, || self.means.head.clock()) {
            (self.means.listener)(&Happening::Warning { job: None, message });
        }
        for at in 0..self.slots.len() {
            self.attend(at, steady);
        }
        self.slots.retain(|slot| !slot.retired || slot.run.is_some());
        if self.looked.is_none_or(|looked| steady.saturating_sub(looked) >= LOOK) {
            self.looked = Some(steady);
            if self.stopping.is_none() {
                self.look(now);
            }
        }
        if self.stopping.is_none() && self.clockwatch.held().is_none() {
            self.begin(now, steady);
        }
        self.next_look(now, steady)
    }

    /// Reads what is noted of the jobs that others may run.
    fn look(&mut self, now: Timestamp) {
        for slot in self.slots.iter_mut().filter(|slot| slot.run.is_none()) {
            match note(&*self.means.leases, &slot.job.name, now) {
                Ok(Some(record)) => slot.record = Some(record),
                Ok(None) => {}
                // The others would not answer either; they are asked when they are to be run.
                Err(_) => return,
            }
            if slot.record.is_none() && slot.baseline.is_none() {
                slot.baseline = baseline(&*self.means.head, &slot.job, now).ok();
            }
        }
    }

    /// Looks after a run.
    fn attend(&mut self, at: usize, steady: Duration) {
        let slot = &mut self.slots[at];
        let Some(run) = &mut slot.run else { return };
        if let Some(ended) = run.running.poll() {
            self.ended(at, ended);
            return;
        }
        let since = |then: Duration| steady.saturating_sub(then);
        if run.stopped.is_none() {
            let too_long = since(run.began) >= Duration::try_from(slot.job.deadline).unwrap_or(Duration::MAX);
            let stop = match self.stopping {
                _ if too_long => Some(Stop::Deadline),
                Some(stopping) if since(stopping) >= MAY_FINISH => Some(Stop::Shutdown),
                _ => None,
            };
            if let Some(why) = stop {
                run.stopped = Some((steady, why));
                run.running.stop();
            }
        }
        let must_end = self.stopping.is_some_and(|stopping| since(stopping) >= MUST_END);
        if !run.killed && (must_end || run.stopped.is_some_and(|(stopped, _)| since(stopped) >= GRACE)) {
            run.killed = true;
            run.running.kill();
        }
        if since(run.renewed) >= RENEW
            && since(run.asked) >= RENEW
            && let Some(token) = &run.token
        {
            run.asked = steady;
            match self.means.leases.renew(&Record::lease(&slot.job.name), token) {
                Ok(true) => run.renewed = steady,
                Ok(false) => {
                    run.token = None;
                    let message = "another agent has its lease now: this run is stopped, and the other one goes on".to_owned();
                    (self.means.listener)(&Happening::Warning { job: Some(slot.job.name.clone()), message });
                    if run.stopped.is_none() {
                        run.stopped = Some((steady, Stop::LeaseLost));
                        run.running.stop();
                    }
                }
                // The run goes on: what must not happen twice is fenced by the chain.
                Err(_) => {}
            }
        }
    }

    fn ended(&mut self, at: usize, ended: Ended) {
        let (now, steady) = (self.means.clock.now(), self.means.clock.monotonic());
        let slot = &mut self.slots[at];
        let Some(mut run) = slot.run.take() else { return };
        let proof = matches!(slot.job.work, Work::RestoreTest | Work::Drill);
        let stopped = run.stopped.map(|(_, why)| why);
        let state = match (ended.exit, stopped) {
            (Some(0), _) => State::Done,
            (Some(4 | 6), _) => State::Flawed,
            (Some(3), _) if proof => State::Flawed,
            (_, Some(Stop::Shutdown | Stop::LeaseLost)) => State::Interrupted,
            _ => State::Failed,
        };
        let message = match (state, stopped) {
            (State::Failed, Some(Stop::Deadline)) => Some(format!("it lasted longer than {} and was stopped", spoken(slot.job.deadline))),
            (State::Done, _) => None,
            (State::Interrupted, _) => Some("the agent that ran it was stopped".to_owned()),
            _ => Some(ended.message).filter(|m| !m.is_empty()).or_else(|| Some(how_it_ended(ended.exit, ended.signal))),
        };
        let record = &mut run.record;
        record.state = state;
        record.finished = Some(now);
        record.exit = ended.exit;
        record.message = message;
        record.results = ended.results;
        if record.is_over() {
            record.success = Some(now);
            record.failures = 0;
        }
        if state == State::Failed {
            record.failures += 1;
        }
        if stopped == Some(Stop::Shutdown) && state == State::Interrupted {
            // It was not its own fault.
            record.attempts = record.attempts.saturating_sub(1);
        }
        let duration = SignedDuration::try_from(steady.saturating_sub(run.began)).unwrap_or(SignedDuration::MAX);
        if let Some(token) = &run.token {
            // What cannot be noted is found in the vault by whoever is next.
            let _ = write(&*self.means.leases, token, record);
            let _ = self.means.leases.release(&Record::lease(&slot.job.name), token);
        }
        if stopped != Some(Stop::LeaseLost) {
            slot.record = Some(run.record.clone());
        }
        (self.means.listener)(&Happening::Ended { record: Box::new(run.record), duration });
    }

    /// Begins what waits and may begin, the most urgent first.
    fn begin(&mut self, now: Timestamp, steady: Duration) {
        let mut ready: Vec<(u8, std::cmp::Reverse<Timestamp>, usize)> = Vec::new();
        for (at, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.own && slot.run.is_none() && !slot.retired) {
            let Some(due) = slot.waiting(now).filter(|due| slot.ready_at(*due, self.settings.jitter) <= now) else { continue };
            ready.push((slot.job.work.rank(), std::cmp::Reverse(due), at));
        }
        ready.sort_unstable();
        let backups = ready.iter().any(|(_, _, at)| self.slots[*at].job.work.is_backup());
        for (.., at) in ready {
            if self.slots.iter().filter(|slot| slot.run.is_some()).count() >= self.settings.concurrency {
                return;
            }
            if self.slots[at].not_before > steady {
                continue;
            }
            if self.must_wait(at, backups, now) {
                self.slots[at].not_before = steady.saturating_add(AGAIN);
                continue;
            }
            if self.is_written_to(at, now) {
                continue;
            }
            self.try_to_begin(at, now, steady);
        }
    }

    /// Whether another job writes to one of its chains now, here or elsewhere: one of the two would drop out.
    fn is_written_to(&mut self, at: usize, now: Timestamp) -> bool {
        let shared = |slot: &Slot| slot.job.work.shares_a_chain(&self.slots[at].job.work);
        let others = self.slots.iter().enumerate().filter(|(other, slot)| *other != at && shared(slot));
        let busy =
            others.map(|(_, slot)| slot).any(|slot| slot.run.is_some() || is_run_elsewhere(&*self.means.leases, &slot.job.name, now));
        if busy {
            self.slots[at].not_before = self.means.clock.monotonic().saturating_add(BRIEFLY);
        }
        busy
    }

    /// A drill wants fresh snapshots, and a test what is whole: both wait for the backups.
    fn must_wait(&self, at: usize, backups: bool, now: Timestamp) -> bool {
        let work = &self.slots[at].job.work;
        if work.is_backup() || *work == Work::Checkpoint {
            return false;
        }
        let running = self.slots.iter().any(|slot| slot.job.work.is_backup() && slot.run.is_some());
        let fresh = |slot: &Slot| {
            let success = slot.record.as_ref().and_then(|r| r.success);
            success.is_some_and(|at| now.duration_since(at) <= self.settings.rpo)
        };
        let mut snapshots = self.slots.iter().filter(|slot| matches!(slot.job.work, Work::Snapshot(_))).peekable();
        let stale = *work == Work::Drill && snapshots.peek().is_some() && !snapshots.any(fresh);
        backups || running || stale
    }

    /// How long nothing needs to be looked at, but for what others note.
    fn next_look(&self, now: Timestamp, steady: Duration) -> Duration {
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        let of = |slot: &Slot| match slot.waiting(now) {
            Some(due) => Some(until(slot.ready_at(due, self.settings.jitter)).max(slot.not_before.saturating_sub(steady))),
            None => slot.next(now).map(|next| until(slot.ready_at(next, self.settings.jitter))),
        };
        let waiting = self.slots.iter().filter(|slot| slot.own && slot.run.is_none()).filter_map(of).min();
        let most = if self.is_idle() { IDLE } else { Duration::from_secs(1) };
        if self.clockwatch.held().is_some() {
            return most.min(AGAIN);
        }
        // What waits for others is looked at every so often, not at once.
        waiting.map_or(most, |w| w.max(Duration::from_millis(500))).min(most)
    }
}

/// Whether somebody runs a job now: by its note, and by its lease, since who was killed could note nothing.
fn is_run_elsewhere(leases: &dyn Leases, name: &str, now: Timestamp) -> bool {
    if !matches!(note(leases, name, now), Ok(Some(record)) if record.state == State::Running) {
        return false;
    }
    let lease = Record::lease(name);
    match leases.acquire(&lease) {
        Ok(Some(token)) => {
            let _ = leases.release(&lease, &token);
            false
        }
        Ok(None) => true,
        Err(_) => false,
    }
}

fn note(leases: &dyn Leases, name: &str, now: Timestamp) -> Result<Option<Record>, StoreError> {
    // What cannot be read is no note: the vault tells. Nor is one of the future, by an agent whose clock was wrong: it
    // would keep the job from everybody until then.
    let read = leases.note(&Record::lease(name))?.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    let sound = |r: &Record| is_past(r.due, now) && r.finished.is_none_or(|at| is_past(at, now)) && is_past(r.started, now);
    Ok(read.filter(|record| record.version == 1 && record.job == name && sound(record)))
}

/// Not later than clocks may differ.
fn is_past(at: Timestamp, now: Timestamp) -> bool {
    at.duration_since(now) <= clockwatch::ORDINARY
}

fn write(leases: &dyn Leases, token: &LeaseToken, record: &Record) -> Result<bool, StoreError> {
    match serde_json::to_vec(record) {
        Ok(bytes) => leases.set_note(&Record::lease(&record.job), token, &bytes),
        Err(_) => Ok(true),
    }
}

fn how_it_ended(exit: Option<i32>, signal: Option<i32>) -> String {
    match (exit, signal) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => format!("it was ended by the signal {signal}"),
        (None, None) => "it ended without a word".to_owned(),
    }
}

fn spoken(duration: SignedDuration) -> String {
    crate::objective::spoken(duration)
}
