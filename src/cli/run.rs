//! `backstop run`: puts the daemon together and turns its wheel.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use sd_notify::NotifyState;
use tracing::{debug, error, info, warn};

use super::channels::{Unusable, address, channels, waiting};
use super::context::Context;
use super::exit::{CliError, Exit};
use super::otlp::Numbers;
use super::scheduler::{Order, Shown, Standing, ToDesk, run_agent, run_desk};
use super::signals::{Heard, Signals};
use super::{daemon, otlp, status, store};
use crate::agent::{Agent, Happening, Means, Processes, Reader, Settings, StateLock, VaultHead, Work, jobs};
use crate::alert::{Condition, Courier, Desk, Keeper};
use crate::http::Outbound;
use crate::policy::{LoadedPolicy, duration};
use crate::store::{Clock, Leases, SystemClock};
use crate::web::{Board, View, serve};

/// Where health, metrics and the status page are, unless the policy says.
pub const LISTEN: &str = "127.0.0.1:9475";
/// How much later than it is due a run begins at most.
const JITTER: SignedDuration = SignedDuration::from_secs(20);
/// So many jobs at a time.
const CONCURRENCY: usize = 2;
/// The vault's status is read so often, and when a run ended.
const STATUS: Duration = Duration::from_secs(300);
/// An agent that did not look around for so long stands still: its store may be tried for minutes, not for longer.
const STILL: SignedDuration = SignedDuration::from_mins(10);
/// After so long it ends, whatever still runs: the kernel ends what it started.
const LONGEST_END: Duration = Duration::from_secs(25);
/// Then, what is still to be delivered or kept may take so long; the last spans take two seconds more.
const PARTING: Duration = Duration::from_secs(3);
/// Channels that could not be used are looked at again after so long.
const CHANNELS: Duration = Duration::from_secs(15);
/// The wheel turns at least so often.
const TURN: Duration = Duration::from_secs(20);

#[derive(Args)]
pub struct RunArgs {
    /// Run these jobs alone, and leave the others to other agents; repeatable
    #[arg(long = "job", value_name = "JOB")]
    jobs: Vec<String>,
    /// Ask the agent that runs on this machine whether it is well, and end: 0 if it is
    #[arg(long, value_enum, value_name = "WHAT")]
    probe: Option<Probe>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Probe {
    /// It looks around
    Health,
    /// It looks around, and can read its vault
    Ready,
}

impl RunArgs {
    /// Whether it goes on until it is told to stop.
    pub fn is_daemon(&self) -> bool {
        self.probe.is_none()
    }
}

/// What wakes the daemon.
pub enum Wake {
    Something,
    Reload,
    Stop,
}

pub fn run(context: &Context, args: &RunArgs) -> Result<Exit, CliError> {
    let policy = context.policy()?;
    if let Some(probe) = args.probe {
        return ask(&policy, probe);
    }
    for name in &args.jobs {
        if !policy.policy.jobs.contains_key(name) {
            let names: Vec<&str> = policy.policy.jobs.keys().map(String::as_str).collect();
            return Err(CliError::new(Exit::Usage, format!("the policy has no job {name:?}")).hint(super::select::there_are(&names)));
        }
    }
    let state = StateLock::take(&Context::state_dir(&policy), "agent")?;
    let listener = listen(&policy)?;
    check_keys(context, args, &policy)?;
    let mut daemon = Daemon::new(context, args, policy, state)?;
    if let Some((address, listener)) = listener {
        let failed = |e: std::io::Error| CliError::new(Exit::Failed, format!("cannot serve at {address}: {e}"));
        serve(listener, daemon.board.clone()).map_err(failed)?;
        info!("the status page is at http://{address}/");
    }
    let numbers = otlp::send_metrics(daemon.board.clone()).unwrap_or_else(|why| {
        warn!("no metrics are sent: {why}");
        Numbers::none()
    });
    daemon.turn(&numbers)
}

/// A key that is missing, or is no signer of the vault, is told at once and not by every run.
fn check_keys(context: &Context, args: &RunArgs, policy: &LoadedPolicy) -> Result<(), CliError> {
    let own = daemon::own(context, args.jobs.clone());
    let (proofs, others): (Vec<_>, Vec<_>) =
        jobs(policy).into_iter().filter(own).partition(|job| matches!(job.work, Work::RestoreTest | Work::Drill));
    if !others.is_empty() {
        context.writer()?;
    }
    if !proofs.is_empty() {
        context.tester(None)?;
    }
    Ok(())
}

/// Everything that runs.
struct Daemon<'c> {
    context: &'c Context,
    policy: LoadedPolicy,
    state: StateLock,
    orders: Sender<Order>,
    standing: Arc<Mutex<Standing>>,
    to_desk: Sender<ToDesk>,
    desk: Arc<Mutex<Shown>>,
    reader: Reader,
    board: Board,
    happened: Receiver<Happening>,
    wakes: Receiver<Wake>,
    rpo: SignedDuration,
    refused: Option<String>,
    unusable: Vec<Unusable>,
    /// When they were last looked at.
    channels_read: Duration,
    /// When the vault was founded.
    founded: Option<Timestamp>,
    args: &'c RunArgs,
    status: Vec<Condition>,
    told: (Vec<Condition>, bool),
}

impl<'c> Daemon<'c> {
    fn new(context: &'c Context, args: &'c RunArgs, policy: LoadedPolicy, state: StateLock) -> Result<Self, CliError> {
        let opened = Context::store(&policy)?;
        let ledger = context.ledger_of(&policy, opened.clone())?;
        let vault = ledger.trust().vault().to_owned();
        let founded = ledger.vault_chain().attested.first().map(|genesis| genesis.statement.predicate.finished);
        drop(ledger);
        let leases: Arc<dyn Leases> = store::leases(&policy)?;
        let (wake, wakes) = channel();
        signals(wake.clone())?;
        let copy = state.write("policy.yaml", &policy.bytes)?;
        let program = program()?;
        let arguments = daemon::arguments(context, &copy);
        let (orders, ordered) = channel();
        let (ended, ends) = channel();
        forward(ends, orders.clone(), || Order::Wake);
        let runner = Processes {
            program: program.clone(),
            arguments: arguments.clone(),
            said: Arc::new(heard_from_a_run),
            traced: Arc::new(otlp::passed_on),
            wake: ended,
        };
        let (happen, happened) = channel();
        let remote = policy.policy.vault.azure.is_some();
        let open = {
            let (opened, anchor) = (opened.clone(), context.anchor(Some(&policy))?);
            move || crate::vault::Ledger::open(opened.clone(), &anchor)
        };
        let means = Means {
            clock: Arc::new(SystemClock),
            leases: leases.clone(),
            runner: Box::new(runner),
            head: Box::new(VaultHead::new(opened, remote, Box::new(open))),
            listener: Box::new(move |h: &Happening| {
                let _ = happen.send(h.clone());
            }),
        };
        let name = format!("{}/{}", rustix::system::uname().nodename().to_string_lossy(), std::process::id());
        let (settings, all) = (settings(&policy), jobs(&policy));
        let rpo = settings.rpo;
        let (own, mine) = (daemon::own(context, args.jobs.clone()), daemon::own(context, args.jobs.clone()));
        info!(
            jobs = all.iter().filter(|job| mine(job)).count(),
            others = all.iter().filter(|job| !mine(job)).count(),
            policy = %policy.file.display(),
            "the agent runs"
        );
        let agent = Agent::new(name.clone(), settings, means, all, &own);
        let failed = |e: std::io::Error| CliError::new(Exit::Failed, format!("cannot start a thread: {e}"));
        let tell = wake.clone();
        let tell = move || {
            let _ = tell.send(Wake::Something);
        };
        let standing = run_agent(agent, own, rpo, ordered, tell).map_err(failed)?;
        let (usable, unusable) = channels(&policy);
        tell_of(&unusable);
        let (to_desk, desk_orders) = channel();
        let answered = to_desk.clone();
        let answered = move || {
            let _ = answered.send(ToDesk::Wake);
        };
        let courier = Courier::new(usable, waiting(&unusable), Arc::new(answered));
        let to_show = wake.clone();
        let shown = move || {
            let _ = to_show.send(Wake::Something);
        };
        let desk = Desk::new(Keeper::shared(leases), courier, vault.clone());
        let desk = run_desk(desk, desk_orders, |failure| warn!("{failure}"), shown).map_err(failed)?;
        let (read, reads) = channel();
        forward(reads, wake, || Wake::Something);
        let since = Some(SystemClock.now());
        let daemon = Self {
            context,
            orders,
            standing,
            to_desk,
            desk,
            reader: Reader::new(program, [arguments, status::kept(&state)].concat(), STATUS, read),
            state,
            board: Arc::new(RwLock::new(View { agent: name, vault, since, ..View::default() })),
            happened,
            wakes,
            rpo,
            refused: None,
            unusable,
            channels_read: SystemClock.monotonic(),
            founded,
            args,
            status: Vec::new(),
            told: (Vec::new(), false),
            policy,
        };
        Ok(daemon)
    }

    fn turn(&mut self, numbers: &Numbers) -> Result<Exit, CliError> {
        let watchdog = sd_notify::watchdog_enabled();
        notify(&[NotifyState::Ready]);
        let mut stopping: Option<Duration> = None;
        loop {
            let steady = SystemClock.monotonic();
            let ended = self.once(steady);
            if stopping.is_some_and(|since| ended || steady.saturating_sub(since) >= LONGEST_END) {
                break;
            }
            let most = watchdog.map_or(TURN, |w| (w / 3).min(TURN)).min(if stopping.is_some() { Duration::from_secs(1) } else { TURN });
            match self.wakes.recv_timeout(most) {
                Ok(Wake::Something) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Wake::Reload) => self.reload(),
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    if stopping.is_none() {
                        info!("the agent stops: nothing more is begun");
                        notify(&[NotifyState::Stopping]);
                        let _ = self.orders.send(Order::Stop);
                        if let Ok(mut view) = self.board.write() {
                            view.stopping = true;
                        }
                        stopping = Some(SystemClock.monotonic());
                    }
                }
            }
        }
        let (done, closed) = channel();
        let _ = self.to_desk.send(ToDesk::Close(done));
        let (sent, until) = (numbers.end(), SystemClock.monotonic() + PARTING);
        // What was not delivered is kept; a store or a collector that does not answer is not waited for.
        let _ = closed.recv_timeout(PARTING);
        let _ = sent.recv_timeout(until.saturating_sub(SystemClock.monotonic()));
        info!("the agent has stopped");
        Ok(Exit::Done)
    }

    /// Takes what happened, shows it, tells the supervisor; says whether the agent has ended.
    fn once(&mut self, steady: Duration) -> bool {
        while let Ok(happening) = self.happened.try_recv() {
            self.heard(&happening);
        }
        self.read_channels_again(steady);
        if let Some(read) = self.reader.attend(steady) {
            daemon::took_status(&self.board, &mut self.status, read);
        }
        let Ok(standing) = self.standing.lock() else { return true };
        let mut conditions = standing.conditions.clone();
        // A vault that was founded a moment ago has nothing yet, and its first runs are still to come. When this agent began
        // says nothing of that: it would call an alert over at each restart.
        let young = self.founded.is_some_and(|at| SystemClock.now().duration_since(at) < self.rpo);
        conditions.extend(self.status.iter().filter(|c| !(young && c.kind == "no_recovery_point")).cloned());
        let mut tell = |kind: &str, subject: &str, summary: String| {
            conditions.push(Condition { kind: kind.into(), subject: subject.into(), summary });
        };
        if let Some(held) = &standing.held {
            tell("clock_wrong", "agent", format!("{held}: nothing is begun"));
        }
        if let Some(refused) = &self.refused {
            tell("policy_refused", "policy", refused.clone());
        }
        for Unusable { name, why, .. } in &self.unusable {
            tell("channel_failing", name, why.clone());
        }
        let looked = self.board.read().is_ok_and(|view| view.status.is_some() || view.status_error.is_some());
        // What is not over by a wrong clock, or by a vault that cannot be read, is not over.
        let certain = standing.held.is_none() && self.board.read().is_ok_and(|view| view.status_error.is_none());
        if looked && (&conditions, certain) != (&self.told.0, self.told.1) {
            self.told = (conditions.clone(), certain);
            let _ = self.to_desk.send(ToDesk::Wrong(conditions, certain));
        }
        if let Ok(desk) = self.desk.lock() {
            daemon::show(&self.board, &standing, &desk, self.refused.as_ref());
        }
        // An agent that stands still is for the supervisor to end.
        let alive = standing.ticked.is_none_or(|at| SystemClock.now().duration_since(at) < STILL);
        let told = [NotifyState::Status(&summary(&standing)), NotifyState::Watchdog];
        notify(if alive { &told } else { &told[..1] });
        standing.ended
    }

    fn heard(&mut self, happening: &Happening) {
        daemon::log(happening);
        daemon::count(&self.board, happening);
        if let Happening::Ended { record, .. } = happening {
            self.reader.want();
            if record.is_over() {
                self.beat();
            }
        }
    }

    /// The dead man's switch: only as long as no job fails or is overdue.
    fn beat(&self) {
        let Some(heartbeat) = &self.policy.policy.agent.heartbeat else { return };
        let failing = self
            .standing
            .lock()
            .ok()
            .and_then(|s| s.conditions.iter().find(|c| c.kind == "job_failing" || c.kind == "job_missed").cloned());
        if let Some(failing) = failing {
            return warn!(job = failing.subject, "no heartbeat: a job fails or is overdue");
        }
        let address = match address(&self.policy, &heartbeat.value, "the heartbeat's address") {
            Ok(address) => address,
            Err(e) => return error!("no heartbeat: {}", e.causes.join(": ")),
        };
        let board = self.board.clone();
        // Nothing waits for it.
        let _ = std::thread::Builder::new().name("heartbeat".into()).spawn(move || {
            let sent = Outbound::new().and_then(|outbound| {
                let url = address.url()?;
                // Once more: one lost packet is no dead man.
                outbound.get(&url).or_else(|_| outbound.get(&url)).map_err(|e| e.to_string())
            });
            if let Err(why) = sent {
                warn!("the heartbeat is not answered: {why}");
                if let Ok(mut view) = board.write() {
                    view.counts.failed_heartbeats += 1;
                }
            }
        });
    }

    fn take_channels(&mut self) {
        let (usable, unusable) = channels(&self.policy);
        let _ = self.to_desk.send(ToDesk::Channels(usable, waiting(&unusable)));
        self.unusable = unusable;
        self.channels_read = SystemClock.monotonic();
    }

    /// A secret that could not be read may be there by now: what waits for its channel must not wait for a restart.
    fn read_channels_again(&mut self, steady: Duration) {
        if self.unusable.is_empty() || steady.saturating_sub(self.channels_read) < CHANNELS {
            return;
        }
        let before = std::mem::take(&mut self.unusable);
        self.take_channels();
        if self.unusable != before {
            let usable = before.iter().filter(|b| !self.unusable.iter().any(|u| u.name == b.name));
            usable.for_each(|u| info!(channel = u.name, "alerts go there again"));
            tell_of(&self.unusable);
        }
    }

    /// Reads the policy again; what is wrong with it is said, and the old one stays in force.
    fn reload(&mut self) {
        if let Ok(state) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, state]);
        }
        match LoadedPolicy::load(&self.context.global.policy).map_err(CliError::from).and_then(|policy| self.take(policy)) {
            Ok(()) => {
                info!(policy_sha256 = %self.policy.sha256(), "the policy was read again and is in force");
                self.refused = None;
            }
            Err(e) => {
                let why = e.causes.join(": ").split_whitespace().collect::<Vec<_>>().join(" ");
                error!("the policy is refused, and the one before stays in force: {}", super::output::shown(&why));
                self.refused = Some(why);
            }
        }
        notify(&[NotifyState::Ready]);
    }

    fn take(&mut self, policy: LoadedPolicy) -> Result<(), CliError> {
        let place = |p: &LoadedPolicy| {
            let azure = p.policy.vault.azure.as_ref().map(|a| (a.value.endpoint(), a.value.leases()));
            let listen = p.policy.agent.listen.as_ref().map(|l| l.value.clone());
            (p.policy.vault.local.as_ref().map(|l| l.path.clone()), azure, p.policy.state.as_ref().map(|s| s.value.clone()), listen)
        };
        if place(&policy) != place(&self.policy) {
            return Err(CliError::new(
                Exit::Usage,
                "it names another vault or state directory, or another `listen`, which needs a restart",
            ));
        }
        // What would only fail is no policy. A vault that cannot be asked now says nothing of it.
        check_keys(self.context, self.args, &policy).or_else(|e| if e.exit == Exit::Usage { Err(e) } else { Ok(()) })?;
        self.state.write("policy.yaml", &policy.bytes)?;
        let settings = settings(&policy);
        self.rpo = settings.rpo;
        let _ = self.orders.send(Order::Reload(Box::new(settings), jobs(&policy)));
        self.policy = policy;
        self.take_channels();
        tell_of(&self.unusable);
        self.reader.want();
        Ok(())
    }
}

pub fn tell_of(unusable: &[Unusable]) {
    for Unusable { name, why, .. } in unusable {
        error!(channel = name, "alerts do not go there: {why}");
    }
}

/// In one line, for a supervisor.
fn summary(standing: &Standing) -> String {
    let running: Vec<&str> = standing.jobs.iter().filter(|j| j.running).map(|j| j.job.as_str()).collect();
    let next = standing.jobs.iter().filter(|j| j.own).filter_map(|j| Some((j.next?, &j.job))).min();
    match (running.is_empty(), next) {
        (false, _) => format!("running {}", running.join(", ")),
        (true, Some((at, name))) => format!("idle; next {name} at {}", at.strftime("%Y-%m-%d %H:%M:%S UTC")),
        (true, None) => "idle; nothing is scheduled".to_owned(),
    }
}

/// What a run says on stderr, by its first word.
fn heard_from_a_run(order: &crate::agent::Order, line: &str) {
    let (job, line) = (order.job.as_str(), super::output::shown(line));
    match line.split_once(':').map(|(word, _)| word) {
        Some("error" | "warning") => warn!(job, "{line}"),
        _ => debug!(job, "{line}"),
    }
}

/// This program: what is put in its place on the disk while the daemon runs is not run by it.
pub fn program() -> Result<PathBuf, CliError> {
    let own = Path::new("/proc/self/exe");
    if own.exists() {
        return Ok(own.to_owned());
    }
    std::env::current_exe().map_err(|e| CliError::new(Exit::Failed, format!("cannot find this program: {e}")))
}

/// Where the daemon listens; before anything else, since another one may be there.
fn listen(policy: &LoadedPolicy) -> Result<Option<(SocketAddr, std::net::TcpListener)>, CliError> {
    let said = policy.policy.agent.listen.as_ref().map_or(LISTEN, |l| l.value.as_str());
    let Ok(address) = said.parse::<SocketAddr>() else { return Ok(None) };
    let listener = std::net::TcpListener::bind(address).map_err(|e| {
        CliError::new(Exit::Failed, format!("cannot listen on {address}: {e}"))
            .hint("another agent may run here: say `listen: 127.0.0.1:PORT` or `listen: off` under `agent` in the policy")
    })?;
    Ok(Some((address, listener)))
}

fn settings(policy: &LoadedPolicy) -> Settings {
    let agent = &policy.policy.agent;
    Settings {
        jitter: agent.jitter.as_ref().map_or(JITTER, |j| duration(&j.value).unwrap_or(SignedDuration::ZERO)),
        concurrency: agent.concurrency.as_ref().and_then(|c| usize::try_from(c.value).ok()).unwrap_or(CONCURRENCY),
        rpo: duration(&policy.policy.objectives.rpo.value).unwrap_or(SignedDuration::from_hours(1)),
        policy_sha256: policy.shared_sha256().to_string(),
    }
}

pub fn notify(state: &[NotifyState<'_>]) {
    // Without a supervisor that listens there is nobody to tell.
    let _ = sd_notify::notify(state);
}

pub fn forward<T: Send + 'static>(from: Receiver<()>, to: Sender<T>, what: fn() -> T) {
    std::thread::spawn(move || while from.recv().is_ok() && to.send(what()).is_ok() {});
}

/// Hears SIGTERM, SIGINT and SIGHUP.
pub fn signals(wake: Sender<Wake>) -> Result<(), CliError> {
    let mut signals = Signals::hear()?;
    std::thread::spawn(move || {
        loop {
            let heard = match signals.next() {
                Heard::End => Wake::Stop,
                Heard::HangUp => Wake::Reload,
            };
            if wake.send(heard).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Asks the agent of this machine.
fn ask(policy: &LoadedPolicy, probe: Probe) -> Result<Exit, CliError> {
    let said = policy.policy.agent.listen.as_ref().map_or(LISTEN, |l| l.value.as_str());
    if said.parse::<SocketAddr>().is_err() {
        let message = format!("the policy says `listen: {said}`: the agent listens nowhere, and nobody can be asked");
        return Err(CliError::new(Exit::Usage, message).hint("say `listen: 127.0.0.1:PORT` under `agent` in the policy"));
    }
    let path = match probe {
        Probe::Health => "healthz",
        Probe::Ready => "readyz",
    };
    let failed = |e: String| CliError::new(Exit::Failed, format!("the agent at {said} is not well: {e}"));
    let url = url::Url::parse(&format!("http://{said}/{path}")).map_err(|e| failed(e.to_string()))?;
    Outbound::new().map_err(failed)?.get(&url).map_err(|e| failed(e.to_string()))?;
    Ok(Exit::Done)
}
