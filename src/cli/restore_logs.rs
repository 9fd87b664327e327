//! `backstop restore logs`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::estimate;
use super::exit::{CliError, Exit};
use super::output::{DOUBT, GOOD, grouped};
use super::restore::{RehydrateArgs, instant, lost};
use super::select;
use crate::objective::Class;
use crate::restore::{LogsJob, Thaw, WhyUncovered, known_at, restore_logs};
use crate::vault::keys::Identities;
use crate::vault::names::{ChainName, ShortName};

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

pub fn logs(context: &Context, args: &LogsArgs) -> Result<Exit, CliError> {
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
    for u in &report.uncovered {
        let why = match u.why {
            WhyUncovered::BeforeTheFirst => "the first export begins later",
            WhyUncovered::AfterTheLast => "no export has reached it yet",
            WhyUncovered::Hole => "when it was exported the service no longer had it, or what was exported is missing",
        };
        output.warn(format!("{DOUBT}not in the vault{DOUBT:#} {} to {}: {why}; what happened then is not known from here", u.from, u.to));
    }
    if report.untimed > 0 {
        output.warn(format!(
            "{} events have no time and stand in objects without any: they are given for every window",
            grouped(report.untimed)
        ));
    }
    if args.out.is_some() {
        output.json(&json!({
            "stream": args.stream, "from": from, "to": to, "events": report.events, "superseded": report.superseded,
            "objects_read": report.objects_read, "failed": report.failed, "disposed": report.disposed, "uncovered": report.uncovered, "untimed": report.untimed, "duration_seconds": seconds,
        }));
        output.say(format!(
            "{GOOD}{} events of {}{GOOD:#}, {} earlier versions and repetitions left out; {seconds:.1} s",
            grouped(report.events),
            args.stream,
            grouped(report.superseded)
        ));
    }
    let known = report.disposed.is_empty() && report.uncovered.iter().all(|u| u.why != WhyUncovered::Hole);
    Ok(match (report.failed.is_empty(), known) {
        (false, _) => Exit::Damage,
        (true, false) => Exit::Partial,
        (true, true) => Exit::Done,
    })
}
