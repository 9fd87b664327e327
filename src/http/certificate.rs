//! A client certificate: a PEM file with a certificate and its RSA private key, and assertions signed with it.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jiff::civil::DateTime;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::pem::{PemObject, SectionKind};
use serde_json::json;

/// How long an assertion holds, in seconds.
const LIFE: i64 = 600;

/// A certificate and the key that goes with it.
pub(super) struct Certificate {
    key: RsaKeyPair,
    der: Vec<u8>,
}

impl Certificate {
    /// Reads a file, or says what it holds and what it should.
    pub fn load(file: &Path) -> Result<Self, String> {
        let bytes = fs::read(file).map_err(|e| format!("cannot read the certificate in {}: {e}", file.display()))?;
        Self::parse(&bytes, Timestamp::now()).map_err(|what| format!("the file {} {what}", file.display()))
    }

    fn parse(bytes: &[u8], now: Timestamp) -> Result<Self, String> {
        let text = String::from_utf8_lossy(bytes);
        if !text.contains("-----BEGIN ") {
            return Err("is not PEM: it should hold a certificate and its RSA private key as PEM; \
                 `openssl pkcs12 -in FILE.pfx -nodes -out FILE.pem` makes that of a .pfx"
                .into());
        }
        let (mut certificates, mut key) = (Vec::new(), None);
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
            match section {
                Ok((SectionKind::Certificate, der)) => certificates.push(der),
                Ok((kind @ (SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey), der)) => {
                    key.get_or_insert((kind, der));
                }
                Ok(_) => {}
                Err(_) if text.contains("ENCRYPTED") => {}
                Err(e) => return Err(format!("cannot be read as PEM: {e:?}")),
            }
        }
        let unfit = |e: ring::error::KeyRejected| match e.to_string().as_str() {
            "WrongAlgorithm" => "holds a private key that is not RSA: Entra takes RSA keys only".to_owned(),
            other => format!("holds a private key that cannot be used ({other}): it should be RSA of 2048 to 4096 bits"),
        };
        let key = match key {
            Some((SectionKind::PrivateKey, der)) => RsaKeyPair::from_pkcs8(&der).map_err(unfit)?,
            Some((SectionKind::RsaPrivateKey, der)) => RsaKeyPair::from_der(&der).map_err(unfit)?,
            Some(_) => return Err("holds a private key that is not RSA: Entra takes RSA keys only".into()),
            None if text.contains("ENCRYPTED") => {
                return Err("holds a private key under a password: write it without one (`openssl pkey -in FILE -out FILE.pem`), \
                     readable by this user alone"
                    .into());
            }
            None => return Err("holds no private key: it should hold the certificate and its RSA private key".into()),
        };
        if certificates.is_empty() {
            return Err("holds no certificate: it should hold the certificate and its RSA private key".into());
        }
        let public = key.public().as_ref();
        let Some(der) = certificates.into_iter().find(|der| der.windows(public.len()).any(|part| part == public)) else {
            return Err("holds a private key that belongs to none of its certificates".into());
        };
        if let Some((from, to)) = validity(&der) {
            if to < now {
                return Err(format!("holds a certificate that ended on {to}"));
            }
            if from > now {
                return Err(format!("holds a certificate that begins on {from}, by this machine's clock in the future"));
            }
        }
        Ok(Self { key, der })
    }

    /// A signed statement that the bearer is this client, for one token endpoint.
    pub fn assertion(&self, client_id: &str, audience: &str) -> Result<String, String> {
        let now = Timestamp::now().as_second();
        let thumbprint = |algorithm| URL_SAFE_NO_PAD.encode(ring::digest::digest(algorithm, &self.der));
        // Older parts of Entra know a certificate by its SHA-1 thumbprint, newer ones by SHA-256; it names, it proves nothing.
        let head = json!({
            "alg": "RS256", "typ": "JWT",
            "x5t": thumbprint(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY), "x5t#S256": thumbprint(&ring::digest::SHA256),
        });
        let claims = json!({
            "aud": audience, "iss": client_id, "sub": client_id, "jti": uuid::Uuid::now_v7().to_string(),
            "nbf": now, "iat": now, "exp": now + LIFE,
        });
        let said = format!("{}.{}", URL_SAFE_NO_PAD.encode(head.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &ring::rand::SystemRandom::new(), said.as_bytes(), &mut signature)
            .map_err(|_| "cannot sign with its private key".to_owned())?;
        Ok(format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// From when to when a certificate holds, where its form is the usual one.
fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, inside, _) = element(certificate)?;
    let (_, mut rest, _) = element(inside)?;
    // An explicit version, the serial number, the algorithm, the issuer; then the validity.
    if let (0xa0, _, after) = element(rest)? {
        rest = after;
    }
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (0x30, dates, _) = element(rest)? else { return None };
    let (from_tag, from, after) = element(dates)?;
    let (to_tag, to, _) = element(after)?;
    Some((instant(from_tag, from)?, instant(to_tag, to)?))
}

/// Tag, content and what follows of one element of DER.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

/// `UTCTime` or `GeneralizedTime`.
fn instant(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        0x17 if text.get(..2)? < "50" => format!("20{text}"),
        0x17 => format!("19{text}"),
        0x18 => text.to_owned(),
        _ => return None,
    };
    DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|at| at.timestamp())
}
