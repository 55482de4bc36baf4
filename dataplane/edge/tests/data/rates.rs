//! How much of a session's traffic may pass.

use lockgate_dataplane::link::{FlowAudit, ToEdge};

use crate::gateway::{Gateway, SESSION, Settings, allow};
use crate::packets::{CLIENT4, HOST4, super_packet_between, udp};

/// Bits per second that grant a byte in every millisecond.
const SLOW: u64 = 8000;
/// Packets of 1000 bytes in a burst of 64 KiB.
const BURST: usize = 65;

fn limited() -> Settings {
    Settings {
        rate_in: SLOW,
        rate_out: SLOW,
        ..Settings::default()
    }
}

/// 1000 bytes.
fn packet(source: &str, destination: &str) -> Vec<u8> {
    udp(source, destination, &[7; 972])
}

fn set_limits(gateway: &Gateway, rate_in: u64, rate_out: u64) {
    gateway.order(ToEdge::SetLimits {
        session: SESSION,
        rate_in,
        rate_out,
        flows: FlowAudit::None,
    });
    // What is put into the TUN next must not overtake the order.
    gateway.sync();
}

#[test]
fn a_session_gets_its_burst_and_then_its_rate() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_esp(limited());
    let down = packet(HOST4, CLIENT4);
    let mut put = |count, passing| {
        (0..count).for_each(|_| gateway.put(&down));
        (0..passing).for_each(|_| assert_eq!(client.esp().unwrap(), down));
        gateway.sync();
        client.assert_no_udp();
    };
    put(BURST + 5, BURST);
    gateway.wait_counter("rate", 5);
    gateway.advance(2000);
    put(3, 2);
    set_limits(&gateway, 0, 0);
    put(BURST, BURST);
    set_limits(&gateway, 0, 1);
    put(BURST + 1, BURST);
    gateway.wait_counter("rate", 7);
    let traffic = gateway.session().traffic;
    assert_eq!(traffic.packets_out, 3 * BURST as u64 + 2);
    assert_eq!(traffic.dropped, 0, "no rule refused anything");
}

#[test]
fn both_transports_and_directions_have_their_own() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(limited());
    for _ in 0..BURST + 5 {
        client.send_packet(&packet(CLIENT4, HOST4));
    }
    gateway.wait_counter("rate", 5);
    assert_eq!(gateway.session().traffic.packets_in, BURST as u64);
    gateway.put(&packet(HOST4, CLIENT4));
    assert_eq!(client.frame().body.len(), 1000);
    assert_eq!(gateway.counter("rate"), 5);
}

#[test]
fn of_a_super_packet_passes_what_fits() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_esp(limited());
    let (header, packet, payload) = super_packet_between(HOST4, CLIENT4, 40, 1360);
    gateway.put_super(header, &packet);
    gateway.put_super(header, &packet);
    let mut received = Vec::new();
    // 64 KiB hold 46 packets of 1400 bytes.
    for _ in 0..46 {
        received.extend(client.esp().unwrap().split_off(40));
    }
    assert_eq!(received, [&payload[..], &payload[..6 * 1360]].concat());
    gateway.wait_counter("rate", 34);
    assert_eq!(gateway.session().traffic.packets_out, 46);
    client.assert_no_udp();
}

#[test]
fn a_new_generation_is_no_fresh_burst_and_other_sessions_have_their_own() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(limited());
    for _ in 0..BURST {
        client.send_packet(&packet(CLIENT4, HOST4));
    }
    while gateway.session().traffic.packets_in < BURST as u64 {
        gateway.sync();
    }
    let (mut client, _) = gateway.on_tls(Settings {
        generation: 2,
        ..limited()
    });
    client.send_packet(&packet(CLIENT4, HOST4));
    gateway.wait_counter("rate", 1);
    gateway.open(Settings {
        session: SESSION + 1,
        address4: vec![10, 88, 0, 11],
        address6: vec![],
        rules: vec![allow(&[0; 4])],
        esp_in: None,
        ..limited()
    });
    let (mut other, mut adopted) = gateway.connect();
    adopted.session = SESSION + 1;
    gateway.attach(adopted);
    assert_eq!(other.frame().kind, 0x8f);
    other.send_packet(&packet("10.88.0.11:4000", HOST4));
    let of_the_other = |gateway: &Gateway| {
        let sessions = gateway.sessions();
        let other = sessions.iter().find(|state| state.session != SESSION);
        other.unwrap().traffic.packets_in
    };
    while of_the_other(&gateway) == 0 {
        gateway.sync();
    }
    assert_eq!(gateway.counter("rate"), 1);
}
