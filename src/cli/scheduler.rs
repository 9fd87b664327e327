//! The agent and the alert desk on threads of their own: a store that does not answer for minutes holds up neither a
//! signal, nor the supervisor's watchdog, nor each other.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::daemon::job_views;
use crate::agent::{Agent, Job, Settings, of_jobs};
use crate::alert::{Alert, Channel, Condition, Desk};
use crate::policy::AlertSeverity;
use crate::store::{Clock, SystemClock};
use crate::web::JobView;

/// Neither waits for longer than this.
const TURN: Duration = Duration::from_secs(20);

/// What an agent is told.
pub enum Order {
    /// Something ended: look around.
    Wake,
    /// Other jobs, with which of them are this agent's own.
    Reload(Box<Settings>, Vec<Job>),
    /// Begin nothing more, and end what runs.
    Stop,
}

/// How an agent stands.
#[derive(Default)]
pub struct Standing {
    /// When it last looked around.
    pub ticked: Option<Timestamp>,
    /// What is wrong with its jobs.
    pub conditions: Vec<Condition>,
    /// How each job stands.
    pub jobs: Vec<JobView>,
    /// Why it begins nothing.
    pub held: Option<String>,
    /// It was told to stop, and nothing runs any more.
    pub ended: bool,
}

/// Lets an agent run on its own thread until it was told to stop and has.
pub fn run_agent(
    mut agent: Agent,
    own: impl Fn(&Job) -> bool + Send + 'static,
    rpo: SignedDuration,
    orders: Receiver<Order>,
    tell: impl Fn() + Send + 'static,
) -> std::io::Result<Arc<Mutex<Standing>>> {
    let standing: Arc<Mutex<Standing>> = Arc::default();
    let shared = standing.clone();
    std::thread::Builder::new().name("agent".into()).spawn(move || {
        let (mut rpo, mut stopping) = (rpo, false);
        loop {
            let wait = agent.tick();
            let now = SystemClock.now();
            let ended = stopping && agent.is_idle();
            if let Ok(mut shown) = shared.lock() {
                *shown = Standing {
                    ticked: Some(now),
                    conditions: of_jobs(agent.slots(), rpo, now),
                    jobs: job_views(&agent, now),
                    held: agent.held(),
                    ended,
                };
            }
            tell();
            if ended {
                return;
            }
            match orders.recv_timeout(wait.min(TURN).max(Duration::from_millis(100))) {
                Ok(Order::Wake) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Reload(settings, jobs)) => {
                    rpo = settings.rpo;
                    agent.reload(*settings, jobs, &own);
                }
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    agent.stop();
                    stopping = true;
                }
            }
        }
    })?;
    Ok(standing)
}

/// What the desk is told.
pub enum ToDesk {
    /// A channel answered.
    Wake,
    /// What is wrong now, and whether that is all.
    Wrong(Vec<Condition>, bool),
    /// Other channels, and those that are named and cannot be used.
    Channels(Vec<Channel>, Vec<(&'static str, AlertSeverity)>),
    /// Let what is under way end.
    Close(Sender<()>),
}

/// What the desk shows.
#[derive(Default)]
pub struct Shown {
    /// The open alerts.
    pub open: Vec<Alert>,
    /// Whether this agent sends them.
    pub sends: bool,
    /// How often a channel did not take one.
    pub refused: u64,
}

/// Lets a desk work on its own thread until it is closed; `refused` hears what channels do not take, `changed` that
/// there is something else to show.
pub fn run_desk(
    mut desk: Desk,
    orders: Receiver<ToDesk>,
    refused: impl Fn(&str) + Send + 'static,
    changed: impl Fn() + Send + 'static,
) -> std::io::Result<Arc<Mutex<Shown>>> {
    let shown: Arc<Mutex<Shown>> = Arc::default();
    let shared = shown.clone();
    std::thread::Builder::new().name("alerts".into()).spawn(move || {
        let mut conditions: Option<(Vec<Condition>, bool)> = None;
        loop {
            let (now, steady) = (SystemClock.now(), SystemClock.monotonic());
            let mut wait = TURN;
            // Before the first look nothing is known, and what was open is not over.
            if let Some((conditions, certain)) = &conditions {
                let failures = desk.attend(now, steady, conditions, *certain);
                failures.iter().for_each(|failure| refused(failure));
                let (open, sends) = (desk.open(), desk.sends());
                let news = shared.lock().is_ok_and(|mut shown| {
                    shown.refused += u64::try_from(failures.len()).unwrap_or(0);
                    let news = (&shown.open, shown.sends) != (&open, sends);
                    (shown.open, shown.sends) = (open, sends);
                    news
                });
                if news {
                    changed();
                }
                wait = desk.next(now).map_or(TURN, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
            }
            match orders.recv_timeout(wait.min(TURN).max(Duration::from_millis(100))) {
                Ok(ToDesk::Wake) | Err(RecvTimeoutError::Timeout) => {}
                Ok(ToDesk::Wrong(now, certain)) => conditions = Some((now, certain)),
                Ok(ToDesk::Channels(channels, unusable)) => desk.courier().reload(channels, unusable),
                Ok(ToDesk::Close(done)) => {
                    desk.close(Duration::from_secs(2));
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    })?;
    Ok(shown)
}
