//! A month of exports on a clock that the test moves: events arrive late and change afterwards, the service fails
//! for hours, the agent is away for days and loses its state. In the end every event is there exactly once, as
//! the tenant's own ground truth has it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use backstop::backup::{ExportError, ExportJob, ExportReport, StateDir, export};
use backstop::http::{Credential, Secret, Service, ServiceOptions, endpoint};
use backstop::observe::Silent;
use backstop::restore::{LogsJob, LogsReport, Uncovered, WhyUncovered, restore_logs};
use backstop::sample::{Options, Server, Source, Tenant, serve};
use backstop::source::catalog::Catalog;
use backstop::source::graph::{LogReader, Subscriptions};
use backstop::vault::attestation::{ExportDetails, Kind};
use backstop::vault::names::{ChainName, ShortName};
use backstop::verify::{AuditJob, Severity, audit};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::LibraryVault;

const START: &str = "2026-09-01T08:00:00Z";

/// A tenant and an agent whose clocks are moved together.
struct Month {
    vault: LibraryVault,
    tenant: Arc<Tenant>,
    server: Server,
}

impl Month {
    fn new() -> Self {
        let options = Options { users: 60, events_per_hour: Some(12), start: Some(START.parse().unwrap()), ..Options::default() };
        let tenant = Arc::new(Tenant::new(options));
        tenant.clock().freeze(true);
        let server = serve(tenant.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        Self { vault: LibraryVault::new(START), tenant, server }
    }

    fn advance(&self, minutes: i64) {
        let now = self.now().checked_add(SignedDuration::from_mins(minutes)).unwrap();
        self.vault.clock.set(&now.to_string());
        self.tenant.clock().set(i64::try_from(now.as_nanosecond()).unwrap());
    }

    fn now(&self) -> Timestamp {
        use backstop::store::Clock;
        self.vault.clock.now()
    }

    fn reader(&self, log: &str) -> LogReader {
        let url = endpoint(&self.server.url()).unwrap();
        let options = self.tenant.options();
        let service = ServiceOptions {
            endpoint: url.clone(),
            authority: url,
            tenant: options.tenant.clone(),
            resource: "https://graph.microsoft.com".into(),
            credential: Credential::ClientSecret {
                client_id: options.client_id.clone(),
                secret: Secret::new(options.client_secret.clone()),
            },
        };
        LogReader {
            spec: Catalog::all().log(log).unwrap().clone(),
            service: Arc::new(Service::new(service).unwrap()),
            subscriptions: Subscriptions::All { earlier: Vec::new() },
            found: std::sync::Mutex::default(),
        }
    }

    fn export(&self, log: &str, state: &str) -> Result<ExportReport, ExportError> {
        let writer = self.vault.writer();
        let reader = self.reader(log);
        let stream = stream_of(log);
        let dir = StateDir::open(&self.vault.sandbox.path(state), writer.ledger.trust().vault(), &format!("export.{stream}")).unwrap();
        export(&ExportJob {
            stream: &stream,
            reader: &reader,
            settle: SignedDuration::from_mins(10),
            lookback: SignedDuration::from_mins(60),
            available: reader.spec.available.as_ref().map(|_| SignedDuration::from_hours(30 * 24)),
            writer: &writer,
            policy: &self.vault.policy,
            state: &dir,
            level: None,
            threads: 2,
            monitor: &Silent,
        })
    }

    fn details(&self, log: &str) -> Vec<ExportDetails> {
        let view = self.vault.ledger().chain(&ChainName::export(&stream_of(log))).unwrap();
        let exports = view.attested.iter().filter(|a| a.statement.kind == Kind::Export);
        exports.map(|a| a.statement.predicate.details().unwrap()).collect()
    }

    fn restore(&self, log: &str, from: Timestamp, to: Timestamp) -> (LogsReport, Vec<u8>) {
        let mut out = Vec::new();
        let temporary = tempfile::tempdir().unwrap();
        let job = LogsJob {
            ledger: &self.vault.ledger(),
            identities: &self.vault.identities,
            chain: &ChainName::export(&stream_of(log)),
            from,
            to,
            as_of: None,
            all_versions: false,
            temporary: temporary.path(),
            monitor: &Silent,
        };
        let report = restore_logs(&job, &mut out).unwrap();
        (report, out)
    }

    /// Restored events by id; an id that comes twice fails.
    fn restored(&self, log: &str, from: Timestamp, to: Timestamp) -> BTreeMap<String, Value> {
        let (report, out) = self.restore(log, from, to);
        assert_eq!((report.failed.len(), report.uncovered.len()), (0, 0), "{:?}", report.uncovered);
        let mut events = BTreeMap::new();
        for line in out.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let event: Value = serde_json::from_slice(line).unwrap();
            let id = event["id"].as_str().unwrap().to_owned();
            assert!(events.insert(id.clone(), event).is_none(), "{log}: {id} was restored twice");
        }
        assert_eq!(events.len() as u64, report.events);
        events
    }

    /// What the tenant says happened: the newest version of each event, and how many had several.
    fn truth(&self, source: Source, from: Timestamp, to: Timestamp) -> (BTreeMap<String, Value>, usize) {
        let nanos = |at: Timestamp| i64::try_from(at.as_nanosecond()).unwrap();
        let mut out = Vec::new();
        // Both bounds of the dump belong to it; those of a window do not.
        self.tenant.dump_logs(source, Some(nanos(from)), Some(nanos(to) - 1), &mut out).unwrap();
        let mut events: BTreeMap<String, (u64, Value)> = BTreeMap::new();
        let mut changed = 0;
        for line in out.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let line: Value = serde_json::from_slice(line).unwrap();
            let (id, version) = (line["id"].as_str().unwrap().to_owned(), line["version"].as_u64().unwrap());
            let newest = events.entry(id).or_insert((version, line["event"].clone()));
            if version != newest.0 {
                changed += 1;
            }
            if version > newest.0 {
                *newest = (version, line["event"].clone());
            }
        }
        (events.into_iter().map(|(id, (_, event))| (id, event)).collect(), changed)
    }
}

fn stream_of(log: &str) -> ShortName {
    log.to_lowercase().parse().unwrap()
}

fn source_of(log: &str) -> Source {
    match log {
        "signIns" => Source::of_name("log.signIns.interactive").unwrap(),
        "directoryAudits" => Source::of_name("log.directoryAudits").unwrap(),
        _ => Source::of_name("log.pim.directoryActivations").unwrap(),
    }
}

const LOGS: [&str; 3] = ["signIns", "directoryAudits", "roleAssignmentScheduleRequests"];

#[test]
fn a_month_ends_with_every_event_exactly_once() {
    let month = Month::new();
    let (mut failures, mut colds) = (0, 0);
    let mut minutes = 0;
    for step in 0u32.. {
        // About every three hours, never at the same minute twice.
        let pause = match step {
            100 => 3 * 24 * 60 + 7,
            _ => 140 + i64::from(step * 37 % 83),
        };
        month.advance(pause);
        minutes += pause;
        let outage = (step / 7).is_multiple_of(9);
        if outage {
            let rule = json!([{"path": "/auditLogs/*", "kind": "status", "status": 404, "code": "ResourceNotFound"}]);
            month.tenant.set_faults(serde_json::from_value(rule).unwrap());
        } else {
            month.tenant.set_faults(Vec::new());
        }
        // An agent that starts with an empty disk, now and then.
        let state = format!("state-{}", step / 60);
        for log in LOGS {
            match month.export(log, &state) {
                Ok(report) => colds += usize::from(report.cold),
                Err(ExportError::Log { .. }) => {
                    assert!(outage && log != "roleAssignmentScheduleRequests", "{log} failed at step {step}");
                    failures += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        if step % 40 == 0 {
            month.tenant.change(2);
        }
        if minutes > 30 * 24 * 60 {
            break;
        }
    }
    month.tenant.set_faults(Vec::new());
    let end = month.now();
    // The tail of late events is no longer than forty hours; a sweep a day finds it.
    for _ in 0..4 {
        month.advance(12 * 60 + 5);
        for log in LOGS {
            month.export(log, "state-last").unwrap();
        }
    }
    assert!(failures > 30, "{failures} failures");
    assert!(colds >= LOGS.len() * 2, "{colds} cold starts");
    for log in LOGS {
        let details = month.details(log);
        let windows: Vec<_> = details.iter().filter_map(|d| d.window).collect();
        assert!(windows.windows(2).all(|pair| pair[0].to == pair[1].from), "{log}: windows do not touch");
        let from = windows[0].from;
        let truth_from = if log == "roleAssignmentScheduleRequests" { from } else { from.max("2026-08-03T00:00:00Z".parse().unwrap()) };
        let (expected, changed) = month.truth(source_of(log), truth_from, end);
        let restored = month.restored(log, truth_from, end);
        let missing: Vec<_> = expected.keys().filter(|id| !restored.contains_key(*id)).collect();
        let invented: Vec<_> = restored.keys().filter(|id| !expected.contains_key(*id)).collect();
        assert!(
            missing.is_empty() && invented.is_empty(),
            "{log}: {} missing {missing:?}, {} invented {invented:?}",
            missing.len(),
            invented.len()
        );
        for (id, event) in &expected {
            assert_eq!(restored[id], *event, "{log}: {id} is not its newest version");
        }
        let late: u64 = details.iter().map(|d| d.late_events).sum();
        assert!(expected.len() > 30 && late > 0, "{log}: {} events, {late} late", expected.len());
        if log == "signIns" {
            assert!(changed > 10, "only {changed} changed");
            let lateness = details.iter().filter_map(|d| d.largest_lateness_seconds).fold(0.0, f64::max);
            assert!((600.0..40.0 * 3600.0).contains(&lateness), "largest lateness {lateness}");
        }
        assert!(details.iter().all(|d| d.unrecoverable.is_none()));
    }
    let ledger = month.vault.ledger();
    let report = audit(&AuditJob {
        ledger: &ledger,
        kept: None,
        since: None,
        deep: Some(&month.vault.identities),
        ignore_locks: false,
        threads: 2,
        monitor: &Silent,
    })
    .unwrap();
    let errors: Vec<_> = report.findings.iter().filter(|f| f.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn what_the_source_has_forgotten_is_said() {
    let month = Month::new();
    month.export("signIns", "state").unwrap();
    month.advance(40 * 24 * 60);
    let report = month.export("signIns", "state").unwrap();
    // Thirty days are still there; ten days less the settle time are not.
    let lost: f64 = report.unrecoverable.iter().map(|w| w.to.duration_since(w.from).as_secs_f64()).sum();
    assert_eq!(lost, 10.0 * 86_400.0 + 600.0);
    let details = month.details("signIns");
    let windows: Vec<_> = details.iter().filter_map(|d| d.window).collect();
    assert!(windows.windows(2).all(|pair| pair[0].to == pair[1].from));
    assert!(details.iter().any(|d| d.unrecoverable.is_some()) && details.last().unwrap().unrecoverable.is_none());
    // And whoever reads it back later is told of it, and of what lies before and after all windows.
    let (first, last, hour) = (windows[0].from, windows.last().unwrap().to, SignedDuration::from_hours(1));
    let holes: Vec<_> = details.iter().filter_map(|d| d.unrecoverable).collect();
    let (from, to) = (holes[0].from, holes.last().unwrap().to);
    assert_eq!(
        month.restore("signIns", first - hour, last + hour).0.uncovered,
        [
            Uncovered { from: first - hour, to: first, why: WhyUncovered::BeforeTheFirst },
            Uncovered { from, to, why: WhyUncovered::Hole },
            Uncovered { from: last, to: last + hour, why: WhyUncovered::AfterTheLast },
        ]
    );
    assert_eq!(month.restore("signIns", from - hour, from).0.uncovered, []);
    let half = from + hour / 2;
    assert_eq!(
        month.restore("signIns", half, half + hour).0.uncovered,
        [Uncovered { from: half, to: half + hour, why: WhyUncovered::Hole }]
    );
    assert_eq!(month.restore("signIns", to, last).0.uncovered, []);
}

#[test]
fn an_older_vault_under_a_newer_cache_loses_nothing() {
    let month = Month::new();
    month.export("directoryAudits", "state").unwrap();
    month.vault.sandbox.copy("vault", "older");
    month.advance(26 * 60);
    let newer = month.export("directoryAudits", "state").unwrap();
    assert!(newer.events > 0);
    // The older vault is put back: what the newer one sealed must be sealed again.
    month.vault.sandbox.shell("mv vault newer && mv older vault");
    let again = month.export("directoryAudits", "state").unwrap();
    assert!(again.cold);
    assert!(again.events >= newer.events);
    let (expected, _) = month.truth(source_of("directoryAudits"), newer.from.unwrap(), newer.to.unwrap());
    assert_eq!(month.restored("directoryAudits", newer.from.unwrap(), newer.to.unwrap()).len(), expected.len());
}

#[test]
fn nothing_is_exported_twice_in_a_quiet_minute() {
    let month = Month::new();
    month.export("signIns", "state").unwrap();
    let before = month.details("signIns").len();
    let report = month.export("signIns", "state").unwrap();
    assert_eq!((report.windows, report.events), (0, 0));
    assert_eq!(month.details("signIns").len(), before);
    // A quiet stream commits all the same: its window says that nothing happened.
    month.advance(1);
    let report = month.export("signIns", "state").unwrap();
    assert_eq!(report.windows, 1);
    assert_eq!(month.details("signIns").len(), before + 1);
}
