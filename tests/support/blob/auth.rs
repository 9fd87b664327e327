//! Who may do what: shared access signatures, bearer tokens, and the rights of each.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::call::{Call, Place};
use super::instants;
use super::options::{Options, Role};
use super::reply::Reply;
use super::state::State;
use super::sums;

/// Versions whose string to sign this is.
const SIGNED_VERSION: &str = "2022-11-02";

/// Who asks.
#[derive(Clone, Debug)]
pub enum Caller {
    /// The letters of a signature, and the types of resources that it is for.
    Sas {
        letters: String,
        types: String,
    },
    Token(Role),
}

impl Caller {
    /// Whether existing content may be replaced; the letter `c` alone makes new blobs only.
    pub fn may_overwrite(&self) -> bool {
        match self {
            Caller::Sas { letters, .. } => letters.contains('w'),
            Caller::Token(_) => true,
        }
    }
}

/// A query string that signs for the account, or for one container or blob (`container`, `container/blob`).
pub fn sas(options: &Options, resource: Option<&str>, letters: &str, starts: Timestamp, ends: Timestamp) -> String {
    let instant = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut fields = vec![("sv", SIGNED_VERSION.to_owned())];
    match resource {
        None => fields.extend([("ss", "b".to_owned()), ("srt", "sco".to_owned())]),
        Some(r) => fields.push(("sr", if r.contains('/') { "b" } else { "c" }.to_owned())),
    }
    fields.extend([("sp", letters.to_owned()), ("st", instant(starts)), ("se", instant(ends)), ("spr", "https,http".to_owned())]);
    let field = |name: &str| fields.iter().find(|(n, _)| *n == name).map_or("", |(_, v)| v.as_str());
    let text = string_to_sign(&options.account, resource.unwrap_or_default(), field);
    let signature = sign(options, &text);
    let encode = |v: &str| percent_encoding::utf8_percent_encode(v, percent_encoding::NON_ALPHANUMERIC).to_string();
    let mut out = String::new();
    for (name, value) in fields.iter().map(|(n, v)| (*n, v.as_str())).chain([("sig", signature.as_str())]) {
        write!(out, "{}{name}={}", if out.is_empty() { "" } else { "&" }, encode(value)).unwrap();
    }
    out
}

fn sign(options: &Options, text: &str) -> String {
    sums::base64(&sums::hmac_sha256(&sums::from_base64(&options.account_key).unwrap_or_default(), text.as_bytes()))
}

/// As documented for versions from 2020-12-06, of an account SAS (`srt` is there) and of a service SAS.
fn string_to_sign<'a>(account: &str, resource: &str, field: impl Fn(&str) -> &'a str) -> String {
    if !field("srt").is_empty() {
        let fields = ["sp", "ss", "srt", "st", "se", "sip", "spr", "sv", "ses"];
        return fields.iter().fold(format!("{account}\n"), |text, name| text + field(name) + "\n");
    }
    let canonical = format!("/blob/{account}/{resource}");
    let first = ["sp", "st", "se"].map(&field);
    let last = ["si", "sip", "spr", "sv", "sr", "snapshot", "ses", "rscc", "rscd", "rsce", "rscl", "rsct"].map(&field);
    [first.join("\n"), canonical, last.join("\n")].join("\n")
}

/// Who a request to the account comes from, or why it is not let in.
pub fn identify(state: &State, call: &Call, place: &Place) -> Result<Caller, Reply> {
    if call.query("sig").is_some() {
        return by_signature(state, call, place);
    }
    let Some(token) = call.header("authorization").and_then(|a| a.strip_prefix("Bearer ")) else {
        let code = if call.headers.contains_key("authorization") { "InvalidAuthenticationInfo" } else { "NoAuthenticationInformation" };
        return Err(challenge(state, Reply::error(401, code)));
    };
    let Some(token) = state.tokens.get(token) else {
        return Err(challenge(state, unauthenticated("Issuer validation failed. Issuer did not match.")));
    };
    if token.expires <= state.now() {
        return Err(challenge(state, unauthenticated("Lifetime validation failed. The token is expired.")));
    }
    if token.audience.contains("management") {
        return Err(challenge(state, unauthenticated("Audience validation failed. Audience did not match.")));
    }
    Ok(Caller::Token(token.role))
}

fn unauthenticated(detail: &str) -> Reply {
    let message = "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.";
    Reply::error_with(401, "InvalidAuthenticationInfo", message, &[("AuthenticationErrorDetail", detail)])
}

fn challenge(state: &State, reply: Reply) -> Reply {
    let tenant = &state.options.tenant;
    let value = format!(
        "Bearer authorization_uri=https://login.microsoftonline.com/{tenant}/oauth2/authorize resource_id=https://storage.azure.com"
    );
    reply.with("www-authenticate", value)
}

fn by_signature(state: &State, call: &Call, place: &Place) -> Result<Caller, Reply> {
    let field = |name: &str| call.query(name).unwrap_or_default();
    let failed = |detail: &str| {
        let message = "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly \
                       including the signature.";
        Err(Reply::error_with(403, "AuthenticationFailed", message, &[("AuthenticationErrorDetail", detail)]))
    };
    if !state.options.arm.allow_shared_key_access {
        return Err(Reply::error(403, "KeyBasedAuthenticationNotPermitted"));
    }
    let (starts, ends) = (field("st").parse::<Timestamp>().ok(), field("se").parse::<Timestamp>().ok());
    let Some(ends) = ends else { return failed("se is mandatory. Cannot be empty") };
    if field("sv").is_empty() {
        return failed("sv is mandatory. Cannot be empty");
    }
    let resource = match (field("sr"), place) {
        ("c", Place::Container(container) | Place::Blob(container, _)) => container.clone(),
        ("b", Place::Blob(container, blob)) => format!("{container}/{blob}"),
        ("b", Place::Container(container)) => container.clone(),
        _ => String::new(),
    };
    let text = string_to_sign(&state.options.account, &resource, field);
    if sign(&state.options, &text) != field("sig") {
        return failed(&format!("Signature did not match. String to sign used was {text}"));
    }
    let now = state.now();
    if now >= ends || starts.is_some_and(|s| now < s) {
        let start = starts.map_or_else(String::new, |s| format!("Start [{}] - ", instants::http_date(s)));
        let (end, now) = (instants::http_date(ends), instants::http_date(now));
        return failed(&format!("Signature not valid in the specified time frame: {start}Expiry [{end}] - Current [{now}]"));
    }
    if field("spr") == "https" {
        return Err(Reply::error(403, "AuthorizationProtocolMismatch"));
    }
    let account = !field("srt").is_empty();
    if account && !field("ss").contains('b') {
        return Err(Reply::error(403, "AuthorizationServiceMismatch"));
    }
    let types = if account { field("srt").to_owned() } else { "o".to_owned() };
    Ok(Caller::Sas { letters: field("sp").to_owned(), types })
}

/// Whether a caller has the right to an operation.
pub fn permit(caller: &Caller, operation: &str, call: &Call) -> Result<(), Reply> {
    let version = call.version_id().is_some();
    let denied = || Err(Reply::error(403, "AuthorizationPermissionMismatch"));
    match caller {
        Caller::Sas { letters, types } => {
            let kind = resource_type(operation);
            // A service SAS lists its container, and sees nothing else of it.
            if !types.contains(kind) && (types != "o" || operation != "ListBlobs") && operation != "GetAccountInformation" {
                return Err(Reply::error(403, "AuthorizationResourceTypeMismatch"));
            }
            let any_of = letters_for(operation, version, call.query("deletetype") == Some("permanent"));
            let has = |set: &str| set.is_empty() || set.chars().any(|c| letters.contains(c));
            let tags = operation.starts_with("Put") && call.headers.contains_key("x-ms-tags");
            if !has(any_of) || (is_put(operation) && call.wants_lock() && !has("i")) || (tags && !has("t")) {
                return denied();
            }
            Ok(())
        }
        Caller::Token(role) => {
            let lock = is_put(operation) && call.wants_lock();
            if (!lock || matches!(role, Role::Owner | Role::Agent)) && role_permits(*role, operation) { Ok(()) } else { denied() }
        }
    }
}

fn is_put(operation: &str) -> bool {
    matches!(operation, "PutBlob" | "PutBlockList" | "CopyBlob")
}

fn resource_type(operation: &str) -> char {
    match operation {
        "ListContainers" | "GetBlobServiceProperties" | "SetBlobServiceProperties" => 's',
        "ListBlobs" => 'c',
        o if o.contains("Container") => 'c',
        _ => 'o',
    }
}

/// One of these letters is enough.
fn letters_for(operation: &str, version: bool, permanent: bool) -> &'static str {
    match operation {
        "GetBlob" | "HeadBlob" | "GetBlockList" | "GetContainerProperties" | "GetBlobServiceProperties" => "r",
        "GetAccountInformation" => "",
        "ListBlobs" | "ListContainers" => "l",
        "PutBlob" | "PutBlock" | "PutBlockList" | "CreateContainer" | "CopyBlob" => "cw",
        "SetBlobMetadata" | "SetBlobProperties" | "SetBlobTier" | "UndeleteBlob" | "SetContainerMetadata" | "SetBlobServiceProperties" => {
            "w"
        }
        "LeaseBlob" | "LeaseContainer" => "wd",
        "DeleteBlob" if permanent => "y",
        "DeleteBlob" if version => "x",
        "DeleteBlob" | "DeleteContainer" => "d",
        "GetBlobTags" | "SetBlobTags" => "t",
        "SetImmutabilityPolicy" | "DeleteImmutabilityPolicy" | "SetLegalHold" => "i",
        _ => "w",
    }
}

fn role_permits(role: Role, operation: &str) -> bool {
    let reads = matches!(operation, "GetBlob" | "HeadBlob" | "GetBlockList" | "GetBlobTags");
    let lists = matches!(operation, "ListBlobs" | "ListContainers" | "GetContainerProperties");
    let writes = matches!(
        operation,
        "PutBlob"
            | "PutBlock"
            | "PutBlockList"
            | "CopyBlob"
            | "SetBlobMetadata"
            | "SetBlobProperties"
            | "SetBlobTier"
            | "LeaseBlob"
            | "UndeleteBlob"
    );
    let locks = matches!(operation, "SetImmutabilityPolicy" | "DeleteImmutabilityPolicy" | "SetLegalHold");
    let containers = matches!(operation, "CreateContainer" | "DeleteContainer" | "SetContainerMetadata" | "LeaseContainer");
    let anybody = operation == "GetAccountInformation";
    match role {
        Role::Owner => true,
        Role::Contributor => anybody || reads || lists || writes || containers || operation == "DeleteBlob" || operation == "SetBlobTags",
        Role::Agent => anybody || reads || lists || writes || locks,
        Role::Reader => anybody || reads || lists,
        Role::Lister => anybody || lists,
        Role::Nobody => false,
    }
}
