//! Answers, and the XML in them.

use std::fmt::Write as _;

use hyper::body::Bytes;
use serde_json::Value;

use super::options::Refusal;

/// An answer before it is sent. The body is in pieces, so that a blob of many blocks is never copied.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<Bytes>,
}

/// What handlers end with: `?` takes a refusal out.
pub type Outcome = Result<Reply, Reply>;

impl Reply {
    pub fn new(status: u16) -> Self {
        Reply { status, ..Self::default() }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn with_if(self, name: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub fn xml(status: u16, text: String) -> Self {
        let mut reply = Reply::new(status).with("content-type", "application/xml");
        reply.body.push(Bytes::from(text));
        reply
    }

    pub fn json(status: u16, value: &Value) -> Self {
        let mut reply = Reply::new(status).with("content-type", "application/json; charset=utf-8");
        reply.body.push(Bytes::from(value.to_string()));
        reply
    }

    /// The service's own way to refuse: a status, a code in the header and the same in XML.
    pub fn error(status: u16, code: &str) -> Self {
        Self::error_with(status, code, message(code), &[])
    }

    pub fn refusal(refusal: &Refusal) -> Self {
        Self::error(refusal.status, &refusal.code)
    }

    pub fn error_with(status: u16, code: &str, message: &str, details: &[(&str, &str)]) -> Self {
        let mut text = format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{}</Code><Message>{}</Message>",
            escape(code),
            escape(message)
        );
        for (name, value) in details {
            write!(text, "<{name}>{}</{name}>", escape(value)).unwrap();
        }
        text.push_str("</Error>");
        Self::xml(status, text).with("x-ms-error-code", code)
    }

    pub fn length(&self) -> u64 {
        self.body.iter().map(|piece| piece.len() as u64).sum()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// The user message of a code, where clients show it.
fn message(code: &str) -> &'static str {
    match code {
        "AuthenticationFailed" => {
            "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature."
        }
        "AuthorizationPermissionMismatch" => "This request is not authorized to perform this operation using this permission.",
        "AuthorizationResourceTypeMismatch" => "This request is not authorized to perform this operation using this resource type.",
        "BlobAlreadyExists" => "The specified blob already exists.",
        "BlobArchived" => "This operation is not permitted on an archived blob.",
        "BlobBeingRehydrated" => "This operation is not permitted because the blob is being rehydrated.",
        "BlobImmutableDueToLegalHold" => "This operation is not permitted as the blob is immutable due to one or more legal holds.",
        "BlobImmutableDueToPolicy" => "This operation is not permitted as the blob is immutable due to a policy.",
        "BlobNotFound" => "The specified blob does not exist.",
        "ConditionNotMet" => "The condition specified using HTTP conditional header(s) is not met.",
        "ContainerAlreadyExists" => "The specified container already exists.",
        "ContainerImmutableStorageWithVersioningEnabled" => {
            "The container has immutable storage with versioning enabled and cannot be deleted by this operation."
        }
        "ContainerNotFound" => "The specified container does not exist.",
        "Crc64Mismatch" => "The CRC64 value specified in the request did not match with the CRC64 value calculated by the server.",
        "InvalidBlockList" => "The specified block list is invalid.",
        "InvalidRange" => "The range specified is invalid for the current size of the resource.",
        "LeaseAlreadyPresent" => "There is already a lease present.",
        "LeaseIdMissing" => "There is currently a lease on the blob and no lease ID was specified in the request.",
        "Md5Mismatch" => "The MD5 value specified in the request did not match with the MD5 value calculated by the server.",
        "NoAuthenticationInformation" => {
            "Server failed to authenticate the request. Please refer to the information in the www-authenticate header."
        }
        "OperationNotAllowedOnRootBlob" => "This operation is not allowed on the root blob.",
        "ServerBusy" => "The server is currently unable to receive requests. Please retry your request.",
        "InternalError" => "Server encountered an internal error. Please try again after some time.",
        _ => "The request was refused.",
    }
}

/// Text for an element or an attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Parsers make a line feed of a bare carriage return.
            '\r' => out.push_str("&#xD;"),
            c => out.push(c),
        }
    }
    out
}

/// An element with a name of a blob. XML has no way to write some characters: then the name is percent-encoded.
pub fn name_element(element: &str, name: &str) -> String {
    let sound = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    if name.chars().all(sound) {
        return format!("<{element}>{}</{element}>", escape(name));
    }
    let encoded = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    format!("<{element} Encoded=\"true\">{encoded}</{element}>")
}

/// The texts of all elements with a name, in order, from XML without comments.
pub fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    let mut out = Vec::new();
    while let Some(at) = rest.find(&open) {
        rest = &rest[at + open.len()..];
        let Some(end) = rest.find(&close) else { break };
        out.push(rest[..end].replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"));
        rest = &rest[end + close.len()..];
    }
    out
}
