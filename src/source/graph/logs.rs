//! Reading a log over HTTP: every event of a span of time, as it was sent.
//!
//! It promises: all pages of the span were read, or the whole fails; an event's bytes are the service's own
//! without white space outside strings. Which events are new is for others to say.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::subscriptions::Survey;
use super::{Subscriptions, advice};
use crate::http::{HttpError, Page, Pages, Service};
use crate::observe::{Event, Monitor};
use crate::source::catalog::{LogSpec, Plane, Scope};
use crate::source::import::{EventKey, ImportError, Pointers, RawChunk, event_key, normalise};

/// One log of one tenant.
pub struct LogReader {
    /// What the catalog says of it.
    pub spec: LogSpec,
    /// The service that answers.
    pub service: Arc<Service>,
    /// Of Azure: which subscriptions.
    pub subscriptions: Subscriptions,
    /// What the readings found out.
    pub found: Mutex<Found>,
}

/// What readings found out of subscriptions.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Those that the last one knew of: to be given as earlier ones to the next.
    pub seen: Vec<String>,
    /// Those that are shown no more: their events were not read.
    pub lost: Vec<String>,
}

/// A span of time, both ends inclusive as the services read them.
#[derive(Debug, Clone, Copy)]
pub struct LogQuery {
    /// First instant.
    pub from: Timestamp,
    /// Last instant.
    pub to: Timestamp,
}

/// One event.
#[derive(Debug)]
pub struct RawEvent<'a> {
    /// The JSON object, without white space outside strings and without a line end.
    pub line: &'a [u8],
    /// Its id and time.
    pub key: EventKey,
}

/// Why a log was not read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The service did not give it.
    #[error("{said}")]
    Service {
        /// With what a person can do about it.
        said: String,
        /// The cause.
        error: HttpError,
    },
    /// An event is not what it should be.
    #[error("{log}: an event cannot be read: {problem}")]
    Event {
        /// Which log.
        log: String,
        /// What is wrong.
        problem: ImportError,
    },
    /// Whoever takes the events failed.
    #[error(transparent)]
    Taking(#[from] io::Error),
}

impl LogReader {
    /// Where an event's id and time are.
    pub fn pointers(&self) -> Result<Pointers, ImportError> {
        Pointers::new(vec![self.spec.key.clone()], vec![self.spec.time.clone()])
    }

    /// Gives every event of a span, in the service's order; a log without a filter gives all that it has.
    pub fn read(
        &self,
        query: LogQuery,
        monitor: &dyn Monitor,
        each: &mut dyn FnMut(RawEvent<'_>) -> io::Result<()>,
    ) -> Result<u64, LogError> {
        let pointers = self.pointers().map_err(|problem| LogError::Event { log: self.spec.id.clone(), problem })?;
        let failed = |error: HttpError| LogError::Service { said: advice(&error, &self.spec.permissions, self.spec.plane), error };
        let scopes = match self.spec.scope {
            Scope::Tenant => vec![None],
            Scope::Subscriptions => {
                let survey = Survey::make(&self.service, &self.subscriptions, monitor).map_err(failed)?;
                let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                for (subscription, error) in &survey.lost {
                    if !found.lost.contains(subscription) {
                        let said = advice(error, &self.spec.permissions, self.spec.plane);
                        let message = format!("the subscription {subscription} is shown no more, and its events are not exported: {said}");
                        monitor.event(Event::Warning(message));
                        found.lost.push(subscription.clone());
                    }
                }
                found.seen = survey.there.iter().chain(survey.lost.iter().map(|(id, _)| id)).cloned().collect();
                drop(found);
                survey.there.into_iter().map(Some).collect()
            }
        };
        let mut bytes = 0;
        for scope in scopes {
            let pages = Pages::new(&self.service, self.first_page(scope.as_deref(), query), self.spec.throttle.as_deref(), monitor);
            pages.for_each(|page| self.events(&page, &pointers, &mut bytes, each)).map_err(failed)??;
        }
        Ok(bytes)
    }

    fn first_page(&self, subscription: Option<&str>, query: LogQuery) -> url::Url {
        let spec = &self.spec;
        let filter = spec.filter.as_ref().map(|f| f.replace("{from}", &query.from.to_string()).replace("{to}", &query.to.to_string()));
        let top = spec.page_size.map(|n| n.to_string());
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        let path = match spec.plane {
            Plane::Graph => format!("/{}{}", spec.version, spec.path),
            Plane::Arm => {
                pairs.push(("api-version", &spec.version));
                subscription.map_or_else(|| spec.path.clone(), |id| format!("/subscriptions/{id}{}", spec.path))
            }
        };
        pairs.extend(filter.as_deref().map(|filter| ("$filter", filter)));
        pairs.extend(top.as_deref().map(|top| ("$top", top)));
        self.service.url(&path, &pairs)
    }

    fn events(
        &self,
        page: &Page,
        pointers: &Pointers,
        bytes: &mut u64,
        each: &mut dyn FnMut(RawEvent<'_>) -> io::Result<()>,
    ) -> Result<(), LogError> {
        let unreadable = |problem| LogError::Event { log: self.spec.id.clone(), problem };
        let mut data = Vec::new();
        for raw in &page.value {
            *bytes += raw.get().len() as u64;
            let start = data.len();
            data.extend_from_slice(raw.get().as_bytes());
            // A line feed in valid JSON stands outside strings.
            data[start..].iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
            data.push(b'\n');
        }
        let batch = normalise(&RawChunk { data, first_line: 1 }, pointers).map_err(unreadable)?;
        for line in batch.ndjson.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            each(RawEvent { line, key: event_key(line, pointers).map_err(unreadable)? })?;
        }
        Ok(())
    }
}
