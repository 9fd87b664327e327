//! What is shipped beside the program: the image, the units, the manifests, the alert rules, man pages, completions.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use backstop::alert::RULES;
use support::Sandbox;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn man_pages_and_completions_come_from_the_command_line() {
    let sandbox = Sandbox::new();
    let ran = sandbox.backstop(&["generate", "man", "--dir", "man"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for page in ["backstop.1", "backstop-run.1", "backstop-watch.1", "backstop-notify-ack.1", "backstop-restore-files.1"] {
        let text = fs::read_to_string(sandbox.path("man").join(page)).unwrap();
        assert!(text.contains(".TH") && text.contains(".SH SYNOPSIS"), "{page}");
        assert!(!text.contains("run-by-agent"), "{page} shows what is hidden");
    }
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = sandbox.backstop(&["generate", "completions", shell]);
        assert!(ran.code == 0 && ran.stdout.contains("restore-test"), "{shell}");
    }
    let script = sandbox.backstop(&["generate", "completions", "bash"]).stdout;
    sandbox.write("completion.bash", script);
    let tried = sandbox.shell(
        "bash -c 'source completion.bash && COMP_WORDS=(backstop noti) && COMP_CWORD=1 && _backstop backstop noti && printf \"%s\\n\" \"${COMPREPLY[@]}\"'",
    );
    assert_eq!(tried.stdout.trim(), "notify", "{}", tried.stderr);
}

#[test]
fn alert_rules_are_what_prometheus_reads_and_name_metrics_that_exist() {
    let rules = root().join("deploy/prometheus");
    for arguments in [["check", "rules", "backstop.rules.yaml"], ["test", "rules", "backstop.test.yaml"]] {
        let ran = Command::new("promtool").args(arguments).current_dir(&rules).output().unwrap();
        assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    }
    let source = read("src/web/metrics.rs");
    let text = read("deploy/prometheus/backstop.rules.yaml");
    let names = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|w| w.starts_with("backstop_"));
    let mut count = 0;
    for name in names {
        let short = name.trim_start_matches("backstop_").trim_end_matches("_total");
        assert!(source.contains(&format!("\"{short}\"")), "{name} is no metric");
        count += 1;
    }
    assert!(count > 10);
}

#[test]
fn every_kind_of_alert_has_its_section() {
    let page = read("docs/alerts.md");
    for rule in RULES {
        assert!(page.contains(&format!("\n## {}\n", rule.kind)), "docs/alerts.md has no section {}", rule.kind);
    }
    let sections = page.lines().filter(|l| l.starts_with("## ") && !l.contains(' ') || l.starts_with("## ")).count();
    assert!(sections >= RULES.len());
}

#[test]
fn units_and_manifests_say_what_the_agent_needs() {
    let unit = read("deploy/systemd/backstop.service");
    for line in
        ["Type=notify", "WatchdogSec=120", "User=backstop", "ProtectSystem=strict", "ExecReload=/bin/kill -HUP $MAINPID", "KillMode=mixed"]
    {
        assert!(unit.lines().any(|l| l == line), "{line}");
    }
    if let Ok(judged) =
        Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(root().join("deploy/systemd/backstop.service")).output()
    {
        let said = String::from_utf8_lossy(&judged.stderr).into_owned();
        let other: Vec<&str> = said.lines().filter(|l| !l.contains("is not executable") && !l.trim().is_empty()).collect();
        assert!(other.is_empty(), "{other:?}");
    }
    let manifests = read("deploy/kubernetes/backstop.yaml");
    let documents: Vec<serde_json::Value> = manifests.split("\n---\n").map(|d| serde_saphyr::from_str(d).unwrap()).collect();
    let deployment = documents.iter().find(|d| d["kind"] == "Deployment").unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!((deployment["spec"]["replicas"].as_u64(), pod["securityContext"]["runAsNonRoot"].as_bool()), (Some(2), Some(true)));
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert!(container["livenessProbe"]["exec"]["command"].as_array().unwrap().iter().any(|w| w == "--probe"));
}

/// Built from a base that debootstrap makes, since no registry is at hand; the program is the one under test.
#[test]
fn the_image_is_built_and_runs_without_rights() {
    let cache = root().join("target/image-base");
    let script = format!(
        "set -e
         export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
         base={cache}
         [ -e $base.done ] || {{ rm -rf $base; debootstrap --variant=minbase --include=ca-certificates bookworm $base > $base.log 2>&1; touch $base.done; }}
         c=$(buildah from scratch); buildah copy -q $c $base / > copy.log; buildah commit -q $c localhost/backstop-test-base > commit.log; buildah rm $c > rm.log
         mkdir -p context/out; cp {program} context/out/backstop
         buildah build -q --format docker --build-arg BASE=localhost/backstop-test-base --build-context build=$PWD/context -t localhost/backstop-test {root} > build.log 2>&1 || {{ cat build.log >&2; exit 1; }}
         buildah inspect --type image localhost/backstop-test > image.json
         c=$(buildah from localhost/backstop-test)
         buildah run $c -- /usr/bin/backstop --version > version
         buildah run $c -- /usr/bin/id -u > user
         buildah run $c -- /bin/sh -c 'touch /usr/bin/x 2>&1; touch /state/x && echo writable' > written
         buildah rm $c > rm.log; buildah rmi -f localhost/backstop-test localhost/backstop-test-base > rmi.log",
        cache = cache.display(),
        program = env!("CARGO_BIN_EXE_backstop"),
        root = root().display(),
    );
    let sandbox = Sandbox::new();
    let ran = sandbox.shell(&script);
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    assert!(support::read(&sandbox.path("version")).starts_with("backstop "));
    assert_eq!(support::read(&sandbox.path("user")).trim(), "10001");
    let written = support::read(&sandbox.path("written"));
    assert!(written.contains("Permission denied") && written.contains("writable"), "{written}");
    let image: serde_json::Value = serde_json::from_str(&support::read(&sandbox.path("image.json"))).unwrap();
    let config = &image["Docker"]["config"];
    assert_eq!(config["User"], "10001:10001");
    assert_eq!(config["Healthcheck"]["Test"][1], "/usr/bin/backstop", "{config}");
}
