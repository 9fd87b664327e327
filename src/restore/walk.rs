//! Many segments, each opened once, some side by side.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::members::{Members, SegmentRead, Wanted, read_segment};
use super::{Failed, RestoreError};
use crate::vault::Ledger;
use crate::vault::keys::Identities;
use crate::vault::manifest::SegmentRef;

/// Where wanted members are read from.
#[derive(Clone, Copy)]
pub struct Walk<'a> {
    /// The vault.
    pub ledger: &'a Ledger,
    /// What opens it.
    pub identities: &'a Identities,
    /// Segments by number, with their stored sizes as attested; 0 where no attestation names one.
    pub segments: &'a [(SegmentRef, u64)],
    /// Worker threads.
    pub threads: usize,
}

/// What was to be done was stopped by trouble elsewhere, which is told where the walk ends.
pub struct Stopped;

/// Takes a segment's number and what is wanted of it.
pub type Give<'g, T> = &'g mut dyn FnMut(u32, Members<T>) -> Result<(), Stopped>;

impl Walk<'_> {
    /// Opens every segment that `produce` gives, and hands each wanted member's proved bytes to `found`, which has a state of its
    /// own on each thread. What could not be recovered goes to `lost`; only a wrong identity or a failing target ends the walk.
    pub fn run<T: Send, S>(
        self,
        produce: impl FnOnce(Give<'_, T>) -> Result<(), RestoreError>,
        state: impl Fn() -> S + Sync,
        found: impl Fn(&mut S, &Wanted<T>, &[u8]) -> Result<(), RestoreError> + Sync,
        lost: impl Fn(Failed) + Sync,
    ) -> Result<(), RestoreError> {
        let trouble = Mutex::new(None);
        let stopped = AtomicBool::new(false);
        let fail = |e: RestoreError| {
            // The first trouble is told: it is noted before anybody else can see that there is some.
            if let Ok(mut slot) = trouble.lock() {
                slot.get_or_insert(e);
            }
            stopped.store(true, Ordering::Release);
        };
        let (give, take) = crossbeam_channel::bounded::<(u32, Members<T>)>(1);
        thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                let take = take.clone();
                scope.spawn(|| {
                    let mut own = state();
                    for (number, wanted) in take {
                        if stopped.load(Ordering::Acquire) {
                            continue;
                        }
                        let Some((segment, size)) = self.segments.get(number as usize) else { continue };
                        let read = SegmentRead { segment, size: *size, wanted };
                        match read_segment(self.ledger, self.identities, read, |want, bytes| found(&mut own, want, bytes)) {
                            Ok(failed) => failed.into_iter().for_each(&lost),
                            Err(e) => fail(e),
                        }
                    }
                });
            }
            drop(take);
            let produced = produce(&mut |number, wanted| match stopped.load(Ordering::Acquire) {
                true => Err(Stopped),
                false if wanted.is_empty() => Ok(()),
                false => give.send((number, wanted)).map_err(|_| Stopped),
            });
            drop(give);
            if let Err(e) = produced {
                fail(e);
            }
        });
        trouble.into_inner().ok().flatten().map_or(Ok(()), Err)
    }
}
