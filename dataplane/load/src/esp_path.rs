//! ESP in UDP, client side: sealing, opening and probing over one socket.

use std::io;
use std::net::SocketAddr;

use aws_lc_rs::rand;
use lockgate_dataplane::esp::{self, OpenKey, SealKey};
use lockgate_dataplane::link::{Sa, Secret, Suite};
use tokio::net::UdpSocket;

use crate::settings::{Keys, SECRET};

/// Largest datagram taken.
const DATAGRAM: usize = 2048;
/// Room for the ESP header, padding and ICV around a payload.
const OVERHEAD: usize = 64;

/// What a datagram from the gateway was.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The answer to a probe.
    Probe,
    Packet(Vec<u8>),
    /// Not ours, not authentic or not whole.
    Refused(&'static str),
}

/// Both directions of ESP with one gateway.
pub struct EspPath {
    socket: UdpSocket,
    seal: SealKey,
    open: OpenKey,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for EspPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EspPath({:?})", self.socket)
    }
}

/// The client's half of a key exchange: random keys under a random SPI outside the reserved range.
pub fn make_keys() -> io::Result<Keys> {
    let mut keys = Keys {
        spi: 0,
        secret: [0; SECRET],
    };
    let mut spi = [0; 4];
    rand::fill(&mut spi)
        .and_then(|()| rand::fill(&mut keys.secret))
        .map_err(io::Error::other)?;
    keys.spi = u32::from_be_bytes(spi) | 0x100;
    Ok(keys)
}

impl EspPath {
    /// Connects a socket from `local` (port 0) and installs both keys.
    pub async fn new(
        local: SocketAddr,
        gateway: SocketAddr,
        suite: Suite,
        ours: &Keys,
        gateways: &Keys,
    ) -> io::Result<EspPath> {
        let socket = UdpSocket::bind(local).await?;
        socket.connect(gateway).await?;
        let (seal, open) = directions(suite, ours, gateways)?;
        Ok(EspPath {
            socket,
            seal,
            open,
            buffer: vec![0; DATAGRAM],
        })
    }

    /// Switches to the keys of a rekey.
    pub fn rekey(&mut self, suite: Suite, ours: &Keys, gateways: &Keys) -> io::Result<()> {
        (self.seal, self.open) = directions(suite, ours, gateways)?;
        Ok(())
    }

    /// Sends the one-byte probe.
    pub async fn probe(&mut self) -> io::Result<()> {
        let datagram = self.seal(esp::PROBE, esp::IPV4)?;
        self.send(&datagram).await
    }

    /// Sends one inner packet.
    pub async fn send_packet(&mut self, packet: &[u8]) -> io::Result<()> {
        let ipv6 = packet.first().is_some_and(|first| first >> 4 == 6);
        let datagram = self.seal(packet, if ipv6 { esp::IPV6 } else { esp::IPV4 })?;
        self.send(&datagram).await
    }

    /// A sealed datagram, to be sent now or again later.
    pub fn seal(&mut self, payload: &[u8], next_header: u8) -> io::Result<Vec<u8>> {
        let start = self.seal.headroom();
        let mut datagram = vec![
            0;
            self.seal
                .sealed_len(payload.len())
                .max(start + payload.len() + OVERHEAD)
        ];
        let Some(space) = datagram.get_mut(start..start + payload.len()) else {
            return Err(io::Error::other("no room to seal"));
        };
        space.copy_from_slice(payload);
        let length = self.seal.seal(&mut datagram, payload.len(), next_header);
        datagram.truncate(length.map_err(|error| io::Error::other(format!("seal: {error:?}")))?);
        Ok(datagram)
    }

    pub async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        match self.socket.send(datagram).await {
            // An ICMP error of an earlier datagram: the port is not open (yet).
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Waits for the next datagram. Cancel-safe.
    pub async fn receive(&mut self) -> io::Result<Heard> {
        let length = match self.socket.recv(&mut self.buffer).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Ok(Heard::Refused("icmp"));
            }
            other => other?,
        };
        let Some(datagram) = self.buffer.get_mut(..length) else {
            return Ok(Heard::Refused("length"));
        };
        let range = match self.open.open(datagram) {
            Ok(opened) => opened.range,
            Err(discard) => return Ok(Heard::Refused(discard.name())),
        };
        Ok(match datagram.get(range) {
            Some(payload) if payload == esp::PROBE => Heard::Probe,
            Some(payload) => Heard::Packet(payload.to_vec()),
            None => Heard::Refused("length"),
        })
    }
}

/// Packets to the gateway use its keys, packets from it ours.
fn directions(suite: Suite, ours: &Keys, gateways: &Keys) -> io::Result<(SealKey, OpenKey)> {
    let sa = |keys: &Keys| Sa {
        spi: keys.spi,
        suite,
        esn: false,
        secret: Secret(keys.secret.to_vec()),
    };
    let mut seed = [0; 32];
    rand::fill(&mut seed).map_err(io::Error::other)?;
    let broken = |error| io::Error::other(format!("ESP keys: {error:?}"));
    Ok((
        SealKey::new(&sa(gateways), seed).map_err(broken)?,
        OpenKey::new(&sa(ours)).map_err(broken)?,
    ))
}
