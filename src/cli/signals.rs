//! What a user, a supervisor or the kernel says to this process.

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{CliError, Exit};

/// What was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// SIGTERM or SIGINT: it shall end.
    End,
    /// SIGHUP: the terminal is gone; to a service: read the policy again.
    HangUp,
}

/// Signals, heard from the moment this is made: what one of them says is not lost, and none ends the process by itself.
pub struct Signals {
    runtime: Runtime,
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    pub fn hear() -> Result<Self, CliError> {
        let fail = |error: std::io::Error| CliError::new(Exit::Failed, format!("cannot wait for signals: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(fail)?;
        let (term, int, hup) = {
            let _inside = runtime.enter();
            let of = |kind: SignalKind| signal(kind).map_err(fail);
            (of(SignalKind::terminate())?, of(SignalKind::interrupt())?, of(SignalKind::hangup())?)
        };
        Ok(Self { runtime, term, int, hup })
    }

    /// Waits for the next one.
    pub fn next(&mut self) -> Heard {
        let Self { runtime, term, int, hup } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => Heard::End,
                _ = int.recv() => Heard::End,
                _ = hup.recv() => Heard::HangUp,
            }
        })
    }
}
