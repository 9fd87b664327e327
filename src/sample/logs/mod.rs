//! Events: drawn minute by minute when somebody asks, never kept, and the same whenever they are drawn again.
//!
//! An event has a time at which it happened and a later one at which it arrives; before that nobody sees it. Some
//! sign-ins and all requests that need approval change once more after they arrived.

mod activity;
mod audit;
mod requests;
pub mod serve;
mod sign_in;

use std::collections::BTreeMap;
use std::sync::RwLock;

use super::estate::Basis;
use super::instant::SECOND;
use super::rng::{hash, mix};

pub use audit::{Audit, record as audit_record};

const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A stream of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Sign-ins of people.
    InteractiveSignIns,
    /// Sign-ins of clients on behalf of people.
    NonInteractiveSignIns,
    /// Sign-ins of applications.
    ServicePrincipalSignIns,
    /// Sign-ins of managed identities.
    ManagedIdentitySignIns,
    /// Changes of the directory.
    DirectoryAudits,
    /// Requests to activate or assign directory roles.
    DirectoryActivations,
    /// Requests for eligibility.
    DirectoryEligibilityRequests,
    /// What happened in Azure subscriptions.
    ArmActivity,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::InteractiveSignIns,
        Self::NonInteractiveSignIns,
        Self::ServicePrincipalSignIns,
        Self::ManagedIdentitySignIns,
        Self::DirectoryAudits,
        Self::DirectoryActivations,
        Self::DirectoryEligibilityRequests,
        Self::ArmActivity,
    ];

    /// Its name in the backup catalogue.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InteractiveSignIns => "log.signIns.interactive",
            Self::NonInteractiveSignIns => "log.signIns.nonInteractive",
            Self::ServicePrincipalSignIns => "log.signIns.servicePrincipal",
            Self::ManagedIdentitySignIns => "log.signIns.managedIdentity",
            Self::DirectoryAudits => "log.directoryAudits",
            Self::DirectoryActivations => "log.pim.directoryActivations",
            Self::DirectoryEligibilityRequests => "log.pim.directoryEligibilityRequests",
            Self::ArmActivity => "log.armActivity",
        }
    }

    /// The stream of a name, with or without `log.`; plain `signIns` are the interactive ones.
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("log.").unwrap_or(name);
        let name = if name == "signIns" { "signIns.interactive" } else { name };
        Self::ALL.into_iter().find(|s| s.name().strip_prefix("log.") == Some(name))
    }

    /// The stream that a path of Microsoft Graph begins with.
    pub fn at_graph_path(path: &str) -> Option<Self> {
        match path {
            "auditLogs/signIns" | "auditLogs/signins" => Some(Self::InteractiveSignIns),
            "auditLogs/directoryAudits" | "auditLogs/directoryaudits" => Some(Self::DirectoryAudits),
            "roleManagement/directory/roleAssignmentScheduleRequests" => Some(Self::DirectoryActivations),
            "roleManagement/directory/roleEligibilityScheduleRequests" => Some(Self::DirectoryEligibilityRequests),
            _ => None,
        }
    }

    /// Whether it is a kind of sign-in.
    pub fn signs_in(self) -> bool {
        self <= Self::ManagedIdentitySignIns
    }

    /// The word for it in `signInEventTypes`.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::NonInteractiveSignIns => "nonInteractiveUser",
            Self::ServicePrincipalSignIns => "servicePrincipal",
            Self::ManagedIdentitySignIns => "managedIdentity",
            _ => "interactiveUser",
        }
    }

    /// How long the service keeps it; requests it keeps for good.
    fn retention(self) -> Option<i64> {
        match self {
            Self::ArmActivity => Some(90 * DAY),
            Self::DirectoryActivations | Self::DirectoryEligibilityRequests => None,
            _ => Some(30 * DAY),
        }
    }
}

/// An event, drawn but not yet written.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// When it happened.
    pub time: i64,
    /// Its stream.
    pub source: Source,
    /// The subscription, in the activity log.
    pub part: u8,
    /// Its number within the minute; those that were recorded come after those that are drawn.
    pub n: u32,
    /// What its contents are drawn from.
    pub draw: u64,
    /// When it can be seen.
    pub arrival: i64,
    /// When it is seen to have changed.
    pub again: Option<i64>,
}

/// The numbers of recorded events start here.
const RECORDED: u32 = 1 << 30;

impl Event {
    /// Its place in the order of all events of a request.
    pub fn key(&self) -> (i64, Source, u8, u32) {
        (self.time, self.source, self.part, self.n)
    }
}

/// An event that followed from a deed, and so is kept.
#[derive(Debug, Clone)]
struct Recorded {
    event: Event,
    id: String,
    json: Vec<u8>,
}

/// All events there ever were and will be.
#[derive(Debug)]
pub struct Journal {
    basis: Basis,
    per_hour: u64,
    subscriptions: Vec<String>,
    /// Ids of conditional access policies, which sign-ins name.
    policies: Vec<String>,
    services: usize,
    /// By minute.
    recorded: RwLock<BTreeMap<i64, Vec<Recorded>>>,
}

/// How busy each hour of the day is, in hundredths of the mean.
const RHYTHM: [u64; 24] = [25, 20, 18, 18, 25, 45, 85, 140, 190, 205, 200, 180, 165, 185, 195, 185, 165, 140, 110, 85, 70, 55, 45, 35];

impl Journal {
    /// The events of a tenant.
    pub fn new(basis: Basis, per_hour: Option<u64>) -> Self {
        let per_hour = per_hour.unwrap_or((basis.users as u64 * 12 / 100).max(6));
        Self {
            subscriptions: basis.subscriptions(),
            policies: (0..14).map(|n| basis.guid("caPolicy", n)).collect(),
            services: (basis.users / 100).max(10),
            basis,
            per_hour,
            recorded: RwLock::default(),
        }
    }

    /// Interactive sign-ins in an hour, on average.
    pub fn events_per_hour(&self) -> u64 {
        self.per_hour
    }

    /// The number of subscriptions, each of which has an activity log.
    pub fn parts(&self, source: Source) -> u8 {
        if source == Source::ArmActivity { self.subscriptions.len() as u8 } else { 1 }
    }

    /// The subscription of an id.
    pub fn part_of(&self, subscription: &str) -> Option<u8> {
        self.subscriptions.iter().position(|s| s.eq_ignore_ascii_case(subscription)).map(|at| at as u8)
    }

    /// The first instant from which the service has events.
    pub fn floor(&self, source: Source, now: i64) -> i64 {
        source.retention().map_or(self.basis.start - 30 * DAY, |kept| now - kept)
    }

    /// Events of a stream in ten thousand minutes of average business.
    fn rate(&self, source: Source) -> u64 {
        let rate = self.per_hour * 10_000 / 60;
        match source {
            Source::InteractiveSignIns => rate,
            Source::NonInteractiveSignIns => rate * 3,
            Source::ServicePrincipalSignIns => rate / 2,
            Source::ManagedIdentitySignIns => rate / 4,
            Source::DirectoryAudits => rate / 3,
            Source::DirectoryActivations => (rate / 60).min(3300),
            Source::DirectoryEligibilityRequests => (rate / 400).min(800),
            Source::ArmActivity => rate / 6,
        }
    }

    /// Draws the events of one minute, those that have not arrived too.
    pub fn minute(&self, source: Source, part: u8, minute: i64, out: &mut Vec<Event>) {
        let base = hash(&[self.basis.seed, source as u64, u64::from(part), minute as u64]);
        let busy = RHYTHM[(minute.div_euclid(60).rem_euclid(24)) as usize];
        let weekend = matches!(minute.div_euclid(1440).rem_euclid(7), 2 | 3);
        let scaled = self.rate(source) * busy * if weekend { 40 } else { 124 };
        let share = 100 * 100 * 10_000;
        let count = scaled / share + u64::from(mix(base ^ 1) % share < scaled % share);
        for n in 0..count {
            let draw = hash(&[base, n]);
            let within = (n * 60_000_000 + draw % 60_000_000) / count;
            let mut time = minute * MINUTE + within as i64 * 1000;
            if source.signs_in() {
                time -= time.rem_euclid(SECOND);
            }
            let (arrival, again) = fate(source, time, draw);
            out.push(Event { time, source, part, n: n as u32, draw, arrival, again });
        }
        let recorded = self.recorded.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let here = recorded.get(&minute).into_iter().flatten();
        out.extend(here.filter(|r| r.event.source == source && r.event.part == part).map(|r| r.event));
    }

    /// Records an event that happens now; it arrives as others do, after a minute or two.
    pub fn record(&self, source: Source, time: i64, id: &str, json: Vec<u8>) {
        let mut recorded = self.recorded.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let list = recorded.entry(time.div_euclid(MINUTE)).or_default();
        let draw = super::rng::hash_text(id);
        let arrival = time + MINUTE + (draw % 60) as i64 * SECOND;
        let event = Event { time, source, part: 0, n: RECORDED + list.len() as u32, draw, arrival, again: None };
        list.push(Recorded { event, id: id.to_owned(), json });
    }

    /// Writes an event as of its first or its second version.
    pub fn write(&self, event: &Event, second: bool, beta: bool, out: &mut Vec<u8>) {
        if event.n >= RECORDED {
            let recorded = self.recorded.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            let list = recorded.get(&event.time.div_euclid(MINUTE));
            if let Some(found) = list.and_then(|l| l.iter().find(|r| r.event.n == event.n)) {
                out.extend_from_slice(&found.json);
            }
            return;
        }
        match event.source {
            Source::DirectoryAudits => audit::write(&self.basis, event, out),
            Source::DirectoryActivations | Source::DirectoryEligibilityRequests => requests::write(&self.basis, event, second, out),
            Source::ArmActivity => activity::write(&self.basis, &self.subscriptions, event, out),
            _ => sign_in::write(&self.basis, &self.policies, self.services, event, second, beta, out),
        }
    }

    /// The id of an event.
    pub fn id(&self, event: &Event) -> String {
        if event.n >= RECORDED {
            let recorded = self.recorded.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            let list = recorded.get(&event.time.div_euclid(MINUTE));
            return list.and_then(|l| l.iter().find(|r| r.event.n == event.n)).map(|r| r.id.clone()).unwrap_or_default();
        }
        let mut out = Vec::with_capacity(80);
        if event.source == Source::DirectoryAudits {
            audit::push_id(event, &mut out);
        } else {
            push_id(event, &mut out);
        }
        String::from_utf8(out).unwrap_or_default()
    }
}

/// Writes the GUID of an event.
fn push_id(event: &Event, out: &mut Vec<u8>) {
    super::rng::push_guid(out, mix(event.draw ^ 0x1d), mix(event.draw ^ 0x2d));
}

/// When an event arrives, and when it changes.
fn fate(source: Source, time: i64, draw: u64) -> (i64, Option<i64>) {
    let luck = mix(draw ^ 0xfa7e);
    let between = |from: i64, to: i64| from + ((luck >> 16) % ((to - from) / SECOND) as u64) as i64 * SECOND;
    if matches!(source, Source::DirectoryActivations | Source::DirectoryEligibilityRequests) {
        let decided = requests::needs_approval(draw).then(|| time + between(5 * MINUTE, 90 * MINUTE));
        return (time + 2 * SECOND, decided);
    }
    let delay = match luck % 1000 {
        0 => between(2 * HOUR, 30 * HOUR),
        1..=10 => between(10 * MINUTE, 2 * HOUR),
        _ => between(MINUTE, 4 * MINUTE),
    };
    let arrival = time + delay;
    let changes = source.signs_in() && mix(draw ^ 0xc4a9) % 100 < 3;
    (arrival, changes.then(|| arrival + 2 * MINUTE + (mix(draw ^ 0x71) % 21_600) as i64 * SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(per_hour: u64) -> Journal {
        let basis = Basis { seed: 3, users: 500, start: 1_790_000_000 * SECOND, tenant: "t".into() };
        Journal::new(basis, Some(per_hour))
    }

    fn day(journal: &Journal, source: Source) -> Vec<Event> {
        let mut out = Vec::new();
        let first = journal.basis.start / MINUTE;
        (first..first + 1440).for_each(|m| journal.minute(source, 0, m, &mut out));
        out
    }

    #[test]
    fn events_are_in_order_and_as_many_as_asked() {
        let events = day(&journal(6000), Source::InteractiveSignIns);
        assert!(events.len() > 6000 * 24 / 4 && events.len() < 6000 * 24 * 2, "{}", events.len());
        assert!(events.windows(2).all(|w| w[0].key() < w[1].key()));
    }

    #[test]
    fn some_are_late_and_some_change() {
        let events = day(&journal(60_000), Source::InteractiveSignIns);
        let share = |what: &dyn Fn(&&Event) -> bool| events.iter().filter(what).count() as f64 / events.len() as f64;
        let late = share(&|e| e.arrival - e.time >= 10 * MINUTE);
        let very = share(&|e| e.arrival - e.time > 2 * HOUR);
        let changed = share(&|e| e.again.is_some());
        assert!((0.008..0.014).contains(&late), "{late}");
        assert!((0.0003..0.003).contains(&very), "{very}");
        assert!((0.02..0.04).contains(&changed), "{changed}");
        assert!(events.iter().all(|e| e.again.unwrap_or(e.arrival) - e.time < 40 * HOUR));
        assert!(events.iter().all(|e| e.arrival > e.time && e.again.is_none_or(|a| a > e.arrival)));
    }

    #[test]
    fn every_event_is_json_with_its_id() {
        let journal = journal(600);
        for source in Source::ALL {
            let events = day(&journal, source);
            assert!(!events.is_empty(), "{source:?}");
            for event in events.iter().take(300) {
                for (second, beta) in [(false, false), (true, true)] {
                    let mut out = Vec::new();
                    journal.write(event, second, beta, &mut out);
                    let value: serde_json::Value = serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{source:?}: {e}"));
                    let key = if source == Source::ArmActivity { "eventDataId" } else { "id" };
                    assert_eq!(value[key].as_str(), Some(journal.id(event).as_str()), "{source:?}");
                }
            }
        }
    }

    #[test]
    fn a_second_version_differs_from_the_first() {
        let journal = journal(6000);
        for source in [Source::InteractiveSignIns, Source::ServicePrincipalSignIns, Source::DirectoryActivations] {
            let events = day(&journal, source);
            let event = events.iter().find(|e| e.again.is_some()).unwrap();
            let (mut one, mut two) = (Vec::new(), Vec::new());
            journal.write(event, false, false, &mut one);
            journal.write(event, true, false, &mut two);
            assert_ne!(one, two, "{source:?}");
        }
    }
}
