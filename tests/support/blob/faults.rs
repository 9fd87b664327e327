//! What goes wrong on purpose.

use serde::{Deserialize, Serialize};

/// One fault and when it strikes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// Only this operation, such as `PutBlob`.
    #[serde(default)]
    pub operation: Option<String>,
    /// Only where the path, decoded, holds this.
    #[serde(default)]
    pub name: Option<String>,
    /// Lets so many matching requests pass first.
    #[serde(default)]
    pub skip: u64,
    /// Strikes so often; 0 is for ever.
    #[serde(default = "once")]
    pub times: u64,
    #[serde(flatten)]
    pub kind: Kind,
}

fn once() -> u64 {
    1
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Kind {
    /// Does the work, then drops the connection without an answer.
    LostResponse,
    /// Resets the connection and does no work.
    Reset,
    /// Answers this instead of working: 429, 500, 503, 403 and so on.
    Status {
        status: u16,
        code: String,
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// Waits before the work.
    Slow { ms: u64 },
    /// Changes one byte of the answered body.
    FlipByte {
        #[serde(default)]
        at: u64,
    },
    /// Sends so many bytes of the body, then drops the connection.
    Truncate { at: u64 },
    /// Moves the `Date` header, and only that.
    DateOffset { seconds: i64 },
    /// A proxy wants a login: 200 or 302, HTML, none of the service's headers.
    ProxyPage { status: u16 },
}

impl Fault {
    /// Strikes all requests, once.
    pub fn once(kind: Kind) -> Self {
        Fault { operation: None, name: None, skip: 0, times: 1, kind }
    }

    pub fn on(mut self, operation: &str) -> Self {
        self.operation = Some(operation.to_owned());
        self
    }

    pub fn named(mut self, part: &str) -> Self {
        self.name = Some(part.to_owned());
        self
    }

    pub fn after(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// 0 is for ever.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    fn matches(&self, operation: &str, path: &str) -> bool {
        self.operation.as_deref().is_none_or(|o| o == operation) && self.name.as_deref().is_none_or(|n| path.contains(n))
    }
}

/// The faults that strike a request; spent ones go.
pub fn strike(faults: &mut Vec<Fault>, operation: &str, path: &str) -> Vec<Kind> {
    let mut out = Vec::new();
    faults.retain_mut(|fault| {
        if !fault.matches(operation, path) {
            return true;
        }
        if fault.skip > 0 {
            fault.skip -= 1;
            return true;
        }
        out.push(fault.kind.clone());
        match fault.times {
            0 => true,
            1 => false,
            _ => {
                fault.times -= 1;
                true
            }
        }
    });
    out
}
