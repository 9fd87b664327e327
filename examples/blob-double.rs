//! The double of the Azure Blob service as a process of its own, for tests and for trying things out.
//!
//! ```text
//! blob-double [--port 0] [--latency-ms 0] [--until-stdin-closes]
//! ```
//!
//! The one line on stdout says in JSON where it is and how to sign; then it serves until it is killed. Everything else,
//! the clock, faults, damage, counters, is under its `control` address.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use serde_json::json;

#[path = "../tests/support/blob/mod.rs"]
mod blob;

const USAGE: &str = "usage: blob-double [--port 0] [--latency-ms 0] [--until-stdin-closes]";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            writeln!(io::stderr(), "{why}\n{USAGE}").ok();
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let mut options = blob::Options::default();
    let mut until_stdin_closes = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|n| n.parse::<u64>().ok()).ok_or_else(|| format!("{argument} needs a number"));
        match argument.as_str() {
            "--port" => options.port = u16::try_from(number()?).map_err(|_| "no such port".to_owned())?,
            "--latency-ms" => options.latency_ms = number()?,
            "--until-stdin-closes" => until_stdin_closes = true,
            _ => return Err(format!("{argument} is not known")),
        }
    }
    let double = blob::BlobDouble::start(options);
    let options = double.options();
    let line = json!({
        "endpoint": double.endpoint(),
        "control": double.control(),
        "sas": double.full_sas(),
        "account_key": options.account_key,
        "authority": double.origin(),
        "tenant": options.tenant,
        "identities": options.identities,
    });
    writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush()).map_err(|e| e.to_string())?;
    if until_stdin_closes {
        io::stdin().read_to_end(&mut Vec::new()).ok();
        return Ok(());
    }
    loop {
        std::thread::park();
    }
}
