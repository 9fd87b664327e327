//! What restored records mean: they are read back from disk, parsed, and held to the catalog.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chmodat, openat, readlinkat, statat, unlinkat};
use serde_json::Value;

use super::bench::{Bench, place};
use super::tally::Check;
use crate::path;
use crate::source::catalog::{Catalog, CollectionSpec, Pattern, path_of};
use crate::store::{HashingReader, Sha256};
use crate::vault::manifest::{Content, Entry};
use crate::vault::names::{ChainName, RunId};

/// Larger files are not read whole, in bytes.
const LARGE: u64 = 8 << 20;

/// What is known of a snapshot as a whole before its records are looked at one by one.
pub struct Known {
    hasher: RandomState,
    /// Hashes of all paths, in order.
    paths: Vec<u64>,
    /// Collections of which everything is in the snapshot.
    pub complete: HashSet<String>,
    /// Whether its records are a tenant's.
    pub tenant: bool,
}

impl Known {
    /// Of a snapshot; paths follow.
    pub fn new(complete: HashSet<String>, tenant: bool) -> Self {
        Self { hasher: RandomState::new(), paths: Vec::new(), complete, tenant }
    }

    /// One more path; 8 bytes each, so that a million fit anywhere.
    pub fn add(&mut self, path: &str) {
        self.paths.push(self.hasher.hash_one(path));
    }

    /// All paths were added.
    pub fn seal(&mut self) {
        self.paths.sort_unstable();
    }

    fn has(&self, path: &str) -> bool {
        self.paths.binary_search(&self.hasher.hash_one(path)).is_ok()
    }
}

/// Holds entries to what lies on disk, and documents to their meaning.
pub struct Look<'a> {
    /// The test.
    pub bench: &'a Bench<'a>,
    /// The snapshot.
    pub known: &'a Known,
    /// Its chain.
    pub chain: &'a ChainName,
    /// Its run.
    pub run: RunId,
    /// Where it was restored.
    pub dir: &'a Path,
}

impl Look<'_> {
    fn fail(&self, check: Check, entry: &Entry, message: impl Into<String>) {
        self.bench.problem(check, self.chain, self.run, None, Some(&entry.path), message);
    }

    /// Looks at one restored entry, and takes it away: what is left at the end, nobody attested.
    pub fn at(&self, entry: &Entry, here: &mut Here) {
        let tally = &self.bench.tally;
        tally.ran(Check::Records, 1);
        let bytes = match here.take(self.dir, entry) {
            Ok(bytes) => bytes,
            Err(e) => return self.fail(Check::Records, entry, e.to_string()),
        };
        let Some(spec) = Catalog::all().collection_of(&entry.path).filter(|_| self.known.tenant) else { return };
        let Some(bytes) = bytes else { return };
        tally.ran(Check::Documents, 1);
        let value: Value = match serde_json::from_slice(&bytes) {
            Ok(value) => value,
            Err(e) => return self.fail(Check::Documents, entry, format!("it is no JSON: {e}")),
        };
        if !value.is_object() {
            return self.fail(Check::Documents, entry, "it is JSON, but no object");
        }
        if value.to_string().as_bytes() != bytes {
            return self.fail(Check::Documents, entry, "it is not in canonical form: keys sorted, no white space");
        }
        tally.ran(Check::Shapes, 1);
        if let Err(message) = shape(spec, &entry.path, &value) {
            self.fail(Check::Shapes, entry, message);
        }
        for (pattern, of) in &spec.references {
            self.refer(entry, spec, (pattern, of), &value);
        }
    }

    fn refer(&self, entry: &Entry, spec: &CollectionSpec, (pattern, of): (&Pattern, &Vec<String>), value: &Value) {
        let catalog = Catalog::all();
        let tally = &self.bench.tally;
        let everything = of.iter().all(|c| self.known.complete.contains(c));
        let judge = |reference: &str, kind: Option<&str>| {
            tally.ran(Check::References, 1);
            if catalog.places(of, reference, &entry.path).iter().any(|place| self.known.has(place)) {
                return;
            }
            let declared = spec.outside.iter().any(|o| o == reference || kind == Some(o));
            if declared || !everything || self.bench.job.outside.iter().any(|o| o == reference) {
                return tally.excused(Check::References, 1);
            }
            self.fail(
                Check::References,
                entry,
                format!("{pattern} leads to {reference}, of which the snapshot has no record in {}", of.join(", ")),
            );
        };
        match pattern.holder() {
            // What an element is says whether it can be a record of these collections at all.
            Some((holder, field)) => holder.visit(value, &mut |element| {
                if let Some(reference) = element.get(field).and_then(Value::as_str).filter(|r| !r.is_empty()) {
                    judge(reference, element.get("@odata.type").and_then(Value::as_str));
                }
            }),
            None => pattern.visit(value, &mut |v| {
                if let Some(reference) = v.as_str().filter(|r| !r.is_empty()) {
                    judge(reference, None);
                }
            }),
        }
    }
}

/// The directory that was looked into last: records of one directory follow one another.
#[derive(Default)]
pub struct Here(Option<(PathBuf, OwnedFd)>);

impl Here {
    /// The bytes as they lie on disk, proved against the manifest; none of what is large or no file. A file is removed.
    fn take(&mut self, root: &Path, entry: &Entry) -> io::Result<Option<Vec<u8>>> {
        let at = place(root, &entry.path)?;
        let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else { return Err(io::ErrorKind::NotFound.into()) };
        if self.0.as_ref().is_none_or(|(path, _)| path != parent) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.0 = Some((parent.to_owned(), openat(CWD, parent, flags, Mode::empty())?));
        }
        let Some((_, dir)) = &self.0 else { return Err(io::ErrorKind::NotFound.into()) };
        let found = match &entry.content {
            Content::Dir => return directory(dir, name, entry).map(|()| None),
            Content::Symlink { target } => link(dir, name, entry, target).map(|()| None),
            Content::File { sha256, size, .. } => file(dir, name, entry, (sha256, *size)),
        };
        // What is wrong was seen, too.
        unlinkat(dir, name, AtFlags::empty())?;
        found
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(format!("what was restored is not {what}"))
}

fn directory(dir: &OwnedFd, name: &OsStr, entry: &Entry) -> io::Result<()> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(wrong("a directory"));
    }
    // What is in it is taken away, whatever its mode says. Its time is gone with the first of that.
    chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
    if entry.mode.is_some_and(|mode| stat.st_mode & 0o7777 != mode) { Err(wrong("of the mode that its manifest names")) } else { Ok(()) }
}

fn link(dir: &OwnedFd, name: &OsStr, entry: &Entry, target: &str) -> io::Result<()> {
    let part = |p: &str| if matches!(p, "" | "." | "..") { Ok(p.into()) } else { path::decode_component(p) };
    let wanted = target.split('/').map(part).collect::<Result<Vec<Vec<u8>>, _>>().map_err(io::Error::other)?.join(&b'/');
    let found = readlinkat(dir, name, Vec::new()).map_err(|_| wrong("a link"))?;
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if found.as_bytes() != wanted {
        return Err(wrong("the link that its manifest names"));
    }
    if entry.mtime.is_some_and(|m| (stat.st_mtime, stat.st_mtime_nsec as i64) != (m.seconds, i64::from(m.nanos))) {
        return Err(wrong("of the time that its manifest names"));
    }
    Ok(())
}

fn file(dir: &OwnedFd, name: &OsStr, entry: &Entry, (sha256, size): (&Sha256, u64)) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut mode = None;
    let opened = match openat(dir, name, flags, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => return Err(wrong("a file")),
        // What even its owner may not read has the mode that it should have.
        Err(rustix::io::Errno::ACCESS) => {
            mode = Some(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
            chmodat(dir, name, Mode::RUSR, AtFlags::empty())?;
            File::from(openat(dir, name, flags, Mode::empty())?)
        }
        other => File::from(other?),
    };
    let stat = opened.metadata()?;
    if !stat.is_file() || stat.len() != size {
        return Err(wrong(&format!("a file of {size} bytes")));
    }
    let found = mode.unwrap_or_else(|| stat.permissions().mode()) & 0o7777;
    if entry.mode.is_some_and(|mode| found != mode) {
        return Err(wrong("of the mode that its manifest names"));
    }
    if entry.mtime.is_some_and(|m| (stat.mtime(), stat.mtime_nsec()) != (m.seconds, i64::from(m.nanos))) {
        return Err(wrong("of the time that its manifest names"));
    }
    let mut bytes = None;
    let digest = if size <= LARGE {
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(0)];
        (&opened).read_exact(&mut buffer)?;
        let digest = Sha256::of(&buffer);
        bytes = Some(buffer);
        digest
    } else {
        let mut hashed = HashingReader::new(&opened);
        io::copy(&mut hashed, &mut io::sink())?;
        hashed.finish().0
    };
    if digest != *sha256 {
        return Err(wrong("of the bytes that its manifest names"));
    }
    Ok(bytes)
}

/// Whether a document is what its collection's catalog says, and lies where its id says.
fn shape(spec: &CollectionSpec, path: &str, value: &Value) -> Result<(), String> {
    let key = if spec.gather.is_some() { "id" } else { spec.key.as_str() };
    let id = match value.get(key) {
        Some(Value::String(id)) if !id.is_empty() => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => return Err(format!("it has no {key}, which tells records of {} apart", spec.id)),
    };
    let folder = spec.folder_around(path).unwrap_or_default().trim_end_matches('/');
    if path_of(folder, &id) != path {
        return Err(format!("its {key} is {id}, and it lies elsewhere"));
    }
    match &spec.gather {
        Some(list) if !value.get(list).is_some_and(Value::is_array) => Err(format!("it has no list {list}")),
        _ => Ok(()),
    }
}
