//! What a client can make the gateway hold or do, and where that ends.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use lockgate_dataplane::if_t::encode_header;
use lockgate_dataplane::link::{FromEdge, ToEdge};
use lockgate_dataplane::vnet::VnetHeader;
use lockgate_edge::data::{Adopted, Side, ToData};
use lockgate_edge::framing::Framing;

use crate::gateway::{Edge, Gateway, IDENTITY, SESSION, Settings};
use crate::packets::{CLIENT4, HOST4, udp};

fn cause(gateway: &Gateway) -> String {
    match gateway.wait_for(|m| matches!(m, FromEdge::ConnClosed { .. })) {
        FromEdge::ConnClosed { cause, .. } => cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn impossible_lengths_end_the_connection_only() {
    let mut gateway = Gateway::start();
    for (generation, length) in (1..).zip([0, 15, 16_401, u32::MAX]) {
        let (mut client, _) = gateway.on_tls(Settings {
            generation,
            ..Settings::default()
        });
        client.write(&encode_header(0xa4c, 4, length, 0));
        assert_eq!(client.next(), None);
        drop(client);
        assert_eq!(cause(&gateway), "impossible frame length");
        assert_eq!(gateway.sessions().len(), 1);
    }
}

#[test]
fn a_flood_of_control_messages_ends_the_connection() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(Settings::default());
    for _ in 0..41 {
        client.send(0x77, b"noise");
    }
    assert_eq!(client.next(), None);
    drop(client);
    assert_eq!(cause(&gateway), "too many control messages");
    let news = gateway.all_news();
    assert!(
        news.iter()
            .filter(|m| matches!(m, FromEdge::Frame { .. }))
            .count()
            <= 40
    );
}

#[test]
fn a_slow_reader_loses_packets_and_nobody_else_does() {
    let mut gateway = Gateway::start();
    let (mut client, conn) = gateway.on_tls(Settings::default());
    let packet = udp(HOST4, CLIENT4, &[7; 1300]);
    let mut sent = 0;
    while gateway.counter("queue-full") == 0 {
        for _ in 0..200 {
            gateway.put(&packet);
        }
        sent += 200;
        assert!(sent < 100_000, "the queue has no end");
    }
    // A control message still finds its place, behind what is queued.
    gateway.frame(conn, 0x96, b"behind");
    let mut kinds = Vec::new();
    while kinds.last() != Some(&0x96) {
        kinds.push(client.frame().kind);
    }
    assert!(kinds.len() - 1 < sent, "and something was lost");
    gateway.put(&packet);
    assert_eq!(client.frame().body, packet);
}

#[test]
fn a_client_stops_reading_its_tun_instead_of_dropping() {
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let client = Edge::start(Side::Client, vec![], &clock);
    client.open(Settings::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut there, _) = listener.accept().unwrap();
    let server = std::thread::spawn(move || {
        let mut tls = rustls::ServerConnection::new(Arc::clone(&IDENTITY.server)).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut there).unwrap();
        }
        rustls::StreamOwned::new(tls, there)
    });
    let name = "gw.test".try_into().unwrap();
    let mut tls = rustls::ClientConnection::new(Arc::clone(&IDENTITY.client), name).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut here).unwrap();
    }
    client.order(ToEdge::Attach {
        conn: 9,
        session: SESSION,
    });
    let peer = here.peer_addr().unwrap();
    client.handle.send(ToData::Adopt(Box::new(Adopted {
        conn: 9,
        session: SESSION,
        stream: here,
        tls: tls.into(),
        leftover: Vec::new(),
        framing: Framing::if_t(Side::Client),
        peer,
    })));
    client.sync();
    let mut bytes = VnetHeader::default().encode().to_vec();
    bytes.extend(udp(CLIENT4, HOST4, &[7; 1300]));
    client.tun.set_nonblocking(true).unwrap();
    let (mut sent, mut refused) = (0, 0);
    while refused < 20 {
        match client.tun.send(&bytes) {
            Ok(_) => (sent, refused) = (sent + 1, 0),
            Err(_) => {
                refused += 1;
                client.sync();
            }
        }
        assert!(sent < 100_000, "it never stops reading");
    }
    let mut server = server.join().unwrap();
    let mut frame = vec![0; 16 + bytes.len() - VnetHeader::LEN];
    for _ in 0..sent {
        server.read_exact(&mut frame).unwrap();
        assert_eq!(frame[16..], bytes[VnetHeader::LEN..]);
    }
    assert_eq!(client.counter("queue-full"), 0);
    client.tun.send(&bytes).unwrap();
    server.read_exact(&mut frame).unwrap();
}

#[test]
fn a_client_that_reads_nothing_is_closed_when_control_messages_pile_up() {
    let mut gateway = Gateway::start();
    let (_client, conn) = gateway.on_tls(Settings::default());
    for _ in 0..1000 {
        gateway.frame(conn, 0x96, &[0; 16_000]);
    }
    assert_eq!(cause(&gateway), "the client reads too slowly");
    assert_eq!(gateway.sessions().len(), 1);
}

#[test]
fn a_connection_with_too_much_before_its_hand_over_leaves_the_session_without_one() {
    let mut gateway = Gateway::start();
    gateway.open(Settings::default());
    let (mut client, adopted) = gateway.connect();
    let conn = adopted.conn;
    gateway.order(ToEdge::Attach {
        conn,
        session: SESSION,
    });
    assert_eq!(gateway.session().conn, conn);
    for _ in 0..65 {
        gateway.frame(conn, 0x96, b"");
    }
    assert_eq!(gateway.session().conn, 0);
    gateway.wait_counter("frame-queue", 1);
    gateway.handle.send(ToData::Adopt(Box::new(adopted)));
    while client.next().is_some() {}
    assert_eq!(gateway.session().conn, 0);
    drop(client);
    assert_eq!(cause(&gateway), "closed by the gateway");
}
