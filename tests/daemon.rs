//! `backstop run` under a supervisor's signals: what is due is run, a kill or a pause of one agent loses nothing, a
//! broken policy changes nothing, and it says at any moment how things stand.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use support::daemon::{Daemon, free_port, get, policy, runs};
use support::small::Small;
use support::{Sandbox, faketime};

const DELTA: &str = "  delta: { snapshot: [tree], schedule: \"*/3 * * * * *\" }";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.init();
    for n in 0..20 {
        sandbox.write(&format!("tree/{n:05}.json"), format!("{{\"n\":{n}}}"));
    }
    sandbox
}

fn agent(port: u16, more: &str) -> String {
    format!("agent: {{ listen: \"127.0.0.1:{port}\", jitter: 0s }}\n{more}")
}

fn is_whole(sandbox: &Sandbox, chain: &str, least: usize) -> usize {
    let verified = sandbox.json(&["verify"], 0);
    assert_eq!(verified[0]["ok"], true, "{}", verified[0]);
    let numbers: Vec<u64> = runs(sandbox, chain).iter().map(|r| r["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no gap, and nothing twice");
    assert!(numbers.len() >= least, "{numbers:?}");
    numbers.len()
}

#[test]
fn what_is_due_is_run_and_shown() {
    let sandbox = sandbox();
    let port = free_port();
    policy(
        &sandbox,
        "a.yaml",
        &format!(
            "{DELTA}\n  checkpoint: {{ checkpoint: {{}}, schedule: \"*/5 * * * * *\" }}\n  never-here: {{ drill: {{}}, schedule: \"* * * * * *\" }}"
        ),
        &agent(port, ""),
    );
    let mut daemon = Daemon::start(&sandbox, "a.yaml", port, &["run"], &[]);
    daemon.job("delta", "done", 3, 60);
    daemon.job("checkpoint", "done", 1, 30);
    assert_eq!(daemon.ready("/healthz", 10), "ok\n");
    daemon.ready("/readyz", 30);
    assert_eq!(sandbox.backstop(&["--policy", "a.yaml", "run", "--probe", "ready"]).code, 0);
    // What needs an identity is left to an agent that has one.
    assert!(daemon.log().iter().all(|l| l["job"] != "never-here"), "{:?}", daemon.log());

    let (status, page) = daemon.get("/");
    assert_eq!(status, 200);
    for text in ["Are we safe now?", "delta", "checkpoint", "another agent", "Newest recovery points", "Today"] {
        assert!(page.contains(text), "{text} is not on the page:\n{page}");
    }
    let (status, json) = daemon.get("/api/v1/status");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, json["rpo"][0]["name"].as_str(), json["jobs"][1]["job"].as_str()), (200, Some("tree"), Some("delta")), "{json}");
    let (_, metrics) = daemon.get("/metrics");
    for name in [
        "backstop_job_last_success_timestamp_seconds{job_name=\"delta\"}",
        "backstop_job_runs_total{job_name=\"delta\",outcome=\"done\"}",
        "backstop_rpo_seconds{class=\"configuration\",name=\"tree\"}",
        "backstop_newest_lock_until_timestamp_seconds",
        "backstop_chain_whole{chain=\"snapshot.tree\"} 1",
        "backstop_coverage_ratio 0",
        "backstop_alerting 1",
        "backstop_alerts_open{severity=\"critical\"} 0",
    ] {
        assert!(metrics.contains(name), "{name} is no metric:\n{metrics}");
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(promtool.stdin.as_mut().unwrap(), metrics.as_bytes()).unwrap();
    let judged = promtool.wait_with_output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
    // Nobody reads it through a name of their own that leads here.
    assert_eq!(get(port, "/api/v1/status", "evil.example").0, 421);
    assert_eq!(get(port, "/nothing", "127.0.0.1").0, 404);
    // How much is idle memory; the program under test is not even optimised.
    assert!(daemon.memory() < 40 << 20, "{}", daemon.memory());

    daemon.signal("TERM");
    let (code, took) = daemon.end(30);
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(20), "{took:?}");
    is_whole(&sandbox, "snapshot.tree", 3);
    let refused = sandbox.backstop(&["--policy", "a.yaml", "run", "--probe", "health"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("is not well"), "{}", refused.stderr);
}

#[test]
fn a_broken_policy_changes_nothing_and_a_good_one_is_taken() {
    let sandbox = sandbox();
    let port = free_port();
    policy(&sandbox, "a.yaml", DELTA, &agent(port, ""));
    let good = fs::read_to_string(sandbox.path("a.yaml")).unwrap();
    let mut daemon = Daemon::start(&sandbox, "a.yaml", port, &["run"], &[]);
    daemon.job("delta", "done", 1, 60);
    sandbox.write("a.yaml", good.replace("delta:", "delta: {{{ \n x:"));
    daemon.signal("HUP");
    daemon.wait_for("refusal", 20, |l| {
        l["level"] == "ERROR" && l["message"].as_str().is_some_and(|m| m.contains("the one before stays in force"))
    });
    let before = daemon.log().iter().filter(|l| l["message"] == "done").count();
    daemon.job("delta", "done", before + 2, 30);
    assert!(daemon.get("/metrics").1.contains("backstop_policy_refused 1"));
    assert!(daemon.get("/").1.contains("is not in force"));
    // Another vault is no reload.
    sandbox.write("a.yaml", good.replace("path: ./vault", "path: ./other"));
    daemon.signal("HUP");
    daemon.wait_for("refusal", 20, |l| l["message"].as_str().is_some_and(|m| m.contains("needs a restart")));
    // Nor is a place to listen, nor a key with which nothing could be attested.
    sandbox.write("a.yaml", good.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{}", free_port())));
    daemon.signal("HUP");
    daemon.wait_for("refusal", 20, |l| l["message"].as_str().is_some_and(|m| m.contains("another `listen`")));
    sandbox.write("a.yaml", good.replace("keys/agent.key", "keys/none.key"));
    daemon.signal("HUP");
    daemon.wait_for("refusal", 20, |l| l["message"].as_str().is_some_and(|m| m.contains("stays in force") && m.contains("none.key")));
    sandbox.write("a.yaml", good.replace("delta:", "often:"));
    daemon.signal("HUP");
    daemon.job("often", "done", 1, 30);
    assert!(daemon.get("/metrics").1.contains("backstop_policy_refused 0"));
    daemon.signal("INT");
    assert_eq!(daemon.end(30).0, Some(0));
    is_whole(&sandbox, "snapshot.tree", 4);
}

#[test]
fn another_agent_takes_over_from_one_that_is_killed() {
    let sandbox = sandbox();
    for n in 0..3000 {
        sandbox.write(&format!("tree/many/{n:05}.json"), format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(300)));
    }
    let ports = [free_port(), free_port()];
    for (name, port) in [("a", ports[0]), ("b", ports[1])] {
        policy(&sandbox, &format!("{name}.yaml"), DELTA, &agent(port, &format!("state: .state-{name}")));
    }
    let start = |at: usize| Daemon::start(&sandbox, ["a.yaml", "b.yaml"][at], ports[at], &["run"], &[]);
    let mut daemons = [start(0), start(1)];
    // In the very middle of runs, now one and now the other.
    for round in 0..6 {
        let end = Instant::now() + Duration::from_secs(60);
        let mut begun = daemons.each_ref().map(|d| d.log().iter().filter(|l| l["message"] == "begun").count());
        let victim = loop {
            let now = daemons.each_ref().map(|d| d.log().iter().filter(|l| l["message"] == "begun").count());
            if let Some(at) = (0..2).find(|at| now[*at] > begun[*at]) {
                break at;
            }
            assert!(Instant::now() < end, "nobody begins");
            begun = now;
            std::thread::sleep(Duration::from_millis(5));
        };
        std::thread::sleep(Duration::from_millis(40 * round));
        daemons[victim].signal("KILL");
        daemons[victim].end(5);
        let other = 1 - victim;
        let done = daemons[other].log().iter().filter(|l| l["message"] == "done").count();
        // The kernel tells at once that the holder is gone.
        daemons[other].job("delta", "done", done + 1, 40);
        daemons[victim] = start(victim);
    }
    for mut daemon in daemons {
        // One that has only just begun to begin hears no signal yet.
        daemon.ready("/healthz", 30);
        daemon.signal("TERM");
        assert_eq!(daemon.end(30).0, Some(0));
    }
    is_whole(&sandbox, "snapshot.tree", 6);
}

#[test]
fn an_agent_that_stands_still_loses_its_lease_and_says_so_when_it_goes_on() {
    let sandbox = sandbox();
    // A run that hangs in its source, on the first agent only.
    let tarpit = TcpListener::bind("127.0.0.1:0").unwrap();
    let hanging = format!("http://{}", tarpit.local_addr().unwrap());
    let ports = [free_port(), free_port()];
    for (name, port) in [("a", ports[0]), ("b", ports[1])] {
        policy(
            &sandbox,
            &format!("{name}.yaml"),
            "  delta: { snapshot: [tree], schedule: \"*/20 * * * * *\" }",
            &agent(port, &format!("state: .state-{name}")),
        );
    }
    let text = fs::read_to_string(sandbox.path("a.yaml")).unwrap();
    let files = text.lines().find(|l| l.contains("tree:") && l.contains("files")).unwrap().to_owned();
    let graph = format!(
        "  tree: {{ graph: {{ tenant: contoso.example, catalog: [entra], endpoint: \"{hanging}\", authority: \"{hanging}\", credential: {{ client_secret: {{ client_id: x, secret_env: PLANTED }} }} }} }}"
    );
    sandbox.write("a.yaml", text.replace(&files, &graph));
    let mut a = Daemon::start(&sandbox, "a.yaml", ports[0], &["run"], &[("PLANTED", "planted-secret-value")]);
    a.job("delta", "begun", 1, 60);
    a.signal("STOP");
    let mut b = Daemon::start(&sandbox, "b.yaml", ports[1], &["run"], &[]);
    let begun = Instant::now();
    b.job("delta", "done", 1, 120);
    assert!(begun.elapsed() > Duration::from_secs(30), "the lease holds for a while: {:?}", begun.elapsed());
    a.signal("CONT");
    a.job("delta", "another agent has its lease now", 1, 60);
    // It would hang in the next one.
    a.signal("TERM");
    assert_eq!(a.end(40).0, Some(0));
    b.job("delta", "done", 2, 60);
    b.signal("TERM");
    assert_eq!(b.end(30).0, Some(0));
    is_whole(&sandbox, "snapshot.tree", 2);
    let log = fs::read_to_string(&a.log).unwrap();
    assert!(!log.contains("planted-secret-value"), "{log}");
}

#[test]
fn a_run_that_never_ends_is_stopped_at_its_deadline_and_at_the_agents_end() {
    let sandbox = sandbox();
    let tarpit = TcpListener::bind("127.0.0.1:0").unwrap();
    let hanging = format!("http://{}", tarpit.local_addr().unwrap());
    let text = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap();
    let graph = format!(
        "sources:\n  tenant: {{ graph: {{ tenant: contoso.example, catalog: [entra], endpoint: \"{hanging}\", authority: \"{hanging}\", credential: {{ client_secret: {{ client_id: x, secret_env: SECRET }} }} }} }}\n"
    );
    sandbox.write("backstop.yaml", text.replacen("sources:\n", &graph, 1));
    let port = free_port();
    policy(
        &sandbox,
        "a.yaml",
        "  short: { snapshot: [tenant], schedule: \"0 * * * * *\", deadline: 3s }\n  delta: { snapshot: [tree], schedule: \"*/3 * * * * *\" }",
        &agent(port, ""),
    );
    let daemon = Daemon::start(&sandbox, "a.yaml", port, &["run"], &[("SECRET", "x")]);
    let failed = daemon.job("short", "failed: it lasted longer than 3 s and was stopped", 1, 90);
    assert_eq!(failed["level"], "ERROR");
    // It is tried again, and the other job goes on all the while.
    daemon.job("short", "begun", 2, 60);
    daemon.job("delta", "done", 10, 60);
    drop(daemon);
    policy(&sandbox, "b.yaml", "  long: { snapshot: [tenant], schedule: \"*/2 * * * * *\" }", &agent(port, "state: .state-b"));
    let mut daemon = Daemon::start(&sandbox, "b.yaml", port, &["run"], &[("SECRET", "x")]);
    daemon.job("long", "begun", 1, 60);
    daemon.ready("/readyz", 30);
    let told = Instant::now();
    daemon.signal("TERM");
    // Whoever asks whether it may be given work, or replaced, hears of it while the run still ends.
    daemon.shows("/readyz", "told to end");
    assert_eq!((daemon.get("/readyz").0, daemon.get("/healthz").0), (503, 200));
    let (code, _) = daemon.end(30);
    let took = told.elapsed();
    assert_eq!(code, Some(0));
    assert!(took > Duration::from_secs(10), "it may end by itself for a while: {took:?}");
    daemon.job("long", "interrupted", 1, 1);
    let children = Command::new("pgrep").args(["-f", &format!("{} --run-by-agent", sandbox.path("").display())]).output().unwrap();
    assert!(children.stdout.is_empty(), "nothing is left behind");
}

#[test]
fn one_agent_a_state_directory_and_of_a_form_that_it_knows() {
    let sandbox = sandbox();
    let port = free_port();
    policy(&sandbox, "a.yaml", DELTA, &agent(port, ""));
    let daemon = Daemon::start(&sandbox, "a.yaml", port, &["run"], &[]);
    daemon.wait_for("start", 30, |l| l["message"] == "the agent runs");
    let second = sandbox.backstop(&["--policy", "a.yaml", "run"]);
    assert_eq!(second.code, 75, "{}", second.stderr);
    assert!(
        second.stderr.contains("another agent uses") && second.stderr.contains("\"help\":\"one agent a state directory"),
        "{}",
        second.stderr
    );
    drop(daemon);
    sandbox.write(".backstop/agent/form", "7\n");
    let older = sandbox.backstop(&["--policy", "a.yaml", "run"]);
    assert_eq!(older.code, 1, "{}", older.stderr);
    assert!(older.stderr.contains("a newer version wrote it"), "{}", older.stderr);
    sandbox.write(".backstop/agent/form", "1\n");
    // Somebody else listens there.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    policy(&sandbox, "b.yaml", DELTA, &agent(taken.local_addr().unwrap().port(), ""));
    let busy = sandbox.backstop(&["--policy", "b.yaml", "run"]);
    assert_eq!(busy.code, 1, "{}", busy.stderr);
    assert!(busy.stderr.contains("cannot listen") && busy.stderr.contains("listen: off"), "{}", busy.stderr);
    let unknown = sandbox.backstop(&["--policy", "a.yaml", "run", "--job", "detla"]);
    assert_eq!(unknown.code, 2, "{}", unknown.stderr);
}

#[test]
fn a_disk_without_room_is_told_and_room_lets_it_go_on() {
    let sandbox = sandbox();
    let disk = Small::mount(&sandbox.path("state"), "400k").expect("this test mounts: run it as root");
    let port = free_port();
    policy(&sandbox, "a.yaml", DELTA, &agent(port, "state: state\nnotify: { file: { path: alerts.ndjson } }"));
    let mut daemon = Daemon::start(&sandbox, "a.yaml", port, &["run"], &[]);
    daemon.job("delta", "done", 1, 60);
    let _ = fs::write(sandbox.path("state/fill"), vec![0; 4_000_000]);
    let failed = daemon.job("delta", "failed", 1, 60);
    assert!(failed["message"].as_str().unwrap().contains("free some room in the state directory"), "{failed}");
    // Said where people look, too, and to whom it concerns: the state directory is not needed for that.
    daemon.shows("/", "No space left");
    let end = Instant::now() + Duration::from_secs(120);
    while !fs::read_to_string(sandbox.path("alerts.ndjson")).unwrap_or_default().contains("job_failing") {
        assert!(Instant::now() < end, "{:?}", daemon.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    let done = daemon.log().iter().filter(|l| l["message"] == "done").count();
    fs::remove_file(sandbox.path("state/fill")).unwrap();
    daemon.job("delta", "done", done + 1, 60);
    daemon.signal("TERM");
    assert_eq!(daemon.end(30).0, Some(0));
    is_whole(&sandbox, "snapshot.tree", 2);
    // Full before it begins, it says so and does not begin.
    let _ = fs::write(sandbox.path("state/fill"), vec![0; 4_000_000]);
    let ran = sandbox.backstop(&["--policy", "a.yaml", "run"]);
    assert!(ran.code == 1 && ran.stderr.contains("No space left") && ran.stderr.contains("state"), "{}", ran.stderr);
    drop(disk);
}

#[test]
fn nothing_is_written_where_the_vault_is_not() {
    let sandbox = sandbox();
    let port = free_port();
    policy(&sandbox, "a.yaml", DELTA, &agent(port, "notify: { file: { path: alerts.ndjson } }"));
    let mut daemon = Daemon::start(&sandbox, "a.yaml", port, &["run"], &[]);
    daemon.job("delta", "done", 2, 60);
    // As a share that is no longer mounted: an empty directory.
    fs::rename(sandbox.path("vault"), sandbox.path("away")).unwrap();
    fs::create_dir(sandbox.path("vault")).unwrap();
    let failed = daemon.job("delta", "failed", 1, 60);
    assert!(failed["message"].as_str().unwrap().contains("holds nothing of this vault"), "{failed}");
    let status = sandbox.backstop(&["--policy", "a.yaml", "status"]);
    assert!(status.code == 3 && status.stdout.contains("holds nothing of this vault"), "{}{}", status.stdout, status.stderr);
    let ran = sandbox.backstop(&["--policy", "a.yaml", "snapshot"]);
    assert!(ran.code == 3 && ran.stderr.contains("mounted"), "{}", ran.stderr);
    let end = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(sandbox.path("alerts.ndjson")).unwrap_or_default().contains("missing_attestation") {
        assert!(Instant::now() < end, "{:?}", daemon.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    daemon.signal("TERM");
    assert_eq!(daemon.end(30).0, Some(0));
    let ran = sandbox.backstop(&["--policy", "a.yaml", "run"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let written: Vec<_> = fs::read_dir(sandbox.path("vault")).unwrap().map(|e| e.unwrap().file_name()).filter(|n| n != ".leases").collect();
    assert!(written.is_empty(), "{written:?}");
    fs::remove_dir_all(sandbox.path("vault")).unwrap();
    fs::rename(sandbox.path("away"), sandbox.path("vault")).unwrap();
    is_whole(&sandbox, "snapshot.tree", 2);
}

#[test]
fn a_restart_calls_no_alert_over() {
    let sandbox = sandbox();
    let port = free_port();
    policy(&sandbox, "a.yaml", DELTA, &agent(port, "notify: { file: { path: alerts.ndjson } }"));
    let text = fs::read_to_string(sandbox.path("a.yaml")).unwrap();
    sandbox.write("a.yaml", text.replace("rpo: 1h", "rpo: 8s"));
    fs::rename(sandbox.path("tree"), sandbox.path("gone")).unwrap();
    let open = |daemon: &Daemon| {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            let status: serde_json::Value = serde_json::from_str(&daemon.get("/api/v1/status").1).unwrap_or_default();
            let alerts = status["alerts"].as_array().cloned().unwrap_or_default();
            if let Some(alert) = alerts.into_iter().find(|a| a["kind"] == "no_recovery_point") {
                return alert;
            }
            assert!(Instant::now() < end, "{:?}", daemon.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let mut first = Daemon::start(&sandbox, "a.yaml", port, &["run"], &[]);
    let opened = open(&first);
    first.signal("TERM");
    assert_eq!(first.end(30).0, Some(0));
    let mut second = Daemon::start(&sandbox, "a.yaml", port, &["run"], &[]);
    open(&second);
    // What would be over begins to be so at the first look.
    std::thread::sleep(Duration::from_secs(3));
    let still = open(&second);
    assert!(still["id"] == opened["id"] && still["over_since"].is_null(), "{still}");
    second.signal("TERM");
    assert_eq!(second.end(30).0, Some(0));
}

#[test]
fn agents_with_different_policies_say_so() {
    let sandbox = sandbox();
    let ports = [free_port(), free_port()];
    for (name, port, rpo) in [("a", ports[0], "1h"), ("b", ports[1], "2h")] {
        policy(&sandbox, &format!("{name}.yaml"), DELTA, &agent(port, &format!("state: .state-{name}")));
        let text = fs::read_to_string(sandbox.path(&format!("{name}.yaml"))).unwrap();
        sandbox.write(&format!("{name}.yaml"), text.replace("rpo: 1h", &format!("rpo: {rpo}")));
    }
    let mut first = Daemon::start(&sandbox, "a.yaml", ports[0], &["run"], &[]);
    first.job("delta", "done", 1, 60);
    first.signal("TERM");
    assert_eq!(first.end(30).0, Some(0));
    let mut second = Daemon::start(&sandbox, "b.yaml", ports[1], &["run"], &[]);
    second.job("delta", "done", 1, 60);
    let said = second.job("delta", "the agent ", 1, 5);
    assert!(said["message"].as_str().unwrap().contains("give all agents the same"), "{said}");
    second.shows("/api/v1/status", "policies_differ");
    // Another order, a comment, and what belongs to one agent alone are no difference.
    let text = fs::read_to_string(sandbox.path("b.yaml")).unwrap();
    second.signal("TERM");
    assert_eq!(second.end(30).0, Some(0));
    sandbox.write("c.yaml", format!("# mine\n{}", text.replace(".state-b", ".state-c")));
    let mut third = Daemon::start(&sandbox, "c.yaml", ports[1], &["run"], &[]);
    third.job("delta", "done", 1, 60);
    assert!(
        !third.log().iter().any(|l| l["message"].as_str().unwrap_or_default().contains("give all agents the same")),
        "{:?}",
        third.log()
    );
    third.signal("TERM");
    assert_eq!(third.end(30).0, Some(0));
}

#[test]
fn a_supervisor_keeps_it_running() {
    let sandbox = sandbox();
    let port = free_port();
    policy(&sandbox, "a.yaml", DELTA, &agent(port, ""));
    let script =
        format!("#!/bin/sh\ncd {}\nexec {} --policy a.yaml run 2>> run.log\n", sandbox.path("").display(), env!("CARGO_BIN_EXE_backstop"));
    let run = sandbox.write("service/run", script);
    fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut runsv = Command::new("runsv").arg(sandbox.path("service")).spawn().unwrap();
    let log = || fs::read_to_string(sandbox.path("run.log")).unwrap_or_default();
    let wait = |what: &str, count: usize| {
        let end = Instant::now() + Duration::from_secs(60);
        while log().matches(what).count() < count {
            assert!(Instant::now() < end, "{what} did not come {count} times:\n{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let sv = |command: &str| {
        let ran = Command::new("sv").args(["-w", "40", command]).arg(sandbox.path("service")).output().unwrap();
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    wait("\"done\"", 1);
    // Killed, it is there again, and the next firing is run.
    for round in 2..4 {
        let pid = fs::read_to_string(sandbox.path("service/supervise/pid")).unwrap();
        assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
        wait("the agent runs", round);
        let done = log().matches("\"done\"").count();
        wait("\"done\"", done + 1);
    }
    sv("hup");
    wait("read again and is in force", 1);
    let stopped = sv("stop");
    assert!(stopped.starts_with("ok: down"), "{stopped}");
    wait("the agent has stopped", 1);
    sv("exit");
    assert!(runsv.wait().unwrap().success());
    is_whole(&sandbox, "snapshot.tree", 3);
}

#[test]
fn a_supervisor_is_told_how_it_stands() {
    let sandbox = sandbox();
    let port = free_port();
    policy(&sandbox, "a.yaml", DELTA, &agent(port, ""));
    // A socket's path may not be long.
    let dir = tempfile::Builder::new().prefix("bs").tempdir().unwrap();
    let socket = dir.path().join("notify");
    let listener = UnixDatagram::bind(&socket).unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let env = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "3000000")];
    let mut daemon = Daemon::start(&sandbox, "a.yaml", port, &["run"], &env);
    let next = |what: &str| {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let mut buffer = [0; 4096];
            let length = listener.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|l| l.starts_with(what)) {
                return text;
            }
            assert!(Instant::now() < end, "{what} is not told");
        }
    };
    next("READY=1");
    let told = next("WATCHDOG=1");
    assert!(told.contains("STATUS="), "{told}");
    let begun = Instant::now();
    for _ in 0..5 {
        next("WATCHDOG=1");
    }
    assert!(begun.elapsed() < Duration::from_secs(9), "more often than it must: {:?}", begun.elapsed());
    daemon.signal("HUP");
    assert!(next("RELOADING=1").contains("MONOTONIC_USEC="));
    next("READY=1");
    daemon.signal("TERM");
    next("STOPPING=1");
    assert_eq!(daemon.end(30).0, Some(0));
}

#[test]
fn a_clock_that_leaps_a_year_or_falls_back_a_day_begins_nothing() {
    let sandbox = sandbox();
    let port = free_port();
    policy(&sandbox, "a.yaml", DELTA, &agent(port, ""));
    let clock = sandbox.write("clock", "+0");
    let library = faketime();
    let env = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    let mut daemon = Daemon::start(&sandbox, "a.yaml", port, &["run"], &env);
    daemon.job("delta", "done", 1, 60);
    for (leap, told) in [("+370d", "the clock was set by +370 d"), ("-1d", "the clock was set by -1 d")] {
        fs::write(&clock, leap).unwrap();
        daemon.wait_for(told, 60, |l| {
            l["message"].as_str().is_some_and(|m| m.starts_with(told) || m.starts_with("the clock was set by +369 d"))
        });
        let before = runs(&sandbox, "snapshot.tree").len();
        std::thread::sleep(Duration::from_secs(7));
        assert!(runs(&sandbox, "snapshot.tree").len() <= before + 1, "nothing but what was under way");
        fs::write(&clock, "+0").unwrap();
        let done = daemon.log().iter().filter(|l| l["message"] == "done").count();
        daemon.job("delta", "done", done + 1, 60);
    }
    daemon.signal("TERM");
    assert_eq!(daemon.end(30).0, Some(0));
    is_whole(&sandbox, "snapshot.tree", 3);
}
