//! Lines: syslog (RFC 5424) and a file of JSON for a SIEM.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::alert::{Alert, Message, News};
use crate::policy::AlertSeverity;

const PATIENCE: Duration = Duration::from_secs(5);
/// The facility `daemon`.
const FACILITY: u8 = 3;
/// A number for what these fields are, out of those kept for documentation (RFC 5612), as no other is registered.
const FIELDS: &str = "backstop@32473";

/// Adds one line an alert.
pub(super) fn append(path: &Path, message: &Message) -> Result<(), String> {
    let lines: String = message.news.iter().map(|(news, alert)| format!("{}\n", line(message, *news, alert))).collect();
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    file.write_all(lines.as_bytes()).map_err(|e| format!("{}: {e}", path.display()))
}

fn line(message: &Message, news: News, alert: &Alert) -> String {
    let mut line = json!(alert);
    if let Some(line) = line.as_object_mut() {
        line.insert("state".into(), json!(news));
        line.insert("at".into(), json!(message.at));
        line.insert("vault".into(), json!(message.vault));
        line.insert("message_id".into(), json!(message.id));
    }
    line.to_string()
}

/// Sends one message an alert.
pub(super) fn syslog(to: &str, message: &Message) -> Result<(), String> {
    let lines = message.news.iter().map(|(news, alert)| formatted(message, *news, alert));
    let failed = |e: std::io::Error| format!("{to}: {e}");
    match to.split_once(':') {
        Some(("unix", path)) => {
            let socket = UnixDatagram::unbound().map_err(failed)?;
            socket.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
            if socket.connect(path).is_ok() {
                return lines.into_iter().try_for_each(|l| socket.send(l.as_bytes()).map(|_| ()).map_err(failed));
            }
            let mut stream = UnixStream::connect(path).map_err(failed)?;
            stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
            lines.into_iter().try_for_each(|l| stream.write_all(format!("{l}\n").as_bytes()).map_err(failed))
        }
        Some((kind @ ("udp" | "tcp"), place)) => {
            let address = place.to_socket_addrs().map_err(failed)?.next().ok_or_else(|| format!("{to}: no such host"))?;
            if kind == "udp" {
                let own = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(own).map_err(failed)?;
                return lines.into_iter().try_for_each(|l| socket.send_to(l.as_bytes(), address).map(|_| ()).map_err(failed));
            }
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
            stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
            // Octet counting (RFC 6587).
            lines.into_iter().try_for_each(|l| stream.write_all(format!("{} {l}", l.len()).as_bytes()).map_err(failed))
        }
        _ => Err(format!("{to:?} is no place of a syslog server")),
    }
}

fn formatted(message: &Message, news: News, alert: &Alert) -> String {
    let level = match (news, alert.severity) {
        (News::Resolved | News::Acknowledged | News::Test, _) => 6,
        (_, AlertSeverity::Critical) => 2,
        (_, AlertSeverity::High) => 3,
        (_, AlertSeverity::Medium) => 4,
        (_, AlertSeverity::Low) => 5,
    };
    let host = rustix::system::uname().nodename().to_string_lossy().replace(|c: char| !c.is_ascii_graphic(), "-");
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]").replace(['\n', '\r'], " ");
    let state = json!(news);
    let fields = [
        ("id", alert.id.as_str()),
        ("kind", &alert.kind),
        ("subject", &alert.subject),
        ("severity", crate::alert::spelled(alert.severity)),
        ("state", state.as_str().unwrap_or_default()),
        ("command", &alert.command),
        ("runbook", &alert.runbook),
        ("vault", &message.vault),
    ];
    let data: String = fields.iter().map(|(name, value)| format!(" {name}=\"{}\"", escaped(value))).collect();
    format!(
        "<{}>1 {} {} backstop {} {} [{FIELDS}{data}] \u{feff}{}: {}",
        FACILITY * 8 + level,
        message.at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ"),
        if host.is_empty() { "-" } else { &host },
        rustix::process::getpid().as_raw_nonzero(),
        alert.kind,
        alert.subject,
        alert.summary.replace(['\n', '\r'], " ")
    )
}
