//! Pages: following links until there is none, on one host, without going round in circles.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::Digest as _;
use url::Url;

use super::error::HttpError;
use super::{Service, place};
use crate::observe::Monitor;

/// How many pages without a record may follow one another.
const EMPTY_PAGES: u32 = 1000;

/// One page of a list; Graph's or Azure Resource Manager's.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// The records as they were sent.
    pub value: Vec<Box<RawValue>>,
    #[serde(rename = "@odata.nextLink", default)]
    graph_next: Option<String>,
    #[serde(rename = "nextLink", default)]
    arm_next: Option<String>,
}

impl Page {
    /// Reads a page, or says what it is instead.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|e| format!("it is no page of records: {e}"))
    }

    /// Where the next page is.
    pub fn next(&self) -> Option<&str> {
        self.graph_next.as_deref().or(self.arm_next.as_deref()).filter(|link| !link.is_empty())
    }
}

/// The pages of one list, in order.
pub struct Pages<'a> {
    service: &'a Service,
    workload: Option<&'a str>,
    monitor: &'a dyn Monitor,
    next: Option<Url>,
    place: String,
    links: HashSet<[u8; 16]>,
    contents: HashSet<[u8; 16]>,
    empty: u32,
}

impl<'a> Pages<'a> {
    /// Begins at an address.
    pub fn new(service: &'a Service, first: Url, workload: Option<&'a str>, monitor: &'a dyn Monitor) -> Self {
        let place = place(&first);
        let links = HashSet::from([digest(first.as_str().as_bytes())]);
        Self { service, workload, monitor, next: Some(first), place, links, contents: HashSet::new(), empty: 0 }
    }

    /// Goes on after a page that came otherwise.
    pub fn after(&mut self, page: &Page) -> Result<(), HttpError> {
        self.next = None;
        let endless = |what: &str| HttpError::EndlessPages { place: self.place.clone(), what: what.to_owned() };
        match page.value.first() {
            None => {
                self.empty += 1;
                if self.empty > EMPTY_PAGES {
                    return Err(endless("a thousand in a row are empty"));
                }
            }
            Some(_) => {
                self.empty = 0;
                let mut hash = sha2::Sha256::new();
                page.value.iter().for_each(|record| hash.update(record.get()));
                if !self.contents.insert(short(&hash.finalize())) && page.next().is_some() {
                    return Err(endless("a page came twice"));
                }
            }
        }
        let Some(link) = page.next() else { return Ok(()) };
        let unreadable = |what: String| HttpError::Unreadable { place: self.place.clone(), what };
        let url = self.service.endpoint.join(link).map_err(|e| unreadable(format!("its link to the next page is no address: {e}")))?;
        if url.origin() != self.service.endpoint.origin() {
            let host = url.origin().ascii_serialization();
            return Err(HttpError::ForeignLink { place: self.place.clone(), host });
        }
        if !self.links.insert(digest(url.as_str().as_bytes())) {
            return Err(endless("a page links to one that was read"));
        }
        self.next = Some(url);
        Ok(())
    }

    /// The next page.
    pub fn next_page(&mut self) -> Result<Option<Page>, HttpError> {
        let Some(url) = self.next.take() else { return Ok(None) };
        let page = self.service.get(&url, self.workload, self.monitor, Page::parse)?;
        self.after(&page)?;
        Ok(Some(page))
    }
}

fn digest(bytes: &[u8]) -> [u8; 16] {
    short(&sha2::Sha256::digest(bytes))
}

fn short(digest: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&digest[..16]);
    out
}

impl Pages<'_> {
    /// Gives every page in order; the next one is on its way while one is read. Ends at the first error of
    /// either side.
    pub fn for_each<E: Send>(mut self, mut each: impl FnMut(Page) -> Result<(), E>) -> Result<Result<(), E>, HttpError> {
        let (out, input) = crossbeam_channel::bounded::<Page>(1);
        std::thread::scope(|scope| {
            let fetching = scope.spawn(move || {
                while let Some(page) = self.next_page()? {
                    // The reader gave up, and says why.
                    if out.send(page).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            let read = input.iter().try_for_each(&mut each);
            drop(input);
            let fetched = fetching.join().map_err(|_| HttpError::Setup { what: "a thread failed".into() })?;
            match read {
                Err(e) => Ok(Err(e)),
                Ok(()) => fetched.map(Ok),
            }
        })
    }
}
