//! `backstop restore files`, and what it shares with `restore logs`.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};
use globset::escape;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::context::{Context, threads};
use super::estimate;
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, GOOD, at_second, grouped, human_bytes, shown};
use super::restore_logs::{LogsArgs, logs};
use super::select;
use crate::observe::Monitor;
use crate::policy::LoadedPolicy;
use crate::restore::{Existing, Failed, FilesJob, Pick, RestoreError, Thaw, preview, restore_files, snapshot_of};
use crate::source::PathGlobs;
use crate::source::catalog::{Catalog, path_of};
use crate::store::Priority;
use crate::vault::Ledger;
use crate::vault::attestation::{CollectionOutcome, CollectionRecord, Predicate, SnapshotDetails};
use crate::vault::keys::Identities;
use crate::vault::names::RunId;

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
    pub fn thaw<'a>(&self, ledger: &'a Ledger, monitor: &'a dyn Monitor) -> Thaw<'a> {
        let priority = self.rehydrate.map(|p| if matches!(p, Rehydrate::High) { Priority::High } else { Priority::Standard });
        Thaw { ledger, priority, wait: !self.no_wait, monitor }
    }
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
    let asked = Asked::of(args)?;
    let only = &asked.only;
    let (ledger, policy) = context.ledger()?;
    let attested = match (at, &args.run) {
        (Some(at), name) => select::snapshot_at(&ledger, name.as_deref(), at)?,
        (None, run) => select::snapshot(&ledger, run.as_deref().unwrap_or("latest"))?,
    };
    let unusable = select::unusable_after(&ledger, &attested)?;
    let predicate = attested.statement.predicate;
    let lacks = Lacks::of(&predicate);
    if let (true, Some(captured)) = (at.is_some(), lacks.captured) {
        context.output.say(format!("the run {} of {}, captured {}", predicate.run, predicate.chain, at_second(captured)));
    }
    lacks.tell(context, predicate.run);
    if let (Some(first), Some(last)) = (unusable.first(), unusable.last()) {
        let which = if first == last { format!("{first}") } else { format!("{first} to {last}") };
        context.output.warn(format!(
            "the attestation {}/{which} is missing or cannot be used: a state that is newer than {}/{} may have stood there; `backstop verify` says more",
            predicate.chain, predicate.chain, predicate.sequence
        ));
    }
    if args.estimate {
        return estimate_files(context, &ledger, policy.as_ref(), &predicate, (&asked, &lacks));
    }
    let identities = context.identities(&ledger)?;
    let Some(to) = args.to.as_ref().filter(|_| !args.dry_run) else {
        return would_restore(context, &ledger, &identities, &predicate, (&asked, &lacks));
    };
    let progress = context.output.monitor("restoring");
    args.rehydrate.thaw(&ledger, &progress).snapshot(&identities, &predicate.chain, predicate.run, only)?;
    let report = restore_files(&FilesJob {
        ledger: &ledger,
        identities: &identities,
        chain: &predicate.chain,
        run: predicate.run,
        to,
        pick: Pick::fitting(only),
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
        "run": predicate.run, "source": predicate.chain.source(), "outcome": predicate.outcome, "incomplete": lacks.json(), "not_found": asked.not_found(&lacks), "entries": report.entries, "kept": report.kept, "foreign": report.foreign, "restored_bytes": report.restored_bytes,
        "tree_sha256": report.tree_sha256, "tree_matches": report.tree_matches, "failed": report.failed,
        "objects_read": report.objects_read, "duration_seconds": seconds,
    }));
    lost(context, &report.failed);
    let found = if report.failed.is_empty() { asked.judge(context, &lacks, predicate.run, report.entries)? } else { Exit::Damage };
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
    Ok(found)
}

/// How a collection is called that was asked for.
const COLLECTION: &str = "the collection ";

/// What was asked for: paths, ids, whole collections.
struct Asked {
    only: PathGlobs,
    /// As it was said, and how many of the globs are its.
    said: Vec<(String, usize)>,
}

impl Asked {
    fn of(args: &FilesArgs) -> Result<Self, CliError> {
        let folder = |name: &String| match Catalog::all().collection(name) {
            Some(spec) => escape(spec.folder()),
            None => escape(name.trim_matches('/')),
        };
        let folders: Vec<String> = args.collection.iter().map(folder).collect();
        let mut globs = args.path.clone();
        let mut said: Vec<(String, usize)> = args.path.iter().map(|path| (path.clone(), 1)).collect();
        for id in &args.id {
            let file = escape(path_of("", id).trim_start_matches('/'));
            let inside = folders.iter().map(|folder| format!("/{folder}/**/{file}"));
            let all: Vec<String> = if folders.is_empty() { vec![file.clone()] } else { inside.collect() };
            said.push((format!("the id {id}"), all.len()));
            globs.extend(all);
        }
        if args.id.is_empty() {
            said.extend(args.collection.iter().map(|name| (format!("{COLLECTION}{name}"), 1)));
            globs.extend(folders.iter().map(|folder| format!("/{folder}")));
        }
        let only = PathGlobs::noting(&globs).map_err(|e| CliError::new(Exit::Usage, format!("--path: {e}")))?;
        Ok(Self { only, said })
    }

    /// What nothing that was looked at fits, but for collections that were empty when they were captured.
    fn not_found(&self, lacks: &Lacks) -> Vec<String> {
        let noted = self.only.noted();
        let mut begin = 0;
        let mut out = Vec::new();
        for (said, globs) in &self.said {
            let empty = said.strip_prefix(COLLECTION).is_some_and(|name| lacks.empty.iter().any(|c| c == name));
            if !empty && !noted.iter().skip(begin).take(*globs).any(|fits| *fits) {
                out.push(said.clone());
            }
            begin += globs;
        }
        out
    }

    /// An error where nothing was found at all; otherwise what is missing is told, and the rest was done.
    fn judge(&self, context: &Context, lacks: &Lacks, run: RunId, entries: u64) -> Result<Exit, CliError> {
        let missing = self.not_found(lacks);
        if missing.is_empty() {
            return Ok(Exit::Done);
        }
        let message = format!("nothing in the run {run} fits {}", missing.join(", "));
        if entries == 0 {
            return Err(CliError::new(Exit::Failed, message).hint(
                "`backstop find NAME --identity FILE` finds records by name; `backstop show RUN --identity FILE` lists all of them",
            ));
        }
        context.output.warn(message);
        Ok(Exit::Partial)
    }
}

fn estimate_files(
    context: &Context,
    ledger: &Ledger,
    policy: Option<&LoadedPolicy>,
    predicate: &Predicate,
    (asked, lacks): (&Asked, &Lacks),
) -> Result<Exit, CliError> {
    let only = &asked.only;
    let identities = Identities::load(&context.global.identity)?;
    let Ok(details) = predicate.details::<SnapshotDetails>() else {
        return Err(CliError::new(Exit::Failed, format!("the attestation of {} cannot be read", predicate.run)));
    };
    let whole = || Ok::<_, CliError>((details.entries, snapshot_of(ledger, &predicate.chain, predicate.run)?.stored_bytes));
    let thaw = Thaw { ledger, priority: None, wait: false, monitor: &crate::observe::Silent };
    let archived = thaw.snapshot(&identities, &predicate.chain, predicate.run, only);
    let mut found = Exit::Done;
    let (entries, stored_bytes) = if only.is_empty() {
        whole()?
    } else {
        let identities = context.identities(ledger)?;
        let seen = preview(ledger, &identities, (&predicate.chain, predicate.run), Pick::fitting(only), |_, _| {})?;
        match (seen.failed.is_empty(), &archived) {
            (true, _) => found = asked.judge(context, lacks, predicate.run, seen.entries)?,
            // What lies in the archive tier is not lost; how much of it was asked for cannot be known yet.
            (false, Err(RestoreError::Archived { .. })) if all_archived(ledger, &seen.failed)? => {}
            (false, _) => {
                lost(context, &seen.failed);
                found = Exit::Damage;
            }
        }
        if seen.failed.is_empty() || found == Exit::Damage { (seen.entries, seen.stored_bytes) } else { whole()? }
    };
    let class = estimate::class_of_run(&predicate.chain, &predicate.objects);
    let about = json!({ "run": predicate.run, "source": predicate.chain.source() });
    let work = estimate::Work { chain: &predicate.chain, class, entries, stored_bytes, about };
    let told = estimate::tell(context, ledger, policy, &work, archived)?;
    Ok(if found == Exit::Done { told } else { found })
}

/// What a recovery point does not have as it was when it was captured.
pub struct Lacks {
    captured: Option<Timestamp>,
    collections: Vec<CollectionRecord>,
    /// Names of collections that are whole and have no record.
    empty: Vec<String>,
}

impl Lacks {
    pub fn of(predicate: &Predicate) -> Self {
        let Ok(details) = predicate.details::<SnapshotDetails>() else {
            return Self { captured: None, collections: Vec::new(), empty: Vec::new() };
        };
        let (whole, collections): (Vec<_>, Vec<_>) =
            details.collections.into_iter().partition(|c| c.outcome == CollectionOutcome::Complete);
        let empty = whole.into_iter().filter(|c| c.count == 0).map(|c| c.name).collect();
        Self { captured: Some(details.captured), collections, empty }
    }

    pub fn tell(&self, context: &Context, run: RunId) {
        for c in &self.collections {
            let why = c.lacks().unwrap_or_default();
            context.output.warn(format!("{DOUBT}{}{DOUBT:#} is not complete in the run {run}: {why}", shown(&c.name)));
        }
    }

    fn json(&self) -> Value {
        json!(self.collections)
    }
}

fn would_restore(
    context: &Context,
    ledger: &Ledger,
    identities: &Identities,
    predicate: &Predicate,
    (asked, lacks): (&Asked, &Lacks),
) -> Result<Exit, CliError> {
    let output = context.output;
    let seen = preview(ledger, identities, (&predicate.chain, predicate.run), Pick::fitting(&asked.only), |path, size| {
        if !output.json {
            output.tell(format!("{:>10}  {}", human_bytes(size), shown(path)));
        }
    })?;
    if !seen.failed.is_empty() && all_archived(ledger, &seen.failed)? {
        // What lies in the archive tier is not lost.
        let thaw = Thaw { ledger, priority: None, wait: false, monitor: &crate::observe::Silent };
        thaw.snapshot(identities, &predicate.chain, predicate.run, &asked.only)?;
    }
    output.json(&json!({
        "run": predicate.run, "source": predicate.chain.source(), "dry_run": true, "outcome": predicate.outcome, "incomplete": lacks.json(), "not_found": asked.not_found(lacks), "entries": seen.entries,
        "restored_bytes": seen.bytes, "objects": seen.objects, "stored_bytes": seen.stored_bytes, "failed": seen.failed,
    }));
    lost(context, &seen.failed);
    let found = if seen.failed.is_empty() { asked.judge(context, lacks, predicate.run, seen.entries)? } else { Exit::Damage };
    output.say(format!(
        "{} entries, {}; to be read: {} sealed, {}; nothing was written",
        grouped(seen.entries),
        human_bytes(seen.bytes),
        grouped(seen.objects),
        human_bytes(seen.stored_bytes)
    ));
    Ok(found)
}

/// Whether nothing was in the way but the archive tier.
fn all_archived(ledger: &Ledger, failed: &[Failed]) -> Result<bool, CliError> {
    for object in failed.iter().map(|f| f.object.as_deref()) {
        let info = object.map(|object| ledger.store().head(object)).transpose()?.flatten();
        if info.is_none_or(|info| info.archive.is_none()) {
            return Ok(false);
        }
    }
    Ok(true)
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
