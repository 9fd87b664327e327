//! `backstop snapshot`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;
use serde_saphyr::Spanned;

use super::checkpoint::after_a_run;
use super::context::{Context, level, threads};
use super::exit::{CliError, Exit};
use super::output::{DOUBT, GOOD, Progress, day, grouped, human_bytes};
use super::tenant;
use crate::backup::{SnapshotJob, SnapshotReport, StateDir, snapshot};
use crate::observe::Monitor;
use crate::policy::{LoadedPolicy, SourcePolicy};
use crate::source::catalog::{Catalog, CollectionSpec, Plane};
use crate::source::graph::{GraphOptions, GraphSource};
use crate::source::{FilesOptions, FilesSource, PathGlobs, Source};
use crate::vault::Writer;
use crate::vault::attestation::Outcome;
use crate::vault::names::ShortName;

#[derive(Args)]
pub struct SnapshotArgs {
    /// The sources; all of them unless said
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
}

pub fn run(context: &Context, args: &SnapshotArgs) -> Result<Exit, CliError> {
    let (writer, policy) = context.writer()?;
    let names: Vec<&String> = if args.sources.is_empty() { policy.policy.sources.keys().collect() } else { args.sources.iter().collect() };
    if names.is_empty() {
        return Err(
            CliError::new(Exit::Usage, "the policy names no source").hint(format!("add one under `sources` in {}", policy.file.display()))
        );
    }
    for name in &names {
        known(&policy, name)?;
    }
    let mut worst = Exit::Done;
    let mut first_error = None;
    for name in names {
        let source = known(&policy, name)?;
        match one(context, &writer, &policy, name, source) {
            Ok(Outcome::Partial) => worst = Exit::Partial,
            Ok(_) => {}
            // The other sources are captured all the same.
            Err(error) if first_error.is_some() => context.output.error(&error),
            Err(error) => {
                context.output.note(format!("{name} failed; the other sources go on"));
                first_error = Some(error);
            }
        }
    }
    if let Some(error) = first_error {
        return Err(error);
    }
    after_a_run(context, &writer, &policy);
    Ok(worst)
}

fn known<'a>(policy: &'a LoadedPolicy, name: &str) -> Result<&'a SourcePolicy, CliError> {
    let missing = || {
        let names: Vec<&str> = policy.policy.sources.keys().map(String::as_str).collect();
        CliError::new(Exit::Usage, format!("the policy has no source {name:?}")).hint(super::select::there_are(&names))
    };
    policy.policy.sources.get(name).map(|s| &s.value).ok_or_else(missing)
}

fn one(context: &Context, writer: &Writer, policy: &LoadedPolicy, name: &str, source: &SourcePolicy) -> Result<Outcome, CliError> {
    let begun = Instant::now();
    let usage = |message: String| CliError::new(Exit::Usage, message);
    let short: ShortName = name.parse().map_err(|e| usage(format!("{e}")))?;
    let dir = Context::state_dir(policy);
    let state = StateDir::open(&dir, writer.ledger.trust().vault(), name)
        .map_err(|e| CliError::new(Exit::Failed, format!("cannot use the state directory {}: {e}", dir.display())))?;
    let progress = Arc::new(context.output.monitor(name));
    let kind = open(policy, name, source, &state, progress.clone())?;
    let report = snapshot(&SnapshotJob {
        name: &short,
        source: kind.source(),
        container: source.container(),
        epoch: source.epoch,
        metadata: source.metadata(),
        writer,
        policy: &policy.bytes,
        state: &state,
        level: level(policy),
        threads: threads(),
        monitor: &*progress,
    });
    progress.finish();
    let report = report?;
    if let (Opened::Tenant(tenant), Some(arm)) = (&kind, &source.arm) {
        tenant::keep_seen(context, state.path(), &arm.access(), tenant.subscriptions());
    }
    tell(context, name, &report, kind.waited_seconds(), begun.elapsed().as_secs_f64());
    Ok(report.outcome)
}

/// A source of either kind.
enum Opened {
    Files(FilesSource),
    Tenant(GraphSource),
}

impl Opened {
    fn source(&self) -> &dyn Source {
        match self {
            Self::Files(files) => files,
            Self::Tenant(tenant) => tenant,
        }
    }

    /// How long the tenant's service made it wait.
    fn waited_seconds(&self) -> f64 {
        match self {
            Self::Files(_) => 0.0,
            Self::Tenant(tenant) => tenant.service().waited_seconds(),
        }
    }
}

fn open(policy: &LoadedPolicy, name: &str, source: &SourcePolicy, state: &StateDir, monitor: Arc<Progress>) -> Result<Opened, CliError> {
    let usage = |message: String| CliError::new(Exit::Usage, message);
    if let Some(files) = &source.files {
        let globs = |list: &[Spanned<String>]| {
            let patterns: Vec<String> = list.iter().map(|p| p.value.clone()).collect();
            PathGlobs::new(&patterns).map_err(|e| usage(format!("{name}: {e}")))
        };
        return Ok(Opened::Files(FilesSource::new(FilesOptions {
            root: policy.path(&files.path.value),
            include: globs(&files.include)?,
            exclude: globs(&files.exclude)?,
        })));
    }
    let catalogs = source.graph.as_ref().map(|g| &g.catalog).or(source.arm.as_ref().map(|a| &a.catalog));
    let names = catalogs.into_iter().flat_map(|c| &c.value).map(|c| c.value.as_str());
    let catalog = Catalog::load(names).map_err(|e| usage(e.to_string()))?;
    Ok(Opened::Tenant(open_tenant(policy, name, source, catalog.collections, (state.path(), Some(state.path())), monitor)?))
}

/// A tenant, to be asked for some collections.
pub fn open_tenant(
    policy: &LoadedPolicy,
    name: &str,
    source: &SourcePolicy,
    collections: Vec<CollectionSpec>,
    (temporary, seen): (&Path, Option<&Path>),
    monitor: Arc<dyn Monitor + Send>,
) -> Result<GraphSource, CliError> {
    let (access, plane, subscriptions) = match (&source.graph, &source.arm) {
        (Some(graph), _) => (graph.access(), Plane::Graph, None),
        (None, Some(arm)) => (arm.access(), Plane::Arm, arm.subscriptions.as_ref()),
        (None, None) => return Err(CliError::new(Exit::Usage, format!("the source {name} is no tenant"))),
    };
    Ok(GraphSource::new(GraphOptions {
        name: name.to_owned(),
        collections,
        service: tenant::service(policy, &access, plane)?,
        subscriptions: tenant::subscriptions(subscriptions.map(|s| &s.value), &access, seen),
        temporary: temporary.to_owned(),
        monitor,
    }))
}

fn tell(context: &Context, name: &str, report: &SnapshotReport, waited: f64, seconds: f64) {
    let output = context.output;
    let collections: BTreeMap<_, _> = report
        .collections
        .iter()
        .map(|c| (&c.name, json!({ "outcome": c.outcome, "count": c.count, "as_of": c.as_of, "error_code": c.error_code, "absent_since": c.absent_since })))
        .collect();
    output.json(&json!({
        "run": report.run, "chain": report.chain, "sequence": report.sequence, "source": name, "kind": report.kind,
        "outcome": report.outcome, "captured": report.captured, "entries": report.entries, "changed": report.changed,
        "deleted": report.deleted, "read_bytes": report.read_bytes, "stored_bytes": report.stored_bytes,
        "objects": report.objects, "adopted_objects": report.adopted, "tree_sha256": report.tree_sha256,
        "collections": collections, "lock_until": report.lock_until, "waited_seconds": waited, "duration_seconds": seconds,
    }));
    let style = if report.outcome == Outcome::Complete { GOOD } else { DOUBT };
    let locked = report.lock_until.map_or_else(|| "not locked".to_owned(), |until| format!("locked to {}", day(until)));
    output.say(format!("{style}{name}: {} {} {}{style:#}; {} entries", report.outcome, report.kind, report.run, grouped(report.entries),));
    let objects = if report.objects == 1 { "object" } else { "objects" };
    output.say(format!(
        "  {} changed, {} deleted; {} in {} {objects}, {locked}; {seconds:.1} s",
        grouped(report.changed),
        grouped(report.deleted),
        human_bytes(report.stored_bytes),
        report.objects,
    ));
    output.note(format!("{} read", human_bytes(report.read_bytes)));
    if waited >= 1.0 {
        output.say(format!("  the service asked to wait, {waited:.0} s in all"));
    }
    if let Some(why) = report.why_base {
        output.note(format!("a base, because {why}"));
    }
    if report.adopted > 0 {
        output.note(format!("{} objects of an interrupted run were adopted", report.adopted));
    }
    // What empties overnight is more often a missing mount or permission than a decision.
    for (collection, before, now) in &report.shrunk {
        output.warn(format!(
            "{name}: {collection} has {} records where it had {}; the earlier snapshots hold the others",
            grouped(*now),
            grouped(*before)
        ));
    }
}
