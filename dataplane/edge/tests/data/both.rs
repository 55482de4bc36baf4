//! Both ends together: a client's data thread and a gateway's.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use lockgate_dataplane::link::{FromEdge, Suite, ToEdge, Transport};
use lockgate_edge::data::ToData;

use crate::gateway::{DEADLINE, SESSION, Settings};
use crate::packets::{
    CLIENT4, CLIENT6, HOST4, HOST6, checksum_holds, may_be_cut, super_packet_between, syn, udp,
};
use crate::pair::{Pair, Tunnel};

const ESP: (Transport, Transport) = (Transport::Esp, Transport::Esp);
const TLS: (Transport, Transport) = (Transport::Tls, Transport::Tls);

#[test]
fn every_suite_carries_super_packets_both_ways() {
    for suite in [
        Suite::Aes128Gcm,
        Suite::Aes256Gcm,
        Suite::Aes128CbcSha1,
        Suite::Aes256CbcSha256,
    ] {
        let mut pair = Pair::connected(Tunnel {
            suite,
            ..Tunnel::default()
        });
        pair.talk();
        assert_eq!(pair.transports(), ESP);
        let (header, there, _) = super_packet_between(CLIENT4, HOST4, 40, 1360);
        pair.client.put_super(header, &there);
        pair.step(0);
        // One flow, glued together again.
        let mut length = 0;
        while length < 40 * 1360 {
            length += pair.take_there().len() - 40;
        }
        let (header, back, _) = super_packet_between(HOST4, CLIENT4, 40, 1360);
        pair.gateway.put_super(header, &back);
        pair.step(0);
        let mut length = 0;
        while length < 40 * 1360 {
            length += pair.take_back().len() - 40;
        }
        let (there, back) = (
            pair.client.session().traffic,
            pair.gateway.session().traffic,
        );
        assert_eq!((there.packets_out, there.packets_in), (41, 41));
        assert_eq!((back.packets_out, back.packets_in), (41, 41));
    }
}

#[test]
fn without_esp_everything_goes_over_tls() {
    let mut pair = Pair::connected(Tunnel {
        start_esp: false,
        ..Tunnel::default()
    });
    pair.talk();
    pair.talk_between(CLIENT6, HOST6);
    let (header, there, payload) = super_packet_between(CLIENT4, HOST4, 40, 1360);
    pair.client.put_super(header, &there);
    let mut length = 0;
    while length < payload.len() {
        length += pair.take_there().len() - 40;
    }
    pair.steps(3, 20_000);
    assert_eq!((pair.transports(), pair.relay.seen), (TLS, 0));
}

#[test]
fn families_cross_only_when_agreed() {
    for (cross_family, address, six, four) in [
        (true, "127.0.0.1:0", 1, 1),
        (false, "127.0.0.1:0", 0, 1),
        (true, "[::1]:0", 1, 1),
        (false, "[::1]:0", 1, 0),
    ] {
        let mut pair = Pair::connected(Tunnel {
            cross_family,
            address,
            ..Tunnel::default()
        });
        for (client, host, over_esp) in [(CLIENT6, HOST6, six), (CLIENT4, HOST4, four)] {
            let before = (pair.relay.seen, pair.relay.returned);
            pair.talk_between(client, host);
            let seen = (pair.relay.seen - before.0, pair.relay.returned - before.1);
            assert_eq!(
                seen,
                (over_esp, over_esp),
                "{cross_family} {address} {client}"
            );
        }
        assert_eq!(pair.client.session().transport, Transport::Esp);
    }
}

#[test]
fn a_blocked_path_is_left_and_found_again() {
    for extended in [true, false] {
        let mut pair = Pair::connected(Tunnel {
            extended,
            ..Tunnel::default()
        });
        pair.talk();
        pair.relay.block(true);
        pair.client.put(&udp(CLIENT4, HOST4, b"lost"));
        pair.steps(9, 1000);
        assert_eq!(pair.client.session().transport, Transport::Tls);
        pair.talk();
        pair.until(|pair| pair.transports() == TLS);
        pair.steps(60, 1000);
        pair.talk();
        pair.relay.block(false);
        pair.steps(9, 1000);
        pair.until(|pair| pair.transports() == ESP);
        let seen = pair.relay.seen;
        pair.talk();
        assert!(pair.relay.seen > seen);
        let transports = pair
            .client
            .all_news()
            .into_iter()
            .filter_map(|news| match news {
                FromEdge::TransportChanged { transport, .. } => Some(transport),
                _ => None,
            });
        assert_eq!(
            transports
                .skip_while(|t| *t != Transport::Esp)
                .collect::<Vec<_>>(),
            [Transport::Esp, Transport::Tls, Transport::Esp]
        );
    }
}

#[test]
fn a_path_broken_one_way_is_left_too() {
    // Nothing comes back: the gateway must not go on over ESP because it hears probes.
    let mut pair = Pair::connected(Tunnel::default());
    pair.talk();
    pair.relay.blocked_down = true;
    pair.client.put(&udp(CLIENT4, HOST4, b"one way"));
    pair.steps(9, 1000);
    pair.take_there();
    pair.until(|pair| pair.transports() == TLS);
    pair.steps(10, 1000);
    let back = udp(HOST4, CLIENT4, b"over TLS");
    pair.gateway.put(&back);
    assert_eq!(pair.take_back(), back);
    assert_eq!(pair.gateway.session().transport, Transport::Tls);

    // Nothing gets there, while the gateway keeps sending.
    let mut pair = Pair::connected(Tunnel::default());
    pair.talk();
    pair.relay.blocked_up = true;
    for _ in 0..27 {
        pair.gateway.put(&back);
        pair.step(1000);
        assert_eq!(pair.take_back(), back);
    }
    assert_eq!(pair.client.session().transport, Transport::Tls);
    pair.client.put(&udp(CLIENT4, HOST4, b"there"));
    pair.take_there();
}

#[test]
fn traffic_one_way_keeps_esp_alive() {
    let mut pair = Pair::connected(Tunnel::default());
    for _ in 0..40 {
        pair.client.put(&udp(CLIENT4, HOST4, b"there"));
        pair.step(1000);
        pair.take_there();
    }
    assert_eq!(pair.transports(), ESP);
    for _ in 0..40 {
        pair.gateway.put(&udp(HOST4, CLIENT4, b"back"));
        pair.step(1000);
        pair.take_back();
    }
    assert_eq!(pair.transports(), ESP);
    pair.steps(60, 1000);
    assert_eq!(pair.transports(), ESP, "and so does nothing at all");
}

#[test]
fn refused_datagrams_kill_nothing() {
    let mut pair = Pair::connected(Tunnel::default());
    // No other test binds this address, so nobody else gets the port when it is closed.
    let closed = UdpSocket::bind("127.0.0.9:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(closed.local_addr().unwrap()).unwrap();
    drop(closed);
    pair.give_port(socket);
    for _ in 0..7 {
        pair.client.put(&udp(CLIENT4, HOST4, b"refused"));
        pair.step(1000);
    }
    pair.until(|pair| pair.transports() == TLS);
    pair.take_there();
    let socket = pair.socket();
    pair.give_port(socket);
    pair.until(|pair| pair.transports() == ESP);
}

#[test]
fn another_socket_takes_over_at_once() {
    let mut pair = Pair::connected(Tunnel::default());
    let former = pair.gateway.session().peer;
    pair.talk();
    let socket = pair.socket();
    // The service keeps a copy, so the kernel would not forget the socket by itself.
    let copies = [0, 1].map(|_| socket.try_clone().unwrap());
    pair.give_port(socket);
    pair.until(|pair| pair.transports() == ESP);
    pair.talk();
    let socket = pair.socket();
    let address = socket.local_addr().unwrap();
    pair.give_port(socket);
    pair.step(0);
    pair.talk();
    assert_ne!(former, address.to_string());
    // What comes to the former socket wakes nobody any more.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let _ = stranger.send_to(b"x", copies[0].local_addr().unwrap());
    pair.talk();
    assert_eq!(pair.client.counter("unknown-spi"), 0);
}

#[test]
fn a_new_generation_replaces_keys_port_and_connection() {
    let mut pair = Pair::connected(Tunnel::default());
    pair.talk();
    let old = pair.conn();
    pair.open(2, &Tunnel::default());
    pair.until(|pair| pair.transports() == ESP);
    pair.talk();
    let state = pair.client.session();
    assert_eq!((state.generation, state.spis), (2, vec![0x2002]));
    assert_eq!(state.traffic.packets_out, 2, "counters go on");
    pair.client
        .wait_for(|m| matches!(m, FromEdge::ConnClosed { conn, .. } if *conn == old));
    // Without ESP, the new one is on TLS although the former was on ESP.
    let tls = Tunnel {
        start_esp: false,
        ..Tunnel::default()
    };
    pair.open(3, &tls);
    pair.until(|pair| pair.transports() == TLS);
    pair.talk();
}

#[test]
fn esp_carries_the_session_without_its_connection() {
    let mut pair = Pair::connected(Tunnel::default());
    pair.talk();
    let conn = pair.conn();
    pair.gateway.order(ToEdge::CloseConn { conn });
    let closed = pair
        .client
        .wait_for(|m| matches!(m, FromEdge::ConnClosed { .. }));
    let FromEdge::ConnClosed { session, cause, .. } = closed else {
        unreachable!()
    };
    assert_eq!(
        (session, cause.as_str()),
        (SESSION, "closed by the gateway")
    );
    pair.steps(40, 1000);
    pair.talk();
    assert_eq!(pair.transports(), ESP);
    pair.relay.block(true);
    pair.client.put(&udp(CLIENT4, HOST4, b"lost"));
    pair.steps(9, 1000);
    assert_eq!(pair.client.session().transport, Transport::None);
    pair.relay.block(false);
    pair.steps(9, 1000);
    pair.until(|pair| pair.transports() == ESP);
    pair.talk();
    pair.client.order(ToEdge::CloseSession {
        session: SESSION,
        fatal: None,
    });
    assert_eq!(pair.client.sessions(), []);
    pair.client.put(&udp(CLIENT4, HOST4, b"too late"));
    pair.client.wait_counter("no-session", 1);
}

#[test]
fn a_tun_can_be_replaced_and_may_be_missing() {
    let mut pair = Pair::connected(Tunnel::default());
    pair.talk();
    for _ in 0..2 {
        let (inside, tun) = UnixDatagram::pair().unwrap();
        tun.set_read_timeout(Some(DEADLINE)).unwrap();
        let kept = inside.try_clone().unwrap();
        pair.client.handle.send(ToData::Tun {
            fd: OwnedFd::from(inside),
            takes_udp: false,
        });
        pair.client.sync();
        let former = std::mem::replace(&mut pair.client.tun, tun);
        // The former device is read no more, although the service may hold a copy.
        let _ = former.send(&[0; 60]);
        pair.talk();
        drop(kept);
    }

    let pair = Pair::start("127.0.0.1:0");
    let (inside, _tun) = UnixDatagram::pair().unwrap();
    // No device can be made of this.
    drop(inside);
    pair.client.open(Settings::default());
    assert_eq!(pair.client.session().transport, Transport::None);
    pair.client.put(&udp(CLIENT4, HOST4, b"no way"));
    pair.client.wait_counter("no-transport", 1);
}

#[test]
fn only_packets_of_the_tunnel_pass() {
    let mut pair = Pair::connected(Tunnel::default());
    pair.client
        .put(&udp("10.0.0.9:1", HOST4, b"not our address"));
    pair.client.wait_counter("spoofed-source", 1);
    // The gateway's own gate has passed this session's packets only; another end might not have.
    pair.talk();
    assert_eq!(pair.client.session().traffic.dropped, 1);
    pair.gateway.assert_quiet();
}

#[test]
fn a_wide_path_is_confirmed_with_one_test() {
    let mut pair = Pair::connected(Tunnel::default());
    pair.step(0);
    assert_eq!(pair.mtus(), [1400]);
    assert!(pair.relay.longest >= 1400);
    let plain = Pair::connected(Tunnel {
        extended: false,
        ..Tunnel::default()
    });
    assert!(plain.relay.longest < 100, "others know no padded probes");
    assert!(plain.mtus().is_empty());
}

/// GCM adds 16 in front, 2 to 5 of trailer, 16 behind.
const GCM: usize = 34;

#[test]
fn a_narrow_path_is_measured_and_used() {
    let mut pair = Pair::start("127.0.0.1:0");
    pair.relay.widest = 1330 + GCM;
    pair.open(1, &Tunnel::default());
    pair.steps(20, 1000);
    let mtus = pair.mtus();
    assert_eq!(mtus.first(), Some(&1280), "usable at once");
    let mtu = *mtus.last().unwrap();
    assert!(mtu > 1320 && mtu <= 1330, "{mtus:?}");
    assert_eq!(pair.transports(), ESP);

    // Connections learn it on both ends, in both directions.
    let mss =
        |packet: &[u8]| u16::from_be_bytes([packet[packet.len() - 2], packet[packet.len() - 1]]);
    pair.client.put(&syn(CLIENT4, HOST4, 1460));
    pair.step(0);
    let packet = pair.take_there();
    assert_eq!(mss(&packet), mtu - 40);
    assert!(checksum_holds(&packet));
    pair.gateway.put(&syn(HOST4, CLIENT4, 1460));
    pair.step(0);
    assert_eq!(mss(&pair.take_back()), mtu - 40);

    // Larger packets are refused with a word to their sender, at either end.
    let there = udp(CLIENT6, HOST6, &[7; 1300]);
    pair.client.put(&there);
    let told = pair.take_back();
    assert_eq!((told[6], &told[40..42]), (58, &[2, 0][..]));
    assert_eq!(told[46..48], mtu.to_be_bytes());
    let back = udp(HOST4, CLIENT4, &[7; 1350]);
    pair.gateway.put(&back);
    let told = pair.take_there();
    assert_eq!((told[9], &told[20..22]), (1, &[3, 4][..]));
    assert_eq!(told[26..28], mtu.to_be_bytes());
    assert_eq!(told[28..], back[..told.len() - 28]);
    pair.gateway.wait_counter("too-big", 1);
    pair.talk();

    // Of a super-packet, its pieces count.
    let (header, packet, payload) = super_packet_between(HOST4, CLIENT4, 10, usize::from(mtu) - 39);
    pair.gateway.put_super(header, &packet);
    let told = pair.take_there();
    assert_eq!((told[9], &told[20..22]), (1, &[3, 4][..]));
    assert_eq!(told[30..32], (mtu + 1).to_be_bytes(), "it quotes the piece");
    let mut length = 0;
    let (header, packet, _) = super_packet_between(HOST4, CLIENT4, 10, usize::from(mtu) - 40);
    pair.gateway.put_super(header, &packet);
    while length < payload.len() - 10 {
        length += pair.take_back().len() - 40;
    }

    // What may be cut on its way is not refused: a client has TLS for it.
    let mut there = udp(CLIENT4, HOST4, &[7; 1350]);
    may_be_cut(&mut there);
    pair.client.put(&there);
    assert_eq!(pair.take_there(), there);
    assert_eq!(pair.transports().0, Transport::Esp);

    // The path becomes wider: known after ten minutes.
    pair.relay.widest = usize::MAX;
    pair.steps(61, 10_000);
    assert_eq!(pair.mtus(), [1400]);
    pair.gateway.put(&back);
    pair.step(0);
    assert_eq!(pair.take_back(), back);
}

#[test]
fn a_path_that_carries_nothing_of_use_is_left() {
    let mut pair = Pair::start("127.0.0.1:0");
    pair.relay.widest = 1000;
    pair.open(1, &Tunnel::default());
    pair.steps(10, 1000);
    pair.until(|pair| pair.transports() == TLS);
    let large = udp(CLIENT4, HOST4, &[7; 1300]);
    pair.client.put(&large);
    assert_eq!(pair.take_there(), large);
    pair.relay.widest = usize::MAX;
    pair.steps(65, 10_000);
    pair.until(|pair| pair.transports() == ESP);
}

#[test]
fn a_client_without_its_service_ends_without_a_word() {
    let mut pair = Pair::connected(Tunnel::default());
    let conn = pair.conn();
    pair.client.handle.send(ToData::LinkDown);
    pair.client.sync();
    pair.steps(2, 300_000);
    assert_eq!(pair.client.sessions(), []);
    let closed = pair.gateway.wait_for(|m| {
        assert!(!matches!(m, FromEdge::Frame { kind: 0x93, .. }));
        matches!(m, FromEdge::ConnClosed { .. })
    });
    let FromEdge::ConnClosed {
        conn: id, cause, ..
    } = closed
    else {
        unreachable!()
    };
    assert_eq!((id, cause.as_str()), (conn, "closed by the client"));
    assert_eq!(
        pair.gateway.sessions().len(),
        1,
        "its cookie is good for a return"
    );
}
