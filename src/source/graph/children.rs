//! Lists that are asked for each record of another collection, twenty at a time by `$batch`.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::advice;
use super::capture::{Capture, first_page};
use super::record::{Record, keep, path_of};
use crate::http::{HttpError, Page, Pages, place};
use crate::observe::Event;
use crate::source::catalog::CollectionSpec;

/// Questions in one batch, as the service documents.
const BATCH: usize = 20;
/// Batches on their way at once.
const AT_ONCE: usize = 4;

#[derive(Deserialize)]
struct Answers {
    responses: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    id: String,
    status: u16,
    #[serde(default)]
    headers: Option<HashMap<String, Value>>,
    #[serde(default)]
    body: Option<Box<RawValue>>,
}

impl Answer {
    /// How long the service asks to wait before this question is put again.
    fn retry_after(&self) -> Option<String> {
        let headers = self.headers.as_ref().filter(|_| matches!(self.status, 429 | 503))?;
        let (_, value) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }
}

/// The lists of one collection, while they are asked for.
struct Lists<'s> {
    spec: &'s CollectionSpec,
    /// The same, of the version that is asked where the catalog's own is not served.
    older: Option<CollectionSpec>,
    /// Whether any parent's list was had in the catalog's own version.
    had: AtomicBool,
    use_older: AtomicBool,
    /// How many parents there are.
    parents: usize,
}

impl Lists<'_> {
    fn spec(&self) -> &CollectionSpec {
        // What was served once is served.
        let older = self.use_older.load(Ordering::Relaxed) && !self.had.load(Ordering::Relaxed);
        self.older.as_ref().filter(|_| older).unwrap_or(self.spec)
    }

    fn any(&self) -> bool {
        self.had.load(Ordering::Relaxed) || self.use_older.load(Ordering::Relaxed)
    }
}

impl Capture<'_> {
    /// Gathers the lists of all parents, each into one record.
    pub fn children(&self, spec: &CollectionSpec, parents: Vec<String>) {
        let _span = tracing::info_span!(parent: &self.span, "collection", collection = spec.id).entered();
        let batches: VecDeque<Vec<String>> = parents.chunks(BATCH).map(<[String]>::to_vec).collect();
        let stopped = AtomicBool::new(false);
        let count = batches.len();
        let batches = Mutex::new(batches);
        let older = spec.fallback_version.clone().map(|version| CollectionSpec { version, ..spec.clone() });
        let lists = Lists { spec, older, had: AtomicBool::new(false), use_older: AtomicBool::new(false), parents: parents.len() };
        thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(count) {
                scope.spawn(|| {
                    let next = || batches.lock().ok()?.pop_front();
                    while let Some(batch) = next() {
                        if stopped.load(Ordering::Relaxed) {
                            return;
                        }
                        if let Err(error) = self.batch(&lists, &batch)
                            && !stopped.swap(true, Ordering::Relaxed)
                        {
                            self.fail(&format!("{}/", spec.folder()), spec, &error);
                        }
                    }
                });
            }
        });
    }

    /// An error here is one of the whole collection.
    fn batch(&self, lists: &Lists<'_>, parents: &[String]) -> Result<(), HttpError> {
        let options = self.options;
        let spec = lists.spec();
        let root = options.service.url(&format!("/{}", spec.version), &[]);
        let relative = |id: &String| first_page(options, spec, None, &child_path(spec, id)).as_str()[root.as_str().len()..].to_owned();
        let requests: Vec<Value> =
            parents.iter().enumerate().map(|(n, id)| json!({ "id": n.to_string(), "method": "GET", "url": relative(id) })).collect();
        let url = options.service.url(&format!("/{}/$batch", spec.version), &[]);
        let answered = options.service.post(&url, &json!({ "requests": requests }), &*options.monitor, |body| {
            serde_json::from_slice::<Answers>(body).map_err(|e| format!("it is no answer to a batch: {e}"))
        });
        let mut answers: HashMap<usize, Answer> = match answered {
            Ok(answers) => answers.responses.into_iter().filter_map(|a| Some((a.id.parse().ok()?, a))).collect(),
            Err(e @ (HttpError::Credential { .. } | HttpError::Unreachable { .. })) => return Err(e),
            // A service without batches answers one by one.
            Err(_) => HashMap::new(),
        };
        // One wait serves all that were put off.
        if let Some(wait) = answers.values().filter_map(Answer::retry_after).max_by_key(|w| (w.len(), w.clone())) {
            options.service.keep_wait(&url, &wait, &*options.monitor);
        }
        let mut records = Vec::with_capacity(parents.len());
        let (mut refused, mut not_found) = (Vec::new(), Vec::new());
        for (n, parent) in parents.iter().enumerate() {
            match self.list_of(spec, parent, answers.remove(&n)) {
                Ok(record) => {
                    lists.had.fetch_or(spec.version == lists.spec.version, Ordering::Relaxed);
                    records.push(record);
                }
                Err(e @ HttpError::Refused { status: 400 | 404, .. }) => not_found.push((parent, e)),
                Err(e @ (HttpError::Credential { .. } | HttpError::Unreachable { .. } | HttpError::Refused { status: 401, .. })) => {
                    return Err(e);
                }
                Err(e @ HttpError::Refused { status: 403, .. }) => refused.push((parent, e)),
                Err(e) => self.missed(spec, parent, &e),
            }
        }
        records.extend(self.not_found(lists, not_found)?);
        // What all are refused for, the application is; what one is refused for, such as a hidden membership, is its own.
        if !lists.any()
            && let Some((_, error)) = refused.pop()
        {
            return Err(error);
        }
        refused.iter().for_each(|(parent, error)| self.missed(spec, parent, error));
        self.push(spec.folder(), &records);
        options.monitor.event(Event::Listed { records: records.len() as u64 });
        Ok(())
    }

    fn missed(&self, spec: &CollectionSpec, parent: &str, error: &HttpError) {
        let message = format!("{} of {parent} could not be captured: {}", spec.id, advice(error, &spec.permissions, spec.plane));
        self.hole(&path_of(spec.folder(), parent), error.code(), &message);
    }

    /// Lists that the service does not find: their parents are gone, or the version is not served, or nobody knows.
    fn not_found(&self, lists: &Lists<'_>, parents: Vec<(&String, HttpError)>) -> Result<Vec<Record>, HttpError> {
        let mut records = Vec::new();
        // One alone may be new to a replica; where there is no other, nothing better is known.
        let may_be_older = !lists.any() && (parents.len() > 1 || lists.parents == 1) || lists.use_older.load(Ordering::Relaxed);
        for (parent, error) in parents {
            let older = lists.older.as_ref().filter(|_| may_be_older && !lists.had.load(Ordering::Relaxed));
            match older.map(|older| self.list_of(older, parent, None)) {
                Some(Ok(record)) => {
                    records.push(record);
                    if !lists.use_older.swap(true, Ordering::Relaxed) {
                        self.tell_of_older(lists, &error);
                    }
                    continue;
                }
                Some(Err(e @ (HttpError::Credential { .. } | HttpError::Unreachable { .. } | HttpError::Refused { status: 401, .. }))) => {
                    return Err(e);
                }
                // What is said in the other version is said of the parent.
                Some(Err(e @ HttpError::Refused { status: 403, .. })) => {
                    self.missed(lists.spec, parent, &e);
                    continue;
                }
                Some(Err(_)) | None => {}
            }
            // That a list is not found says nothing of the parent: a replica may lag, and what stands between may answer so.
            let gone = match &error {
                HttpError::Refused { status: 404, .. } => self.is_gone(lists.spec, parent)?,
                _ => false,
            };
            if !gone {
                self.missed(lists.spec, parent, &error);
            }
        }
        Ok(records)
    }

    fn tell_of_older(&self, lists: &Lists<'_>, error: &HttpError) {
        let Some(older) = &lists.older else { return };
        let (id, version, instead) = (&older.id, &lists.spec.version, &older.version);
        let message = format!("{id} is not served in {version}, and asked for in {instead}, which may leave some of it out ({error})");
        self.options.monitor.event(Event::Warning(message));
    }

    /// Whether the service itself says that there is no such parent any more.
    fn is_gone(&self, spec: &CollectionSpec, parent: &str) -> Result<bool, HttpError> {
        let options = self.options;
        let Some(above) = options.collections.iter().find(|c| Some(&c.id) == spec.parent.as_ref()) else { return Ok(false) };
        let path = format!("/{}{}/{}", above.version, above.path, component(parent));
        let url = options.service.url(&path, &[("$select", &above.key)]);
        let asked = options.service.get(&url, above.throttle.as_deref(), &*options.monitor, |body| {
            serde_json::from_slice::<Value>(body).map(drop).map_err(|e| e.to_string())
        });
        match asked {
            Ok(()) => Ok(false),
            // Without a code it is not the service that speaks.
            Err(HttpError::Refused { status: 404, code, .. }) => Ok(!code.is_empty()),
            Err(e) => Err(e),
        }
    }

    fn list_of(&self, spec: &CollectionSpec, parent: &str, answer: Option<Answer>) -> Result<Record, HttpError> {
        let url = first_page(self.options, spec, None, &child_path(spec, parent));
        let given = answer.filter(|a| a.status == 200).and_then(|a| Page::parse(a.body?.get().as_bytes()).ok());
        let at = place(&url);
        let mut pages = Pages::new(&self.options.service, url, spec.throttle.as_deref(), &*self.options.monitor);
        let mut list = Vec::new();
        let mut take = |page: &Page| {
            for raw in &page.value {
                let unreadable = |e: serde_json::Error| HttpError::Unreadable { place: at.clone(), what: e.to_string() };
                list.push(serde_json::from_str::<Value>(raw.get()).map_err(unreadable)?);
            }
            Ok(())
        };
        // Whatever was not given in the batch is asked for by itself, with all patience.
        if let Some(page) = given {
            pages.after(&page)?;
            take(&page)?;
        }
        while let Some(page) = pages.next_page()? {
            take(&page)?;
        }
        let mut record = Map::new();
        record.insert("id".into(), parent.into());
        record.insert(spec.gather.clone().unwrap_or_default(), Value::Array(list));
        Ok(keep(parent.to_owned(), Value::Object(record), spec))
    }
}

/// An id stands in an address as one component.
fn component(id: &str) -> String {
    let encoded = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string();
    encoded.replace("%2D", "-").replace("%5F", "_").replace("%2E", ".")
}

fn child_path(spec: &CollectionSpec, id: &str) -> String {
    spec.path.replace("{id}", &component(id))
}
