//! Packets both ways, over TLS and over ESP.

use lockgate_dataplane::vnet::GSO_TCPV4;
use lockgate_edge::data::ToData;

use crate::gateway::{Gateway, Settings};
use crate::packets::{
    CLIENT4, CLIENT6, HOST4, HOST6, checksum_holds, super_packet_between, syn, tcp, udp,
};

#[test]
fn tls_carries_both_families_both_ways() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(Settings::default());
    for (own, host) in [(CLIENT4, HOST4), (CLIENT6, HOST6)] {
        let (there, back) = (udp(own, host, b"question"), udp(host, own, b"answer"));
        client.send_packet(&there);
        assert_eq!(gateway.take().1, there);
        gateway.put(&back);
        let frame = client.frame();
        assert_eq!((frame.kind, frame.body), (4, back));
    }
    let traffic = gateway.session().traffic;
    assert_eq!(
        (traffic.packets_in, traffic.packets_out, traffic.dropped),
        (2, 2, 0)
    );
    assert_eq!(traffic.bytes_in, (28 + 48 + 2 * b"question".len()) as u64);
}

#[test]
fn esp_carries_packets_both_ways() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_esp(Settings::default());
    let (there, back) = (
        udp(CLIENT4, HOST4, b"question"),
        udp(HOST4, CLIENT4, b"answer"),
    );
    client.send_esp(gateway.udp, &there);
    assert_eq!(gateway.take().1, there);
    gateway.put(&back);
    assert_eq!(client.esp().unwrap(), back);
}

#[test]
fn a_super_packet_leaves_as_single_packets_over_esp() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_esp(Settings::default());
    let (header, packet, payload) = super_packet_between(HOST4, CLIENT4, 40, 1360);
    gateway.put_super(header, &packet);
    let mut received: Vec<u8> = Vec::new();
    for _ in 0..40 {
        let packet = client.esp().unwrap();
        assert!(checksum_holds(&packet));
        received.extend(&packet[40..]);
    }
    assert_eq!(received, payload);
}

#[test]
fn a_super_packet_leaves_in_few_records_over_tls() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(Settings::default());
    let (header, packet, payload) = super_packet_between(HOST4, CLIENT4, 40, 1360);
    gateway.put_super(header, &packet);
    let (mut received, mut shared, mut sequence) = (Vec::<u8>::new(), 0, None);
    for _ in 0..40 {
        // `frame` checks that no record cuts a frame.
        let frame = client.frame();
        assert!(sequence.is_none_or(|last| frame.sequence == last + 1));
        sequence = Some(frame.sequence);
        assert!(checksum_holds(&frame.body));
        received.extend(&frame.body[40..]);
        shared += usize::from(client.has_more());
    }
    assert_eq!(received, payload);
    assert_eq!(shared, 40 - 4, "eleven frames of 1416 bytes fit a record");
}

#[test]
fn what_one_flow_sends_is_glued_together_for_the_kernel() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(Settings::default());
    let mut record = Vec::new();
    for piece in 0..5u32 {
        let packet = tcp(
            CLIENT4,
            HOST4,
            1000 + piece * 1000,
            &[piece as u8; 1000],
            false,
        );
        record.extend(client.encode(4, &packet));
    }
    client.write(&record);
    let (header, packet) = gateway.take();
    assert_eq!((header.gso_type, header.gso_size), (GSO_TCPV4, 1000));
    assert_eq!(packet.len(), 40 + 5 * 1000);
}

#[test]
fn frames_may_be_cut_anywhere_by_the_client() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(Settings::default());
    // Different ports, or they might be glued together.
    let packets = [1, 2, 3].map(|port| udp(CLIENT4, &format!("10.77.0.1:{port}"), &[7; 600]));
    let stream = packets
        .each_ref()
        .map(|packet| client.encode(4, packet))
        .concat();
    for piece in stream.chunks(250) {
        client.write(piece);
    }
    for packet in packets {
        assert_eq!(gateway.take().1, packet);
    }
}

#[test]
fn what_the_front_had_read_already_is_not_lost() {
    let mut gateway = Gateway::start();
    gateway.open(Settings::default());
    let (mut client, mut adopted) = gateway.connect();
    let packets = [1, 2].map(|port| udp(CLIENT4, &format!("10.77.0.1:{port}"), b"early"));
    let frames = packets
        .each_ref()
        .map(|packet| client.encode(4, packet))
        .concat();
    let (first, second) = frames.split_at(packets[0].len() + 30);
    adopted.leftover = first.to_vec();
    gateway.attach(adopted);
    client.write(second);
    for packet in packets {
        assert_eq!(gateway.take().1, packet);
    }
}

#[test]
fn messages_wait_for_the_hand_over_and_data_for_the_end_of_the_configuration() {
    let mut gateway = Gateway::start();
    gateway.open(Settings::default());
    let (mut client, adopted) = gateway.connect();
    let conn = adopted.conn;
    gateway.order(lockgate_dataplane::link::ToEdge::Attach {
        conn,
        session: adopted.session,
    });
    gateway.frame(conn, 1, b"configuration");
    gateway.handle.send(ToData::Adopt(Box::new(adopted)));
    gateway.sync();
    gateway.put(&udp(HOST4, CLIENT4, b"too early"));
    gateway.wait_counter("no-transport", 1);
    gateway.frame(conn, 0x8f, &[0; 4]);
    gateway.sync();
    let packet = udp(HOST4, CLIENT4, b"now");
    gateway.put(&packet);
    let frames = [client.frame(), client.frame(), client.frame()];
    assert_eq!(frames.each_ref().map(|frame| frame.kind), [1, 0x8f, 4]);
    assert_eq!(
        frames.each_ref().map(|frame| frame.sequence),
        [500, 501, 502]
    );
    assert_eq!(frames[0].body, b"configuration");
    assert_eq!(frames[2].body, packet);
}

#[test]
fn connections_learn_the_tunnels_segment_size() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(Settings::default());
    let mss =
        |packet: &[u8]| u16::from_be_bytes([packet[packet.len() - 2], packet[packet.len() - 1]]);
    client.send_packet(&syn(CLIENT4, HOST4, 1460));
    let packet = gateway.take().1;
    assert_eq!(mss(&packet), 1360);
    assert!(checksum_holds(&packet));
    gateway.put(&syn(HOST6, CLIENT6, 1440));
    let packet = client.frame().body;
    assert_eq!(mss(&packet), 1340);
    assert!(checksum_holds(&packet));
}
