//! The tenant: its configuration, its events, its clock, and the way from a request to an answer.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;

use super::clock::Clock;
use super::estate::{Basis, Estate};
use super::instant::nanos;
use super::logs::{Journal, Source};
use super::query::Sealer;
use super::reply::{Call, Plane, Reply};
use super::serve::{Fault, Faults, Throttle, Tokens, answer_arm, answer_batch, answer_control, answer_graph, answer_token};
use super::{Deed, Options, SampleError, change, dump, incident, serve};

/// A tenant. All methods take it shared: it guards itself.
#[derive(Debug)]
pub struct Tenant {
    options: Options,
    estate: RwLock<Estate>,
    journal: Journal,
    clock: Clock,
    sealer: Sealer,
    tokens: Tokens,
    faults: Faults,
    throttle: Throttle,
    requests: Mutex<BTreeMap<String, u64>>,
    fresh: AtomicU64,
}

impl Tenant {
    /// Makes the tenant that belongs to the options.
    pub fn new(options: Options) -> Self {
        let start = nanos(options.start.unwrap_or_else(Timestamp::now));
        let basis = Basis { seed: options.seed, users: options.users, start, tenant: options.tenant.clone() };
        let estate = Estate::build(basis.clone());
        Self {
            journal: Journal::new(basis, options.events_per_hour),
            estate: RwLock::new(estate),
            clock: Clock::starting(start),
            sealer: Sealer::new(options.seed, &options.tenant),
            tokens: Tokens::default(),
            faults: Faults::default(),
            throttle: Throttle::new(options.users),
            requests: Mutex::default(),
            fresh: AtomicU64::new(1),
            options,
        }
    }

    /// What it was made from.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Its clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What its clock shows, in nanoseconds since 1970.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// Interactive sign-ins in an hour, on average.
    pub fn events_per_hour(&self) -> u64 {
        self.journal.events_per_hour()
    }

    /// Does some everyday changes: people move, groups and eligibilities come and go.
    pub fn change(&self, count: usize) -> Vec<Deed> {
        change::everyday(&mut self.estate_mut(), &self.journal, self.now(), count)
    }

    /// Does what an intruder would do first.
    pub fn mischief(&self) -> Vec<Deed> {
        incident::mischief(&mut self.estate_mut(), &self.journal, self.now())
    }

    /// Lets one of [`super::DISASTERS`] happen.
    pub fn disaster(&self, name: &str) -> Result<Vec<Deed>, SampleError> {
        incident::disaster(&mut self.estate_mut(), &self.journal, self.now(), name)
    }

    /// Puts fault rules in place of those in force.
    pub fn set_faults(&self, rules: Vec<Fault>) {
        self.faults.replace(rules);
    }

    /// Writes the truth about the configuration, a line of JSON for each record.
    pub fn dump(&self, out: &mut impl Write) -> io::Result<()> {
        dump::configuration(&self.estate(), out)
    }

    /// Writes the truth about a stream: every version of every event that has arrived, a line of JSON for each.
    /// The bounds are on the time of the event, in nanoseconds since 1970, and both belong to the window.
    pub fn dump_logs(&self, source: Source, from: Option<i64>, to: Option<i64>, out: &mut impl Write) -> io::Result<()> {
        dump::events(&self.journal, self.now(), source, from, to, out)
    }

    /// Requests so far by method and path, with ids taken out.
    pub fn requests(&self) -> &Mutex<BTreeMap<String, u64>> {
        &self.requests
    }

    pub(super) fn estate(&self) -> RwLockReadGuard<'_, Estate> {
        self.estate.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn estate_mut(&self) -> RwLockWriteGuard<'_, Estate> {
        self.estate.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(super) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// A number that was not given before.
    pub(super) fn fresh(&self) -> u64 {
        self.fresh.fetch_add(1, Ordering::Relaxed)
    }

    /// Answers a request.
    pub fn answer(&self, call: &Call) -> Reply {
        if call.path == "/sample" || call.path.starts_with("/sample/") {
            return answer_control(self, call);
        }
        serve::count(self, call);
        let fault = self.faults.strike(&call.path);
        if let Some(reply) = fault.as_ref().and_then(|f| serve::instead(self, call, f)) {
            return reply;
        }
        let reply = self.serve(call);
        match &fault {
            Some(fault) => serve::spoil(self, call, fault, reply),
            None => reply,
        }
    }

    fn serve(&self, call: &Call) -> Reply {
        if let Some(tenant) = call.path.strip_suffix("/oauth2/v2.0/token") {
            return answer_token(self, call, tenant.trim_start_matches('/'));
        }
        if let Err(reply) = serve::authorise(self, call) {
            return reply;
        }
        let batch = matches!(call.path.as_str(), "/v1.0/$batch" | "/beta/$batch") && !call.nested;
        if batch {
            return answer_batch(self, call);
        }
        let mut headers = Vec::new();
        if self.options.throttle {
            match serve::check(self, call, &self.throttle) {
                Ok(told) => headers = told,
                Err(reply) => return reply,
            }
        }
        let mut reply = match call.plane() {
            Plane::Graph => answer_graph(self, call),
            Plane::Arm => answer_arm(self, call),
        };
        reply.headers.extend(headers);
        reply
    }
}
