//! Backup and disaster recovery for an Azure PIM estate.
//!
//! The map, and which way dependencies point:
//!
//! ```text
//! cli ─▶ backup, restore, retention, verify, drill ─▶ objective ─▶ vault, source ─▶ store ─▶ http ─▶ path, sort, observe
//!   ├──▶ agent, web ──▶ alert ──▶ policy ──▶ …
//!   ├──▶ doctor ──▶ policy ──────────┤
//!   ├──▶ policy ─────────────────────┘
//!   └──▶ sample: a tenant to try things on, and what stands in for one in a drill; it knows nobody
//! ```
//!
//! A **backup** moves records from a **source** into a **vault**, which keeps them in a **store**. A
//! **restore** moves them back. **Verify** proves that it works, a **drill** that a disaster is survived. **Retention** holds what must stay and
//! destroys, after review, what need not. The **doctor** says what is really in force; the
//! **objective** room measures RPO, availability, coverage and restore times from what is attested. The **policy** says what should happen;
//! **observe** is told what does. The **agent** decides when, on which of several machines, and runs each job as a
//! process of its own; **alert** tells people, **web** shows how things stand. `tests/house.rs` holds the arrows to this picture.

pub mod agent;
pub mod alert;
pub mod backup;
pub mod cli;
pub mod doctor;
pub mod drill;
pub mod http;
pub mod objective;
pub mod observe;
pub mod path;
pub mod policy;
pub mod restore;
pub mod retention;
pub mod sample;
mod sort;
pub mod source;
pub mod store;
pub mod vault;
pub mod verify;
pub mod web;
