//! DSSE envelopes (<https://github.com/secure-systems-lab/dsse/blob/master/envelope.md>): one JSON
//! object on one line without a line feed, signed with Ed25519 over the pre-authentication encoding.

use serde::{Deserialize, Serialize};

use super::keys::{PublicKey, Signer, base64, from_base64};
use crate::store::Sha256;

/// The payload type of every envelope.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// The largest envelope that is read, in bytes.
pub const MAX_ENVELOPE: u64 = 64 << 20;

/// An envelope as it lies in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Standard base64 of the statement.
    pub payload: String,
    /// Always [`PAYLOAD_TYPE`].
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// One signature.
    pub signatures: Vec<EnvelopeSignature>,
}

/// A signature and who is said to have made it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeSignature {
    /// Hex SHA-256 of the signer's SPKI.
    pub keyid: Sha256,
    /// Standard base64.
    pub sig: String,
}

/// The bytes that are signed: `DSSEv1 SP len SP type SP len SP payload`.
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

impl Envelope {
    /// Signs a statement and gives the envelope's stored bytes.
    pub fn sign(statement: &[u8], signer: &Signer) -> Vec<u8> {
        let sig = base64(&signer.sign(&pre_authentication_encoding(PAYLOAD_TYPE, statement)));
        let envelope = Self {
            payload: base64(statement),
            payload_type: PAYLOAD_TYPE.into(),
            signatures: vec![EnvelopeSignature { keyid: signer.key_id(), sig }],
        };
        serde_json::to_vec(&envelope).unwrap_or_default()
    }

    /// Reads stored bytes; `None` when they are not an envelope in the one form that writers make.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Self::parse_as(PAYLOAD_TYPE, bytes)
    }

    /// Reads an envelope of another type.
    pub fn parse_as(payload_type: &str, bytes: &[u8]) -> Option<Self> {
        if bytes.contains(&b'\n') {
            return None;
        }
        // Its own fields refuse repeated and unknown keys, and no more is built than they hold: nobody is trusted yet.
        let envelope: Self = serde_json::from_slice(bytes).ok()?;
        (envelope.payload_type == payload_type && envelope.signatures.len() == 1).then_some(envelope)
    }

    /// Who is said to have signed.
    pub fn key_id(&self) -> Option<Sha256> {
        self.signatures.first().map(|s| s.keyid)
    }

    /// The statement's bytes, if `key` signed them.
    pub fn verified_payload(&self, key: &PublicKey) -> Option<Vec<u8>> {
        let payload = from_base64(&self.payload)?;
        let signature = from_base64(&self.signatures.first()?.sig)?;
        key.verifies(&pre_authentication_encoding(&self.payload_type, &payload), &signature).then_some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_the_specifications_own_example() {
        let pae = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(pae, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let signer = Signer::from_seed([7; 32]);
        let bytes = Envelope::sign(br#"{"a":1}"#, &signer);
        let good = Envelope::parse(&bytes).unwrap();
        assert_eq!(good.verified_payload(&signer.public()).unwrap(), br#"{"a":1}"#);
        assert!(good.verified_payload(&Signer::from_seed([8; 32]).public()).is_none());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let accepted =
                Envelope::parse(&bad).filter(|e| e.key_id() == Some(signer.key_id())).and_then(|e| e.verified_payload(&signer.public()));
            assert!(accepted.is_none(), "byte {at}");
        }
    }
}
