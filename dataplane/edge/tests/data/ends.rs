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
fn a_logout_ends_the_session_at_once_and_without_a_word() {
    let mut gateway = Gateway::start();
    let (mut client, conn) = gateway.on_tls(Settings::default());
    gateway.handle.send(ToData::LinkDown);
    client.send(5, b"ncmo=1\n\0");
    let mut both = client.encode(0x89, b"");
    both.extend(client.encode(4, &udp(CLIENT4, HOST4, b"too late")));
    client.write(&both);
    assert_eq!(client.next(), None, "no message before the end");
    let mut news = Vec::new();
    loop {
        match gateway.news() {
            FromEdge::TransportChanged { .. } => {}
            FromEdge::SessionEnded { cause, .. } => {
                assert_eq!(cause, EndCause::Logout);
                break;
            }
            other => news.push(other),
        }
    }
    let first = FromEdge::Frame {
        conn,
        vendor: 0xa4c,
        kind: 5,
        body: b"ncmo=1\n\0".to_vec(),
    };
    assert_eq!(news, [first]);
    assert_eq!(gateway.sessions(), []);
    gateway.assert_quiet();
    drop(client);
    gateway.wait_for(
        |m| matches!(m, FromEdge::ConnClosed { conn: closed, session: 0, .. } if *closed == conn),
    );
}

#[test]
fn a_logout_counts_when_the_stream_ends_with_it() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(Settings::default());
    client.send(0x89, b"");
    client.close();
    assert_eq!(ended(&gateway), EndCause::Logout);
    gateway.wait_for(|m| matches!(m, FromEdge::ConnClosed { session: 0, .. }));
    assert_eq!(gateway.sessions(), []);
}

#[test]
fn an_order_is_no_use_of_the_tunnel() {
    let mut gateway = Gateway::start();
    let (client, conn) = gateway.on_tls(Settings {
        idle: 60,
        ..Settings::default()
    });
    gateway.advance(50_000);
    gateway.order(ToEdge::SetDeadline {
        session: SESSION,
        remaining: 3600,
        idle: 70,
    });
    gateway.sync();
    assert_eq!(gateway.session().quiet, 50);
    gateway.advance(19_000);
    assert_eq!(gateway.session().quiet, 69);
    gateway.advance(1000);
    assert_eq!(ended(&gateway), EndCause::Idle);
    assert_over(&gateway, client, conn, 8);
}

#[test]
fn an_older_generation_is_refused_with_its_connection() {
    let mut gateway = Gateway::start();
    let live = Settings {
        generation: 3,
        ..Settings::default()
    };
    let (mut client, conn) = gateway.on_tls(live);
    for (round, generation) in (1..).zip([2, 3]) {
        gateway.open(Settings {
            generation,
            ..Settings::default()
        });
        let (mut late, adopted) = gateway.connect();
        let refused = adopted.conn;
        gateway.attach(adopted);
        while late.next().is_some() {}
        drop(late);
        gateway.wait_for(
            |m| matches!(m, FromEdge::ConnClosed { conn, session: 0, .. } if *conn == refused),
        );
        gateway.wait_counter("stale-order", round);
        let state = gateway.session();
        assert_eq!((state.generation, state.conn), (3, conn));
    }
    gateway.put(&udp(HOST4, CLIENT4, b"answer"));
    assert_eq!(client.frame().kind, 4);

    // A newer one that comes next is not taken for a refused one.
    gateway.open(Settings {
        generation: 2,
        ..Settings::default()
    });
    let (_newer, newest) = gateway.on_tls(Settings {
        generation: 4,
        ..Settings::default()
    });
    assert_eq!(gateway.session().conn, newest);
}

#[test]
fn a_connection_closed_before_its_hand_over_leaves_the_session() {
    let mut gateway = Gateway::start();
    gateway.open(Settings::default());
    let (mut client, adopted) = gateway.connect();
    let conn = adopted.conn;
    gateway.order(ToEdge::Attach {
        conn,
        session: SESSION,
    });
    gateway.order(ToEdge::CloseConn { conn });
    assert_eq!(gateway.session().conn, 0);
    gateway.handle.send(ToData::Adopt(Box::new(adopted)));
    assert_eq!(client.next(), None);
    drop(client);
    gateway.wait_for(|m| {
        matches!(m, FromEdge::ConnClosed { conn: closed, session: SESSION, .. } if *closed == conn)
    });
    assert_eq!(gateway.session().conn, 0);
}

#[test]
fn only_the_connection_attached_last_carries_the_session() {
    let mut gateway = Gateway::start();
    let (mut first, _) = gateway.on_tls(Settings::default());
    let (mut second, slow) = gateway.connect();
    let (mut third, last) = gateway.connect();
    for conn in [slow.conn, last.conn] {
        gateway.order(ToEdge::Attach {
            conn,
            session: SESSION,
        });
    }
    // The first connection ends while the session already waits for another.
    gateway.order(ToEdge::CloseConn { conn: 101 });
    assert_eq!(first.next(), None);
    assert_eq!(
        (gateway.session().transport, gateway.session().conn),
        (Transport::None, last.conn)
    );
    let id = last.conn;
    gateway.handle.send(ToData::Adopt(Box::new(last)));
    gateway.handle.send(ToData::Adopt(Box::new(slow)));
    assert_eq!(second.next(), None);
    gateway.frame(id, 0x8f, &[0; 4]);
    assert_eq!(third.frame().kind, 0x8f);
    assert_eq!(gateway.session().conn, id);
    gateway.put(&udp(HOST4, CLIENT4, b"answer"));
    assert_eq!(third.frame().kind, 4);
}

#[test]
fn a_connection_nobody_attached_is_refused() {
    let mut gateway = Gateway::start();
    let (mut client, adopted) = gateway.connect();
    gateway.handle.send(ToData::Adopt(Box::new(adopted)));
    assert_eq!(client.next(), None);
    gateway.wait_for(|m| matches!(m, FromEdge::ConnClosed { session: 0, .. }));
}
