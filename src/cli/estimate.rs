//! How long a restore will take, told beforehand; and what it took, kept for the next time.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, GOOD, at_second, grouped, human_bytes};
use crate::objective::{Class, Entry, Measurement, class_of, estimate, keep_measurement, measured_by_tests, measured_here, spoken};
use crate::policy::{LoadedPolicy, parse_duration};
use crate::restore::RestoreError;
use crate::vault::Ledger;
use crate::vault::names::ChainName;

/// Bringing something back from the archive tier takes up to so long.
const REHYDRATION: SignedDuration = SignedDuration::from_hours(15);

/// What would be restored.
pub struct Work<'a> {
    /// From which chain.
    pub chain: &'a ChainName,
    /// Of what kind of data.
    pub class: Class,
    /// Records or events.
    pub entries: u64,
    /// Stored bytes that would be read.
    pub stored_bytes: u64,
    /// What else machines are told of it.
    pub about: Value,
}

/// The class of a run's data.
pub fn class_of_run(chain: &ChainName, objects: &[crate::vault::attestation::ObjectRef]) -> Class {
    class_of(chain, objects.iter().find(|o| crate::vault::names::period_folder(&o.name).is_some()).map(|o| o.name.as_str()))
}

/// Says how long it would take; exit 4 where that is longer than the RTO. `archived` is what looking for archived objects said.
pub fn tell(
    context: &Context,
    ledger: &Ledger,
    policy: Option<&LoadedPolicy>,
    work: &Work<'_>,
    archived: Result<(), RestoreError>,
) -> Result<Exit, CliError> {
    let archived = match archived {
        Ok(()) => None,
        Err(RestoreError::Archived { objects, bytes, .. }) => Some((objects, bytes)),
        Err(e) => return Err(e.into()),
    };
    let tests = ledger.chain_since(&ChainName::restore_test(), u64::MAX)?;
    let tests: Vec<Entry> = tests.attested.iter().map(|a| Entry::attested(a, |_| false)).collect();
    let evidence = |chain: &ChainName| {
        let container = |p: &LoadedPolicy| p.policy.sources.get(chain.source()?.as_str()).map(|s| s.value.container());
        policy.and_then(container).is_some_and(|c| c == crate::vault::names::Container::Evidence)
    };
    let class = |chain: &ChainName| if evidence(chain) { Class::Evidence } else { class_of(chain, None) };
    let mut measured = measured_by_tests(&tests, class);
    measured.extend(policy.map(|p| measured_here(&Context::state_dir(p))).unwrap_or_default());
    let estimated = estimate(&measured, work.class, work.entries, work.stored_bytes);
    let rehydration = archived.map_or(SignedDuration::ZERO, |_| REHYDRATION);
    let total = estimated.map(|e| e.seconds + rehydration.as_secs_f64());
    let objective = policy.and_then(|p| parse_duration(&p.policy.objectives.rto.value));
    let beyond = matches!((total, objective), (Some(total), Some(objective)) if total > objective as f64);
    let output = context.output;
    let mut document = json!({
        "estimate": true, "chain": work.chain, "class": work.class, "entries": work.entries, "stored_bytes": work.stored_bytes,
        "estimated_seconds": total, "measurements": estimated.map_or(0, |e| e.measurements), "measured": estimated.map(|e| e.measured),
        "rehydration_seconds": rehydration.as_secs(), "objective_seconds": objective,
    });
    if let (Some(document), Some(about)) = (document.as_object_mut(), work.about.as_object()) {
        document.extend(about.clone());
    }
    output.json(&document);
    output.say(format!("{} records or events, at most {} sealed", grouped(work.entries), human_bytes(work.stored_bytes)));
    if let Some((objects, bytes)) = archived {
        output.say(format!(
            "{DOUBT}{objects} objects ({}) lie in the archive tier{DOUBT:#}: bringing them back takes up to 15 h with standard priority, mostly under 1 h with high",
            human_bytes(bytes)
        ));
    }
    match (estimated, total) {
        (Some(e), Some(total)) => {
            let style = if beyond { BAD } else { GOOD };
            let time = spoken(SignedDuration::try_from_secs_f64(total.ceil()).unwrap_or(SignedDuration::MAX));
            let n = e.measurements;
            output.say(format!(
                "{style}about {time}{style:#}, by {n} measured restore{}, the newest of {}",
                if n == 1 { "" } else { "s" },
                at_second(e.measured)
            ));
        }
        _ => output.say(
            "how long that takes is not known: nothing was restored yet that it could be told from; `backstop restore-test` measures it",
        ),
    }
    if beyond {
        output.warn(format!("that is longer than the RTO of {}", policy.map_or("", |p| p.policy.objectives.rto.value.as_str())));
        return Ok(Exit::ObjectiveMissed);
    }
    Ok(Exit::Done)
}

/// Keeps what a restore took where the policy's state is. A machine that only reads may have no room for it: that is no error.
pub fn keep(context: &Context, policy: Option<&LoadedPolicy>, class: Class, entries: u64, stored_bytes: u64, seconds: f64) {
    let Some(policy) = policy.filter(|_| entries > 0) else { return };
    let measurement = Measurement { at: Timestamp::now(), class, entries, stored_bytes, seconds };
    if let Err(e) = keep_measurement(&Context::state_dir(policy), &measurement) {
        context.output.note(format!("how long this took is not kept for later estimates: {e}"));
    }
}
