//! What happens, told to whoever listens.
//!
//! The library never prints: it returns values and emits events. The command line turns them into progress
//! bars and warnings, tests into assertions.

use std::sync::Mutex;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// So much work lies ahead, as far as it is known.
    Expect {
        /// Records.
        records: u64,
        /// Bytes.
        bytes: u64,
    },
    /// So many more records were listed by a source that lists before anything is done.
    Listed {
        /// Records.
        records: u64,
    },
    /// So much more is done.
    Done {
        /// Records.
        records: u64,
        /// Bytes.
        bytes: u64,
    },
    /// An object reached the store.
    Stored {
        /// Its name.
        name: String,
        /// Stored bytes.
        bytes: u64,
    },
    /// One record could not be treated as it should be.
    Problem {
        /// Which.
        path: String,
        /// What happened, and what was done about it.
        message: String,
    },
    /// Something that the operator should know.
    Warning(String),
    /// Something that the operator may like to know.
    Note(String),
    /// What is waited for, and how far that is.
    Waiting(String),
}

/// Listens to events, from many threads.
pub trait Monitor: Sync {
    /// Takes one event; must not block for long.
    fn event(&self, event: Event);
}

/// Listens to nothing.
pub struct Silent;

impl Monitor for Silent {
    fn event(&self, _: Event) {}
}

/// Keeps every event.
#[derive(Default)]
pub struct Recording(Mutex<Vec<Event>>);

impl Recording {
    /// What happened so far.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().map(|events| events.clone()).unwrap_or_default()
    }
}

impl Monitor for Recording {
    fn event(&self, event: Event) {
        if let Ok(mut events) = self.0.lock() {
            events.push(event);
        }
    }
}
