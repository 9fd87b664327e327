//! Events in order become sealed objects: the main ones, then the late ones.

use std::io;
use std::sync::Mutex;
use std::thread;

use crossbeam_channel::{Sender, bounded};
use jiff::Timestamp;

use super::export::ExportError;
use super::room::Room;
use crate::observe::{Event, Monitor};
use crate::sort::Sorter;
use crate::source::import::{Pointers, event_key};
use crate::store::{Body, LockRequest};
use crate::vault::Writer;
use crate::vault::Written;
use crate::vault::attestation::LogSpan;
use crate::vault::names::{self, RunId, ShortName};
use crate::vault::seal::{self, SEGMENT_PAYLOAD, Tuning};

/// What sealing works with.
pub(super) struct Sealing<'a> {
    pub stream: &'a ShortName,
    pub run: RunId,
    /// The window's first instant, under whose day objects lie.
    pub day: Timestamp,
    pub pointers: Pointers,
    pub writer: &'a Writer,
    pub lock: LockRequest,
    pub level: Option<i32>,
    pub threads: usize,
    pub monitor: &'a dyn Monitor,
}

/// What was sealed.
#[derive(Default)]
pub(super) struct SealedEvents {
    pub spans: Vec<LogSpan>,
    pub events: u64,
    pub late: u64,
}

/// An object's place among the run's (late or not, number), the object, and what is in it.
type Stored = ((bool, usize), Written, LogSpan);

/// Events of one object.
#[derive(Default)]
struct Payload {
    late: bool,
    number: usize,
    bytes: Vec<u8>,
    count: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Sealing<'_> {
    /// Seals all events, whose keys begin with 0 for main and 1 for late ones; gives what reached the store,
    /// also when it failed.
    pub fn all(&self, events: Sorter) -> (Vec<Written>, Result<SealedEvents, ExportError>) {
        let room = match Room::new(self.threads, Tuning::of(self.level, Tuning::Events)) {
            Ok(room) => room,
            Err(e) => return (Vec::new(), Err(e.into())),
        };
        let stored: Mutex<Vec<Stored>> = Mutex::default();
        let failure: Mutex<Option<ExportError>> = Mutex::default();
        let (out, input) = bounded::<Payload>(1);
        let filled = thread::scope(|scope| {
            for _ in 0..self.threads.max(self.writer.ledger.store().parallelism()) {
                let input = input.clone();
                let room = &room;
                let (stored, failure) = (&stored, &failure);
                scope.spawn(move || {
                    let work = || -> Result<(), ExportError> {
                        for payload in &input {
                            let place = (payload.late, payload.number);
                            let (object, span) = self.one(payload, room)?;
                            stored.lock().map(|mut s| s.push((place, object, span))).unwrap_or_default();
                        }
                        Ok(())
                    };
                    if let Err(e) = work() {
                        if let Ok(mut slot) = failure.lock() {
                            slot.get_or_insert(e);
                        }
                        // Whoever waits for room must not wait for ever.
                        input.iter().for_each(drop);
                    }
                });
            }
            drop(input);
            self.fill(events, out)
        });
        let mut stored = stored.into_inner().unwrap_or_default();
        stored.sort_unstable_by_key(|(place, ..)| *place);
        let objects = stored.iter().map(|(_, object, _)| object.clone()).collect();
        if let Some(error) = failure.into_inner().ok().flatten() {
            return (objects, Err(error));
        }
        if let Err(e) = filled {
            return (objects, Err(ExportError::State(e)));
        }
        let mut sealed = SealedEvents::default();
        for ((late, _), _, span) in stored {
            sealed.events += span.count;
            sealed.late += if late { span.count } else { 0 };
            sealed.spans.push(span);
        }
        (objects, Ok(sealed))
    }

    fn fill(&self, events: Sorter, out: Sender<Payload>) -> io::Result<()> {
        let stopped = |_| io::Error::other("sealing stopped");
        let mut payload = Payload::default();
        events.finish(|key, line| {
            let late = key.first() == Some(&1);
            if !payload.bytes.is_empty() && (late != payload.late || payload.bytes.len() + line.len() >= SEGMENT_PAYLOAD) {
                let number = if late == payload.late { payload.number + 1 } else { 0 };
                let full = std::mem::replace(&mut payload, Payload { late, number, ..Payload::default() });
                out.send(full).map_err(stopped)?;
            }
            payload.late = late;
            payload.bytes.extend_from_slice(line);
            payload.bytes.push(b'\n');
            payload.count += 1;
            if let Some(time) = event_key(line, &self.pointers).ok().and_then(|k| k.time) {
                payload.first = Some(payload.first.map_or(time, |first| first.min(time)));
                payload.last = Some(payload.last.map_or(time, |last| last.max(time)));
            }
            Ok(())
        })?;
        if payload.bytes.is_empty() { Ok(()) } else { out.send(payload).map_err(stopped) }
    }

    fn one(&self, payload: Payload, room: &Room) -> Result<(Written, LogSpan), ExportError> {
        let stopped = || ExportError::State(io::Error::other("sealing stopped"));
        let sealed = room.sealing(|frames| seal::seal(&payload.bytes, frames, &self.writer.recipients)).ok_or_else(stopped)??;
        // What was sealed needs its plain bytes no longer.
        let Payload { late, number, bytes, count, first, last } = payload;
        let plain = bytes.len() as u64;
        drop(bytes);
        let name = match late {
            true => names::late_log_object(self.stream, self.day, self.run, number),
            false => names::log_object(self.stream, self.day, self.run, number),
        };
        let size = sealed.bytes.len() as u64;
        let object = room.sending(size, || self.writer.put(&name, Body::Bytes(&sealed.bytes), &sealed.sha256, size, &self.lock))?;
        self.monitor.event(Event::Stored { name: name.clone(), bytes: size });
        self.monitor.event(Event::Done { records: count, bytes: plain });
        Ok((object, LogSpan { name, first, last, count }))
    }
}
