//! Traces and metrics for a collector that speaks OTLP over HTTP, where the environment names one, by the variables of
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>.
//!
//! It promises that nothing waits for a collector, and that nothing but the program's own spans and numbers is sent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context as OtelContext, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Tracer};
use tracing::{Span, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::http::{Outbound, is_loopback};
use crate::web::{Board, Metric, metrics};

/// Metrics go out so often, unless the environment says.
const EVERY: Duration = Duration::from_secs(60);
/// So many spans wait for the collector; more are dropped.
const MOST_SPANS: usize = 2048;
/// At its end a command waits so long for what it still has to send.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What the environment of a run's process says of the span above it, in capitals there.
const PASSED_ON: [&str; 2] = ["traceparent", "tracestate"];

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Whether the environment names a collector for one kind of telemetry.
fn is_wanted(signal: &str) -> bool {
    let disabled = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let none = set(&format!("OTEL_{signal}_EXPORTER")).is_some_and(|value| value == "none");
    let named = set("OTEL_EXPORTER_OTLP_ENDPOINT").or_else(|| set(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")));
    named.is_some() && !disabled && !none
}

/// How a signal is spoken: protobuf, the standard's own choice, unless the environment says.
fn protocol(signal: &str) -> Result<Protocol, String> {
    let own = format!("OTEL_EXPORTER_OTLP_{signal}_PROTOCOL");
    let (name, value) = match set(&own) {
        Some(value) => (own, Some(value)),
        None => ("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), set("OTEL_EXPORTER_OTLP_PROTOCOL")),
    };
    match value.as_deref().map(str::trim) {
        None | Some("http/protobuf") => Ok(Protocol::HttpBinary),
        Some("http/json") => Ok(Protocol::HttpJson),
        Some(other) => Err(format!("{name} is {other:?}, and only http/protobuf and http/json are spoken (port 4318 of most collectors)")),
    }
}

fn resource() -> Resource {
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let named = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty())
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|list| list.contains("service.name="));
    if named { builder } else { builder.with_service_name("backstop") }.build()
}

/// Sends to the collector, and says once when it does not take what it is sent.
#[derive(Debug)]
struct Collector {
    outbound: Outbound,
    failing: AtomicBool,
}

impl Collector {
    fn new(signal: &str) -> Result<Self, String> {
        let own = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
        let (name, address) = match set(&own) {
            Some(address) => (own, address),
            None => ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), set("OTEL_EXPORTER_OTLP_ENDPOINT").unwrap_or_default()),
        };
        // Not the address itself: it may hold a password.
        let url = address.trim().parse::<url::Url>().ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        let url = url.ok_or_else(|| format!("{name} is no address like http://localhost:4318"))?;
        let secrets = set("OTEL_EXPORTER_OTLP_HEADERS").or_else(|| set(&format!("OTEL_EXPORTER_OTLP_{signal}_HEADERS")));
        if secrets.is_some() && url.scheme() != "https" && !is_loopback(&url) {
            return Err(format!("{name} must begin with https: OTEL_EXPORTER_OTLP_HEADERS would be sent in the open"));
        }
        Ok(Self { outbound: Outbound::new()?, failing: AtomicBool::new(false) })
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse().map_err(|_| "the collector's address is no URL")?;
        let (status, answer) = self.outbound.exchange(&url, parts.headers, body.into())?;
        Ok(Response::builder().status(status).body(answer.into())?)
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The exporter's own thread: it may wait.
        let sent = self.send(request);
        let why = match &sent {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers HTTP {}", answer.status().as_u16())),
            Err(e) => Some(e.to_string()),
        };
        match why {
            None => {
                self.failing.store(false, Ordering::Relaxed);
            }
            Some(why) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    warn!("the collector does not take what it is sent: {why}");
                }
            }
        }
        sent
    }
}

/// The spans of a process on their way to a collector.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// If the environment names a collector; why not, where what it says cannot be used.
    pub fn begin() -> Option<Result<Self, String>> {
        is_wanted("TRACES").then(|| {
            let collector = Collector::new("TRACES")?;
            let exporter = SpanExporter::builder()
                .with_http()
                .with_protocol(protocol("TRACES")?)
                .with_http_client(collector)
                .build()
                .map_err(|e| e.to_string())?;
            // A size from the environment that no memory holds would end the process before it does anything.
            let sizes = BatchConfigBuilder::default().with_max_queue_size(MOST_SPANS).with_max_export_batch_size(MOST_SPANS / 4).build();
            let processor = BatchSpanProcessor::builder(exporter).with_batch_config(sizes).build();
            Ok(Self(SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource()).build()))
        })
    }

    /// What makes spans.
    pub fn tracer(&self) -> Tracer {
        self.0.tracer("backstop")
    }

    /// Sends what is left, but nobody waits long for it.
    pub fn end(&self) {
        let _ = self.0.shutdown_with_timeout(LAST_WORDS);
    }
}

/// What a run's process must know so that its spans stand below this one.
pub fn passed_on(span: &Span) -> Vec<(String, String)> {
    let mut fields: HashMap<String, String> = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut fields);
    fields.into_iter().map(|(name, value)| (name.to_uppercase(), value)).collect()
}

/// The span of this process, below the one that the environment names.
pub fn root(command: &str) -> Span {
    let span = tracing::info_span!("backstop", command, exit = tracing::field::Empty);
    let of = |name: &str| Some((name.to_owned(), std::env::var(name.to_uppercase()).ok()?));
    let from: HashMap<String, String> = PASSED_ON.into_iter().filter_map(of).collect();
    let parent: OtelContext = TraceContextPropagator::new().extract(&from);
    // Without a collector there is nothing to stand below.
    let _ = span.set_parent(parent);
    span
}

type Shared = Arc<Mutex<HashMap<&'static str, Metric>>>;

/// The numbers of a daemon on their way to a collector.
pub struct Numbers(Option<Sender<Sender<()>>>);

impl Numbers {
    /// To nowhere.
    pub fn none() -> Self {
        Self(None)
    }

    /// Sends for the last time; the answer comes when that is done, or nobody waits for it.
    pub fn end(&self) -> Receiver<()> {
        let (done, ended) = channel();
        if let Some(orders) = &self.0 {
            let _ = orders.send(done);
        }
        ended
    }
}

/// Sends what `/metrics` shows, again and again, if the environment names a collector.
pub fn send_metrics(board: Board) -> Result<Numbers, String> {
    if !is_wanted("METRICS") {
        return Ok(Numbers::none());
    }
    let (protocol, collector) = (protocol("METRICS")?, Collector::new("METRICS")?);
    let exporter = MetricExporter::builder().with_http().with_protocol(protocol).with_http_client(collector).build();
    let exporter = exporter.map_err(|e| e.to_string())?;
    let every = std::env::var("OTEL_METRIC_EXPORT_INTERVAL").ok().and_then(|ms| ms.parse().ok()).map_or(EVERY, Duration::from_millis);
    // Sent when what is sent was renewed, not by the reader's own clock.
    let reader = PeriodicReader::builder(exporter).with_interval(Duration::from_secs(365 * 86_400)).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource()).build();
    let meter = provider.meter("backstop");
    let shared: Shared = Arc::default();
    let mut known: Vec<&'static str> = Vec::new();
    let (orders, ordered) = channel::<Sender<()>>();
    let work = move || {
        loop {
            let last = match ordered.recv_timeout(every.max(Duration::from_millis(100))) {
                Ok(done) => Some(done),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let Ok(now) = board.read().map(|view| metrics(&view, Timestamp::now())) else { return };
            for metric in now.iter().filter(|m| !known.contains(&m.name)).cloned().collect::<Vec<_>>() {
                known.push(metric.name);
                instrument(&meter, &metric, shared.clone());
            }
            if let Ok(mut shared) = shared.lock() {
                *shared = now.into_iter().map(|m| (m.name, m)).collect();
            }
            // Told by the collector's client where it fails.
            let _ = provider.force_flush();
            if let Some(done) = last {
                let _ = done.send(());
                return;
            }
        }
    };
    std::thread::Builder::new().name("otlp".into()).spawn(work).map_err(|e| e.to_string())?;
    Ok(Numbers(Some(orders)))
}

/// Tells at each look what the metric of that name is now: what is gone is not told again.
fn instrument(meter: &Meter, metric: &Metric, shared: Shared) {
    let name = metric.name;
    let values = move || -> Vec<(f64, Vec<KeyValue>)> {
        let Ok(shared) = shared.lock() else { return Vec::new() };
        let own = shared.get(name).map(|m| m.values.clone()).unwrap_or_default();
        own.into_iter().map(|(labels, value)| (value, labels.into_iter().map(|(k, v)| KeyValue::new(k, v)).collect())).collect()
    };
    let full = format!("backstop_{name}");
    let observe = move |o: &dyn opentelemetry::metrics::AsyncInstrument<f64>| values().iter().for_each(|(v, l)| o.observe(*v, l));
    if metric.counter {
        meter.f64_observable_counter(full).with_description(metric.help).with_callback(observe).build();
    } else {
        meter.f64_observable_gauge(full).with_description(metric.help).with_callback(observe).build();
    }
}
