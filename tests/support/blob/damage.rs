//! What the provider may do to stored data, behind the back of every rule.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::body::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::{Blob, Container, Lock, State, Version};
use super::sums;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "damage", rename_all = "snake_case")]
pub enum Damage {
    /// Changes one byte.
    Flip { at: u64 },
    /// Keeps so many bytes.
    Truncate { to: u64 },
    /// Loses the blob with all its versions, or one version.
    Remove,
}

/// Damages a version, the current or else the newest one unless it is named; false if there is none.
pub fn inflict(state: &mut State, container: &str, name: &str, version: Option<&str>, damage: &Damage) -> bool {
    let Some(container) = state.containers.get_mut(container) else { return false };
    let Some(blob) = container.blobs.get_mut(name) else { return false };
    let Some(last) = blob.versions.len().checked_sub(1) else { return false };
    let at = match version {
        None => last,
        Some(id) => match blob.versions.iter().position(|v| v.id == id) {
            Some(at) => at,
            None => return false,
        },
    };
    match damage {
        Damage::Remove if version.is_none() => {
            container.blobs.remove(name);
        }
        Damage::Remove => {
            blob.versions.remove(at);
            blob.live &= at != last;
            if blob.is_empty() {
                container.blobs.remove(name);
            }
        }
        Damage::Flip { at: byte } => return flip(&mut blob.versions[at], *byte),
        Damage::Truncate { to } => {
            let kept = blob.versions[at].slice(0, *to);
            blob.versions[at].data = Arc::new(kept);
        }
    }
    true
}

fn flip(version: &mut Version, byte: u64) -> bool {
    let mut at = byte;
    for piece in Arc::make_mut(&mut version.data) {
        if let Ok(index) = usize::try_from(at)
            && index < piece.len()
        {
            let mut bytes = piece.to_vec();
            bytes[index] ^= 0x01;
            *piece = Bytes::from(bytes);
            return true;
        }
        at = at.saturating_sub(piece.len() as u64);
    }
    false
}

/// The stored bytes of a version, or of the current one.
pub fn content(state: &State, container: &str, name: &str, version: Option<&str>) -> Option<Vec<u8>> {
    let blob = state.containers.get(container)?.blobs.get(name)?;
    let found = match version {
        None => blob.current_ref(),
        Some(id) => blob.versions.iter().find(|v| v.id == id),
    };
    Some(found?.data.concat())
}

/// Makes many small blobs without a request for each.
pub fn fill(state: &mut State, container: &str, prefix: &str, count: usize) {
    for n in 0..count {
        let metadata = vec![("number".to_owned(), n.to_string())];
        load(state, container, format!("{prefix}{n:08}"), Bytes::from(n.to_string()), metadata, None);
    }
}

/// Makes one blob without a request.
pub fn load(state: &mut State, container: &str, name: String, data: Bytes, metadata: Vec<(String, String)>, lock: Option<Lock>) {
    let (now, id, etag) = (state.now(), state.next_version_id(), state.next_etag());
    let version = Version {
        id,
        etag,
        created: now,
        modified: now,
        written: now,
        md5: Some(sums::md5(&data)),
        data: Arc::new(vec![data]),
        blocks: Arc::default(),
        properties: BTreeMap::new(),
        metadata,
        tags: Vec::new(),
        tier: None,
        tier_changed: None,
        rehydrating: None,
        lock,
        legal_hold: false,
        deleted: None,
    };
    let Some(found) = state.containers.get_mut(container) else { return };
    found.blobs.insert(name, Blob { versions: vec![version], live: true, ..Blob::default() });
}

/// What a secondary that was replicated until an instant does not have: everything written after it. A previous
/// version that was current then is current again. Returns how many versions were lost.
pub fn fail_over(state: &mut State, until: Timestamp) -> usize {
    let versions = |c: &Container| c.blobs.values().map(|b| b.versions.len()).sum::<usize>();
    let mut lost = state.containers.values().filter(|c| c.created > until).map(versions).sum();
    state.containers.retain(|_, container| container.created <= until);
    for container in state.containers.values_mut() {
        for blob in container.blobs.values_mut() {
            let before = blob.versions.len();
            blob.versions.retain(|v| v.written <= until);
            lost += before - blob.versions.len();
            if before > blob.versions.len() {
                blob.live = !blob.versions.is_empty();
            }
            blob.uncommitted.retain(|_, block| block.written <= until);
        }
        container.blobs.retain(|_, blob| !blob.is_empty());
    }
    lost
}
