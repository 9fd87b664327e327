//! One retry policy for everything that is asked: what is worth another try, how long to wait, when to give up.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::blocking::RequestBuilder;

use super::error::HttpError;
use super::{one_line, with_causes};
use crate::observe::{Event, Monitor};

/// How often a request that gets no answer is sent.
const TRIES: u32 = 6;
/// How often while the service was already found to be gone.
const TRIES_WHEN_GONE: u32 = 2;
/// How long one request waits at most because it is told to.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(900);
/// The first pause before another try.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A wait that a person would notice is told.
const TOLD: Duration = Duration::from_secs(3);
/// The largest answer.
const MAX_BODY: u64 = 256 << 20;

/// How one request ended.
pub(super) enum Answer<T> {
    /// An answer.
    Given(T),
    /// The service asks to wait, perhaps without saying how long.
    Wait(Option<Duration>),
    /// No answer, or none that can be read: worth another try.
    Again(HttpError),
    /// The token was refused: worth another one.
    Token,
}

/// The error that a service's answer is, in either plane's form.
pub(super) fn refusal(place: &str, status: u16, body: &[u8]) -> HttpError {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| value["error"][name].as_str().map(one_line).unwrap_or_default();
    HttpError::Refused { place: place.to_owned(), status, code: text("code"), said: text("message") }
}

/// Sends one request and judges its status and form; `read` makes something of the body.
pub(super) fn answer<T>(
    request: RequestBuilder,
    place: &str,
    read: impl Fn(u16, &[u8]) -> Result<Result<T, HttpError>, String>,
) -> Result<Answer<Result<T, HttpError>>, HttpError> {
    let unreachable = |what: String| HttpError::Unreachable { place: place.to_owned(), what };
    let response = match request.send() {
        Ok(response) => response,
        Err(e) => return Ok(Answer::Again(unreachable(with_causes(&e.without_url())))),
    };
    let status = response.status().as_u16();
    let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(parse_retry_after);
    if waits(status, retry_after) {
        return Ok(Answer::Wait(retry_after));
    }
    let mut body = Vec::new();
    if let Err(e) = response.take(MAX_BODY + 1).read_to_end(&mut body) {
        // The service is there: what is wrong is this answer.
        let what = format!("it broke off: {}", with_causes(&e));
        return Ok(Answer::Again(HttpError::Unreadable { place: place.to_owned(), what }));
    }
    if body.len() as u64 > MAX_BODY {
        return Err(HttpError::Unreadable { place: place.to_owned(), what: format!("it has more than {} MiB", MAX_BODY >> 20) });
    }
    Ok(judged(place, status, retry_after, &body, read))
}

fn waits(status: u16, retry_after: Option<Duration>) -> bool {
    status == 429 || status == 503 && retry_after.is_some()
}

/// Judges an answer's status and form; `read` makes something of the body.
pub(super) fn judged<T>(
    place: &str,
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    read: impl Fn(u16, &[u8]) -> Result<Result<T, HttpError>, String>,
) -> Answer<Result<T, HttpError>> {
    if waits(status, retry_after) {
        return Answer::Wait(retry_after);
    }
    if matches!(status, 408 | 500 | 502 | 503 | 504) {
        return Answer::Again(refusal(place, status, body));
    }
    match read(status, body) {
        Ok(result) => Answer::Given(result),
        Err(what) => {
            let page = body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'<');
            let what = if page { "it is a web page, perhaps a proxy's".to_owned() } else { what };
            Answer::Again(HttpError::Unreadable { place: place.to_owned(), what })
        }
    }
}

/// Reads seconds or a date.
pub(super) fn parse_retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return (seconds >= 0.0 && seconds.is_finite()).then(|| Duration::from_secs_f64(seconds.min(1e6)));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let seconds = at.duration_since(Timestamp::now()).as_secs_f64();
    Some(Duration::from_secs_f64(seconds.clamp(0.0, 1e6)))
}

/// Between a half and the whole of a pause, so that many clients do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().map_or(0.5, |n| f64::from(n) / f64::from(u32::MAX));
    pause.mul_f64(0.5 + random / 2.0)
}

/// How often to try.
pub(super) fn tries(gone: &AtomicBool) -> u32 {
    if gone.load(Ordering::Relaxed) { TRIES_WHEN_GONE } else { TRIES }
}

/// Waits because the service asked for it.
pub(super) fn sleep_as_told(place: &str, wait: Duration, counter: Option<&AtomicU64>, monitor: &dyn Monitor) {
    if wait >= TOLD {
        monitor.event(Event::Note(format!("{place} asks to wait; going on in {} s", wait.as_secs())));
    }
    std::thread::sleep(wait);
    if let Some(counter) = counter {
        counter.fetch_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Tries until there is an answer: waits as told, pauses longer each time where nothing is said.
pub(super) fn attempts<T>(
    place: &str,
    most: u32,
    counter: Option<&AtomicU64>,
    monitor: &dyn Monitor,
    mut one: impl FnMut() -> Result<Answer<T>, HttpError>,
) -> Result<T, HttpError> {
    let mut failures = 0;
    let mut throttles = 0;
    let mut waited = Duration::ZERO;
    loop {
        match one()? {
            Answer::Given(value) => return Ok(value),
            Answer::Token => {}
            Answer::Again(error) => {
                failures += 1;
                if failures >= most {
                    return Err(error);
                }
                std::thread::sleep(jittered(FIRST_PAUSE * 2u32.pow(failures - 1)));
            }
            Answer::Wait(told) => {
                throttles += 1;
                // Some workloads always answer 1 s, or nothing at all: the pause grows all the same.
                let floor = jittered(Duration::from_millis(500) * 2u32.pow(throttles.min(7) - 1));
                let wait = told.map_or(floor * 2, |told| told.max(if throttles > 2 { floor } else { Duration::ZERO }));
                if waited + wait > LONGEST_WAIT {
                    return Err(HttpError::Throttled {
                        place: place.to_owned(),
                        waited_seconds: waited.as_secs(),
                        asks_seconds: wait.as_secs(),
                    });
                }
                sleep_as_told(place, wait, counter, monitor);
                waited += wait;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(parse_retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon"), None);
        assert_eq!(parse_retry_after("-1"), None);
    }
}
