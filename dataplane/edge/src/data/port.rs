//! A UDP socket that carries ESP: batches in (GRO) and out (GSO).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use hashbrown::HashMap;
use lockgate_dataplane::esp::{IPV4, IPV6};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};

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
    /// Number of the socket in [`Ports`].
    pub(super) port: usize,
    pub(super) address: SocketAddr,
    /// Our address that the client talks to, where the socket itself does not fix it.
    pub(super) local: Option<IpAddr>,
}

impl Peer {
    /// Next header of a probe of ours: the outer version.
    pub(super) fn next_header(&self) -> u8 {
        if self.outer_v6() { IPV6 } else { IPV4 }
    }

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
    /// Some or all of it is lost, because it was too large to be sent whole.
    TooLarge,
}

/// The sockets in use. Numbers are never used again, so that a packet that waits for a socket
/// cannot leave by another one.
#[derive(Debug, Default)]
pub(super) struct Ports {
    ports: HashMap<usize, Port>,
    next: usize,
}

impl Ports {
    pub(super) fn insert(&mut self, port: Port) -> usize {
        let number = self.next;
        self.next += 1;
        self.ports.insert(number, port);
        number
    }

    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<&Port> {
        self.ports.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Port> {
        self.ports.get_mut(&number)
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<Port> {
        self.ports.remove(&number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Port)> {
        self.ports.iter().map(|(number, port)| (*number, port))
    }

    /// See [`Port::retry_offload`].
    pub(super) fn retry_offload(&mut self) {
        self.ports.values_mut().for_each(Port::retry_offload);
    }
}

#[derive(Debug)]
pub(super) struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
    /// Bound to no address: answers must name theirs.
    wildcard: bool,
    /// The kernel cuts batches itself.
    offload: bool,
    /// What is too large for the path is sent in fragments, instead of being refused or lost.
    may_fragment: bool,
}

impl Port {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = prepare(&socket, true)?;
        let wildcard = socket.local_addr()?.ip().is_unspecified();
        let offload = state.max_gso_segments() > 1;
        Ok(Self {
            socket,
            state,
            wildcard,
            offload,
            may_fragment: true,
        })
    }

    /// The other end of a connected socket as a peer.
    pub(super) fn connected(&self, port: usize) -> io::Result<Peer> {
        Ok(Peer {
            port,
            address: self.socket.peer_addr()?,
            local: None,
        })
    }

    /// Whether what is too large for the path may be sent in fragments.
    pub(super) fn set_may_fragment(&mut self, may_fragment: bool) {
        if self.may_fragment != may_fragment && set_fragments(&self.socket, may_fragment).is_ok() {
            self.may_fragment = may_fragment;
        }
    }

    /// Sends one datagram that may, or may not, be cut on its way, whatever holds for others.
    pub(super) fn send_test(&mut self, peer: &Peer, datagram: &[u8], may_fragment: bool) -> Sent {
        let usual = self.may_fragment;
        self.set_may_fragment(may_fragment);
        let sent = self.send(peer, datagram, datagram.len());
        self.set_may_fragment(usual);
        sent
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
            let mut result = self.transmit(peer, datagram, None);
            if result.as_ref().is_err_and(is_news) {
                result = self.transmit(peer, datagram, None);
            }
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && at == 0 => {
                    return Sent::Blocked;
                }
                Err(error) if is_too_large(&error) => sent = Sent::TooLarge,
                Err(_) if sent == Sent::TooLarge => {}
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
            && let Ok(state) = prepare(&self.socket, self.may_fragment)
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

/// Whether an error tells what became of an earlier datagram, which says nothing about the next.
fn is_news(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

fn prepare(socket: &UdpSocket, may_fragment: bool) -> io::Result<UdpSocketState> {
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
    set_fragments(socket, may_fragment)?;
    Ok(state)
}

/// Lets the kernel, and routers, cut what is too large for the path, or forbids it.
///
/// IPv4: no belief in ICMP, which anybody may have made up. A path that is too narrow for a full
/// packet costs fragments instead of the tunnel, or with the prohibition shows itself by silence.
/// IPv6: no router cuts, so with fragments the kernel must believe what it is told about the path;
/// a lie costs no more than fragments, since nothing below 1280 is believed.
fn set_fragments(socket: &UdpSocket, allowed: bool) -> io::Result<()> {
    // Also for IPv6 sockets, which may carry IPv4.
    let v4 = if allowed {
        Ipv4PathMtuDiscovery::OMIT
    } else {
        Ipv4PathMtuDiscovery::PROBE
    };
    sockopt::set_ip_mtu_discover(socket, v4)?;
    if socket.local_addr()?.is_ipv6() {
        let v6 = if allowed {
            Ipv6PathMtuDiscovery::DONT
        } else {
            Ipv6PathMtuDiscovery::PROBE
        };
        sockopt::set_ipv6_mtu_discover(socket, v6)?;
        // The library switches this on for every socket it sees.
        set_ipv6_dont_fragment(socket, !allowed)?;
    }
    Ok(())
}

fn set_ipv6_dont_fragment(socket: &UdpSocket, on: bool) -> io::Result<()> {
    let value = libc::c_int::from(on);
    // SAFETY: `setsockopt` reads as many bytes at the pointer as it is told, during the call only;
    // both describe `value`, which lives longer. The descriptor is open: it is borrowed.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_DONTFRAG,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
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
