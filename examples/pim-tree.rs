//! Makes what a PIM estate exports, for benchmarks and long tests: a tree of JSON documents as of
//! a day, or a log of events. The same arguments always make the same bytes.
//!
//! ```text
//! pim-tree --out DIR [--documents 101000] [--seed 1] [--day 0] [--churn 0.005]
//! pim-tree --log-events N --out FILE [--documents 101000] [--seed 1]
//! ```
//!
//! Day N is day 0 and N days of change. Run with a later day into the same folder, it touches only
//! the files that differ. The last line on stdout is a summary in JSON.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::world::World;

// Not `mod rng;`: that would be `examples/rng.rs`, and so an example of its own.
#[path = "pim-tree/documents.rs"]
mod documents;
#[path = "pim-tree/events.rs"]
mod events;
// Tables: words fill the line.
#[rustfmt::skip]
#[path = "pim-tree/names.rs"]
mod names;
#[path = "pim-tree/rng.rs"]
mod rng;
#[path = "pim-tree/tree.rs"]
mod tree;
#[path = "pim-tree/world.rs"]
mod world;

const USAGE: &str = "usage: pim-tree --out DIR [--documents 101000] [--seed 1] [--day 0] [--churn 0.005]
       pim-tree --log-events N --out FILE [--documents 101000] [--seed 1]";

struct Arguments {
    out: PathBuf,
    documents: usize,
    seed: u64,
    day: u64,
    churn: f64,
    log_events: Option<u64>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        fn number<T: std::str::FromStr>(name: &str, word: &str) -> Result<T, String> {
            word.parse().map_err(|_| format!("{name}: {word} is not a number that fits"))
        }
        let mut out = None;
        let (mut documents, mut seed, mut day, mut churn, mut log_events) = (101_000, 1, 0, 0.005, None);
        while let Some(name) = words.next() {
            let word = words.next().ok_or_else(|| format!("{name}: a value is missing"))?;
            match name.as_str() {
                "--out" => out = Some(PathBuf::from(word)),
                "--documents" => documents = number(&name, &word)?,
                "--seed" => seed = number(&name, &word)?,
                "--day" => day = number(&name, &word)?,
                "--churn" => churn = number(&name, &word)?,
                "--log-events" => log_events = Some(number(&name, &word)?),
                _ => return Err(format!("{name}: no such option")),
            }
        }
        if documents < world::SMALLEST {
            return Err(format!("--documents: at least {}", world::SMALLEST));
        }
        if !(0.0..=0.5).contains(&churn) {
            return Err("--churn: between 0 and 0.5".to_owned());
        }
        let out = out.ok_or("--out: missing")?;
        Ok(Self { out, documents, seed, day, churn, log_events })
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            complain(&format!("{message}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{}: {error}", arguments.out.display()));
            ExitCode::FAILURE
        }
    }
}

/// Nothing is left to do when stderr is gone too.
fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let mut world = World::new(arguments.seed, arguments.documents);
    let summary = if let Some(count) = arguments.log_events {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&arguments.out)?);
        let bytes = events::write(&world, count, &mut out)?;
        out.flush()?;
        json!({ "events": count, "bytes": bytes })
    } else {
        for day in 1..=arguments.day {
            world.pass_day(day, arguments.churn);
        }
        let stats = tree::write(&world, &arguments.out)?;
        json!({
            "documents": stats.documents, "bytes": stats.bytes, "changed": stats.changed,
            "added": stats.added, "deleted": stats.deleted,
        })
    };
    writeln!(io::stdout(), "{summary}")
}
