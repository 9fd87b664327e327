//! Access tokens: the OAuth 2.0 client credentials grant of the Microsoft identity platform.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use url::Url;

use super::error::HttpError;
use super::{Credential, attempts, one_line, place, tries};
use crate::observe::Monitor;

/// A token is renewed this long before its end, or at nine tenths of a short life.
const EARLY: Duration = Duration::from_secs(120);

/// A source of tokens for one service.
pub(super) struct Tokens {
    pub authority: Url,
    pub tenant: String,
    /// `<resource>/.default`.
    pub scope: String,
    pub credential: Credential,
    held: Mutex<Known>,
}

/// What is known of the credential: a token, or that it is refused.
#[derive(Default)]
struct Known {
    token: Option<Held>,
    /// Asked once; every further question would be one more failed sign-in in the tenant's log.
    refused: Option<HttpError>,
}

#[derive(Clone)]
struct Held {
    token: String,
    renew_at: Instant,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default = "an_hour")]
    expires_in: u64,
}

fn an_hour() -> u64 {
    3600
}

#[derive(Deserialize)]
struct Denied {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Tokens {
    pub fn new(authority: Url, tenant: String, scope: String, credential: Credential) -> Self {
        Self { authority, tenant, scope, credential, held: Mutex::default() }
    }

    /// A token that is still good.
    pub fn get(&self, http: &reqwest::blocking::Client, gone: &AtomicBool, monitor: &dyn Monitor) -> Result<String, HttpError> {
        let mut known = self.held.lock().map_err(|_| HttpError::Setup { what: "a thread failed".into() })?;
        if let Some(held) = known.token.as_ref().filter(|h| Instant::now() < h.renew_at) {
            return Ok(held.token.clone());
        }
        if let Some(refused) = &known.refused {
            return Err(refused.clone());
        }
        let granted = self.ask(http, tries(gone), monitor).inspect_err(|e| match e {
            HttpError::Credential { .. } => known.refused = Some(e.clone()),
            // Others wait at the lock: they need not be as patient once more.
            HttpError::Unreachable { .. } => gone.store(true, Ordering::Relaxed),
            _ => {}
        })?;
        let life = Duration::from_secs(granted.expires_in);
        let renew_at = Instant::now() + life.saturating_sub(EARLY).max(life * 9 / 10);
        known.token = Some(Held { token: granted.access_token.clone(), renew_at });
        Ok(granted.access_token)
    }

    /// Forgets a token that the service refused.
    pub fn forget(&self, token: &str) {
        if let Ok(mut known) = self.held.lock()
            && known.token.as_ref().is_some_and(|h| h.token == token)
        {
            known.token = None;
        }
    }

    fn ask(&self, http: &reqwest::blocking::Client, tries: u32, monitor: &dyn Monitor) -> Result<Granted, HttpError> {
        let mut url = self.authority.clone();
        url.set_path(&format!("{}/{}/oauth2/v2.0/token", self.authority.path().trim_end_matches('/'), self.tenant));
        let Credential::ClientSecret { client_id, secret } = &self.credential;
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", client_id)
            .append_pair("client_secret", secret.reveal())
            .append_pair("scope", &self.scope)
            .append_pair("grant_type", "client_credentials")
            .finish();
        attempts(&place(&url), tries, None, monitor, || {
            let request = http.post(url.clone()).header("content-type", "application/x-www-form-urlencoded").body(form.clone());
            super::answer(request, &place(&url), |status, body| {
                if status == 200 {
                    return serde_json::from_slice::<Granted>(body).map(Ok).map_err(|e| e.to_string());
                }
                let denied: Denied = serde_json::from_slice(body).map_err(|e| e.to_string())?;
                let said = if denied.error_description.is_empty() { denied.error } else { denied.error_description };
                Ok(Err(HttpError::Credential {
                    authority: place(&self.authority),
                    tenant: self.tenant.clone(),
                    client_id: client_id.clone(),
                    said: one_line(&said),
                }))
            })
        })?
    }
}
