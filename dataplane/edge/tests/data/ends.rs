//! How sessions and connections end.

use lockgate_dataplane::link::{EndCause, Fatal, FromEdge, ToEdge, Transport};
use lockgate_edge::data::ToData;

use crate::client::Client;
use crate::gateway::{Gateway, SESSION, Settings};
use crate::packets::{CLIENT4, HOST4, udp};

/// The session is gone: the client was told `code`, its connection closed, nothing passes.
fn assert_over(gateway: &Gateway, mut client: Client, conn: u64, code: u32) {
    let frame = client.frame();
    assert_eq!(frame.kind, 0x93);
    let text = String::from_utf8(frame.body).unwrap();
    assert!(
        text.starts_with(&format!("errorType={code} errorString=")) && text.ends_with('\n'),
        "{text}"
    );
    assert_eq!(client.next(), None);
    assert_eq!(gateway.sessions(), []);
    drop(client);
    gateway.wait_for(
        |m| matches!(m, FromEdge::ConnClosed { conn: closed, session: 0, .. } if *closed == conn),
    );
    gateway.put(&udp(HOST4, CLIENT4, b"too late"));
    gateway.wait_counter("no-session", 1);
}

fn ended(gateway: &Gateway) -> EndCause {
    match gateway.wait_for(|m| matches!(m, FromEdge::SessionEnded { .. })) {
        FromEdge::SessionEnded {
            session: SESSION,
            generation: 1,
            cause,
            ..
        } => cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_idle_session_ends() {
    let mut gateway = Gateway::start();
    let (mut client, conn) = gateway.on_esp(Settings {
        idle: 60,
        ..Settings::default()
    });
    gateway.advance(50_000);
    client.send_packet(&udp(CLIENT4, HOST4, b"still here"));
    gateway.take();
    gateway.advance(59_000);
    // Probes and control messages are no use of the tunnel.
    client.probe(gateway.udp);
    assert_eq!(client.esp().unwrap(), [0]);
    gateway.frame(conn, 0x96, b"");
    assert_eq!(client.frame().kind, 0x96);
    assert_eq!(gateway.session().quiet, 59);
    gateway.advance(1000);
    assert_eq!(ended(&gateway), EndCause::Idle);
    assert_over(&gateway, client, conn, 8);
}

#[test]
fn a_session_never_outlives_its_deadline() {
    let mut gateway = Gateway::start();
    let (mut client, conn) = gateway.on_tls(Settings {
        remaining: 100,
        ..Settings::default()
    });
    gateway.advance(99_000);
    client.send_packet(&udp(CLIENT4, HOST4, b"busy"));
    gateway.take();
    gateway.advance(1000);
    assert_eq!(ended(&gateway), EndCause::Expired);
    assert_over(&gateway, client, conn, 8);
}

#[test]
fn limits_can_be_replaced() {
    let mut gateway = Gateway::start();
    let (client, conn) = gateway.on_tls(Settings {
        remaining: 100,
        ..Settings::default()
    });
    gateway.order(ToEdge::SetDeadline {
        session: SESSION,
        remaining: 200,
        idle: 0,
    });
    gateway.sync();
    gateway.advance(150_000);
    assert_eq!(gateway.session().remaining, 50);
    gateway.order(ToEdge::SetDeadline {
        session: SESSION,
        remaining: 10,
        idle: 0,
    });
    gateway.sync();
    gateway.advance(10_000);
    assert_eq!(ended(&gateway), EndCause::Expired);
    assert_over(&gateway, client, conn, 8);
}

#[test]
fn sessions_outlive_the_control_plane_for_a_while_only() {
    let mut gateway = Gateway::start();
    let (client, conn) = gateway.on_tls(Settings::default());
    gateway.handle.send(ToData::LinkDown);
    gateway.sync();
    gateway.advance(599_000);
    gateway.handle.send(ToData::LinkUp);
    gateway.sync();
    gateway.advance(599_000);
    gateway.handle.send(ToData::LinkDown);
    gateway.sync();
    gateway.advance(599_000);
    assert_eq!(gateway.session().transport, Transport::Tls);
    gateway.handle.send(ToData::LinkDown);
    gateway.advance(1000);
    assert_eq!(ended(&gateway), EndCause::Orphaned);
    assert_over(&gateway, client, conn, 7);
}

#[test]
fn the_control_plane_ends_a_session_with_a_word() {
    let mut gateway = Gateway::start();
    let (client, conn) = gateway.on_tls(Settings::default());
    let fatal = Fatal {
        code: 6,
        text: "Signed in elsewhere".into(),
    };
    gateway.order(ToEdge::CloseSession {
        session: SESSION,
        fatal: Some(fatal),
    });
    assert_over(&gateway, client, conn, 6);
    assert!(
        !gateway
            .all_news()
            .iter()
            .any(|m| matches!(m, FromEdge::SessionEnded { .. })),
        "it knows already"
    );
}

#[test]
fn a_session_can_end_before_its_connection_is_handed_over() {
    let mut gateway = Gateway::start();
    gateway.open(Settings::default());
    let (mut client, adopted) = gateway.connect();
    gateway.order(ToEdge::Attach {
        conn: adopted.conn,
        session: SESSION,
    });
    let fatal = Fatal {
        code: 7,
        text: "Never mind".into(),
    };
    gateway.order(ToEdge::CloseSession {
        session: SESSION,
        fatal: Some(fatal),
    });
    gateway.handle.send(ToData::Adopt(Box::new(adopted)));
    assert_eq!(client.frame().kind, 0x93);
    assert_eq!(client.next(), None);
}

#[test]
fn a_closed_connection_leaves_the_session() {
    let mut gateway = Gateway::start();
    let (client, conn) = gateway.on_tls(Settings::default());
    client.close();
    let closed = gateway.wait_for(|m| matches!(m, FromEdge::ConnClosed { .. }));
    let FromEdge::ConnClosed {
        conn: id,
        session,
        cause,
    } = closed
    else {
        unreachable!()
    };
    assert_eq!(
        (id, session, cause.as_str()),
        (conn, SESSION, "closed by the client")
    );
    let state = gateway.session();
    assert_eq!(
        (state.transport, state.conn, state.peer.as_str()),
        (Transport::None, 0, "")
    );
    gateway.put(&udp(HOST4, CLIENT4, b"nobody there"));
    gateway.wait_counter("no-transport", 1);
}

#[test]
fn esp_goes_on_without_the_connection() {
    let mut gateway = Gateway::start();
    let (mut client, conn) = gateway.on_esp(Settings::default());
    gateway.order(ToEdge::CloseConn { conn });
    assert_eq!(client.next(), None);
    assert_eq!(gateway.session().transport, Transport::Esp);
    gateway.put(&udp(HOST4, CLIENT4, b"answer"));
    assert_eq!(client.esp().unwrap(), udp(HOST4, CLIENT4, b"answer"));
}

#[test]
fn control_messages_go_up_and_a_logout_arrives_with_the_end_of_the_stream() {
    let mut gateway = Gateway::start();
    let (mut client, conn) = gateway.on_tls(Settings::default());
    client.send(5, b"ncmo=1\n\0");
    client.send(0x89, b"");
    client.close();
    let mut frames = Vec::new();
    loop {
        match gateway.news() {
            FromEdge::Frame {
                conn: from,
                vendor,
                kind,
                body,
            } => frames.push((from, vendor, kind, body)),
            FromEdge::ConnClosed { .. } => break,
            _ => {}
        }
    }
    assert_eq!(
        frames,
        [
            (conn, 0xa4c, 5, b"ncmo=1\n\0".to_vec()),
            (conn, 0xa4c, 0x89, vec![])
        ]
    );
}

#[test]
fn a_connection_nobody_attached_is_refused() {
    let mut gateway = Gateway::start();
    let (mut client, adopted) = gateway.connect();
    gateway.handle.send(ToData::Adopt(Box::new(adopted)));
    assert_eq!(client.next(), None);
    gateway.wait_for(|m| matches!(m, FromEdge::ConnClosed { session: 0, .. }));
}
