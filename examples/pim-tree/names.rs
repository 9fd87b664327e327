//! The words that records are made of. A tenant's text is repetitive in the same way: few
//! departments, cities and applications, many people.

pub const DOMAIN: &str = "contoso.com";
pub const TENANT_DOMAIN: &str = "contoso.onmicrosoft.com";

pub const GIVEN: &[&str] = &[
    "Adele", "Aisha", "Alejandro", "Alexandra", "Amélie", "Amir", "Ana", "Anders", "Andrea", "Anika", "Anton",
    "Aoife", "Arjun", "Astrid", "Ayumi", "Beatriz", "Benjamin", "Birgit", "Bram", "Camille", "Carlos", "Chiara",
    "Chloé", "Daniel", "Deepa", "Diego", "Dmitri", "Elena", "Elif", "Emeka", "Emily", "Emre", "Erik", "Esther",
    "Fatima", "Felix", "Fiona", "Gabriel", "Giulia", "Grace", "Hannah", "Hassan", "Henrik", "Hiroshi", "Ibrahim",
    "Ines", "Ingrid", "Isaiah", "Jakub", "Jamal", "Jana", "Javier", "Jin", "Johanna", "Jonas", "José", "Julia",
    "Kamala", "Karim", "Katarzyna", "Kenji", "Kwame", "Lars", "Laura", "Leila", "Lena", "Liam", "Lidia", "Linnea",
    "Lucas", "Lucía", "Luca", "Magnus", "Maja", "Malik", "Marco", "Maria", "Marta", "Mateusz", "Maya", "Megan",
    "Mehmet", "Mei", "Miriam", "Mohamed", "Nadia", "Naomi", "Natalia", "Nestor", "Niamh", "Nikolai", "Noah",
    "Nora", "Olga", "Oliver", "Omar", "Paola", "Patti", "Pavel", "Petra", "Pradeep", "Priya", "Rafael", "Ravi",
    "Rebecca", "Renée", "Rosa", "Ruth", "Samira", "Sanjay", "Sara", "Sean", "Sofia", "Stefan", "Sven", "Tamara",
    "Thomas", "Tomás", "Ursula", "Valentina", "Victor", "Wanjiru", "Wei", "Xiaoyan", "Yusuf", "Zoë",
];

pub const SURNAMES: &[&str] = &[
    "Abdullah", "Adeyemi", "Ahmed", "Almeida", "Andersson", "Bauer", "Becker", "Bergström", "Bianchi", "Bouchard",
    "Brown", "Byrne", "Calloway", "Carvalho", "Chatterjee", "Chen", "Clarke", "Costa", "Cruz", "Danso", "Davies",
    "Dekker", "Demir", "Diallo", "Dubois", "Eriksen", "Esposito", "Evans", "Farouk", "Fernández", "Ferrari",
    "Fischer", "Fleming", "Fontaine", "Fraser", "García", "Gruber", "Gupta", "Haddad", "Hansen", "Hartmann",
    "Hernández", "Hoffmann", "Horváth", "Hughes", "Ibáñez", "Ito", "Ivanov", "Jackson", "Jansen", "Jensen",
    "Johansson", "Jones", "Jovanović", "Kaplan", "Karlsson", "Kaya", "Keller", "Khan", "Kimura", "Klein", "Kowalska",
    "Krüger", "Kumar", "Lambert", "Larsen", "Leclerc", "Lee", "Lehmann", "Lindqvist", "Lombardi", "López", "Maier",
    "Marchetti", "Martin", "Mbeki", "McCarthy", "Mendes", "Meyer", "Moreau", "Moreno", "Müller", "Murphy",
    "Nakamura", "Nguyen", "Nielsen", "Novák", "Nowak", "Nyström", "O'Brien", "Okafor", "Olsen", "Owens", "Pappas",
    "Park", "Patel", "Pereira", "Petrov", "Popescu", "Ramírez", "Rao", "Reddy", "Ricci", "Richter", "Rossi",
    "Santos", "Sato", "Schmidt", "Schneider", "Schulz", "Sharma", "Silva", "Singh", "Smith", "Sokolov", "Suzuki",
    "Svensson", "Takahashi", "Tanaka", "Taylor", "Thompson", "Torres", "Traoré", "Tran", "Ueda", "Van Dyke",
    "Vance", "Vasquez", "Virtanen", "Vogel", "Wagner", "Walker", "Wallace", "Wang", "Weber", "Williams", "Wilson",
    "Winkler", "Wójcik", "Wong", "Yamamoto", "Yılmaz", "Young", "Zhang", "Zieliński", "Zimmermann",
];

/// City, state, country, usage location, telephone prefix, latitude, longitude.
pub const CITIES: &[(&str, &str, &str, &str, &str, f64, f64)] = &[
    ("Zürich", "ZH", "Switzerland", "CH", "+41 44", 47.3769, 8.5417),
    ("Genève", "GE", "Switzerland", "CH", "+41 22", 46.2044, 6.1432),
    ("München", "Bayern", "Germany", "DE", "+49 89", 48.1351, 11.582),
    ("Hamburg", "Hamburg", "Germany", "DE", "+49 40", 53.5511, 9.9937),
    ("Paris", "Île-de-France", "France", "FR", "+33 1", 48.8566, 2.3522),
    ("London", "England", "United Kingdom", "GB", "+44 20", 51.5072, -0.1276),
    ("Dublin", "Leinster", "Ireland", "IE", "+353 1", 53.3498, -6.2603),
    ("Madrid", "Madrid", "Spain", "ES", "+34 91", 40.4168, -3.7038),
    ("Milano", "Lombardia", "Italy", "IT", "+39 02", 45.4642, 9.19),
    ("Warszawa", "Mazowieckie", "Poland", "PL", "+48 22", 52.2297, 21.0122),
    ("Stockholm", "Stockholm", "Sweden", "SE", "+46 8", 59.3293, 18.0686),
    ("Redmond", "WA", "United States", "US", "+1 425", 47.674, -122.1215),
    ("Austin", "TX", "United States", "US", "+1 512", 30.2672, -97.7431),
    ("New York", "NY", "United States", "US", "+1 212", 40.7128, -74.006),
    ("Toronto", "ON", "Canada", "CA", "+1 416", 43.6532, -79.3832),
    ("São Paulo", "SP", "Brazil", "BR", "+55 11", -23.5558, -46.6396),
    ("Singapore", "Singapore", "Singapore", "SG", "+65 6", 1.3521, 103.8198),
    ("Tokyo", "Tokyo", "Japan", "JP", "+81 3", 35.6762, 139.6503),
    ("Bengaluru", "Karnataka", "India", "IN", "+91 80", 12.9716, 77.5946),
    ("Nairobi", "Nairobi", "Kenya", "KE", "+254 20", -1.2921, 36.8219),
];

pub const DEPARTMENTS: &[&str] = &[
    "Finance", "Treasury", "Human Resources", "Legal", "Compliance", "Internal Audit", "Sales", "Marketing",
    "Customer Care", "Procurement", "Logistics", "Manufacturing", "Research", "Product Management",
    "Platform Engineering", "Site Reliability", "Security Operations", "Identity and Access", "Network Services",
    "Workplace Services", "Data and Analytics", "Facilities",
];

pub const TITLES: &[&str] = &[
    "Analyst", "Senior Analyst", "Associate", "Team Lead", "Manager", "Senior Manager", "Director", "Engineer",
    "Senior Engineer", "Principal Engineer", "Architect", "Specialist", "Consultant", "Coordinator", "Administrator",
    "Vice President", "Trainee",
];

pub const LANGUAGES: &[&str] = &["en-US", "en-GB", "de-CH", "de-DE", "fr-FR", "it-IT", "es-ES", "sv-SE", "pl-PL", "ja-JP"];

/// Licence plans of a tenant (SKU ids are the tenant's, made from the seed).
pub const LICENCES: usize = 9;

pub const PARTNERS: &[&str] = &["fabrikam.com", "northwindtraders.com", "adatum.com", "wingtiptoys.com", "litware.com"];

pub const SYSTEMS: &[&str] = &[
    "SAP S4", "Salesforce", "ServiceNow", "Workday", "Jira", "Confluence", "GitHub Enterprise", "Snowflake",
    "Databricks", "Power BI", "Splunk", "CyberArk", "Terraform Cloud", "Grafana", "Kafka", "PostgreSQL", "Oracle EBS",
    "SharePoint", "Dynamics 365", "Citrix", "VPN Gateway", "Payment Hub", "Data Lake", "Invoice Portal",
];

pub const ENVIRONMENTS: &[&str] = &["Production", "Staging", "Test", "Development", "DR"];

pub const PURPOSES: &[&str] = &["Administrators", "Operators", "Readers", "Owners", "Contributors", "Approvers", "Users", "Support"];

/// Built-in directory roles: template id, name, whether it is privileged.
pub const ROLES: &[(&str, &str, bool)] = &[
    ("62e90394-69f5-4237-9190-012177145e10", "Global Administrator", true),
    ("f2ef992c-3afb-46b9-b7cf-a126ee74c451", "Global Reader", true),
    ("fe930be7-5e62-47db-91af-98c3a49a38b1", "User Administrator", true),
    ("e8611ab8-c189-46e8-94e1-60213ab1f814", "Privileged Role Administrator", true),
    ("7be44c8a-adaf-4e2a-84d6-ab2649e08a13", "Privileged Authentication Administrator", true),
    ("194ae4cb-b126-40b2-bd5b-6091b380977d", "Security Administrator", true),
    ("5f2222b1-57c3-48ba-8ad5-d4759f1fde6f", "Security Operator", true),
    ("5d6b6bb7-de71-4623-b4af-96380a352509", "Security Reader", true),
    ("729827e3-9c14-49f7-bb1b-9608f156bbb8", "Helpdesk Administrator", true),
    ("9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3", "Application Administrator", true),
    ("158c047a-c907-4556-b7ef-446551a6b5f7", "Cloud Application Administrator", true),
    ("cf1c38e5-3621-4004-a7cb-879624dced7c", "Application Developer", true),
    ("c4e39bd9-1100-46d3-8c65-fb160da0071f", "Authentication Administrator", true),
    ("b1be1c3e-b65d-4f19-8427-f6fa0d97feb9", "Conditional Access Administrator", true),
    ("3a2c62db-5318-420d-8d74-23affee5d9d5", "Intune Administrator", true),
    ("966707d0-3269-4727-9be2-8c3a10f19b9d", "Password Administrator", true),
    ("8ac3fc64-6eca-42ea-9e69-59f4c7b60eb2", "Hybrid Identity Administrator", true),
    ("7698a772-787b-4ac8-901f-60d6b08affd2", "Cloud Device Administrator", true),
    ("29232cdf-9323-42fd-ade2-1d097af3e4de", "Exchange Administrator", false),
    ("f28a1f50-f6e7-4571-818b-6a12f2af6b6c", "SharePoint Administrator", false),
    ("69091246-20e8-4a56-aa4d-066075b2a7a8", "Teams Administrator", false),
    ("fdd7a751-b60b-444a-984c-02652fe8fa1c", "Groups Administrator", false),
    ("b0f54661-2d74-4c50-afa3-1ec803f12efe", "Billing Administrator", false),
    ("17315797-102d-40b4-93e0-432062caca18", "Compliance Administrator", false),
    ("4a5d8f65-41da-4de4-8968-e035b65339cf", "Reports Reader", false),
    ("f023fd81-a637-4b56-95fd-791ac0226033", "Service Support Administrator", false),
    ("45d8d3c5-c802-45c6-b32a-1d70b5e1e86e", "Identity Governance Administrator", false),
    ("88d8e3e3-8f55-4a1e-953a-9b9898b8876b", "Directory Readers", false),
    ("9360feb5-f418-4baa-8175-e2a00bac4301", "Directory Writers", true),
    ("4d6ac14f-3453-41d0-bef9-a3e0c569773a", "License Administrator", false),
    ("95e79109-95c0-4d8e-aee3-d01accf2d47b", "Guest Inviter", false),
    ("58a13ea3-c632-46ae-9ee0-9c0d43cd7f3d", "Attribute Assignment Administrator", false),
    ("8424c6f0-a189-499e-bbd0-26c1753c96d4", "Attribute Definition Administrator", false),
    ("11648597-926c-4cf3-9c36-bcebb0ba8dcc", "Power Platform Administrator", false),
];

/// Resources and the verbs that a role may have on them.
pub const ROLE_RESOURCES: &[&str] = &[
    "users", "groups", "groups.unified", "groups.security", "applications", "servicePrincipals", "devices",
    "administrativeUnits", "conditionalAccessPolicies", "auditLogs", "signInReports", "provisioningLogs",
    "namedLocations", "accessReviews", "entitlementManagement", "roleAssignments", "crossTenantAccessPolicy",
];
pub const ROLE_VERBS: &[&str] = &[
    "standard/read", "allProperties/read", "basic/update", "create", "delete", "restore", "members/update",
    "owners/update", "allProperties/allTasks", "credentials/update", "enable", "disable",
];

pub const BROWSERS: &[&str] = &[
    "Edge 131.0.0", "Chrome 131.0.0", "Firefox 133.0", "Safari 18.1", "Mobile Safari", "Rich Client 4.66.1",
];
pub const OPERATING_SYSTEMS: &[&str] = &["Windows 11", "Windows 10", "MacOs", "Ios 18.1", "Android 15", "Linux"];
pub const CLIENTS: &[&str] = &["Browser", "Mobile Apps and Desktop clients", "Exchange ActiveSync", "Other clients"];

/// Sign-in results: error code and its reason (0 is success).
pub const FAILURES: &[(u32, &str)] = &[
    (50126, "Error validating credentials due to invalid username or password."),
    (50074, "Strong Authentication is required."),
    (50076, "User needs to perform multi-factor authentication."),
    (53003, "Access has been blocked by Conditional Access policies."),
    (50053, "Account is locked because user tried to sign in too many times."),
    (65001, "The user or administrator has not consented to use the application."),
];

/// Audited activities: service, category, name, operation, type of the target.
pub const ACTIVITIES: &[(&str, &str, &str, &str, &str)] = &[
    ("PIM", "RoleManagement", "Add member to role completed (PIM activation)", "ActivateRole", "Role"),
    ("PIM", "RoleManagement", "Add member to role requested (PIM activation)", "RequestRole", "Role"),
    ("PIM", "RoleManagement", "Add eligible member to role in PIM completed (timebound)", "AssignRole", "Role"),
    ("PIM", "RoleManagement", "Remove member from role (PIM activation expired)", "DeactivateRole", "Role"),
    ("PIM", "RoleManagement", "Update role setting in PIM", "UpdateRoleSetting", "Policy"),
    ("Core Directory", "UserManagement", "Update user", "Update", "User"),
    ("Core Directory", "UserManagement", "Reset user password", "Update", "User"),
    ("Core Directory", "GroupManagement", "Add member to group", "Assign", "Group"),
    ("Core Directory", "GroupManagement", "Remove member from group", "Unassign", "Group"),
    ("Core Directory", "ApplicationManagement", "Update application - Certificates and secrets management", "Update", "Application"),
    ("Core Directory", "RoleManagement", "Add member to role outside of PIM (permanent)", "Assign", "Role"),
    ("Conditional Access", "Policy", "Update conditional access policy", "Update", "Policy"),
];

/// `text` in the ASCII of mail addresses: letters keep their base, everything else goes.
pub fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        let base = match letter {
            'á' | 'ã' | 'à' | 'å' => "a",
            'ä' => "ae",
            'ć' => "c",
            'é' | 'ë' => "e",
            'í' | 'ı' => "i",
            'ń' | 'ñ' => "n",
            'ó' => "o",
            'ö' => "oe",
            'ü' => "ue",
            _ => "",
        };
        if letter.is_ascii_alphanumeric() {
            out.push(letter.to_ascii_lowercase());
        } else {
            out.push_str(base);
        }
    }
    out
}
