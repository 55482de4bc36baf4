//! Packets cost no memory: in the steady state nothing here allocates.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use lockgate_dataplane::coalesce::Coalescer;
use lockgate_dataplane::esp::{IPV4, OpenKey, SealKey};
use lockgate_dataplane::gate::{Gate, Room};
use lockgate_dataplane::link::{FlowAudit, Rule, Sa, Secret, Suite};
use lockgate_dataplane::segment::{Segments, VnetHeader};
use lockgate_dataplane::throttle::Throttle;
use lockgate_dataplane::vnet::{GSO_TCPV4, NEEDS_CSUM};
use lockgate_dataplane::{icmp, mss, probe};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on unchanged to the system's allocator, which keeps the promises of
// the trait; counting touches a constant-initialised thread local without a destructor.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PAYLOAD: usize = 1000;
const PIECES: usize = 20;

/// A TCP super-packet from 10.0.0.1 to 10.0.0.2 as a TUN delivers it.
fn super_packet() -> (VnetHeader, Vec<u8>) {
    let total = 40 + PAYLOAD * PIECES;
    let [high, low] = (total as u16).to_be_bytes();
    let mut packet = vec![
        0x45, 0, high, low, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    packet.extend([0x13, 0x88, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 2, 0]);
    packet.resize(total, 0);
    let header = VnetHeader {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 40,
        gso_size: PAYLOAD as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    (header, packet)
}

#[test]
fn packets_pass_without_an_allocation() {
    for suite in [Suite::Aes256Gcm, Suite::Aes128CbcSha1] {
        let sa = Sa {
            spi: 4711,
            suite,
            esn: true,
            secret: Secret((0..64).collect()),
        };
        let mut sealer = SealKey::new(&sa, [7; 32]).unwrap();
        let mut opener = OpenKey::new(&sa).unwrap();
        let rule = Rule {
            allow: true,
            protocol: None,
            address: vec![0; 4],
            prefix: 0,
            port_low: 0,
            port_high: u16::MAX,
            reserved: false,
        };
        let own = [10, 0, 0, 1].into();
        let mut gate = Gate::new(Some(own), None, Arc::from([]), 1, &[rule]).unwrap();
        gate.record_flows(FlowAudit::All, &Room::new(1));
        let mut throttle = Throttle::new(u64::MAX, 0).unwrap();
        let mut glue = Coalescer::new();
        let (header, packet) = super_packet();
        let mut packet = packet;
        let each = sealer.sealed_len(40 + PAYLOAD);
        let mut sealed = vec![0; each * PIECES];
        let mut turn = |now: u64| {
            let length = gate.outbound(&packet, now).unwrap();
            assert!(throttle.passes(length, now));
            mss::clamp(&mut packet[..length], 1400, true);
            let segments = Segments::new(&header, &mut packet).unwrap();
            let start = sealer.headroom();
            let mut lengths = [0; PIECES];
            for (index, length) in lengths.iter_mut().enumerate() {
                *length = segments.write(index, &mut sealed[index * each + start..]);
            }
            sealer.seal_batch(&mut sealed, &lengths, IPV4).unwrap();
            for index in 0..PIECES {
                let datagram = &mut sealed[index * each..(index + 1) * each];
                let opened = opener.open(datagram).unwrap();
                let range = index * each + opened.range.start..index * each + opened.range.end;
                assert_eq!(probe::parse(&sealed[range.clone()]), None);
                gate.outbound(&sealed[range.clone()], now).unwrap();
                assert!(glue.offer(&sealed, range));
            }
            assert!(glue.finish(&mut sealed).is_some());
            assert!(icmp::too_big(&packet, 900, &mut [0; icmp::LONGEST]).is_some());
        };
        turn(0); // remembers the flow
        let before = COUNT.with(Cell::get);
        for now in 1..20 {
            turn(now);
        }
        assert_eq!(COUNT.with(Cell::get) - before, 0, "{suite:?}");
    }
}
