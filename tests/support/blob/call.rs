//! A request taken apart: what it is called, and what it is about.

use hyper::body::Bytes;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

pub struct Call {
    pub method: Method,
    /// As it came, in parts between slashes, not decoded.
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What a request to the account is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Service,
    Container(String),
    Blob(String, String),
    /// Not in the account: tokens, the resource manager, the control.
    Elsewhere,
}

impl Call {
    pub fn new(parts: Parts) -> Self {
        let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let path = parts.uri.path().to_owned();
        Call { method: parts.method, path, query, headers: parts.headers, body: Bytes::new() }
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// All `x-ms-meta-` headers.
    pub fn metadata(&self) -> Vec<(String, String)> {
        let value = |v: &hyper::header::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
        let named = self.headers.iter().filter_map(|(n, v)| Some((n.as_str().strip_prefix("x-ms-meta-")?.to_owned(), value(v))));
        named.collect()
    }

    pub fn version_id(&self) -> Option<&str> {
        self.query("versionid").filter(|v| !v.is_empty())
    }

    /// Asks for a lock or a hold along with the content.
    pub fn wants_lock(&self) -> bool {
        ["x-ms-immutability-policy-until-date", "x-ms-immutability-policy-mode", "x-ms-legal-hold"]
            .iter()
            .any(|h| self.headers.contains_key(*h))
    }

    pub fn decoded_path(&self) -> String {
        decode(&self.path)
    }

    pub fn place(&self, account: &str) -> Place {
        let mut parts = self.path.trim_start_matches('/').splitn(3, '/');
        if parts.next().map(decode).as_deref() != Some(account) {
            return Place::Elsewhere;
        }
        match (parts.next().filter(|c| !c.is_empty()), parts.next().filter(|b| !b.is_empty())) {
            (None, _) => Place::Service,
            (Some(container), None) => Place::Container(decode(container)),
            (Some(container), Some(blob)) => Place::Blob(decode(container), decode(blob)),
        }
    }

    /// The operation, as counters and faults name it.
    pub fn operation(&self, place: &Place) -> &'static str {
        let comp = self.query("comp").unwrap_or_default().to_ascii_lowercase();
        let restype = self.query("restype").unwrap_or_default();
        let container = restype == "container";
        match (place, self.method.as_str(), comp.as_str()) {
            (Place::Elsewhere, ..) => self.elsewhere(),
            (_, "GET" | "HEAD", "properties") if restype == "account" => "GetAccountInformation",
            (Place::Service, "GET", "list") => "ListContainers",
            (Place::Service, "GET", "properties") => "GetBlobServiceProperties",
            (Place::Service, "PUT", "properties") => "SetBlobServiceProperties",
            (Place::Container(_), "PUT", "") if container => "CreateContainer",
            (Place::Container(_), "GET" | "HEAD", "" | "metadata") if container => "GetContainerProperties",
            (Place::Container(_), "DELETE", "") if container => "DeleteContainer",
            (Place::Container(_), "PUT", "lease") if container => "LeaseContainer",
            (Place::Container(_), "PUT", "metadata") if container => "SetContainerMetadata",
            (Place::Container(_), "GET", "list") => "ListBlobs",
            (Place::Blob(..), "PUT", "") if self.headers.contains_key("x-ms-copy-source") => "CopyBlob",
            (Place::Blob(..), "PUT", "") => "PutBlob",
            (Place::Blob(..), "PUT", "block") => "PutBlock",
            (Place::Blob(..), "PUT", "blocklist") => "PutBlockList",
            (Place::Blob(..), "GET", "blocklist") => "GetBlockList",
            (Place::Blob(..), "GET", "") => "GetBlob",
            (Place::Blob(..), "HEAD", "" | "metadata") | (Place::Blob(..), "GET", "metadata") => "HeadBlob",
            (Place::Blob(..), "DELETE", "") => "DeleteBlob",
            (Place::Blob(..), "PUT", "metadata") => "SetBlobMetadata",
            (Place::Blob(..), "PUT", "properties") => "SetBlobProperties",
            (Place::Blob(..), "PUT", "immutabilitypolicies") => "SetImmutabilityPolicy",
            (Place::Blob(..), "DELETE", "immutabilitypolicies") => "DeleteImmutabilityPolicy",
            (Place::Blob(..), "PUT", "legalhold") => "SetLegalHold",
            (Place::Blob(..), "PUT", "tier") => "SetBlobTier",
            (Place::Blob(..), "PUT", "lease") => "LeaseBlob",
            (Place::Blob(..), "PUT", "undelete") => "UndeleteBlob",
            (Place::Blob(..), "GET", "tags") => "GetBlobTags",
            (Place::Blob(..), "PUT", "tags") => "SetBlobTags",
            _ => "Unknown",
        }
    }

    fn elsewhere(&self) -> &'static str {
        let path = self.path.as_str();
        if path.starts_with("/__control") {
            "Control"
        } else if path.starts_with("/metadata/identity") {
            "InstanceToken"
        } else if path.starts_with("/msi/token") {
            "AppServiceToken"
        } else if path.starts_with("/subscriptions") {
            "ResourceManager"
        } else if path.ends_with("/oauth2/v2.0/token") || path.ends_with("/oauth2/token") {
            "Token"
        } else if path.contains("/discovery/") || path.ends_with("/.well-known/openid-configuration") {
            "Discovery"
        } else {
            "Unknown"
        }
    }
}

pub fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}
