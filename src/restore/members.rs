//! One segment, opened once: the wanted members, each proved against its manifest entry.

use std::collections::HashMap;
use std::io::{self, Read};

use super::tree::{with_causes, wrong_identity};
use super::{Failed, RestoreError};
use crate::store::Sha256;
use crate::vault::Ledger;
use crate::vault::attestation::ObjectRef;
use crate::vault::keys::Identities;
use crate::vault::manifest::SegmentRef;
use crate::vault::seal::{self, MAX_PAYLOAD};
use crate::vault::segment::{Continue, LARGEST_MEMBER, visit_members};

/// A member that is wanted, and what its bytes must be.
#[derive(Debug, Clone)]
pub struct Wanted<T> {
    /// Digest of the plain bytes.
    pub sha256: Sha256,
    /// How many.
    pub size: u64,
    /// The record, for messages.
    pub path: String,
    /// What to do with it.
    pub tag: T,
}

/// Wanted members by name.
pub type Members<T> = HashMap<String, Vec<Wanted<T>>>;

/// A segment and what is wanted of it.
pub struct SegmentRead<'a, T> {
    /// Which.
    pub segment: &'a SegmentRef,
    /// Its stored bytes, as attested; 0 when no attestation names it.
    pub size: u64,
    /// By member name; several records may want one member.
    pub wanted: Members<T>,
}

/// Opens a segment and gives each wanted member's proved bytes to `found`. What could not be recovered is
/// returned; only a wrong identity or a failing target ends the reading.
pub fn read_segment<T>(
    ledger: &Ledger,
    identities: &Identities,
    mut read: SegmentRead<'_, T>,
    mut found: impl FnMut(&Wanted<T>, &[u8]) -> Result<(), RestoreError>,
) -> Result<Vec<Failed>, RestoreError> {
    let name = read.segment.name.as_str();
    let all = |wanted: &Members<T>, message: &str| {
        let mut failed: Vec<Failed> = wanted.values().flatten().map(|w| Failed::record(&w.path, Some(name), message)).collect();
        failed.sort_by(|a, b| a.path.cmp(&b.path));
        failed
    };
    if read.size == 0 {
        return Ok(all(&read.wanted, "its segment is not an object that an attestation names"));
    }
    let bytes = match ledger.read_object(name, None, &read.segment.sha256, read.size) {
        Ok(bytes) => bytes,
        Err(e) => return Ok(all(&read.wanted, &with_causes(&e))),
    };
    let plain = match seal::open(bytes.as_slice(), identities) {
        Ok(plain) => plain,
        Err(e) => match wrong_identity(e, ledger, name) {
            e @ RestoreError::WrongIdentity { .. } => return Err(e),
            e => return Ok(all(&read.wanted, &with_causes(&e))),
        },
    };
    let mut failed = Vec::new();
    let mut trouble = None;
    let mut buffer = Vec::new();
    let visited = visit_members(plain, MAX_PAYLOAD, |member, body| {
        let Some(wants) = read.wanted.remove(member) else { return Ok(Continue::Yes) };
        let problem = match body {
            None => Some("it is not a regular file in its segment".to_owned()),
            Some((size, _)) if wants.iter().any(|w| w.size != size) => {
                Some(format!("its segment holds {size} bytes for it, not {}", wants[0].size))
            }
            Some((size, _)) if size > LARGEST_MEMBER => Some(format!("its segment holds {size} bytes for it, more than a member may have")),
            Some((size, reader)) => {
                buffer.clear();
                if let Err(e) = reader.take(size).read_to_end(&mut buffer) {
                    failed.extend(wants.iter().map(|want| Failed::record(&want.path, Some(name), e.to_string())));
                    return Err(e);
                }
                let digest = Sha256::of(&buffer);
                wants.iter().any(|w| w.sha256 != digest).then(|| "its bytes are not the ones that its manifest names".to_owned())
            }
        };
        for want in &wants {
            match &problem {
                Some(message) => failed.push(Failed::record(&want.path, Some(name), message.clone())),
                None => {
                    if let Err(e) = found(want, &buffer) {
                        trouble = Some(e);
                        return Err(io::Error::other("stopped"));
                    }
                }
            }
        }
        Ok(if read.wanted.is_empty() { Continue::Enough } else { Continue::Yes })
    });
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    match visited {
        Ok(()) => failed.extend(all(&read.wanted, "it is not in its segment")),
        Err(e) => failed.extend(all(&read.wanted, &with_causes(&e))),
    }
    Ok(failed)
}

/// Opens a segment of which nothing is wanted, to its end; gives how many members it has.
pub fn unpack_segment(ledger: &Ledger, identities: &Identities, object: &ObjectRef) -> Result<u64, RestoreError> {
    let bytes = ledger.read_object(&object.name, object.version.as_deref(), &object.sha256, object.size)?;
    let plain = seal::open(bytes.as_slice(), identities).map_err(|e| wrong_identity(e, ledger, &object.name))?;
    let mut members = 0;
    visit_members(plain, MAX_PAYLOAD, |_, body| {
        members += 1;
        body.map_or(Ok(0), |(_, reader)| io::copy(reader, &mut io::sink()))?;
        Ok(Continue::Yes)
    })
    .map_err(|e| RestoreError::Nothing(format!("{} is no readable archive: {e}", object.name)))?;
    Ok(members)
}
