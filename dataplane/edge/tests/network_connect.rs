//! Network Connect from its request to the hand-over, against a fake control plane.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Control, Edge, Options, echoed, read_all, read_head, read_record, say, soon, until};
use lockgate_dataplane::link::{Framing, FromEdge, Secret, ToEdge};
use lockgate_edge::front::admission::Kind;
use lockgate_edge::front::limits::Limits;
use lockgate_edge::front::refusal::Refusal;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// As openconnect 9.01 writes it: no body follows.
const REQUEST: &str = "POST /dana/js?prot=1&svc=4 HTTP/1.1\r\nConnection: close\r\nHost: gw.test\r\n\
    User-Agent: Open AnyConnect VPN Agent v9.01-3\r\nCookie: DSSIGNIN=url_default; DSID=0123\r\n\
    NCP-Version: 3\r\nContent-Length: 256\r\n\r\n";
const HOST: &[u8] = b"\x14\0\0\x04\0\0\0\x07\0laptop1\xbb\x01\0\0\0\0";

/// A client that has asked, and the connection the control plane knows it by.
async fn asked(edge: &Edge, control: &mut Control) -> (TlsStream<TcpStream>, u64) {
    let mut client = edge.tls(edge.address).await;
    say(&mut client, REQUEST.as_bytes()).await;
    let conn = control.opened().await.conn;
    (client, conn)
}

async fn accept(control: &mut Control, conn: u64) {
    message(control, conn, 0, b"").await;
}

async fn message(control: &mut Control, conn: u64, kind: u32, body: &[u8]) {
    let frame = ToEdge::Frame {
        conn,
        vendor: 0,
        kind,
        body: body.to_vec(),
    };
    control.send(&frame).await;
}

/// A client that has been let in.
async fn let_in(edge: &Edge, control: &mut Control) -> (TlsStream<TcpStream>, u64) {
    let (mut client, conn) = asked(edge, control).await;
    accept(control, conn).await;
    assert!(
        read_head(&mut client)
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    say(&mut client, HOST).await;
    assert_eq!(read_record(&mut client).await, [1, 0, 0]);
    assert_eq!(control.next().await, said(conn, 0, b"laptop1"));
    (client, conn)
}

fn said(conn: u64, kind: u32, body: &[u8]) -> FromEdge {
    FromEdge::Frame {
        conn,
        vendor: 0,
        kind,
        body: body.to_vec(),
    }
}

/// A message in a record of its own.
fn record(kind: u16, sender: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = kind.to_be_bytes();
    let mut wire = (20 + body.len() as u16).to_le_bytes().to_vec();
    wire.extend([
        0, 0, 0, 0, 0, 0, high, low, 1, 0, 0, 0, sender, 0, 0, 0, 0, 0,
    ]);
    wire.extend((body.len() as u16).to_be_bytes());
    wire.extend(body);
    wire
}

#[tokio::test]
async fn a_client_is_let_in_and_handed_over() {
    let edge = Edge::start(Options::default()).await;
    let mut control = edge.control().await;
    let mut client = edge.tls(edge.address).await;
    say(&mut client, REQUEST.as_bytes()).await;
    let opened = control.opened().await;
    assert_eq!(opened.framing, Framing::Ncp);
    assert_eq!(opened.path, "/dana/js?prot=1&svc=4");
    assert_eq!(
        opened.cookie,
        Secret(b"DSSIGNIN=url_default; DSID=0123".to_vec())
    );
    assert_eq!(opened.exporter.0.len(), 32);
    assert_eq!(edge.admission.taken(Kind::SignIn), 1);

    let conn = opened.conn;
    accept(&mut control, conn).await;
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(!head.to_lowercase().contains("content-length"), "{head}");
    // The host name comes in two pieces.
    say(&mut client, &HOST[..9]).await;
    say(&mut client, &HOST[9..]).await;
    assert_eq!(read_record(&mut client).await, [1, 0, 0]);
    assert_eq!(control.next().await, said(conn, 0, b"laptop1"));

    // Messages pass both ways; a long one goes in TLS records of its own, each filled by a record.
    say(&mut client, &record(303, 1, b"options")).await;
    assert_eq!(control.next().await, said(conn, 303, b"options"));
    message(&mut control, conn, 301, &[6; 20_000]).await;
    let first = read_record(&mut client).await;
    assert_eq!((first.len(), &first[..2]), (16_384, &[0xfe, 0x3f][..]));
    assert_eq!(read_record(&mut client).await.len(), 20_020 - 16_382 + 2);

    // What was sent before the hand-over goes with it, without what only cut the stream.
    let early = record(303, 1, b"early");
    say(&mut client, &early[..7]).await;
    control.send(&ToEdge::Attach { conn, session: 42 }).await;
    until(|| !edge.data.adopted.lock().unwrap().is_empty()).await;
    let mut adopted = edge.data.adopted.lock().unwrap().pop().unwrap();
    assert_eq!((adopted.conn, adopted.session), (conn, 42));
    assert_eq!(adopted.framing.name(), Framing::Ncp);
    until(|| edge.admission.taken(Kind::SignIn) == 0).await;
    // It depends on the moment how much of it the edge had read.
    let held = adopted.leftover.clone();
    assert!(held.is_empty() || held == early[2..7], "{held:?}");
    let mut rest = if held.is_empty() {
        early
    } else {
        early[7..].to_vec()
    };
    let end = adopted.framing.strip(&mut rest, 0).unwrap();
    let whole = [&held[..], &rest[..end]].concat();
    let (_, body) = adopted.framing.next(&whole, 100).unwrap().unwrap();
    assert_eq!(whole[body], *b"early");
}

#[tokio::test]
async fn a_client_may_have_used_its_connection_for_the_sign_in() {
    let edge = Edge::start(Options::default()).await;
    edge.echo_server();
    let mut control = edge.control().await;
    let mut client = edge.tls(edge.address).await;
    say(
        &mut client,
        b"GET /dana/home/index.cgi HTTP/1.1\r\nHost: gw.test\r\n\r\n",
    )
    .await;
    let head = read_head(&mut client).await;
    let length = head.to_lowercase();
    let length = length.split("content-length: ").nth(1).unwrap();
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    soon(tokio::io::AsyncReadExt::read_exact(&mut client, &mut body))
        .await
        .unwrap();
    assert_eq!(edge.admission.taken(Kind::Http), 1);
    say(&mut client, REQUEST.as_bytes()).await;
    let conn = control.opened().await.conn;
    assert_eq!(edge.admission.taken(Kind::Http), 0);
    accept(&mut control, conn).await;
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_refused_client_gets_a_403_and_nothing_else() {
    let edge = Edge::start(Options::default()).await;
    let mut control = edge.control().await;
    let (mut client, conn) = asked(&edge, &mut control).await;
    control.send(&ToEdge::CloseConn { conn }).await;
    let answer = read_all(&mut client).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(head.contains("\r\nConnection: close"), "{answer}");
    assert!(
        head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
        "{answer}"
    );
    assert_eq!(
        control.closed().await,
        (conn, "closed_by_gateway".to_owned())
    );
    drop(client);
    until(|| edge.admission.taken(Kind::SignIn) == 0).await;
}

#[tokio::test]
async fn bytes_before_the_answer_close_the_connection() {
    let edge = Edge::start(Options::default()).await;
    let mut control = edge.control().await;
    // In one piece with the head, as its body or beyond: nobody hears of the client.
    for length in [1, 256, 300, 20_000] {
        let mut client = edge.tls(edge.address).await;
        let smuggled = [REQUEST.as_bytes(), &vec![b'G'; length]].concat();
        say(&mut client, &smuggled).await;
        assert_eq!(read_all(&mut client).await, "", "{length}");
    }
    assert_eq!(edge.refusals.of(Refusal::EarlyBytes), 4);
    // While the control plane decides.
    let (mut client, conn) = asked(&edge, &mut control).await;
    say(&mut client, HOST).await;
    let cause = Refusal::EarlyBytes.name().to_owned();
    assert_eq!(control.closed().await, (conn, cause));
    assert_eq!(read_all(&mut client).await, "");
    // A record without contents, which the framing alone would refuse as well.
    let (mut client, conn) = asked(&edge, &mut control).await;
    say(&mut client, &[0, 0, 8]).await;
    let cause = Refusal::EarlyBytes.name().to_owned();
    assert_eq!(control.closed().await, (conn, cause));
    assert_eq!(read_all(&mut client).await, "");
}

#[tokio::test]
async fn heads_that_invite_another_reading_are_refused() {
    let edge = Edge::start(Options::default()).await;
    let _control = edge.control().await;
    for (without, with) in [
        ("Content-Length: 256", "Transfer-Encoding: chunked"),
        ("NCP-Version: 3", "Expect: 100-continue"),
        ("NCP-Version: 3", "Upgrade: websocket"),
        ("HTTP/1.1", "HTTP/1.0"),
    ] {
        let answer = edge.ask(&REQUEST.replacen(without, with, 1)).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "),
            "{with}: {answer}"
        );
    }
    assert_eq!(edge.refusals.of(Refusal::BadRequest), 4);
}

#[tokio::test]
async fn without_a_control_plane_the_client_is_told_to_wait() {
    let limits = Limits {
        upgrade_wait_seconds: 0,
        ..Options::default().limits
    };
    let edge = Edge::start(Options {
        limits,
        ..Options::default()
    })
    .await;
    let answer = edge.ask(REQUEST).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.to_lowercase().contains("\r\nretry-after: "),
        "{answer}"
    );
    assert_eq!(edge.refusals.of(Refusal::NoControl), 1);
    // One that goes while it decides.
    let mut control = edge.control().await;
    let (mut client, _) = asked(&edge, &mut control).await;
    drop(control);
    assert_eq!(read_all(&mut client).await, "");
}

#[tokio::test]
async fn only_the_gateway_has_tunnels() {
    let edge = Edge::start(Options::default()).await;
    edge.echo_server();
    let _control = edge.control().await;
    let mut client = edge.tls(edge.admin).await;
    let request = REQUEST.replacen("Content-Length: 256", "Content-Length: 3", 1);
    say(&mut client, format!("{request}abc").as_bytes()).await;
    let asked = echoed(&read_all(&mut client).await);
    assert_eq!(
        (&asked["method"], &asked["body"]),
        (&"POST".into(), &3.into())
    );
    assert!(edge.directory.is_empty());
}

#[tokio::test]
async fn neither_side_keeps_a_place_for_ever() {
    let limits = Limits {
        sign_in_seconds: 1,
        ..Options::default().limits
    };
    let edge = Edge::start(Options {
        limits,
        ..Options::default()
    })
    .await;
    let mut control = edge.control().await;
    let cause = Refusal::SignInTimeout.name().to_owned();
    // No verdict; no host name.
    let (_client, conn) = asked(&edge, &mut control).await;
    assert_eq!(control.closed().await, (conn, cause.clone()));
    let (_client, conn) = asked(&edge, &mut control).await;
    accept(&mut control, conn).await;
    assert_eq!(control.closed().await, (conn, cause));
    until(|| edge.admission.taken(Kind::SignIn) == 0).await;
}

#[tokio::test]
async fn what_is_out_of_turn_ends_the_connection() {
    let edge = Edge::start(Options::default()).await;
    let mut control = edge.control().await;
    let cause = Refusal::BadFrame.name().to_owned();
    // Of the control plane.
    let (_client, conn) = asked(&edge, &mut control).await;
    message(&mut control, conn, 301, b"too early").await;
    assert_eq!(control.closed().await, (conn, cause.clone()));
    let (_client, conn) = asked(&edge, &mut control).await;
    control.send(&ToEdge::Attach { conn, session: 1 }).await;
    assert_eq!(control.closed().await, (conn, cause.clone()));
    assert!(edge.data.adopted.lock().unwrap().is_empty());
    // Of the client: no host name, no record, data before there is a session.
    for first in [&b"\x05\0GET /"[..], b"\0\0", b"\x14\0\0\x04\0\0\0\xff\xff"] {
        let (mut client, conn) = asked(&edge, &mut control).await;
        accept(&mut control, conn).await;
        read_head(&mut client).await;
        say(&mut client, first).await;
        assert_eq!(control.closed().await, (conn, cause.clone()), "{first:?}");
    }
    let mut packet = [0; 20];
    packet[0] = 0x45;
    packet[3] = 20;
    for second in [
        record(300, 1, &packet),
        record(300, 1, b"no packet"),
        vec![0, 0],
    ] {
        let (mut client, conn) = let_in(&edge, &mut control).await;
        say(&mut client, &second).await;
        assert_eq!(control.closed().await, (conn, cause.clone()));
    }
}
