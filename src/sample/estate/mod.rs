//! The configuration of the tenant: every object, made from a seed, and who belongs to which group.

mod access;
mod azure;
mod directory;
mod people;
mod privilege;

use serde_json::Value;

use super::kinds::{KINDS, Kind};
use super::record::Record;
use super::rng::{guid, hash};
use super::table::Table;

pub use access::{POLICIES, in_preview};
pub use directory::GLASS as GLASS_GROUP;
pub use people::{DOMAIN, person};
pub use privilege::{GLOBAL_ADMINISTRATOR, USUAL as USUAL_ROLES, assign, make_eligible, policy_of_role};

/// A user, group or service principal by the place in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member(u32);

impl Member {
    /// The member at a place of a table.
    pub fn new(kind: Kind, place: usize) -> Self {
        let bits = match kind {
            Kind::Groups => 1,
            Kind::ServicePrincipals => 2,
            _ => 0,
        };
        Self((bits << 30) | place as u32)
    }

    /// Its table.
    pub fn kind(self) -> Kind {
        match self.0 >> 30 {
            1 => Kind::Groups,
            2 => Kind::ServicePrincipals,
            _ => Kind::Users,
        }
    }

    /// Its place there.
    pub fn place(self) -> usize {
        (self.0 & 0x3fff_ffff) as usize
    }
}

/// A membership that came or went.
#[derive(Debug, Clone, Copy)]
pub struct MemberChange {
    /// The number of the change.
    pub change: u64,
    /// The place of the group.
    pub group: usize,
    /// Who.
    pub member: Member,
}

/// What never changes about a tenant.
#[derive(Debug, Clone)]
pub struct Basis {
    /// The seed of everything.
    pub seed: u64,
    /// Users at the start.
    pub users: usize,
    /// The start, in nanoseconds since 1970.
    pub start: i64,
    /// The tenant's id.
    pub tenant: String,
}

impl Basis {
    /// The GUID of the `n`th thing of a kind.
    pub fn guid(&self, kind: &str, n: usize) -> String {
        guid(self.seed, kind, n as u64)
    }

    /// An instant some days before the start, in nanoseconds.
    pub fn before(&self, kind: u64, n: usize, days: u64) -> i64 {
        let back = hash(&[self.seed, kind, n as u64]) % (days * 86_400);
        (self.start / 1_000_000_000 - 86_400 - back as i64) * 1_000_000_000
    }

    /// Ids of the Azure subscriptions.
    pub fn subscriptions(&self) -> Vec<String> {
        (0..azure::SUBSCRIPTIONS.len()).map(|n| self.guid("subscription", n)).collect()
    }

    /// The group whose members approve activations.
    pub fn approvers(&self) -> String {
        self.guid("group", directory::APPROVERS)
    }
}

/// Everything that a backup of configuration could find.
#[derive(Debug)]
pub struct Estate {
    /// What it was made from.
    pub basis: Basis,
    tables: Vec<Table>,
    members: Vec<Vec<Member>>,
    owners: Vec<Vec<Member>>,
    /// Memberships that came and went since the start.
    pub membership: Vec<MemberChange>,
    /// The number of the last change.
    pub change: u64,
}

impl Estate {
    /// The estate that belongs to a basis.
    pub fn build(basis: Basis) -> Self {
        let mut estate = Self::empty(basis);
        people::build(&mut estate);
        directory::build(&mut estate);
        privilege::build(&mut estate);
        access::build(&mut estate);
        azure::build(&mut estate);
        estate
    }

    /// An estate without anything in it.
    pub fn empty(basis: Basis) -> Self {
        let tables = (0..KINDS).map(|_| Table::default()).collect();
        Self { basis, tables, members: Vec::new(), owners: Vec::new(), membership: Vec::new(), change: 0 }
    }

    /// A collection.
    pub fn table(&self, kind: Kind) -> &Table {
        &self.tables[kind as usize]
    }

    /// A collection, to be changed.
    pub fn table_mut(&mut self, kind: Kind) -> &mut Table {
        &mut self.tables[kind as usize]
    }

    /// The number of a new change.
    pub fn next_change(&mut self) -> u64 {
        self.change += 1;
        self.change
    }

    /// Adds or replaces an object.
    pub fn put(&mut self, kind: Kind, id: &str, value: &Value) {
        let change = self.change;
        self.tables[kind as usize].put_value(id, value, change);
    }

    /// The members of the group at a place.
    pub fn members(&self, group: usize) -> &[Member] {
        self.members.get(group).map_or(&[], Vec::as_slice)
    }

    /// The owners of the group at a place.
    pub fn owners(&self, group: usize) -> &[Member] {
        self.owners.get(group).map_or(&[], Vec::as_slice)
    }

    /// Replaces a group's members and owners.
    pub fn set_people(&mut self, group: usize, members: Vec<Member>, owners: Vec<Member>) {
        let room = group + 1;
        if self.members.len() < room {
            self.members.resize(room, Vec::new());
            self.owners.resize(room, Vec::new());
        }
        self.members[group] = members;
        self.owners[group] = owners;
    }

    /// Adds a member to a group or takes it out; false if that is so already.
    pub fn set_member(&mut self, group: usize, member: Member, present: bool) -> bool {
        let Some(list) = self.members.get_mut(group) else { return false };
        let at = list.iter().position(|m| *m == member);
        match (at, present) {
            (None, true) => list.push(member),
            (Some(at), false) => {
                list.remove(at);
            }
            _ => return false,
        }
        let change = self.next_change();
        self.membership.push(MemberChange { change, group, member });
        let table = self.table_mut(Kind::Groups);
        if let Some(id) = table.entries().get(group).map(|e| e.id.clone()) {
            table.touch(&id, change);
        }
        true
    }

    /// Deletes an object, and what it is a member of.
    pub fn delete(&mut self, kind: Kind, id: &str) -> bool {
        let change = self.next_change();
        self.tables[kind as usize].delete(id, change)
    }

    /// The object of a member, unless it is deleted.
    pub fn member(&self, member: Member) -> Option<(&str, &Record)> {
        let entry = self.table(member.kind()).entries().get(member.place())?;
        entry.record.as_ref().map(|r| (&*entry.id, r))
    }

    /// A user, group or service principal.
    pub fn principal(&self, id: &str) -> Option<(Kind, &Record)> {
        [Kind::Users, Kind::Groups, Kind::ServicePrincipals].into_iter().find_map(|kind| self.table(kind).get(id).map(|r| (kind, r)))
    }
}
