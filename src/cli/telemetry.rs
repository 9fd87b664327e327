//! What a daemon says: for people on a terminal, as JSON lines in service.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::context::Context;
use super::exit::CliError;

/// From now on events of this program go to stderr; those of the libraries, which may tell what was sent, go nowhere.
pub fn begin(context: &Context) {
    let level = match (context.global.verbose, context.global.quiet) {
        (true, _) => LevelFilter::DEBUG,
        (_, true) => LevelFilter::WARN,
        _ => LevelFilter::INFO,
    };
    let filter = Targets::new().with_target("backstop", level);
    let terminal = std::io::stderr().is_terminal() && !context.global.json;
    // Another subscriber would be one of a test in the same process.
    let _ = match terminal {
        true => tracing_subscriber::registry().with(filter).with(fmt::layer().with_target(false).with_writer(std::io::stderr)).try_init(),
        false => {
            let json = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false).with_target(false);
            tracing_subscriber::registry().with(filter).with(json.with_writer(std::io::stderr)).try_init()
        }
    };
}

/// Why a daemon could not go on, in the form of its log; false where people read it.
pub fn failed(context: &Context, error: &CliError) -> bool {
    if std::io::stderr().is_terminal() && !context.global.json {
        return false;
    }
    begin(context);
    let help = error.hint.as_deref().unwrap_or_default();
    tracing::error!(exit = error.exit as u8, help, "{}", error.causes.join(": "));
    true
}
