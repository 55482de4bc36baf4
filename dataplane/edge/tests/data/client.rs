//! The client's ends: IF-T over TLS over TCP, and ESP in UDP.

use std::io::{BufRead, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;

use lockgate_dataplane::esp::{IPV4, IPV6, OpenKey, SealKey};
use lockgate_dataplane::if_t::{HEADER, encode_header, next_frame};
use lockgate_dataplane::link::Sa;
use rustls::{ClientConnection, StreamOwned};

use crate::gateway::{DEADLINE, IDENTITY};

pub struct Client {
    tls: StreamOwned<ClientConnection, TcpStream>,
    received: Vec<u8>,
    sequence: u32,
    pub udp: UdpSocket,
    seal: Option<SealKey>,
    open: Option<OpenKey>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u32,
    pub sequence: u32,
    pub body: Vec<u8>,
}

fn udp() -> UdpSocket {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(DEADLINE)).unwrap();
    udp
}

impl Client {
    pub fn connect(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let tls =
            ClientConnection::new(Arc::clone(&IDENTITY.client), "gw.test".try_into().unwrap())
                .unwrap();
        let mut tls = StreamOwned::new(tls, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).unwrap();
        }
        Self {
            tls,
            received: Vec::new(),
            sequence: 0,
            udp: udp(),
            seal: None,
            open: None,
        }
    }

    pub fn encode(&mut self, kind: u32, body: &[u8]) -> Vec<u8> {
        let mut frame =
            encode_header(0xa4c, kind, (HEADER + body.len()) as u32, self.sequence).to_vec();
        frame.extend(body);
        self.sequence += 1;
        frame
    }

    /// Plaintext in one record.
    pub fn write(&mut self, plaintext: &[u8]) {
        self.tls.write_all(plaintext).unwrap();
        self.tls.flush().unwrap();
    }

    pub fn send(&mut self, kind: u32, body: &[u8]) {
        let frame = self.encode(kind, body);
        self.write(&frame);
    }

    pub fn send_packet(&mut self, packet: &[u8]) {
        self.send(4, packet);
    }

    /// Takes the plaintext of one record; false at the end of the stream.
    fn record(&mut self) -> bool {
        let length = match self.tls.fill_buf() {
            Ok([]) | Err(_) => return false,
            Ok(record) => {
                self.received.extend(record);
                record.len()
            }
        };
        self.tls.consume(length);
        true
    }

    /// The plaintext of one record; `None` at the end of the stream.
    pub fn plaintext(&mut self) -> Option<Vec<u8>> {
        assert!(self.received.is_empty(), "frames have been read");
        self.record().then(|| std::mem::take(&mut self.received))
    }

    /// The next frame; `None` at the end of the stream. Panics when a record cuts a frame.
    pub fn next(&mut self) -> Option<Frame> {
        if self.received.is_empty() && !self.record() {
            return None;
        }
        let (header, body) = next_frame(&self.received, 16_384)
            .unwrap()
            .expect("a record has cut a frame");
        let frame = Frame {
            kind: header.kind,
            sequence: header.sequence,
            body: self.received[body.clone()].to_vec(),
        };
        self.received.drain(..body.end);
        Some(frame)
    }

    pub fn frame(&mut self) -> Frame {
        self.next().expect("the connection ended")
    }

    /// Whether bytes beyond the frames taken so far have come already.
    pub fn has_more(&self) -> bool {
        !self.received.is_empty()
    }

    /// Ends the connection the orderly way.
    pub fn close(mut self) {
        self.tls.conn.send_close_notify();
        let _ = self.tls.flush();
    }

    pub fn install(&mut self, seal: &Sa, open: &Sa) {
        self.seal = Some(SealKey::new(seal, [9; 32]).unwrap());
        self.open = Some(OpenKey::new(open).unwrap());
    }

    /// Seals as the client would.
    pub fn sealed(&mut self, payload: &[u8]) -> Vec<u8> {
        let next_header = if payload.first().is_some_and(|first| first >> 4 == 6) {
            IPV6
        } else {
            IPV4
        };
        let key = self.seal.as_mut().unwrap();
        let mut buffer = vec![0; key.sealed_len(payload.len())];
        let at = key.headroom();
        buffer[at..at + payload.len()].copy_from_slice(payload);
        key.seal(&mut buffer, payload.len(), next_header).unwrap();
        buffer
    }

    pub fn send_esp(&mut self, to: SocketAddr, payload: &[u8]) {
        let datagram = self.sealed(payload);
        self.udp.send_to(&datagram, to).unwrap();
    }

    pub fn probe(&mut self, to: SocketAddr) {
        self.send_esp(to, &[0]);
    }

    /// The payload of the next ESP packet; `None` when it is not for these keys.
    pub fn esp(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        let length = self.udp.recv(&mut buffer).expect("no ESP packet came");
        let opened = self
            .open
            .as_mut()
            .unwrap()
            .open(&mut buffer[..length])
            .ok()?;
        Some(buffer[opened.range].to_vec())
    }

    /// Nothing has come over UDP.
    pub fn assert_no_udp(&self) {
        self.udp.set_nonblocking(true).unwrap();
        assert!(self.udp.recv(&mut [0; 100]).is_err(), "an ESP packet came");
        self.udp.set_nonblocking(false).unwrap();
    }

    /// Goes on from another address.
    pub fn move_udp(&mut self) -> UdpSocket {
        std::mem::replace(&mut self.udp, udp())
    }
}
