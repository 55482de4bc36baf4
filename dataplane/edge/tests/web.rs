//! HTTP through the edge to the control plane's server: what passes, what is replaced, what is refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Edge, Options, client_identity, echoed, read_all, say, until};
use lockgate_edge::front::admission::Kind;
use lockgate_edge::front::limits::Limits;
use lockgate_edge::front::refusal::Refusal;
use lockgate_edge::front::tls::ClientCertificates;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

const GET: &str = "GET / HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n";

/// All values the echo server saw for `name`, which it got in lower case.
fn seen(echo: &serde_json::Value, name: &str) -> Vec<String> {
    echo["headers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pair| pair[0] == name)
        .map(|pair| pair[1].as_str().unwrap().to_owned())
        .collect()
}

async fn edge_with(limits: Limits) -> Edge {
    let edge = Edge::start(Options {
        limits,
        ..Options::default()
    })
    .await;
    edge.echo_server();
    edge
}

fn easy() -> Limits {
    Options::default().limits
}

#[tokio::test]
async fn requests_reach_the_control_plane_with_facts_nobody_outside_can_set() {
    let edge = edge_with(easy()).await;
    let spoofed = "X-Lockgate-Peer: 6.6.6.6:6\r\nx-LOCKGATE-peer: 6.6.6.6:6\r\nX_Lockgate_Peer: 6.6.6.6:6\r\n\
        X-Lockgate-Client-Certificate: AAAA\r\nx-lockgate-new: 1\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
        X-Real-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\nTE: trailers\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n";
    for (address, listener) in [(edge.address, "gateway"), (edge.admin, "admin")] {
        let mut stream = edge.tls(address).await;
        let peer = stream.get_ref().0.local_addr().unwrap();
        let request = format!(
            "GET /a/b?c=%2e HTTP/1.1\r\nHost: gw.test\r\nAccept: x\r\nCookie: a=1\r\n{spoofed}\r\n"
        );
        say(&mut stream, request.as_bytes()).await;
        let response = read_all(&mut stream).await;
        let (head, _) = response.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains("x-lockgate"), "{head}");
        assert!(head.contains("x-answer: 1\r\n"), "{head}");
        let echo = echoed(&response);
        assert_eq!(echo["target"], "/a/b?c=%2e");
        for (name, value) in [
            ("x-lockgate-peer", peer.to_string()),
            ("x-lockgate-local", address.to_string()),
            ("x-lockgate-listener", listener.to_owned()),
            ("x-lockgate-server-name", "gw.test".to_owned()),
            ("host", "gw.test".to_owned()),
            ("accept", "x".to_owned()),
            ("cookie", "a=1".to_owned()),
        ] {
            assert_eq!(seen(&echo, name), [value], "{name}");
        }
        assert!(seen(&echo, "x-lockgate-tls")[0].starts_with("TLSv1.3/TLS13_"));
        assert_eq!(echo["headers"].as_array().unwrap().len(), 8, "{echo}");
    }
}

#[tokio::test]
async fn bodies_are_streamed_and_trailers_dropped() {
    let edge = edge_with(Limits {
        body_bytes: 10_000,
        ..easy()
    })
    .await;
    let post =
        |rest: &str| format!("POST / HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n{rest}");
    let sized = post(&format!("Content-Length: 9000\r\n\r\n{}", "x".repeat(9000)));
    assert_eq!(echoed(&edge.ask(&sized).await)["body"], 9000);
    let chunked = post(
        "Transfer-Encoding: chunked\r\nTrailer: X-Lockgate-Peer\r\n\r\n3\r\nabc\r\n0\r\nX-Lockgate-Peer: 6.6.6.6:6\r\n\r\n",
    );
    let echo = echoed(&edge.ask(&chunked).await);
    assert_eq!(
        (echo["body"].as_u64(), echo["trailers"].as_u64()),
        (Some(3), Some(0))
    );
    assert_eq!(seen(&echo, "x-lockgate-peer").len(), 1);
    let large = post(&format!(
        "Content-Length: 20000\r\n\r\n{}",
        "x".repeat(20_000)
    ));
    let response = edge.ask(&large).await;
    assert!(!response.starts_with("HTTP/1.1 200"), "{response}");
    until(|| edge.refusals.of(Refusal::BodyTooLarge) == 1).await;
}

#[tokio::test]
async fn each_listener_has_its_own_largest_body() {
    let edge = edge_with(Limits {
        body_bytes: 100_000,
        admin_body_bytes: 3_000_000,
        ..easy()
    })
    .await;
    for (address, length, fits) in [
        (edge.address, 100_000, true),
        (edge.address, 100_001, false),
        (edge.admin, 3_000_000, true),
        (edge.admin, 3_000_001, false),
    ] {
        let mut stream = edge.tls(address).await;
        let head = format!(
            "POST / HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        say(&mut stream, head.as_bytes()).await;
        let body = vec![b'x'; length];
        let (mut near, mut far) = tokio::io::split(stream);
        // Who refuses does not read to the end.
        let sent = tokio::spawn(async move { far.write_all(&body).await });
        let answer = read_all(&mut near).await;
        if fits {
            assert_eq!(echoed(&answer)["body"], length);
            sent.await.unwrap().unwrap();
        } else {
            assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
    until(|| edge.refusals.of(Refusal::BodyTooLarge) == 2).await;
}

/// Reads until the end of `text` has come.
async fn read_to(stream: &mut (impl AsyncRead + Unpin), text: &str) {
    let mut seen = Vec::new();
    while !seen.ends_with(text.as_bytes()) {
        let byte = common::soon(stream.read_u8()).await;
        seen.push(byte.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&seen))));
    }
}

#[tokio::test]
async fn both_ways_pass_as_they_come_and_end_together() {
    let edge = Edge::start(Options::default()).await;
    let listener = tokio::net::UnixListener::bind(&edge.http_socket).unwrap();
    let mut client = edge.tls(edge.admin).await;
    let head = "POST /events HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 10\r\n\r\n";
    say(&mut client, head.as_bytes()).await;
    let (mut server, _) = common::soon(listener.accept()).await.unwrap();
    // Of the request.
    say(&mut client, b"first").await;
    read_to(&mut server, "\r\n\r\nfirst").await;
    say(&mut client, b"other").await;
    read_to(&mut server, "other").await;
    // Of the answer, as server-sent events come: nothing else may have to follow.
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    say(&mut server, head.as_bytes()).await;
    read_to(&mut client, "\r\n\r\n").await;
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        say(&mut server, chunk.as_bytes()).await;
        read_to(&mut client, &format!("{event}\r\n")).await;
    }
    // A listener that leaves is noticed behind the edge.
    drop(client);
    assert_eq!(common::soon(server.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_client_certificate_is_told_when_it_was_proved_and_only_then() {
    for asked in [ClientCertificates::Off, ClientCertificates::Request] {
        let edge = Edge::start(Options {
            client_certificates: asked,
            ..Options::default()
        })
        .await;
        edge.echo_server();
        let (leaf, key) = client_identity();
        let (other, _) = client_identity();
        let shown = edge.client_config_with(vec![leaf.clone(), other.clone()], key);
        for (config, wanted) in [
            (edge.client_config(), vec![]),
            (
                shown,
                match asked {
                    ClientCertificates::Off => vec![],
                    ClientCertificates::Request => {
                        vec![format!(
                            "{},{}",
                            STANDARD.encode(&leaf),
                            STANDARD.encode(&other)
                        )]
                    }
                },
            ),
        ] {
            let mut stream = edge.tls_with(edge.address, config).await.unwrap();
            let forged = "GET / HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\
                X-Lockgate-Client-Certificate: AAAA\r\nX_Lockgate_Client_Certificate: AAAA\r\n\r\n";
            say(&mut stream, forged.as_bytes()).await;
            let echo = echoed(&read_all(&mut stream).await);
            assert_eq!(seen(&echo, "x-lockgate-client-certificate"), wanted);
            assert!(!echo.to_string().contains("AAAA"), "{echo}");
        }
    }
}

#[tokio::test]
async fn one_connection_carries_several_requests() {
    let edge = edge_with(easy()).await;
    let one = "GET /1 HTTP/1.1\r\nHost: gw.test\r\n\r\n";
    let two = "POST /2 HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 3\r\n\r\nabc";
    let last = "GET /3 HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n";
    let response = edge.ask(&format!("{one}{two}{last}")).await;
    assert_eq!(response.matches("HTTP/1.1 200").count(), 3, "{response}");
    for target in ["/1", "/2", "/3"] {
        assert!(response.contains(&format!("\"target\":\"{target}\"")));
    }
    until(|| edge.admission.taken(Kind::Http) == 0).await;
}

#[tokio::test]
async fn odd_requests_get_400_and_ambiguous_ones_nothing() {
    let edge = edge_with(easy()).await;
    for head in [
        "GET http://evil.test/ HTTP/1.1\r\nHost: gw.test\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: gw.test\r\n\r\n",
        "CONNECT gw.test:443 HTTP/1.1\r\nHost: gw.test\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /\u{1} HTTP/1.1\r\nHost: gw.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: gw.test\r\nBad Name: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: gzip\r\n\r\n",
        "\u{16}\u{3}\u{1}rubbish\r\n\r\n",
    ] {
        let response = edge.ask(head).await;
        assert!(response.starts_with("HTTP/1.1 400"), "{head:?}: {response}");
    }
    for head in [
        "GET / HTTP/1.1\nHost: gw.test\n\n",
        "POST / HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "GET / HTTP/1.1\r\nHost: gw.test\r\nX-Lockgate-Peer: a\r\n folded\r\n\r\n",
    ] {
        let response = edge.ask(head).await;
        assert!(!response.contains("200"), "{head:?}: {response}");
    }
    assert_eq!(edge.refusals.of(Refusal::BadHead), 9);
    assert_eq!(edge.refusals.of(Refusal::BadRequest), 5);
    until(|| edge.admission.taken(Kind::HalfOpen) + edge.admission.taken(Kind::Http) == 0).await;
}

#[tokio::test]
async fn nothing_follows_on_a_connection_that_is_no_longer_watched() {
    let edge = edge_with(easy()).await;
    let first = "POST /1 HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let second = "GET /2 HTTP/1.1\nHost: gw.test\n\n";
    let response = edge.ask(&format!("{first}{second}")).await;
    assert!(
        response.contains("\"target\":\"/1\"") && !response.contains("/2"),
        "{response}"
    );
    let websocket =
        "GET /1 HTTP/1.1\r\nHost: gw.test\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    let response = edge.ask(&format!("{websocket}{second}")).await;
    assert!(
        response.contains("\"target\":\"/1\"") && !response.contains("/2"),
        "{response}"
    );
}

#[tokio::test]
async fn heads_have_a_size_and_a_number_of_lines() {
    let edge = edge_with(easy()).await;
    let long = format!(
        "GET / HTTP/1.1\r\nHost: gw.test\r\nX: {}\r\n\r\n",
        "y".repeat(20_000)
    );
    let endless = format!("GET /{}", "y".repeat(40_000));
    let many = format!(
        "GET / HTTP/1.1\r\nHost: gw.test\r\n{}\r\n",
        "X: y\r\n".repeat(70)
    );
    for head in [long, endless, many] {
        let response = edge.ask(&head).await;
        assert!(
            response.is_empty() || response.starts_with("HTTP/1.1 4"),
            "{response}"
        );
    }
    assert!(edge.refusals.of(Refusal::BadHead) >= 2);
    let fits = format!(
        "GET / HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\nX: {}\r\n\r\n",
        "y".repeat(12_000)
    );
    echoed(&edge.ask(&fits).await);
}

#[tokio::test]
async fn slow_heads_and_bodies_run_out_of_time() {
    let limits = Limits {
        head_seconds: 1,
        tls_seconds: 1,
        http_idle_seconds: 1,
        ..easy()
    };
    let edge = edge_with(limits).await;
    assert_eq!(edge.ask("GET / HTTP/1.1\r\nHost: gw").await, "");
    assert_eq!(edge.refusals.of(Refusal::HeadTimeout), 1);
    let body = "POST / HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 10\r\n\r\nabc";
    assert!(!edge.ask(body).await.contains("200 OK"));
    assert_eq!(edge.refusals.of(Refusal::BodyStalled), 1);
    // An idle connection is closed without an answer nobody asked for.
    let idle = edge.ask("GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n").await;
    assert_eq!(idle.matches("HTTP/1.1").count(), 1, "{idle}");
    // No TLS at all.
    let mut silent = tokio::net::TcpStream::connect(edge.address).await.unwrap();
    let mut rest = Vec::new();
    let _ = common::soon(tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut rest)).await;
    assert_eq!(edge.refusals.of(Refusal::TlsTimeout), 1);
}

#[tokio::test]
async fn a_missing_control_plane_is_said_in_plain_words() {
    let edge = Edge::start(Options::default()).await;
    let ask = || edge.ask(GET);
    let response = ask().await;
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
    assert!(
        response.contains("retry-after: 5\r\n") && response.contains("starting"),
        "{response}"
    );
    // The socket is there, but nobody behind it.
    drop(std::os::unix::net::UnixListener::bind(&edge.http_socket).unwrap());
    assert!(ask().await.starts_with("HTTP/1.1 503"));
    std::fs::remove_file(&edge.http_socket).unwrap();
    edge.echo_server();
    assert!(ask().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn one_address_has_a_number_of_connections() {
    let edge = edge_with(Limits {
        http_per_address: 3,
        http_idle_seconds: 600,
        ..easy()
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = edge.tls(edge.address).await;
        say(&mut stream, b"GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n").await;
        assert!(
            common::read_head(&mut stream)
                .await
                .starts_with("HTTP/1.1 200")
        );
        held.push(stream);
    }
    let response = edge.ask(GET).await;
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
    assert_eq!(edge.refusals.of(Refusal::HttpPerAddress), 1);
    held.pop();
    until(|| edge.admission.taken(Kind::Http) == 2).await;
    assert!(edge.ask(GET).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_crowd_that_never_speaks_leaves_others_served() {
    // 2,000 connections from one address that say nothing; the others come from elsewhere.
    let edge = edge_with(easy()).await;
    let connect = |from: [u8; 4]| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(edge.address)
    };
    let mut crowd = Vec::new();
    for _ in 0..2000 {
        crowd.push(connect([127, 0, 0, 66]).await.unwrap());
    }
    until(|| edge.refusals.of(Refusal::HalfOpenPerAddress) == 2000 - 256).await;
    assert_eq!(edge.admission.taken(Kind::HalfOpen), 256);
    assert!(edge.ask(GET).await.starts_with("HTTP/1.1 200"));
    drop(crowd);
    until(|| edge.admission.taken(Kind::HalfOpen) == 0).await;
}

#[tokio::test]
async fn a_crowd_from_everywhere_does_not_keep_the_newest_out() {
    let edge = edge_with(Limits {
        half_open_total: 50,
        ..easy()
    })
    .await;
    let mut crowd = Vec::new();
    for last in 0..200 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 1, last], 0).into()).unwrap();
        crowd.push(socket.connect(edge.address).await.unwrap());
    }
    until(|| edge.refusals.of(Refusal::HalfOpenEvicted) == 150).await;
    until(|| edge.admission.taken(Kind::HalfOpen) == 50).await;
    assert!(edge.ask(GET).await.starts_with("HTTP/1.1 200"));
}
