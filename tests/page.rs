//! The status page as a browser shows it, at the width of a screen and of a phone.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::process::Command;

use support::Sandbox;
use support::daemon::{Daemon, free_port, policy};

/// What a browser makes of a page in a window of some width: the document after it was laid out.
fn laid_out(sandbox: &Sandbox, page: &str, width: u32) -> String {
    // The page itself lets no script run; a copy measures itself.
    let measured = "<script>var d=document.documentElement;d.setAttribute('data-needs',d.scrollWidth);d.setAttribute('data-has',window.innerWidth)</script></body>";
    let copy = sandbox.write(&format!("page-{width}.html"), page.replace("</body>", measured));
    let shot = sandbox.path(&format!("page-{width}.png"));
    let profile = sandbox.path("chromium");
    let ran = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={width},900"))
        .arg(format!("--screenshot={}", shot.display()))
        .args(["--dump-dom", "--virtual-time-budget=1000"])
        .arg(format!("file://{}", copy.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(dom.contains("data-needs"), "{}\n{}", dom.len(), String::from_utf8_lossy(&ran.stderr));
    assert!(std::fs::metadata(&shot).unwrap().len() > 5_000, "an empty picture");
    dom
}

fn number(dom: &str, attribute: &str) -> u32 {
    dom.split(&format!("{attribute}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
}

#[test]
fn the_page_is_read_on_a_screen_and_on_a_phone() {
    let sandbox = Sandbox::new();
    sandbox.init();
    sandbox.write("tree/a.json", "{}");
    let port = free_port();
    let more = format!("agent: {{ listen: \"127.0.0.1:{port}\", jitter: 0s }}");
    let jobs = "  delta: { snapshot: [tree], schedule: \"*/2 * * * * *\" }\n  a-job-with-a-name-of-almost-forty-signs: { drill: {}, schedule: \"0 0 5 1 * *\" }";
    policy(&sandbox, "a.yaml", jobs, &more);
    let daemon = Daemon::start(&sandbox, "a.yaml", port, &["run"], &[]);
    daemon.ready("/readyz", 60);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let page = loop {
        let (_, page) = daemon.get("/");
        if page.contains("<h1>Yes</h1>") {
            break page;
        }
        assert!(std::time::Instant::now() < end, "{page}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    };
    for width in [1280, 500] {
        let dom = laid_out(&sandbox, &page, width);
        assert!(
            number(&dom, "data-needs") <= number(&dom, "data-has"),
            "at {width} it is wider than the window: {} of {}",
            number(&dom, "data-needs"),
            number(&dom, "data-has")
        );
        assert!(dom.contains("Are we safe now?") && dom.contains("class=\"calendar\""));
    }
}
