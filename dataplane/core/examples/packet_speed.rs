//! Nanoseconds per 1400-byte TCP packet for everything but ESP: `cargo run --release --example packet_speed`.

use lockgate_dataplane::coalesce::Coalescer;
use lockgate_dataplane::gate::{Gate, Room};
use lockgate_dataplane::link::{FlowAudit, Rule};
use lockgate_dataplane::mss;
use lockgate_dataplane::segment::{Segments, VnetHeader};
use lockgate_dataplane::vnet::{GSO_TCPV4, NEEDS_CSUM};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PAYLOAD: usize = 1360;
const PACKET: usize = 40 + PAYLOAD;
/// Packets of one super-packet, super-packets per round, and how many rounds are tried.
const SEGMENTS: usize = 46;
const REPEAT: usize = 50;
const ROUNDS: usize = 50;

fn main() {
    let mut whole = super_packet();
    let vnet = VnetHeader {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 40,
        gso_size: PAYLOAD as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    let segments = Segments::new(&vnet, &mut whole).expect("the header describes the packet");
    let mut packets = vec![0; segments.count() * PACKET];
    report("segment", || {
        for (index, out) in packets.chunks_mut(PACKET).enumerate() {
            black_box(segments.write(index, out));
        }
    });
    let any = Rule {
        allow: true,
        protocol: None,
        address: vec![0; 4],
        prefix: 0,
        port_low: 0,
        port_high: u16::MAX,
        reserved: false,
    };
    let own = [10, 0, 0, 1].into();
    let mut gate = Gate::new(Some(own), None, Arc::from([]), 1, &[any]).expect("a rule");
    report("gate", || {
        for packet in packets.chunks(PACKET) {
            black_box(gate.outbound(packet, 0).expect("everything is allowed"));
        }
    });
    gate.record_flows(FlowAudit::All, &Room::new(1));
    report("recorded", || {
        for packet in packets.chunks(PACKET) {
            black_box(gate.outbound(packet, 0).expect("everything is allowed"));
        }
    });
    report("mss", || {
        for packet in packets.chunks_mut(PACKET) {
            mss::clamp(packet, 1400, false);
        }
    });
    let mut coalescer = Coalescer::new();
    let mut fresh = packets.clone();
    report("coalesce", || {
        // Only the headers of the first packet are rewritten.
        if let (Some(to), Some(from)) = (fresh.get_mut(..40), packets.get(..40)) {
            to.copy_from_slice(from);
        }
        for index in 0..SEGMENTS {
            assert!(coalescer.offer(&fresh, index * PACKET..(index + 1) * PACKET));
        }
        black_box(coalescer.finish(&mut fresh));
    });
}

fn report(what: &str, mut once: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..REPEAT {
            once();
        }
        best = best.min(start.elapsed());
    }
    println!(
        "{what:<10}{:>6} ns",
        best.as_nanos() / (REPEAT * SEGMENTS) as u128
    );
}

/// A TCP segment of [`SEGMENTS`] times [`PAYLOAD`] bytes, as a TUN with offloads delivers it.
fn super_packet() -> Vec<u8> {
    let total = (40 + SEGMENTS * PAYLOAD) as u16;
    let [high, low] = total.to_be_bytes();
    let mut packet = vec![
        0x45, 0, high, low, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    packet.extend([
        0x13, 0x88, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 2, 0, 0, 0, 0, 0,
    ]);
    packet.resize(usize::from(total), 0x5a);
    packet
}
