//! A statement that is signed as it should be, by a key that lies: what is accepted is what it says, and
//! no reader of its details may panic.
#![no_main]

use std::cell::LazyCell;

use backstop::vault::attestation::{
    CheckpointDetails, ExportDetails, GenesisDetails, HealDetails, HeartbeatDetails, Kind, RotationDetails, SnapshotDetails, Statement,
};
use backstop::vault::dsse::Envelope;
use backstop::vault::keys::{Role, Signer};
use backstop::vault::names::ChainName;
use backstop::vault::{Anchor, Ledger};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static LEDGER: LazyCell<Ledger> = LazyCell::new(backstop_fuzz::ledger);
    static AGENT: LazyCell<Signer> = LazyCell::new(|| backstop_fuzz::signer(Role::Agent));
    static OPERATOR: LazyCell<Signer> = LazyCell::new(|| backstop_fuzz::signer(Role::Operator));
}

fuzz_target!(|data: &[u8]| {
    if let Ok(statement) = Statement::parse(data) {
        let p = &statement.predicate;
        let _ = (p.details::<SnapshotDetails>(), p.details::<ExportDetails>(), p.details::<CheckpointDetails>());
        let _ =
            (p.details::<GenesisDetails>(), p.details::<RotationDetails>(), p.details::<HealDetails>(), p.details::<HeartbeatDetails>());
        let again = Statement::parse(&statement.to_bytes().expect("it can be written")).expect("what is written can be read");
        assert_eq!(again, statement);
        // The vault's id is made at founding: with the right one, more of the statement is looked at.
        LEDGER.with(|ledger| {
            let mut ours = statement.clone();
            ours.predicate.vault = ledger.trust().vault().to_owned();
            let bytes = ours.to_bytes().expect("it can be written");
            let envelope = AGENT.with(|agent| Envelope::sign(&bytes, agent));
            let (chain, sequence) = (&ours.predicate.chain, ours.predicate.sequence);
            if let Ok((accepted, role)) = ledger.trust().accept(&envelope, chain, sequence) {
                assert_eq!(role, Role::Agent);
                assert!(role.may(accepted.kind, chain) && accepted.kind.belongs_on(chain));
                assert!(!matches!(accepted.kind, Kind::Genesis | Kind::KeyRotation | Kind::Hold | Kind::Disposition));
            }
            assert!(ledger.trust().accept(&envelope, chain, sequence.wrapping_add(1)).is_err(), "it is another number");
        });
        // And as the operator's, on the chain that decides about keys.
        let (store, genesis) = backstop_fuzz::vault();
        let own = Ledger::open(store.clone(), &Anchor::Envelope(genesis.clone())).expect("a ledger");
        let mut ours = statement;
        ours.predicate.vault = own.trust().vault().to_owned();
        ours.predicate.chain = ChainName::vault();
        ours.predicate.sequence = 2;
        let bytes = ours.to_bytes().expect("it can be written");
        store.plant(&ChainName::vault().envelope(2), &OPERATOR.with(|operator| Envelope::sign(&bytes, operator)));
        let ledger = Ledger::open(store, &Anchor::Envelope(genesis)).expect("a ledger");
        assert_eq!(ledger.vault_chain().attested.len() + ledger.vault_chain().voids.len(), 2);
    }
});
