//! The loop of the data thread: waits, gives every ready source its turn, does what is due.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::clock::Clock;
use super::commands;
use super::downlink::Downlink;
use super::lifecycle::Book;
use super::pace::{self, Pace};
use super::poll::{Events, Interest, Poll, Token, clear_wake};
use super::port::Port;
use super::report::Up;
use super::tun::Tun;
use super::uplink::Uplink;
use super::{DataConfig, ToData};

/// Longest wait in ms. Deadlines end a wait earlier; this bounds what a missed one could cost.
const LONGEST_WAIT: u64 = 1000;
/// Orders applied in one turn, so that a burst of sign-ins does not hold packets up.
const ORDERS: usize = 64;

pub(super) struct Worker {
    inbox: Receiver<ToData>,
    wake: Arc<OwnedFd>,
    clock: Box<dyn Clock>,
    tun: Tun,
    ports: Vec<Port>,
    book: Book,
    downlink: Downlink,
    uplink: Uplink,
    /// The port whose full socket holds the downlink up.
    blocked: Option<usize>,
    /// More orders wait than one turn may apply.
    behind: bool,
}

impl Worker {
    pub(super) fn new(
        config: DataConfig,
        inbox: Receiver<ToData>,
        wake: Arc<OwnedFd>,
        up: Up,
    ) -> io::Result<Self> {
        let DataConfig {
            side: _,
            tun,
            tun_takes_udp,
            udp,
            reserved,
            clock,
        } = config;
        let poll = Poll::new()?;
        poll.add(&wake, Token::Wake, Interest::Read)?;
        let tun = tun.ok_or_else(|| io::Error::other("no TUN"))?;
        let tun = Tun::new(tun, tun_takes_udp)?;
        poll.add(&tun, Token::Tun, Interest::Read)?;
        let ports = udp
            .into_iter()
            .map(Port::new)
            .collect::<io::Result<Vec<_>>>()?;
        for (index, port) in ports.iter().enumerate() {
            poll.add(port, Token::Port(index), Interest::Read)?;
        }
        let book = Book::new(poll, up, reserved, clock.now_ms());
        Ok(Self {
            inbox,
            wake,
            clock,
            tun,
            ports,
            book,
            downlink: Downlink::new(),
            uplink: Uplink::new(),
            blocked: None,
            behind: false,
        })
    }

    /// Works until told to stop.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::new();
        let mut pace = Pace::default();
        loop {
            let now = self.clock.now_ms();
            if pace.is_fast(self.tun.take_count(), now) {
                std::thread::sleep(pace::NAP);
            }
            let wait = if self.behind {
                0
            } else {
                self.book.next_tick().saturating_sub(now).min(LONGEST_WAIT)
            };
            self.book.poll.wait(&mut events, wait)?;
            let now = self.clock.now_ms();
            for ready in events.iter() {
                match ready.token {
                    Token::Wake => clear_wake(&self.wake),
                    Token::Tun => {
                        let Self {
                            tun, ports, book, ..
                        } = self;
                        self.downlink.turn(tun, ports, book, now)?;
                    }
                    Token::Port(index) => {
                        if ready.readable {
                            self.uplink.port_turn(
                                index,
                                &mut self.tun,
                                &self.ports,
                                &mut self.book,
                                now,
                            );
                        }
                        if ready.writable && self.blocked == Some(index) {
                            self.downlink.flush(&self.ports, &mut self.book.counts);
                        }
                    }
                    Token::Conn(slot) => {
                        if ready.readable {
                            self.uplink
                                .conn_turn(slot, &mut self.tun, &mut self.book, now);
                        }
                        if ready.writable {
                            self.book.flush(slot, now);
                        }
                    }
                }
            }
            self.hold_up()?;
            if !self.orders() {
                return Ok(());
            }
            if self.book.tick(now) {
                self.ports.iter_mut().for_each(Port::retry_offload);
            }
        }
    }

    /// Stops reading the TUN while a socket is full, and goes on when it is not.
    fn hold_up(&mut self) -> io::Result<()> {
        let blocked = self.downlink.blocked();
        if blocked == self.blocked {
            return Ok(());
        }
        for (port, interest) in [
            (self.blocked, Interest::Read),
            (blocked, Interest::ReadWrite),
        ] {
            if let Some((index, port)) =
                port.and_then(|index| Some((index, self.ports.get(index)?)))
            {
                self.book.poll.modify(port, Token::Port(index), interest)?;
            }
        }
        let tun = if blocked.is_some() {
            Interest::Nothing
        } else {
            Interest::Read
        };
        self.book.poll.modify(&self.tun, Token::Tun, tun)?;
        self.blocked = blocked;
        Ok(())
    }

    /// Applies what waits in the inbox. False when the thread is to end.
    fn orders(&mut self) -> bool {
        for _ in 0..ORDERS {
            let now = self.clock.now_ms();
            match self.inbox.try_recv() {
                Ok(ToData::Link(order)) => commands::apply(order, &mut self.book, &self.ports, now),
                Ok(ToData::Adopt(adopted)) => {
                    if let Some(slot) = self.book.adopt(*adopted, now) {
                        self.uplink
                            .first_turn(slot, &mut self.tun, &mut self.book, now);
                    }
                }
                Ok(ToData::Tun { .. } | ToData::Port { .. }) => {}
                Ok(ToData::LinkUp) => self.book.set_link(true, now),
                Ok(ToData::LinkDown) => self.book.set_link(false, now),
                Ok(ToData::ReportSessions(reply)) => {
                    // What is over by now must not be listed.
                    self.book.tick(now);
                    let states = self
                        .book
                        .sessions
                        .iter()
                        .map(|session| session.state(now))
                        .collect();
                    // Who asked may have gone.
                    let _ = reply.send(states);
                }
                Err(TryRecvError::Empty) => {
                    self.behind = false;
                    return true;
                }
                Ok(ToData::Shutdown) | Err(TryRecvError::Disconnected) => return false,
            }
        }
        self.behind = true;
        true
    }
}
