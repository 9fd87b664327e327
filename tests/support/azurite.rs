//! Azurite, as `scripts/test.sh` installs it: the emulator takes locks and ignores them, and keeps no versions, so
//! nothing that passes on it says anything about either.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::blob::{ALL_LETTERS, BlobDouble, Options};

/// The emulator's published account.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

pub struct Azurite {
    child: Child,
    port: u16,
}

impl Azurite {
    pub fn start() -> Self {
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/azurite/node_modules/.bin/azurite-blob");
        let program = std::env::var_os("BACKSTOP_TEST_AZURITE").map_or(installed, PathBuf::from);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(&program)
            .args(["--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry", "--blobPort", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}; scripts/test.sh installs it", program.display()));
        let azurite = Self { child, port };
        let begun = Instant::now();
        while !azurite.answers() {
            assert!(begun.elapsed() < Duration::from_secs(60), "Azurite does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        azurite
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
        asked.is_ok() && stream.read(&mut [0; 16]).is_ok_and(|n| n > 0)
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.port)
    }

    /// A SAS with all rights, signed as the double signs its own.
    pub fn sas(&self) -> String {
        let signer = BlobDouble::start(Options { account: ACCOUNT.into(), account_key: KEY.into(), ..Options::default() });
        let now = Timestamp::now();
        signer.sas(ALL_LETTERS, now - SignedDuration::from_hours(1), now + SignedDuration::from_hours(24))
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
