//! `backstop watch`: looks at a vault from elsewhere, with rights to read and no key, and raises the alarm.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tracing::{error, info, warn};

use super::channels::{channels, waiting};
use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, GOOD, shown};
use super::run::{Wake, forward, signals};
use super::{daemon, status};
use crate::agent::{HostError, Reader, StateLock, Unread, of_audit, of_quiet, of_status, of_unread};
use crate::alert::{Condition, Courier, Desk, Keeper, rule_of, spelled};
use crate::policy::{AlertSeverity, JobPolicy, LoadedPolicy, duration, next_due};
use crate::store::{Clock, SystemClock};

/// What was last seen of the vault: the next look is held to it.
const KEPT: &str = "kept.json";

#[derive(Args)]
pub struct WatchArgs {
    /// Look once, say what is wrong, and end: 0 nothing, 4 an objective or a due date, 3 damage or tampering
    #[arg(long)]
    once: bool,
    /// How often the status is looked at
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: u64,
    /// How often the whole vault is audited, what was seen before by its digests
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    audit_every: u64,
}

impl WatchArgs {
    /// Whether it goes on until it is told to stop.
    pub fn is_daemon(&self) -> bool {
        !self.once
    }
}

pub fn run(context: &Context, args: &WatchArgs) -> Result<Exit, CliError> {
    let policy = context.policy()?;
    if context.global.genesis.is_none() && policy.policy.vault.genesis_file.is_none() {
        let message = "a watcher needs what trust starts from: the policy names no vault.genesis_file";
        return Err(
            CliError::new(Exit::Usage, message).hint("copy genesis.json here and name it, or say --genesis DIGEST as `init` printed it")
        );
    }
    let dir = Context::state_dir(&policy);
    let state = match StateLock::take(&dir, "watch") {
        // Somebody who only looks is in nobody's way, and needs no right to write.
        Err(why @ (HostError::Busy { .. } | HostError::Io { .. })) if args.once => {
            let why = CliError::from(why).causes.join(": ");
            let (state, found) = StateLock::aside(&dir, "watch", KEPT)?;
            let held = if found { "held to what was seen before" } else { "held to nothing that was seen before" };
            context.output.warn(format!("what is seen now is {held}, and not kept: {why}"));
            state
        }
        state => state?,
    };
    let (wake, plain_wakes) = channel();
    let copy = state.write("policy.yaml", &policy.bytes)?;
    let program = super::run::program()?;
    let arguments = daemon::arguments(context, &copy);
    let every = Duration::from_secs;
    let status = Reader::new(program.clone(), [arguments.clone(), status::kept(&state)].concat(), every(args.every), wake.clone());
    let audit = Reader::new(program, Vec::new(), every(args.audit_every), wake.clone());
    let mut watcher =
        Watcher { policy, state, arguments, status, audit, by_status: None, status_error: None, by_audit: None, audit_error: None };
    if let Some(problem) = watcher.hold_to_what_was_seen() {
        match args.once {
            true => context.output.warn(problem),
            false => error!("{problem}"),
        }
    }
    if args.once {
        return watcher.once(context);
    }
    let (wakes_to, wakes) = channel();
    signals(wakes_to.clone())?;
    forward(plain_wakes, wakes_to, || Wake::Something);
    let (usable, mut unusable) = channels(&watcher.policy);
    super::run::tell_of(&unusable);
    let courier = Courier::new(
        usable,
        waiting(&unusable),
        Arc::new(move || {
            let _ = wake.send(());
        }),
    );
    let keeper = Keeper::Own { dir: watcher.state.path("") };
    let mut desk = Desk::new(keeper, courier, watcher.vault());
    info!(every_seconds = args.every, audit_seconds = args.audit_every, "the watcher runs");
    super::run::notify(&[sd_notify::NotifyState::Ready]);
    loop {
        watcher.attend();
        let (now, steady) = (SystemClock.now(), SystemClock.monotonic());
        let mut conditions = watcher.conditions(now);
        if !unusable.is_empty() {
            let (usable, now) = channels(&watcher.policy);
            desk.courier().reload(usable, waiting(&now));
            unusable = now;
        }
        conditions.extend(unusable.iter().map(|u| wrong("channel_failing", u.name, u.why.clone())));
        for failure in desk.attend(now, steady, &conditions, watcher.is_certain()) {
            warn!("{failure}");
        }
        super::run::notify(&[sd_notify::NotifyState::Watchdog]);
        let next = desk.next(now).map_or(Duration::MAX, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        let wait = next.min(every(args.every)).min(Duration::from_secs(20)).max(Duration::from_millis(100));
        match wakes.recv_timeout(wait) {
            Ok(Wake::Something | Wake::Reload) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    desk.close(Duration::from_secs(3));
    info!("the watcher has stopped");
    Ok(Exit::Done)
}

/// Whether a file is what this watcher keeps.
fn is_kept(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Value>(bytes).is_ok_and(|kept| kept["heads"].is_array() && kept["genesis_sha256"].is_string())
}

fn wrong(kind: &str, subject: &str, summary: String) -> Condition {
    Condition { kind: kind.into(), subject: subject.into(), summary }
}

struct Watcher {
    policy: LoadedPolicy,
    state: StateLock,
    arguments: Vec<String>,
    status: Reader,
    audit: Reader,
    /// What was last read, and why it cannot be read since.
    by_status: Option<Value>,
    status_error: Option<Unread>,
    by_audit: Option<Vec<Condition>>,
    audit_error: Option<Unread>,
}

impl Watcher {
    fn vault(&self) -> String {
        let vault = &self.policy.policy.vault;
        let local = || vault.local.as_ref().map(|l| self.policy.path(&l.path).display().to_string());
        vault.azure.as_ref().map(|a| a.value.endpoint()).or_else(local).unwrap_or_default()
    }

    /// The next audit compares with what this one saw: what was cut off or put back since shows.
    ///
    /// What this watcher kept may be damaged: then it is put aside, or nothing would be audited any more, and that is said.
    fn hold_to_what_was_seen(&mut self) -> Option<String> {
        let mut arguments = [self.arguments.clone(), vec!["verify".into()]].concat();
        let kept = self.state.path(KEPT);
        let mut problem = None;
        if self.state.read(KEPT).is_some_and(|bytes| !is_kept(&bytes)) {
            let aside = self.state.path("kept.json.damaged");
            problem = Some(match std::fs::rename(&kept, &aside) {
                Ok(()) => format!("what this watcher saw before is damaged, and put aside as {}: it remembers anew", aside.display()),
                Err(e) => format!("what this watcher saw before is damaged: remove {} ({e})", kept.display()),
            });
        }
        if kept.is_file() {
            let kept = kept.display().to_string();
            arguments.extend(["--checkpoint".into(), kept.clone(), "--since".into(), kept]);
        }
        self.audit.set_arguments(arguments);
        problem
    }

    fn attend(&mut self) {
        let steady = SystemClock.monotonic();
        if let Some(read) = self.status.attend(steady) {
            match read {
                Ok(status) => (self.by_status, self.status_error) = (Some(status), None),
                Err(unread) => {
                    error!("the vault cannot be read: {}", unread.why);
                    self.status_error = Some(unread);
                }
            }
        }
        if let Some(read) = self.audit.attend(steady) {
            if let Err(unread) = &read {
                error!("the vault cannot be audited: {}", unread.why);
            }
            self.audited(read);
        }
    }

    fn audited(&mut self, read: Result<Value, Unread>) {
        match read {
            Ok(audit) => {
                // What is wrong now must not be what the next audit is held to, or it would not look at it again.
                if audit["ok"] == true
                    && let Err(e) = self.keep(&audit)
                {
                    error!("what was seen cannot be kept: {e}");
                }
                (self.by_audit, self.audit_error) = (Some(of_audit(&audit)), None);
            }
            Err(unread) => self.audit_error = Some(unread),
        }
        if let Some(problem) = self.hold_to_what_was_seen() {
            error!("{problem}");
        }
    }

    /// Whether both looks were made and could be: otherwise nothing is over.
    fn is_certain(&self) -> bool {
        let looked = self.by_status.is_some() && self.by_audit.is_some();
        looked && self.status_error.is_none() && self.audit_error.is_none()
    }

    /// Keeps how far each chain reached, never less than before.
    fn keep(&self, audit: &Value) -> Result<(), HostError> {
        let Some(checkpoint) = audit.get("checkpoint").filter(|c| c.is_object()) else { return Ok(()) };
        let number = |head: &Value| head.get("sequence").and_then(Value::as_u64).unwrap_or(0);
        let before: Value = self.state.read(KEPT).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let heads = |of: &Value| -> Vec<Value> { of.get("heads").and_then(Value::as_array).cloned().unwrap_or_default() };
        let mut all = heads(audit);
        for head in heads(&before) {
            match all.iter_mut().find(|h| h["chain"] == head["chain"]) {
                Some(now) if number(now) <= number(&head) => *now = head,
                Some(_) => {}
                None => all.push(head),
            }
        }
        let newest = if number(checkpoint) < number(&before) { &before } else { checkpoint };
        let kept =
            json!({ "genesis_sha256": audit["genesis_sha256"], "heads": all, "sequence": newest["sequence"], "sha256": newest["sha256"] });
        self.state.write(KEPT, kept.to_string().as_bytes()).map(|_| ())
    }

    fn conditions(&self, now: Timestamp) -> Vec<Condition> {
        let mut out = Vec::new();
        if let Some(status) = &self.by_status {
            let rpo = duration(&self.policy.policy.objectives.rpo.value).unwrap_or(SignedDuration::from_hours(1));
            out.extend(of_status(status));
            out.extend(of_quiet(status, now, rpo, |class, name, after| due(&self.policy, class, name, after)));
        }
        out.extend(self.by_audit.iter().flatten().cloned());
        let errors = [("vault", &self.status_error), ("audit", &self.audit_error)];
        out.extend(errors.iter().filter_map(|(what, error)| Some(of_unread(what, error.as_ref()?))));
        out
    }

    fn once(&mut self, context: &Context) -> Result<Exit, CliError> {
        match self.status.now() {
            Ok(status) => self.by_status = Some(status),
            Err(unread) => self.status_error = Some(unread),
        }
        let read = self.audit.now();
        self.audited(read);
        let found = self.conditions(SystemClock.now());
        let output = context.output;
        let mut worst = Exit::Done;
        for condition in &found {
            let rule = rule_of(&condition.kind);
            output.json(&json!({
                "kind": condition.kind, "severity": spelled(rule.severity), "subject": condition.subject, "message": condition.summary,
                "endangers": rule.endangers, "command": rule.command.replace("{}", &condition.subject),
            }));
            let style = if rule.severity >= AlertSeverity::High { BAD } else { DOUBT };
            output.say(format!("{style}{:<8}{style:#} {}: {}", spelled(rule.severity), condition.subject, shown(&condition.summary)));
            let damage = ["missing_attestation", "damaged_attestation", "checkpoint_back", "wrong_lock", "audit_finding"];
            worst = match (worst, condition.kind.as_str()) {
                (_, "vault_unreadable") => return Err(CliError::new(Exit::Failed, condition.summary.clone())),
                (Exit::Damage, _) => Exit::Damage,
                (_, kind) if damage.contains(&kind) => Exit::Damage,
                _ => Exit::ObjectiveMissed,
            };
        }
        if found.is_empty() {
            output.say(format!("{GOOD}nothing is wrong{GOOD:#} by what is attested"));
        }
        Ok(worst)
    }
}

/// When a source or stream was due after an instant, by the jobs of the policy.
fn due(policy: &LoadedPolicy, class: &str, name: &str, after: Timestamp) -> Option<Timestamp> {
    let p = &policy.policy;
    let names = |job: &JobPolicy| {
        let list = if class == "logs" { &job.export } else { &job.snapshot };
        list.iter().flatten().any(|s| s.value == name)
    };
    let jobs = p.jobs.values().filter(|job| names(&job.value));
    jobs.filter_map(|job| next_due(&job.value.schedule.value, p.zone(), after)).min()
}
