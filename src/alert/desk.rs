//! The desk: the open alerts of one vault, kept where whoever takes over finds them, and delivered by one agent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::book::Book;
use super::courier::Courier;
use super::{Alert, Condition};
use crate::store::{LEASE, LeaseToken, Leases, StoreError, replace};

/// The lease of whoever sends the alerts, with the open ones as its note.
const DESK: &str = "alerts";
/// The lease of what people acknowledged.
const ACKNOWLEDGED: &str = "alerts-acknowledged";
/// The lease is asked for, or renewed, this often.
const RENEW: Duration = Duration::from_secs(20);
/// People are asked for this often.
const ASK: Duration = Duration::from_secs(10);
/// The file of the open alerts.
const ALERTS: &str = "alerts.json";
/// A note is no longer than this, in bytes.
const LARGEST: usize = 800_000;
/// What people acknowledged is kept so many times.
const MOST_KEPT: usize = 200;

/// That somebody acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Of which alert.
    pub id: String,
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Where the open alerts are kept.
pub enum Keeper {
    /// With a lease that several agents share.
    Shared {
        /// The leases.
        leases: Arc<dyn Leases>,
        /// Held by this agent.
        token: Option<LeaseToken>,
        /// When it was last renewed or asked for.
        asked: Option<Duration>,
        /// Since when nobody can be asked for it.
        failing: Option<Duration>,
        /// Whether alerts are sent without it, because nobody can be asked.
        alone: bool,
    },
    /// In files of this one.
    Own {
        /// Their directory.
        dir: PathBuf,
    },
}

impl Keeper {
    /// With a lease.
    pub fn shared(leases: Arc<dyn Leases>) -> Self {
        Self::Shared { leases, token: None, asked: None, failing: None, alone: false }
    }

    /// Whether this agent sends alerts now, and whether it took the lease just now.
    fn leads(&mut self, steady: Duration) -> (bool, bool) {
        let Self::Shared { leases, token, asked, failing, alone } = self else { return (true, false) };
        if asked.is_some_and(|asked| steady.saturating_sub(asked) < RENEW) {
            return (token.is_some() || *alone, false);
        }
        *asked = Some(steady);
        let before = token.is_some();
        let answer = match token.as_ref() {
            Some(own) => leases.renew(DESK, own).map(|kept| kept.then(|| own.clone())),
            None => leases.acquire(DESK),
        };
        match answer {
            Ok(own) => {
                *token = own;
                (*failing, *alone) = (None, false);
            }
            // Whoever cannot be asked for so long may be nobody: an alert that comes twice is better than none.
            Err(_) => {
                let since = *failing.get_or_insert(steady);
                *alone = steady.saturating_sub(since) >= LEASE * 2;
            }
        }
        (token.is_some() || *alone, token.is_some() && !before)
    }

    /// The alerts as they were kept, if they ever were; what cannot be read now may be there.
    fn load(&self) -> Result<Kept, StoreError> {
        let bytes = match self {
            Self::Shared { leases, .. } => leases.note(DESK)?,
            Self::Own { dir } => read_own(dir, ALERTS)?,
        };
        Ok(match bytes {
            None => Kept::Nothing,
            Some(bytes) => serde_json::from_slice(&bytes).map_or(Kept::Damaged, Kept::Book),
        })
    }

    /// Keeps them; false where that could not be done.
    fn save(&self, book: &Book) -> bool {
        let mut book = book.clone();
        let bytes = loop {
            let Ok(bytes) = serde_json::to_vec(&book) else { return false };
            // The oldest that nobody takes makes room for the newest.
            if bytes.len() <= LARGEST || book.outbox.is_empty() {
                break bytes;
            }
            book.outbox.remove(0);
        };
        match self {
            Self::Shared { leases, token: Some(token), .. } => matches!(leases.set_note(DESK, token, &bytes), Ok(true)),
            Self::Shared { .. } => false,
            Self::Own { dir } => replace(&dir.join(ALERTS), &bytes, true).is_ok(),
        }
    }

    fn acknowledged(&self) -> Result<Vec<Acknowledgement>, StoreError> {
        let bytes = match self {
            Self::Shared { leases, .. } => leases.note(ACKNOWLEDGED)?,
            Self::Own { dir } => read_own(dir, "acknowledged.json")?,
        };
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    /// Says that somebody acts; whoever sends the alerts hears of it within seconds. False while somebody else says so.
    pub fn acknowledge(&self, acknowledgement: Acknowledgement) -> Result<bool, StoreError> {
        let with = |mut all: Vec<Acknowledgement>| {
            all.push(acknowledgement);
            let first = all.len().saturating_sub(MOST_KEPT);
            serde_json::to_vec(&all[first..]).unwrap_or_default()
        };
        match self {
            Self::Shared { leases, .. } => {
                let Some(token) = leases.acquire(ACKNOWLEDGED)? else { return Ok(false) };
                let noted = self.acknowledged().and_then(|all| leases.set_note(ACKNOWLEDGED, &token, &with(all)));
                leases.release(ACKNOWLEDGED, &token)?;
                noted
            }
            Self::Own { dir } => {
                let failed = |source| StoreError::Io { operation: "write", path: dir.clone(), source };
                let lock = std::fs::File::options().create(true).write(true).truncate(false).open(dir.join("acknowledged.lock"));
                let lock = lock.map_err(failed)?;
                rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
                let bytes = with(self.acknowledged()?);
                replace(&dir.join("acknowledged.json"), &bytes, true).map_err(failed).map(|()| true)
            }
        }
    }

    /// The open alerts as they were last kept; none where nobody ever kept any.
    pub fn open(&self) -> Result<Option<Vec<Alert>>, StoreError> {
        match self.load()? {
            Kept::Book(book) => Ok(Some(book.open().into_iter().cloned().collect())),
            Kept::Nothing => Ok(None),
            Kept::Damaged => {
                let source = std::io::Error::new(std::io::ErrorKind::InvalidData, "they are damaged");
                Err(StoreError::Io { operation: "read", path: "the open alerts".into(), source })
            }
        }
    }
}

/// What was kept.
enum Kept {
    Book(Book),
    Nothing,
    Damaged,
}

fn read_own(dir: &std::path::Path, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    match std::fs::read(dir.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Io { operation: "read", path: dir.join(name), source }),
    }
}

/// The desk.
pub struct Desk {
    keeper: Keeper,
    courier: Courier,
    book: Book,
    begun: bool,
    /// What is in the book could not be kept yet.
    dirty: bool,
    /// When it was last asked who acts.
    asked: Option<Duration>,
    /// What another agent that sends them kept as open, and when that was read.
    elsewhere: (Vec<Alert>, Option<Duration>),
    vault: String,
}

impl Desk {
    /// A desk for a vault.
    pub fn new(keeper: Keeper, courier: Courier, vault: String) -> Self {
        Self { keeper, courier, book: Book::default(), begun: false, dirty: false, asked: None, elsewhere: Default::default(), vault }
    }

    /// Its channels.
    pub fn courier(&mut self) -> &mut Courier {
        &mut self.courier
    }

    /// Takes what is wrong now and does what is to be done about it; says what channels refused. Unless it is `certain`
    /// that nothing else is wrong, no alert ends.
    pub fn attend(&mut self, now: Timestamp, steady: Duration, conditions: &[Condition], certain: bool) -> Vec<String> {
        let mut told = Vec::new();
        let (leads, new) = self.keeper.leads(steady);
        if !leads {
            self.book = Book::default();
            (self.begun, self.dirty) = (false, false);
            self.look_elsewhere(steady);
            return Vec::new();
        }
        if new || !self.begun {
            // What cannot be read now must not be written over.
            let Ok(kept) = self.keeper.load() else { return Vec::new() };
            (self.book, self.begun) = match kept {
                Kept::Book(book) => (book, true),
                Kept::Nothing => (Book::default(), true),
                Kept::Damaged => {
                    told.push("what was kept of open alerts is damaged: those that were not delivered yet are lost".to_owned());
                    (Book::default(), true)
                }
            };
        }
        let before = self.book.clone();
        if self.asked.is_none_or(|asked| steady.saturating_sub(asked) >= ASK) {
            self.asked = Some(steady);
            for ack in self.keeper.acknowledged().unwrap_or_default() {
                if let Some(message) = self.book.acknowledge(&ack.id, &ack.by, ack.at, &self.vault) {
                    self.courier.post(&mut self.book, &message);
                }
            }
        }
        let mut all = conditions.to_vec();
        all.extend(self.courier.conditions(&self.book));
        if let Some(message) = self.book.update(now, &all, certain, &self.vault) {
            self.courier.post(&mut self.book, &message);
        }
        told.extend(self.courier.deliver(&mut self.book, now, certain));
        self.dirty |= self.book != before;
        self.dirty = self.dirty && !self.keeper.save(&self.book);
        told
    }

    /// Reads what is open by the agent that sends the alerts; what cannot be read now stays as it was.
    fn look_elsewhere(&mut self, steady: Duration) {
        if self.elsewhere.1.is_none_or(|read| steady.saturating_sub(read) >= RENEW)
            && let Ok(open) = self.keeper.open()
        {
            self.elsewhere = (open.unwrap_or_default(), Some(steady));
        }
    }

    /// Whether this agent sends the alerts.
    pub fn sends(&self) -> bool {
        self.begun
    }

    /// The open alerts, the worst first; where another agent sends them, as that one kept them some seconds ago.
    pub fn open(&self) -> Vec<Alert> {
        if self.begun { self.book.open().into_iter().cloned().collect() } else { self.elsewhere.0.clone() }
    }

    /// When it is to be attended to again.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.book.next(now).into_iter().chain(self.courier.next(&self.book)).min()
    }

    /// Lets what is under way end, for so long at most; what is not delivered is kept.
    pub fn close(&mut self, patience: Duration) {
        let end = std::time::Instant::now() + patience;
        while self.courier.is_busy() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
            let before = self.book.clone();
            self.courier.settle(&mut self.book);
            self.dirty |= self.book != before;
        }
        if self.dirty {
            self.keeper.save(&self.book);
        }
        if let Keeper::Shared { leases, token: Some(token), .. } = &self.keeper {
            let _ = leases.release(DESK, token);
        }
    }
}
