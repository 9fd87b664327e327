//! Room for what a run does side by side: sealing is bounded by cores, sending by what a store likes and by memory.

use std::sync::{Condvar, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::vault::seal::{Frames, SealError, Tuning};

/// Sealed bytes that wait for the store's answer, at most.
const IN_FLIGHT: u64 = 32 << 20;

/// Compressors, as many as cores, and the bytes that are under way.
pub(super) struct Room {
    give: Sender<Frames>,
    take: Receiver<Frames>,
    flight: Mutex<u64>,
    landed: Condvar,
}

impl Room {
    /// Room for `sealers` that compress at a time.
    pub fn new(sealers: usize, tuning: Tuning) -> Result<Self, SealError> {
        let (give, take) = bounded(sealers.max(1));
        for _ in 0..sealers.max(1) {
            // The channel is as long as what is put into it.
            let _ = give.send(Frames::new(tuning)?);
        }
        Ok(Self { give, take, flight: Mutex::new(0), landed: Condvar::new() })
    }

    /// Waits for a compressor, and works with it.
    pub fn sealing<T>(&self, work: impl FnOnce(&mut Frames) -> T) -> Option<T> {
        let mut frames = self.take.recv().ok()?;
        let done = work(&mut frames);
        let _ = self.give.send(frames);
        Some(done)
    }

    /// Waits until so many bytes may be under way, and sends them.
    pub fn sending<T>(&self, bytes: u64, work: impl FnOnce() -> T) -> T {
        let bytes = bytes.min(IN_FLIGHT);
        if let Ok(flight) = self.flight.lock()
            && let Ok(mut flight) = self.landed.wait_while(flight, |flight| *flight + bytes > IN_FLIGHT)
        {
            *flight += bytes;
        }
        let done = work();
        if let Ok(mut flight) = self.flight.lock() {
            *flight = flight.saturating_sub(bytes);
        }
        self.landed.notify_all();
        done
    }
}
