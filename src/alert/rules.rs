//! What each kind of trouble means: how soon somebody must act, what it endangers, where to read on, what to type.

use crate::policy::AlertSeverity as Severity;

/// What is known of a kind of trouble.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// For machines; its section in `docs/alerts.md` is named after it.
    pub kind: &'static str,
    /// How soon somebody must act.
    pub severity: Severity,
    /// What it endangers.
    pub endangers: &'static str,
    /// What to type first; `{}` is the chain or job that it is about.
    pub command: &'static str,
}

const fn rule(kind: &'static str, severity: Severity, endangers: &'static str, command: &'static str) -> Rule {
    Rule { kind, severity, endangers, command }
}

/// Every kind.
pub const RULES: &[Rule] = &[
    rule("rpo_exceeded", Severity::Critical, "more would be lost in a disaster now than the objective allows", "backstop status"),
    rule("no_recovery_point", Severity::Critical, "nothing of it could be brought back", "backstop status"),
    rule("chain_quiet", Severity::Critical, "the agent may have stopped: each minute more would be lost in a disaster", "backstop status"),
    rule("missing_attestation", Severity::Critical, "somebody may have removed backups, or the store lost them", "backstop verify"),
    rule("damaged_attestation", Severity::Critical, "somebody may have changed backups, or the store damaged them", "backstop verify"),
    rule(
        "checkpoint_back",
        Severity::Critical,
        "an old vault may have been put back in place of the true one",
        "backstop verify --checkpoint FILE",
    ),
    rule("wrong_lock", Severity::Critical, "backups could be deleted before their time", "backstop verify"),
    rule("audit_finding", Severity::Critical, "the vault is not what it attests", "backstop verify"),
    rule("clock_wrong", Severity::Critical, "nothing is backed up until the clock is right", "timedatectl status"),
    rule("restore_test_failed", Severity::High, "backups may not restore", "backstop show {}"),
    rule("restore_test_missed", Severity::High, "nobody knows whether the newest backups restore", "backstop restore-test"),
    rule(
        "drill_not_passed",
        Severity::High,
        "a disaster could last longer, or cost more, than the objectives allow",
        "backstop drill show",
    ),
    rule("rto_out_of_reach", Severity::High, "bringing everything back would last longer than the objective", "backstop status"),
    rule("job_missed", Severity::High, "what the job protects grows older", "backstop status"),
    rule("vault_unreadable", Severity::High, "nobody knows whether backups are whole", "backstop doctor"),
    rule("checkpoint_missed", Severity::High, "an old vault that is put back would be noticed late", "backstop checkpoint"),
    rule("job_failing", Severity::Medium, "the RPO, if it goes on failing", "backstop doctor"),
    rule("void_attestation", Severity::Medium, "somebody without a valid key writes to the vault", "backstop verify"),
    rule("partial", Severity::Medium, "the collections that are named have no newer recovery point", "backstop ls --chain {}"),
    rule("failed", Severity::Medium, "the RPO, if it goes on failing", "backstop ls --chain {}"),
    rule("restore_test_partial", Severity::Medium, "what could not be restored is not proved", "backstop restore-test"),
    rule("drill_missed", Severity::Medium, "nobody knows how long a recovery lasts now", "backstop drill"),
    rule("policy_refused", Severity::Medium, "what was changed in the policy is not in force", "backstop policy check"),
    rule("policies_differ", Severity::Medium, "agents do different things by turns", "backstop policy check"),
    rule("leases_unavailable", Severity::Medium, "agents do work twice", "backstop doctor"),
    rule("channel_failing", Severity::Medium, "alerts do not reach everybody", "backstop notify test"),
    rule("availability_missed", Severity::Low, "the objective of the month is missed", "backstop status"),
    UNKNOWN,
];

/// What is known of a kind that nobody knows.
const UNKNOWN: Rule = rule("trouble", Severity::Medium, "see what it says", "backstop status");

/// The rule of a kind.
pub fn rule_of(kind: &str) -> &'static Rule {
    RULES.iter().find(|rule| rule.kind == kind).unwrap_or(&UNKNOWN)
}
