//! The configuration of a tenant, read over HTTP from Microsoft Graph or Azure Resource Manager.
//!
//! It promises: a collection is captured whole or it is a hole, whose earlier records are carried; a page
//! that fails for good is never taken for the last one; one collection's failure does not touch another.
//! What there is to capture stands in the catalog. Memory is bounded by a sorter that spills to disk.

mod capture;
mod children;
mod logs;
mod record;
mod subscriptions;

use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::catalog::{CollectionSpec, Plane, Scope};
use super::{Collection, Held, Node, NodeKind, Probe, Reading, RecordProblem, Source, SourceError, Walked};
use crate::http::{HttpError, Service};
use crate::observe::Monitor;
use crate::sort::Sorter;

pub use logs::{Found, LogError, LogQuery, LogReader, RawEvent};

/// Memory for sorting, in bytes; more goes to unnamed files.
const SORT_BUDGET: usize = 48 << 20;

/// Of which subscriptions Azure's collections are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscriptions {
    /// Every one that the agent sees, and those that it saw before, unless they were deleted.
    All {
        /// Ids of the latter.
        earlier: Vec<String>,
    },
    /// These.
    These(Vec<String>),
}

/// What a tenant's source is made of.
pub struct GraphOptions {
    /// The source's name.
    pub name: String,
    /// What to capture.
    pub collections: Vec<CollectionSpec>,
    /// The service that answers.
    pub service: Arc<Service>,
    /// Of Azure: which subscriptions.
    pub subscriptions: Subscriptions,
    /// Where sorting spills to.
    pub temporary: PathBuf,
    /// Who listens.
    pub monitor: Arc<dyn Monitor + Send>,
}

/// Whether two texts are the same record of a collection, but for what changes by itself.
pub fn same_record(spec: &CollectionSpec, a: &str, b: &str) -> bool {
    let of = |text: &str| record::canonical(text, spec).ok().map(|r| r.fingerprint);
    of(a).is_some_and(|a| of(b) == Some(a))
}

/// Where the record with this id lies in a snapshot.
pub fn spelled_path(folder: &str, id: &str) -> String {
    record::path_of(folder, id)
}

/// A tenant's configuration.
pub struct GraphSource {
    options: GraphOptions,
    subscriptions: Mutex<Vec<String>>,
}

/// A record's place among the sorted: its bytes, or that it could not be had.
const RECORD: u8 = 0;
const HOLE: u8 = 1;

impl GraphSource {
    /// A source; asks nothing yet.
    pub fn new(options: GraphOptions) -> Self {
        Self { options, subscriptions: Mutex::default() }
    }

    /// The subscriptions that the last walk knew of: those to be given as earlier ones to the next.
    pub fn subscriptions(&self) -> Vec<String> {
        self.subscriptions.lock().map(|seen| seen.clone()).unwrap_or_default()
    }

    /// The service, whose waits and requests are counted.
    pub fn service(&self) -> &Service {
        &self.options.service
    }
}

/// What a person does about a refusal, besides what the service said.
fn advice(error: &HttpError, permissions: &[String], plane: Plane) -> String {
    if let HttpError::Credential { hint, .. } = error {
        return format!("{error}; {hint}");
    }
    let needs = permissions.join(" and ");
    match error.code() {
        "forbidden" if plane == Plane::Arm && needs == "Reader" => format!("{error}; it needs the role Reader"),
        "forbidden" if plane == Plane::Arm => format!("{error}; it needs a role with the action {needs}, such as Reader"),
        "forbidden" => format!("{error}; it needs the application permission {needs}, with admin consent"),
        "not_licensed" => format!("{error}; the tenant has no licence for it"),
        "no_subscriptions" => format!("{error}; it needs the role Reader on those that are to be captured"),
        _ => error.to_string(),
    }
}

/// The source `name` cannot be read at all.
fn whole(name: &str, error: &HttpError, said: String) -> SourceError {
    SourceError { name: name.to_owned(), what: said, passing: error.passing() }
}

impl Source for GraphSource {
    fn collections(&self) -> Vec<Collection> {
        let of = |c: &CollectionSpec| Collection { name: c.id.clone(), prefix: format!("{}/", c.folder()) };
        self.options.collections.iter().map(of).collect()
    }

    fn walk(&self, visit: &mut dyn FnMut(Walked) -> bool) -> Result<(), SourceError> {
        let sorter = Mutex::new(Sorter::new(&self.options.temporary, SORT_BUDGET));
        let capture = capture::Capture::new(&self.options, &sorter);
        capture.all()?;
        if let (Ok(mut seen), Ok(known)) = (self.subscriptions.lock(), capture.subscriptions.into_inner()) {
            *seen = known;
        }
        let spilling = |e: std::io::Error| SourceError {
            name: self.options.name.clone(),
            what: format!("its records cannot be sorted in {}: {e}", self.options.temporary.display()),
            passing: false,
        };
        let sorter = sorter.into_inner().map_err(|_| spilling(std::io::Error::other("a thread failed")))?;
        let mut merge = Merge { visit, pending: None, hole: None, open: true };
        sorter
            .finish(|key, value| {
                merge.take(key, value);
                Ok(())
            })
            .map_err(spilling)?;
        merge.give();
        Ok(())
    }

    fn probe(&self, node: &Node) -> Result<Probe, RecordProblem> {
        held(node).map(probe_of)
    }

    fn read(&self, node: &Node, limit: u64, into: &mut Vec<u8>) -> Result<Reading, RecordProblem> {
        let held = held(node)?;
        if held.bytes.len() as u64 > limit {
            return Ok(Reading::Larger(probe_of(held)));
        }
        into.extend_from_slice(&held.bytes);
        Ok(Reading::Whole(probe_of(held)))
    }

    fn open(&self, node: &Node) -> Result<Box<dyn Read>, RecordProblem> {
        Ok(Box::new(Cursor::new(held(node)?.bytes.clone())))
    }
}

fn held(node: &Node) -> Result<&Arc<Held>, RecordProblem> {
    node.held.as_ref().ok_or_else(|| RecordProblem { code: "unreadable", message: "it was not listed by this source".into() })
}

fn probe_of(held: &Arc<Held>) -> Probe {
    Probe { kind: NodeKind::File, size: held.bytes.len() as u64, mode: 0o644, mtime: (0, 0), fingerprint: Some(held.fingerprint) }
}

/// Turns sorted records into a walk: of one path the last counts, and what lies in a hole is left out.
struct Merge<'a> {
    visit: &'a mut dyn FnMut(Walked) -> bool,
    pending: Option<(Vec<u8>, Vec<u8>)>,
    /// The folder that could not be had, with its slash.
    hole: Option<Vec<u8>>,
    open: bool,
}

impl Merge<'_> {
    fn take(&mut self, key: &[u8], value: &[u8]) {
        if !self.open || self.hole.as_ref().is_some_and(|hole| key.starts_with(hole)) {
            return;
        }
        match &mut self.pending {
            Some((path, bytes)) if path == key => {
                bytes.clear();
                bytes.extend_from_slice(value);
            }
            _ => {
                self.give();
                self.pending = Some((key.to_vec(), value.to_vec()));
            }
        }
        if value.first() == Some(&HOLE) && key.ends_with(b"/") {
            self.give();
            self.hole = Some(key.to_vec());
        }
    }

    fn give(&mut self) {
        let Some((key, value)) = self.pending.take().filter(|_| self.open) else { return };
        let path = String::from_utf8_lossy(&key).trim_end_matches('/').to_owned();
        let Some((kind, rest)) = value.split_first() else { return };
        let walked = if *kind == RECORD {
            let (fingerprint, bytes) = rest.split_at(16.min(rest.len()));
            let fingerprint = fingerprint.try_into().unwrap_or_default();
            Walked::Node(Node { path, file: true, held: Some(Arc::new(Held { bytes: bytes.to_vec(), fingerprint })) })
        } else {
            let text = String::from_utf8_lossy(rest);
            let (code, message) = text.split_once('\n').unwrap_or(("unreadable", &text));
            Walked::Hole { path, problem: RecordProblem { code: known_code(code), message: message.to_owned() } }
        };
        self.open = (self.visit)(walked);
    }
}

/// The codes that a hole of this source may bear in an attestation.
fn known_code(code: &str) -> &'static str {
    const CODES: [&str; 16] = [
        "credential_refused",
        "unreachable",
        "unauthorized",
        "forbidden",
        "not_licensed",
        "not_found",
        "bad_request",
        "server_error",
        "refused",
        "throttled",
        "unreadable_answer",
        "foreign_link",
        "endless_pages",
        "setup",
        "parent_failed",
        "bad_record",
    ];
    CODES.into_iter().find(|known| *known == code).unwrap_or("unreadable")
}

/// Whether a collection is asked for each subscription.
fn by_subscription(spec: &CollectionSpec) -> bool {
    spec.scope == Scope::Subscriptions
}
