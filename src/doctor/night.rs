//! What nights without people need: leases that agents share, and somebody who is told.

use super::Findings;
use crate::policy::Policy;
use crate::store::Leases;

/// The lease that is tried.
const TRIED: &str = "doctor";

/// Whether several agents can share the work, and whether anybody is told when it fails.
pub fn check_night(policy: &Policy, leases: Result<&dyn Leases, String>, out: &mut Findings) {
    if policy.jobs.is_empty() {
        return;
    }
    let failed = |out: &mut Findings, why: String| {
        out.warn(
            "leases",
            format!("a lease cannot be had: {why}; two agents on this vault would do the same work twice"),
            "in Azure, make the container `backstop-leases` (deploy/azure/setup.sh does); in a directory, let the agent write to it",
        );
    };
    match leases.and_then(|leases| leases.acquire(TRIED).map(|token| (leases, token)).map_err(|e| e.to_string())) {
        Ok((leases, token)) => {
            if let Some(token) = token {
                let _ = leases.release(TRIED, &token);
            }
            out.well("leases", "agents on this vault can share the work");
        }
        Err(why) => failed(out, why),
    }
    let n = &policy.notify;
    let named = [
        n.email.is_some(),
        n.teams.is_some(),
        n.slack.is_some(),
        n.pagerduty.is_some(),
        n.webhook.is_some(),
        n.syslog.is_some(),
        n.file.is_some(),
    ];
    match named.into_iter().filter(|named| *named).count() {
        0 => out.warn(
            "alerts",
            "the policy names no channel: nobody is told when backups fail",
            "add `notify` to the policy, then type `backstop notify test`",
        ),
        n => out.well("alerts", format!("{n} channels are named; `backstop notify test` proves them")),
    }
}
