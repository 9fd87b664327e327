//! The harness of the promises about tenants: a sample tenant that answers in this process, and a sandbox whose
//! policy captures it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use backstop::sample::{Call, Options, Server, Tenant, serve};
use serde_json::Value;

use crate::support::{Ran, Sandbox};

/// Sources `entra` and `azure`, streams `audits` and `activity`.
const POLICY: &str = "version: 1
objectives: { rpo: 1h, rto: 4h, retention: 1y }
vault:
  local: { path: ./vault }
  genesis_file: keys/genesis.json
  lock: { mode: locked, by: version, grace: 30d }
encryption:
  recipients: [@RECIPIENTS@]
signing: { key_file: keys/agent.key }
sources:
  entra:
    graph:
      tenant: @TENANT@
      catalog: [entra, pim]
      endpoint: @URL@
      authority: @URL@
      credential: &agent { client_secret: { client_id: @CLIENT@, secret_file: secret.txt } }
  azure:
    arm: { tenant: @TENANT@, subscriptions: all, catalog: [azure], arm_endpoint: @URL@, authority: @URL@, credential: *agent }
streams:
  audits: { graph_log: { tenant: @TENANT@, log: directoryAudits, endpoint: @URL@, authority: @URL@, credential: *agent } }
  activity: { arm_log: { tenant: @TENANT@, log: activityLog, endpoint: @URL@, authority: @URL@, credential: *agent } }
jobs: {}
";

/// The collections of the source `entra` whose records come by themselves, with their folders.
pub const GRAPH_FOLDERS: [(&str, &str); 14] = [
    ("entra.users", "users"),
    ("entra.groups", "groups"),
    ("entra.groups.members", "groupMembers"),
    ("entra.administrativeUnits", "directory/administrativeUnits"),
    ("entra.applications", "applications"),
    ("entra.servicePrincipals", "servicePrincipals"),
    ("entra.conditionalAccessPolicies", "identity/conditionalAccess/policies"),
    ("entra.namedLocations", "identity/conditionalAccess/namedLocations"),
    ("entra.roleDefinitions", "roleManagement/directory/roleDefinitions"),
    ("entra.roleAssignments", "roleManagement/directory/roleAssignments"),
    ("entra.roleEligibilitySchedules", "roleManagement/directory/roleEligibilitySchedules"),
    ("entra.roleAssignmentSchedules", "roleManagement/directory/roleAssignmentSchedules"),
    ("entra.roleManagementPolicies", "policies/roleManagementPolicies"),
    ("entra.roleManagementPolicyAssignments", "policies/roleManagementPolicyAssignments"),
];

/// A sandbox and the tenant that its policy captures.
pub struct Estate {
    pub sandbox: Sandbox,
    pub tenant: Arc<Tenant>,
    server: Option<Server>,
    addr: SocketAddr,
}

impl Estate {
    /// A small tenant.
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    /// A tenant with some options changed; its clock stands still.
    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options { users: 60, start: Some("2026-11-24T20:00:00Z".parse().unwrap()), ..Options::default() };
        change(&mut options);
        let tenant = Arc::new(Tenant::new(options));
        tenant.clock().freeze(true);
        let server = serve(tenant.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let addr = server.addr();
        let sandbox = Sandbox::new();
        let made = sandbox.json(&["init", "--dir", "."], 0);
        let recipients: Vec<&str> = made[0]["recipients"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
        let options = tenant.options();
        let policy = POLICY
            .replace("@RECIPIENTS@", &recipients.join(", "))
            .replace("@URL@", &server.url())
            .replace("@TENANT@", &options.tenant)
            .replace("@CLIENT@", &options.client_id);
        sandbox.write("backstop.yaml", policy);
        sandbox.write("secret.txt", format!("{}\n", options.client_secret));
        Self { sandbox, tenant, server: Some(server), addr }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The tenant answers nobody any more.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// It answers again where it did.
    pub fn start(&mut self) {
        self.server = Some(serve(self.tenant.clone(), self.addr).unwrap());
    }

    /// Rules in place of those in force, as `/sample/faults` takes them.
    pub fn faults(&self, rules: Value) {
        self.tenant.set_faults(serde_json::from_value(rules).unwrap());
    }

    /// Changes the policy's text.
    pub fn policy(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.sandbox.path("backstop.yaml")).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        self.sandbox.write("backstop.yaml", text.replace(from, to));
    }

    /// A snapshot of one source: its line, and what was said.
    pub fn snapshot(&self, source: &str, code: i32) -> (Value, String) {
        let ran = self.run(source);
        assert_eq!(ran.code, code, "{}\n{}", ran.stdout, ran.stderr);
        (ran.json().pop().unwrap_or_default(), ran.stderr)
    }

    pub fn run(&self, source: &str) -> Ran {
        let ran = self.sandbox.backstop(&["snapshot", source, "--json"]);
        let secret = &self.tenant.options().client_secret;
        assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret), "the secret is said");
        assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("Error {"), "{}", ran.stderr);
        ran
    }

    /// Restores the newest snapshot of a source into a new directory, which the name is of.
    pub fn restore(&self, source: &str, to: &str) -> PathBuf {
        let report = self.sandbox.json(&["restore", "files", source, "--to", to, "--identity", "keys/identity-1.txt"], 0);
        assert_eq!(report[0]["tree_matches"], true);
        self.sandbox.path(to)
    }

    /// The tenant's own truth, in a file.
    pub fn dump(&self, name: &str) -> PathBuf {
        let mut out = Vec::new();
        self.tenant.dump(&mut out).unwrap();
        self.sandbox.write(name, out)
    }

    /// How many records of a collection the tenant says it has.
    pub fn count(&self, collection: &str) -> u64 {
        self.ids(collection).len() as u64
    }

    pub fn ids(&self, collection: &str) -> BTreeSet<String> {
        let text = fs::read_to_string(self.dump("count.ndjson")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["collection"] == collection).map(|line| line["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Restores the newest snapshot and has the other program hold it to the tenant's dump; gives the records.
    pub fn holds(&self, source: &str, to: &str) -> u64 {
        let dir = self.restore(source, to);
        let dump = self.dump(&format!("{to}.ndjson"));
        let judged = judge(source, &dump, &dir);
        assert_eq!(judged.code, 0, "{}{}", judged.stdout, judged.stderr);
        judged.json()[0]["records"].as_u64().unwrap()
    }

    /// Requests since the last time, by method and path.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.tenant.requests().lock().unwrap())
    }

    /// Runs on the vault so far.
    pub fn runs(&self) -> usize {
        self.sandbox.json(&["ls"], 0).len()
    }
}

/// The verdict of `compare_dump.py` on a restored source.
pub fn judge(source: &str, dump: &Path, dir: &Path) -> Ran {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/compare_dump.py");
    let plane = if source == "azure" { "arm" } else { "graph" };
    Ran::of(Command::new("python3").arg(script).arg(plane).arg(dump).arg(dir).output().expect("python3 is installed"))
}

/// Changes an answer: of a path with its query, the body.
type Change = Box<dyn Fn(&str, &mut String) + Send + Sync>;

/// Stands in front of a tenant and changes its answers, as a service of another version would. It ends with the
/// test's process.
pub struct Front {
    pub url: String,
}

impl Front {
    pub fn new(tenant: &Arc<Tenant>, change: impl Fn(&str, &mut String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tenant, base, change): (_, _, Arc<Change>) = (tenant.clone(), url.clone(), Arc::new(Box::new(change)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tenant, base, change) = (tenant.clone(), base.clone(), change.clone());
                std::thread::spawn(move || pass(stream, &tenant, base, &change));
            }
        });
        Self { url }
    }
}

/// One request, one answer.
fn pass(stream: TcpStream, tenant: &Tenant, base: String, change: &Change) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        reader.read_until(b'\n', &mut head).ok().filter(|read| *read > 0)?;
    }
    let head = String::from_utf8(head).ok()?;
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let mut body = vec![0; header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let mut first = head.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let bearer = header("authorization").map(|value| value.trim_start_matches("Bearer ").to_owned());
    let reply = tenant.answer(&Call { method, base, bearer, body, ..Call::get(&target) });
    let mut text = String::from_utf8(reply.body).ok()?;
    change(&target, &mut text);
    let length = text.len();
    let answer = format!(
        "HTTP/1.1 {} Told\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}",
        reply.status
    );
    let mut stream = stream;
    stream.write_all(answer.as_bytes()).ok()
}
