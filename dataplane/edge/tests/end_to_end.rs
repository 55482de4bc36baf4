//! A client's edge and a gateway's, each with its data thread, and packets between their devices.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;
#[path = "data/packets.rs"]
#[allow(dead_code)]
mod packets;

use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use common::client::{ClientEdge, dial, greeted};
use common::{Control, Edge, Options, PATIENCE, soon};
use lockgate_dataplane::link::{FlowAudit, FromEdge, Rule, Sa, Secret, Suite, ToEdge, Transport};
use lockgate_edge::data::{self, DataConfig, DataHandle, Monotonic, Side, ToData};
use lockgate_edge::link::uplink::Uplink;
use packets::{CLIENT4, HOST4};
use tokio::net::UnixDatagram;

/// Bytes before every packet at the device.
const VNET: usize = 10;

/// A device: our end, and the end the data thread reads and writes.
fn device() -> (UnixDatagram, OwnedFd) {
    let (near, far) = std::os::unix::net::UnixDatagram::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    (UnixDatagram::from_std(near).unwrap(), far.into())
}

fn thread(side: Side, tun: Option<OwnedFd>, udp: Vec<UdpSocket>, up: Uplink) -> DataHandle {
    let config = DataConfig {
        side,
        tun,
        tun_takes_udp: false,
        udp,
        reserved: Arc::new([]),
        clock: Box::new(Monotonic::start()),
    };
    data::spawn(config, move |message| up.send(message))
        .unwrap()
        .0
}

fn sa(spi: u32) -> Sa {
    Sa {
        spi,
        suite: Suite::Aes128Gcm,
        esn: true,
        secret: Secret(vec![spi as u8; 20]),
    }
}

fn open_session(session: u64, esp_in: Sa) -> ToEdge {
    ToEdge::OpenSession {
        session,
        generation: 1,
        address4: vec![10, 88, 0, 10],
        address6: vec![],
        mtu: 1400,
        remaining: 600,
        idle: 0,
        fallback: 5,
        revision: 1,
        rule_set: 0,
        rules: vec![Rule {
            allow: true,
            protocol: None,
            address: vec![0; 4],
            prefix: 0,
            port_low: 0,
            port_high: 65535,
            reserved: true,
        }],
        esp_in: Some(esp_in),
        cross_family: false,
        rate_in: 0,
        rate_out: 0,
        flows: FlowAudit::None,
    }
}

/// Sends a packet into one device; it comes out of the other.
async fn cross(from: &UnixDatagram, to: &UnixDatagram, packet: &[u8]) {
    let mut wire = vec![0; VNET];
    wire.extend(packet);
    from.send(&wire).await.unwrap();
    let mut got = vec![0; 2048];
    let length = soon(to.recv(&mut got)).await.unwrap();
    assert_eq!(&got[VNET..length], packet);
}

async fn until_transport(control: &mut Control, wanted: Transport) {
    loop {
        match control.next().await {
            FromEdge::TransportChanged { transport, .. } if transport == wanted => return,
            FromEdge::TransportChanged { .. }
            | FromEdge::Stats { .. }
            | FromEdge::PathMtu { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn packets_cross_two_edges_over_tls_and_over_esp() {
    let (inside, tun) = device();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let esp = udp.local_addr().unwrap();
    let gateway = Edge::start_with(Options::default(), Arc::default(), |up| {
        Arc::new(thread(Side::Gateway, Some(tun), vec![udp], up))
    })
    .await;
    let mut control = greeted(&gateway.link_socket).await;
    let mut threads = None;
    let mut client = ClientEdge::start_on(PATIENCE, Arc::default(), |up| {
        let handle = thread(Side::Client, None, vec![], up);
        threads = Some(handle.clone());
        Arc::new(handle)
    })
    .await;
    // No device of the kernel's here, so it does not come over the link.
    let (outside, tun) = device();
    let order = ToData::Tun {
        fd: tun,
        takes_udp: false,
    };
    assert!(threads.unwrap().send(order));

    client
        .dial(gateway.address, dial(5, &[&gateway.ca], &[]))
        .await;
    let conn = control.opened().await.conn;
    client.dialed().await;
    control.send(&open_session(1, sa(0x1001))).await;
    control.send(&ToEdge::Attach { conn, session: 1 }).await;
    let end_of_configuration = ToEdge::Frame {
        conn,
        vendor: 0xa4c,
        kind: 0x8f,
        body: vec![0; 4],
    };
    control.send(&end_of_configuration).await;
    assert!(matches!(
        client.control.next().await,
        FromEdge::Frame {
            conn: 5,
            kind: 0x8f,
            ..
        }
    ));
    client.control.send(&open_session(77, sa(0x1002))).await;
    let attach = ToEdge::Attach {
        conn: 5,
        session: 77,
    };
    client.control.send(&attach).await;
    until_transport(&mut client.control, Transport::Tls).await;
    let question = packets::udp(CLIENT4, HOST4, b"over TLS");
    cross(&outside, &inside, &question).await;
    cross(
        &inside,
        &outside,
        &packets::udp(HOST4, CLIENT4, b"and back"),
    )
    .await;

    let port = UdpSocket::bind("127.0.0.1:0").unwrap();
    port.connect(esp).unwrap();
    let set_port = ToEdge::SetPort { session: 77 };
    client.control.send_with(&set_port, &[port.as_fd()]).await;
    let keys = |session, sa| ToEdge::InstallEspOut {
        session,
        generation: 1,
        sa,
    };
    control.send(&keys(1, sa(0x1002))).await;
    client.control.send(&keys(77, sa(0x1001))).await;
    let start = ToEdge::StartEsp {
        session: 77,
        extended: true,
    };
    client.control.send(&start).await;
    until_transport(&mut client.control, Transport::Esp).await;
    until_transport(&mut control, Transport::Esp).await;
    cross(
        &outside,
        &inside,
        &packets::udp(CLIENT4, HOST4, b"over ESP"),
    )
    .await;
    cross(
        &inside,
        &outside,
        &packets::udp(HOST4, CLIENT4, b"and back"),
    )
    .await;

    // The gateway ends the connection: the client's service hears of it.
    control.send(&ToEdge::CloseConn { conn }).await;
    loop {
        match client.control.next().await {
            FromEdge::ConnClosed { conn, session, .. } => {
                break assert_eq!((conn, session), (5, 77));
            }
            FromEdge::TransportChanged { .. }
            | FromEdge::Stats { .. }
            | FromEdge::PathMtu { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}
