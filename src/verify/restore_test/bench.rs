//! What every part of a test has at hand.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use super::tally::{Check, Problem, Tally};
use super::{RestoreTestError, TestJob};
use crate::restore::{Failed, Scratch};
use crate::store::{Sha256, StoreError};
use crate::vault::attestation::ObjectRef;
use crate::vault::names::{ChainName, RunId};

/// What one unit came to.
#[derive(Debug, Default)]
pub struct Proof {
    /// Stored bytes that were read to restore the recovery point, and how many objects.
    pub read: (u64, u64),
    /// Sealed objects that were opened, by identity, with their stored bytes.
    pub opened: HashMap<Sha256, u64>,
    /// Records or events restored.
    pub entries: u64,
    /// Bytes restored.
    pub restored_bytes: u64,
    /// How long restoring took.
    pub restore_seconds: f64,
    /// How long the checks took besides.
    pub check_seconds: f64,
    /// What lies in the archive tier.
    pub archived: Vec<ObjectRef>,
    /// No identity at hand opens this object, and so the unit.
    pub cannot_open: Option<String>,
}

/// What every part of a test has at hand.
pub struct Bench<'a> {
    /// The job.
    pub job: &'a TestJob<'a>,
    /// Counts and problems.
    pub tally: Tally,
    /// Where to.
    pub scratch: Scratch,
    /// Which run wrote each object.
    pub writers: HashMap<&'a str, (&'a ObjectRef, RunId)>,
}

impl Bench<'_> {
    /// Notes what could not be restored as failures of a check.
    pub fn lost(&self, check: Check, chain: &ChainName, run: RunId, failed: Vec<Failed>) {
        failed.into_iter().for_each(|f| self.problem(check, chain, run, f.object.as_deref(), f.path.as_deref(), f.message));
    }

    /// Notes one failure.
    pub fn problem(
        &self,
        check: Check,
        chain: &ChainName,
        run: RunId,
        object: Option<&str>,
        path: Option<&str>,
        message: impl Into<String>,
    ) {
        self.tally.failed(Problem {
            check,
            chain: chain.clone(),
            run: Some(run),
            object: object.map(str::to_owned),
            written_by: object.and_then(|o| self.writers.get(o)).map(|(_, run)| *run),
            path: path.map(str::to_owned),
            message: message.into(),
        });
    }

    /// An error of the system in the directory that is restored into.
    pub fn trouble(&self, source: io::Error) -> RestoreTestError {
        RestoreTestError::Scratch { path: self.scratch.path().to_owned(), source }
    }

    /// Tells a store that cannot be asked from a vault that is damaged: what is to blame is read once more. Whether all of it
    /// can be read now, and the trouble may have passed.
    pub fn readable(&self, problems: &[Problem]) -> Result<bool, StoreError> {
        let blamed: HashSet<&str> = problems.iter().filter_map(|p| p.object.as_deref()).collect();
        for (object, _) in blamed.iter().filter_map(|name| self.writers.get(name)) {
            let ledger = &self.job.writer.ledger;
            match ledger.read_object(&object.name, object.version.as_deref(), &object.sha256, object.size) {
                Err(e) if is_about_the_store(&e) => return Err(e),
                Err(_) => return Ok(false),
                Ok(_) => {}
            }
        }
        Ok(!blamed.is_empty())
    }

    /// Which objects of some folders lie in the archive tier.
    pub fn archived(&self, objects: &[&ObjectRef]) -> Result<HashSet<String>, StoreError> {
        let folders: HashSet<&str> = objects.iter().filter_map(|o| Some(&o.name[..=o.name.rfind('/')?])).collect();
        let mut folders: Vec<&str> = folders.into_iter().collect();
        folders.sort_unstable();
        let mut out = HashSet::new();
        for folder in folders {
            let listed = self.job.writer.ledger.store().list(folder)?;
            out.extend(listed.into_iter().filter(|info| info.archive.is_some()).map(|info| info.name));
        }
        Ok(out)
    }
}

/// Whether the store could not be asked, rather than that what it holds is wrong.
pub fn is_about_the_store(error: &StoreError) -> bool {
    match error {
        StoreError::Azure(e) => e.passing() || matches!(**e, crate::store::azure::AzureError::Denied { .. }),
        StoreError::NoStore { .. } => true,
        StoreError::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
        _ => false,
    }
}

/// A file's place below a directory, from its encoded path.
pub fn place(below: &Path, path: &str) -> io::Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let raw = crate::path::decode(path).map_err(io::Error::other)?;
    Ok(below.join(std::ffi::OsString::from_vec(raw)))
}
