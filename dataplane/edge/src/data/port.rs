//! A UDP socket that carries ESP: batches in (GRO) and out (GSO).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery};

/// Buffers offered to the kernel in one receive; each takes up to 64 datagrams of one sender.
pub(super) const RECEIVE_BUFFERS: usize = 8;
/// Bytes of each: the kernel merges up to the largest UDP payload.
pub(super) const RECEIVE_BUFFER: usize = 1 << 16;
/// Most datagrams in one send (UDP_MAX_SEGMENTS of the kernel).
pub(super) const MAX_SEGMENTS: usize = 64;
/// Most bytes in one send: the UDP length field ends at 65,507 over IPv4, less over IPv6.
pub(super) const MAX_BATCH: usize = 65_000;
/// Socket buffers in bytes; the default of about 200 KiB makes one fast flow collapse.
const SOCKET_BUFFER: usize = 4 << 20;

/// Where a client's UDP packets come from, and where ours to it must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Index of the socket.
    pub(super) port: usize,
    pub(super) address: SocketAddr,
    /// Our address that the client talks to, where the socket itself does not fix it.
    pub(super) local: Option<IpAddr>,
}

impl Peer {
    /// Whether the outer packets are IPv6, looking through mapped addresses.
    pub(super) fn outer_v6(&self) -> bool {
        self.address.ip().to_canonical().is_ipv6()
    }
}

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Done,
    /// The socket takes nothing at the moment; nothing was sent.
    Blocked,
    /// Some or all of it is lost.
    Failed,
}

#[derive(Debug)]
pub(super) struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
    /// Bound to no address: answers must name theirs.
    wildcard: bool,
    /// The kernel cuts batches itself.
    offload: bool,
}

impl Port {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = prepare(&socket)?;
        let wildcard = socket.local_addr()?.ip().is_unspecified();
        let offload = state.max_gso_segments() > 1;
        Ok(Self {
            socket,
            state,
            wildcard,
            offload,
        })
    }

    /// Receives up to `metas.len()` batches into consecutive `RECEIVE_BUFFER`s of `space`.
    pub(super) fn receive(
        &self,
        space: &mut [u8],
        metas: &mut [RecvMeta; RECEIVE_BUFFERS],
    ) -> io::Result<usize> {
        let mut chunks = space.chunks_exact_mut(RECEIVE_BUFFER);
        let mut buffers: [IoSliceMut<'_>; RECEIVE_BUFFERS] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        self.state
            .recv(UdpSockRef::from(&self.socket), &mut buffers, metas)
    }

    /// The sender of a batch as a peer to answer.
    pub(super) fn peer(&self, port: usize, meta: &RecvMeta) -> Peer {
        Peer {
            port,
            address: meta.addr,
            local: if self.wildcard { meta.dst_ip } else { None },
        }
    }

    /// Sends datagrams of `segment` bytes that lie one after the other; the last may be shorter.
    pub(super) fn send(&self, peer: &Peer, contents: &[u8], segment: usize) -> Sent {
        if contents.len() > segment && self.state.max_gso_segments() > 1 {
            match self.transmit(peer, contents, Some(segment)) {
                Ok(()) => return Sent::Done,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked,
                // An interface that cannot do it, or a path with a smaller MTU: try one by one.
                Err(_) => {}
            }
        }
        let mut sent = Sent::Done;
        for (at, datagram) in contents.chunks(segment.max(1)).enumerate() {
            match self.transmit(peer, datagram, None) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && at == 0 => {
                    return Sent::Blocked;
                }
                Err(_) => sent = Sent::Failed,
            }
        }
        sent
    }

    fn transmit(
        &self,
        peer: &Peer,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination: peer.address,
            ecn: None,
            contents,
            segment_size,
            src_ip: peer.local,
        };
        self.state
            .try_send(UdpSockRef::from(&self.socket), &transmit)
    }

    /// Gives offloading another chance: one bad route switches it off for the whole socket.
    pub(super) fn retry_offload(&mut self) {
        if self.offload
            && self.state.max_gso_segments() == 1
            && let Ok(state) = prepare(&self.socket)
        {
            self.state = state;
        }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn prepare(socket: &UdpSocket) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(UdpSockRef::from(socket))?;
    // Only the administrator of the network may exceed the system's limit. Whoever opened the
    // socket may have done that: asking again without the right would make the buffer smaller.
    if sockopt::set_socket_recv_buffer_size_force(socket, SOCKET_BUFFER).is_err()
        && sockopt::socket_recv_buffer_size(socket)? < SOCKET_BUFFER
    {
        sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER)?;
    }
    if sockopt::set_socket_send_buffer_size_force(socket, SOCKET_BUFFER).is_err()
        && sockopt::socket_send_buffer_size(socket)? < SOCKET_BUFFER
    {
        sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER)?;
    }
    if socket.local_addr()?.is_ipv4() {
        // No "don't fragment", and no belief in ICMP that anybody may have made up: a path that is
        // too narrow for a full packet costs fragments instead of the tunnel.
        sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::OMIT)?;
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn batches_arrive_as_single_datagrams() {
        let port = Port::new(UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let here = port.socket.local_addr().unwrap().port();
        client.send_to(b"hello", ("127.0.0.3", here)).unwrap();
        let mut space = vec![0; RECEIVE_BUFFERS * RECEIVE_BUFFER];
        let mut metas = [RecvMeta::default(); RECEIVE_BUFFERS];
        assert_eq!(port.receive(&mut space, &mut metas).unwrap(), 1);
        let peer = port.peer(0, &metas[0]);
        assert_eq!(peer.address, client.local_addr().unwrap());
        assert_eq!(peer.local, Some("127.0.0.3".parse().unwrap()));
        assert!(!peer.outer_v6());

        assert_eq!(port.send(&peer, &[7; 1000], 300), Sent::Done);
        let mut buffer = [0; 2000];
        for length in [300, 300, 300, 100] {
            let (read, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!(read, length);
            assert_eq!(
                from.ip(),
                "127.0.0.3".parse::<IpAddr>().unwrap(),
                "answers come from where the client sent to"
            );
        }
    }

    #[test]
    fn nothing_to_receive_is_no_failure() {
        let port = Port::new(UdpSocket::bind("[::1]:0").unwrap()).unwrap();
        let mut metas = [RecvMeta::default(); RECEIVE_BUFFERS];
        let error = port
            .receive(&mut vec![0; RECEIVE_BUFFERS * RECEIVE_BUFFER], &mut metas)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
