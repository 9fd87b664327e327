//! Asking for everything: collections side by side, children after their parents.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::value::RawValue;
use url::Url;

use super::record::{BadRecord, Record, canonical, path_of};
use super::subscriptions::Survey;
use super::{GraphOptions, HOLE, RECORD, advice, by_subscription, whole};
use crate::http::{HttpError, Pages};
use crate::observe::Event;
use crate::sort::Sorter;
use crate::source::SourceError;
use crate::source::catalog::{CollectionSpec, Plane};

/// How many collections are asked at once.
const AT_ONCE: usize = 4;
/// The longest name of a file, with room for `.json` and escapes that a file system counts.
const LONGEST_ID: usize = 240;

/// One capture of a tenant.
pub(super) struct Capture<'a> {
    pub options: &'a GraphOptions,
    sorter: &'a Mutex<Sorter>,
    /// Ids of the collections that others are children of.
    parents: Mutex<BTreeMap<String, Option<Vec<String>>>>,
    failed: AtomicUsize,
    /// With what a person can do about it.
    first_error: Mutex<Option<(HttpError, String)>>,
    /// The credential is refused: nothing will be given to anybody.
    hopeless: AtomicBool,
    broken: Mutex<Option<std::io::Error>>,
    /// Those that were there, now or before.
    pub subscriptions: Mutex<Vec<String>>,
    /// What the collections are traced under: they are read by several threads.
    pub(super) span: tracing::Span,
}

/// One list to be asked for.
struct Task<'a> {
    spec: &'a CollectionSpec,
    subscription: Option<String>,
}

impl<'a> Capture<'a> {
    pub fn new(options: &'a GraphOptions, sorter: &'a Mutex<Sorter>) -> Self {
        Self {
            options,
            sorter,
            parents: Mutex::default(),
            failed: AtomicUsize::new(0),
            first_error: Mutex::default(),
            hopeless: AtomicBool::new(false),
            broken: Mutex::default(),
            subscriptions: Mutex::default(),
            span: tracing::Span::current(),
        }
    }

    /// Asks for everything; what could not be had are holes in the sorter.
    pub fn all(&self) -> Result<(), SourceError> {
        let options = self.options;
        let specs = &options.collections;
        let reader = ["Reader".to_owned()];
        let survey = match specs.iter().any(by_subscription) {
            true => Survey::make(&options.service, &options.subscriptions, &*options.monitor)
                .map_err(|e| whole(&options.name, &e, advice(&e, &reader, Plane::Arm)))?,
            false => Survey::default(),
        };
        for (subscription, error) in &survey.lost {
            let said = advice(error, &reader, Plane::Arm);
            let why = format!("the subscription {subscription} is shown no more, and was not deleted: {said}");
            for spec in specs {
                match by_subscription(spec) {
                    true => self.hole(&format!("{}/", folder_of(spec, subscription)), error.code(), &format!("{}: {why}", spec.id)),
                    false if spec.path == "/subscriptions" => self.hole(&path_of(spec.folder(), subscription), error.code(), &why),
                    false => {}
                }
            }
        }
        if let Some(spec) = specs.iter().find(|s| s.path == "/subscriptions") {
            self.keep(spec, spec.folder(), &survey.unlisted, None);
        }
        if let Ok(mut seen) = self.subscriptions.lock() {
            *seen = survey.there.iter().chain(survey.lost.iter().map(|(id, _)| id)).cloned().collect();
        }
        let subscriptions = survey.there;
        let mut tasks = VecDeque::new();
        for spec in specs.iter().filter(|s| s.parent.is_none()) {
            if !by_subscription(spec) {
                tasks.push_back(Task { spec, subscription: None });
            }
            for subscription in subscriptions.iter().filter(|_| by_subscription(spec)) {
                tasks.push_back(Task { spec, subscription: Some(subscription.clone()) });
            }
        }
        let count = tasks.len();
        let tasks = Mutex::new(tasks);
        thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(count) {
                scope.spawn(|| {
                    let next = || tasks.lock().ok()?.pop_front();
                    while let Some(task) = next() {
                        self.list(&task);
                    }
                });
            }
        });
        let error = self.first_error.lock().ok().and_then(|e| e.clone());
        if let Some((error, said)) = error.filter(|_| self.hopeless.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed) == count)
        {
            return Err(whole(&options.name, &error, said));
        }
        for spec in specs.iter().filter(|s| s.parent.is_some()) {
            let parent = spec.parent.as_deref().unwrap_or_default();
            let ids = self.parents.lock().ok().and_then(|mut parents| parents.insert(parent.to_owned(), None)).flatten();
            match ids {
                Some(ids) => self.children(spec, ids),
                None => {
                    self.hole(&format!("{}/", spec.folder()), "parent_failed", &format!("{parent}, whose records it is asked for, failed"))
                }
            }
        }
        match self.broken.lock().ok().and_then(|mut b| b.take()) {
            Some(e) => Err(SourceError {
                name: options.name.clone(),
                what: format!("its records cannot be kept in {}: {e}", options.temporary.display()),
                passing: false,
            }),
            None => Ok(()),
        }
    }

    /// Where a collection's first page is.
    fn url(&self, spec: &CollectionSpec, subscription: Option<&str>) -> Url {
        first_page(self.options, spec, subscription, &spec.path)
    }

    /// Asks for one list, page after page; the next page is on its way while one is read.
    fn list(&self, task: &Task<'_>) {
        let Task { spec, subscription } = task;
        let _span = tracing::info_span!(parent: &self.span, "collection", collection = spec.id).entered();
        let folder = match subscription {
            Some(subscription) => folder_of(spec, subscription),
            None => spec.folder().to_owned(),
        };
        if self.hopeless.load(Ordering::Relaxed) {
            return;
        }
        let pages =
            Pages::new(&self.options.service, self.url(spec, subscription.as_deref()), spec.throttle.as_deref(), &*self.options.monitor);
        let is_parent = self.options.collections.iter().any(|c| c.parent.as_ref() == Some(&spec.id));
        match self.read_pages(spec, &folder, pages, is_parent) {
            Ok(ids) => {
                if let (true, Ok(mut parents)) = (is_parent, self.parents.lock()) {
                    parents.insert(spec.id.clone(), Some(ids));
                }
            }
            Err(error) => self.fail(&format!("{folder}/"), spec, &error),
        }
    }

    fn read_pages(&self, spec: &CollectionSpec, folder: &str, pages: Pages<'_>, gather: bool) -> Result<Vec<String>, HttpError> {
        let mut ids = Vec::new();
        let read = pages.for_each(|page| {
            self.keep(spec, folder, &page.value, gather.then_some(&mut ids));
            if self.hopeless.load(Ordering::Relaxed) { Err(()) } else { Ok(()) }
        })?;
        // What made it hopeless is told elsewhere.
        read.map_or(Ok(Vec::new()), |()| Ok(ids))
    }

    fn keep(&self, spec: &CollectionSpec, folder: &str, page: &[Box<RawValue>], mut ids: Option<&mut Vec<String>>) {
        let mut records = Vec::with_capacity(page.len());
        for raw in page {
            match canonical(raw.get(), spec) {
                Ok(record) if record.id.len() > LONGEST_ID => {
                    self.hole(&format!("{folder}/?"), "bad_record", "a record has an id of more than 240 bytes");
                }
                Ok(record) => {
                    if let Some(ids) = &mut ids {
                        ids.push(record.id.clone());
                    }
                    records.push(record);
                }
                Err(BadRecord::Unreadable { id, what }) => {
                    self.hole(&path_of(folder, &id), "bad_record", &format!("{} {id} cannot be read: {what}", spec.id));
                    ids.iter_mut().for_each(|ids| ids.push(id.clone()));
                }
                Err(BadRecord::NoId) => self.hole(&format!("{folder}/?"), "bad_record", &format!("a record has no {}", spec.key)),
                Err(BadRecord::NoObject) => self.hole(&format!("{folder}/?"), "bad_record", "a record is no JSON object"),
            }
        }
        self.push(folder, &records);
        self.options.monitor.event(Event::Listed { records: records.len() as u64 });
    }

    /// Hands records to the sorter.
    pub fn push(&self, folder: &str, records: &[Record]) {
        let Ok(mut sorter) = self.sorter.lock() else { return };
        let mut value = Vec::new();
        for record in records {
            value.clear();
            value.push(RECORD);
            value.extend_from_slice(&record.fingerprint);
            value.extend_from_slice(&record.bytes);
            if let Err(e) = sorter.push(path_of(folder, &record.id).as_bytes(), &value) {
                self.broke(e);
                return;
            }
        }
    }

    fn broke(&self, error: std::io::Error) {
        self.hopeless.store(true, Ordering::Relaxed);
        if let Ok(mut broken) = self.broken.lock() {
            broken.get_or_insert(error);
        }
    }

    /// Nothing at this path (with a slash at its end: nothing below it) could be had.
    pub fn hole(&self, path: &str, code: &str, message: &str) {
        let Ok(mut sorter) = self.sorter.lock() else { return };
        let value = [&[HOLE], code.as_bytes(), b"\n", message.as_bytes()].concat();
        if let Err(e) = sorter.push(path.as_bytes(), &value) {
            self.broke(e);
        }
    }

    /// A list failed for good.
    pub fn fail(&self, path: &str, spec: &CollectionSpec, error: &HttpError) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        if matches!(error, HttpError::Credential { .. }) {
            self.hopeless.store(true, Ordering::Relaxed);
        }
        let said = advice(error, &spec.permissions, spec.plane);
        self.hole(path, error.code(), &format!("{} could not be captured: {said}", spec.id));
        if let Ok(mut first) = self.first_error.lock() {
            first.get_or_insert_with(|| (error.clone(), said));
        }
    }
}

/// Where the records of one subscription lie.
fn folder_of(spec: &CollectionSpec, subscription: &str) -> String {
    path_of(spec.folder(), subscription).trim_end_matches(".json").to_owned()
}

/// The address of a list's first page.
pub(super) fn first_page(options: &GraphOptions, spec: &CollectionSpec, subscription: Option<&str>, path: &str) -> Url {
    let select = spec.select.join(",");
    let top = spec.page_size.map(|n| n.to_string());
    let mut query: Vec<(&str, &str)> = Vec::new();
    let path = match spec.plane {
        Plane::Graph => format!("/{}{path}", spec.version),
        Plane::Arm => {
            query.push(("api-version", &spec.version));
            subscription.map_or_else(|| path.to_owned(), |id| format!("/subscriptions/{id}{path}"))
        }
    };
    if !select.is_empty() {
        query.push(("$select", &select));
    }
    query.extend(spec.filter.as_deref().map(|filter| ("$filter", filter)));
    query.extend(spec.expand.as_deref().map(|expand| ("$expand", expand)));
    query.extend(top.as_deref().map(|top| ("$top", top)));
    options.service.url(&path, &query)
}
