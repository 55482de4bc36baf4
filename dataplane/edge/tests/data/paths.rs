//! Which way packets go, and which packets are believed.

use lockgate_dataplane::link::{FromEdge, ToEdge, Transport};

use crate::gateway::{Gateway, SESSION, Settings, allow, sa};
use crate::packets::{CLIENT4, CLIENT6, HOST4, HOST6, may_be_cut, syn, udp};

#[test]
fn an_early_probe_is_answered_when_the_keys_come() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(Settings::default());
    client.install(&sa(0x1001, 1), &sa(0x2001, 2));
    client.probe(gateway.udp);
    client.send_esp(gateway.udp, &udp(CLIENT4, HOST4, b"behind the probe"));
    gateway.take();
    client.assert_no_udp();
    gateway.install_out(1, sa(0x2001, 2));
    assert_eq!(client.esp().unwrap(), [0]);
    gateway.advance(1000);
    let told = gateway.wait_for(|m| {
        matches!(
            m,
            FromEdge::TransportChanged {
                transport: Transport::Esp,
                ..
            }
        )
    });
    let FromEdge::TransportChanged { session, peer, .. } = told else {
        unreachable!()
    };
    assert_eq!(
        (session, peer),
        (SESSION, client.udp.local_addr().unwrap().to_string())
    );
}

#[test]
fn the_gateway_follows_the_client_between_tls_and_esp() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_esp(Settings::default());
    let back = udp(HOST4, CLIENT4, b"answer");
    gateway.put(&back);
    assert_eq!(client.esp().unwrap(), back);

    client.send_packet(&udp(CLIENT4, HOST4, b"ESP is dead for me"));
    gateway.take();
    gateway.put(&back);
    assert_eq!(client.frame().body, back);
    assert_eq!(gateway.session().transport, Transport::Tls);

    client.probe(gateway.udp);
    assert_eq!(client.esp().unwrap(), [0]);
    gateway.put(&back);
    assert_eq!(client.esp().unwrap(), back);
    assert_eq!(gateway.session().transport, Transport::Esp);
}

#[test]
fn silence_over_esp_means_tls() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_esp(Settings::default());
    gateway.advance(1000);
    gateway.wait_for(|m| {
        matches!(
            m,
            FromEdge::TransportChanged {
                transport: Transport::Esp,
                ..
            }
        )
    });
    gateway.advance(30_001);
    gateway.wait_for(|m| {
        matches!(
            m,
            FromEdge::TransportChanged {
                transport: Transport::Tls,
                ..
            }
        )
    });
    let back = udp(HOST4, CLIENT4, b"answer");
    gateway.put(&back);
    assert_eq!(client.frame().body, back);
}

#[test]
fn the_other_family_stays_on_tls_unless_agreed() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_esp(Settings::default());
    let (there, back) = (
        udp(CLIENT6, HOST6, b"question"),
        udp(HOST6, CLIENT6, b"answer"),
    );
    client.send_packet(&there);
    assert_eq!(gateway.take().1, there);
    gateway.put(&back);
    assert_eq!(client.frame().body, back);
    assert_eq!(
        gateway.session().transport,
        Transport::Esp,
        "and does not draw the first off ESP"
    );

    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_esp(Settings {
        cross_family: true,
        ..Settings::default()
    });
    gateway.put(&back);
    assert_eq!(client.esp().unwrap(), back);
}

#[test]
fn answers_follow_a_client_that_moves() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_esp(Settings::default());
    let old = client.move_udp();
    client.send_esp(gateway.udp, &udp(CLIENT4, HOST4, b"from elsewhere"));
    gateway.take();
    gateway.put(&udp(HOST4, CLIENT4, b"answer"));
    assert_eq!(client.esp().unwrap(), udp(HOST4, CLIENT4, b"answer"));
    old.set_nonblocking(true).unwrap();
    assert!(old.recv(&mut [0; 100]).is_err());
}

#[test]
fn packets_that_do_not_verify_change_nothing() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_esp(Settings::default());
    let peer = client.udp.local_addr().unwrap().to_string();
    let replayed = client.sealed(&udp(CLIENT4, HOST4, b"once"));
    client.udp.send_to(&replayed, gateway.udp).unwrap();
    gateway.take();

    let mut forged = client.sealed(&udp(CLIENT4, HOST4, b"forged"));
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let mut foreign = forged.clone();
    foreign[0] ^= 0x40;
    let stranger = client.move_udp();
    for datagram in [
        &replayed[..],
        &forged,
        &foreign,
        &[],
        &[1, 2, 3],
        &[0; 1400],
    ] {
        client.udp.send_to(datagram, gateway.udp).unwrap();
    }
    gateway.wait_counter("replayed", 1);
    gateway.wait_counter("bad-icv", 1);
    gateway.wait_counter("unknown-spi", 2);
    gateway.assert_quiet();
    client.assert_no_udp();
    drop(stranger);
    assert_eq!(gateway.session().peer, peer);
}

#[test]
fn a_rekey_loses_nothing_and_the_old_keys_die() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_esp(Settings::default());
    gateway.order(ToEdge::InstallEspIn {
        session: SESSION,
        generation: 1,
        sa: sa(0x1002, 3),
    });
    let late = [0, 1].map(|_| client.sealed(&udp(CLIENT4, HOST4, b"old keys")));
    client.udp.send_to(&late[0], gateway.udp).unwrap();
    gateway.take();

    client.install(&sa(0x1002, 3), &sa(0x2002, 4));
    client.send_esp(gateway.udp, &udp(CLIENT4, HOST4, b"new keys"));
    gateway.take();
    gateway.install_out(1, sa(0x2002, 4));
    gateway.sync();
    gateway.put(&udp(HOST4, CLIENT4, b"answer"));
    assert_eq!(client.esp().unwrap(), udp(HOST4, CLIENT4, b"answer"));
    assert_eq!(gateway.session().spis, [0x1001, 0x1002]);

    gateway.advance(30_000);
    assert_eq!(gateway.session().spis, [0x1002]);
    client.udp.send_to(&late[1], gateway.udp).unwrap();
    gateway.wait_counter("unknown-spi", 1);
    gateway.assert_quiet();
}

#[test]
fn a_new_generation_starts_on_tls_with_keys_of_its_own() {
    let mut gateway = Gateway::start();
    let (mut first, first_conn) = gateway.on_esp(Settings::default());
    first.send_esp(gateway.udp, &udp(CLIENT4, HOST4, b"counted"));
    gateway.take();

    let second = Settings {
        generation: 2,
        esp_in: Some(sa(0x1009, 5)),
        ..Settings::default()
    };
    let (mut client, _) = gateway.on_tls(second);
    assert_eq!(
        first.next(),
        None,
        "the connection of the first generation is closed"
    );
    let state = gateway.session();
    assert_eq!((state.generation, state.transport), (2, Transport::Tls));
    assert_eq!(state.spis, [0x1009]);
    assert_eq!(state.traffic.packets_in, 1, "counters go on");
    drop(first);
    gateway.wait_for(
        |m| matches!(m, FromEdge::ConnClosed { conn, session: 0, .. } if *conn == first_conn),
    );

    gateway.install_out(1, sa(0x2001, 2));
    gateway.order(ToEdge::InstallEspIn {
        session: SESSION,
        generation: 1,
        sa: sa(0x100a, 6),
    });
    gateway.wait_counter("stale-order", 2);
    assert_eq!(gateway.session().spis, [0x1009]);
    gateway.put(&udp(HOST4, CLIENT4, b"answer"));
    assert_eq!(client.frame().kind, 4);
}

#[test]
fn only_the_sessions_own_addresses_and_allowed_ends_pass() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(Settings {
        rules: vec![allow(&[0; 4])],
        ..Settings::default()
    });
    client.send_packet(&udp("10.88.0.11:1", HOST4, b"not my address"));
    client.send_packet(&udp(CLIENT6, HOST6, b"not allowed"));
    client.send_packet(b"no packet");
    let good = udp(CLIENT4, HOST4, b"fine");
    client.send_packet(&good);
    assert_eq!(gateway.take().1, good);
    gateway.put(&udp(HOST6, CLIENT6, b"not allowed"));
    gateway.put(&udp(HOST4, "10.88.0.11:1", b"nobody's"));
    gateway.wait_counter("spoofed-source", 1);
    gateway.wait_counter("denied", 2);
    gateway.wait_counter("no-session", 1);
    assert_eq!(gateway.session().traffic.dropped, 4);

    gateway.order(ToEdge::SetRules {
        session: SESSION,
        revision: 2,
        rule_set: 0,
        rules: vec![],
    });
    gateway.sync();
    client.send_packet(&good);
    gateway.wait_counter("denied", 3);
    gateway.assert_quiet();
}

#[test]
fn a_barrier_is_passed_when_what_was_ordered_before_is_in_force() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(Settings::default());
    let good = udp(CLIENT4, HOST4, b"fine");
    client.send_packet(&good);
    assert_eq!(gateway.take().1, good);
    // More orders than one turn applies; the last one takes everything away.
    for revision in 2..500 {
        let rules = if revision < 499 {
            vec![allow(&[0; 4])]
        } else {
            vec![]
        };
        gateway.order(ToEdge::SetRules {
            session: SESSION,
            revision,
            rule_set: 0,
            rules,
        });
    }
    gateway.order(ToEdge::Barrier { number: 7 });
    gateway.order(ToEdge::Barrier { number: 8 });
    for expected in [7, 8] {
        let passed = gateway.wait_for(|news| matches!(news, FromEdge::BarrierPassed { .. }));
        assert_eq!(passed, FromEdge::BarrierPassed { number: expected });
    }
    // No waiting here: not one packet may come through.
    client.send_packet(&good);
    gateway.wait_counter("denied", 1);
    gateway.assert_quiet();
}

#[test]
fn a_session_cannot_take_what_belongs_to_another() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(Settings::default());
    gateway.open(Settings {
        session: 8,
        ..Settings::default()
    });
    gateway.wait_counter("address-conflict", 1);
    let other = Settings {
        session: 8,
        address4: vec![10, 88, 0, 11],
        address6: vec![],
        ..Settings::default()
    };
    gateway.open(other);
    gateway.wait_counter("spi-conflict", 1);
    let back = udp(HOST4, CLIENT4, b"answer");
    gateway.put(&back);
    assert_eq!(client.frame().body, back);
}

/// A padded probe of `length` bytes that says that its sender's MTU is `mtu`.
fn padded(length: usize, mtu: u16) -> Vec<u8> {
    let mut payload = vec![0; length];
    let [high, low] = mtu.to_be_bytes();
    payload[1..4].copy_from_slice(&[1, high, low]);
    payload
}

#[test]
fn padded_probes_come_back_and_set_the_segment_size() {
    for (address6, least) in [(Settings::default().address6, 1280), (vec![], 576)] {
        let mut gateway = Gateway::start();
        let (mut client, _) = gateway.on_esp(Settings {
            address6,
            ..Settings::default()
        });
        for (length, mtu, expected) in [
            (1400, 1400, 1400),
            (1390, 1350, 1350),
            (4, 1300, 1300),
            (5, 100, least),
            (1300, 65_535, 1400),
            (77, 0, least),
        ] {
            let probe = padded(length, mtu);
            client.send_esp(gateway.udp, &probe);
            assert_eq!(client.esp().unwrap(), probe);
            gateway.put(&syn(HOST4, CLIENT4, 1460));
            let packet = client.esp().unwrap();
            let mss = u16::from_be_bytes([packet[42], packet[43]]);
            assert_eq!(mss, expected - 40, "told {mtu}");
        }
        // Neither what is longer than any packet nor what is no probe is answered.
        let traffic = gateway.session().traffic;
        client.send_esp(gateway.udp, &padded(1401, 1400));
        client.send_esp(gateway.udp, &[0, 2, 5, 0]);
        client.send_esp(gateway.udp, &[0, 1, 5]);
        gateway.wait_counter("bad-next-header", 2);
        let mut forged = client.sealed(&padded(1000, 600));
        forged[500] ^= 1;
        client.udp.send_to(&forged, gateway.udp).unwrap();
        gateway.wait_counter("bad-icv", 1);
        client.assert_no_udp();
        assert_eq!(gateway.session().traffic, traffic, "probes are no traffic");
    }
}

#[test]
fn senders_of_large_packets_are_told_within_bounds() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_esp(Settings::default());
    client.send_esp(gateway.udp, &padded(20, 1300));
    assert_eq!(client.esp().unwrap(), padded(20, 1300));
    let large = udp(HOST4, CLIENT4, &[7; 1300]);
    for _ in 0..70 {
        gateway.put(&large);
    }
    gateway.wait_counter("too-big", 70);
    let mut told = 0;
    while let Some(message) = gateway.try_take() {
        assert_eq!((message[9], &message[20..22]), (1, &[3, 4][..]));
        told += 1;
    }
    assert_eq!(told, 50);
    gateway.advance(500);
    for _ in 0..20 {
        gateway.put(&large);
    }
    gateway.wait_counter("too-big", 90);
    let told = std::iter::from_fn(|| gateway.try_take()).count();
    assert_eq!(told, 10);

    // What may be cut on its way goes on, up to the configured size.
    let mut cut = large.clone();
    may_be_cut(&mut cut);
    gateway.put(&cut);
    assert_eq!(client.esp().unwrap(), cut);
    let mut cut = udp(HOST4, CLIENT4, &[7; 1380]);
    may_be_cut(&mut cut);
    gateway.put(&cut);
    gateway.wait_counter("too-big", 91);
    gateway.assert_quiet();
}

#[test]
fn a_client_that_says_it_left_esp_is_believed_until_it_says_otherwise() {
    let mut gateway = Gateway::start();
    let (mut client, conn) = gateway.on_esp(Settings::default());
    let back = udp(HOST4, CLIENT4, b"answer");
    client.send(5, b"ncmo=0\n\0");
    let told = gateway.wait_for(|m| matches!(m, FromEdge::Frame { .. }));
    let FromEdge::Frame { kind, body, .. } = told else {
        unreachable!()
    };
    assert_eq!((kind, &body[..]), (5, &b"ncmo=0\n\0"[..]));
    client.probe(gateway.udp);
    assert_eq!(client.esp().unwrap(), [0], "but it is helped to search");
    gateway.put(&back);
    assert_eq!(client.frame().body, back);
    assert_eq!(gateway.session().transport, Transport::Tls);
    client.send(5, b"ncmo=1\n\0");
    gateway.wait_for(|m| matches!(m, FromEdge::Frame { .. }));
    gateway.put(&back);
    assert_eq!(client.esp().unwrap(), back);
    // Its word ends with the connection.
    client.send(5, b"ncmo=0\n\0");
    gateway.wait_for(|m| matches!(m, FromEdge::Frame { .. }));
    gateway.order(ToEdge::CloseConn { conn });
    assert_eq!(client.next(), None);
    gateway.put(&back);
    assert_eq!(client.esp().unwrap(), back);
}
