//! A client edge from `dial` to the hand-over, against gateways that behave and others.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use common::client::{Authority, ClientEdge, Gateway, Identity, dial};
use common::{Edge, Options, frame, read_all, read_head, read_record, say, soon, until};
use lockgate_dataplane::link::{DialFailure, EXPORTER_LABEL, FromEdge, ToEdge};
use lockgate_edge::framing::Framing;
use lockgate_edge::front::refusal::Refusal;
use rcgen::date_time_ymd;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: IF-T/TLS 1.0\r\n\r\n";

/// A dial that a gateway of this certificate has answered with 101 and `behind` in one record.
async fn connected(behind: &[u8]) -> (ClientEdge, TlsStream<TcpStream>) {
    let identity = Identity::self_signed("gw.test");
    let gateway = Gateway::new(identity.config()).await;
    let mut edge = ClientEdge::start().await;
    edge.dial(gateway.address, dial(5, &[], &identity.pin))
        .await;
    let mut stream = gateway.tls().await.unwrap();
    read_head(&mut stream).await;
    say(&mut stream, &[SWITCHING.as_bytes(), behind].concat()).await;
    edge.dialed().await;
    (edge, stream)
}

async fn next_frame(edge: &mut ClientEdge) -> (u32, u32, Vec<u8>) {
    match edge.control.next().await {
        FromEdge::Frame {
            conn: 5,
            vendor,
            kind,
            body,
        } => (vendor, kind, body),
        other => panic!("{other:?}"),
    }
}

fn down(vendor: u32, kind: u32, body: &[u8]) -> ToEdge {
    ToEdge::Frame {
        conn: 5,
        vendor,
        kind,
        body: body.to_vec(),
    }
}

#[tokio::test]
async fn a_dial_asks_like_openconnect_and_tells_the_facts_of_the_connection() {
    let authority = Authority::new();
    let identity = authority.sign("gw.test", |_| {});
    let gateway = Gateway::new(identity.config()).await;
    let mut edge = ClientEdge::start().await;
    edge.dial(gateway.address, dial(5, &[authority.der()], &[]))
        .await;
    let mut stream = gateway.tls().await.unwrap();
    let head = read_head(&mut stream).await;
    assert_eq!(
        head,
        "GET /team HTTP/1.1\r\nHost: gw.test\r\nUser-Agent: Lockgate/1\r\nContent-Type: EAP\r\n\
         Upgrade: IF-T/TLS 1.0\r\nContent-Length: 0\r\n\r\n"
    );
    let server = stream.get_ref().1;
    assert_eq!(server.server_name(), Some("gw.test"));
    assert_eq!(server.alpn_protocol(), None);
    let exporter = server
        .export_keying_material(vec![0; 32], EXPORTER_LABEL, None)
        .unwrap();
    // The answer in pieces.
    let (first, second) = SWITCHING.split_at(20);
    say(&mut stream, first.as_bytes()).await;
    say(&mut stream, second.as_bytes()).await;
    let dialed = edge.dialed().await;
    assert_eq!(dialed.conn, 5);
    assert_eq!(dialed.tls_version, "TLSv1.3");
    assert!(dialed.tls_cipher.starts_with("TLS13_"), "{dialed:?}");
    assert_eq!(dialed.tls_group, "X25519MLKEM768");
    assert_eq!(dialed.certificates, [identity.certificate.to_vec()]);
    assert_eq!(dialed.pin, identity.pin);
    assert_eq!(dialed.exporter.0, exporter);
}

#[tokio::test]
async fn both_edges_export_the_same_secret() {
    let gateway = Edge::start(Options::default()).await;
    let mut control = gateway.control().await;
    let mut edge = ClientEdge::start().await;
    edge.dial(gateway.address, dial(5, &[&gateway.ca], &[]))
        .await;
    let (opened, dialed) = (control.opened().await, edge.dialed().await);
    assert_eq!(dialed.exporter.0.len(), 32);
    assert!(dialed.exporter == opened.exporter);
    assert_eq!(opened.user_agent, "Lockgate/1");
    edge.control.send(&down(0x5597, 1, &[0, 1, 2, 2])).await;
    match control.next().await {
        FromEdge::Frame { conn, body, .. } => {
            assert_eq!((conn, body), (opened.conn, vec![0, 1, 2, 2]))
        }
        other => panic!("{other:?}"),
    }
    // Each connection has another one.
    edge.dial(gateway.address, dial(6, &[&gateway.ca], &[]))
        .await;
    assert!(edge.dialed().await.exporter != dialed.exporter);
}

/// Name, what a gateway shows, what is trusted, what becomes of it.
type Row<'a> = (
    &'a str,
    &'a Identity,
    &'a [&'a CertificateDer<'static>],
    &'a [u8],
    Option<DialFailure>,
);

#[tokio::test]
async fn the_certificate_decides_before_anything_is_said() {
    let authority = Authority::new();
    let other = Authority::new();
    let ca = authority.der();
    let past = |params: &mut rcgen::CertificateParams| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    };
    let future = |params: &mut rcgen::CertificateParams| {
        params.not_before = date_time_ymd(3000, 1, 1);
        params.not_after = date_time_ymd(3001, 1, 1);
    };
    let good = authority.sign("gw.test", |_| {});
    let wild = authority.sign("*.test", |_| {});
    let elsewhere = authority.sign("other.test", |_| {});
    let expired = authority.sign("gw.test", past);
    let early = authority.sign("gw.test", future);
    let expired_elsewhere = authority.sign("other.test", past);
    let expired_foreign = other.sign("gw.test", past);
    let early_foreign = other.sign("other.test", future);
    let alone = Identity::self_signed("gw.test");
    let no_root = CertificateDer::from(b"no certificate".to_vec());
    use DialFailure::{Expired, NotYetValid, PinMismatch, Untrusted, WrongName};
    let rows: &[Row] = &[
        ("anchored", &good, &[ca], &[], None),
        ("wild top domain", &wild, &[ca], &[], Some(WrongName)),
        ("two anchors", &good, &[other.der(), ca], &[], None),
        ("one anchor is rubbish", &good, &[&no_root, ca], &[], None),
        ("wrong name", &elsewhere, &[ca], &[], Some(WrongName)),
        ("expired", &expired, &[ca], &[], Some(Expired)),
        ("not yet valid", &early, &[ca], &[], Some(NotYetValid)),
        ("foreign", &good, &[other.der()], &[], Some(Untrusted)),
        ("self-signed", &alone, &[ca], &[], Some(Untrusted)),
        // The gravest fault is told.
        (
            "name and time",
            &expired_elsewhere,
            &[ca],
            &[],
            Some(WrongName),
        ),
        (
            "chain and time",
            &expired_foreign,
            &[ca],
            &[],
            Some(Untrusted),
        ),
        ("all three", &early_foreign, &[ca], &[], Some(Untrusted)),
        // A pin alone accepts any certificate of the key.
        ("pinned", &alone, &[], &alone.pin, None),
        (
            "pinned, expired, wrong name",
            &expired_elsewhere,
            &[],
            &expired_elsewhere.pin,
            None,
        ),
        ("another pin", &alone, &[], &good.pin, Some(PinMismatch)),
        (
            "a short pin",
            &alone,
            &[],
            &alone.pin[..31],
            Some(PinMismatch),
        ),
        // Both must hold.
        ("anchored and pinned", &good, &[ca], &good.pin, None),
        (
            "anchored, another pin",
            &good,
            &[ca],
            &alone.pin,
            Some(PinMismatch),
        ),
        (
            "pinned, not anchored",
            &alone,
            &[ca],
            &alone.pin,
            Some(Untrusted),
        ),
        (
            "pinned, expired",
            &expired,
            &[ca],
            &expired.pin,
            Some(Expired),
        ),
        (
            "pinned, rubbish anchors",
            &good,
            &[&no_root],
            &good.pin,
            Some(Untrusted),
        ),
        ("no ground", &good, &[], &[], Some(Untrusted)),
    ];
    let mut edge = ClientEdge::start().await;
    for (at, (name, shown, roots, pin, wanted)) in rows.iter().enumerate() {
        let conn = at as u64 + 1;
        let gateway = Gateway::new(shown.config()).await;
        edge.dial(gateway.address, dial(conn, roots, pin)).await;
        let accepted = gateway.tls().await;
        let (certificates, told) = match *wanted {
            None => {
                let Ok(mut stream) = accepted else {
                    panic!("{name}: {:?}", edge.failed().await);
                };
                read_head(&mut stream).await;
                say(&mut stream, SWITCHING.as_bytes()).await;
                let dialed = edge.dialed().await;
                edge.control.send(&ToEdge::CloseConn { conn }).await;
                assert_eq!(read_all(&mut stream).await, "");
                drop(stream);
                assert_eq!(
                    edge.control.closed().await,
                    (conn, "closed_by_client".into())
                );
                (dialed.certificates, dialed.pin)
            }
            Some(wanted) => {
                // Only an alert came.
                if let Ok(mut stream) = accepted {
                    assert_eq!(read_all(&mut stream).await, "", "{}", name);
                }
                let failed = edge.failed().await;
                assert_eq!(
                    (failed.conn, failed.cause),
                    (conn, wanted),
                    "{}: {failed:?}",
                    name
                );
                assert!(!failed.detail.is_empty());
                (failed.certificates, failed.pin)
            }
        };
        assert_eq!(certificates, [shown.certificate.to_vec()], "{}", name);
        assert_eq!(told, shown.pin, "{}", name);
    }
    assert!(edge.directory.is_empty());
}

#[tokio::test]
async fn who_has_not_the_key_is_refused_whatever_is_trusted() {
    let authority = Authority::new();
    let good = authority.sign("gw.test", |_| {});
    let thief = Identity::self_signed("gw.test");
    let mut edge = ClientEdge::start().await;
    for (conn, version) in [(1, &rustls::version::TLS13), (2, &rustls::version::TLS12)] {
        let gateway = Gateway::new(good.config_with_key_of(&thief, version)).await;
        edge.dial(gateway.address, dial(conn, &[authority.der()], &good.pin))
            .await;
        assert!(gateway.tls().await.is_err());
        let failed = edge.failed().await;
        assert_eq!(failed.cause, DialFailure::Tls, "{failed:?}");
        assert_eq!(failed.pin, good.pin);
        // With its key the same certificate works.
        let gateway = Gateway::new(good.config_with_key_of(&good, version)).await;
        edge.dial(
            gateway.address,
            dial(conn + 10, &[authority.der()], &good.pin),
        )
        .await;
        let mut stream = gateway.tls().await.unwrap();
        say(&mut stream, SWITCHING.as_bytes()).await;
        edge.dialed().await;
    }
}

#[tokio::test]
async fn gateways_are_also_known_by_address() {
    let authority = Authority::new();
    let identity = authority.sign("127.0.0.1", |_| {});
    let gateway = Gateway::new(identity.config()).await;
    let mut edge = ClientEdge::start().await;
    for (conn, name, wanted) in [
        (1, "127.0.0.1", None),
        (2, "127.0.0.2", Some(DialFailure::WrongName)),
        (3, "gw.test", Some(DialFailure::WrongName)),
        (4, "-", Some(DialFailure::WrongName)),
        (5, "", Some(DialFailure::WrongName)),
    ] {
        let mut asked = dial(conn, &[authority.der()], &[]);
        asked.server_name = name.to_owned();
        edge.dial(gateway.address, asked).await;
        let accepted = gateway.tls().await;
        match wanted {
            None => {
                let mut stream = accepted.unwrap();
                assert_eq!(stream.get_ref().1.server_name(), None);
                say(&mut stream, SWITCHING.as_bytes()).await;
                edge.dialed().await;
            }
            Some(wanted) => assert_eq!(edge.failed().await.cause, wanted, "{name}"),
        }
    }
}

#[tokio::test]
async fn what_is_no_101_is_told_with_its_reason() {
    let identity = Identity::self_signed("gw.test");
    let gateway = Gateway::new(identity.config()).await;
    let mut edge = ClientEdge::start().await;
    let long = format!("HTTP/1.1 101 x\r\nA: {}\r\n\r\n", "x".repeat(20_000));
    for (at, (answer, cause, detail)) in [
        (
            "HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n",
            DialFailure::HttpStatus,
            "302 Found",
        ),
        (
            "HTTP/1.1 200 OK\r\n\r\nhello",
            DialFailure::HttpStatus,
            "200 OK",
        ),
        ("SSH-2.0-gateway\r\n", DialFailure::Http, "no HTTP answer"),
        (long.as_str(), DialFailure::Http, "too long"),
        (
            "HTTP/1.1 101 x\r\nA",
            DialFailure::Closed,
            "without an answer",
        ),
        ("", DialFailure::Closed, "without an answer"),
    ]
    .into_iter()
    .enumerate()
    {
        let conn = at as u64 + 1;
        edge.dial(gateway.address, dial(conn, &[], &identity.pin))
            .await;
        let mut stream = gateway.tls().await.unwrap();
        read_head(&mut stream).await;
        say(&mut stream, answer.as_bytes()).await;
        let _ = soon(stream.shutdown()).await;
        let failed = edge.failed().await;
        assert_eq!((failed.conn, failed.cause), (conn, cause), "{failed:?}");
        assert!(failed.detail.contains(detail), "{failed:?}");
        assert_eq!(failed.pin, identity.pin);
    }
    // No byte goes out when the head could not be what it should be.
    let mut odd = dial(99, &[], &identity.pin);
    odd.host = "gw.test\r\nX: y".to_owned();
    edge.dial(gateway.address, odd).await;
    assert_eq!(edge.failed().await.cause, DialFailure::Http);
    assert_eq!(
        soon(gateway.tcp().await.read(&mut [0; 9])).await.unwrap(),
        0
    );
}

#[tokio::test]
async fn servers_that_speak_no_tls_are_told_apart() {
    let gateway = Gateway::plain().await;
    let mut edge = ClientEdge::start().await;
    let pin = [1; 32];
    // No TLS at all.
    edge.dial(gateway.address, dial(1, &[], &pin)).await;
    let mut stream = gateway.tcp().await;
    stream.write_all(b"220 mail.test ESMTP\r\n").await.unwrap();
    let failed = edge.failed().await;
    assert_eq!(
        (failed.conn, failed.cause),
        (1, DialFailure::Tls),
        "{failed:?}"
    );
    assert!(failed.certificates.is_empty() && failed.pin.is_empty());
    // No common ground: an alert.
    edge.dial(gateway.address, dial(2, &[], &pin)).await;
    assert!(gateway.tls().await.is_err());
    assert_eq!(edge.failed().await.cause, DialFailure::Tls);
    // Closed in the middle of the handshake.
    edge.dial(gateway.address, dial(3, &[], &pin)).await;
    let mut stream = gateway.tcp().await;
    soon(stream.read(&mut [0; 100])).await.unwrap();
    drop(stream);
    assert_eq!(edge.failed().await.cause, DialFailure::Closed);
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let identity = Identity::self_signed("gw.test");
    let gateway = Gateway::new(identity.config()).await;
    let mut edge = ClientEdge::start_with(Duration::from_millis(1)).await;
    edge.dial(gateway.address, dial(1, &[], &identity.pin))
        .await;
    let mut stream = gateway.tcp().await;
    assert_eq!(edge.failed().await.cause, DialFailure::Timeout);
    // The connection is closed.
    soon(stream.read_to_end(&mut Vec::new())).await.unwrap();
}

#[tokio::test]
async fn frames_pass_however_they_are_cut_and_leave_one_to_a_record() {
    let behind = frame(0x5597, 1, 1, b"behind the head");
    let (mut edge, mut gateway) = connected(&behind).await;
    assert_eq!(
        next_frame(&mut edge).await,
        (0x5597, 1, b"behind the head".to_vec())
    );
    // Two in one record, one in three, a packet in between.
    let mut wire = frame(0x5597, 2, 2, b"a");
    wire.extend(frame(0xa4c, 4, 3, &[0x45; 1400]));
    wire.extend(frame(0xa4c, 1, 4, b""));
    say(&mut gateway, &wire).await;
    let long = frame(0xa4c, 1, 5, &[7; 40_000]);
    for part in [&long[..7], &long[7..100], &long[100..]] {
        say(&mut gateway, part).await;
    }
    assert_eq!(next_frame(&mut edge).await, (0x5597, 2, b"a".to_vec()));
    assert_eq!(next_frame(&mut edge).await, (0xa4c, 1, vec![]));
    assert_eq!(next_frame(&mut edge).await, (0xa4c, 1, vec![7; 40_000]));
    assert_eq!(edge.refusals.of(Refusal::EarlyData), 1);
    for (sequence, size) in [4, 16_368, 0].into_iter().enumerate() {
        let body = vec![9; size];
        edge.control.send(&down(0x5597, 5, &body)).await;
        let wanted = frame(0x5597, 5, sequence as u32, &body);
        assert!(
            read_record(&mut gateway).await == wanted,
            "frame of {size} bytes"
        );
    }
    // The gateway closes.
    soon(gateway.shutdown()).await.unwrap();
    assert_eq!(
        edge.control.closed().await,
        (5, "closed_by_gateway".to_owned())
    );
}

#[tokio::test]
async fn what_a_gateway_may_say_before_attach_is_bounded() {
    let many: Vec<u8> = (0..300).flat_map(|_| frame(1, 2, 0, b"")).collect();
    let much: Vec<u8> = (0..40).flat_map(|_| frame(1, 2, 0, &[0; 30_000])).collect();
    for (wire, cause) in [
        (many, "front_sign_in_frames"),
        (much, "front_sign_in_bytes"),
        (frame(1, 2, 0, &[0; 70_000]), "front_bad_frame"),
        (vec![0; 16], "front_bad_frame"),
    ] {
        let (mut edge, mut gateway) = connected(b"").await;
        say(&mut gateway, &wire).await;
        assert_eq!(edge.control.closed().await, (5, cause.to_owned()));
    }
    // Packets that come too early are dropped, however many.
    let (mut edge, mut gateway) = connected(b"").await;
    let packets: Vec<u8> = (0..1000)
        .flat_map(|_| frame(0xa4c, 4, 0, &[0x45; 1400]))
        .collect();
    say(&mut gateway, &packets).await;
    say(&mut gateway, &frame(1, 2, 0, b"still there")).await;
    assert_eq!(next_frame(&mut edge).await.2, b"still there");
    assert_eq!(edge.refusals.of(Refusal::EarlyData), 1000);
}

#[tokio::test]
async fn attach_hands_the_connection_over_without_losing_a_byte() {
    let (mut edge, mut gateway) = connected(b"").await;
    let half = frame(0xa4c, 1, 1, b"half");
    say(&mut gateway, &frame(0xa4c, 1, 0, b"")).await;
    say(&mut gateway, &half[..10]).await;
    next_frame(&mut edge).await;
    edge.control.send(&down(1, 2, b"before")).await;
    edge.control
        .send(&ToEdge::Attach {
            conn: 5,
            session: 42,
        })
        .await;
    edge.control.send(&down(1, 3, b"after")).await;
    assert_eq!(read_record(&mut gateway).await, frame(1, 2, 0, b"before"));
    until(|| edge.orders().iter().any(|order| order.starts_with("Frame"))).await;
    until(|| !edge.data.adopted.lock().unwrap().is_empty()).await;
    let mut adopted = edge.data.adopted.lock().unwrap().pop().unwrap();
    let Framing::IfT { sequence } = adopted.framing else {
        panic!("{:?}", adopted.framing);
    };
    assert_eq!((adopted.conn, adopted.session, sequence), (5, 42, 1));
    assert_eq!(adopted.peer, gateway.get_ref().0.local_addr().unwrap());
    let orders = edge.orders();
    let place = |start| {
        orders
            .iter()
            .position(|order| order.starts_with(start))
            .unwrap()
    };
    assert!(place("Attach") < place("Frame") && place("Attach") < place("Adopt"));
    assert!(edge.directory.is_empty());
    // The parts still speak TLS with the gateway, in both directions.
    say(&mut gateway, &half[10..]).await;
    adopted.stream.set_nonblocking(false).unwrap();
    let mut got = std::mem::take(&mut adopted.leftover);
    while got.len() < half.len() {
        adopted.tls.read_tls(&mut &adopted.stream).unwrap();
        adopted.tls.process_new_packets().unwrap();
        let _ = adopted.tls.reader().read_to_end(&mut got);
    }
    assert_eq!(got, half);
    adopted
        .tls
        .writer()
        .write_all(b"from the data thread")
        .unwrap();
    adopted.tls.write_tls(&mut &adopted.stream).unwrap();
    assert_eq!(read_record(&mut gateway).await, b"from the data thread");
}

#[tokio::test]
async fn a_dial_can_be_taken_back() {
    let identity = Identity::self_signed("gw.test");
    let gateway = Gateway::new(identity.config()).await;
    let attach = |conn| ToEdge::Attach { conn, session: 1 };
    // At every stage: before TLS, and waiting for the answer.
    let mut edge = ClientEdge::start().await;
    for (conn, message) in [(1, ToEdge::CloseConn { conn: 1 }), (2, attach(2))] {
        edge.dial(gateway.address, dial(conn, &[], &identity.pin))
            .await;
        let mut stream = gateway.tcp().await;
        edge.control.send(&message).await;
        let failed = edge.failed().await;
        assert_eq!((failed.conn, failed.cause), (conn, DialFailure::Closed));
        soon(stream.read_to_end(&mut Vec::new())).await.unwrap();
    }
    let orders = edge.orders();
    let wanted = ["Attach { conn: 2, session: 1 }", "CloseConn { conn: 2 }"];
    assert!(orders.ends_with(&wanted.map(str::to_owned)), "{orders:?}");
    edge.dial(gateway.address, dial(3, &[], &identity.pin))
        .await;
    let mut stream = gateway.tls().await.unwrap();
    read_head(&mut stream).await;
    edge.control.send(&ToEdge::CloseConn { conn: 3 }).await;
    assert_eq!(edge.failed().await.pin, identity.pin);
    assert_eq!(read_all(&mut stream).await, "");
    // A dial goes with the link it came from.
    edge.dial(gateway.address, dial(4, &[], &identity.pin))
        .await;
    let mut stream = gateway.tls().await.unwrap();
    read_head(&mut stream).await;
    let ClientEdge {
        control, directory, ..
    } = edge;
    drop(control);
    assert_eq!(read_all(&mut stream).await, "");
    until(|| directory.is_empty()).await;
}

#[tokio::test]
async fn a_number_in_use_ends_the_link() {
    let gateway = Gateway::plain().await;
    for (first, second) in [(0, None), (1, Some(1))] {
        let mut edge = ClientEdge::start().await;
        edge.dial(gateway.address, dial(first, &[], &[1; 32])).await;
        if let Some(second) = second {
            edge.dial(gateway.address, dial(second, &[], &[1; 32]))
                .await;
        }
        edge.refused().await;
    }
}

#[tokio::test]
async fn sockets_and_the_device_reach_the_data_thread() {
    let mut edge = ClientEdge::start().await;
    let gateway = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap();
    port.connect(gateway.local_addr().unwrap()).unwrap();
    let message = ToEdge::SetPort { session: 9 };
    edge.control.send_with(&message, &[port.as_fd()]).await;
    let start = ToEdge::StartEsp {
        session: 9,
        extended: true,
    };
    edge.control.send(&start).await;
    until(|| {
        edge.orders()
            .iter()
            .any(|order| order.starts_with("StartEsp"))
    })
    .await;
    let taken = edge.data.ports.lock().unwrap().pop().unwrap();
    taken.send(b"x").unwrap();
    assert_eq!(gateway.recv(&mut [0]).unwrap(), 1);
    // A container may have no such device.
    if let Ok(device) = std::fs::File::open("/dev/net/tun") {
        let message = ToEdge::SetTun { takes_udp: true };
        edge.control.send_with(&message, &[device.as_fd()]).await;
        until(|| edge.orders().iter().any(|order| order == "Tun true")).await;
    }
}

#[tokio::test]
async fn descriptors_that_do_not_fit_their_messages_end_the_link() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp: OwnedFd = std::net::TcpStream::connect(listener.local_addr().unwrap())
        .unwrap()
        .into();
    let udp: OwnedFd = UdpSocket::bind("127.0.0.1:0").unwrap().into();
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let dial = ToEdge::Dial(Box::new(dial(1, &[], &[1; 32])));
    let port = ToEdge::SetPort { session: 1 };
    let tun = ToEdge::SetTun { takes_udp: false };
    let keepalive = ToEdge::Keepalive {};
    type Sent<'a> = &'a [(&'a ToEdge, usize)];
    let rows: [(&str, Sent, &OwnedFd); 9] = [
        ("dial without", &[(&dial, 0)], &tcp),
        ("set_port without", &[(&port, 0)], &tcp),
        ("set_tun without", &[(&tun, 0)], &tcp),
        ("dial with a UDP socket", &[(&dial, 1)], &udp),
        ("set_port with a TCP socket", &[(&port, 1)], &tcp),
        ("set_tun with another device", &[(&tun, 1)], &null),
        (
            "one for a message that takes none",
            &[(&keepalive, 1)],
            &tcp,
        ),
        ("one too many", &[(&dial, 2), (&keepalive, 0)], &tcp),
        ("more than may wait", &[(&dial, 17)], &tcp),
    ];
    for (name, messages, descriptor) in rows {
        let mut edge = ClientEdge::start().await;
        for (message, count) in messages {
            let descriptors = vec![descriptor.as_fd(); *count];
            edge.control.send_with(message, &descriptors).await;
        }
        let refusals = edge.refusals.clone();
        edge.refused().await;
        assert_eq!(refusals.of(Refusal::LinkBadRecord), 1, "{name}");
    }
    // A gateway's edge takes none at all.
    let gateway = Edge::start(Options::default()).await;
    let mut control = gateway.control().await;
    control.send_with(&keepalive, &[tcp.as_fd()]).await;
    assert!(control.try_next().await.is_none());
}
