//! `backstop restore files` and `restore logs`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};
use globset::escape;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::json;

use super::context::{Context, threads};
use super::estimate;
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, GOOD, at_second, grouped, human_bytes, shown};
use super::select;
use crate::objective::Class;
use crate::observe::Monitor;
use crate::policy::LoadedPolicy;
use crate::restore::{Existing, Failed, FilesJob, LogsJob, Pick, Thaw, known_at, preview, restore_files, restore_logs, snapshot_of};
use crate::source::PathGlobs;
use crate::source::catalog::{Catalog, path_of};
use crate::store::Priority;
use crate::vault::Ledger;
use crate::vault::attestation::{CollectionOutcome, Predicate, SnapshotDetails};
use crate::vault::keys::Identities;
use crate::vault::names::{ChainName, RunId, ShortName};

/// So many lost records are named for people; all of them for machines.
const SHOWN: usize = 50;

#[derive(Subcommand)]
pub enum RestoreCommand {
    /// Records and evidence into a directory
    Files(FilesArgs),
    /// Events of a window as NDJSON, in time order, each id once
    Logs(LogsArgs),
}

#[derive(Args)]
pub struct FilesArgs {
    #[arg(help = select::RUN_HELP, required_unless_present = "at")]
    run: Option<String>,
    /// The newest recovery point at or before this instant; before it stands a source's name, where there are several
    #[arg(long, value_name = "T")]
    at: Option<String>,
    /// A new or empty directory
    #[arg(long, value_name = "DIR", required_unless_present_any = ["dry_run", "estimate"])]
    to: Option<PathBuf>,
    /// Only what fits this glob (a name at any depth, or a path); repeatable
    #[arg(long, value_name = "GLOB")]
    path: Vec<String>,
    /// Only records of this collection, such as `entra.users`, or below this folder; repeatable
    #[arg(long, value_name = "NAME")]
    collection: Vec<String>,
    /// Only the records with this id, of the collections named; repeatable
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// Only say what would be restored
    #[arg(long)]
    dry_run: bool,
    /// Only say how long it would take, from what restores and tests took
    #[arg(long, conflicts_with = "dry_run")]
    estimate: bool,
    /// Replace what is in the directory
    #[arg(long)]
    overwrite: bool,
    /// Go on with a restore that was broken off: what is right already is left, everything else written again
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Make symbolic links that lead out of the directory
    #[arg(long)]
    outside_links: bool,
    #[command(flatten)]
    rehydrate: RehydrateArgs,
}

/// What is to be done about objects in the archive tier.
#[derive(Args)]
pub struct RehydrateArgs {
    /// Bring back what lies in the archive tier first: `standard` takes up to 15 hours, `high` mostly under one
    #[arg(long, value_enum, value_name = "PRIORITY")]
    rehydrate: Option<Rehydrate>,
    /// Only start bringing it back
    #[arg(long, requires = "rehydrate")]
    no_wait: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Rehydrate {
    /// Up to 15 hours
    Standard,
    /// Mostly under an hour; dearer
    High,
}

impl RehydrateArgs {
    fn thaw<'a>(&self, ledger: &'a Ledger, monitor: &'a dyn Monitor) -> Thaw<'a> {
        let priority = self.rehydrate.map(|p| if matches!(p, Rehydrate::High) { Priority::High } else { Priority::Standard });
        Thaw { ledger, priority, wait: !self.no_wait, monitor }
    }
}

#[derive(Args)]
pub struct LogsArgs {
    /// The stream
    stream: String,
    /// First instant (RFC 3339, or a date in UTC)
    #[arg(long, value_name = "T")]
    from: String,
    /// First instant after the window
    #[arg(long, value_name = "T")]
    to: String,
    /// Where to; stdout unless said
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Every version of each event, not only the newest
    #[arg(long)]
    all_versions: bool,
    /// Only say how long it would take, from what restores and tests took
    #[arg(long)]
    estimate: bool,
    /// Only what was known at this run, of the stream or of any other chain
    #[arg(long, value_name = "RUN")]
    as_of: Option<String>,
    #[command(flatten)]
    rehydrate: RehydrateArgs,
}

pub fn run(context: &Context, command: &RestoreCommand) -> Result<Exit, CliError> {
    match command {
        RestoreCommand::Files(args) => files(context, args),
        RestoreCommand::Logs(args) => logs(context, args),
    }
}

fn files(context: &Context, args: &FilesArgs) -> Result<Exit, CliError> {
    let begun = Instant::now();
    let at = args.at.as_ref().map(|text| instant("at", text)).transpose()?;
    let asked = asked_for(args);
    let only = PathGlobs::new(&asked).map_err(|e| CliError::new(Exit::Usage, format!("--path: {e}")))?;
    let (ledger, policy) = context.ledger()?;
    let attested = match (at, &args.run) {
        (Some(at), name) => select::snapshot_at(&ledger, name.as_deref(), at)?,
        (None, run) => select::snapshot(&ledger, run.as_deref().unwrap_or("latest"))?,
    };
    let unusable = select::unusable_after(&ledger, &attested)?;
    let predicate = attested.statement.predicate;
    if at.is_some() {
        chosen(context, &predicate);
    }
    if let (Some(first), Some(last)) = (unusable.first(), unusable.last()) {
        let which = if first == last { format!("{first}") } else { format!("{first} to {last}") };
        context.output.warn(format!(
            "the attestation {}/{which} is missing or cannot be used: a state that is newer than {}/{} may have stood there; `backstop verify` says more",
            predicate.chain, predicate.chain, predicate.sequence
        ));
    }
    if args.estimate {
        return estimate_files(context, &ledger, policy.as_ref(), &predicate, &only);
    }
    let identities = context.identities(&ledger)?;
    let Some(to) = args.to.as_ref().filter(|_| !args.dry_run) else {
        return would_restore(context, &ledger, &identities, &predicate, &only, &asked);
    };
    let progress = context.output.monitor("restoring");
    args.rehydrate.thaw(&ledger, &progress).snapshot(&identities, &predicate.chain, predicate.run, &only)?;
    let report = restore_files(&FilesJob {
        ledger: &ledger,
        identities: &identities,
        chain: &predicate.chain,
        run: predicate.run,
        to,
        pick: Pick::fitting(&only),
        existing: match (args.overwrite, args.resume) {
            (true, _) => Existing::Replace,
            (_, true) => Existing::Resume,
            _ => Existing::Refuse,
        },
        outside_links: args.outside_links,
        threads: threads(),
        monitor: &progress,
    });
    progress.finish();
    let report = report?;
    let seconds = begun.elapsed().as_secs_f64();
    let output = context.output;
    // What was there already took no time.
    if report.kept == 0 && report.failed.is_empty() {
        let class = estimate::class_of_run(&predicate.chain, &predicate.objects);
        estimate::keep(context, policy.as_ref(), class, report.entries, report.read_bytes, seconds);
    }
    output.json(&json!({
        "run": predicate.run, "source": predicate.chain.source(), "entries": report.entries, "kept": report.kept, "foreign": report.foreign, "restored_bytes": report.restored_bytes,
        "tree_sha256": report.tree_sha256, "tree_matches": report.tree_matches, "failed": report.failed,
        "objects_read": report.objects_read, "duration_seconds": seconds,
    }));
    lost(context, &report.failed);
    if report.entries == 0 && report.failed.is_empty() && !only.is_empty() {
        return Err(nothing_fits(predicate.run, &asked));
    }
    let style = if report.failed.is_empty() { GOOD } else { DOUBT };
    let proof = match report.tree_matches {
        Some(true) => "; every byte and the whole tree proved",
        _ if report.failed.is_empty() => "; every byte proved",
        _ => "",
    };
    if report.foreign > 0 {
        output.warn(format!(
            "{} more files lie in {}, which are not of this run: the directory is not the state of the run",
            grouped(report.foreign),
            to.display()
        ));
    }
    if report.kept > 0 {
        output.say(format!("{} of them were there already, and are proved", grouped(report.kept)));
    }
    output.say(format!(
        "{style}restored {} entries, {} into {}{style:#}{proof}; {seconds:.1} s",
        grouped(report.entries),
        human_bytes(report.restored_bytes),
        to.display()
    ));
    Ok(if report.failed.is_empty() { Exit::Done } else { Exit::Damage })
}

/// What was asked for, as globs: records of collections, by id or all of them, besides whatever fits a path.
fn asked_for(args: &FilesArgs) -> Vec<String> {
    let folder = |name: &String| match Catalog::all().collection(name) {
        Some(spec) => escape(spec.folder()),
        None => escape(name.trim_matches('/')),
    };
    let folders: Vec<String> = args.collection.iter().map(folder).collect();
    let files: Vec<String> = args.id.iter().map(|id| escape(path_of("", id).trim_start_matches('/'))).collect();
    let inside = |folder: &String| match files.is_empty() {
        true => vec![format!("/{folder}")],
        false => files.iter().map(|file| format!("/{folder}/**/{file}")).collect(),
    };
    let records = if folders.is_empty() { files.clone() } else { folders.iter().flat_map(inside).collect() };
    args.path.iter().cloned().chain(records).collect()
}

fn estimate_files(
    context: &Context,
    ledger: &Ledger,
    policy: Option<&LoadedPolicy>,
    predicate: &Predicate,
    only: &PathGlobs,
) -> Result<Exit, CliError> {
    let identities = Identities::load(&context.global.identity)?;
    let Ok(details) = predicate.details::<SnapshotDetails>() else {
        return Err(CliError::new(Exit::Failed, format!("the attestation of {} cannot be read", predicate.run)));
    };
    let (entries, stored_bytes) = if only.is_empty() {
        (details.entries, snapshot_of(ledger, &predicate.chain, predicate.run)?.stored_bytes)
    } else {
        let identities = context.identities(ledger)?;
        let seen = preview(ledger, &identities, (&predicate.chain, predicate.run), Pick::fitting(only), |_, _| {})?;
        (seen.entries, seen.stored_bytes)
    };
    let class = estimate::class_of_run(&predicate.chain, &predicate.objects);
    let about = json!({ "run": predicate.run, "source": predicate.chain.source() });
    let work = estimate::Work { chain: &predicate.chain, class, entries, stored_bytes, about };
    let thaw = Thaw { ledger, priority: None, wait: false, monitor: &crate::observe::Silent };
    let archived = thaw.snapshot(&identities, &predicate.chain, predicate.run, only);
    estimate::tell(context, ledger, policy, &work, archived)
}

fn nothing_fits(run: RunId, asked: &[String]) -> CliError {
    CliError::new(Exit::Failed, format!("nothing in the run {run} fits {}", asked.join(", ")))
        .hint("`backstop find NAME --identity FILE` finds records by name; `backstop show RUN --identity FILE` lists all of them")
}

/// Says which recovery point an instant led to, and what it lacks.
fn chosen(context: &Context, predicate: &Predicate) {
    let Ok(details) = predicate.details::<SnapshotDetails>() else { return };
    context.output.say(format!("the run {} of {}, captured {}", predicate.run, predicate.chain, at_second(details.captured)));
    for c in details.collections.iter().filter(|c| c.outcome != CollectionOutcome::Complete) {
        context.output.warn(format!("{DOUBT}{}{DOUBT:#} is not complete in it ({:?})", shown(&c.name), c.outcome));
    }
}

fn would_restore(
    context: &Context,
    ledger: &Ledger,
    identities: &Identities,
    predicate: &Predicate,
    only: &PathGlobs,
    asked: &[String],
) -> Result<Exit, CliError> {
    let output = context.output;
    let seen = preview(ledger, identities, (&predicate.chain, predicate.run), Pick::fitting(only), |path, size| {
        if !output.json {
            output.tell(format!("{:>10}  {}", human_bytes(size), shown(path)));
        }
    })?;
    output.json(&json!({
        "run": predicate.run, "source": predicate.chain.source(), "dry_run": true, "entries": seen.entries,
        "restored_bytes": seen.bytes, "objects": seen.objects, "stored_bytes": seen.stored_bytes, "failed": seen.failed,
    }));
    lost(context, &seen.failed);
    if seen.entries == 0 && seen.failed.is_empty() && !only.is_empty() {
        return Err(nothing_fits(predicate.run, asked));
    }
    output.say(format!(
        "{} entries, {}; to be read: {} sealed, {}; nothing was written",
        grouped(seen.entries),
        human_bytes(seen.bytes),
        grouped(seen.objects),
        human_bytes(seen.stored_bytes)
    ));
    Ok(if seen.failed.is_empty() { Exit::Done } else { Exit::Damage })
}

pub fn lost(context: &Context, failed: &[Failed]) {
    for f in failed.iter().take(SHOWN) {
        let what = f.path.as_deref().map(shown).unwrap_or_default();
        let object = f.object.as_deref().map(|o| format!(" [{}]", shown(o))).unwrap_or_default();
        context.output.warn(format!("{BAD}lost{BAD:#} {what}{object}: {}", f.message));
    }
    if failed.len() > SHOWN {
        context.output.warn(format!("and {} more; --json names them all", failed.len() - SHOWN));
    }
}

pub fn instant(name: &str, text: &str) -> Result<Timestamp, CliError> {
    let day = || text.parse::<Date>().ok().and_then(|d| d.to_zoned(TimeZone::UTC).ok()).map(|z| z.timestamp());
    let bad = || CliError::new(Exit::Usage, format!("--{name} {text:?} is not an instant: write 2026-11-23T08:00:00Z or 2026-11-23"));
    text.parse().ok().or_else(day).ok_or_else(bad)
}

fn logs(context: &Context, args: &LogsArgs) -> Result<Exit, CliError> {
    let begun = Instant::now();
    let (from, to) = (instant("from", &args.from)?, instant("to", &args.to)?);
    if from >= to {
        return Err(CliError::new(Exit::Usage, "--from must lie before --to"));
    }
    let (ledger, policy) = context.ledger()?;
    let stream: ShortName = args.stream.parse().map_err(|e| CliError::new(Exit::Usage, format!("{e}")))?;
    let chain = ChainName::export(&stream);
    let chains = ledger.chains()?;
    if !chains.contains(&chain) {
        let names: Vec<String> = chains.iter().filter_map(ChainName::stream).map(|s| s.to_string()).collect();
        return Err(CliError::new(Exit::Usage, format!("the vault has no stream {stream}")).hint(super::select::there_are(&names)));
    }
    let as_of = args.as_of.as_ref().map(|text| select::find(&ledger, text, None)).transpose()?;
    let as_of = as_of.map(|run| known_at(&ledger, &chain, &run)).transpose()?;
    let identities = if args.estimate { Identities::load(&context.global.identity)? } else { context.identities(&ledger)? };
    let temporary = std::env::temp_dir();
    let progress = context.output.monitor("reading");
    let job = LogsJob {
        ledger: &ledger,
        identities: &identities,
        chain: &chain,
        from,
        to,
        as_of,
        all_versions: args.all_versions,
        temporary: &temporary,
        monitor: &progress,
    };
    let objects = job.objects()?;
    let stored_bytes = objects.iter().map(|o| o.object.size).sum();
    if args.estimate {
        let entries = objects.iter().map(|o| o.span.count).sum();
        let about = json!({ "stream": args.stream, "from": from, "to": to });
        let work = estimate::Work { chain: &chain, class: Class::Logs, entries, stored_bytes, about };
        let archived = Thaw { ledger: &ledger, priority: None, wait: false, monitor: &progress }.logs(&objects);
        return estimate::tell(context, &ledger, policy.as_ref(), &work, archived);
    }
    args.rehydrate.thaw(&ledger, &progress).logs(&objects)?;
    let report = match &args.out {
        Some(path) => {
            let failed = |e: std::io::Error| CliError::new(Exit::Failed, format!("cannot write {}: {e}", path.display()));
            // A file by that name appears whole or not at all.
            let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
            let file = tempfile::Builder::new().prefix(".backstop-").tempfile_in(dir).map_err(failed)?;
            let mut out = BufWriter::with_capacity(1 << 18, file);
            let report = restore_logs(&job, &mut out)?;
            let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
            file.as_file().sync_all().map_err(failed)?;
            use std::os::unix::fs::PermissionsExt;
            let umask = 0o644;
            file.as_file().set_permissions(std::fs::Permissions::from_mode(umask)).map_err(failed)?;
            file.persist(path).map_err(|e| failed(e.error))?;
            report
        }
        None => {
            let mut out = BufWriter::with_capacity(
                1 << 18,
                File::from(
                    std::os::fd::AsFd::as_fd(&std::io::stdout())
                        .try_clone_to_owned()
                        .map_err(|e| CliError::new(Exit::Failed, e.to_string()))?,
                ),
            );
            let report = restore_logs(&job, &mut out)?;
            out.flush().map_err(|e| CliError::new(Exit::Failed, format!("cannot write: {e}")))?;
            report
        }
    };
    progress.finish();
    let seconds = begun.elapsed().as_secs_f64();
    if report.failed.is_empty() && report.disposed.is_empty() {
        estimate::keep(context, policy.as_ref(), Class::Logs, report.events, stored_bytes, seconds);
    }
    lost(context, &report.failed);
    let output = context.output;
    for d in &report.disposed {
        output.warn(format!(
            "{DOUBT}destroyed{DOUBT:#} {} objects of up to {} events: the disposition {} of {}, after their retention",
            d.objects,
            grouped(d.events),
            d.run,
            d.at
        ));
    }
    if args.out.is_some() {
        output.json(&json!({
            "stream": args.stream, "from": from, "to": to, "events": report.events, "superseded": report.superseded,
            "objects_read": report.objects_read, "failed": report.failed, "disposed": report.disposed, "duration_seconds": seconds,
        }));
        output.say(format!(
            "{GOOD}{} events of {}{GOOD:#}, {} earlier versions and repetitions left out; {seconds:.1} s",
            grouped(report.events),
            args.stream,
            grouped(report.superseded)
        ));
    }
    Ok(match (report.failed.is_empty(), report.disposed.is_empty()) {
        (false, _) => Exit::Damage,
        (true, false) => Exit::Partial,
        (true, true) => Exit::Done,
    })
}
