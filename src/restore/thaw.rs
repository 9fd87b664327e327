//! Objects in the archive tier: which of them a restore needs, how long that takes, and bringing them back.
//!
//! A restore that was stopped while it waited goes on where it was: what is on its way back is not asked for again.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use super::tree::{read_tree, snapshot_of};
use super::{LogObject, RestoreError};
use crate::observe::{Event, Monitor};
use crate::source::PathGlobs;
use crate::store::{Archive, ObjectInfo, Priority, StoreError};
use crate::vault::Ledger;
use crate::vault::keys::Identities;
use crate::vault::manifest::{Content, Placement};
use crate::vault::names::{self, ChainName, RunId, period_folder};

/// How often the store is asked whether objects are back, at first and at last.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LAST_LOOK: Duration = Duration::from_secs(60);

/// What is to be done about archived objects.
pub struct Thaw<'a> {
    /// The vault.
    pub ledger: &'a Ledger,
    /// How urgently they are brought back; without it they are only told.
    pub priority: Option<Priority>,
    /// Whether to wait until they are back.
    pub wait: bool,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

impl Thaw<'_> {
    /// Makes readable what a snapshot's entries need, or only those that fit the globs.
    pub fn snapshot(&self, identities: &Identities, chain: &ChainName, run: RunId, only: &PathGlobs) -> Result<(), RestoreError> {
        let lineage = snapshot_of(self.ledger, chain, run)?;
        // Segments are shared within an epoch only.
        let objects = lineage.steps.iter().flat_map(|s| &s.statement.predicate.objects);
        let own: BTreeSet<&str> = objects.filter_map(|o| period_folder(&o.name)).collect();
        let near = lineage.objects.values().map(|o| o.name.as_str()).filter(|name| period_folder(name).is_some_and(|f| own.contains(f)));
        let mut archived = self.archived(near)?;
        if archived.is_empty() {
            return Ok(());
        }
        if self.priority.is_none() {
            return self.bring_back(archived);
        }
        let manifests: BTreeSet<String> = lineage
            .steps
            .iter()
            .flat_map(|s| &s.statement.predicate.objects)
            .filter(|o| names::is_manifest(&o.name))
            .map(|o| o.name.clone())
            .collect();
        let first: BTreeMap<String, ObjectInfo> = manifests.iter().filter_map(|name| archived.remove_entry(name)).collect();
        self.bring_back(first)?;
        // Only now can be known which segments the wanted entries lie in.
        let mut numbers = BTreeSet::new();
        let info = read_tree(self.ledger, identities, chain, run, |entry| {
            if only.is_empty() || only.matches(&entry.path) {
                match &entry.content {
                    Content::File { placement: Placement::Whole { segment, .. }, .. } => _ = numbers.insert(*segment),
                    Content::File { placement: Placement::Chunks(chunks), .. } => numbers.extend(chunks.iter().map(|c| c.segment)),
                    _ => {}
                }
            }
            Ok(())
        })?;
        let wanted: BTreeSet<&str> = numbers.iter().filter_map(|n| info.segments.get(*n as usize)).map(|(s, _)| s.name.as_str()).collect();
        archived.retain(|name, _| wanted.contains(name.as_str()));
        self.bring_back(archived)
    }

    /// Makes readable objects of a stream.
    pub fn logs(&self, objects: &[LogObject]) -> Result<(), RestoreError> {
        let archived = self.archived(objects.iter().map(|o| o.object.name.as_str()))?;
        self.bring_back(archived)
    }

    /// Which of some objects cannot be read now: one listing a folder.
    fn archived<'n>(&self, wanted: impl Iterator<Item = &'n str>) -> Result<BTreeMap<String, ObjectInfo>, StoreError> {
        let wanted: BTreeSet<&str> = wanted.collect();
        let folders: BTreeSet<&str> = wanted.iter().filter_map(|name| period_folder(name)).collect();
        let mut found = BTreeMap::new();
        for folder in folders {
            for info in self.ledger.store().list(folder)? {
                if info.archive.is_some() && wanted.contains(info.name.as_str()) {
                    found.entry(info.name.clone()).or_insert(info);
                }
            }
        }
        Ok(found)
    }

    fn bring_back(&self, archived: BTreeMap<String, ObjectInfo>) -> Result<(), RestoreError> {
        if archived.is_empty() {
            return Ok(());
        }
        let (objects, bytes) = (archived.len() as u64, archived.values().map(|info| info.size).sum());
        let Some(priority) = self.priority else {
            let under_way = archived.values().filter(|info| info.archive == Some(Archive::Rehydrating)).count() as u64;
            return Err(RestoreError::Archived { objects, bytes, under_way });
        };
        let store = self.ledger.store();
        for info in archived.values().filter(|info| info.archive == Some(Archive::Archived)) {
            store.rehydrate(&info.name, info.version.as_deref(), priority)?;
        }
        if !self.wait {
            return Err(RestoreError::Archived { objects, bytes, under_way: objects });
        }
        let most = if priority == Priority::High { "mostly under an hour" } else { "up to 15 hours" };
        let bytes_told = format!("{:.1} MB", bytes as f64 / 1e6);
        self.monitor.event(Event::Waiting(format!(
            "{objects} objects ({bytes_told}) are on their way back from the archive tier: {most}; it may be stopped and run again"
        )));
        let mut pause = FIRST_LOOK;
        let mut told = objects;
        loop {
            let left = self.archived(archived.keys().map(String::as_str))?.len() as u64;
            if left < told {
                self.monitor.event(Event::Waiting(format!("{} of {objects} objects are back", objects - left)));
                told = left;
            }
            if left == 0 {
                return Ok(());
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LAST_LOOK);
        }
    }
}
