//! IF-T connections from the upgrade to the hand-over, against a fake control plane.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::io::{Read, Write};

use common::{
    Control, Edge, Options, UPGRADE, client_identity, frame, read_all, read_head, read_record, say,
    soon, until,
};
use lockgate_dataplane::link::{FromEdge, Secret, ToEdge, VERSION};
use lockgate_edge::framing::Framing;
use lockgate_edge::front::admission::Kind;
use lockgate_edge::front::limits::Limits;
use lockgate_edge::front::refusal::Refusal;
use lockgate_edge::front::tls::{ClientCertificates, Minimum};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn an_upgrade_is_announced_with_its_facts_and_frames_pass_both_ways() {
    let edge = Edge::start(Options::default()).await;
    let mut control = edge.control().await;
    let mut client = edge.tls(edge.address).await;
    say(&mut client, UPGRADE.as_bytes()).await;
    let head = read_head(&mut client).await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "));
    for line in [
        "content-type: application/octet-stream",
        "pragma: no-cache",
        "upgrade: if-t/tls 1.0",
        "connection: upgrade",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
    }
    let opened = control.opened().await;
    assert_eq!(
        opened.peer,
        client.get_ref().0.local_addr().unwrap().to_string()
    );
    assert_eq!(opened.local, edge.address.to_string());
    assert_eq!(opened.tls_version, "TLSv1.3");
    assert!(
        opened.tls_cipher.starts_with("TLS13_"),
        "{}",
        opened.tls_cipher
    );
    assert_eq!(opened.tls_group, "X25519MLKEM768");
    assert_eq!(opened.server_name, "gw.test");
    assert_eq!(
        (opened.host.as_str(), opened.path.as_str()),
        ("gw.test", "/team")
    );
    assert_eq!(opened.user_agent, "Open AnyConnect VPN Agent v9.01-3");
    assert_eq!(opened.cookie, Secret(b"DSID=0123".to_vec()));
    assert!(opened.client_certificates.is_empty());

    // Two frames in one record, then one in two records.
    let mut wire = frame(0x5597, 1, 0, &[0, 1, 2, 2]);
    wire.extend(frame(0xa4c, 0x88, 1, b"clientHostName=x\n\0"));
    say(&mut client, &wire).await;
    let long = frame(0x5597, 6, 2, &[7; 3000]);
    say(&mut client, &long[..100]).await;
    say(&mut client, &long[100..]).await;
    for (vendor, kind, length) in [(0x5597, 1, 4), (0xa4c, 0x88, 18), (0x5597, 6, 3000)] {
        match control.next().await {
            FromEdge::Frame {
                conn,
                vendor: v,
                kind: k,
                body,
            } => {
                assert_eq!(
                    (conn, v, k, body.len()),
                    (opened.conn, vendor, kind, length)
                );
            }
            other => panic!("{other:?}"),
        }
    }

    // Each frame is one record, numbered by the edge.
    for size in [4, 16_368, 0] {
        control
            .send(&ToEdge::Frame {
                conn: opened.conn,
                vendor: 0x5597,
                kind: 5,
                body: vec![9; size],
            })
            .await;
    }
    for (at, size) in [4, 16_368, 0].into_iter().enumerate() {
        let wanted = frame(0x5597, 5, 0x1f4 + at as u32, &vec![9; size]);
        assert!(
            read_record(&mut client).await == wanted,
            "frame of {size} bytes"
        );
    }

    control.send(&ToEdge::CloseConn { conn: opened.conn }).await;
    assert_eq!(read_all(&mut client).await, "");
    assert_eq!(
        control.closed().await,
        (opened.conn, "closed_by_gateway".to_owned())
    );
    drop(client);
    until(|| edge.admission.taken(Kind::SignIn) == 0).await;
    assert!(edge.directory.is_empty());
}

#[tokio::test]
async fn tls_12_clients_get_a_tunnel_unless_13_is_required() {
    for (minimum, allowed) in [(Minimum::Tls12, true), (Minimum::Tls13, false)] {
        let edge = Edge::start(Options {
            minimum,
            ..Options::default()
        })
        .await;
        let mut control = edge.control().await;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(edge.ca.clone()).unwrap();
        let config =
            rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
                .with_root_certificates(roots)
                .with_no_client_auth();
        let client = edge.tls_with(edge.address, config).await;
        assert_eq!(client.is_ok(), allowed);
        if let Ok(mut client) = client {
            say(&mut client, UPGRADE.as_bytes()).await;
            assert_eq!(control.opened().await.tls_version, "TLSv1.2");
        } else {
            until(|| edge.refusals.of(Refusal::TlsFailed) == 1).await;
        }
    }
}

#[tokio::test]
async fn client_certificates_reach_the_control_plane_when_asked_for() {
    let options = Options {
        client_certificates: ClientCertificates::Request,
        ..Options::default()
    };
    let edge = Edge::start(options).await;
    let mut control = edge.control().await;
    let (certificate, key) = client_identity();
    let config = edge.client_config_with(vec![certificate.clone()], key);
    let mut client = edge.tls_with(edge.address, config.clone()).await.unwrap();
    say(&mut client, UPGRADE.as_bytes()).await;
    assert_eq!(
        control.opened().await.client_certificates,
        [serde_bytes::ByteBuf::from(certificate.to_vec())]
    );
    // Without one the handshake goes on too.
    let mut client = edge.tls(edge.address).await;
    say(&mut client, UPGRADE.as_bytes()).await;
    assert!(control.opened().await.client_certificates.is_empty());
}

#[tokio::test]
async fn attach_hands_the_connection_over_without_losing_a_byte() {
    let edge = Edge::start(Options::default()).await;
    let mut control = edge.control().await;
    let mut client = edge.tunnel().await;
    let conn = control.opened().await.conn;
    control
        .send(&ToEdge::Frame {
            conn,
            vendor: 1,
            kind: 2,
            body: b"before".to_vec(),
        })
        .await;
    control.send(&ToEdge::Attach { conn, session: 42 }).await;
    control
        .send(&ToEdge::Frame {
            conn,
            vendor: 1,
            kind: 3,
            body: b"after".to_vec(),
        })
        .await;
    assert_eq!(
        read_record(&mut client).await,
        frame(1, 2, 0x1f4, b"before")
    );
    until(|| !edge.data.adopted.lock().unwrap().is_empty()).await;
    let mut adopted = edge.data.adopted.lock().unwrap().pop().unwrap();
    let Framing::IfT { sequence } = adopted.framing else {
        panic!("{:?}", adopted.framing);
    };
    assert_eq!((adopted.conn, adopted.session, sequence), (conn, 42, 0x1f5));
    assert_eq!(adopted.peer, client.get_ref().0.local_addr().unwrap());
    // The frame after attach is the data thread's, which was told about the attach first.
    until(|| {
        edge.data
            .orders
            .lock()
            .unwrap()
            .iter()
            .any(|order| order.starts_with("Frame"))
    })
    .await;
    let orders = edge.data.orders.lock().unwrap().clone();
    let place = |start: &str| {
        orders
            .iter()
            .position(|order| order.starts_with(start))
            .unwrap()
    };
    assert!(place("Attach") < place("Frame"));
    assert!(place("Attach") < place("Adopt"));
    until(|| edge.admission.taken(Kind::SignIn) == 0).await;

    // The parts still speak TLS with the client, in both directions.
    adopted.stream.set_nonblocking(false).unwrap();
    let rustls::Connection::Server(tls) = &mut adopted.tls else {
        panic!("the gateway's end of TLS is the server's");
    };
    let mut server = rustls::Stream::new(tls, &mut adopted.stream);
    server
        .write_all(&frame(0xa4c, 4, sequence, b"packet"))
        .unwrap();
    assert_eq!(
        read_record(&mut client).await,
        frame(0xa4c, 4, 0x1f5, b"packet")
    );
    say(&mut client, &frame(0xa4c, 4, 9, b"answer")).await;
    let mut buffer = vec![0; 22];
    server.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer, frame(0xa4c, 4, 9, b"answer"));
}

#[tokio::test]
async fn what_the_client_sent_early_is_in_the_leftover() {
    // The frame is cut in two: one half is read before attach, the other stays in the socket.
    let edge = Edge::start(Options::default()).await;
    let mut control = edge.control().await;
    let mut client = edge.tunnel().await;
    let conn = control.opened().await.conn;
    let whole = frame(0xa4c, 1, 5, b"half a frame");
    say(&mut client, &frame(0xa4c, 1, 4, b"one")).await;
    say(&mut client, &whole[..20]).await;
    assert!(matches!(control.next().await, FromEdge::Frame { .. }));
    control.send(&ToEdge::Attach { conn, session: 1 }).await;
    until(|| !edge.data.adopted.lock().unwrap().is_empty()).await;
    let mut adopted = edge.data.adopted.lock().unwrap().pop().unwrap();
    say(&mut client, &whole[20..]).await;
    let mut all = std::mem::take(&mut adopted.leftover);
    adopted.stream.set_nonblocking(false).unwrap();
    let rustls::Connection::Server(tls) = &mut adopted.tls else {
        panic!("the gateway's end of TLS is the server's");
    };
    let mut server = rustls::Stream::new(tls, &mut adopted.stream);
    let mut rest = vec![0; whole.len() - all.len()];
    server.read_exact(&mut rest).unwrap();
    all.extend(rest);
    assert_eq!(all, whole);
}

#[tokio::test]
async fn conversations_are_bounded_in_frames_bytes_and_sense() {
    let small = || Limits {
        sign_in_frames: 5,
        sign_in_bytes: 4096,
        new_per_second: 10_000,
        new_burst: 10_000,
        ..Limits::default()
    };
    let flood: Vec<u8> = (0..6).flat_map(|at| frame(1, 2, at, b"")).collect();
    let heavy: Vec<u8> = (0..3).flat_map(|at| frame(1, 2, at, &[0; 2000])).collect();
    for (wire, refusal) in [
        (flood, Refusal::SignInFrames),
        (heavy, Refusal::SignInBytes),
        (vec![0; 16], Refusal::BadFrame),
        (
            frame(1, 2, 3, &[])[..8]
                .iter()
                .copied()
                .chain([0xff; 8])
                .collect(),
            Refusal::BadFrame,
        ),
    ] {
        let edge = Edge::start(Options {
            limits: small(),
            ..Options::default()
        })
        .await;
        let mut control = edge.control().await;
        let mut client = edge.tunnel().await;
        let conn = control.opened().await.conn;
        say(&mut client, &wire).await;
        assert_eq!(control.closed().await, (conn, refusal.name().to_owned()));
        assert_eq!(read_all(&mut client).await, "");
        assert_eq!(edge.refusals.of(refusal), 1);
        until(|| edge.admission.taken(Kind::SignIn) == 0).await;
    }
    // The same bounds hold for what the control plane makes us send.
    let edge = Edge::start(Options {
        limits: small(),
        ..Options::default()
    })
    .await;
    let mut control = edge.control().await;
    let _client = edge.tunnel().await;
    let conn = control.opened().await.conn;
    for _ in 0..6 {
        control
            .send(&ToEdge::Frame {
                conn,
                vendor: 1,
                kind: 2,
                body: vec![],
            })
            .await;
    }
    assert_eq!(
        control.closed().await,
        (conn, Refusal::SignInFrames.name().to_owned())
    );
}

#[tokio::test]
async fn a_conversation_has_an_end_even_if_nobody_speaks() {
    let limits = Limits {
        sign_in_seconds: 1,
        ..Limits::default()
    };
    let edge = Edge::start(Options {
        limits,
        ..Options::default()
    })
    .await;
    let mut control = edge.control().await;
    let mut client = edge.tunnel().await;
    let conn = control.opened().await.conn;
    assert_eq!(
        control.closed().await,
        (conn, Refusal::SignInTimeout.name().to_owned())
    );
    assert_eq!(read_all(&mut client).await, "");
}

#[tokio::test]
async fn a_client_that_goes_away_is_reported() {
    let edge = Edge::start(Options::default()).await;
    let mut control = edge.control().await;
    let mut client = edge.tunnel().await;
    let conn = control.opened().await.conn;
    client.shutdown().await.unwrap();
    assert_eq!(
        control.closed().await,
        (conn, "closed_by_client".to_owned())
    );
    let client = edge.tunnel().await;
    let conn = control.opened().await.conn;
    drop(client);
    assert_eq!(control.closed().await, (conn, "connection_lost".to_owned()));
}

#[tokio::test]
async fn losing_the_link_closes_conversations_and_the_next_control_plane_starts_clean() {
    let edge = Edge::start(Options::default()).await;
    let mut control = edge.control().await;
    let mut client = edge.tunnel().await;
    control.opened().await;
    drop(control);
    assert_eq!(read_all(&mut client).await, "");
    until(|| {
        edge.data
            .orders
            .lock()
            .unwrap()
            .iter()
            .any(|order| order == "LinkDown")
    })
    .await;

    // A request that comes meanwhile waits for the next control plane.
    let mut early = edge.tls(edge.address).await;
    say(&mut early, UPGRADE.as_bytes()).await;
    until(|| edge.admission.taken(Kind::SignIn) == 1).await;
    let mut control = edge.control().await;
    assert!(read_head(&mut early).await.starts_with("HTTP/1.1 101 "));
    // The first thing it hears is the new connection, nothing about the old one.
    let opened = control.opened().await;
    say(&mut early, &frame(1, 2, 0, b"x")).await;
    assert!(matches!(control.next().await, FromEdge::Frame { conn, .. } if conn == opened.conn));
}

#[tokio::test]
async fn without_a_control_plane_an_upgrade_is_put_off_politely() {
    let limits = Limits {
        upgrade_wait_seconds: 0,
        ..Limits::default()
    };
    let edge = Edge::start(Options {
        limits,
        ..Options::default()
    })
    .await;
    let response = edge.ask(UPGRADE).await.to_ascii_lowercase();
    assert!(response.starts_with("http/1.1 503 "), "{response}");
    assert!(response.contains("\r\nretry-after: 5\r\n"), "{response}");
    assert_eq!(edge.refusals.of(Refusal::NoControl), 1);
}

#[tokio::test]
async fn the_newest_control_plane_wins_and_a_bad_one_is_shown_the_door() {
    let edge = Edge::start(Options::default()).await;
    let mut first = edge.control().await;
    let mut second = edge.control().await;
    assert!(first.try_next().await.is_none());
    let _client = edge.tunnel().await;
    let conn = second.opened().await.conn;
    second.stream.write_all(&[0, 0, 0, 1, 0xc0]).await.unwrap();
    loop {
        match second.try_next().await {
            None => break,
            Some(FromEdge::ConnClosed { conn: closed, .. }) => assert_eq!(closed, conn),
            Some(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(edge.refusals.of(Refusal::LinkBadRecord), 1);
    for message in [
        ToEdge::Keepalive {},
        ToEdge::Hello {
            version: VERSION + 1,
        },
    ] {
        let mut odd = Control::connect(&edge.link_socket).await;
        odd.send(&message).await;
        assert!(odd.try_next().await.is_none());
    }
    edge.control().await;
}

#[tokio::test]
async fn frames_and_ends_of_sessions_are_told_late_rather_than_never_and_statistics_are_merged() {
    let edge = Edge::start(Options::default()).await;
    let ended = FromEdge::SessionEnded {
        session: 3,
        generation: 1,
        cause: lockgate_dataplane::link::EndCause::Expired,
        traffic: lockgate_dataplane::link::Traffic::default(),
    };
    let said = FromEdge::Frame {
        conn: 9,
        vendor: 0xa4c,
        kind: 1,
        body: b"keys".to_vec(),
    };
    edge.uplink.send(said.clone());
    edge.uplink.send(ended.clone());
    edge.uplink.send(FromEdge::RekeyWanted { session: 3 });
    edge.refusals.count(Refusal::Rate);
    // The queue is emptied while nobody listens.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let mut control = edge.control().await;
    assert_eq!(control.next().await, said);
    assert_eq!(control.next().await, ended);
    edge.uplink.send(FromEdge::Stats {
        sessions: vec![],
        counters: vec![("denied".to_owned(), 2)],
    });
    loop {
        match control.next().await {
            FromEdge::Stats { counters, .. } => {
                let wanted = [
                    ("denied".to_owned(), 2),
                    (Refusal::Rate.name().to_owned(), 1),
                ];
                assert_eq!(counters, wanted);
                break;
            }
            FromEdge::RekeyWanted { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn no_frame_goes_up_that_the_control_plane_would_not_take() {
    let edge = Edge::start(Options::default()).await;
    let mut control = edge.control().await;
    let mut client = edge.tunnel().await;
    let conn = control.opened().await.conn;
    say(&mut client, &frame(1, 2, 3, &[0; 16_384])).await;
    assert!(matches!(control.next().await, FromEdge::Frame { body, .. } if body.len() == 16_384));
    say(&mut client, &frame(1, 2, 4, &[0; 16_385])).await;
    let cause = Refusal::BadFrame.name().to_owned();
    assert_eq!(control.closed().await, (conn, cause));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_before_it_costs_memory() {
    let limits = Limits {
        queue_bytes: 64 * 1024,
        sign_in_frames: 1_000_000,
        sign_in_bytes: 1 << 30,
        ..Limits::default()
    };
    let edge = Edge::start(Options {
        limits,
        ..Options::default()
    })
    .await;
    let mut control = edge.control().await;
    let client = edge.tunnel().await;
    let conn = control.opened().await.conn;
    soon(async {
        while edge.refusals.of(Refusal::QueueFull) == 0 {
            for _ in 0..64 {
                control
                    .send(&ToEdge::Frame {
                        conn,
                        vendor: 1,
                        kind: 2,
                        body: vec![0; 16_000],
                    })
                    .await;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    control.closed().await;
}
