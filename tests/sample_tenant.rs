//! The sample tenant over HTTP, as a client meets it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use backstop::sample::{Options, SampleError, Server, Tenant, serve};
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};

/// A running tenant and a client with a token.
struct Sample {
    server: Server,
    tenant: Arc<Tenant>,
    client: Client,
    token: String,
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

fn options() -> Options {
    Options { start: Some("2026-06-15T12:00:00Z".parse().unwrap()), ..Options::default() }
}

fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

impl Sample {
    fn start(options: Options) -> Self {
        let tenant = Arc::new(Tenant::new(options));
        let server = serve(Arc::clone(&tenant), any_port()).unwrap();
        let mut sample = Self { server, tenant, client: client(), token: String::new() };
        sample.token = sample.new_token();
        sample
    }

    fn ask_token(&self, tenant: &str, secret: &str) -> Response {
        let id = &self.tenant.options().client_id;
        let scope = "https://graph.microsoft.com/.default";
        let body = form(&[("client_id", id), ("client_secret", secret), ("scope", scope), ("grant_type", "client_credentials")]);
        let url = format!("{}/{tenant}/oauth2/v2.0/token", self.server.url());
        self.client.post(url).header("content-type", "application/x-www-form-urlencoded").body(body).send().unwrap()
    }

    fn new_token(&self) -> String {
        let options = self.tenant.options();
        let answer = json_of(self.ask_token(&options.tenant, &options.client_secret));
        assert_eq!(answer["token_type"], "Bearer");
        assert_eq!(answer["expires_in"], options.token_seconds);
        answer["access_token"].as_str().unwrap().to_owned()
    }

    fn url(&self, path: &str) -> String {
        if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.server.url()) }
    }

    fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).bearer_auth(&self.token).send().unwrap()
    }

    fn json(&self, path: &str) -> Value {
        let response = self.get(path);
        assert_eq!(response.status(), 200, "{path}: {}", response.text().unwrap());
        json_of(self.get(path))
    }

    fn post(&self, path: &str, body: &Value) -> Response {
        self.client.post(self.url(path)).bearer_auth(&self.token).body(body.to_string()).send().unwrap()
    }

    /// Everything, page by page, the number of pages, and the last page's delta link.
    fn all(&self, path: &str) -> (Vec<Value>, usize, Option<String>) {
        let (mut out, mut next, mut pages) = (Vec::new(), path.to_owned(), 0);
        loop {
            let response = self.get(&next);
            assert_eq!(response.status(), 200, "{next}");
            let page = json_of(response);
            out.extend(page["value"].as_array().unwrap().iter().cloned());
            pages += 1;
            match page["@odata.nextLink"].as_str().or(page["nextLink"].as_str()) {
                Some(link) => next = link.to_owned(),
                None => return (out, pages, page["@odata.deltaLink"].as_str().map(str::to_owned)),
            }
            assert!(pages < 10_000, "no end to {path}");
        }
    }

    fn refused(&self, path: &str) -> (u16, String) {
        let response = self.get(path);
        let status = response.status().as_u16();
        (status, json_of(response)["error"]["code"].as_str().unwrap_or_default().to_owned())
    }

    fn lines(&self, path: &str) -> Vec<Value> {
        let text = self.get(path).text().unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn json_of(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().unwrap()).unwrap()
}

fn ids(values: &[Value]) -> BTreeSet<String> {
    values.iter().map(|v| v["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn tokens_are_given_refused_and_end() {
    let sample = Sample::start(Options { token_seconds: 1, ..options() });
    let tenant = sample.tenant.options().tenant.clone();
    let wrong = sample.ask_token(&tenant, "wrong");
    assert_eq!(wrong.status(), 401);
    let body = json_of(wrong);
    assert_eq!((body["error"].as_str(), &body["error_codes"]), (Some("invalid_client"), &json!([7_000_215])));
    assert!(body["error_description"].as_str().unwrap().starts_with("AADSTS7000215: Invalid client secret provided."));
    let unknown = json_of(sample.ask_token("00000000-0000-0000-0000-000000000001", "x"));
    assert_eq!(unknown["error_codes"], json!([90_002]));

    assert_eq!(sample.get("/v1.0/users?$top=1").status(), 200);
    std::thread::sleep(Duration::from_millis(1100));
    let late = sample.get("/v1.0/users?$top=1");
    assert_eq!(late.status(), 401);
    let body = json_of(late);
    assert_eq!(body["error"]["code"], "InvalidAuthenticationToken");
    assert!(body["error"]["innerError"]["request-id"].is_string());
    let none = sample.client.get(sample.url("/subscriptions?api-version=2022-12-01")).send().unwrap();
    assert_eq!((none.status().as_u16(), json_of(none)["error"]["innerError"].is_null()), (401, true));
}

#[test]
fn paging_gives_every_user_exactly_once() {
    for ragged_pages in [false, true] {
        let sample = Sample::start(Options { users: 1234, ragged_pages, ..options() });
        let (users, pages, _) = sample.all("/v1.0/users?$select=id,userPrincipalName&$top=50");
        assert_eq!((users.len(), ids(&users).len()), (1234, 1234));
        assert!(if ragged_pages { pages > 25 } else { pages == 25 }, "{pages}");
        assert_eq!(users[0].as_object().unwrap().len(), 2);
        let plain = sample.json("/v1.0/users");
        assert!(plain["value"].as_array().unwrap().len() <= 100);
        let first = sample.all("/v1.0/users").0;
        assert_eq!(first[7].as_object().unwrap().len(), 11, "{}", first[7]);
        let text = sample.get("/v1.0/users?$top=2").text().unwrap();
        let link = text.find("@odata.nextLink");
        assert!(link.is_none_or(|at| at < text.find("\"value\"").unwrap()));
    }
}

#[test]
fn what_is_asked_badly_is_refused() {
    let sample = Sample::start(options());
    for (path, status, code) in [
        ("/v1.0/policies/roleManagementPolicies", 400, "InvalidFilter"),
        ("/v1.0/policies/roleManagementPolicyAssignments?$filter=scopeId eq '/'", 400, "InvalidFilter"),
        ("/v1.0/users?$filter=nonsense", 400, "BadRequest"),
        ("/v1.0/users?$filter=nonsense eq 1", 400, "BadRequest"),
        ("/v1.0/users?$select=nonsense", 400, "BadRequest"),
        ("/v1.0/users?$skiptoken=abc", 400, "BadRequest"),
        ("/v1.0/users/nobody", 404, "Request_ResourceNotFound"),
        ("/v1.0/nonsense", 404, "ResourceNotFound"),
        ("/v1.0/policies/roleManagementPolicies//rules", 400, "BadRequest"),
        ("/v1.0/roleManagement/directory/roleAssignments?$expand=principal,roleDefinition", 400, "BadRequest"),
        ("/v1.0/users/delta?$top=5", 400, "BadRequest"),
        ("/v1.0/auditLogs/signIns?$filter=signInEventTypes/any(t: t eq 'servicePrincipal')", 400, "BadRequest"),
        ("/subscriptions", 400, "MissingApiVersionParameter"),
        ("/subscriptions/none/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01", 404, "SubscriptionNotFound"),
    ] {
        assert_eq!(sample.refused(path), (status, code.to_owned()), "{path}");
    }
    let link = sample.json("/v1.0/users?$top=5")["@odata.nextLink"].as_str().unwrap().to_owned();
    assert_eq!(sample.refused(&link.replace("/users", "/groups")).0, 400);
}

#[test]
fn every_collection_is_served_as_the_dump_says() {
    let sample = Sample::start(options());
    let mut truth: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for line in sample.lines("/sample/dump") {
        let (collection, id) = (line["collection"].as_str().unwrap().to_owned(), line["id"].as_str().unwrap().to_owned());
        truth.entry(collection).or_default().insert(id, line["record"].clone());
    }
    let users = "/v1.0/users?$top=999&$select=id,userPrincipalName,displayName,mail,mailNickname,userType,accountEnabled,onPremisesSyncEnabled,\
                 onPremisesImmutableId,externalUserState,usageLocation,department,jobTitle,employeeId,createdDateTime,deletedDateTime";
    let policies = "$filter=scopeId eq '/' and scopeType eq 'DirectoryRole'";
    for (collection, path) in [
        ("entra.users", users.to_owned()),
        ("entra.applications", "/v1.0/applications".into()),
        ("entra.servicePrincipals", "/v1.0/servicePrincipals".into()),
        ("entra.administrativeUnits", "/v1.0/directory/administrativeUnits".into()),
        ("entra.roleDefinitions", "/beta/roleManagement/directory/roleDefinitions?$expand=inheritsPermissionsFrom".into()),
        ("entra.roleAssignments", "/v1.0/roleManagement/directory/roleAssignments".into()),
        ("entra.roleEligibilitySchedules", "/v1.0/roleManagement/directory/roleEligibilitySchedules".into()),
        ("entra.roleAssignmentSchedules", "/v1.0/roleManagement/directory/roleAssignmentSchedules".into()),
        ("entra.roleManagementPolicies", format!("/v1.0/policies/roleManagementPolicies?$expand=rules&{policies}")),
        ("entra.roleManagementPolicyAssignments", format!("/v1.0/policies/roleManagementPolicyAssignments?{policies}")),
        ("entra.conditionalAccessPolicies", "/beta/identity/conditionalAccess/policies".into()),
        ("entra.namedLocations", "/v1.0/identity/conditionalAccess/namedLocations".into()),
        ("entra.organization", "/v1.0/organization".into()),
    ] {
        let (values, ..) = sample.all(&path);
        let served: BTreeMap<String, Value> = values.into_iter().map(|v| (v["id"].as_str().unwrap().to_owned(), v)).collect();
        assert!(served == truth[collection], "{collection} differs from the dump");
    }
    assert_eq!(truth["entra.roleDefinitions"].len(), 149);
    assert!(truth["entra.roleManagementPolicies"].values().all(|p| p["rules"].as_array().unwrap().len() == 17));
    let mut services = 0;
    for (group, record) in &truth["entra.groups.members"] {
        let members = |version: &str| sample.all(&format!("/{version}/groups/{group}/members?$select=id&$top=999")).0;
        assert_eq!(Value::from(members("beta")), record["members"], "{group}");
        let mut people = members("beta");
        people.retain(|m| m["@odata.type"] != "#microsoft.graph.servicePrincipal");
        services += members("beta").len() - people.len();
        assert_eq!(members("v1.0"), people, "{group}");
    }
    assert!(services > 0, "v1.0 leaves service principals out, as the service does");
    let subscriptions = sample.json("/subscriptions?api-version=2022-12-01");
    let mut served = BTreeMap::new();
    for subscription in subscriptions["value"].as_array().unwrap() {
        let scope = subscription["id"].as_str().unwrap();
        for name in ["roleDefinitions", "roleAssignments", "roleManagementPolicies", "roleManagementPolicyAssignments", "policyDefinitions"]
        {
            let (values, ..) = sample.all(&format!("{scope}/providers/Microsoft.Authorization/{name}?api-version=2022-04-01"));
            assert!(values.iter().all(|v| v["properties"].is_object()));
            served.entry(name).or_insert_with(BTreeMap::new).extend(values.into_iter().map(|v| (v["id"].as_str().unwrap().to_owned(), v)));
        }
    }
    for (name, values) in served {
        assert!(values == truth[&format!("arm.{name}")], "{name} differs from the dump");
    }
    let listed = sample.all("/subscriptions?api-version=2022-12-01").0;
    let scope = listed[0]["id"].as_str().unwrap();
    let filter = "$filter=type eq 'CustomRole'";
    let roles = sample.all(&format!("{scope}/providers/Microsoft.Authorization/roleDefinitions?api-version=2022-04-01&{filter}")).0;
    assert_eq!(roles.len(), 3);
    assert_eq!(sample.all("/providers/Microsoft.Authorization/roleDefinitions?api-version=2022-04-01").0.len(), 928);
}

#[test]
fn every_reference_leads_somewhere() {
    let sample = Sample::start(options());
    let principals: BTreeSet<String> =
        ["users", "groups", "servicePrincipals"].iter().flat_map(|c| ids(&sample.all(&format!("/v1.0/{c}?$select=id")).0)).collect();
    for name in ["roleAssignments", "roleEligibilitySchedules", "roleAssignmentSchedules"] {
        for value in sample.all(&format!("/v1.0/roleManagement/directory/{name}?$expand=roleDefinition")).0 {
            assert!(principals.contains(value["principalId"].as_str().unwrap()), "{value}");
            assert_eq!(value["roleDefinition"]["id"], value["roleDefinitionId"]);
        }
    }
    let text = sample.get("/beta/identity/conditionalAccess/policies").text().unwrap();
    let places = ids(&sample.all("/v1.0/identity/conditionalAccess/namedLocations").0);
    assert!(places.iter().filter(|id| text.contains(id.as_str())).count() >= 3);
    let (glass, ..) = sample.all("/v1.0/roleManagement/directory/roleAssignments?$filter=roleDefinitionId eq '62e90394-69f5-4237-9190-012177145e10'&$expand=principal");
    assert_eq!(glass.len(), 2);
    assert_eq!(glass[0]["principal"]["@odata.type"], "#microsoft.graph.user");
    assert_eq!(
        sample.all("/v1.0/identity/conditionalAccess/policies").0.len() + 1,
        sample.all("/beta/identity/conditionalAccess/policies").0.len()
    );
}

#[test]
fn filters_and_counts_work() {
    let sample = Sample::start(options());
    let guests = sample.all("/v1.0/users?$filter=userType eq 'Guest'&$select=id,userType").0;
    assert!(!guests.is_empty() && guests.iter().all(|u| u["userType"] == "Guest"));
    let url = sample.url("/v1.0/users?$count=true&$top=1&$filter=accountEnabled eq true");
    let counted = json_of(sample.client.get(url).bearer_auth(&sample.token).header("ConsistencyLevel", "eventual").send().unwrap());
    assert!(counted["@odata.count"].as_u64().unwrap() > 400, "{counted}");
    let user = sample.json("/v1.0/users?$top=1")["value"][0].clone();
    let same = sample.json(&format!("/v1.0/users/{}", user["userPrincipalName"].as_str().unwrap()));
    assert_eq!(same["id"], user["id"]);
    let none = sample.json(&format!(
        "/v1.0/policies/roleManagementPolicies?$filter=scopeId eq '{}' and scopeType eq 'Group'",
        user["id"].as_str().unwrap()
    ));
    assert_eq!(none["value"], json!([]));
}

#[test]
fn delta_tells_what_changed() {
    let sample = Sample::start(Options { ragged_pages: true, ..options() });
    let (users, _, link) = sample.all("/v1.0/users/delta?$select=id,jobTitle,userPrincipalName");
    let (groups, _, group_link) = sample.all("/v1.0/groups/delta?$select=displayName,members");
    assert_eq!(ids(&users).len(), 500);
    assert!(groups.iter().any(|g| !g["members@delta"].as_array().unwrap().is_empty()));
    let (link, group_link) = (link.unwrap(), group_link.unwrap());
    assert_eq!(sample.all(&link).0, Vec::<Value>::new());
    let deeds = json_of(sample.post("/sample/change", &json!({"count": 40})));
    let touched = |collection: &str| -> BTreeSet<String> {
        let of = deeds.as_array().unwrap().iter().filter(|d| d["collection"] == collection);
        of.map(|d| d["id"].as_str().unwrap().to_owned()).collect()
    };
    let (changed, _, next) = sample.all(&link);
    assert_eq!(ids(&changed), touched("entra.users"));
    let (changed, ..) = sample.all(&group_link);
    assert!(touched("entra.groups.members").is_subset(&ids(&changed)));
    let gone = json_of(sample.post("/sample/disaster", &json!({"name": "users-deleted"})));
    let (removed, ..) = sample.all(&next.unwrap());
    assert_eq!(removed.len(), gone.as_array().unwrap().len());
    assert!(removed.iter().all(|r| r["@removed"]["reason"].is_string()));
    sample.post("/sample/clock", &json!({"advance_seconds": 8 * 86_400}));
    assert_eq!(sample.refused(&link), (410, "syncStateNotFound".into()));
}

#[test]
fn batches_answer_each_for_itself() {
    let sample = Sample::start(options());
    let rule = json!([{"path": "/organization", "kind": "status", "status": 429, "retry_after": 7, "times": 1}]);
    assert_eq!(sample.post("/sample/faults", &rule).status(), 200);
    let urls = ["/users?$top=1", "/groups?$top=2", "/organization", "/nonsense", "/applications?$top=1"];
    let requests: Vec<Value> = urls.iter().enumerate().map(|(n, u)| json!({"id": n.to_string(), "method": "GET", "url": u})).collect();
    let answer = json_of(sample.post("/v1.0/$batch", &json!({"requests": requests})));
    let by_id = |id: &str| answer["responses"].as_array().unwrap().iter().find(|r| r["id"] == id).unwrap().clone();
    assert_eq!(by_id("0")["body"]["value"].as_array().unwrap().len(), 1);
    assert_eq!((by_id("2")["status"].as_u64(), by_id("2")["headers"]["Retry-After"].as_str()), (Some(429), Some("7")));
    assert_eq!(by_id("3")["status"], 404);
    let many: Vec<Value> = (0..21).map(|n| json!({"id": n.to_string(), "method": "GET", "url": "/users"})).collect();
    assert_eq!(sample.post("/v1.0/$batch", &json!({"requests": many})).status(), 400);
    let counts = sample.json("/sample/requests");
    assert_eq!((&counts["GET /v1.0/users"], &counts["POST /v1.0/$batch"]), (&json!(1), &json!(2)));
}

#[test]
fn faults_happen_as_ordered() {
    let sample = Sample::start(options());
    let fault = |rule: Value| {
        assert_eq!(sample.post("/sample/faults", &json!([rule])).status(), 200);
        sample.client.get(sample.url("/v1.0/users?$top=3")).bearer_auth(&sample.token).send()
    };
    assert!(fault(json!({"path": "/users", "kind": "reset", "times": 1})).is_err());
    assert_eq!(sample.get("/v1.0/users").status(), 200);
    assert!(fault(json!({"path": "/users", "kind": "truncate"})).unwrap().bytes().is_err());
    assert!(serde_json::from_slice::<Value>(&fault(json!({"path": "/users", "kind": "invalid_json"})).unwrap().bytes().unwrap()).is_err());
    let html = fault(json!({"path": "/users", "kind": "html"})).unwrap();
    assert_eq!((html.status().as_u16(), html.headers()["content-type"].to_str().unwrap().starts_with("text/html")), (200, true));
    let page = json_of(fault(json!({"path": "/users", "kind": "loop_link"})).unwrap());
    assert_eq!(page["@odata.nextLink"], sample.url("/v1.0/users?$top=3"));
    let page = json_of(fault(json!({"path": "/users", "kind": "foreign_link", "base": "http://evil.example"})).unwrap());
    assert!(page["@odata.nextLink"].as_str().unwrap().starts_with("http://evil.example/v1.0/users?"));
    assert!(json_of(fault(json!({"path": "/users", "kind": "missing_value"})).unwrap())["value"].is_null());
    let unavailable = fault(json!({"path": "/v1.0/*", "kind": "status", "status": 503, "retry_after": 3})).unwrap();
    assert_eq!((unavailable.status().as_u16(), unavailable.headers()["retry-after"].to_str().unwrap()), (503, "3"));
    let first = json_of(fault(json!({"path": "/users", "kind": "endless"})).unwrap());
    let (mut link, mut seen) = (first["@odata.nextLink"].as_str().unwrap().to_owned(), BTreeSet::new());
    for _ in 0..5 {
        let page = json_of(sample.get(&link));
        assert_eq!(page["value"], first["value"]);
        assert!(seen.insert(link));
        link = page["@odata.nextLink"].as_str().unwrap().to_owned();
    }
    let began = std::time::Instant::now();
    fault(json!({"path": "/users", "kind": "slow", "ms": 300})).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(fault(json!({"path": "/users", "kind": "expire_tokens", "times": 1})).unwrap().status(), 401);
    assert_eq!(sample.post("/sample/faults", &json!([{"path": "x", "kind": "unknown"}])).status(), 400);
}

/// Events by id, with the number of times that each came.
fn by_id(values: &[Value]) -> BTreeMap<String, Value> {
    let out: BTreeMap<String, Value> = values.iter().map(|v| (v["id"].as_str().unwrap().to_owned(), v.clone())).collect();
    assert_eq!(out.len(), values.len(), "an event came twice");
    out
}

#[test]
fn late_events_and_new_versions_appear_as_the_clock_moves() {
    let sample = Sample::start(Options { events_per_hour: Some(3000), ragged_pages: true, ..options() });
    sample.post("/sample/clock", &json!({"now": "2026-06-15T12:00:00Z", "frozen": true}));
    let window = "createdDateTime ge 2026-06-15T09:00:00Z and createdDateTime le 2026-06-15T11:50:00Z";
    let path = format!("/v1.0/auditLogs/signIns?$filter={window}");
    let (events, pages, _) = sample.all(&path);
    assert!(pages > 3);
    let times: Vec<&str> = events.iter().map(|e| e["createdDateTime"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "not newest first");
    let first = by_id(&events);
    sample.post("/sample/clock", &json!({"now": "2026-06-17T12:00:00Z"}));
    let later = by_id(&sample.all(&path).0);
    assert!(later.len() > first.len());
    let changed = first.iter().filter(|(id, e)| later[*id] != **e).count();
    assert!(changed > 20, "{changed}");
    let lines = sample.lines("/sample/dump/logs?stream=signIns&from=2026-06-15T09:00:00Z&to=2026-06-15T11:50:00Z");
    let mut newest = BTreeMap::new();
    for line in &lines {
        assert!(line["arrival"].as_str() <= Some("2026-06-17T12:00:00"));
        newest.insert(line["id"].as_str().unwrap().to_owned(), line["event"].clone());
    }
    assert!(newest == later, "the dump differs from what is served");
    sample.post("/sample/clock", &json!({"now": "2026-07-16T12:00:00Z"}));
    assert_eq!(sample.all(&path).0.len(), 0, "kept for longer than the service does");
}

#[test]
fn other_streams_are_served() {
    let sample = Sample::start(Options { events_per_hour: Some(600), ..options() });
    sample.post("/sample/clock", &json!({"frozen": true}));
    for kind in ["nonInteractiveUser", "servicePrincipal", "managedIdentity"] {
        let filter = format!("signInEventTypes/any(t: t eq '{kind}') and createdDateTime ge 2026-06-15T08:00:00Z");
        let (events, ..) = sample.all(&format!("/beta/auditLogs/signIns?$filter={filter}&$top=200"));
        assert!(!events.is_empty() && events.iter().all(|e| e["signInEventTypes"] == json!([kind])), "{kind}");
    }
    let audits =
        sample.all("/v1.0/auditLogs/directoryAudits?$filter=activityDateTime ge 2026-06-15T08:00:00Z and loggedByService eq 'PIM'").0;
    assert!(!audits.is_empty() && audits.iter().all(|a| a["loggedByService"] == "PIM"));
    let up = sample
        .all("/v1.0/auditLogs/directoryAudits?$filter=activityDateTime ge 2026-06-15T11:00:00Z&$orderby=activityDateTime asc&$top=7")
        .0;
    assert!(by_id(&up).len() == up.len() && up.is_sorted_by_key(|a| a["activityDateTime"].as_str().unwrap().to_owned()));
    let requests = by_id(&sample.all("/v1.0/roleManagement/directory/roleAssignmentScheduleRequests?$expand=principal&$top=50").0);
    assert!(requests.values().any(|r| r["principal"]["id"] == r["principalId"]));
    sample.post("/sample/clock", &json!({"advance_seconds": 7200}));
    let later = by_id(&sample.all("/v1.0/roleManagement/directory/roleAssignmentScheduleRequests?$expand=principal").0);
    let decided = requests.iter().filter(|(id, r)| r["status"] == "PendingApproval" && later[*id]["status"] != "PendingApproval");
    assert_eq!(decided.count(), requests.values().filter(|r| r["status"] == "PendingApproval").count());
    let subscription = sample.json("/subscriptions?api-version=2022-12-01")["value"][0]["id"].as_str().unwrap().to_owned();
    let values = format!("{subscription}/providers/Microsoft.Insights/eventtypes/management/values?api-version=2015-04-01");
    assert_eq!(sample.refused(&values).0, 400);
    let filter = "&$filter=eventTimestamp ge '2026-06-14T12:00:00Z' and eventTimestamp le '2026-06-15T12:00:00Z'";
    let (events, pages, _) = sample.all(&format!("{values}{filter}"));
    let distinct: BTreeSet<&str> = events.iter().map(|e| e["eventDataId"].as_str().unwrap()).collect();
    assert!(pages > 1 && distinct.len() == events.len());
}

#[test]
fn mischief_and_disasters_leave_traces() {
    let sample = Sample::start(options());
    sample.post("/sample/clock", &json!({"frozen": true}));
    let deeds = json_of(sample.post("/sample/mischief", &Value::Null));
    let collections: Vec<&str> = deeds.as_array().unwrap().iter().map(|d| d["collection"].as_str().unwrap()).collect();
    for want in
        ["entra.users", "entra.roleAssignments", "entra.roleManagementPolicies", "entra.conditionalAccessPolicies", "entra.applications"]
    {
        assert!(collections.contains(&want), "{want}");
    }
    for deed in deeds.as_array().unwrap() {
        assert_eq!(sample.get(deed["path"].as_str().unwrap()).status(), 200, "{deed}");
    }
    sample.post("/sample/clock", &json!({"advance_seconds": 180}));
    let audits = sample.all("/v1.0/auditLogs/directoryAudits?$filter=activityDateTime ge 2026-06-15T11:59:00Z").0;
    let seen: Vec<&str> = audits.iter().map(|a| a["activityDisplayName"].as_str().unwrap()).collect();
    assert!(seen.contains(&"Add member to role outside of PIM (permanent)"), "{seen:?}");
    let unknown = sample.post("/sample/disaster", &json!({"name": "flood"}));
    assert_eq!(unknown.status(), 400);
    assert_eq!(json_of(unknown)["names"].as_array().unwrap().len(), 5);
    for name in ["eligibilities-wiped", "pim-policies-weakened", "rogue-global-admin", "conditional-access-removed"] {
        assert!(!json_of(sample.post("/sample/disaster", &json!({"name": name}))).as_array().unwrap().is_empty(), "{name}");
    }
    assert_eq!(sample.all("/beta/identity/conditionalAccess/policies").0.len(), 0);
    assert_eq!(sample.json("/sample")["counts"]["entra.roleEligibilitySchedules"], 0);
}

#[test]
fn the_same_seed_makes_the_same_tenant() {
    let dump = |seed: u64| {
        let mut out = Vec::new();
        Tenant::new(Options { seed, ..options() }).dump(&mut out).unwrap();
        out
    };
    assert!(dump(1) == dump(1));
    assert!(dump(1) != dump(2));
}

#[test]
fn limits_are_kept_on_request() {
    let sample = Sample::start(Options { throttle: true, ..options() });
    for _ in 0..5 {
        assert_eq!(sample.get("/v1.0/auditLogs/directoryAudits?$top=1").status(), 200);
    }
    let late = sample.get("/v1.0/auditLogs/directoryAudits?$top=1");
    assert_eq!((late.status().as_u16(), late.headers().contains_key("retry-after")), (429, true));
    assert_eq!(sample.get("/v1.0/identity/conditionalAccess/namedLocations").status(), 200);
    let late = sample.get("/v1.0/identity/conditionalAccess/policies");
    assert_eq!((late.status().as_u16(), late.headers().contains_key("retry-after")), (429, false));
}

#[test]
fn a_taken_port_is_named() {
    let sample = Sample::start(options());
    let error = serve(Arc::clone(&sample.tenant), sample.server.addr()).unwrap_err();
    assert!(matches!(error, SampleError::PortTaken { .. }));
    assert!(error.to_string().contains(&sample.server.addr().port().to_string()));
    let addr = sample.server.addr();
    drop(sample);
    assert!(std::net::TcpStream::connect(addr).is_err(), "it still listens");
}
