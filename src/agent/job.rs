//! What is done when, and what was last done about it.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::policy::{LoadedPolicy, Timetable, duration};
use crate::vault::names::ChainName;

/// A retry comes so long after the first failure; each further one after twice as long.
const FIRST_RETRY: SignedDuration = SignedDuration::from_secs(30);
/// What the RPO does not press is tried again no later than this.
const LAST_RETRY: SignedDuration = SignedDuration::from_hours(1);

/// One action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// The next window of these streams.
    Export(Vec<String>),
    /// A snapshot of these sources.
    Snapshot(Vec<String>),
    /// A checkpoint of all chains.
    Checkpoint,
    /// A restore test.
    RestoreTest,
    /// A drill.
    Drill,
}

impl Work {
    /// The command that does it, without what it is done to.
    pub fn command(&self) -> &'static str {
        match self {
            Self::Export(_) => "export",
            Self::Snapshot(_) => "snapshot",
            Self::Checkpoint => "checkpoint",
            Self::RestoreTest => "restore-test",
            Self::Drill => "drill",
        }
    }

    /// What it is done to, one by one, each with the chain that shows it.
    pub fn targets(&self) -> Vec<(Option<&str>, Option<ChainName>)> {
        match self {
            Self::Export(names) => names.iter().map(|n| (Some(n.as_str()), n.parse().ok().map(|s| ChainName::export(&s)))).collect(),
            Self::Snapshot(names) => names.iter().map(|n| (Some(n.as_str()), n.parse().ok().map(|s| ChainName::snapshot(&s)))).collect(),
            Self::Checkpoint => vec![(None, Some(ChainName::checkpoint()))],
            Self::RestoreTest => vec![(None, Some(ChainName::restore_test()))],
            Self::Drill => vec![(None, Some(ChainName::drill()))],
        }
    }

    /// Whether two jobs would write to the same chain.
    pub fn shares_a_chain(&self, other: &Self) -> bool {
        let others = other.targets();
        self.targets().iter().any(|(_, chain)| chain.is_some() && others.iter().any(|(_, c)| c == chain))
    }

    /// Whether the RPO waits for it.
    pub fn is_backup(&self) -> bool {
        matches!(self, Self::Export(_) | Self::Snapshot(_))
    }

    /// What goes first when several things are due.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Export(_) => 0,
            Self::Snapshot(_) => 1,
            Self::Checkpoint => 2,
            Self::RestoreTest => 3,
            Self::Drill => 4,
        }
    }

    /// Unless the policy says, a run is stopped after so long.
    fn deadline(&self) -> SignedDuration {
        SignedDuration::from_hours(match self {
            Self::Export(_) => 2,
            Self::Snapshot(_) => 6,
            Self::Checkpoint => 1,
            Self::RestoreTest | Self::Drill => 12,
        })
    }
}

/// A job of the policy.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// What is done.
    pub work: Work,
    /// When.
    pub table: Timetable,
    /// A run that lasts longer is stopped.
    pub deadline: SignedDuration,
    /// No retry comes later than this after a failure.
    pub last_retry: SignedDuration,
}

impl Job {
    /// How long after its `attempts`th failure it is tried again.
    pub fn retry_after(&self, attempts: u32) -> SignedDuration {
        let doubled = FIRST_RETRY.checked_mul(1 << attempts.saturating_sub(1).min(12)).unwrap_or(self.last_retry);
        doubled.min(self.last_retry)
    }

    /// How much later than it is due a run begins: the same on every agent, up to `jitter`, and never so late that the next
    /// firing would take its place.
    pub fn jitter(&self, due: Timestamp, jitter: SignedDuration) -> SignedDuration {
        let jitter = self.table.next_after(due).map_or(jitter, |next| jitter.min(next.duration_since(due) / 2));
        let Ok(most) = u64::try_from(jitter.as_millis()) else { return SignedDuration::ZERO };
        let digest = crate::store::Sha256::of(format!("{} {due}", self.name).as_bytes());
        let number = digest.0[..8].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        SignedDuration::from_millis(i64::try_from(number % (most + 1)).unwrap_or(0))
    }
}

/// The jobs of a checked policy, by name.
pub fn jobs(policy: &LoadedPolicy) -> Vec<Job> {
    let p = &policy.policy;
    let zone = p.zone();
    let rpo = duration(&p.objectives.rpo.value).unwrap_or(LAST_RETRY);
    let named = |names: &[serde_saphyr::Spanned<String>]| names.iter().map(|n| n.value.clone()).collect();
    let of = |(name, job): (&String, &serde_saphyr::Spanned<crate::policy::JobPolicy>)| {
        let job = &job.value;
        let work = match (&job.snapshot, &job.export, &job.checkpoint, &job.restore_test) {
            (Some(sources), ..) => Work::Snapshot(named(sources)),
            (_, Some(streams), ..) => Work::Export(named(streams)),
            (_, _, Some(_), _) => Work::Checkpoint,
            (_, _, _, Some(_)) => Work::RestoreTest,
            _ => Work::Drill,
        };
        let deadline = job.deadline.as_ref().and_then(|d| duration(&d.value)).unwrap_or_else(|| work.deadline());
        // Several tries fit into the RPO.
        let last_retry = if work.is_backup() { (rpo / 4).min(LAST_RETRY) } else { LAST_RETRY };
        Some(Job { name: name.clone(), table: Timetable::new(&job.schedule.value, zone)?, work, deadline, last_retry })
    };
    p.jobs.iter().filter_map(of).collect()
}

/// What came of a job's newest due run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Somebody runs it.
    Running,
    /// It was done.
    Done,
    /// It was done, and not everything was as it should be: partial, an objective missed, damage found.
    Flawed,
    /// It failed and is tried again.
    Failed,
    /// Whoever ran it was stopped, and it is run again.
    Interrupted,
}

/// What is noted of a job, for all agents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The form: 1.
    pub version: u32,
    /// The job.
    pub job: String,
    /// The firing that it is about.
    pub due: Timestamp,
    /// What came of it.
    pub state: State,
    /// How often it was tried.
    pub attempts: u32,
    /// How often in a row it failed, over all firings since it was last done.
    #[serde(default)]
    pub failures: u32,
    /// When the last try began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// When it was last done.
    pub success: Option<Timestamp>,
    /// Its exit code.
    pub exit: Option<i32>,
    /// Why it failed, or what is not as it should be.
    pub message: Option<String>,
    /// The agent that tried it.
    pub agent: String,
    /// What agents must agree on, of the policy by which it was tried.
    pub policy_sha256: String,
    /// Firings before this one at which nothing was done, since the record before.
    pub missed: u64,
    /// The first of them.
    pub missed_from: Option<Timestamp>,
    /// What the command answered.
    #[serde(default)]
    pub results: Vec<Value>,
}

impl Record {
    /// Whether nothing more is done about this firing.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::Flawed)
    }

    /// When a failed one is tried again.
    pub fn retry_at(&self, job: &Job) -> Timestamp {
        let ended = self.finished.unwrap_or(self.started);
        match self.state {
            State::Failed => ended.saturating_add(job.retry_after(self.attempts)).unwrap_or(ended),
            // What took its agent with it twice is not begun at once for a third time.
            State::Running if self.attempts > 1 => ended.saturating_add(job.retry_after(self.attempts)).unwrap_or(ended),
            _ => ended,
        }
    }

    /// How often in a row it has failed when it is begun anew.
    pub fn failures_before(&self) -> u32 {
        match self.state {
            State::Done | State::Flawed => 0,
            // Whoever ran it was killed, perhaps by it.
            State::Running => self.failures + 1,
            State::Failed | State::Interrupted => self.failures,
        }
    }

    /// The name of a job's lease: other leases have names of their own.
    pub fn lease(job: &str) -> String {
        format!("job-{job}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jitter_ends_before_the_next_firing() {
        let of = |schedule: &str| Job {
            name: "often".into(),
            table: Timetable::new(schedule, "UTC").unwrap(),
            work: Work::Checkpoint,
            deadline: SignedDuration::from_hours(1),
            last_retry: LAST_RETRY,
        };
        let (often, daily) = (of("*/6 * * * * *"), of("0 0 3 * * *"));
        let (most, mut latest) = (SignedDuration::from_secs(20), SignedDuration::ZERO);
        for n in 0..200 {
            let due = Timestamp::from_second(1_800_000_000 + 6 * n).unwrap();
            assert!(often.jitter(due, most) <= SignedDuration::from_secs(3));
            latest = latest.max(daily.jitter(due, most));
        }
        assert!(latest > SignedDuration::from_secs(15) && latest <= most, "{latest}");
    }
}
