//! People are told: through each channel, against a real mail server and a real receiver; what is not taken is tried
//! again over restarts; nothing waits for it; no secret is ever in a log.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use support::Sandbox;
use support::daemon::{Daemon, free_port, policy};
use support::receiver::{Received, Receiver};

struct MailServer {
    child: Child,
    dir: PathBuf,
    port: u16,
}

impl MailServer {
    /// With a certificate it wants STARTTLS and a login.
    fn start(sandbox: &Sandbox, port: u16, certificate: Option<&Path>) -> Self {
        let dir = sandbox.path("mails");
        fs::create_dir_all(&dir).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/mail_server.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg(&dir).arg(port.to_string()).args(certificate).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut ready = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut ready).unwrap();
        assert_eq!(ready, "ready\n", "the mail server does not start: python3-aiosmtpd is installed by scripts/test.sh");
        Self { child, dir, port }
    }

    fn mails(&self) -> Vec<String> {
        let mut paths: Vec<PathBuf> = fs::read_dir(&self.dir).unwrap().map(|e| e.unwrap().path()).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "eml"));
        paths.sort();
        paths.iter().map(|p| fs::read_to_string(p).unwrap()).collect()
    }

    fn wait(&self, count: usize, seconds: u64) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            let mails = self.mails();
            if mails.len() >= count {
                return mails;
            }
            assert!(Instant::now() < end, "{} mails came, {count} were awaited", mails.len());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority and a certificate of this machine, in one file with its key.
fn certificate(sandbox: &Sandbox) -> (PathBuf, PathBuf) {
    let made = sandbox.shell(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca -addext basicConstraints=critical,CA:TRUE 2>/dev/null &&
         openssl req -newkey rsa:2048 -nodes -keyout mail.key -out mail.csr -subj /CN=localhost 2>/dev/null &&
         printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\nextendedKeyUsage=serverAuth\\n' > ext &&
         openssl x509 -req -in mail.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out mail.crt 2>/dev/null &&
         cat mail.crt mail.key > mail.pem",
    );
    assert_eq!(made.code, 0, "{}", made.stderr);
    (sandbox.path("ca.pem"), sandbox.path("mail.pem"))
}

/// What a receiver that knows the secret computes.
fn signature(secret: &str, received: &Received) -> String {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
    let signed = format!("{}.{}.{}", received.headers["webhook-id"], received.headers["webhook-timestamp"], received.body);
    format!("v1,{}", STANDARD.encode(ring::hmac::sign(&key, signed.as_bytes())))
}

const SECRET: &str = "whsec_c2VjcmV0LXNpZ25pbmcta2V5LW9mLXRlc3Rz";

#[test]
fn each_channel_is_proved() {
    let sandbox = Sandbox::new();
    sandbox.init();
    let receiver = Receiver::new();
    let (authority, pem) = certificate(&sandbox);
    let mail = MailServer::start(&sandbox, free_port(), Some(&pem));
    let syslog = UdpSocket::bind("127.0.0.1:0").unwrap();
    syslog.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    sandbox.write("contacts.yaml", "- { name: First Responder, email: first@example.org, phone: \"+49 1\" }\n- { name: The Boss, email: boss@example.org, level: 2 }\n");
    let notify = format!(
        "notify:
  email: {{ host: localhost, port: {}, from: backstop@example.org, to: [ops@example.org], username: backstop, password_env: MAIL_PASSWORD }}
  teams: {{ url_env: TEAMS }}
  slack: {{ url_file: slack-url }}
  pagerduty: {{ routing_key_env: PAGER, url: \"{}\" }}
  webhook: {{ url: \"{}\", secret_env: HOOK_SECRET }}
  syslog: {{ to: \"udp:{}\" }}
  file: {{ path: alerts.ndjson }}
  contacts: contacts.yaml",
        mail.port,
        receiver.url("/pager"),
        receiver.url("/hook"),
        syslog.local_addr().unwrap()
    );
    policy(&sandbox, "a.yaml", "  delta: { snapshot: [tree], schedule: \"*/30 * * * * *\" }", &notify);
    sandbox.write("slack-url", receiver.url("/slack"));
    let teams = receiver.url("/teams");
    let env = [
        ("MAIL_PASSWORD", "mail-password"),
        ("TEAMS", teams.as_str()),
        ("PAGER", "routing-key"),
        ("HOOK_SECRET", SECRET),
        ("SSL_CERT_FILE", authority.to_str().unwrap()),
    ];
    let ran = sandbox.backstop_with(&["--policy", "a.yaml", "--json", "notify", "test"], &env);
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    let outcomes: BTreeMap<String, String> =
        ran.json().iter().map(|l| (l["channel"].as_str().unwrap().to_owned(), l["outcome"].as_str().unwrap().to_owned())).collect();
    assert_eq!(outcomes.len(), 7, "{outcomes:?}");
    assert!(outcomes.values().all(|o| o == "delivered"), "{outcomes:?}");

    let mails = mail.wait(1, 10);
    for part in ["X-TLS: True", "X-Envelope-To: ops@example.org,first@example.org\n", "Subject: [backstop LOW] test", "nothing is wrong"] {
        assert!(mails[0].contains(part), "{part} is not in\n{}", mails[0]);
    }
    let hook = &receiver.received("/hook")[0];
    assert_eq!(hook.headers["webhook-signature"], signature(SECRET, hook));
    let alert = &hook.json()["data"]["alerts"][0];
    for field in ["id", "kind", "severity", "summary", "endangers", "runbook", "command", "opened", "respond_by", "state"] {
        assert!(alert[field].is_string(), "{field}: {alert}");
    }
    let slack = receiver.received("/slack")[0].json();
    assert!(slack["text"].as_str().unwrap().contains("nothing is wrong") && slack["blocks"][0]["type"] == "section", "{slack}");
    let teams = receiver.received("/teams")[0].json();
    assert_eq!(teams["attachments"][0]["contentType"], "application/vnd.microsoft.card.adaptive");
    assert_eq!(teams["attachments"][0]["content"]["type"], "AdaptiveCard");
    let pager = receiver.received("/pager")[0].json();
    assert_eq!(
        (pager["routing_key"].as_str(), pager["event_action"].as_str(), pager["payload"]["severity"].as_str()),
        (Some("routing-key"), Some("trigger"), Some("info"))
    );
    let mut line = [0; 4096];
    let length = syslog.recv(&mut line).unwrap();
    let line = String::from_utf8_lossy(&line[..length]).into_owned();
    assert!(line.starts_with("<30>1 ") && line.contains(" backstop ") && line.contains("severity=\"low\""), "{line}");
    let lines = fs::read_to_string(sandbox.path("alerts.ndjson")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&lines).unwrap()["state"], "test");

    // Each one that does not take it is named, and the others get it all the same.
    receiver.answer(500);
    let wrong = [env[0], ("TEAMS", "http://example.org/in-the-open"), env[2], env[3]];
    let failed = sandbox.backstop_with(&["--policy", "a.yaml", "notify", "test"], &wrong);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    for part in ["webhook: it answers HTTP 500", "teams: the Teams webhook's address: it is no https address", "email: "] {
        assert!(failed.stdout.contains(part), "{part} is not in\n{}", failed.stdout);
    }
    assert!(failed.stdout.contains("delivered file"), "{}", failed.stdout);
    for secret in [SECRET, "mail-password", "routing-key", "in-the-open"] {
        assert!(!failed.stdout.contains(secret) && !failed.stderr.contains(secret), "{secret} is told");
    }
    assert_eq!(sandbox.backstop_with(&["--policy", "a.yaml", "notify", "test", "fax"], &env).code, 2);
    let nobody = sandbox.backstop(&["notify", "test"]);
    assert_eq!(nobody.code, 2);
    assert!(nobody.stderr.contains("nobody would be told"), "{}", nobody.stderr);
}

#[test]
fn a_local_syslog_socket_takes_alerts() {
    let sandbox = Sandbox::new();
    sandbox.init();
    let dir = tempfile::Builder::new().prefix("bs").tempdir().unwrap();
    let socket = dir.path().join("log");
    let syslog = UnixDatagram::bind(&socket).unwrap();
    syslog.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    policy(&sandbox, "a.yaml", "  {}", &format!("notify: {{ syslog: {{ to: \"unix:{}\" }} }}", socket.display()));
    let text = fs::read_to_string(sandbox.path("a.yaml")).unwrap().replace("jobs:\n  {}", "jobs: {}");
    sandbox.write("a.yaml", text);
    let ran = sandbox.backstop(&["--policy", "a.yaml", "notify", "test"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let mut line = [0; 4096];
    assert!(syslog.recv(&mut line).unwrap() > 100);
}

#[test]
fn what_is_wrong_is_told_once_acknowledged_and_called_over_when_it_is() {
    let sandbox = Sandbox::new();
    sandbox.init();
    sandbox.write("tree/a.json", "{}");
    let receiver = Receiver::new();
    let mail = MailServer::start(&sandbox, free_port(), None);
    let port = free_port();
    let more = format!(
        "agent: {{ listen: \"127.0.0.1:{port}\", jitter: 0s, heartbeat: {{ url_env: BEAT }} }}
notify:
  email: {{ host: 127.0.0.1, port: {}, security: none, from: backstop@example.org, to: [ops@example.org] }}
  webhook: {{ url: \"{}\" }}",
        mail.port,
        receiver.url("/hook")
    );
    policy(&sandbox, "a.yaml", "  delta: { snapshot: [tree], schedule: \"*/2 * * * * *\" }", &more);
    let text = fs::read_to_string(sandbox.path("a.yaml")).unwrap().replace("rpo: 1h", "rpo: 12s");
    sandbox.write("a.yaml", text);
    let beat = receiver.url("/beat/TOKEN-THAT-IS-SECRET");
    let env = [("BEAT", beat.as_str())];
    let mut daemon = Daemon::start(&sandbox, "a.yaml", port, &["run"], &env);
    receiver.wait("/beat/TOKEN-THAT-IS-SECRET", 2, 60);
    assert!(receiver.received("/hook").is_empty(), "nothing is wrong: {:?}", receiver.received("/hook"));

    // The source is gone: runs fail, and after a while the RPO is exceeded.
    fs::rename(sandbox.path("tree"), sandbox.path("gone")).unwrap();
    let kinds = |received: &[Received]| -> Vec<(String, String)> {
        let all = received.iter().flat_map(|r| r.json()["data"]["alerts"].as_array().unwrap().clone());
        all.map(|a| (a["kind"].as_str().unwrap().to_owned(), a["state"].as_str().unwrap().to_owned())).collect()
    };
    let end = Instant::now() + Duration::from_secs(120);
    while !kinds(&receiver.received("/hook")).contains(&("rpo_exceeded".into(), "opened".into())) {
        assert!(Instant::now() < end, "nobody is told: {:?}\n{:?}", kinds(&receiver.received("/hook")), daemon.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    let mails = mail.wait(1, 30);
    let told = mails.iter().find(|m| m.contains("rpo_exceeded")).unwrap();
    for part in ["Subject: [backstop CRITICAL] snapshot.tree", "endangers:", "backstop status", "docs/alerts.md#rpo_exceeded", "notify ack"]
    {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    daemon.shows("/", "Nobody acts yet");
    assert!(daemon.get("/metrics").1.contains("backstop_alerts_open{severity=\"critical\"} 1"));

    let open = sandbox.json(&["--policy", "a.yaml", "notify", "ls"], 0);
    let critical = open.iter().find(|a| a["kind"] == "rpo_exceeded").unwrap();
    let id = critical["id"].as_str().unwrap();
    assert_eq!(sandbox.backstop(&["--policy", "a.yaml", "notify", "ack", "nothing"]).code, 2);
    sandbox.json(&["--policy", "a.yaml", "notify", "ack", id, "--by", "Tired Engineer"], 0);
    let end = Instant::now() + Duration::from_secs(60);
    while !kinds(&receiver.received("/hook")).contains(&("rpo_exceeded".into(), "acknowledged".into())) {
        assert!(Instant::now() < end, "the acknowledgement is not told");
        std::thread::sleep(Duration::from_millis(200));
    }
    daemon.shows("/", "Tired Engineer");

    // Another agent of the vault shows them too, and sends nothing.
    let second = free_port();
    let text = fs::read_to_string(sandbox.path("a.yaml")).unwrap().replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{second}"));
    sandbox.write("b.yaml", format!("{text}\nstate: .state-b\n"));
    let mut standby = Daemon::start(&sandbox, "b.yaml", second, &["run"], &env);
    standby.ready("/healthz", 60);
    standby.shows("/", "Another agent sends them");
    standby.shows("/", "Tired Engineer");
    standby.shows("/metrics", "backstop_alerting 0");
    assert!(standby.get("/metrics").1.contains("backstop_alerts_open{severity=\"critical\"} 0"));
    standby.signal("TERM");
    assert_eq!(standby.end(30).0, Some(0));

    // While nobody takes them, alerts wait, over a restart too; and backups go on.
    receiver.answer(500);
    fs::rename(sandbox.path("gone"), sandbox.path("tree")).unwrap();
    daemon.signal("TERM");
    assert_eq!(daemon.end(30).0, Some(0));
    let begun = receiver.received("/hook").len();
    let mut daemon = Daemon::start(&sandbox, "a.yaml", port, &["run"], &env);
    // It is over when it was not seen for two minutes.
    receiver.wait("/hook", begun + 1, 240);
    daemon.signal("TERM");
    assert_eq!(daemon.end(30).0, Some(0));
    let refused = receiver.received("/hook").len();
    receiver.answer(200);
    let mut daemon = Daemon::start(&sandbox, "a.yaml", port, &["run"], &env);
    let end = Instant::now() + Duration::from_secs(200);
    loop {
        let all = receiver.received("/hook");
        if kinds(&all[refused..]).contains(&("rpo_exceeded".into(), "resolved".into())) {
            break;
        }
        assert!(Instant::now() < end, "what waited is not delivered: {:?}", kinds(&all));
        std::thread::sleep(Duration::from_millis(200));
    }
    let opened = kinds(&receiver.received("/hook")).into_iter().filter(|(kind, state)| kind == "rpo_exceeded" && state == "opened").count();
    assert_eq!(opened, 1, "told once");
    daemon.signal("TERM");
    assert_eq!(daemon.end(30).0, Some(0));
    let log = fs::read_to_string(&daemon.log).unwrap();
    assert!(log.contains("heartbeat is not answered"), "while the receiver answered 500");
    assert!(!log.contains("TOKEN-THAT-IS-SECRET") && !log.contains("/hook"), "no address is in the log");
}

#[test]
fn what_waits_for_a_secret_is_delivered_when_it_is_there() {
    let sandbox = Sandbox::new();
    sandbox.init();
    fs::remove_dir(sandbox.path("tree")).unwrap();
    let receiver = Receiver::new();
    let port = free_port();
    let hook = format!("notify: {{ webhook: {{ url: \"{}\", secret_file: secret.txt }} }}", receiver.url("/hook"));
    let more = format!("agent: {{ listen: \"127.0.0.1:{port}\", jitter: 0s }}\n{hook}");
    policy(&sandbox, "a.yaml", "  delta: { snapshot: [tree], schedule: \"*/2 * * * * *\" }", &more);
    let mut daemon = Daemon::start(&sandbox, "a.yaml", port, &["run"], &[]);
    daemon.wait_for("its one channel", 30, |l| l["message"].as_str().is_some_and(|m| m.contains("alerts do not go there")));
    // Told to nobody, it waits.
    daemon.job("delta", "failed", 2, 90);
    std::thread::sleep(Duration::from_secs(40));
    sandbox.write("secret.txt", format!("whsec_{}", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo="));
    sandbox.shell("chmod 600 secret.txt");
    let told = receiver.wait("/hook", 1, 120);
    let states: Vec<String> =
        told.iter().flat_map(|r| r.json()["data"]["alerts"].as_array().unwrap().clone()).map(|a| a.to_string()).collect();
    assert!(states.iter().any(|a| a.contains("job_failing") && a.contains("\"opened\"")), "{states:?}");
    daemon.signal("TERM");
    assert_eq!(daemon.end(30).0, Some(0));
}

#[test]
fn a_receiver_that_hangs_is_in_nobodys_way() {
    let sandbox = Sandbox::new();
    sandbox.init();
    sandbox.write("tree/a.json", "{}");
    let receiver = Receiver::new();
    receiver.answer(0);
    let port = free_port();
    let more = format!(
        "agent: {{ listen: \"127.0.0.1:{port}\", jitter: 0s, heartbeat: {{ url: \"{}\" }} }}\nnotify: {{ webhook: \"{}\" }}",
        receiver.url("/beat"),
        receiver.url("/hook")
    );
    policy(&sandbox, "a.yaml", "  delta: { snapshot: [tree], schedule: \"*/2 * * * * *\" }", &more);
    let mut daemon = Daemon::start(&sandbox, "a.yaml", port, &["run"], &[]);
    receiver.wait("/beat", 1, 60);
    let begun = Instant::now();
    daemon.job("delta", "done", 8, 60);
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    daemon.signal("TERM");
    assert!(daemon.end(30).1 < Duration::from_secs(20));
}

#[test]
fn what_a_policy_says_of_alerts_is_checked() {
    let sandbox = Sandbox::new();
    sandbox.init();
    let refused = |notify: &str, why: &str| {
        policy(&sandbox, "a.yaml", "  delta: { snapshot: [tree], schedule: \"0 */30 * * * *\" }", notify);
        let ran = sandbox.backstop(&["policy", "check", "a.yaml"]);
        assert_eq!(ran.code, 2, "{notify}\n{}{}", ran.stdout, ran.stderr);
        let said = ran.stdout + &ran.stderr;
        assert!(said.contains(why) && said.contains("a.yaml:"), "{notify}: {said}");
    };
    refused("notify: { email: { host: mail.example.org, from: x@example.org } }", "goes to nobody");
    refused("notify: { email: { host: mail.example.org, from: x@example.org, to: [nobody], security: starttls } }", "no e-mail address");
    refused("notify: { email: { host: mail.example.org, from: x@example.org, to: [y@example.org], security: none } }", "in the open");
    refused("notify: { webhook: http://example.org/hook }", "not encrypted");
    refused("notify: { webhook: { url: \"https://example.org/\", url_env: X } }", "exactly one of");
    refused("notify: { slack: { url: \"https://hooks.example.org/\" } }", "url_env");
    refused("notify: { syslog: { to: \"log.example.org\" } }", "udp:HOST:PORT");
    refused("notify: { contacts: nowhere.yaml }", "nowhere.yaml");
    refused("agent: { listen: \"0.0.0.0:9475\" }", "on this machine only");
    refused("agent: { concurrency: 0 }", "from 1 to 16");
    refused("agent: { jitter: soon }", "is not a duration");
    policy(&sandbox, "a.yaml", "  delta: { snapshot: [tree], schedule: \"0 0 0 30 2 *\" }", "");
    let never = sandbox.backstop(&["policy", "check", "a.yaml"]);
    assert_eq!(never.code, 2);
    assert!((never.stdout.clone() + &never.stderr).contains("never fires"), "{}{}", never.stdout, never.stderr);
}
