//! Keys: Ed25519 signers in roles, age recipients that seal, age identities that open.

use std::fmt;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::attestation::Kind;
use super::names::ChainName;
use crate::store::Sha256;

/// What a signer may attest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Snapshots, exports, heartbeats, checkpoints, heals.
    Agent,
    /// Tests, drills, failovers, and the heartbeats of those chains.
    Tester,
    /// Everything except data.
    Operator,
}

impl Role {
    /// Whether this role may sign an attestation of a kind on a chain.
    pub fn may(self, kind: Kind, chain: &ChainName) -> bool {
        let proof_chain = ["restore-test", "drill", "failover"].contains(&chain.as_str());
        match self {
            Self::Agent => match kind {
                Kind::Snapshot | Kind::Export | Kind::Checkpoint | Kind::Heal => true,
                Kind::Heartbeat => !proof_chain,
                _ => false,
            },
            Self::Tester => match kind {
                Kind::RestoreTest | Kind::Drill | Kind::Failover => true,
                Kind::Heartbeat => proof_chain,
                _ => false,
            },
            Self::Operator => !matches!(kind, Kind::Snapshot | Kind::Export),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Tester => "tester",
            Self::Operator => "operator",
        })
    }
}

/// Why a key could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the key file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is no Ed25519 key.
    #[error("{} is not an Ed25519 private key in PKCS#8 PEM", path.display())]
    NotASigningKey {
        /// The file.
        path: PathBuf,
    },
    /// The PEM text is no Ed25519 public key.
    #[error("not an Ed25519 public key in PEM")]
    NotAPublicKey,
    /// The file holds no age identity.
    #[error("{} holds no age identity (a line that begins with AGE-SECRET-KEY-1)", path.display())]
    NoIdentity {
        /// The file.
        path: PathBuf,
    },
    /// The file is itself sealed with a passphrase.
    #[error("{} is protected by a passphrase: open it with `age -d` into a file first", path.display())]
    Protected {
        /// The file.
        path: PathBuf,
    },
    /// The text is no age recipient.
    #[error("{recipient:?} is not a native age recipient (age1…): {reason}")]
    NotARecipient {
        /// The text.
        recipient: String,
        /// Why.
        reason: String,
    },
    /// There are no recipients.
    #[error("there is no recipient to seal to")]
    NoRecipients,
}

/// A signer's private key.
pub struct Signer {
    key: SigningKey,
    key_id: Sha256,
}

impl Signer {
    /// A fresh key from the system's randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self::from_seed(seed))
    }

    /// The key of a seed, for tests that need the same key again.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let key = SigningKey::from_bytes(&seed);
        let key_id = PublicKey { key: key.verifying_key() }.key_id();
        Self { key, key_id }
    }

    /// Reads a PKCS#8 PEM file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read_to_string(path).map_err(|source| KeyError::Read { path: path.to_owned(), source })?;
        let key = SigningKey::from_pkcs8_pem(&text).map_err(|_| KeyError::NotASigningKey { path: path.to_owned() })?;
        Ok(Self::from_seed(key.to_bytes()))
    }

    /// The private key as PKCS#8 PEM.
    pub fn to_pem(&self) -> String {
        self.key.to_pkcs8_pem(LineEnding::LF).map(|pem| pem.as_str().to_owned()).unwrap_or_default()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey { key: self.key.verifying_key() }
    }

    /// SHA-256 of the public key's SPKI.
    pub fn key_id(&self) -> Sha256 {
        self.key_id
    }

    /// An Ed25519 signature.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

/// A signer's public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
}

impl PublicKey {
    /// Reads SPKI PEM.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        VerifyingKey::from_public_key_pem(text).map(|key| Self { key }).map_err(|_| KeyError::NotAPublicKey)
    }

    /// SPKI PEM.
    pub fn to_pem(&self) -> String {
        self.key.to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }

    /// SHA-256 of the SPKI's DER.
    pub fn key_id(&self) -> Sha256 {
        self.key.to_public_key_der().map(|der| Sha256::of(der.as_bytes())).unwrap_or(Sha256([0; 32]))
    }

    /// Whether a signature is this key's; malleable and small-order forms are refused.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

/// A signer as VAULT.json, genesis and rotations name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerEntry {
    /// SHA-256 of the SPKI.
    pub keyid: Sha256,
    /// What it may attest.
    pub role: Role,
    /// SPKI PEM.
    pub public_key: String,
}

impl SignerEntry {
    /// The entry of a public key.
    pub fn new(role: Role, key: &PublicKey) -> Self {
        Self { keyid: key.key_id(), role, public_key: key.to_pem() }
    }
}

/// The recipients that everything is sealed to.
#[derive(Clone)]
pub struct Recipients {
    keys: Vec<age::x25519::Recipient>,
    texts: Vec<String>,
}

impl Recipients {
    /// Parses `age1…` recipients; order does not matter, repetitions are dropped.
    pub fn parse(texts: &[String]) -> Result<Self, KeyError> {
        let mut texts: Vec<String> = texts.to_vec();
        texts.sort();
        texts.dedup();
        if texts.is_empty() {
            return Err(KeyError::NoRecipients);
        }
        let parse = |text: &String| {
            text.parse::<age::x25519::Recipient>()
                .map_err(|reason| KeyError::NotARecipient { recipient: text.clone(), reason: reason.to_owned() })
        };
        let keys = texts.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { keys, texts })
    }

    /// The texts, sorted.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// SHA-256 of the sorted texts, each followed by LF.
    pub fn fingerprint(&self) -> Sha256 {
        let joined: String = self.texts.iter().flat_map(|text| [text.as_str(), "\n"]).collect();
        Sha256::of(joined.as_bytes())
    }

    /// An encryptor to all of them.
    pub fn encryptor(&self) -> Result<age::Encryptor, age::EncryptError> {
        age::Encryptor::with_recipients(self.keys.iter().map(|key| key as &dyn age::Recipient))
    }
}

/// The identities at hand.
#[derive(Default)]
pub struct Identities {
    keys: Vec<age::x25519::Identity>,
}

impl Identities {
    /// Reads identity files of age's own format.
    pub fn load(paths: &[PathBuf]) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for path in paths {
            let read = |source| KeyError::Read { path: path.clone(), source };
            let text = fs::read(path).map_err(read)?;
            if text.starts_with(b"age-encryption.org/") || text.starts_with(b"-----BEGIN AGE") {
                return Err(KeyError::Protected { path: path.clone() });
            }
            let found = BufReader::new(text.as_slice());
            let lines = std::io::BufRead::lines(found).map_while(Result::ok);
            let before = keys.len();
            keys.extend(lines.filter_map(|line| line.trim().parse::<age::x25519::Identity>().ok()));
            if keys.len() == before {
                return Err(KeyError::NoIdentity { path: path.clone() });
            }
        }
        Ok(Self { keys })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The recipients that these open.
    pub fn recipients(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.to_public().to_string()).collect()
    }

    /// As the decryptor wants them.
    pub fn as_dyn(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.keys.iter().map(|key| key as &dyn age::Identity)
    }
}

/// A new age identity: the text of its file and its recipient.
pub fn new_identity(created: jiff::Timestamp) -> (String, String) {
    use age::secrecy::ExposeSecret;
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let secret = identity.to_string();
    let text = format!("# created: {created}\n# public key: {recipient}\n{}\n", secret.expose_secret());
    (text, recipient)
}

/// Standard base64.
pub fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Standard base64, strictly.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}
