//! What the tenant itself says it has, and whether a restored directory is the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::exit::{CliError, Exit};
use crate::sample::Tenant;
use crate::source::catalog::{Catalog, Plane};
use crate::source::graph::{same_record, spelled_path};

/// Records by their path in a snapshot.
pub(super) struct Truth(BTreeMap<String, String>);

impl Truth {
    /// The configuration as the tenant dumps it now.
    pub fn of(tenant: &Tenant) -> Result<Self, CliError> {
        let failed = |e: String| CliError::new(Exit::Failed, format!("the sample tenant's dump cannot be read: {e}"));
        let mut dump = Vec::new();
        tenant.dump(&mut dump).map_err(|e| failed(e.to_string()))?;
        let mut out = BTreeMap::new();
        for line in dump.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let value: Value = serde_json::from_slice(line).map_err(|e| failed(e.to_string()))?;
            let text = |name: &str| value[name].as_str().unwrap_or_default();
            let Some(spec) = Catalog::all().collection(text("collection")).filter(|c| c.plane == Plane::Graph) else { continue };
            out.insert(spelled_path(spec.folder(), text("id")), value["record"].to_string());
        }
        Ok(Self(out))
    }

    /// Holds a restored directory to it; gives how many records are the same, and an error if any is not.
    pub fn compare(&self, dir: &Path) -> Result<u64, CliError> {
        let mut wrong = Vec::new();
        for (path, expected) in &self.0 {
            let spec = Catalog::all().collection_of(path);
            let found = fs::read_to_string(dir.join(path)).ok();
            if !spec.zip(found).is_some_and(|(spec, found)| same_record(spec, expected, &found)) {
                wrong.push(path.as_str());
            }
        }
        let count = files_below(dir);
        if wrong.is_empty() && count == self.0.len() as u64 {
            return Ok(count);
        }
        let first = wrong.first().copied().unwrap_or("more files than the tenant has records");
        let message = format!(
            "{} holds {count} records, the tenant's dump {}; {} differ, the first is {first}",
            dir.display(),
            self.0.len(),
            wrong.len()
        );
        Err(CliError::new(Exit::Failed, message).hint("this should never happen: keep the directory and report it"))
    }
}

fn files_below(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries.flatten().map(|e| if e.path().is_dir() { files_below(&e.path()) } else { 1 }).sum()
}
