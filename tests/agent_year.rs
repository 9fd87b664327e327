//! A year of two agents on a moved clock: killed, paused, cut off, through every daylight-saving change. Each firing of
//! each schedule is run once or told as missed, no job overlaps itself, and nothing is committed twice.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop::agent::{Agent, Ended, Happening, Head, Job, Means, Order, Runner, Running, Settings, Work};
use backstop::policy::Timetable;
use backstop::store::{Clock, LEASE, LeaseToken, Leases, StoreError};
use backstop::vault::names::ChainName;
use jiff::{SignedDuration, Timestamp};

const START: &str = "2026-03-01T00:00:00Z";
const DAYS: i64 = 365;
const ZONE: &str = "Europe/Berlin";

/// A small generator, so that a year is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What all agents see.
struct World {
    now: Mutex<Timestamp>,
    dice: Mutex<Dice>,
    /// The chains: when each run began, and who committed it. Its length is the next number: the fence.
    chains: Mutex<BTreeMap<String, Vec<(Timestamp, usize)>>>,
    /// Holder's token and when it ends; and the note.
    leases: Mutex<BTreeMap<String, (String, Timestamp)>>,
    notes: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Which agents are cut off from the store.
    cut: Mutex<BTreeSet<usize>>,
    /// Runs under way, by job.
    under_way: Mutex<BTreeMap<String, BTreeSet<usize>>>,
    overlaps: Mutex<Vec<String>>,
    /// Tests and drills that did not wait for the backups.
    hasty: Mutex<Vec<String>>,
    dropped: Mutex<u64>,
    happened: Mutex<Vec<(usize, Timestamp, Happening)>>,
}

impl World {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    fn reach(&self, agent: usize) -> Result<(), StoreError> {
        match self.cut.lock().unwrap().contains(&agent) {
            true => Err(StoreError::Io { operation: "reach", path: "store".into(), source: io::Error::other("cut off") }),
            false => Ok(()),
        }
    }
}

/// One agent's view of it; its clock may be wrong by some minutes.
struct Own(Arc<World>, usize, SignedDuration);

impl Clock for Own {
    fn now(&self) -> Timestamp {
        self.0.now() + self.2
    }

    fn monotonic(&self) -> Duration {
        Duration::try_from(self.0.now().duration_since(Timestamp::UNIX_EPOCH)).unwrap()
    }
}

impl Leases for Own {
    fn acquire(&self, name: &str) -> Result<Option<LeaseToken>, StoreError> {
        self.0.reach(self.1)?;
        let mut leases = self.0.leases.lock().unwrap();
        if leases.get(name).is_some_and(|(_, until)| *until > self.0.now()) {
            return Ok(None);
        }
        let token = format!("{}-{}", self.1, self.0.dice.lock().unwrap().roll(u64::MAX));
        leases.insert(name.to_owned(), (token.clone(), self.0.now() + SignedDuration::try_from(LEASE).unwrap()));
        Ok(Some(serde_json::from_value(serde_json::json!(token)).unwrap()))
    }

    fn renew(&self, name: &str, token: &LeaseToken) -> Result<bool, StoreError> {
        self.0.reach(self.1)?;
        let mut leases = self.0.leases.lock().unwrap();
        let Some((held, until)) = leases.get_mut(name) else { return Ok(false) };
        if serde_json::json!(token) != held.as_str() {
            return Ok(false);
        }
        *until = self.0.now() + SignedDuration::try_from(LEASE).unwrap();
        Ok(true)
    }

    fn release(&self, name: &str, token: &LeaseToken) -> Result<(), StoreError> {
        self.0.reach(self.1)?;
        let mut leases = self.0.leases.lock().unwrap();
        if leases.get(name).is_some_and(|(held, _)| serde_json::json!(token) == held.as_str()) {
            leases.remove(name);
        }
        Ok(())
    }

    fn note(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.reach(self.1)?;
        Ok(self.0.notes.lock().unwrap().get(name).cloned())
    }

    fn set_note(&self, name: &str, token: &LeaseToken, note: &[u8]) -> Result<bool, StoreError> {
        self.0.reach(self.1)?;
        let held = self.0.leases.lock().unwrap().get(name).is_some_and(|(held, _)| serde_json::json!(token) == held.as_str());
        if held {
            self.0.notes.lock().unwrap().insert(name.to_owned(), note.to_owned());
        }
        Ok(held)
    }
}

impl Head for Own {
    fn newest(&self, chain: &ChainName) -> Result<Option<Timestamp>, StoreError> {
        self.0.reach(self.1)?;
        Ok(self.0.chains.lock().unwrap().get(chain.as_str()).and_then(|runs| runs.last().map(|(started, _)| *started)))
    }

    fn founded(&self) -> Result<Timestamp, StoreError> {
        self.0.reach(self.1)?;
        Ok(START.parse().unwrap())
    }

    fn clock(&self) -> Option<Timestamp> {
        None
    }
}

impl Runner for Own {
    fn start(&self, order: &Order) -> io::Result<Box<dyn Running>> {
        let mut dice = self.0.dice.lock().unwrap();
        let seconds = 1 + dice.roll(if order.command == "drill" { 1800 } else { 70 });
        // One in fifty fails for a passing reason.
        let fails = dice.roll(50) == 0;
        drop(dice);
        let mut under_way = self.0.under_way.lock().unwrap();
        let others = under_way.entry(order.job.clone()).or_default();
        if !others.insert(self.1) {
            self.0.overlaps.lock().unwrap().push(format!("{} {:?}", order.job, order.due));
        }
        if ["drill", "restore-test"].contains(&order.command) {
            let backups = under_way.iter().filter(|(job, _)| ["nightly", "config-delta", "access-logs"].contains(&job.as_str()));
            let busy = backups.filter(|(_, agents)| agents.contains(&self.1)).count();
            let newest = self
                .0
                .chains
                .lock()
                .unwrap()
                .iter()
                .filter(|(c, _)| c.starts_with("snapshot."))
                .filter_map(|(_, r)| r.last())
                .map(|r| r.0)
                .max();
            let fresh = newest.is_some_and(|at| self.0.now().duration_since(at) < SignedDuration::from_mins(70));
            if busy > 0 || (order.command == "drill" && !fresh) {
                self.0.hasty.lock().unwrap().push(format!(
                    "{} at {}: {busy} backups under way, newest {newest:?}",
                    order.command,
                    self.0.now()
                ));
            }
        }
        let targets = order.targets.iter().map(|name| chain_of(order.command, name.as_deref())).collect::<Vec<_>>();
        let chains = self.0.chains.lock().unwrap();
        let base = targets.iter().map(|t| chains.get(t).map_or(0, Vec::len)).collect();
        let until = self.0.now() + SignedDuration::from_secs(i64::try_from(seconds).unwrap());
        let run = Run {
            world: self.0.clone(),
            agent: self.1,
            job: order.job.clone(),
            targets,
            base,
            started: self.0.now() + self.2,
            until,
            fails,
            told: false,
        };
        Ok(Box::new(run))
    }
}

fn chain_of(command: &str, name: Option<&str>) -> String {
    match (command, name) {
        ("snapshot" | "export", Some(name)) => format!("{command}.{name}"),
        (other, _) => other.to_owned(),
    }
}

/// A run: commits each of its targets at its end, where nobody was there before it.
struct Run {
    world: Arc<World>,
    agent: usize,
    job: String,
    targets: Vec<String>,
    base: Vec<usize>,
    started: Timestamp,
    until: Timestamp,
    fails: bool,
    told: bool,
}

impl Run {
    fn commit(&self) -> Option<i32> {
        if self.fails || self.world.reach(self.agent).is_err() {
            return Some(1);
        }
        let mut chains = self.world.chains.lock().unwrap();
        let mut exit = 0;
        for (target, base) in self.targets.iter().zip(&self.base) {
            let runs = chains.entry(target.clone()).or_default();
            if runs.len() != *base {
                *self.world.dropped.lock().unwrap() += 1;
                exit = 75;
                continue;
            }
            runs.push((self.started, self.agent));
        }
        Some(exit)
    }
}

impl Running for Run {
    fn poll(&mut self) -> Option<Ended> {
        if self.world.now() < self.until {
            return None;
        }
        self.told = true;
        self.world.under_way.lock().unwrap().entry(self.job.clone()).or_default().remove(&self.agent);
        Some(Ended { exit: self.commit(), ..Ended::default() })
    }

    fn stop(&mut self) {
        self.fails = true;
        self.until = self.world.now();
    }

    fn kill(&mut self) {
        self.stop();
    }
}

/// A killed agent's run goes with it; half of them commit just before.
impl Drop for Run {
    fn drop(&mut self) {
        if !self.told {
            self.world.under_way.lock().unwrap().entry(self.job.clone()).or_default().remove(&self.agent);
            if self.world.dice.lock().unwrap().roll(2) == 0 {
                self.commit();
            }
        }
    }
}

fn jobs() -> Vec<Job> {
    let table = |schedule: &str| Timetable::new(schedule, ZONE).unwrap();
    let named = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let job = |name: &str, work: Work, schedule: &str| Job {
        name: name.into(),
        last_retry: if work.is_backup() { SignedDuration::from_mins(15) } else { SignedDuration::from_hours(1) },
        work,
        table: table(schedule),
        deadline: SignedDuration::from_hours(2),
    };
    vec![
        job("nightly", Work::Snapshot(named(&["entra", "azure", "evidence"])), "0 30 2 * * *"),
        job("config-delta", Work::Snapshot(named(&["entra", "azure"])), "0 */30 * * * *"),
        job("access-logs", Work::Export(named(&["audits"])), "0 15 * * * *"),
        job("checkpoint", Work::Checkpoint, "0 45 3 * * *"),
        job("restore-test", Work::RestoreTest, "0 0 4 * * Sun"),
        job("drill", Work::Drill, "0 0 5 1 * *"),
    ]
}

fn agent(world: &Arc<World>, number: usize, skew: i64) -> Agent {
    let own = || Own(world.clone(), number, SignedDuration::from_secs(skew));
    let listener = {
        let world = world.clone();
        move |h: &Happening| {
            let now = world.now();
            world.happened.lock().unwrap().push((number, now, h.clone()));
        }
    };
    let means = Means {
        clock: Arc::new(own()),
        leases: Arc::new(own()),
        runner: Box::new(own()),
        head: Box::new(own()),
        listener: Box::new(listener),
    };
    let settings = Settings {
        jitter: SignedDuration::from_secs(20),
        concurrency: 2,
        rpo: SignedDuration::from_hours(1),
        policy_sha256: "0".repeat(64),
    };
    Agent::new(format!("agent-{number}"), settings, means, jobs(), |_| true)
}

struct Trouble {
    back: Timestamp,
    /// The agent is gone, not only paused.
    killed: bool,
}

#[test]
fn every_firing_of_a_year_is_run_once_or_told_as_missed() {
    let start: Timestamp = START.parse().unwrap();
    let world = Arc::new(World {
        now: Mutex::new(start),
        dice: Mutex::new(Dice(0x2545_F491_4F6C_DD1D)),
        chains: Mutex::default(),
        leases: Mutex::default(),
        notes: Mutex::default(),
        cut: Mutex::default(),
        under_way: Mutex::default(),
        overlaps: Mutex::default(),
        hasty: Mutex::default(),
        dropped: Mutex::default(),
        happened: Mutex::default(),
    });
    // An agent whose clock was wrong noted something of the future, and something else is no note at all.
    let future = serde_json::json!({
        "version": 1, "job": "checkpoint", "due": "2099-01-01T00:00:00Z", "state": "done", "attempts": 1, "started": "2099-01-01T00:00:00Z",
        "finished": null, "success": null, "exit": 0, "message": null, "agent": "x", "policy_sha256": "", "missed": 0, "missed_from": null,
    });
    world.notes.lock().unwrap().insert("job-checkpoint".into(), future.to_string().into_bytes());
    world.notes.lock().unwrap().insert("job-drill".into(), b"{\"version\":".to_vec());
    let end = start + SignedDuration::from_hours(24 * DAYS);
    let mut agents: Vec<Option<Agent>> = vec![Some(agent(&world, 0, 0)), Some(agent(&world, 1, 90))];
    let mut next = [start, start];
    let mut away: [Option<Trouble>; 2] = [None, None];
    let mut cuts: BTreeMap<usize, Timestamp> = BTreeMap::new();
    // When nobody was there who could do anything, and could reach the store.
    let mut nobody: Vec<(Timestamp, Timestamp)> = Vec::new();
    let (mut kills, mut pauses, mut outages, mut blackouts) = (0u64, 0u64, 0u64, 0u64);
    let mut next_trouble = start + SignedDuration::from_hours(3);
    while world.now() < end {
        let now = world.now();
        for number in 0..2 {
            if away[number].as_ref().is_some_and(|t| t.back <= now) {
                let trouble = away[number].take().unwrap();
                if trouble.killed {
                    agents[number] = Some(agent(&world, number, i64::try_from(number * 90).unwrap()));
                }
                next[number] = now;
            }
            if away[number].is_none() && next[number] <= now {
                let wait = agents[number].as_mut().unwrap().tick();
                next[number] = now + SignedDuration::try_from(wait).unwrap();
            }
        }
        cuts.retain(|number, until| {
            let over = *until <= now;
            if over {
                world.cut.lock().unwrap().remove(number);
            }
            !over
        });
        if now >= next_trouble {
            let roll = |sides: u64| i64::try_from(world.dice.lock().unwrap().roll(sides)).unwrap();
            next_trouble = now + SignedDuration::from_mins(30 + roll(24 * 60));
            let number = usize::try_from(roll(2)).unwrap();
            match roll(10) {
                // A kill at any moment; it is back after a while.
                0..=4 if away[number].is_none() => {
                    kills += 1;
                    agents[number] = None;
                    away[number] = Some(Trouble { back: now + SignedDuration::from_mins(1 + roll(180)), killed: true });
                }
                // It stands still for longer than a lease.
                5 | 6 if away[number].is_none() => {
                    pauses += 1;
                    away[number] = Some(Trouble { back: now + SignedDuration::from_secs(70 + roll(1000)), killed: false });
                }
                7 | 8 => {
                    outages += 1;
                    world.cut.lock().unwrap().insert(number);
                    cuts.insert(number, now + SignedDuration::from_mins(1 + roll(120)));
                }
                // Nobody is there for up to three days.
                9 if away.iter().all(Option::is_none) => {
                    blackouts += 1;
                    let back = now + SignedDuration::from_hours(1 + roll(72));
                    agents = vec![None, None];
                    away = [Some(Trouble { back, killed: true }), Some(Trouble { back, killed: true })];
                }
                _ => {}
            }
        }
        // On to the next moment at which anything can happen.
        let events = (0..2).map(|n| away[n].as_ref().map_or(next[n], |t| t.back)).chain(cuts.values().copied()).chain([next_trouble]);
        let next_event = events.min().unwrap().max(now + SignedDuration::from_millis(100));
        if (0..2).all(|n| away[n].is_some() || cuts.contains_key(&n)) {
            match nobody.last_mut() {
                Some((_, until)) if *until == now => *until = next_event,
                _ => nobody.push((now, next_event)),
            }
        }
        *world.now.lock().unwrap() = next_event;
    }
    assert!(kills > 100 && pauses > 40 && outages > 40 && blackouts > 10, "{kills} {pauses} {outages} {blackouts}");
    assert_eq!(*world.overlaps.lock().unwrap(), Vec::<String>::new());
    assert_eq!(*world.hasty.lock().unwrap(), Vec::<String>::new());
    // Two jobs that write to one chain wait for each other: a run drops out only where an agent stood still or was cut off.
    let dropped = *world.dropped.lock().unwrap();
    assert!(dropped < pauses + outages, "{dropped} runs dropped out, with {pauses} pauses and {outages} outages");

    // What the agents told.
    let happened = world.happened.lock().unwrap();
    let mut done: BTreeMap<(String, Timestamp), u32> = BTreeMap::new();
    let mut found: BTreeSet<(String, Timestamp)> = BTreeSet::new();
    let mut begun: BTreeMap<(String, Timestamp), Vec<usize>> = BTreeMap::new();
    let mut missed: BTreeMap<(String, Timestamp), u32> = BTreeMap::new();
    let tables: BTreeMap<String, Timetable> = jobs().into_iter().map(|j| (j.name, j.table)).collect();
    for (number, _, happening) in happened.iter() {
        match happening {
            Happening::Begun { job, due, .. } => begun.entry((job.clone(), *due)).or_default().push(*number),
            Happening::Ended { record, .. } if record.is_over() => *done.entry((record.job.clone(), record.due)).or_default() += 1,
            // Somebody did it, and could not note it: the vault shows it.
            Happening::Found { job, due } => drop(found.insert((job.clone(), *due))),
            Happening::Missed { job, from, until, count } => {
                let all = std::iter::successors(Some(*from), |at| tables[job].next_after(*at)).take_while(|at| at < until);
                let all: Vec<Timestamp> = all.collect();
                assert_eq!(u64::try_from(all.len()).unwrap(), *count, "{job} from {from} until {until}");
                for due in all {
                    *missed.entry((job.clone(), due)).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    let (mut firings, mut unaccounted, mut twice) = (0, Vec::new(), Vec::new());
    for (name, table) in &tables {
        for due in std::iter::successors(table.next_after(start), |at| table.next_after(*at))
            .take_while(|at| *at < end - SignedDuration::from_hours(80))
        {
            firings += 1;
            let key = (name.clone(), due);
            match (done.get(&key), found.contains(&key), missed.get(&key)) {
                (Some(1), _, None) | (None, true, None) | (None, false, Some(1)) => {}
                (None, false, None) => unaccounted.push(key),
                (d, f, m) => twice.push((key, d.copied(), f, m.copied())),
            }
        }
    }
    assert!(firings > 26_000, "{firings}");
    assert_eq!(unaccounted, [], "neither run nor told as missed");
    let told = |key: &(String, Timestamp)| {
        let near = |at: Timestamp| at.duration_since(key.1).abs() < SignedDuration::from_hours(3);
        let all = happened.iter().filter(|(_, at, h)| near(*at) && format!("{h:?}").contains(&key.0));
        all.map(|(n, at, h)| format!("{at} agent {n}: {h:?}")).collect::<Vec<_>>().join("\n")
    };
    if let Some((key, ..)) = twice.first() {
        panic!("{} are done twice, or done and told as missed; {key:?}:\n{}", twice.len(), told(key));
    }

    // Nothing was committed twice: each number of a chain has one run, and no chain's runs go back in time by more
    // than the agents' clocks differ.
    let chains = world.chains.lock().unwrap();
    for (chain, runs) in chains.iter() {
        for pair in runs.windows(2) {
            assert!(pair[1].0 > pair[0].0 - SignedDuration::from_secs(120), "{chain}: {pair:?}");
        }
    }
    // Both did their share.
    let share = |number: usize| begun.values().flatten().filter(|n| **n == number).count();
    assert!(share(0) > 500 && share(1) > 500, "{} {}", share(0), share(1));
    // What is due every half hour is missed only where nobody was there for a part of it: a lease ends in a minute, and
    // whoever takes over has tried within the next two.
    let excused = |due: Timestamp| {
        let until = due + SignedDuration::from_mins(30);
        nobody.iter().any(|(from, to)| *from < until && *to > due)
    };
    let late: Vec<_> = missed.keys().filter(|(job, due)| job == "config-delta" && !excused(*due)).collect();
    if let Some(key) = late.first() {
        panic!("{} firings were missed although somebody was there; {key:?}:\n{}", late.len(), told(key));
    }
}
