//! Traces and metrics reach a collector that the environment names; nobody waits for one that does not answer, and no
//! secret and no record goes there.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;
#[path = "support/tenant.rs"]
mod tenant;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::Value;
use support::Sandbox;
use support::daemon::{Daemon, free_port, policy};
use support::receiver::{Received, Receiver};
use tenant::Estate;

const TRACES: &str = "/v1/traces";
const OFTEN: &str = "  often: { snapshot: [tree], schedule: \"*/5 * * * * *\" }";
const METRICS: &str = "/v1/metrics";

fn environment(collector: &Receiver) -> Vec<(&'static str, String)> {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url("")),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json".to_owned()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=collectors-secret".to_owned()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "500".to_owned()),
    ]
}

fn borrowed<'a>(environment: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// A vault of which an agent takes a snapshot every five seconds, and where that agent shows itself.
fn often() -> (Sandbox, u16) {
    let sandbox = Sandbox::new();
    sandbox.init();
    let port = free_port();
    policy(&sandbox, "backstop.yaml", OFTEN, &format!("agent: {{ listen: \"127.0.0.1:{port}\" }}"));
    sandbox.write("tree/a.json", "{}");
    (sandbox, port)
}

/// What the daemons of a sandbox said so far.
fn collected(sandbox: &Sandbox) -> Vec<String> {
    let said = std::fs::read_to_string(sandbox.path("backstop.yaml.run.log")).unwrap_or_default();
    said.lines().map(str::to_owned).collect()
}

fn spans(received: &[Received]) -> Vec<Value> {
    let mut out = Vec::new();
    for request in received {
        for resource in request.json()["resourceSpans"].as_array().unwrap() {
            let attributes = resource["resource"]["attributes"].to_string();
            assert!(attributes.contains("service.name") && attributes.contains("\"backstop\""), "{attributes}");
            for scope in resource["scopeSpans"].as_array().unwrap() {
                out.extend(scope["spans"].as_array().unwrap().iter().cloned());
            }
        }
    }
    out
}

fn attribute(span: &Value, key: &str) -> String {
    let all = span["attributes"].as_array().unwrap();
    let value = all.iter().find(|a| a["key"] == key).map(|a| a["value"].as_object().unwrap().values().next().unwrap().clone());
    value.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).unwrap_or_default()
}

fn named<'a>(spans: &'a [Value], name: &str) -> Vec<&'a Value> {
    spans.iter().filter(|s| s["name"] == name).collect()
}

#[test]
fn a_snapshot_is_one_trace_without_a_secret_or_a_record() {
    let collector = Receiver::new();
    let estate = Estate::new();
    let environment = environment(&collector);
    let ran = estate.sandbox.backstop_with(&["snapshot", "entra", "--json"], &borrowed(&environment));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let received = collector.received(TRACES);
    assert!(received.iter().all(|r| r.headers["x-token"] == "collectors-secret"));
    let spans = spans(&received);
    let root = named(&spans, "backstop");
    assert_eq!((root.len(), attribute(root[0], "command"), attribute(root[0], "exit")), (1, "snapshot".into(), "0".into()));
    let traces: BTreeSet<String> = spans.iter().map(|s| s["traceId"].to_string()).collect();
    assert_eq!(traces.len(), 1, "{spans:?}");
    let snapshot = named(&spans, "snapshot");
    assert_eq!((snapshot.len(), attribute(snapshot[0], "source")), (1, "entra".into()));
    assert_eq!(snapshot[0]["parentSpanId"], root[0]["spanId"]);
    let collections: BTreeSet<String> = named(&spans, "collection").iter().map(|s| attribute(s, "collection")).collect();
    let attested: BTreeSet<String> = ran.json()[0]["collections"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(collections, attested);
    assert!(named(&spans, "collection").iter().all(|s| s["parentSpanId"] == snapshot[0]["spanId"]));
    assert!(spans.iter().all(|s| s["events"].as_array().is_none_or(Vec::is_empty)), "what is said stays here: {spans:?}");
    let commits: BTreeSet<String> = named(&spans, "commit").iter().map(|s| attribute(s, "chain")).collect();
    assert!(commits.contains("snapshot.entra"), "{commits:?}");

    // What the tenant holds, and what opens it, stays where it is.
    let said: String = received.iter().map(|r| r.body.as_str()).collect();
    let dump = std::fs::read_to_string(estate.dump("dump.ndjson")).unwrap();
    let user: Value =
        dump.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).find(|l| l.to_string().contains("userPrincipalName")).unwrap();
    let text = user.to_string();
    let name = text.split("\"userPrincipalName\":\"").nth(1).unwrap().split('"').next().unwrap();
    for secret in [estate.tenant.options().client_secret.as_str(), "collectors-secret", name] {
        assert!(!said.contains(secret), "{secret}");
    }
}

#[test]
fn as_protobuf_it_is_the_same() {
    let collector = Receiver::new();
    let sandbox = Sandbox::new();
    sandbox.init();
    sandbox.write("tree/a.json", "{}");
    // The protocol unless another is said.
    let ran = sandbox.backstop_with(&["snapshot", "--json"], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url(""))]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let mut spans = Vec::new();
    for request in collector.received(TRACES) {
        assert_eq!(request.headers["content-type"], "application/x-protobuf");
        let decoded = ExportTraceServiceRequest::decode(request.bytes.as_slice()).unwrap();
        spans.extend(decoded.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans));
    }
    let root = spans.iter().find(|s| s.name == "backstop").unwrap();
    let snapshot = spans.iter().find(|s| s.name == "snapshot").unwrap();
    assert_eq!((&snapshot.parent_span_id, &snapshot.trace_id), (&root.span_id, &root.trace_id));
    assert!(snapshot.attributes.iter().any(|a| a.key == "source"), "{snapshot:?}");
}

#[test]
fn what_was_not_sent_yet_is_sent_at_the_end() {
    let collector = Receiver::new();
    let (sandbox, port) = often();
    let seldom = [environment(&collector), vec![("OTEL_METRIC_EXPORT_INTERVAL", "3600000".to_owned())]].concat();
    let mut daemon = Daemon::start(&sandbox, "backstop.yaml", port, &["run"], &borrowed(&seldom));
    daemon.job("often", "done", 1, 60);
    assert!(collector.received(METRICS).is_empty());
    daemon.signal("TERM");
    assert_eq!(daemon.end(30).0, Some(0));
    assert!(collector.received(METRICS)[0].body.contains("backstop_job_runs"));
}

#[test]
fn a_daemon_sends_its_metrics_and_each_run_stands_below_it() {
    let collector = Receiver::new();
    let (sandbox, port) = often();
    let environment = environment(&collector);
    let mut daemon = Daemon::start(&sandbox, "backstop.yaml", port, &["run"], &borrowed(&environment));
    daemon.job("often", "done", 1, 60);
    // A metric of the vault comes once its status was read.
    let end = Instant::now() + Duration::from_secs(60);
    let metrics = loop {
        let all: Vec<Value> = collector.received(METRICS).iter().map(Received::json).collect();
        if let Some(last) =
            all.iter().rev().find(|m| m.to_string().contains("backstop_rpo_seconds") && m.to_string().contains("backstop_job_runs"))
        {
            break last.clone();
        }
        assert!(Instant::now() < end, "{all:?}");
        std::thread::sleep(Duration::from_millis(200));
    };
    let all = metrics["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap().clone();
    let one = |name: &str| all.iter().find(|m| m["name"] == name).unwrap_or_else(|| panic!("{name} in {all:?}")).clone();
    assert_eq!(one("backstop_rpo_objective_seconds")["gauge"]["dataPoints"][0]["asDouble"], 3600.0);
    assert_eq!(one("backstop_job_runs")["sum"]["isMonotonic"], true);
    // The same as a Prometheus server reads, by name.
    let (_, page) = daemon.get("/metrics");
    let sent: BTreeSet<String> = all.iter().map(|m| m["name"].as_str().unwrap().to_owned()).collect();
    let shown: BTreeSet<String> = page
        .lines()
        .filter_map(|l| l.strip_prefix("# TYPE "))
        .map(|l| l.split(' ').next().unwrap().trim_end_matches("_total").to_owned())
        .collect();
    let missing: Vec<&String> = shown.difference(&sent).filter(|n| *n != "backstop_job_missed").collect();
    assert!(missing.is_empty(), "{missing:?}");
    daemon.signal("TERM");
    let (code, _) = daemon.end(40);
    assert_eq!(code, Some(0));

    let spans = spans(&collector.received(TRACES));
    let run = named(&spans, "run").into_iter().find(|s| attribute(s, "job") == "often").unwrap().clone();
    let below = named(&spans, "backstop").into_iter().find(|s| s["traceId"] == run["traceId"]).unwrap().clone();
    assert_eq!(
        (&below["parentSpanId"], attribute(&below, "command"), attribute(&run, "exit")),
        (&run["spanId"], "snapshot".into(), "0".into())
    );
}

#[test]
fn nobody_waits_for_a_collector_that_hangs_or_refuses() {
    let collector = Receiver::new();
    let (sandbox, port) = often();
    let environment = environment(&collector);
    for status in [500, 0] {
        collector.answer(status);
        let begun = Instant::now();
        let ran = sandbox.backstop_with(&["snapshot", "--json"], &borrowed(&environment));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert!(!collector.received(TRACES).is_empty());
    }
    for status in [500, 0] {
        collector.answer(status);
        let (metrics, lines) = (collector.received(METRICS).len(), collected(&sandbox).len());
        let mut daemon = Daemon::start(&sandbox, "backstop.yaml", port, &["run"], &borrowed(&environment));
        collector.wait(METRICS, metrics + if status == 0 { 1 } else { 4 }, 60);
        // It goes on while the collector hangs, and it ends.
        let done = |log: &[Value]| log.iter().filter(|l| l["job"] == "often" && l["message"] == "done").count();
        let (before, end) = (done(&daemon.log()), Instant::now() + Duration::from_secs(60));
        while done(&daemon.log()) < before + 2 {
            assert!(Instant::now() < end, "{:?}", daemon.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        daemon.signal("TERM");
        assert_eq!(daemon.end(30).0, Some(0));
        let log = &daemon.log()[lines..];
        let told = log.iter().filter(|l| l["message"].as_str().unwrap_or_default().contains("collector does not take")).count();
        assert!(told <= 2 && (told > 0 || status == 0), "{told} times: once for traces and once for metrics, at most");
        assert!(!log.iter().any(|l| l.to_string().contains("collectors-secret")));
    }

    // No size that the environment asks for keeps a backup from being made.
    for size in ["18446744073709551615", "99999999", "0"] {
        let more = [borrowed(&environment), vec![("OTEL_BSP_MAX_QUEUE_SIZE", size), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", size)]].concat();
        assert_eq!(sandbox.backstop_with(&["snapshot"], &more).code, 0, "{size}");
    }
    // Headers go nowhere in the open, and a password in an address is not told.
    let open = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://192.0.2.1:4318"), ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=collectors-secret")];
    let ran = sandbox.backstop_with(&["snapshot"], &open);
    assert!(ran.code == 0 && ran.stderr.contains("in the open") && !ran.stderr.contains("collectors-secret"), "{}", ran.stderr);
    let ran = sandbox.backstop_with(&["snapshot"], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:s3cret@col lector")]);
    assert!(ran.code == 0 && ran.stderr.contains("no traces are sent") && !ran.stderr.contains("s3cret"), "{}", ran.stderr);
    // What cannot be an address is told, and the backup is made all the same.
    let ran = sandbox.backstop_with(&["snapshot"], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("no traces are sent"), "{}", ran.stderr);
    let grpc = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url("")), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".to_owned())];
    let ran = sandbox.backstop_with(&["snapshot"], &borrowed(&grpc));
    assert!(ran.code == 0 && ran.stderr.contains("no traces are sent: OTEL_EXPORTER_OTLP_PROTOCOL"), "{}", ran.stderr);
    let off = sandbox.backstop_with(&["snapshot"], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url"), ("OTEL_SDK_DISABLED", "true")]);
    assert!(off.code == 0 && !off.stderr.contains("traces"), "{}", off.stderr);
}
