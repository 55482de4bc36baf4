//! A client of Network Connect: the same packets, sessions and ends in other clothes.

use lockgate_dataplane::link::{self, EndCause, Fatal, FromEdge, ToEdge, Transport};
use lockgate_edge::data::{Adopted, ToData};
use lockgate_edge::framing::Framing;

use crate::client::Client;
use crate::gateway::{Gateway, SESSION, Settings, sa};
use crate::packets::{CLIENT4, CLIENT6, HOST4, HOST6, super_packet_between, udp};

/// KMP types.
const DATA: u16 = 300;
const CONFIGURATION: u16 = 301;
const KEYS: u16 = 302;
const OPTIONS: u16 = 303;

/// By whom a message is.
const GATEWAY: u8 = 0;
const CLIENT: u8 = 1;

/// Group 6, attribute 1.
const USES_ESP: &[u8] = &[0, 6, 0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 1];
const LEFT_ESP: &[u8] = &[0, 6, 0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0];

/// A KMP message.
fn message(kind: u16, by: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = vec![0; 6];
    wire.extend(kind.to_be_bytes());
    wire.extend([1, 0, 0, 0, by, 0, 0, 0, 0, 0]);
    wire.extend((payload.len() as u16).to_be_bytes());
    wire.extend(payload);
    wire
}

fn record(contents: &[u8]) -> Vec<u8> {
    [&(contents.len() as u16).to_le_bytes(), contents].concat()
}

fn settings() -> Settings {
    Settings {
        address6: vec![],
        ..Settings::default()
    }
}

fn say(gateway: &Gateway, conn: u64, kind: u16, payload: &[u8]) {
    gateway.order(ToEdge::Frame {
        conn,
        vendor: 0,
        kind: kind.into(),
        body: payload.to_vec(),
    });
}

/// A connection that the front would hold now.
fn connect(gateway: &mut Gateway) -> (Client, Adopted) {
    let (client, mut adopted) = gateway.connect();
    adopted.framing = Framing::ncp();
    (client, adopted)
}

/// A session on TLS, its client past the configuration.
fn on_tls(gateway: &mut Gateway, settings: Settings) -> (Client, u64) {
    gateway.open(settings);
    let (mut client, adopted) = connect(gateway);
    let conn = adopted.conn;
    gateway.order(ToEdge::Attach {
        conn,
        session: SESSION,
    });
    say(gateway, conn, CONFIGURATION, b"settings");
    gateway.handle.send(ToData::Adopt(Box::new(adopted)));
    let configuration = record(&message(CONFIGURATION, GATEWAY, b"settings"));
    assert_eq!(client.plaintext(), Some(configuration));
    gateway.sync();
    (client, conn)
}

fn on_esp(gateway: &mut Gateway, settings: Settings) -> (Client, u64) {
    let (mut client, conn) = on_tls(gateway, settings);
    gateway.install_out(1, sa(0x2001, 2));
    client.install(&sa(0x1001, 1), &sa(0x2001, 2));
    client.probe(gateway.udp);
    assert_eq!(client.esp().unwrap(), [0]);
    (client, conn)
}

/// What the control plane hears from the client.
fn heard(gateway: &Gateway) -> (u64, u32, u32, Vec<u8>) {
    match gateway.wait_for(|news| matches!(news, FromEdge::Frame { .. })) {
        FromEdge::Frame {
            conn,
            vendor,
            kind,
            body,
        } => (conn, vendor, kind, body),
        other => panic!("{other:?}"),
    }
}

/// A packet of a flow of its own, so that it is not glued to another.
fn packet(port: u16, length: usize) -> Vec<u8> {
    udp(
        &format!("10.88.0.10:{port}"),
        HOST4,
        &vec![port as u8; length],
    )
}

#[test]
fn packets_cross_in_every_form_that_records_allow() {
    let mut gateway = Gateway::start();
    let (mut client, _) = on_tls(&mut gateway, settings());
    let packets: Vec<Vec<u8>> = [10, 700, 1372, 1]
        .iter()
        .zip(4000..)
        .map(|(length, port)| packet(port, *length))
        .collect();
    let stream: Vec<u8> = packets
        .iter()
        .flat_map(|packet| message(DATA, CLIENT, packet))
        .collect();
    let forms = [
        // One packet, one message, one record: what openconnect sends.
        packets
            .iter()
            .flat_map(|packet| record(&message(DATA, CLIENT, packet)))
            .collect(),
        // All packets in one message.
        record(&message(DATA, CLIENT, &packets.concat())),
        // All messages in one record.
        record(&stream),
        // Messages that go on in further records.
        stream.chunks(100).flat_map(record).collect(),
        stream.chunks(3).flat_map(record).collect::<Vec<u8>>(),
    ];
    for wire in &forms {
        // At once, and so that TLS records and reads cut everything.
        client.write(wire);
        for packet in &packets {
            assert_eq!(gateway.take().1, *packet);
        }
        for piece in wire.chunks(333) {
            client.write(piece);
            gateway.sync();
        }
        for packet in &packets {
            assert_eq!(gateway.take().1, *packet);
        }
    }
    let traffic = gateway.session().traffic;
    assert_eq!((traffic.packets_in, traffic.dropped), (40, 0));
    assert_eq!(gateway.session().framing, link::Framing::Ncp);

    for length in [1, 500, 1372] {
        let back = udp(HOST4, CLIENT4, &vec![5; length]);
        gateway.put(&back);
        let expected = record(&message(DATA, GATEWAY, &back));
        assert_eq!(client.plaintext(), Some(expected));
    }
    // The packets of one read share TLS records, each whole in its own record.
    let (header, packet, payload) = super_packet_between(HOST4, CLIENT4, 20, 1000);
    gateway.put_super(header, &packet);
    let mut got: Vec<u8> = Vec::new();
    while got.len() < payload.len() {
        let mut wire = &client.plaintext().unwrap()[..];
        while let Some((length, rest)) = wire.split_first_chunk::<2>() {
            let (contents, rest) = rest.split_at(u16::from_le_bytes(*length).into());
            assert_eq!(contents[..20], message(DATA, GATEWAY, &[0; 1040])[..20]);
            got.extend(&contents[20 + 40..]);
            wire = rest;
        }
    }
    assert_eq!(got, payload);
}

#[test]
fn no_packet_overtakes_the_configuration() {
    let mut gateway = Gateway::start();
    gateway.open(settings());
    let (mut client, adopted) = connect(&mut gateway);
    let conn = adopted.conn;
    gateway.order(ToEdge::Attach {
        conn,
        session: SESSION,
    });
    gateway.handle.send(ToData::Adopt(Box::new(adopted)));
    gateway.sync();
    gateway.put(&udp(HOST4, CLIENT4, b"too early"));
    gateway.wait_counter("no-transport", 1);
    // A long configuration fills a TLS record with each record of its own.
    let payload: Vec<u8> = (0..40_000u32).map(|at| at as u8).collect();
    say(&gateway, conn, CONFIGURATION, &payload);
    let whole = message(CONFIGURATION, GATEWAY, &payload);
    for contents in whole.chunks(16_382) {
        assert_eq!(client.plaintext(), Some(record(contents)));
    }
    let back = udp(HOST4, CLIENT4, b"now");
    gateway.put(&back);
    assert_eq!(
        client.plaintext(),
        Some(record(&message(DATA, GATEWAY, &back)))
    );
}

#[test]
fn what_is_no_packet_of_the_session_is_dropped() {
    let mut gateway = Gateway::start();
    let (mut client, _) = on_tls(&mut gateway, settings());
    let six = udp(CLIENT6, HOST6, b"chatter");
    let good = packet(4000, 20);
    let mixed = [&six[..], &good, b"no packet"].concat();
    client.write(&record(&message(DATA, CLIENT, &mixed)));
    // One after the other: what comes together leaves as one piece.
    assert_eq!(gateway.take().1, good);
    client.write(&record(&message(DATA, CLIENT, &[])));
    client.write(&record(&message(DATA, CLIENT, &good)));
    assert_eq!(gateway.take().1, good);
    gateway.wait_counter("spoofed-source", 1);
    assert!(gateway.counter("not-ip") >= 1);
    gateway.assert_quiet();
}

#[test]
fn messages_reach_the_control_plane_and_come_from_it() {
    let mut gateway = Gateway::start();
    let (mut client, conn) = on_tls(&mut gateway, settings());
    let both = [
        message(OPTIONS, CLIENT, b"mtu"),
        message(KEYS, CLIENT, b"keys"),
    ]
    .concat();
    client.write(&record(&both));
    assert_eq!(heard(&gateway), (conn, 0, 303, b"mtu".to_vec()));
    assert_eq!(heard(&gateway), (conn, 0, 302, b"keys".to_vec()));
    say(&gateway, conn, KEYS, b"new keys");
    let rekey = record(&message(KEYS, GATEWAY, b"new keys"));
    assert_eq!(client.plaintext(), Some(rekey));
    // A message of the other framing cannot be sent.
    gateway.frame(conn, 0x8f, &[0; 4]);
    assert_eq!(client.plaintext(), None);
}

#[test]
fn esp_is_used_as_the_client_says() {
    let mut gateway = Gateway::start();
    let (mut client, conn) = on_esp(&mut gateway, settings());
    let back = udp(HOST4, CLIENT4, b"answer");
    let over_tls = record(&message(DATA, GATEWAY, &back));
    client.write(&record(&message(OPTIONS, CLIENT, USES_ESP)));
    assert_eq!(heard(&gateway), (conn, 0, 303, USES_ESP.to_vec()));
    gateway.put(&back);
    assert_eq!(client.esp().unwrap(), back);
    assert_eq!(gateway.session().transport, Transport::Esp);

    client.write(&record(&message(OPTIONS, CLIENT, LEFT_ESP)));
    assert_eq!(heard(&gateway), (conn, 0, 303, LEFT_ESP.to_vec()));
    client.probe(gateway.udp);
    assert_eq!(client.esp().unwrap(), [0], "but it is helped to search");
    gateway.put(&back);
    assert_eq!(client.plaintext(), Some(over_tls));
    assert_eq!(gateway.session().transport, Transport::Tls);

    client.write(&record(&message(OPTIONS, CLIENT, USES_ESP)));
    heard(&gateway);
    gateway.put(&back);
    assert_eq!(client.esp().unwrap(), back);
}

/// The session is gone: the client was told `reason` and nothing else, its connection closed.
fn assert_over(gateway: &Gateway, mut client: Client, reason: u8) {
    assert_eq!(client.plaintext(), Some(vec![0, 0, reason]));
    assert_eq!(client.plaintext(), None);
    assert_eq!(gateway.sessions(), []);
}

#[test]
fn clients_hear_why_their_session_ends() {
    for (limits, reason, cause) in [
        ((3600, 60), 8, EndCause::Idle),
        ((60, 0), 1, EndCause::Expired),
    ] {
        let mut gateway = Gateway::start();
        let (remaining, idle) = limits;
        let limited = Settings {
            remaining,
            idle,
            ..settings()
        };
        let (client, _) = on_tls(&mut gateway, limited);
        gateway.advance(60_000);
        let ended = gateway.wait_for(|news| matches!(news, FromEdge::SessionEnded { .. }));
        assert!(matches!(ended, FromEdge::SessionEnded { cause: told, .. } if told == cause));
        assert_over(&gateway, client, reason);
    }
    for (code, reason) in [(8, 1), (6, 6), (7, 7)] {
        let mut gateway = Gateway::start();
        let (client, _) = on_tls(&mut gateway, settings());
        let fatal = Fatal {
            code,
            text: "not for this client".into(),
        };
        gateway.order(ToEdge::CloseSession {
            session: SESSION,
            fatal: Some(fatal),
        });
        assert_over(&gateway, client, reason);
    }
}

#[test]
fn a_session_that_ends_before_the_hand_over_is_explained_too() {
    let mut gateway = Gateway::start();
    gateway.open(settings());
    let (client, adopted) = connect(&mut gateway);
    gateway.order(ToEdge::Attach {
        conn: adopted.conn,
        session: SESSION,
    });
    let fatal = Fatal {
        code: 7,
        text: String::new(),
    };
    gateway.order(ToEdge::CloseSession {
        session: SESSION,
        fatal: Some(fatal),
    });
    gateway.handle.send(ToData::Adopt(Box::new(adopted)));
    assert_over(&gateway, client, 7);
}

#[test]
fn a_broken_stream_closes_the_connection_and_leaves_the_session() {
    let mut long = message(OPTIONS, CLIENT, &[]);
    long[18..20].copy_from_slice(&u16::MAX.to_be_bytes());
    for wire in [
        vec![0, 0, 8],
        record(b"no header, but long enough for one"),
        record(&long),
    ] {
        let mut gateway = Gateway::start();
        let (mut client, conn) = on_tls(&mut gateway, settings());
        client.write(&wire);
        assert_eq!(client.plaintext(), None);
        drop(client);
        let closed = gateway.wait_for(|news| matches!(news, FromEdge::ConnClosed { .. }));
        let cause = "impossible frame length".to_owned();
        let expected = FromEdge::ConnClosed {
            conn,
            session: SESSION,
            cause,
        };
        assert_eq!(closed, expected);
        assert_eq!(gateway.session().transport, Transport::None);
    }
}
