//! What a daemon shows of itself on this machine: health, metrics, the status page and its JSON.
//!
//! It promises: whatever is asked is answered from memory, so that nobody waits for the vault; each page says of when it
//! is; nothing of what is backed up is shown, and nothing can be changed here.

mod metrics;
mod page;
mod serve;

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::alert::Alert;

pub use metrics::{Metric, metrics};
pub use serve::serve;

/// How one job stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobView {
    /// Its name.
    pub job: String,
    /// What it does.
    pub command: String,
    /// Whether this agent runs it.
    pub own: bool,
    /// Whether this agent runs it now.
    pub running: bool,
    /// Its newest firing that was begun.
    pub due: Option<Timestamp>,
    /// What came of it.
    pub state: Option<String>,
    /// How often that was tried.
    pub attempts: u32,
    /// When the last try began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// When it was last done.
    pub success: Option<Timestamp>,
    /// What was said of it.
    pub message: Option<String>,
    /// Which agent.
    pub agent: Option<String>,
    /// When it fires next.
    pub next: Option<Timestamp>,
    /// Firings that were missed before the newest.
    pub missed: u64,
    /// Bytes that the last run read.
    pub read_bytes: u64,
    /// Bytes that it stored.
    pub stored_bytes: u64,
    /// Objects that it stored.
    pub objects: u64,
    /// How long it waited because a service asked for it.
    pub waited_seconds: f64,
}

/// What was counted since the daemon began.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Runs by job and outcome.
    pub runs: BTreeMap<(String, String), u64>,
    /// Missed firings by job.
    pub missed: BTreeMap<String, u64>,
    /// Alerts that a channel did not take, tries counted.
    pub refused_alerts: u64,
    /// Heartbeats that were not answered.
    pub failed_heartbeats: u64,
}

/// What a daemon shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// The agent's name.
    pub agent: String,
    /// The vault's id.
    pub vault: String,
    /// Since when it runs.
    pub since: Option<Timestamp>,
    /// When it last looked around.
    pub ticked: Option<Timestamp>,
    /// How each job stands.
    pub jobs: Vec<JobView>,
    /// What `backstop status --json` answered last.
    pub status: Option<Value>,
    /// Why it could not be had since.
    pub status_error: Option<String>,
    /// Why nothing is begun.
    pub held: Option<String>,
    /// Whether it was told to end.
    pub stopping: bool,
    /// Why the policy on the disk is not in force.
    pub policy_error: Option<String>,
    /// Open alerts, the worst first.
    pub alerts: Vec<Alert>,
    /// Whether this agent sends them.
    pub alerting: bool,
    /// What was counted.
    pub counts: Counts,
}

impl View {
    /// When the status was read.
    pub fn status_at(&self) -> Option<Timestamp> {
        self.status.as_ref()?.get("at")?.as_str()?.parse().ok()
    }
}

/// A view that one writes and many read.
pub type Board = Arc<RwLock<View>>;
