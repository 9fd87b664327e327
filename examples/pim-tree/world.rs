//! Which records exist, and on which days they changed: a few bytes a record, so that a million of
//! them stay small. What a record says is made when it is asked for (see `documents`).

use std::collections::{HashMap, HashSet};

use crate::names;
use crate::rng::{Instant, Rng};

/// What a record is; also its place in every table of this program.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Collection {
    Users,
    Groups,
    ServicePrincipals,
    Applications,
    EligibilitySchedules,
    AssignmentSchedules,
    Assignments,
    Policies,
    PolicyAssignments,
    ConditionalAccess,
    NamedLocations,
    RoleDefinitions,
}

use Collection::{
    Applications, AssignmentSchedules, Assignments, ConditionalAccess, EligibilitySchedules, Groups, NamedLocations, Policies,
    PolicyAssignments, RoleDefinitions, ServicePrincipals, Users,
};

impl Collection {
    pub const ALL: [Self; 12] = [
        Users,
        Groups,
        ServicePrincipals,
        Applications,
        EligibilitySchedules,
        AssignmentSchedules,
        Assignments,
        Policies,
        PolicyAssignments,
        ConditionalAccess,
        NamedLocations,
        RoleDefinitions,
    ];

    /// The folder of its records.
    pub const fn path(self) -> &'static str {
        match self {
            Users => "users",
            Groups => "groups",
            ServicePrincipals => "servicePrincipals",
            Applications => "applications",
            EligibilitySchedules => "roleManagement/directory/roleEligibilitySchedules",
            AssignmentSchedules => "roleManagement/directory/roleAssignmentSchedules",
            Assignments => "roleManagement/directory/roleAssignments",
            Policies => "policies/roleManagementPolicies",
            PolicyAssignments => "policies/roleManagementPolicyAssignments",
            ConditionalAccess => "identity/conditionalAccess/policies",
            NamedLocations => "identity/conditionalAccess/namedLocations",
            RoleDefinitions => "roleManagement/directory/roleDefinitions",
        }
    }

    /// Records of 100,000; users get what is left.
    const fn share(self) -> usize {
        match self {
            Users => 0,
            Groups => 11_000,
            ServicePrincipals => 7_000,
            Applications => 4_500,
            EligibilitySchedules => 13_000,
            AssignmentSchedules => 8_500,
            Assignments => 6_500,
            Policies | PolicyAssignments => 1_100,
            ConditionalAccess => 100,
            NamedLocations => 50,
            RoleDefinitions => 250,
        }
    }

    /// Whether its records change in place. An assignment never does: it comes and goes.
    const fn changes(self) -> bool {
        !matches!(self, Assignments | PolicyAssignments)
    }
}

/// Where new records appear, in which proportion.
const BIRTHS: [Collection; 8] =
    [Users, Users, Groups, EligibilitySchedules, EligibilitySchedules, AssignmentSchedules, Assignments, Assignments];

/// The smallest tree that has every collection and something to refer to.
pub const SMALLEST: usize = 100;

/// Purposes of randomness that are not a collection's own.
pub mod purpose {
    pub const ID: u64 = 1;
    pub const RECORD: u64 = 2;
    pub const CHANGE: u64 = 3;
    pub const CHURN: u64 = 4;
    pub const APP_ID: u64 = 5;
    pub const TENANT: u64 = 6;
    pub const EVENT: u64 = 7;
}

/// A tenant on a day.
pub struct World {
    pub seed: u64,
    pub tenant: String,
    first: [usize; 12],
    born: [Vec<u64>; 12],
    changed: HashMap<(Collection, usize), Vec<u64>>,
    deleted: HashSet<(Collection, usize)>,
}

impl World {
    /// Midnight of day 0: 2026-03-02.
    const START: Instant = Instant(20_514 * Instant::DAY);

    /// The tenant of day 0 with `documents` records (at least [`SMALLEST`]).
    pub fn new(seed: u64, documents: usize) -> Self {
        let mut first = Collection::ALL.map(|collection| (documents * collection.share() / 100_000).max(1));
        first[Users as usize] = 0;
        first[Users as usize] = documents - first.iter().sum::<usize>();
        Self {
            seed,
            tenant: Rng::keyed(&[seed, purpose::TENANT]).guid(),
            first,
            born: Default::default(),
            changed: HashMap::new(),
            deleted: HashSet::new(),
        }
    }

    /// Lets one day pass in which about `churn` of all records change, appear or go.
    pub fn pass_day(&mut self, day: u64, churn: f64) {
        let mut rng = Rng::keyed(&[self.seed, purpose::CHURN, day]);
        let live: usize = Collection::ALL.iter().map(|&collection| self.len(collection)).sum::<usize>() - self.deleted.len();
        let touched = share(live, churn);
        let (births, deaths) = (share(touched, 0.05), share(touched, 0.025));
        let mut today = HashSet::new();
        self.draw(&mut rng, &mut today, deaths, Self::may_go, |world, key| {
            world.deleted.insert(key);
        });
        self.draw(
            &mut rng,
            &mut today,
            touched - births - deaths,
            |_, (collection, _)| collection.changes(),
            |world, key| {
                world.changed.entry(key).or_default().push(day);
            },
        );
        for _ in 0..births {
            self.born[rng.pick(&BIRTHS) as usize].push(day);
        }
    }

    /// Draws `count` different living records that `fits` and `does` something to each. Gives up
    /// on a tree so small that too few fit.
    fn draw(
        &mut self,
        rng: &mut Rng,
        today: &mut HashSet<(Collection, usize)>,
        count: usize,
        fits: impl Fn(&Self, (Collection, usize)) -> bool,
        does: impl Fn(&mut Self, (Collection, usize)),
    ) {
        let total = Collection::ALL.iter().map(|&collection| self.len(collection)).sum::<usize>();
        let (mut found, mut tries) = (0, 0);
        while found < count && tries < 100 * (count + 10) {
            tries += 1;
            let mut slot = rng.index(total);
            for collection in Collection::ALL {
                let len = self.len(collection);
                if slot < len {
                    let key = (collection, slot);
                    if fits(self, key) && !self.deleted.contains(&key) && today.insert(key) {
                        does(self, key);
                        found += 1;
                    }
                    break;
                }
                slot -= len;
            }
        }
    }

    /// A record goes only if no other refers to it.
    fn may_go(&self, (collection, index): (Collection, usize)) -> bool {
        match collection {
            Users | Groups => index >= self.anchored(collection),
            EligibilitySchedules | AssignmentSchedules | Assignments => true,
            _ => false,
        }
    }

    /// Records that ever were, deleted ones included.
    pub const fn len(&self, collection: Collection) -> usize {
        self.first[collection as usize] + self.born[collection as usize].len()
    }

    /// How many of the first records stay for ever and may be referred to.
    pub fn anchored(&self, collection: Collection) -> usize {
        (self.first[collection as usize] * 9 / 10).max(1)
    }

    /// A record that may be referred to.
    pub fn anchor(&self, rng: &mut Rng, collection: Collection) -> usize {
        rng.index(self.anchored(collection))
    }

    pub fn lives(&self, collection: Collection, index: usize) -> bool {
        !self.deleted.contains(&(collection, index))
    }

    /// The days on which a record changed, oldest first.
    pub fn changes(&self, collection: Collection, index: usize) -> &[u64] {
        self.changed.get(&(collection, index)).map_or(&[], Vec::as_slice)
    }

    /// A random instant in a day's working hours.
    pub fn on_day(day: u64, rng: &mut Rng) -> Instant {
        Instant(Self::START.0 + day * Instant::DAY + Instant::DAY / 4 + rng.below(Instant::DAY / 2))
    }

    /// A random instant in the `days` before day 0.
    pub fn before(rng: &mut Rng, days: u64) -> Instant {
        Instant(Self::START.0 - 1 - rng.below(days * Instant::DAY))
    }

    /// A random instant in the `days` after day 0.
    pub fn after(rng: &mut Rng, days: u64) -> Instant {
        Instant(Self::START.0 + rng.below(days * Instant::DAY))
    }

    /// When a record was made: on its day of birth, or in the six years before day 0.
    pub fn created(&self, collection: Collection, index: usize, rng: &mut Rng) -> Instant {
        match index.checked_sub(self.first[collection as usize]) {
            Some(late) => Self::on_day(self.born[collection as usize][late], rng),
            None => Self::before(rng, 6 * 365),
        }
    }

    /// The GUID by which a record is named and referred to.
    pub fn id(&self, collection: Collection, index: usize) -> String {
        match (collection, names::ROLES.get(index)) {
            (RoleDefinitions, Some((id, _, _))) => (*id).to_owned(),
            _ => Rng::keyed(&[self.seed, purpose::ID, collection as u64, index as u64]).guid(),
        }
    }

    /// The client id that an application and its service principal share.
    pub fn app_id(&self, index: usize) -> String {
        Rng::keyed(&[self.seed, purpose::APP_ID, index as u64]).guid()
    }

    /// The randomness of a record's own content.
    pub fn rng(&self, collection: Collection, index: usize) -> Rng {
        Rng::keyed(&[self.seed, purpose::RECORD, collection as u64, index as u64])
    }
}

/// `part` of `whole`, rounded.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "shares of some million records")]
fn share(whole: usize, part: f64) -> usize {
    (whole as f64 * part).round() as usize
}
