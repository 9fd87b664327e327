//! Meaning: does the policy keep its own objectives?

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use serde_saphyr::{Location, Spanned};

use super::model::{Policy, SourcePolicy, StreamPolicy, parse_duration};
use super::problem::{Problem, holds_secret, nearest};
use super::schedule;
use crate::source::PathGlobs;
use crate::source::catalog::Plane;
use crate::source::import::Pointers;
use crate::vault::keys::Recipients;
use crate::vault::names::{Container, ShortName};

/// How far an export stays behind now, unless the policy says.
pub const DEFAULT_SETTLE_SECONDS: u64 = 600;

/// Everything that is wrong with a policy's meaning.
pub fn check(policy: &Policy, text: &str, base: &Path) -> Vec<Problem> {
    let mut checker = Checker { text, base, problems: Vec::new(), secrets: BTreeSet::new() };
    checker.whole(policy);
    checker.vault(policy);
    checker.recipients(policy);
    for (name, source) in &policy.sources {
        checker.source(name, source);
    }
    for (name, stream) in &policy.streams {
        checker.name("stream", name, stream.defined);
        let StreamPolicy { import, graph_log, arm_log } = &stream.value;
        match (import, graph_log, arm_log) {
            (None, Some(log), None) => checker.log(log, Plane::Graph),
            (None, None, Some(log)) => checker.log(log, Plane::Arm),
            (Some(import), None, None) => {
                if let Err(e) = Pointers::new(import.id.clone(), import.time.clone()) {
                    checker.error(stream.defined, format!("{e}"));
                }
                if import.time.is_empty() {
                    let problem = Problem::at(text, stream.defined, format!("the stream {name} does not say where an event's time is"));
                    checker.problems.push(problem.hint("add `time: /createdDateTime` or whatever the JSON pointer is"));
                }
            }
            (None, None, None) => {
                checker.error(
                    stream.defined,
                    format!("the stream {name} has no kind: write `graph_log: {{…}}`, `arm_log: {{…}}` or `import: {{…}}`"),
                );
            }
            _ => checker.error(stream.defined, format!("the stream {name} has several kinds; write one")),
        }
    }
    checker.jobs(policy);
    // As they stand in the file; what has no place comes first.
    checker.problems.sort_by_key(|problem| problem.place);
    checker.problems
}

pub(super) struct Checker<'a> {
    pub(super) text: &'a str,
    pub(super) base: &'a Path,
    pub(super) problems: Vec<Problem>,
    /// Places of secrets that were found missing; each is told once.
    pub(super) secrets: BTreeSet<String>,
}

impl Checker<'_> {
    pub(super) fn error(&mut self, at: Location, message: String) {
        self.problems.push(Problem::at(self.text, at, message));
    }

    pub(super) fn warn(&mut self, at: Location, message: String) {
        self.problems.push(Problem::at(self.text, at, message).warning());
    }

    pub(super) fn later(&mut self, at: Location, what: &str) {
        self.error(at, format!("this version of backstop has no {what}: nothing would be done, so the policy is refused"));
    }

    fn name(&mut self, what: &str, name: &str, at: Location) {
        if let Err(e) = name.parse::<ShortName>() {
            self.error(at, format!("{what}: {e}"));
        }
    }

    pub(super) fn duration(&mut self, what: &str, said: &Spanned<String>) {
        if parse_duration(&said.value).is_none() {
            self.error(said.defined, format!("{what}: {:?} is not a duration: write 90s, 15m, 1h or 2d", said.value));
        }
    }

    fn whole(&mut self, policy: &Policy) {
        if policy.version.value != 1 {
            self.error(policy.version.defined, format!("this program reads policies of version 1, not {}", policy.version.value));
        }
        for (what, said) in [("rpo", &policy.objectives.rpo), ("rto", &policy.objectives.rto)] {
            self.duration(what, said);
        }
        if !(0.0..=100.0).contains(&policy.objectives.availability) {
            self.problems.push(Problem::general("objectives.availability is a share in percent, from 0 to 100"));
        }
        if policy.objectives.retention.value.years < 7 {
            self.warn(policy.objectives.retention.defined, "the retention is shorter than the seven years that the estate demands".into());
        }
        if let Some(zone) = &policy.timezone
            && jiff::tz::TimeZone::get(&zone.value).is_err()
        {
            self.error(zone.defined, format!("{:?} is not a time zone: write a name such as Europe/Berlin or UTC", zone.value));
        }
        self.agent(&policy.agent);
        self.notify(&policy.notify);
    }

    fn vault(&mut self, policy: &Policy) {
        let vault = &policy.vault;
        match (&vault.local, &vault.azure) {
            (Some(_), Some(azure)) => self.error(azure.defined, "the vault has two places, `local` and `azure`: write one".into()),
            (None, Some(azure)) => self.azure(&azure.value, &vault.lock),
            (None, None) => {
                let hint = "write `local: { path: ./vault }` or `azure: { account: NAME, credential: { managed_identity: {} } }`";
                self.problems.push(Problem::general("vault: says no place").hint(hint));
            }
            (Some(_), None) => {}
        }
        if let Some(replica) = vault.replicas.first() {
            self.later(replica.defined, "replicas");
        }
        for (container, retention) in &vault.lock.retention {
            let least = policy.objectives.retention.value;
            if retention.value < least {
                self.error(retention.defined, format!("{container} would be kept {}, less than the objective of {least}", retention.value));
            }
        }
        if let Some(by) = &vault.lock.by
            && vault.local.is_some()
            && by.value != "version"
        {
            let message = format!("a local vault locks by `version`, not {:?}", by.value);
            self.error(by.defined, message);
        }
        if let Some(level) = &vault.compression_level
            && !(1..=19).contains(&level.value)
        {
            self.error(level.defined, "compression_level goes from 1 to 19".into());
        }
        if let Some(local) = &vault.local {
            let taken: std::collections::BTreeSet<&str> = local.containers.values().map(String::as_str).collect();
            let plain = |d: &str| !d.is_empty() && !d.starts_with('.') && !d.contains('/');
            if taken.len() != local.containers.len() || !taken.iter().all(|d| plain(d)) {
                self.problems.push(Problem::general("vault.local.containers: every container needs a plain directory name of its own"));
            }
        }
    }

    fn recipients(&mut self, policy: &Policy) {
        let recipients = &policy.encryption.recipients;
        for one in &recipients.value {
            if let Err(e) = Recipients::parse(std::slice::from_ref(&one.value)) {
                let secret = holds_secret(&one.value);
                let problem = match secret {
                    true => Problem::at(self.text, one.defined, "this is a secret identity, which must never stand in a policy")
                        .hint("write its public recipient (age1…), and treat the identity as disclosed"),
                    false => Problem::at(self.text, one.defined, e.to_string()),
                };
                self.problems.push(problem);
            }
        }
        let mut distinct: Vec<&str> = recipients.value.iter().map(|r| r.value.as_str()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        match distinct.len() {
            0 => self.error(recipients.defined, "there is no recipient: nothing could be sealed".into()),
            1 => self.warn(
                recipients.defined,
                "there is only one recipient: if its identity is lost, everything is lost; keep a second one offline".into(),
            ),
            _ => {}
        }
    }

    fn source(&mut self, name: &str, source: &Spanned<SourcePolicy>) {
        self.name("source", name, source.defined);
        let at = source.defined;
        let SourcePolicy { files, graph, arm, container, .. } = &source.value;
        if usize::from(files.is_some()) + usize::from(graph.is_some()) + usize::from(arm.is_some()) > 1 {
            self.error(at, format!("the source {name} has several kinds; write one"));
        }
        if let Some(graph) = graph {
            self.graph(graph);
        }
        if let Some(arm) = arm {
            self.arm(arm);
        }
        if let Some(container) = container
            && !matches!(container.value, Container::ConfigSnapshots | Container::Evidence)
        {
            self.error(container.defined, format!("a source's records go to config-snapshots or evidence, not to {}", container.value));
        }
        let Some(files) = files else {
            if graph.is_none() && arm.is_none() {
                self.error(at, format!("the source {name} has no kind: write `graph: {{…}}`, `arm: {{…}}` or `files: {{ path: … }}`"));
            }
            return;
        };
        for pattern in files.include.iter().chain(&files.exclude) {
            if let Err(e) = PathGlobs::new(std::slice::from_ref(&pattern.value)) {
                self.error(pattern.defined, format!("{:?} is not a glob: {}", pattern.value, e.kind()));
            }
        }
        let root = self.base.join(&files.path.value);
        if !root.is_dir() {
            self.warn(files.path.defined, format!("there is no directory {}", root.display()));
        }
    }

    fn jobs(&mut self, policy: &Policy) {
        for (name, job) in &policy.jobs {
            self.name("job", name, job.defined);
            let job = &job.value;
            if let Some(later) = job.drill.as_ref().and_then(|d| d.comprehensive.as_ref()) {
                self.later(later.defined, "comprehensive drills");
            }
            let said =
                [job.snapshot.is_some(), job.export.is_some(), job.checkpoint.is_some(), job.restore_test.is_some(), job.drill.is_some()];
            let actions = said.into_iter().filter(|said| *said).count();
            if actions != 1 {
                self.error(
                    job.schedule.defined,
                    format!(
                        "the job {name} has {actions} actions; write exactly one of `snapshot`, `export`, `checkpoint`, `restore_test` and `drill`"
                    ),
                );
            }
            match schedule::parse(&job.schedule.value) {
                Err(e) => self.error(job.schedule.defined, e),
                Ok(schedule) if schedule.after(&chrono::Utc::now()).next().is_none() => {
                    self.error(job.schedule.defined, format!("{:?} never fires again: the job {name} would never run", job.schedule.value));
                }
                Ok(_) => {}
            }
            if let Some(deadline) = &job.deadline {
                self.duration("deadline", deadline);
            }
            for list in job.snapshot.iter().chain(&job.export) {
                let mut seen = BTreeSet::new();
                if list.is_empty() {
                    self.error(job.schedule.defined, format!("the job {name} names nothing: it would do nothing"));
                }
                if let Some(twice) = list.iter().find(|one| !seen.insert(one.value.as_str())) {
                    self.error(twice.defined, format!("{} stands there twice", twice.value));
                }
            }
            self.known("source", job.snapshot.iter().flatten(), policy.sources.keys().map(String::as_str).collect());
            let exported = |s: &StreamPolicy| s.graph_log.is_some() || s.arm_log.is_some();
            let streams = policy.streams.iter().filter(|(_, s)| exported(&s.value)).map(|(name, _)| name.as_str());
            self.known("stream to export", job.export.iter().flatten(), streams.collect());
        }
        let Some(rpo) = parse_duration(&policy.objectives.rpo.value) else { return };
        for (name, source) in &policy.sources {
            self.rpo(policy, name, source, rpo);
        }
        for (name, stream) in &policy.streams {
            self.stream_rpo(policy, name, stream, rpo);
        }
    }

    /// A job's words must be names that the policy has.
    fn known<'j>(&mut self, what: &str, said: impl Iterator<Item = &'j Spanned<String>>, names: Vec<&str>) {
        for name in said.filter(|name| !names.contains(&name.value.as_str())) {
            let problem = Problem::at(self.text, name.defined, format!("there is no {what} {:?}", name.value));
            self.problems.push(match nearest(&name.value, names.iter().copied()) {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None => problem,
            });
        }
    }

    /// A stream's exports must follow one another so that even its newest settled event is within the RPO.
    fn stream_rpo(&mut self, policy: &Policy, name: &str, stream: &Spanned<StreamPolicy>, rpo: u64) {
        let Some(log) = stream.value.graph_log.as_ref().or(stream.value.arm_log.as_ref()) else { return };
        let settle = log.settle.as_ref().and_then(|s| parse_duration(&s.value)).unwrap_or(DEFAULT_SETTLE_SECONDS);
        let covering: Vec<_> = policy.jobs.iter().filter(|(_, job)| job.value.export.iter().flatten().any(|s| s.value == *name)).collect();
        if covering.is_empty() {
            let message = format!("no job exports {name}: nothing holds it to the RPO of {}", policy.objectives.rpo.value);
            return self.warn(stream.defined, message);
        }
        let schedules: Vec<_> = covering.iter().filter_map(|(_, job)| schedule::parse(&job.value.schedule.value).ok()).collect();
        let Some(gap) = schedule::longest_gap(&schedules, Timestamp::now()) else { return };
        if gap + settle <= rpo {
            return;
        }
        let message = format!(
            "{name} is exported with up to {} between two exports, {} behind now: together {}; the RPO is {}, missed by {}",
            spoken(gap),
            spoken(settle),
            spoken(gap + settle),
            policy.objectives.rpo.value,
            spoken(gap + settle - rpo)
        );
        let problem = Problem::at(self.text, covering[0].1.value.schedule.defined, message);
        let minutes = (rpo.saturating_sub(settle) / 120).clamp(1, 30);
        self.problems
            .push(problem.hint(format!("export it more often:\n  {name}: {{ export: [{name}], schedule: \"0 */{minutes} * * * *\" }}")));
    }

    /// A source's snapshots must follow one another within the RPO.
    fn rpo(&mut self, policy: &Policy, name: &str, source: &Spanned<SourcePolicy>, rpo: u64) {
        let covering: Vec<_> =
            policy.jobs.iter().filter(|(_, job)| job.value.snapshot.iter().flatten().any(|s| s.value == *name)).collect();
        if covering.is_empty() {
            self.warn(
                source.defined,
                format!("no job takes snapshots of {name}: nothing holds it to the RPO of {}", policy.objectives.rpo.value),
            );
            return;
        }
        let schedules: Vec<_> = covering.iter().filter_map(|(_, job)| schedule::parse(&job.value.schedule.value).ok()).collect();
        let Some(gap) = schedule::longest_gap(&schedules, Timestamp::now()) else { return };
        if gap <= rpo {
            return;
        }
        let jobs: Vec<&str> = covering.iter().map(|(job, _)| job.as_str()).collect();
        let at = covering[0].1.value.schedule.defined;
        let message = format!(
            "{name} is captured by {} with up to {} between two snapshots; the RPO is {}, missed by {}",
            jobs.join(", "),
            spoken(gap),
            policy.objectives.rpo.value,
            spoken(gap - rpo)
        );
        let minutes = (rpo / 120).clamp(1, 30);
        let problem = Problem::at(self.text, at, message).hint(format!(
            "add a delta job; it stores only what changed:\n  {name}-delta: {{ snapshot: [{name}], schedule: \"0 */{minutes} * * * *\" }}"
        ));
        let evidence = source.value.container() == Container::Evidence;
        self.problems.push(if evidence { problem.warning() } else { problem });
    }
}

fn spoken(seconds: u64) -> String {
    match seconds {
        s if s % 86_400 == 0 => format!("{} d", s / 86_400),
        s if s % 3600 == 0 => format!("{} h", s / 3600),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}
