//! `backstop restore files` and `restore logs`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::json;

use super::context::{Context, threads};
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, GOOD, grouped, human_bytes, shown};
use super::select;
use crate::observe::Monitor;
use crate::restore::{Failed, FilesJob, LogsJob, Thaw, known_at, restore_files, restore_logs};
use crate::source::PathGlobs;
use crate::store::Priority;
use crate::vault::Ledger;
use crate::vault::names::{ChainName, ShortName};

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
    #[arg(help = select::RUN_HELP)]
    run: String,
    /// A new or empty directory
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Only what fits this glob (a name at any depth, or a path); repeatable
    #[arg(long, value_name = "GLOB")]
    path: Vec<String>,
    /// Replace what is in the directory
    #[arg(long)]
    overwrite: bool,
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
    let (ledger, _) = context.ledger()?;
    let predicate = select::snapshot(&ledger, &args.run)?.statement.predicate;
    let identities = context.identities(&ledger)?;
    let only = PathGlobs::new(&args.path).map_err(|e| CliError::new(Exit::Usage, format!("--path: {e}")))?;
    let progress = context.output.monitor("restoring");
    args.rehydrate.thaw(&ledger, &progress).snapshot(&identities, &predicate.chain, predicate.run, &only)?;
    let report = restore_files(&FilesJob {
        ledger: &ledger,
        identities: &identities,
        chain: &predicate.chain,
        run: predicate.run,
        to: &args.to,
        only: &only,
        overwrite: args.overwrite,
        outside_links: args.outside_links,
        threads: threads(),
        monitor: &progress,
    });
    progress.finish();
    let report = report?;
    let seconds = begun.elapsed().as_secs_f64();
    let output = context.output;
    output.json(&json!({
        "run": predicate.run, "source": predicate.chain.source(), "entries": report.entries, "restored_bytes": report.restored_bytes,
        "tree_sha256": report.tree_sha256, "tree_matches": report.tree_matches, "failed": report.failed,
        "objects_read": report.objects_read, "duration_seconds": seconds,
    }));
    lost(context, &report.failed);
    if report.entries == 0 && report.failed.is_empty() && !only.is_empty() {
        return Err(CliError::new(Exit::Failed, format!("nothing in the run {} fits {}", predicate.run, args.path.join(", ")))
            .hint("`backstop show RUN --identity FILE` lists what is in it"));
    }
    let style = if report.failed.is_empty() { GOOD } else { DOUBT };
    let proof = match report.tree_matches {
        Some(true) => "; every byte and the whole tree proved",
        _ if report.failed.is_empty() => "; every byte proved",
        _ => "",
    };
    output.say(format!(
        "{style}restored {} entries, {} into {}{style:#}{proof}; {seconds:.1} s",
        grouped(report.entries),
        human_bytes(report.restored_bytes),
        args.to.display()
    ));
    Ok(if report.failed.is_empty() { Exit::Done } else { Exit::Damage })
}

fn lost(context: &Context, failed: &[Failed]) {
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
    let (ledger, _) = context.ledger()?;
    let stream: ShortName = args.stream.parse().map_err(|e| CliError::new(Exit::Usage, format!("{e}")))?;
    let chain = ChainName::export(&stream);
    let chains = ledger.chains()?;
    if !chains.contains(&chain) {
        let names: Vec<String> = chains.iter().filter_map(ChainName::stream).map(|s| s.to_string()).collect();
        return Err(CliError::new(Exit::Usage, format!("the vault has no stream {stream}")).hint(super::select::there_are(&names)));
    }
    let as_of = args.as_of.as_ref().map(|text| select::find(&ledger, text, None)).transpose()?;
    let as_of = as_of.map(|run| known_at(&ledger, &chain, &run)).transpose()?;
    let identities = context.identities(&ledger)?;
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
    args.rehydrate.thaw(&ledger, &progress).logs(&job.objects()?)?;
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
