//! A directory tree: configuration exports or compliance evidence.
//!
//! Symbolic links are recorded, never followed. Devices, sockets and pipes are skipped and told. Memory is
//! one directory's names for each level.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::Digest as _;

use super::globs::PathGlobs;
use super::mounts::{At, Mounts};
use super::{Collection, Node, NodeKind, Probe, Reading, RecordProblem, Source, SourceError, Walked};
use crate::path::{decode_component, encode_component};

/// How often a file that changes while it is read is read again.
const READ_TRIES: usize = 3;
/// A file touched this shortly before may be touched again within the clock's grain.
const RACY: Duration = Duration::from_secs(1);

/// What of a tree is backed up.
#[derive(Clone)]
pub struct FilesOptions {
    /// The tree's root.
    pub root: PathBuf,
    /// If not empty: only files that fit.
    pub include: PathGlobs,
    /// Never what fits.
    pub exclude: PathGlobs,
}

/// A directory tree.
pub struct FilesSource {
    options: FilesOptions,
    /// Files touched after this instant have no fingerprint.
    settled: SystemTime,
    /// As the last walk met them.
    mounts: Mutex<Mounts>,
}

impl FilesSource {
    /// A tree, as it is from now on.
    pub fn new(options: FilesOptions) -> Self {
        let settled = SystemTime::now().checked_sub(RACY).unwrap_or(SystemTime::UNIX_EPOCH);
        Self { options, settled, mounts: Mutex::default() }
    }

    fn mounts(&self) -> MutexGuard<'_, Mounts> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn real(&self, path: &str) -> PathBuf {
        if !path.contains('%') {
            return self.options.root.join(path);
        }
        let raw = path.split('/').map(|part| decode_component(part).unwrap_or_else(|_| part.as_bytes().to_vec()));
        raw.fold(self.options.root.clone(), |at, part| at.join(std::ffi::OsString::from_vec(part)))
    }

    /// `above` is the mount that it lies in.
    fn walk_directory(&self, prefix: &str, above: Option<At>, visit: &mut dyn FnMut(Walked) -> bool) -> io::Result<bool> {
        let directory = self.real(prefix.trim_end_matches('/'));
        // Before it is listed: what is mounted there later was not listed, what goes away later is missed at the end.
        let at = self.mounts().enter(&directory, above)?;
        let mut used = false;
        let names = Names::list(&directory)?;
        let mut path = String::with_capacity(prefix.len() + 64);
        for (text, kind) in names.sorted() {
            path.clear();
            path.push_str(prefix);
            path.push_str(text);
            if kind == Listed::Below {
                // What fits a directory fits all below it, and what is excluded need not be readable.
                if self.options.exclude.matches(&path[..path.len() - 1]) {
                    continue;
                }
                match self.walk_directory(&path, Some(at), visit) {
                    Ok(true) => {}
                    Ok(false) => return Ok(false),
                    // Gone since it was listed: what was in it is gone too.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => {
                        path.pop();
                        if !visit(Walked::Hole { path: path.clone(), problem: RecordProblem::from_io(&e) }) {
                            return Ok(false);
                        }
                    }
                }
                continue;
            }
            if matches!(kind, Listed::File | Listed::Other) && !self.options.include.is_empty() && !self.options.include.matches(&path)
                || kind == Listed::Directory && !self.options.include.is_empty()
            {
                continue;
            }
            if self.options.exclude.matches(&path) {
                continue;
            }
            if !used {
                used = true;
                self.mounts().used(at);
            }
            if !visit(Walked::Node(Node::listed(path.clone(), kind == Listed::File))) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn probe_of(&self, metadata: &fs::Metadata, target: Option<Vec<u8>>) -> Probe {
        let kind = match target {
            Some(target) => {
                let mut text = String::new();
                for (n, part) in target.split(|b| *b == b'/').enumerate() {
                    if n > 0 {
                        text.push('/');
                    }
                    encode_component(part, &mut text);
                }
                NodeKind::Symlink(text)
            }
            None if metadata.is_file() => NodeKind::File,
            None if metadata.is_dir() => NodeKind::Dir,
            None => {
                use std::os::unix::fs::FileTypeExt;
                let kind = metadata.file_type();
                NodeKind::Skipped(match () {
                    () if kind.is_socket() => "a socket",
                    () if kind.is_fifo() => "a pipe",
                    () => "a device",
                })
            }
        };
        let touched = [(metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec())];
        let settled = self.settled.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let settled = (i64::try_from(settled.as_secs()).unwrap_or(i64::MAX), i64::from(settled.subsec_nanos()));
        let fingerprint = touched.iter().all(|t| *t < settled).then(|| {
            let mut hasher = sha2::Sha256::new();
            hasher.update(metadata.ino().to_le_bytes());
            hasher.update(metadata.size().to_le_bytes());
            for (seconds, nanos) in touched {
                hasher.update(seconds.to_le_bytes());
                hasher.update(nanos.to_le_bytes());
            }
            let digest: [u8; 32] = hasher.finalize().into();
            let mut short = [0; 16];
            short.copy_from_slice(&digest[..16]);
            short
        });
        Probe {
            kind,
            size: metadata.size(),
            mode: metadata.mode() & 0o7777,
            mtime: (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0)),
            fingerprint,
        }
    }

    /// Five system calls for a small file; `None` when it changed meanwhile.
    fn read_once(&self, node: &Node, limit: u64, into: &mut Vec<u8>) -> io::Result<Option<Reading>> {
        let file = self.open_file(node)?;
        let before = file.metadata()?;
        if !before.is_file() {
            return Err(io::Error::other("it is no longer a file"));
        }
        if before.size() > limit {
            return Ok(Some(Reading::Larger(self.probe_of(&before, None))));
        }
        let start = into.len();
        // One byte more than expected shows a file that grew.
        let room = usize::try_from(before.size()).unwrap_or(usize::MAX).saturating_add(1);
        into.resize(start + room, 0);
        let mut at = start;
        while at < into.len() {
            match rustix::io::read(&file, &mut into[at..]) {
                Ok(0) => break,
                Ok(n) => {
                    at += n;
                    if at + 1 == into.len() {
                        break;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        into.truncate(at);
        let after = file.metadata()?;
        // With the size, since times advance in steps of some milliseconds.
        let touched = |m: &fs::Metadata| (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec(), m.size());
        let same = touched(&before) == touched(&after) && (at - start) as u64 == after.size();
        Ok(same.then(|| Reading::Whole(self.probe_of(&after, None))))
    }

    fn open_file(&self, node: &Node) -> io::Result<File> {
        // Not following and not blocking: the name may have become a link or a pipe since it was listed.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or(0);
        fs::OpenOptions::new().read(true).custom_flags(flags).open(self.real(&node.path))
    }
}

impl Source for FilesSource {
    fn collections(&self) -> Vec<Collection> {
        vec![Collection { name: "files".into(), prefix: String::new() }]
    }

    fn walk(&self, visit: &mut dyn FnMut(Walked) -> bool) -> Result<(), SourceError> {
        let root = &self.options.root;
        let failed = |what: String| SourceError { name: root.display().to_string(), what, passing: false };
        if !root.is_dir() {
            return Err(failed("it is not a directory, or is not there (is the file system mounted?)".into()));
        }
        *self.mounts() = Mounts::default();
        self.walk_directory("", None, visit).map(drop).map_err(|e| failed(e.to_string()))
    }

    fn still_there(&self) -> Result<(), SourceError> {
        let mounts = self.mounts();
        let Some(gone) = mounts.gone() else { return Ok(()) };
        Err(SourceError {
            name: self.options.root.display().to_string(),
            what: format!("{} was unmounted or replaced while it was read (is the file system mounted?)", gone.display()),
            passing: true,
        })
    }

    fn probe(&self, node: &Node) -> Result<Probe, RecordProblem> {
        let path = self.real(&node.path);
        let look = || {
            let metadata = fs::symlink_metadata(&path)?;
            let target = if metadata.is_symlink() { Some(fs::read_link(&path)?.into_os_string().into_vec()) } else { None };
            Ok(self.probe_of(&metadata, target))
        };
        look().map_err(|e: io::Error| RecordProblem::from_io(&e))
    }

    fn read(&self, node: &Node, limit: u64, into: &mut Vec<u8>) -> Result<Reading, RecordProblem> {
        let start = into.len();
        for _ in 0..READ_TRIES {
            into.truncate(start);
            match self.read_once(node, limit, into) {
                Ok(Some(reading)) => return Ok(reading),
                Ok(None) => {}
                Err(e) => {
                    into.truncate(start);
                    return Err(RecordProblem::from_io(&e));
                }
            }
        }
        into.truncate(start);
        Err(RecordProblem { code: "changed_while_read", message: format!("it changed while it was read, {READ_TRIES} times") })
    }

    fn open(&self, node: &Node) -> Result<Box<dyn Read>, RecordProblem> {
        match self.open_file(node) {
            Ok(file) => Ok(Box::new(file)),
            Err(e) => Err(RecordProblem::from_io(&e)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Listed {
    File,
    Other,
    Directory,
    /// What is in a directory: sorts as the directory's name with a slash.
    Below,
}

/// The names of one directory, encoded, in one allocation.
#[derive(Default)]
struct Names {
    text: String,
    items: Vec<(u32, u32, Listed)>,
}

impl Names {
    fn list(directory: &Path) -> io::Result<Self> {
        let mut names = Self::default();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                // Where a file system does not list kinds, each name is asked for, and one may be gone by then.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let name = entry.file_name();
            match () {
                () if kind.is_dir() => {
                    names.push(name.as_bytes(), Listed::Directory);
                    names.push(name.as_bytes(), Listed::Below);
                }
                () if kind.is_file() => names.push(name.as_bytes(), Listed::File),
                () => names.push(name.as_bytes(), Listed::Other),
            }
        }
        Ok(names)
    }

    fn push(&mut self, raw: &[u8], kind: Listed) {
        let start = self.text.len();
        encode_component(raw, &mut self.text);
        if kind == Listed::Below {
            self.text.push('/');
        }
        let place = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.items.push((place(start), place(self.text.len()), kind));
    }

    fn sorted(&self) -> impl Iterator<Item = (&str, Listed)> {
        let mut items = self.items.clone();
        let text = |item: &(u32, u32, Listed)| &self.text[item.0 as usize..item.1 as usize];
        items.sort_unstable_by(|a, b| text(a).cmp(text(b)));
        items.into_iter().map(move |item| (&self.text[item.0 as usize..item.1 as usize], item.2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(root: &Path, include: &[&str], exclude: &[&str]) -> FilesSource {
        let globs = |list: &[&str]| PathGlobs::new(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap();
        FilesSource::new(FilesOptions { root: root.to_owned(), include: globs(include), exclude: globs(exclude) })
    }

    fn paths(source: &FilesSource) -> Vec<String> {
        let mut out = Vec::new();
        source
            .walk(&mut |walked| {
                match walked {
                    Walked::Node(node) => out.push(node.path),
                    Walked::Hole { path, .. } => out.push(format!("!{path}")),
                }
                true
            })
            .unwrap();
        out
    }

    #[test]
    fn order_is_that_of_whole_paths() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/b", "a/c/d", "a-b", "a.json", "z%", "ü/x"] {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), "x").unwrap();
        }
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"a\xff")), "x").unwrap();
        let all = paths(&source(dir.path(), &[], &[]));
        let mut sorted = all.clone();
        sorted.sort();
        assert_eq!(all, sorted);
        assert_eq!(all, ["a", "a%FF", "a-b", "a.json", "a/b", "a/c", "a/c/d", "z%25", "ü", "ü/x"]);
    }

    #[test]
    fn globs_at_any_depth_and_anchored() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a.tmp", "keep/b.tmp", "keep/c.json", "drop/d.json", "keep/drop/e.json"] {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), "x").unwrap();
        }
        assert_eq!(
            paths(&source(dir.path(), &[], &["*.tmp", "/drop"])),
            ["drop", "drop/d.json", "keep", "keep/c.json", "keep/drop", "keep/drop/e.json"]
                .into_iter()
                .filter(|p| !p.starts_with("drop"))
                .collect::<Vec<_>>()
        );
        assert_eq!(paths(&source(dir.path(), &["*.json"], &["drop"])), ["keep/c.json"]);
        assert_eq!(paths(&source(dir.path(), &["keep/**"], &[])), ["keep/b.tmp", "keep/c.json", "keep/drop/e.json"]);
    }

    #[test]
    fn a_tree_that_was_exchanged_while_it_was_walked_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("below")).unwrap();
        let source = source(&root, &[], &[]);
        assert_eq!(paths(&source), ["below"]);
        source.still_there().unwrap();
        fs::write(root.join("new"), "x").unwrap();
        source.still_there().unwrap();
        fs::rename(&root, dir.path().join("away")).unwrap();
        assert!(source.still_there().unwrap_err().what.contains("unmounted or replaced"));
        fs::create_dir(&root).unwrap();
        assert!(source.still_there().unwrap_err().passing);
    }

    #[test]
    fn a_missing_root_is_no_empty_tree() {
        let dir = tempfile::tempdir().unwrap();
        assert!(source(&dir.path().join("none"), &[], &[]).walk(&mut |_| true).is_err());
    }
}
