//! The runbooks that drills practise: pages that a person can follow, which the program carries with it.

use jiff::civil::Date;

use crate::store::Sha256;

/// One runbook.
#[derive(Debug)]
pub struct Runbook {
    /// Its name, and that of its scenario.
    pub id: &'static str,
    /// The page.
    pub text: &'static str,
    /// What happens to the stand-in.
    pub disasters: &'static [&'static str],
}

/// All of them.
pub const RUNBOOKS: [Runbook; 1] = [Runbook {
    id: "tenant-configuration-loss",
    text: include_str!("../../dr-runbooks/tenant-configuration-loss.md"),
    disasters: &["conditional-access-removed", "eligibilities-wiped", "pim-policies-weakened", "users-deleted", "rogue-global-admin"],
}];

impl Runbook {
    /// The runbook of a scenario.
    pub fn of(scenario: &str) -> Option<&'static Self> {
        RUNBOOKS.iter().find(|r| r.id == scenario)
    }

    /// The page's digest.
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(self.text.as_bytes())
    }

    /// A field of the page's head.
    pub fn head(&self, field: &str) -> Option<&'static str> {
        let head = self.text.strip_prefix("---\n")?.split("\n---\n").next()?;
        head.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": "))
    }

    /// By when somebody must have read it again.
    pub fn review_by(&self) -> Option<Date> {
        self.head("review_by")?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::DISASTERS;

    #[test]
    fn every_runbook_is_what_it_says() {
        for runbook in &RUNBOOKS {
            assert_eq!((runbook.head("id"), runbook.head("scenario")), (Some(runbook.id), Some(runbook.id)));
            assert!(runbook.review_by().is_some() && runbook.head("title").is_some() && runbook.head("owner").is_some());
            assert!(runbook.disasters.iter().all(|d| DISASTERS.contains(d)));
            assert_eq!(Runbook::of(runbook.id).unwrap().id, runbook.id);
        }
        assert!(Runbook::of("nothing").is_none());
    }
}
