//! Probes over ESP: asking with them, and answering them.

use lockgate_dataplane::probe::{self, Probe};

use super::esp::EarlyProbe;
use super::path_mtu::Test;
use super::port::{Peer, Ports, Sent};
use super::session::Session;

/// Largest probe that is asked or answered: no tunnel has a larger MTU.
const LONGEST: usize = 9216;
/// Room for one, sealed.
const ROOM: usize = LONGEST + lockgate_dataplane::esp::OVERHEAD;

/// Seals a probe of `length` bytes into `buffer` and returns the datagram.
fn seal<'b>(
    session: &mut Session,
    buffer: &'b mut [u8],
    length: usize,
    mtu: u16,
    next_header: u8,
) -> Option<&'b [u8]> {
    let key = &mut session.esp.outbound.as_mut()?.key;
    let (sealed, start) = (key.sealed_len(length), key.headroom());
    let datagram = buffer.get_mut(..sealed)?;
    probe::write(datagram.get_mut(start..start + length)?, mtu);
    key.seal(datagram, length, next_header).ok()?;
    Some(datagram)
}

/// Asks the gateway whether it is there, or with `test` what passes.
pub(super) fn ask(session: &mut Session, ports: &mut Ports, test: Option<Test>) -> Sent {
    let Some(peer) = session.esp.peer else {
        return Sent::Failed;
    };
    let next_header = peer.next_header();
    let (length, mtu) = test.map_or((1, 0), |test| (usize::from(test.size), test.mtu));
    let mut buffer = [0; ROOM];
    let Some(datagram) = seal(session, &mut buffer, length, mtu, next_header) else {
        return Sent::Failed;
    };
    let Some(port) = ports.get_mut(peer.port) else {
        return Sent::Failed;
    };
    // What is lost is asked again.
    match test {
        Some(test) => port.send_test(&peer, datagram, test.may_fragment),
        None => port.send(&peer, datagram, datagram.len()),
    }
}

/// Answers a client's probe with an equal one. False without keys.
pub(super) fn answer(
    session: &mut Session,
    peer: &Peer,
    next_header: u8,
    probe: Probe,
    ports: &Ports,
) -> bool {
    if session.esp.outbound.is_none() {
        return false;
    }
    let (length, mtu) = match probe {
        Probe::Plain => (1, 0),
        Probe::Padded { mtu, length } => (length, mtu),
    };
    if length > usize::from(session.mtu).max(1) {
        // Nothing as large will ever be sent, so there is nothing to be found out.
        return true;
    }
    let mut buffer = [0; ROOM];
    if let Some(datagram) = seal(session, &mut buffer, length, mtu, next_header)
        && let Some(port) = ports.get(peer.port)
    {
        // A lost answer is asked for again.
        let _ = port.send(peer, datagram, datagram.len());
    }
    true
}

/// Answers the probe that came before the keys to answer it.
pub(super) fn answer_early(session: &mut Session, early: EarlyProbe, ports: &Ports) {
    answer(session, &early.from, early.next_header, Probe::Plain, ports);
}
