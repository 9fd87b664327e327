//! What must stay and what may go: legal holds, review, and disposition by two operators.
//!
//! It promises: nothing is destroyed on a timer, before its lock has ended, while a hold covers it, or by one person
//! alone; and that it was destroyed is attested before the first byte goes. Attestations are never destroyed.

mod apply;
mod certificate;
mod hold;
mod plan;
mod standing;

use jiff::Timestamp;

use crate::store::StoreError;
use crate::vault::seal::SealError;
use crate::vault::{CommitError, LedgerError};

pub use apply::{ApplyJob, ApplyReport, apply};
pub use hold::{HOLD_BATCH, HoldJob, HoldLine, HoldReport, LiftJob, LiftReport, add_hold, list_holds, remove_hold};
pub use plan::{LeftOut, Plan, PlanFile, PlanFilter, PlanItem, PlanObject, PlanTotal, PlanVersion, Reason, make_plan};

/// Why something was neither held nor destroyed.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The scope is empty.
    #[error("nothing that the vault attests lies in that scope")]
    NothingInScope,
    /// The hold would end before it begins.
    #[error("--until {until} has passed: it is {now}")]
    UntilPassed {
        /// As given.
        until: Timestamp,
        /// The store's instant.
        now: Timestamp,
    },
    /// The extended locks would be absurdly long.
    #[error(
        "a lock until {until} could never be taken back; locks reach to {longest} at most: leave --until out, a hold lasts until it is removed"
    )]
    UntilTooFar {
        /// As given.
        until: Timestamp,
        /// The latest instant.
        longest: Timestamp,
    },
    /// The store did not hold what it was asked to.
    #[error("{count} objects are not held, {first} among them ({why}): nothing was attested")]
    NotHeld {
        /// How many.
        count: usize,
        /// One of them.
        first: String,
        /// Why.
        why: String,
    },
    /// There is no such hold.
    #[error("there is no hold {0}")]
    NoHold(String),
    /// The file is no plan.
    #[error("it is not a disposition plan: {0}")]
    NotAPlan(String),
    /// The plan is of another vault.
    #[error("the plan is of the vault {0}, not of this one")]
    OtherVault(String),
    /// The signer may not decide.
    #[error("the key {0} is not, or no longer, an operator of this vault")]
    NotAnOperator(String),
    /// The same key again.
    #[error("the key {0} approved this plan already: the second approval must be another operator's")]
    ApprovedAlready(String),
    /// An approval without a name.
    #[error("an approval needs a name and role of one line, at most 200 characters")]
    NoName,
    /// Too few valid approvals.
    #[error("the plan has {0} valid approval(s) of different operators, and needs two")]
    NotApproved(usize),
    /// The store is no longer as the plan says.
    #[error("the plan no longer holds: {}{}", first.join("; "), if *count > first.len() { format!("; and {} more", count - first.len()) } else { String::new() })]
    Obstacles {
        /// The first of them.
        first: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Storing or committing failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}
