//! A receiver of webhooks, which keeps what it is sent and answers as it is told.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// The body as it came.
    pub bytes: Vec<u8>,
}

impl Received {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

#[derive(Clone)]
pub struct Receiver {
    pub address: String,
    received: Arc<Mutex<Vec<Received>>>,
    /// Status to answer with; 0 is no answer at all.
    status: Arc<Mutex<u16>>,
}

impl Receiver {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (received, status): (Arc<Mutex<Vec<Received>>>, _) = (Arc::default(), Arc::new(Mutex::new(200)));
        let own = Self { address, received, status };
        let each = own.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = each.clone();
                std::thread::spawn(move || own.serve(stream));
            }
        });
        own
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn answer(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }

    pub fn received(&self, path: &str) -> Vec<Received> {
        self.received.lock().unwrap().iter().filter(|r| r.path == path).cloned().collect()
    }

    /// Waits until so many came.
    pub fn wait(&self, path: &str, count: usize, seconds: u64) -> Vec<Received> {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            let received = self.received(path);
            if received.len() >= count {
                return received;
            }
            assert!(Instant::now() < end, "{count} were awaited at {path}, and there are {}", received.len());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn serve(&self, stream: TcpStream) {
        let mut input = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        if input.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut first = line.split_whitespace();
        let (method, path) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default().to_owned());
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            input.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
        let mut bytes = vec![0; length];
        input.read_exact(&mut bytes).unwrap();
        let status = *self.status.lock().unwrap();
        let body = String::from_utf8_lossy(&bytes).into_owned();
        self.received.lock().unwrap().push(Received { method, path, headers, body, bytes });
        if status == 0 {
            std::thread::sleep(Duration::from_secs(60));
            return;
        }
        let mut stream = stream;
        let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
}
