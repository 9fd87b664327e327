//! The transport of the official Azure crates moves bodies in pieces, both ways, changes nothing of them, follows no
//! redirect, and speaks plain http to nobody but this machine; an identity gives tokens to those crates.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll};
use std::time::Duration;

use azure_core::Bytes;
use azure_core::credentials::TokenCredential;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Method, Request};
use azure_core::stream::SeekableStream;
use backstop::http::{Credential, HttpError, Identity, IdentityOptions, Secret, Transport, endpoint, for_sdk, runtime};
use futures::StreamExt;
use url::Url;

const TOTAL: u64 = 64 << 20;

/// Answers one connection after another with `serve`, which gets the head of the request and the stream.
fn server(serve: impl Fn(&str, &mut BufReader<TcpStream>) + Send + 'static) -> Url {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = endpoint(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && reader.read_until(b'\n', &mut head).unwrap() > 0 {}
            serve(&String::from_utf8(head).unwrap().to_lowercase(), &mut reader);
        }
    });
    url
}

fn send(url: &Url, path: &str, method: Method, body: Body) -> Result<AsyncRawResponse, azure_core::Error> {
    let transport = Transport::with_metadata([url], None).unwrap();
    let mut request = Request::new(for_sdk(url).join(path).unwrap(), method);
    assert_eq!(request.url().scheme(), "https");
    request.set_body(body);
    runtime().unwrap().block_on(transport.execute_request(&request))
}

fn whole(response: AsyncRawResponse) -> (u16, Vec<u8>) {
    let status = response.status().into();
    (status, runtime().unwrap().block_on(response.into_body().collect()).unwrap().to_vec())
}

/// A body that is made while it is read.
#[derive(Debug, Clone)]
struct Made {
    at: u64,
    made: Arc<AtomicU64>,
}

impl futures::io::AsyncRead for Made {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<std::io::Result<usize>> {
        let size = buffer.len().min(usize::try_from(TOTAL - self.at).unwrap());
        buffer[..size].fill(7);
        self.at += size as u64;
        self.made.store(self.at, Ordering::Relaxed);
        Poll::Ready(Ok(size))
    }
}

#[async_trait::async_trait]
impl SeekableStream for Made {
    async fn reset(&mut self) -> azure_core::Result<()> {
        self.at = 0;
        Ok(())
    }

    fn len(&self) -> Option<u64> {
        Some(TOTAL)
    }
}

#[test]
fn a_body_goes_out_while_it_is_made() {
    let made = Arc::new(AtomicU64::new(0));
    let seen = made.clone();
    let url = server(move |head, stream| {
        // A body that is on its way has filled the pipe by now, and no more than that.
        std::thread::sleep(Duration::from_millis(300));
        let before = seen.load(Ordering::Relaxed);
        let read = std::io::copy(&mut stream.by_ref().take(TOTAL), &mut std::io::sink()).unwrap();
        let framed = head.contains(&format!("content-length: {TOTAL}")) && !head.contains("transfer-encoding");
        let text = format!("{before} {read} {framed}");
        write!(stream.get_mut(), "HTTP/1.1 201 Made\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len()).unwrap();
    });
    let stream: Box<dyn SeekableStream> = Box::new(Made { at: 0, made });
    for body in [Body::SeekableStream(stream), Body::Bytes(Bytes::from(vec![7; usize::try_from(TOTAL).unwrap()]))] {
        let streamed = matches!(body, Body::SeekableStream(_));
        let (status, text) = whole(send(&url, "/blob", Method::Put, body).unwrap());
        let text = String::from_utf8(text).unwrap();
        let words: Vec<&str> = text.split(' ').collect();
        assert_eq!((status, words[1], words[2]), (201, TOTAL.to_string().as_str(), "true"), "{text}");
        if streamed {
            let before: u64 = words[0].parse().unwrap();
            assert!(before > 0 && before < TOTAL / 2, "{before} bytes were made before one was read");
        }
    }
}

#[test]
fn an_answer_comes_in_while_it_is_sent() {
    let (go, gone): (_, Receiver<()>) = channel();
    let url = server(move |_, stream| {
        let out = stream.get_mut();
        write!(out, "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", 2 << 20).unwrap();
        out.write_all(&vec![1; 1 << 20]).unwrap();
        // The second half is not sent before the first was read.
        gone.recv_timeout(Duration::from_secs(20)).unwrap();
        out.write_all(&vec![2; 1 << 20]).unwrap();
    });
    let response = send(&url, "/blob", Method::Get, Body::Bytes(Bytes::new())).unwrap();
    let mut body = response.into_body();
    let read = runtime().unwrap().block_on(async {
        let (mut read, mut half) = (Vec::new(), false);
        while let Some(piece) = body.next().await {
            read.extend_from_slice(&piece.unwrap());
            if read.len() >= 1 << 20 && !half {
                half = true;
                go.send(()).unwrap();
            }
        }
        read
    });
    // As it was sent, although it says that it is compressed.
    assert_eq!((read.len(), read[0], read[read.len() - 1]), (2 << 20, 1, 2));
}

#[test]
fn an_answer_that_breaks_off_is_an_error_and_a_redirect_is_an_answer() {
    let url = server(|head, stream| {
        let text = match head.contains("/moved") {
            true => "HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            false => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\nshort",
        };
        stream.get_mut().write_all(text.as_bytes()).unwrap();
    });
    let (status, _) = whole(send(&url, "/moved", Method::Get, Body::Bytes(Bytes::new())).unwrap());
    assert_eq!(status, 307);
    let response = send(&url, "/short?sig=secret", Method::Get, Body::Bytes(Bytes::new())).unwrap();
    let broken = runtime().unwrap().block_on(response.into_body().collect()).unwrap_err().to_string();
    assert!(broken.contains("broke off") && broken.contains("/short") && !broken.contains("secret"), "{broken}");
    // Nobody there: the address is said without its query, which may hold a signature.
    let nobody = endpoint("http://127.0.0.1:1").unwrap();
    let away = send(&nobody, "/x?sig=secret", Method::Get, Body::Bytes(Bytes::new())).unwrap_err();
    assert!(matches!(away.kind(), azure_core::error::ErrorKind::Connection), "{away:?}");
    assert!(away.to_string().contains("http://127.0.0.1:1/x cannot be reached") && !format!("{away:?}").contains("secret"), "{away:?}");
}

#[test]
fn an_identity_gives_tokens_by_scope_and_says_why_not() {
    let asked = Arc::new(AtomicU64::new(0));
    let counted = asked.clone();
    let url = server(move |head, stream| {
        assert!(head.starts_with("post /adfs/tenant/oauth2/v2.0/token http/1.1"), "{head}");
        let length: usize = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        let n = counted.fetch_add(1, Ordering::Relaxed);
        let (status, text) = match String::from_utf8(body).unwrap().contains("refused") {
            true => (
                401,
                r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.\r\nTrace"}"#.to_owned(),
            ),
            // Without an end: it is taken for good, not for over.
            false => (200, format!(r#"{{"token_type":"Bearer","access_token":"token-{n}"}}"#)),
        };
        write!(stream.get_mut(), "HTTP/1.1 {status} Told\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len()).unwrap();
    });
    let transport = Transport::with_metadata([&url], None).unwrap();
    let identity = |secret: &str| {
        let credential = Credential::ClientSecret { client_id: "app".into(), secret: Secret::new(secret) };
        let options = IdentityOptions { authority: url.join("/adfs").unwrap(), tenant: Some("tenant".into()), credential };
        Identity::new(options, transport.clone()).unwrap()
    };
    let runtime = runtime().unwrap();
    let good: Arc<dyn TokenCredential> = identity("good");
    let token = |scope: &'static str| runtime.block_on(good.get_token(&[scope], None)).unwrap();
    for _ in 0..3 {
        assert_eq!(token("https://storage.azure.com/.default").token.secret(), "token-0");
        assert_eq!(token("https://management.azure.com/.default").token.secret(), "token-1");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let bad = identity("refused");
    for _ in 0..3 {
        let error = runtime.block_on(bad.get_token(&["https://storage.azure.com/.default"], None)).unwrap_err();
        let Some(HttpError::Credential { what, hint }) = error.downcast_ref::<HttpError>() else { panic!("{error:?}") };
        assert!(what.contains("the client app of tenant tenant: AADSTS7000215") && !what.contains("Trace"), "{what}");
        assert!(hint.contains("valid secret") && error.to_string() == *what);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    let none = IdentityOptions {
        tenant: None,
        authority: url,
        credential: Credential::ClientSecret { client_id: "a".into(), secret: Secret::new("s") },
    };
    assert!(Identity::new(none, transport).unwrap_err().to_string().contains("needs a tenant"));
}
