//! `backstop diff`: for machines a line a record, for people in groups, for the morning after as a page.

mod layout;
mod page;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, FAINT, GOOD, at_second, grouped, shown, width};
use super::select;
use crate::restore::{DiffReport, diff, diff_raw};
use crate::vault::attestation::{CollectionOutcome, Predicate};

#[derive(Args)]
pub struct DiffArgs {
    #[arg(help = select::RUN_HELP)]
    a: String,
    /// The later one
    b: String,
    /// Only the paths, without attributes
    #[arg(long)]
    names_only: bool,
    /// Every difference as it stands: no names, no sets, nothing left out
    #[arg(long)]
    raw: bool,
    /// Write a page, too; it needs nothing else, and whoever opens it needs no key
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub fn run(context: &Context, args: &DiffArgs) -> Result<Exit, CliError> {
    // Before the work, which may be long.
    if let Some(file) = args.html.as_deref().filter(|file| file.symlink_metadata().is_ok()) {
        return Err(in_the_way(file));
    }
    if let Some(dir) = args.html.as_deref().map(directory).filter(|dir| !dir.is_dir()) {
        return Err(CliError::new(Exit::Usage, format!("there is no directory {} to write a page into", dir.display())));
    }
    let (ledger, _) = context.ledger()?;
    let a = select::snapshot(&ledger, &args.a)?.statement.predicate;
    let b = select::snapshot(&ledger, &args.b)?.statement.predicate;
    let identities = context.identities(&ledger)?;
    let compare = if args.raw { diff_raw } else { diff };
    let report = compare(&ledger, &identities, (&a.chain, a.run), (&b.chain, b.run))?;
    let output = context.output;
    report.changes.iter().for_each(|change| output.json(change));
    let lines = if args.names_only { text::names(&report.changes) } else { text::lines(&report.changes, width()) };
    lines.iter().for_each(|line| output.tell(line));
    if !args.names_only && report.changes.iter().any(|change| change.collection.is_some()) {
        output.say("");
    }
    for failed in &report.failed {
        let what = failed.path.as_deref().or(failed.object.as_deref()).unwrap_or_default();
        output.warn(format!("{}: {}", shown(what), failed.message));
    }
    for line in lacking(&report) {
        output.warn(line);
    }
    let [added, removed, changed] = layout::counts(&report.changes);
    output.say(format!("{GOOD}{added} added{GOOD:#}, {BAD}{removed} removed{BAD:#}, {DOUBT}{changed} changed{DOUBT:#}"));
    if report.left_out > 0 {
        output.say(format!("{FAINT}{}{FAINT:#}", left_out(report.left_out)));
        if output.json {
            output.note(left_out(report.left_out));
        }
    }
    output.say(format!("{FAINT}{} → {}{FAINT:#}", a.run, b.run));
    output.note(format!("{} sealed objects were opened", report.objects_read));
    if let Some(file) = &args.html {
        write_page(file, &page::page(&report, &snapshot(&a), &snapshot(&b)))?;
        output.say(format!("wrote {}", file.display()));
    }
    Ok(if report.failed.is_empty() { Exit::Done } else { Exit::Damage })
}

/// What of the two snapshots is not as the collections were then.
fn lacking(report: &DiffReport) -> impl Iterator<Item = String> {
    report.lacking.iter().filter_map(|(run, collection)| {
        let effect = match collection.outcome {
            CollectionOutcome::Partial => "what seems to have come or gone may only not have been captured",
            _ if collection.is_absent() => "its records are neither added nor removed, and not compared",
            _ => "what changed in it since is not shown",
        };
        Some(format!("in {run} {} is not complete: {}; {effect}", shown(&collection.name), collection.lacks()?))
    })
}

/// What is said of records that changed in nothing that counts.
fn left_out(records: u64) -> String {
    format!("{} changed only in fields that change by themselves; --raw shows them", grouped(records))
}

fn snapshot(predicate: &Predicate) -> page::Snapshot {
    let source = predicate.chain.source().map_or_else(|| predicate.chain.to_string(), |source| source.to_string());
    page::Snapshot { run: predicate.run.to_string(), at: at_second(predicate.started), source }
}

fn in_the_way(file: &Path) -> CliError {
    CliError::new(Exit::Usage, format!("there is a {} already", file.display()))
        .hint("`diff --html` overwrites nothing; choose another name, or move it away")
}

/// Where a file goes.
fn directory(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a page whole or not at all, for its writer's eyes only: it holds what the vault seals.
fn write_page(file: &Path, page: &str) -> Result<(), CliError> {
    let failed = |e: std::io::Error| CliError::new(Exit::Failed, format!("cannot write {}: {e}", file.display()));
    let mut temporary = tempfile::NamedTempFile::new_in(directory(file)).map_err(failed)?;
    temporary.write_all(page.as_bytes()).and_then(|()| temporary.as_file().sync_all()).map_err(failed)?;
    match temporary.persist_noclobber(file) {
        Ok(_) => Ok(()),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Err(in_the_way(file)),
        Err(e) => Err(failed(e.error)),
    }
}
