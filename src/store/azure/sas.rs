//! Shared access signatures: what is one, and whether its time is now.

use jiff::Timestamp;

use super::AzureError;
use crate::store::StoreError;

/// Reads what was given as a SAS: the query alone, or a whole address that ends in it.
pub fn check_sas(text: &str, now: Timestamp) -> Result<String, StoreError> {
    let setup = |what: &str, mend: &str| StoreError::from(Box::new(AzureError::Setup { what: what.into(), mend: mend.into() }));
    let text = text.trim().trim_matches('"');
    if text.contains("AccountKey=") || looks_like_key(text) {
        return Err(setup(
            "this is the account's key, not a SAS: whoever holds it can delete everything, and no lock of rights holds it back",
            "take the key away from here and rotate it; make a SAS with the permissions r, c, w, l and i, or use managed_identity",
        ));
    }
    let query = text.split_once('?').map_or(text, |(_, query)| query);
    let field = |name: &str| url::form_urlencoded::parse(query.as_bytes()).find(|(k, _)| k == name).map(|(_, v)| v.into_owned());
    if field("sig").is_none() || field("sv").is_none() {
        return Err(setup(
            "this is no shared access signature: it has no `sig=` or no `sv=`",
            "copy the whole query, such as sv=…&ss=b&srt=sco&sp=rclwi&se=…&sig=…",
        ));
    }
    if let Some(ends) = field("se").and_then(|text| end(&text)).filter(|ends| *ends <= now) {
        return Err(setup(&format!("the SAS ended at {ends}; it is {now}"), "make a new one and put it in its place"));
    }
    Ok(query.to_owned())
}

/// What a SAS says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SasFacts {
    /// Its permissions: letters.
    pub permissions: String,
    /// When it ends; absent where a stored access policy says it.
    pub ends: Option<Timestamp>,
}

/// Reads what a SAS says of itself; nothing of its signature.
pub fn sas_facts(text: &str) -> SasFacts {
    let query = text.trim().trim_matches('"');
    let query = query.split_once('?').map_or(query, |(_, query)| query);
    let field = |name: &str| url::form_urlencoded::parse(query.as_bytes()).find(|(k, _)| k == name).map(|(_, v)| v.into_owned());
    SasFacts { permissions: field("sp").unwrap_or_default(), ends: field("se").and_then(|text| end(&text)) }
}

/// An instant, or a date alone, which begins its day.
fn end(text: &str) -> Option<Timestamp> {
    let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    text.parse().ok().or_else(|| day().map(|day| day.timestamp()))
}

/// Some 64 bytes in Base64, as an account's key is written.
fn looks_like_key(text: &str) -> bool {
    use base64::Engine;
    !text.contains('&') && base64::engine::general_purpose::STANDARD.decode(text).is_ok_and(|bytes| bytes.len() >= 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_told_from_a_key_and_from_one_whose_time_is_over() {
        let now: Timestamp = "2026-11-24T00:00:00Z".parse().unwrap();
        let good = "sv=2024-11-04&sp=rcwli&se=2026-12-01T00:00:00Z&sig=abc%3D";
        assert_eq!(check_sas(&format!("?{good}"), now).unwrap(), good);
        assert_eq!(check_sas(&format!("https://a.blob.core.windows.net/?{good}\n"), now).unwrap(), good);
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [7; 64]);
        for (bad, says) in [
            (key.as_str(), "account's key"),
            ("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=abc", "account's key"),
            ("nonsense", "no shared access signature"),
            ("sv=2024-11-04&se=2026-11-23T00:00:00Z&sig=abc", "ended at 2026-11-23"),
            ("sv=2024-11-04&se=2026-11-23&sig=abc", "ended at 2026-11-23"),
        ] {
            let error = check_sas(bad, now).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains(&key), "no secret in a message");
        }
    }
}
