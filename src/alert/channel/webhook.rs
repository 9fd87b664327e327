//! A generic webhook, signed as <https://www.standardwebhooks.com> says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::alert::{Message, spelled};
use crate::http::Secret;

/// What is sent: every alert whole.
pub(super) fn body(message: &Message) -> String {
    let alerts: Vec<_> = message
        .news
        .iter()
        .map(|(news, alert)| {
            let mut one = json!(alert);
            if let Some(one) = one.as_object_mut() {
                one.insert("state".into(), json!(news));
            }
            one
        })
        .collect();
    json!({
        "type": "backstop.alerts", "timestamp": message.at, "id": message.id,
        "data": { "vault": message.vault, "severity": spelled(message.severity()), "title": message.title(), "alerts": alerts },
    })
    .to_string()
}

/// Id, time and signature.
pub(super) fn headers(message: &Message, json: &str, secret: Option<&Secret>) -> Result<Vec<(&'static str, String)>, String> {
    let at = jiff::Timestamp::now().as_second();
    let mut headers = vec![("webhook-id", message.id.clone()), ("webhook-timestamp", at.to_string())];
    if let Some(secret) = secret {
        let key = match secret.reveal().strip_prefix("whsec_") {
            Some(encoded) => STANDARD.decode(encoded).map_err(|_| "the signing secret is not whsec_ and base64".to_owned())?,
            None => secret.reveal().as_bytes().to_vec(),
        };
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
        let tag = ring::hmac::sign(&key, format!("{}.{at}.{json}", message.id).as_bytes());
        headers.push(("webhook-signature", format!("v1,{}", STANDARD.encode(tag))));
    }
    Ok(headers)
}
