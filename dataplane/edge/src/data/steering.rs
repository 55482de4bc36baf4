//! What a client's session does beside moving packets: its socket for ESP, probes and tests over it,
//! and telling the gateway. [`lead`](super::lead) decides, this carries out.

use super::Side;
use super::counts::Failure;
use super::lead::Deed;
use super::lifecycle::Book;
use super::pending::Message;
use super::poll::{Interest, Token};
use super::port::{Peer, Port, Sent};
use super::probes;
use crate::framing::{ESP_IN_USE, LEFT_ESP, USES_ESP, VENDOR};

impl Book {
    /// A client's session: a socket for its ESP packets, instead of the one it had.
    pub(super) fn set_port(&mut self, id: u64, port: Port, now: u64) {
        let Some(slot) = self.sessions.find(id) else {
            return self.counts.failure(Failure::StaleOrder);
        };
        let number = self.ports.insert(port);
        let Some(port) = self.ports.get(number) else {
            return;
        };
        let added = self.poll.add(port, Token::Port(number), Interest::Read);
        let (Ok(()), Ok(peer)) = (added, port.connected(number)) else {
            self.forget_port(number);
            return self.counts.failure(Failure::UdpReceive);
        };
        let former = self.sessions.get_mut(slot).and_then(|session| {
            if let Some(lead) = session.path.lead() {
                lead.moved(now);
            }
            session.esp.peer.replace(peer)
        });
        self.close_port(former);
        self.refresh(slot, now);
    }

    /// Closes the socket that goes to this peer and to no other.
    pub(super) fn close_port(&mut self, peer: Option<Peer>) {
        if let Some(peer) = peer {
            self.forget_port(peer.port);
        }
    }

    fn forget_port(&mut self, number: usize) {
        if let Some(port) = self.ports.remove(number) {
            self.poll.remove(&port);
        }
    }

    /// Whether all that a client's TUN brings would have to wait for its connection. It then waits
    /// in the kernel: local senders slow down by themselves, where a gateway with its many clients
    /// has to drop.
    pub(super) fn is_clogged(&mut self, now: u64) -> bool {
        if self.side == Side::Gateway {
            return false;
        }
        let newest = self.sessions.newest();
        let session = newest.and_then(|slot| self.sessions.get(slot));
        let conn = session
            .filter(|session| !session.path.esp_alive(now))
            .and_then(|session| session.conn);
        conn.and_then(|(conn, _)| self.conns.get_mut(conn))
            .is_some_and(|conn| conn.waits_to_write)
    }

    /// A client's session has its whole configuration: ESP may be tried.
    pub(super) fn start_esp(&mut self, id: u64, extended: bool, now: u64) {
        let slot = self.sessions.find(id);
        let lead = slot.and_then(|slot| self.sessions.get_mut(slot)?.path.lead());
        match (slot, lead) {
            (Some(slot), Some(lead)) => {
                lead.start(extended);
                self.refresh(slot, now);
            }
            _ => self.counts.failure(Failure::StaleOrder),
        }
    }

    /// Something for the other end was too large for the path of a port.
    pub(super) fn too_large(&mut self, port: usize, now: u64) {
        for slot in self.sessions.slots() {
            if let Some(session) = self.sessions.get_mut(slot)
                && session.esp.peer.is_some_and(|peer| peer.port == port)
                && let Some(lead) = session.path.lead()
            {
                lead.too_large(now);
                self.refresh(slot, now);
            }
        }
    }

    /// Does what a client's session has to do now to find out about its path.
    pub(super) fn drive(&mut self, slot: usize, now: u64) {
        while let Some(session) = self.sessions.get_mut(slot)
            && let Some(lead) = session.path.lead()
        {
            match lead.due(now) {
                Some(Deed::Probe) => {
                    // A lost one is an unanswered one.
                    let _ = probes::ask(session, &mut self.ports, None);
                }
                Some(Deed::Test(test)) => {
                    let sent = probes::ask(session, &mut self.ports, Some(test));
                    if sent == Sent::TooLarge
                        && let Some(lead) = session.path.lead()
                    {
                        lead.test_refused(now);
                    }
                }
                Some(Deed::Tell { uses_esp }) => self.tell(slot, uses_esp, now),
                None => return self.follow_lead(slot),
            }
        }
    }

    /// Puts into force what a client's session knows about its path.
    fn follow_lead(&mut self, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let port = session.esp.peer.map(|peer| peer.port);
        let Some(lead) = session.path.lead() else {
            return;
        };
        if let Some(port) = port.and_then(|port| self.ports.get_mut(port)) {
            port.set_may_fragment(lead.may_fragment());
        }
        let (mtu, news) = (lead.mtu(), lead.takes_news());
        session.path_mtu = mtu;
        if let Some(mtu) = news {
            self.report.path_mtu(session.id, mtu);
        }
    }

    /// Tells the gateway whether ESP is in use, if there is a connection for it.
    fn tell(&mut self, slot: usize, uses_esp: bool, now: u64) {
        let conn = self.sessions.get(slot).and_then(|session| session.conn);
        if let Some((conn, _)) = conn
            && let Some(id) = self.conns.get_mut(conn).map(|conn| conn.id)
        {
            let body = if uses_esp { USES_ESP } else { LEFT_ESP };
            let message = Message {
                vendor: VENDOR,
                kind: ESP_IN_USE,
                body: body.to_vec(),
            };
            self.send(id, message, now);
        }
    }
}
