//! What is known of a recovery point from its manifests alone: how it is cut into parts, what its collections hold, which
//! members of which segments it needs.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;

use super::documents::Known;
use super::spool::Spool;
use crate::restore::TreeInfo;
use crate::store::Sha256;
use crate::vault::attestation::{CollectionOutcome, SnapshotDetails};
use crate::vault::manifest::{Content, Entry, Placement};

/// What a file takes on disk besides its bytes, in bytes.
const PER_FILE: u64 = 4096;

/// A member of a segment with a digest, as a hash.
type Member = u64;

/// See above.
pub struct Plan {
    /// What documents are judged by.
    pub known: Known,
    budget: u64,
    /// Each part's first path, and how many entries it has.
    begins: Vec<(String, usize)>,
    part_bytes: u64,
    count: u64,
    /// Prefix, collection, records.
    collections: Vec<(String, String, u64)>,
    /// What the entries need, first by the segment's number.
    members: Vec<(u32, Member)>,
    proved: Vec<Member>,
    opened: HashMap<Sha256, u64>,
    hasher: RandomState,
    /// The entries.
    pub entries: Spool,
    /// What only earlier states of the same manifests have.
    pub superseded: Spool,
    /// What was learned besides; its segments are numbered as in both.
    pub info: Option<TreeInfo>,
}

impl Plan {
    /// Of a snapshot whose collections have these prefixes; entries follow. A part has at most `budget` bytes, or one file.
    pub fn new(budget: u64, prefixes: HashMap<String, String>, details: &SnapshotDetails, scratch: &Path) -> io::Result<Self> {
        let complete = details.collections.iter().filter(|c| c.outcome == CollectionOutcome::Complete).map(|c| c.name.clone());
        let tenant = prefixes.values().any(|p| !p.is_empty());
        let mut collections: Vec<_> = prefixes.into_iter().map(|(name, prefix)| (prefix, name, 0)).collect();
        collections.sort();
        let known = Known::new(complete.collect(), tenant);
        Ok(Self { known, budget, collections, ..Self::nothing(scratch)? })
    }

    /// Where nothing is restored.
    pub fn nothing(scratch: &Path) -> io::Result<Self> {
        Ok(Self {
            known: Known::new(HashSet::new(), false),
            budget: 0,
            begins: Vec::new(),
            part_bytes: 0,
            count: 0,
            collections: Vec::new(),
            members: Vec::new(),
            proved: Vec::new(),
            opened: HashMap::new(),
            hasher: RandomState::new(),
            entries: Spool::new(scratch)?,
            superseded: Spool::new(scratch)?,
            info: None,
        })
    }

    /// One more entry, in the order of paths.
    pub fn add(&mut self, entry: &Entry) -> io::Result<()> {
        self.entries.add(entry)?;
        self.known.add(&entry.path);
        self.count += 1;
        // Folders of collections do not lie in one another.
        let at = self.collections.partition_point(|(prefix, ..)| prefix.as_str() <= entry.path.as_str());
        if let Some((_, _, count)) = self.collections[..at].last_mut().filter(|(prefix, ..)| entry.path.starts_with(prefix.as_str())) {
            *count += 1;
        }
        let mut size = 0;
        if let Content::File { sha256, size: bytes, placement } = &entry.content {
            size = *bytes;
            match placement {
                Placement::Whole { segment, member } => {
                    self.members.push((*segment, self.member(member.as_deref().unwrap_or(&entry.path), sha256)));
                }
                Placement::Chunks(chunks) => {
                    let chunks: Vec<(u32, Member)> = chunks.iter().map(|c| (c.segment, self.member(&c.member, &c.sha256))).collect();
                    self.members.extend(chunks);
                }
            }
        }
        let size = size.next_multiple_of(PER_FILE) + PER_FILE;
        if self.begins.is_empty() || self.part_bytes + size > self.budget {
            self.begins.push((entry.path.clone(), 0));
            self.part_bytes = 0;
        }
        self.begins.last_mut().into_iter().for_each(|(_, count)| *count += 1);
        self.part_bytes += size;
        Ok(())
    }

    /// Every entry was added.
    pub fn finish(&mut self, info: TreeInfo) -> io::Result<()> {
        self.known.seal();
        let members = std::mem::take(&mut self.members);
        for (number, member) in members {
            let Some((segment, size)) = info.segments.get(number as usize) else { continue };
            self.opened.insert(segment.sha256, *size);
            self.proved.push(self.in_segment(&segment.sha256, member));
        }
        self.proved.sort_unstable();
        self.info = Some(info);
        self.entries.finish()?;
        self.superseded.finish()
    }

    /// The segments that restoring opens, with their stored sizes.
    pub fn opened(&self) -> &HashMap<Sha256, u64> {
        &self.opened
    }

    /// Whether restoring proves this member.
    pub fn proves(&self, segment: &Sha256, member: &str, sha256: &Sha256) -> bool {
        self.proved.binary_search(&self.in_segment(segment, self.member(member, sha256))).is_ok()
    }

    fn member(&self, member: &str, sha256: &Sha256) -> Member {
        self.hasher.hash_one((member, &sha256.0))
    }

    fn in_segment(&self, segment: &Sha256, member: Member) -> Member {
        self.hasher.hash_one((&segment.0, member))
    }

    /// From which path to just before which other each part goes, and how many entries it has.
    pub fn parts(&self) -> impl Iterator<Item = (&str, Option<&str>, usize)> {
        let first = |n: usize| self.begins.get(n).map(|(path, _)| path.as_str());
        self.begins.iter().enumerate().map(move |(n, (from, count))| (if n == 0 { "" } else { from.as_str() }, first(n + 1), *count))
    }

    /// Each count that is attested, with what is wrong with it.
    pub fn counts(&self, details: &SnapshotDetails) -> Vec<(u64, Option<String>)> {
        let mut out = Vec::new();
        let mut compare = |name: &str, attested: u64, found: u64| {
            let message = (attested != found).then(|| format!("{name}: {attested} records are attested, and {found} are there"));
            out.push((1, message));
        };
        compare("the whole snapshot", details.entries, self.count);
        for attested in &details.collections {
            if let Some((_, name, found)) = self.collections.iter().find(|(_, name, _)| *name == attested.name) {
                compare(name, attested.count, *found);
            }
        }
        out
    }
}
