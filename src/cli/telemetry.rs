//! What a process says besides its answer: a daemon for people on a terminal, and as JSON lines in service; every command
//! to a collector, where the environment names one.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt, Targets, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

use super::context::Context;
use super::exit::CliError;
use super::otlp::Traces;

/// Ends what a process says.
pub struct Telemetry(Option<Traces>);

impl Telemetry {
    /// Sends what is left.
    pub fn end(&self) {
        if let Some(traces) = &self.0 {
            traces.end();
        }
    }
}

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

/// From now on a daemon's events go to stderr, and the spans of any command to a collector; events of the libraries,
/// which may tell what was sent, go nowhere.
pub fn begin(context: &Context, daemon: bool) -> Telemetry {
    let level = match (context.global.verbose, context.global.quiet) {
        (true, _) => LevelFilter::DEBUG,
        (_, true) => LevelFilter::WARN,
        _ => LevelFilter::INFO,
    };
    let own = |level| Targets::new().with_target("backstop", level);
    let mut layers: Vec<Boxed> = Vec::new();
    let begun = Traces::begin();
    let (traces, problem) = match begun {
        Some(Ok(traces)) => (Some(traces), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
    };
    if let Some(traces) = &traces {
        let layer = tracing_opentelemetry::layer().with_tracer(traces.tracer()).with_location(false).with_threads(false);
        let layer = layer.with_target(false).with_tracked_inactivity(false);
        // What is said may name directories and tell errors: only spans go out.
        let spans = own(LevelFilter::INFO).and(filter_fn(|metadata| metadata.is_span()));
        layers.push(layer.with_filter(spans).boxed());
    }
    if daemon {
        let terminal = std::io::stderr().is_terminal() && !context.global.json;
        layers.push(match terminal {
            true => fmt::layer().with_target(false).with_writer(std::io::stderr).with_filter(own(level)).boxed(),
            false => {
                let json = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false).with_target(false);
                json.with_writer(std::io::stderr).with_filter(own(level)).boxed()
            }
        });
    }
    if !layers.is_empty() {
        // Another subscriber would be one of a test in the same process.
        let _ = tracing_subscriber::registry().with(layers).try_init();
    }
    if let Some(why) = problem {
        match daemon {
            true => tracing::warn!("no traces are sent: {why}"),
            false => context.output.warn(format!("no traces are sent: {why}")),
        }
    }
    Telemetry(traces)
}

/// Why a daemon could not go on, in the form of its log; false where people read it.
pub fn failed(context: &Context, error: &CliError) -> bool {
    if std::io::stderr().is_terminal() && !context.global.json {
        return false;
    }
    let help = error.hint.as_deref().unwrap_or_default();
    tracing::error!(exit = error.exit as u8, help, "{}", error.causes.join(": "));
    true
}
