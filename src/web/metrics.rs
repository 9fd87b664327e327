//! What a Prometheus server reads: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::View;
use crate::alert::spelled;
use crate::policy::AlertSeverity;

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// One metric, with what it is for each set of labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its name, without the program's.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// Whether it only grows while the agent runs.
    pub counter: bool,
    /// Labels and values.
    pub values: Vec<(Labels, f64)>,
}

#[derive(Default)]
struct Metrics(Vec<Metric>);

impl Metrics {
    /// One that rises and falls; without any value it is left out.
    fn gauge(&mut self, name: &'static str, help: &'static str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let values: Vec<_> = values.into_iter().collect();
        if !values.is_empty() {
            self.0.push(Metric { name, help, counter: false, values });
        }
    }

    fn counter(&mut self, name: &'static str, help: &'static str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let values = values.into_iter().map(|(labels, n)| (labels, n as f64)).collect();
        self.0.push(Metric { name, help, counter: true, values });
    }
}

fn instant(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn instant_of(value: &Value) -> Option<f64> {
    value.as_str()?.parse::<Timestamp>().ok().map(instant)
}

/// What there is to tell now.
pub fn metrics(view: &View, now: Timestamp) -> Vec<Metric> {
    let mut m = Metrics::default();
    jobs(&mut m, view);
    daemon(&mut m, view, now);
    if let Some(status) = &view.status {
        of_status(&mut m, status);
    }
    m.0
}

pub(super) fn render(view: &View, now: Timestamp) -> String {
    let mut registry = Registry::with_prefix("backstop");
    for Metric { name, help, counter, values } in metrics(view, now) {
        if counter {
            let family = Family::<Labels, Counter<f64, AtomicU64>>::default();
            for (labels, value) in &values {
                family.get_or_create(labels).inc_by(*value);
            }
            registry.register(name, help, family);
        } else {
            let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
            for (labels, value) in &values {
                family.get_or_create(labels).set(*value);
            }
            registry.register(name, help, family);
        }
    }
    let mut text = String::new();
    // A string takes whatever is written to it.
    let _ = encode(&mut text, &registry);
    older_form(&text)
}

/// From OpenMetrics to the form that everybody reads: a counter is named there as its samples are, and nothing ends it.
fn older_form(text: &str) -> String {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
    let counters: std::collections::BTreeSet<&str> = types.collect();
    let renamed = |line: &str| -> String {
        let parts: Vec<&str> = line.splitn(4, ' ').collect();
        match parts[..] {
            ["#", what, name, rest] if counters.contains(name) => format!("# {what} {name}_total {rest}\n"),
            _ => format!("{line}\n"),
        }
    };
    text.lines().filter(|line| *line != "# EOF").map(renamed).collect()
}

fn jobs(m: &mut Metrics, view: &View) {
    let label = |job: &str| vec![("job_name", job.to_owned())];
    let each = |of: fn(&super::JobView) -> Option<f64>| -> Vec<(Labels, f64)> {
        view.jobs.iter().filter_map(|job| Some((label(&job.job), of(job)?))).collect()
    };
    m.gauge("job_last_success_timestamp_seconds", "When a job was last done", each(|j| j.success.map(instant)));
    m.gauge("job_next_timestamp_seconds", "When a job is due next", each(|j| j.next.map(instant)));
    m.gauge("job_running", "Whether this agent runs a job now", each(|j| Some(f64::from(u8::from(j.running)))));
    m.gauge("job_attempts", "How often the newest firing of a job was tried", each(|j| j.due.map(|_| f64::from(j.attempts))));
    m.gauge(
        "job_last_duration_seconds",
        "How long the last run of a job took",
        each(|j| Some(j.finished?.duration_since(j.started?).as_secs_f64())),
    );
    let failed = |j: &super::JobView| j.state.as_ref().map(|s| f64::from(u8::from(s == "failed" || s == "interrupted")));
    m.gauge("job_failing", "Whether the newest firing of a job failed and waits to be tried again", each(failed));
    m.gauge("job_read_bytes", "Bytes that the last run of a job read", each(|j| j.finished.map(|_| j.read_bytes as f64)));
    m.gauge("job_stored_bytes", "Bytes that the last run of a job stored", each(|j| j.finished.map(|_| j.stored_bytes as f64)));
    m.gauge("job_objects", "Objects that the last run of a job stored", each(|j| j.finished.map(|_| j.objects as f64)));
    m.gauge(
        "job_throttled_seconds",
        "How long the last run of a job waited as a service told it",
        each(|j| j.finished.map(|_| j.waited_seconds)),
    );
    let runs = view.counts.runs.iter().map(|((job, outcome), n)| (vec![("job_name", job.clone()), ("outcome", outcome.clone())], *n));
    m.counter("job_runs", "Runs that ended since this agent began", runs);
    m.counter("job_missed", "Firings that were missed since this agent began", view.counts.missed.iter().map(|(job, n)| (label(job), *n)));
}

fn daemon(m: &mut Metrics, view: &View, now: Timestamp) {
    m.gauge("info", "This agent", [(vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("agent", view.agent.clone())], 1.0)]);
    m.gauge("start_timestamp_seconds", "When this agent began", view.since.map(|at| (vec![], instant(at))));
    let age = view.ticked.map(|at| (vec![], now.duration_since(at).as_secs_f64()));
    m.gauge("tick_age_seconds", "How long ago this agent looked around", age);
    m.gauge("status_timestamp_seconds", "When the vault was last read for these metrics", view.status_at().map(|at| (vec![], instant(at))));
    let flag = |set: bool| [(vec![], f64::from(u8::from(set)))];
    m.gauge("status_failing", "Whether the vault cannot be read", flag(view.status_error.is_some()));
    m.gauge("held", "Whether nothing is begun because of the clock", flag(view.held.is_some()));
    m.gauge("policy_refused", "Whether the policy on the disk is not in force because it is wrong", flag(view.policy_error.is_some()));
    m.gauge("alerting", "Whether this agent sends the alerts", flag(view.alerting));
    let severities = [AlertSeverity::Critical, AlertSeverity::High, AlertSeverity::Medium, AlertSeverity::Low];
    let open = severities.map(|severity| {
        // Each is counted by one agent.
        let count = view.alerts.iter().filter(|a| view.alerting && a.severity == severity).count();
        (vec![("severity", spelled(severity).to_owned())], count as f64)
    });
    m.gauge("alerts_open", "Alerts that are open, as far as this agent sends them", open);
    m.counter("alerts_refused", "Tries at which a channel did not take an alert", [(vec![], view.counts.refused_alerts)]);
    m.counter("heartbeats_failed", "Heartbeats that were not answered", [(vec![], view.counts.failed_heartbeats)]);
}

fn list<'a>(status: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    status.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn of_status(m: &mut Metrics, status: &Value) {
    let number = |value: &Value, field: &str| value.get(field).and_then(Value::as_f64);
    let who = |v: &Value| vec![("class", text(v, "class")), ("name", text(v, "name"))];
    let rpo = |field: &'static str| list(status, "rpo").filter_map(move |v| Some((who(v), number(v, field)?)));
    m.gauge("rpo_seconds", "The age of the newest recovery point when the vault was last read", rpo("achieved_seconds"));
    m.gauge("rpo_objective_seconds", "The RPO that is asked for", rpo("objective_seconds"));
    let newest = |v: &Value| {
        let name = [text(v, "source"), text(v, "stream")].concat();
        vec![("class", text(v, "class")), ("name", name)]
    };
    let captured = list(status, "newest").filter_map(|v| Some((newest(v), instant_of(v.get("captured")?)?)));
    m.gauge("newest_captured_timestamp_seconds", "Up to when everything is in the newest recovery point", captured);
    let locked = list(status, "newest").filter_map(|v| Some((newest(v), instant_of(v.get("lock_until")?)?)));
    m.gauge("newest_lock_until_timestamp_seconds", "Until when the newest recovery point is locked", locked);
    let mode = list(status, "newest").map(|v| (newest(v), f64::from(u8::from(text(v, "lock_mode") == "locked"))));
    m.gauge("newest_locked", "Whether nobody can shorten the lock of the newest recovery point", mode);
    let tested = list(status, "newest").map(|v| (newest(v), f64::from(u8::from(v.get("tested").is_some_and(Value::is_string)))));
    m.gauge("newest_tested", "Whether the newest recovery point was restored and checked", tested);
    m.gauge(
        "coverage_ratio",
        "The share of stored bytes restored and checked within 90 days",
        number(status, "coverage").map(|n| (vec![], n)),
    );
    m.gauge("stored_bytes", "Bytes of recovery points in the vault", number(status, "stored_bytes").map(|n| (vec![], n)));
    let availability = &status["availability"];
    let over = |days: &'static str, field: &str| Some((vec![("days", days.to_owned())], number(&availability[field], "percent")? / 100.0));
    m.gauge(
        "availability_ratio",
        "The share of time within the RPO",
        [over("30", "days_30"), over("365", "days_365")].into_iter().flatten(),
    );
    let objective = number(availability, "objective_percent").map(|p| (vec![], p / 100.0));
    m.gauge("availability_objective_ratio", "The availability that is asked for", objective);
    let last = |of: &'static str, field: &'static str| instant_of(&status[of][field]).map(|at| (vec![], at));
    m.gauge("restore_test_timestamp_seconds", "When the last restore test ended", last("restore_test", "finished"));
    let passed = status["restore_test"].get("outcome").map(|o| (vec![], f64::from(u8::from(o != "failed"))));
    m.gauge("restore_test_passed", "Whether the last restore test found nothing wrong", passed);
    m.gauge("drill_timestamp_seconds", "When the last drill ended", last("drill", "finished"));
    let passed = status["drill"].get("passed").and_then(Value::as_bool).map(|p| (vec![], f64::from(u8::from(p))));
    m.gauge("drill_passed", "Whether the last drill kept every objective", passed);
    let rto = |field: &str| number(&status["drill"], field).map(|n| (vec![], n));
    m.gauge("rto_seconds", "The RTO of the last drill", rto("rto_achieved_seconds"));
    m.gauge("rto_objective_seconds", "The RTO that is asked for", rto("rto_objective_seconds"));
    let findings = ["error", "warning"].map(|severity| {
        let count = list(status, "findings").filter(|f| text(f, "severity") == severity).count();
        (vec![("severity", severity.to_owned())], count as f64)
    });
    m.gauge("findings", "What is wrong by the status", findings);
    let broken = ["missing_attestation", "damaged_attestation", "void_attestation"];
    let chains = list(status, "rpo").map(|v| {
        let chain = text(v, "chain");
        let bad = list(status, "findings").any(|f| text(f, "chain") == chain && broken.contains(&text(f, "kind").as_str()));
        (vec![("chain", chain)], f64::from(u8::from(!bad)))
    });
    m.gauge("chain_whole", "Whether every attestation of a chain is there and valid", chains);
}
