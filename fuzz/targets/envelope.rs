//! A DSSE envelope from the store, before anything of it is trusted: no bytes may be accepted that no key
//! of the vault has signed, whatever stands in them.
#![no_main]

use std::cell::LazyCell;

use backstop::vault::dsse::Envelope;
use backstop::vault::{Anchor, Ledger, Trust};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static LEDGER: LazyCell<Ledger> = LazyCell::new(backstop_fuzz::ledger);
}

fuzz_target!(|data: &[u8]| {
    let _ = Envelope::parse(data);
    let chain = "snapshot.entra".parse().expect("a chain");
    LEDGER.with(|ledger| assert!(ledger.trust().accept(data, &chain, 1).is_err(), "nobody has signed this"));
    let _ = Trust::from_genesis(data, || Some(data.to_vec()));
    // A squatter must not be able to stop a ledger whose genesis is kept.
    let (store, genesis) = backstop_fuzz::vault();
    store.plant("attestations/vault/0000000002.json", data);
    store.plant("attestations/checkpoint/0000000001.json", data);
    store.plant("attestations/bundles/2026-11-23.ndjson.zst", data);
    let ledger = Ledger::open(store, &Anchor::Envelope(genesis)).expect("its genesis is kept");
    assert_eq!((ledger.vault_chain().attested.len(), ledger.vault_chain().voids.len()), (1, 1));
    let view = ledger.chain(&"checkpoint".parse().expect("a chain")).expect("the store answers");
    assert_eq!((view.attested.len(), view.voids.len()), (0, 1));
});
