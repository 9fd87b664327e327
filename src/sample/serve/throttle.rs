//! The documented limits, by real time.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::sample::kinds::{Bucket, Kind};
use crate::sample::logs::Source;
use crate::sample::reply::{Call, Plane, Reply};
use crate::sample::{Tenant, lock};

/// A bucket that fills by itself.
#[derive(Debug)]
struct Tokens {
    left: f64,
    at: Instant,
    size: f64,
    per_second: f64,
}

impl Tokens {
    fn new(size: f64, per_second: f64) -> Self {
        Self { left: size, at: Instant::now(), size, per_second }
    }

    /// Takes some; otherwise how long it takes until there are enough.
    fn take(&mut self, cost: f64) -> Result<f64, f64> {
        let now = Instant::now();
        self.left = (self.left + now.duration_since(self.at).as_secs_f64() * self.per_second).min(self.size);
        self.at = now;
        if self.left >= cost {
            self.left -= cost;
            return Ok(self.left);
        }
        Err((cost - self.left) / self.per_second)
    }
}

#[derive(Debug)]
struct State {
    identity: Tokens,
    arm: Tokens,
    reports: VecDeque<Instant>,
    access: Option<Instant>,
}

/// How much of each limit is used.
#[derive(Debug)]
pub struct Throttle(Mutex<State>);

/// Requests for reports in [`REPORTS_WINDOW`].
const REPORTS: usize = 5;
const REPORTS_WINDOW: Duration = Duration::from_secs(10);

impl Throttle {
    /// The limits of a tenant of a size.
    pub fn new(users: usize) -> Self {
        let units = match users {
            0..50 => 3500.0,
            50..=500 => 5000.0,
            _ => 8000.0,
        };
        Self(Mutex::new(State {
            identity: Tokens::new(units, units / 10.0),
            arm: Tokens::new(250.0, 25.0),
            reports: VecDeque::new(),
            access: None,
        }))
    }
}

/// The limit that a request counts against.
fn bucket(call: &Call) -> Bucket {
    if call.plane() == Plane::Arm {
        return Bucket::Arm;
    }
    let path = call.path.trim_start_matches('/').split_once('/').map_or("", |(_, path)| path);
    let path = path.strip_suffix("/delta").unwrap_or(path);
    if path.starts_with("auditLogs/") {
        return Bucket::Reports;
    }
    if Source::at_graph_path(path).is_some() {
        return Bucket::Governance;
    }
    if path.starts_with("groups/") {
        return Bucket::Identity(3);
    }
    let parent = path.rsplit_once('/').map_or(path, |(parent, _)| parent);
    Kind::at_graph_path(path).or_else(|| Kind::at_graph_path(parent)).map_or(Bucket::Governance, |kind| kind.rules().bucket)
}

fn units(cost: u32, query: &str) -> u32 {
    let query = query.replace("%24", "$");
    let small = query.split('&').any(|p| p.strip_prefix("$top=").and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n < 20));
    let cost = cost + u32::from(query.contains("$expand="));
    cost.saturating_sub(u32::from(query.contains("$select=")) + u32::from(small)).max(1)
}

/// The refusal of a request that comes too early; or headers that tell how much is left.
pub fn check(tenant: &Tenant, call: &Call, throttle: &Throttle) -> Result<Vec<(&'static str, String)>, Reply> {
    let mut state = lock(&throttle.0);
    let late = |text: &str| Reply::fail(call, tenant.now(), 429, "TooManyRequests", text);
    let seconds = |wait: f64| (wait.ceil().max(1.0) as u64).to_string();
    match bucket(call) {
        Bucket::Governance => Ok(Vec::new()),
        Bucket::Identity(cost) => {
            let cost = units(cost, &call.query);
            let size = state.identity.size;
            match state.identity.take(f64::from(cost)) {
                Ok(left) => {
                    let used = 1.0 - left / size;
                    let mut headers = vec![("x-ms-resource-unit", cost.to_string())];
                    if used >= 0.8 {
                        headers.push(("x-ms-throttle-limit-percentage", format!("{used:.1}")));
                    }
                    Ok(headers)
                }
                Err(wait) => {
                    Err(late("Too many requests.").header("retry-after", seconds(wait)).header("x-ms-throttle-scope", "Tenant_Application"))
                }
            }
        }
        Bucket::Reports => {
            let now = Instant::now();
            while state.reports.front().is_some_and(|at| now.duration_since(*at) >= REPORTS_WINDOW) {
                state.reports.pop_front();
            }
            if state.reports.len() >= REPORTS {
                let wait = state.reports.front().map_or(1.0, |at| (REPORTS_WINDOW.saturating_sub(now.duration_since(*at))).as_secs_f64());
                return Err(late("This request is throttled. Please try again after the value specified in the Retry-After header.")
                    .header("retry-after", seconds(wait)));
            }
            state.reports.push_back(now);
            Ok(Vec::new())
        }
        Bucket::ConditionalAccess => {
            let now = Instant::now();
            if state.access.is_some_and(|at| now.duration_since(at) < Duration::from_secs(1)) {
                // These resources do not say when to come back.
                return Err(late("Too many requests."));
            }
            state.access = Some(now);
            Ok(Vec::new())
        }
        Bucket::Arm => match state.arm.take(1.0) {
            Ok(left) => Ok(vec![("x-ms-ratelimit-remaining-subscription-reads", (left as u64).to_string())]),
            Err(wait) => {
                let text = "Number of requests exceeded the limit of the subscription. Please try again later.";
                Err(late(text).header("retry-after", seconds(wait)))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_the_query() {
        assert_eq!(units(2, ""), 2);
        assert_eq!(units(2, "$select=id"), 1);
        assert_eq!(units(2, "%24select=id&$expand=manager&$top=5"), 1);
        assert_eq!(units(3, "$expand=a"), 4);
    }

    #[test]
    fn a_bucket_runs_dry() {
        let mut tokens = Tokens::new(2.0, 0.001);
        assert!(tokens.take(1.0).is_ok());
        assert!(tokens.take(1.0).is_ok());
        assert!(tokens.take(1.0).is_err());
    }
}
