//! Patterns over the paths of a source.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Glob patterns over encoded paths. A pattern without a slash fits a name at any depth; `**` spans
/// directories; what fits a directory fits all below it.
#[derive(Clone)]
pub struct PathGlobs {
    set: GlobSet,
    empty: bool,
    /// For each pattern, where that is noted, whether anything fitted it.
    noted: Option<Arc<[AtomicBool]>>,
}

impl PathGlobs {
    /// Compiles patterns.
    pub fn new(patterns: &[String]) -> Result<Self, globset::Error> {
        let mut builder = GlobSetBuilder::new();
        for pattern in patterns {
            let anchored = pattern.trim_start_matches("./").trim_start_matches('/').trim_end_matches('/');
            let deep = if pattern.trim_end_matches('/').contains('/') { anchored.to_owned() } else { format!("**/{anchored}") };
            builder.add(GlobBuilder::new(&deep).literal_separator(true).build()?);
            builder.add(GlobBuilder::new(&format!("{deep}/**")).literal_separator(true).build()?);
        }
        Ok(Self { set: builder.build()?, empty: patterns.is_empty(), noted: None })
    }

    /// Compiles patterns that note which of them anything fitted.
    pub fn noting(patterns: &[String]) -> Result<Self, globset::Error> {
        Ok(Self { noted: Some(patterns.iter().map(|_| AtomicBool::new(false)).collect()), ..Self::new(patterns)? })
    }

    /// For each pattern, whether anything fitted it so far.
    pub fn noted(&self) -> Vec<bool> {
        self.noted.iter().flat_map(|noted| noted.iter()).map(|fitted| fitted.load(Ordering::Relaxed)).collect()
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// Whether a path fits one.
    pub fn matches(&self, path: &str) -> bool {
        let Some(noted) = self.noted.as_ref().filter(|_| !self.empty) else { return !self.empty && self.set.is_match(path) };
        let fitting = self.set.matches(path);
        // Each pattern was compiled twice: for a name, and for what lies below it.
        fitting.iter().filter_map(|n| noted.get(n / 2)).for_each(|fitted| fitted.store(true, Ordering::Relaxed));
        !fitting.is_empty()
    }
}
