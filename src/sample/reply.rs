//! One request and its answer, before they become HTTP; a batch holds several of both.

use serde_json::{Value, json};

use super::instant::seconds_text;
use super::rng::guid;

/// Whose manners an answer follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// Microsoft Graph.
    Graph,
    /// Azure Resource Manager.
    Arm,
}

/// A request.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// `GET`, `POST`
    pub method: String,
    /// Percent-decoded, from the first slash.
    pub path: String,
    /// What follows the question mark, as it came.
    pub query: String,
    /// `http://host:port`
    pub base: String,
    /// The bearer token.
    pub bearer: Option<String>,
    /// `ConsistencyLevel: eventual`
    pub eventual: bool,
    /// `client-request-id`
    pub client_request_id: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether it comes from this machine.
    pub local: bool,
    /// Whether it stands inside a batch.
    pub nested: bool,
}

impl Call {
    /// A request for a path with its query, from this machine: for programs that hold the tenant in their hands.
    pub fn get(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: "GET".into(),
            path: percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned(),
            query: query.into(),
            base: "http://127.0.0.1".into(),
            local: true,
            ..Self::default()
        }
    }

    /// Whose manners the answer follows.
    pub fn plane(&self) -> Plane {
        if self.path.starts_with("/v1.0/") || self.path.starts_with("/beta/") { Plane::Graph } else { Plane::Arm }
    }

    /// The address that was asked.
    pub fn url(&self) -> String {
        let path = self.encoded_path();
        if self.query.is_empty() { format!("{}{path}", self.base) } else { format!("{}{path}?{}", self.base, self.query) }
    }

    /// The path as it stands in an address.
    pub fn encoded_path(&self) -> String {
        const KEEP: &percent_encoding::AsciiSet =
            &percent_encoding::CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`').add(b'{').add(b'}');
        percent_encoding::utf8_percent_encode(&self.path, KEEP).to_string()
    }
}

/// What happens to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wire {
    /// The answer is sent.
    #[default]
    Whole,
    /// Half the body is sent, then the connection ends.
    Half,
    /// The connection ends without an answer.
    Nothing,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The media type.
    pub media: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// What happens to the connection.
    pub wire: Wire,
    /// Milliseconds to wait before it is sent.
    pub wait: u64,
}

/// JSON as Microsoft Graph labels it.
const JSON: &str = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8";

impl Reply {
    /// A body of JSON text.
    pub fn json_text(status: u16, body: Vec<u8>) -> Self {
        Self { status, media: JSON, headers: Vec::new(), body, wire: Wire::Whole, wait: 0 }
    }

    /// A body of JSON.
    pub fn json(status: u16, value: &Value) -> Self {
        Self::json_text(status, serde_json::to_vec(value).unwrap_or_default())
    }

    /// Lines of JSON.
    pub fn lines(body: Vec<u8>) -> Self {
        Self { media: "application/x-ndjson", ..Self::json_text(200, body) }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// An error in the manner of the plane.
    pub fn fail(call: &Call, now: i64, status: u16, code: &str, message: &str) -> Self {
        let value = match call.plane() {
            Plane::Arm => json!({"error": {"code": code, "message": message}}),
            Plane::Graph => {
                let id = guid(now as u64, "request", now as u64);
                let client = call.client_request_id.clone().unwrap_or_else(|| id.clone());
                let date = seconds_text(now).trim_end_matches('Z').to_owned();
                json!({"error": {"code": code, "message": message, "innerError": {"date": date, "request-id": id, "client-request-id": client}}})
            }
        };
        Self::json(status, &value)
    }
}
