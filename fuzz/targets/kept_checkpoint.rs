//! A checkpoint that somebody kept elsewhere and gives back.
#![no_main]

use std::cell::LazyCell;

use backstop::vault::Ledger;
use backstop::verify::KeptCheckpoint;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static LEDGER: LazyCell<Ledger> = LazyCell::new(backstop_fuzz::ledger);
}

fuzz_target!(|data: &[u8]| {
    LEDGER.with(|ledger| {
        if let Ok(kept) = KeptCheckpoint::read(data, ledger) {
            let own: Vec<_> = kept.heads.iter().filter(|h| h.chain.as_str() == "checkpoint").collect();
            assert_eq!(own.len(), 1, "its own place is among the heads, once");
        }
    });
});
