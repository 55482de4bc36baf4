//! Descriptors from the service: each must be what its message says, or the link ends.

use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, fstat, major, minor};
use rustix::net::{AddressFamily, SocketType, getpeername, sockopt};

use crate::link::codec::LinkError;

/// /dev/net/tun (Linux, Documentation/admin-guide/devices.txt).
const TUN: (u32, u32) = (10, 200);

/// A connected TCP socket, made nonblocking.
pub fn tcp(descriptor: OwnedFd) -> Result<TcpStream, LinkError> {
    let wrong = LinkError::Descriptor("the descriptor of dial is no connected TCP socket");
    if !is_connected(&descriptor, SocketType::STREAM) {
        return Err(wrong);
    }
    let socket = TcpStream::from(descriptor);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A connected UDP socket, made nonblocking.
pub fn udp(descriptor: OwnedFd) -> Result<UdpSocket, LinkError> {
    let wrong = LinkError::Descriptor("the descriptor of set_port is no connected UDP socket");
    if !is_connected(&descriptor, SocketType::DGRAM) {
        return Err(wrong);
    }
    let socket = UdpSocket::from(descriptor);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A TUN device.
pub fn tun(descriptor: OwnedFd) -> Result<OwnedFd, LinkError> {
    let found = fstat(&descriptor).map_err(std::io::Error::from)?;
    let is_device = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
    match is_device && (major(found.st_rdev), minor(found.st_rdev)) == TUN {
        true => Ok(descriptor),
        false => Err(LinkError::Descriptor(
            "the descriptor of set_tun is no TUN device",
        )),
    }
}

/// An Internet socket of this type that has a peer.
fn is_connected(descriptor: impl AsFd, wanted: SocketType) -> bool {
    let descriptor = descriptor.as_fd();
    let internet = [AddressFamily::INET, AddressFamily::INET6];
    sockopt::socket_type(descriptor) == Ok(wanted)
        && sockopt::socket_domain(descriptor).is_ok_and(|family| internet.contains(&family))
        && getpeername(descriptor).is_ok_and(|peer| peer.is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn every_descriptor_must_be_what_its_message_says() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let unconnected = UdpSocket::bind("127.0.0.1:0").unwrap();
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        connected
            .connect(unconnected.local_addr().unwrap())
            .unwrap();
        let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let file = tempfile::tempfile().unwrap();
        let rows: Vec<(&str, OwnedFd, [bool; 3])> = vec![
            ("a TCP connection", stream.into(), [true, false, false]),
            ("a listener", listener.into(), [false; 3]),
            ("a UDP connection", connected.into(), [false, true, false]),
            ("a UDP socket", unconnected.into(), [false; 3]),
            ("a Unix connection", unix.into(), [false; 3]),
            ("another device", null.into(), [false; 3]),
            ("a file", file.into(), [false; 3]),
        ];
        for (name, descriptor, wanted) in rows {
            let copy = || descriptor.try_clone().unwrap();
            let found = [
                tcp(copy()).is_ok(),
                udp(copy()).is_ok(),
                tun(copy()).is_ok(),
            ];
            assert_eq!(found, wanted, "{name}");
        }
        // A container may have no such device.
        if let Ok(device) = std::fs::File::open("/dev/net/tun") {
            let device = OwnedFd::from(device);
            assert!(tcp(device.try_clone().unwrap()).is_err());
            tun(device).unwrap();
        }
    }
}
