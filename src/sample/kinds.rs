//! The collections of the tenant: where each is served, and by what rules.

/// A collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum Kind {
    /// People and guests.
    Users,
    /// Groups.
    Groups,
    /// Registered applications.
    Applications,
    /// The tenant's instances of applications.
    ServicePrincipals,
    /// Administrative units.
    AdministrativeUnits,
    /// Directory role definitions.
    RoleDefinitions,
    /// Active directory role assignments.
    RoleAssignments,
    /// Eligibilities.
    RoleEligibilitySchedules,
    /// Schedules of active assignments.
    RoleAssignmentSchedules,
    /// PIM policies of directory roles.
    RoleManagementPolicies,
    /// Which policy governs which directory role.
    RoleManagementPolicyAssignments,
    /// Conditional access.
    ConditionalAccessPolicies,
    /// Places that conditional access knows.
    NamedLocations,
    /// The tenant itself.
    Organization,
    /// Azure subscriptions.
    Subscriptions,
    /// Azure role definitions.
    ArmRoleDefinitions,
    /// Azure role assignments.
    ArmRoleAssignments,
    /// PIM policies of Azure roles.
    ArmRoleManagementPolicies,
    /// Which policy governs which Azure role.
    ArmRoleManagementPolicyAssignments,
    /// Azure Policy definitions.
    ArmPolicyDefinitions,
}

/// How many collections there are.
pub const KINDS: usize = 20;

/// The limits that a service puts on requests for a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// Resource units of the directory; what one request costs.
    Identity(u32),
    /// Conditional access: one request a second.
    ConditionalAccess,
    /// Privileged identity management: no documented limit.
    Governance,
    /// Audit and sign-in logs.
    Reports,
    /// Azure Resource Manager.
    Arm,
}

/// The rules of a collection.
#[derive(Debug)]
pub struct Rules {
    /// The collection.
    pub kind: Kind,
    /// Its name in the backup catalogue.
    pub catalog: &'static str,
    /// Where it is served, below the version or the scope.
    pub path: &'static str,
    /// The type of its objects.
    pub odata_type: &'static str,
    /// Objects on a page when nothing is asked.
    pub page: usize,
    /// The most that may be asked.
    pub most: usize,
    /// What is returned without `$select`; empty: everything that is no navigation property.
    pub default: &'static [&'static str],
    /// Properties that only `$expand` brings.
    pub navigation: &'static [&'static str],
    /// Properties that the first version of the interface does not have.
    pub beta_only: &'static [&'static str],
    /// What the catalogue selects.
    pub select: &'static [&'static str],
    /// Whether there is a delta query.
    pub delta: bool,
    /// Its limit.
    pub bucket: Bucket,
}

/// What a user shows without `$select`.
pub const USER_DEFAULT: [&str; 11] = [
    "id",
    "businessPhones",
    "displayName",
    "givenName",
    "jobTitle",
    "mail",
    "mobilePhone",
    "officeLocation",
    "preferredLanguage",
    "surname",
    "userPrincipalName",
];

const USER_SELECT: [&str; 16] = [
    "id",
    "userPrincipalName",
    "displayName",
    "mail",
    "mailNickname",
    "userType",
    "accountEnabled",
    "onPremisesSyncEnabled",
    "onPremisesImmutableId",
    "externalUserState",
    "usageLocation",
    "department",
    "jobTitle",
    "employeeId",
    "createdDateTime",
    "deletedDateTime",
];

const GROUP_SELECT: [&str; 15] = [
    "id",
    "displayName",
    "description",
    "mailNickname",
    "mailEnabled",
    "securityEnabled",
    "groupTypes",
    "membershipRule",
    "membershipRuleProcessingState",
    "isAssignableToRole",
    "visibility",
    "classification",
    "onPremisesSyncEnabled",
    "uniqueName",
    "createdDateTime",
];

const GRAPH: Rules = Rules {
    kind: Kind::Users,
    catalog: "",
    path: "",
    odata_type: "",
    page: 100,
    most: 999,
    default: &[],
    navigation: &[],
    beta_only: &[],
    select: &[],
    delta: false,
    bucket: Bucket::Governance,
};

const ARM: Rules = Rules { bucket: Bucket::Arm, page: 200, most: 1000, ..GRAPH };

/// The rules of all collections, in the order of [`Kind`].
pub static RULES: [Rules; KINDS] = [
    Rules {
        kind: Kind::Users,
        catalog: "entra.users",
        path: "users",
        odata_type: "#microsoft.graph.user",
        default: &USER_DEFAULT,
        select: &USER_SELECT,
        delta: true,
        bucket: Bucket::Identity(2),
        ..GRAPH
    },
    Rules {
        kind: Kind::Groups,
        catalog: "entra.groups",
        path: "groups",
        odata_type: "#microsoft.graph.group",
        select: &GROUP_SELECT,
        delta: true,
        bucket: Bucket::Identity(1),
        ..GRAPH
    },
    Rules {
        kind: Kind::Applications,
        catalog: "entra.applications",
        path: "applications",
        odata_type: "#microsoft.graph.application",
        delta: true,
        bucket: Bucket::Identity(2),
        ..GRAPH
    },
    Rules {
        kind: Kind::ServicePrincipals,
        catalog: "entra.servicePrincipals",
        path: "servicePrincipals",
        odata_type: "#microsoft.graph.servicePrincipal",
        delta: true,
        bucket: Bucket::Identity(1),
        ..GRAPH
    },
    Rules {
        kind: Kind::AdministrativeUnits,
        catalog: "entra.administrativeUnits",
        path: "directory/administrativeUnits",
        odata_type: "#microsoft.graph.administrativeUnit",
        delta: true,
        bucket: Bucket::Identity(1),
        ..GRAPH
    },
    Rules {
        kind: Kind::RoleDefinitions,
        catalog: "entra.roleDefinitions",
        path: "roleManagement/directory/roleDefinitions",
        odata_type: "#microsoft.graph.unifiedRoleDefinition",
        navigation: &["inheritsPermissionsFrom"],
        beta_only: &["isPrivileged", "allowedPrincipalTypes"],
        ..GRAPH
    },
    Rules {
        kind: Kind::RoleAssignments,
        catalog: "entra.roleAssignments",
        path: "roleManagement/directory/roleAssignments",
        odata_type: "#microsoft.graph.unifiedRoleAssignment",
        navigation: &["principal", "roleDefinition", "directoryScope"],
        ..GRAPH
    },
    Rules {
        kind: Kind::RoleEligibilitySchedules,
        catalog: "entra.roleEligibilitySchedules",
        path: "roleManagement/directory/roleEligibilitySchedules",
        odata_type: "#microsoft.graph.unifiedRoleEligibilitySchedule",
        navigation: &["principal", "roleDefinition", "directoryScope"],
        ..GRAPH
    },
    Rules {
        kind: Kind::RoleAssignmentSchedules,
        catalog: "entra.roleAssignmentSchedules",
        path: "roleManagement/directory/roleAssignmentSchedules",
        odata_type: "#microsoft.graph.unifiedRoleAssignmentSchedule",
        navigation: &["principal", "roleDefinition", "directoryScope"],
        ..GRAPH
    },
    Rules {
        kind: Kind::RoleManagementPolicies,
        catalog: "entra.roleManagementPolicies",
        path: "policies/roleManagementPolicies",
        odata_type: "#microsoft.graph.unifiedRoleManagementPolicy",
        navigation: &["rules"],
        ..GRAPH
    },
    Rules {
        kind: Kind::RoleManagementPolicyAssignments,
        catalog: "entra.roleManagementPolicyAssignments",
        path: "policies/roleManagementPolicyAssignments",
        odata_type: "#microsoft.graph.unifiedRoleManagementPolicyAssignment",
        navigation: &["policy"],
        ..GRAPH
    },
    Rules {
        kind: Kind::ConditionalAccessPolicies,
        catalog: "entra.conditionalAccessPolicies",
        path: "identity/conditionalAccess/policies",
        odata_type: "#microsoft.graph.conditionalAccessPolicy",
        bucket: Bucket::ConditionalAccess,
        ..GRAPH
    },
    Rules {
        kind: Kind::NamedLocations,
        catalog: "entra.namedLocations",
        path: "identity/conditionalAccess/namedLocations",
        odata_type: "#microsoft.graph.namedLocation",
        bucket: Bucket::ConditionalAccess,
        ..GRAPH
    },
    Rules {
        kind: Kind::Organization,
        catalog: "entra.organization",
        path: "organization",
        odata_type: "#microsoft.graph.organization",
        bucket: Bucket::Identity(1),
        ..GRAPH
    },
    Rules { kind: Kind::Subscriptions, catalog: "arm.subscriptions", path: "subscriptions", ..ARM },
    Rules { kind: Kind::ArmRoleDefinitions, catalog: "arm.roleDefinitions", path: "roleDefinitions", ..ARM },
    Rules { kind: Kind::ArmRoleAssignments, catalog: "arm.roleAssignments", path: "roleAssignments", ..ARM },
    Rules { kind: Kind::ArmRoleManagementPolicies, catalog: "arm.roleManagementPolicies", path: "roleManagementPolicies", page: 50, ..ARM },
    Rules {
        kind: Kind::ArmRoleManagementPolicyAssignments,
        catalog: "arm.roleManagementPolicyAssignments",
        path: "roleManagementPolicyAssignments",
        page: 50,
        ..ARM
    },
    Rules { kind: Kind::ArmPolicyDefinitions, catalog: "arm.policyDefinitions", path: "policyDefinitions", ..ARM },
];

impl Kind {
    /// The rules of this collection.
    pub fn rules(self) -> &'static Rules {
        &RULES[self as usize]
    }

    /// The collection of Microsoft Graph at a path below the version.
    pub fn at_graph_path(path: &str) -> Option<Self> {
        RULES[..=Self::Organization as usize].iter().find(|r| r.path.eq_ignore_ascii_case(path)).map(|r| r.kind)
    }

    /// The collection of Azure Resource Manager with a name below `Microsoft.Authorization`.
    pub fn of_arm(name: &str) -> Option<Self> {
        RULES[Self::ArmRoleDefinitions as usize..].iter().find(|r| r.path.eq_ignore_ascii_case(name)).map(|r| r.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_stand_in_the_order_of_kinds() {
        for (at, rules) in RULES.iter().enumerate() {
            assert_eq!(rules.kind as usize, at);
        }
        assert_eq!(Kind::at_graph_path("directory/administrativeUnits"), Some(Kind::AdministrativeUnits));
        assert_eq!(Kind::of_arm("roleassignments"), Some(Kind::ArmRoleAssignments));
        assert_eq!(Kind::at_graph_path("roleDefinitions"), None);
    }
}
