//! The certificate of destruction, for people.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::RetentionError;
use super::apply::ApplyReport;
use super::plan::PlanFile;
use crate::store::Body;
use crate::vault::epoch::{Epoch, EpochKind};
use crate::vault::names::{self, Container, RunId};
use crate::vault::seal::{Frames, Tuning, seal};
use crate::vault::{Writer, Written};

/// So many objects that were not removed are named; the attestation names them all.
const NAMED: usize = 1000;

/// Seals and stores it.
pub fn put(writer: &Writer, file: &PlanFile, report: &ApplyReport, run: RunId, started: Timestamp) -> Result<Written, RetentionError> {
    let text = text(writer, file, report, run, started);
    let sealed = seal(text.as_bytes(), &mut Frames::new(Tuning::Level(9))?, &writer.recipients)?;
    let epoch = Epoch::containing(started, EpochKind::Month);
    let lock = writer.lock_from(Container::Evidence, epoch.end());
    let name = names::certificate(&epoch, run);
    Ok(writer.put(&name, Body::Bytes(&sealed.bytes), &sealed.sha256, sealed.bytes.len() as u64, &lock)?)
}

fn text(writer: &Writer, file: &PlanFile, report: &ApplyReport, run: RunId, started: Timestamp) -> String {
    let mut out = String::new();
    let trust = writer.ledger.trust();
    let removed = &report.removed;
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = out.write_fmt(text);
        out.push('\n');
    };
    line(format_args!("# Certificate of destruction\n"));
    line(format_args!("- vault: {}, genesis {}", trust.vault(), trust.genesis()));
    line(format_args!("- certificate: run {run}, {started}"));
    line(format_args!("- disposition: run {}, number {} of the chain `vault`", report.run, report.sequence));
    line(format_args!("- plan: SHA-256 {}, made {}", file.sha256, file.plan.created));
    line(format_args!("- carried out with the operator's key {}\n", writer.signer.key_id()));
    line(format_args!("## Approved by\n"));
    for approval in &file.approvals {
        line(format_args!("- {}, {}, key {}", approval.name, approval.at, approval.keyid));
    }
    line(format_args!("\n## Destroyed\n"));
    line(format_args!("{} objects, {} bytes, from {} to {}.\n", removed.objects, removed.bytes, removed.from, removed.to));
    line(format_args!("| chain | period | objects | bytes | last lock ended |\n| --- | --- | --- | --- | --- |"));
    for item in &file.plan.items {
        let until = item.lock_until.map_or_else(|| "had none".to_owned(), |until| until.to_string());
        line(format_args!("| {} | {} | {} | {} | {until} |", item.chain, item.period, item.objects.len(), item.bytes));
    }
    if !report.not_removed.is_empty() {
        line(format_args!("\n## Not destroyed\n"));
        for left in report.not_removed.iter().take(NAMED) {
            line(format_args!("- {}: {}", left.name, left.reason));
        }
        if report.not_removed.len() > NAMED {
            line(format_args!("- and {} more, which the attestation names", report.not_removed.len() - NAMED));
        }
    }
    line(format_args!("\nThe disposition's attestation names every object with its digest. Attestations are kept."));
    out
}
