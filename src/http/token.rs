//! Access tokens of one service: kept, renewed in time, forgotten when they are refused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use azure_core::credentials::AccessToken;
use azure_core::time::OffsetDateTime;

use super::error::HttpError;
use super::identity::Asker;
use super::retry::{attempts, tries};
use crate::observe::Monitor;

/// A token is renewed this long before its end, or at nine tenths of a short life.
const EARLY: Duration = Duration::from_secs(120);

/// A refusal counts for so long.
const REFUSED: Duration = Duration::from_secs(600);

/// A source of tokens for one service.
pub(super) struct Tokens {
    asker: Arc<Asker>,
    /// `<resource>/.default`.
    scope: String,
    held: Mutex<Known>,
}

/// What is known of the credential: a token, or that it is refused.
#[derive(Default)]
struct Known {
    token: Option<Held>,
    /// Asked once; every further question would be one more failed sign-in in the tenant's log.
    refused: Option<(HttpError, Instant)>,
}

struct Held {
    token: AccessToken,
    renew_at: Instant,
}

impl Tokens {
    pub fn new(asker: Arc<Asker>, scope: String) -> Self {
        Self { asker, scope, held: Mutex::default() }
    }

    /// A token that is still good.
    pub fn get(&self, gone: &AtomicBool, monitor: &dyn Monitor) -> Result<AccessToken, HttpError> {
        let mut known = self.held.lock().map_err(|_| HttpError::Setup { what: "a thread failed".into() })?;
        if let Some(held) = known.token.as_ref().filter(|h| Instant::now() < h.renew_at) {
            return Ok(held.token.clone());
        }
        if let Some((refused, _)) = known.refused.as_ref().filter(|(_, since)| since.elapsed() < REFUSED) {
            return Err(refused.clone());
        }
        let asked = attempts(&self.asker.place(), tries(gone), None, monitor, || self.asker.ask(&self.scope));
        let asked = asked.and_then(|given| given).map_err(|e| match e {
            // The metadata service, after so many tries: it is not being updated, it has nothing for us.
            HttpError::Refused { status: 404 | 410, .. } => self.asker.refused(e.to_string()),
            other => other,
        });
        let token = asked.inspect_err(|e| match e {
            HttpError::Credential { .. } => known.refused = Some((e.clone(), Instant::now())),
            // Others wait at the lock: they need not be as patient once more.
            HttpError::Unreachable { .. } => gone.store(true, Ordering::Relaxed),
            _ => {}
        })?;
        let life = Duration::try_from(token.expires_on - OffsetDateTime::now_utc()).unwrap_or_default();
        let renew_at = Instant::now() + life.saturating_sub(EARLY).max(life * 9 / 10);
        known.token = Some(Held { token: token.clone(), renew_at });
        Ok(token)
    }

    /// Forgets a token that the service refused.
    pub fn forget(&self, token: &str) {
        if let Ok(mut known) = self.held.lock()
            && known.token.as_ref().is_some_and(|h| h.token.token.secret() == token)
        {
            known.token = None;
        }
    }
}
