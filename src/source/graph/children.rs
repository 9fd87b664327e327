//! Lists that are asked for each record of another collection, twenty at a time by `$batch`.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use url::Url;

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

impl Capture<'_> {
    /// Gathers the lists of all parents, each into one record.
    pub fn children(&self, spec: &CollectionSpec, parents: Vec<String>) {
        let _span = tracing::info_span!(parent: &self.span, "collection", collection = spec.id).entered();
        let batches: VecDeque<Vec<String>> = parents.chunks(BATCH).map(<[String]>::to_vec).collect();
        let stopped = AtomicBool::new(false);
        let count = batches.len();
        let batches = Mutex::new(batches);
        thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(count) {
                scope.spawn(|| {
                    let next = || batches.lock().ok()?.pop_front();
                    while let Some(batch) = next() {
                        if stopped.load(Ordering::Relaxed) {
                            return;
                        }
                        if let Err(error) = self.batch(spec, &batch) {
                            // What one is refused for, all are.
                            if !stopped.swap(true, Ordering::Relaxed) {
                                self.fail(&format!("{}/", spec.folder()), spec, &error);
                            }
                        }
                    }
                });
            }
        });
    }

    /// An error here is one of the whole collection.
    fn batch(&self, spec: &CollectionSpec, parents: &[String]) -> Result<(), HttpError> {
        let options = self.options;
        let root = options.service.url(&format!("/{}", spec.version), &[]);
        let urls: Vec<Url> = parents.iter().map(|id| first_page(options, spec, None, &child_path(spec, id))).collect();
        let relative = |url: &Url| url.as_str()[root.as_str().len()..].to_owned();
        let requests: Vec<Value> =
            urls.iter().enumerate().map(|(n, url)| json!({ "id": n.to_string(), "method": "GET", "url": relative(url) })).collect();
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
        for (n, (parent, url)) in parents.iter().zip(urls).enumerate() {
            match self.one(spec, parent, url, answers.remove(&n)) {
                Ok(record) => records.extend(record),
                Err(e @ (HttpError::Credential { .. } | HttpError::Unreachable { .. } | HttpError::Refused { status: 401 | 403, .. })) => {
                    return Err(e);
                }
                Err(e) => {
                    let message = format!("{} of {parent} could not be captured: {}", spec.id, advice(&e, &spec.permissions, spec.plane));
                    self.hole(&path_of(spec.folder(), parent), e.code(), &message);
                }
            }
        }
        self.push(spec.folder(), &records);
        options.monitor.event(Event::Listed { records: records.len() as u64 });
        Ok(())
    }

    /// One parent's list; `None` when the parent is gone.
    fn one(&self, spec: &CollectionSpec, parent: &str, url: Url, answer: Option<Answer>) -> Result<Option<Record>, HttpError> {
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
        loop {
            match pages.next_page() {
                Ok(Some(page)) => take(&page)?,
                Ok(None) => break,
                Err(HttpError::Refused { status: 404, .. }) => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        let mut record = Map::new();
        record.insert("id".into(), parent.into());
        record.insert(spec.gather.clone().unwrap_or_default(), Value::Array(list));
        Ok(Some(keep(parent.to_owned(), Value::Object(record), spec)))
    }
}

/// An id stands in an address as one component.
fn child_path(spec: &CollectionSpec, id: &str) -> String {
    let encoded = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string();
    spec.path.replace("{id}", &encoded.replace("%2D", "-").replace("%5F", "_").replace("%2E", "."))
}
