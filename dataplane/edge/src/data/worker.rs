//! The loop of the data thread: waits, gives every ready source its turn, does what is due.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::clock::Clock;
use super::commands;
use super::counts::Failure;
use super::from_tun::FromTun;
use super::lifecycle::Book;
use super::pace::{self, Pace};
use super::poll::{Events, Interest, Poll, Token, clear_wake};
use super::port::{Port, Ports};
use super::report::Up;
use super::to_tun::ToTun;
use super::tun::Tun;
use super::{DataConfig, Side, ToData};

/// Longest wait in ms. Deadlines end a wait earlier; this bounds what a missed one could cost.
const LONGEST_WAIT: u64 = 1000;
/// Orders applied in one turn, so that a burst of sign-ins does not hold packets up.
const ORDERS: usize = 64;

pub(super) struct Worker {
    inbox: Receiver<ToData>,
    wake: Arc<OwnedFd>,
    clock: Box<dyn Clock>,
    tun: Tun,
    book: Book,
    from_tun: FromTun,
    to_tun: ToTun,
    /// The port whose full socket holds up what comes from the TUN.
    blocked: Option<usize>,
    /// A client's connection does the same.
    clogged: bool,
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
            side,
            tun,
            tun_takes_udp,
            udp,
            reserved,
            clock,
        } = config;
        let poll = Poll::new()?;
        poll.add(&wake, Token::Wake, Interest::Read)?;
        if side == Side::Gateway && tun.is_none() {
            return Err(io::Error::other("a gateway needs its TUN at once"));
        }
        let tun = Tun::new(tun, tun_takes_udp)?;
        if let Some(device) = tun.device() {
            poll.add(device, Token::Tun, Interest::Read)?;
        }
        let mut ports = Ports::default();
        for socket in udp {
            ports.insert(Port::new(socket)?);
        }
        for (number, port) in ports.iter() {
            poll.add(port, Token::Port(number), Interest::Read)?;
        }
        let book = Book::new(side, poll, ports, up, reserved, clock.now_ms());
        Ok(Self {
            inbox,
            wake,
            clock,
            tun,
            book,
            from_tun: FromTun::new(),
            to_tun: ToTun::new(),
            blocked: None,
            clogged: false,
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
                        if let Err(error) = self.from_tun.turn(&self.tun, &mut self.book, now) {
                            self.lose_tun(error)?;
                        }
                    }
                    Token::Port(index) => {
                        if ready.readable {
                            self.to_tun
                                .port_turn(index, &mut self.tun, &mut self.book, now);
                        }
                        if ready.writable && self.blocked == Some(index) {
                            self.from_tun.flush(&mut self.book, now);
                        }
                    }
                    Token::Conn(slot) => {
                        if ready.readable {
                            self.to_tun
                                .conn_turn(slot, &mut self.tun, &mut self.book, now);
                        }
                        if ready.writable {
                            self.book.flush(slot, now);
                        }
                    }
                }
            }
            self.hold_up(now)?;
            if !self.orders() {
                return Ok(());
            }
            if self.book.tick(now) {
                self.book.ports.retry_offload();
            }
        }
    }

    /// Stops reading the TUN while the socket for it is full, and goes on when it is not.
    fn hold_up(&mut self, now: u64) -> io::Result<()> {
        let gone = |port: usize| self.book.ports.get(port).is_none();
        if self.from_tun.blocked().is_some_and(gone) {
            // What waited for a socket that was replaced is lost.
            self.from_tun.flush(&mut self.book, now);
        }
        let (blocked, clogged) = (self.from_tun.blocked(), self.book.is_clogged(now));
        if (blocked, clogged) == (self.blocked, self.clogged) {
            return Ok(());
        }
        for (port, interest) in [
            (self.blocked, Interest::Read),
            (blocked, Interest::ReadWrite),
        ] {
            if let Some((index, port)) =
                port.and_then(|index| Some((index, self.book.ports.get(index)?)))
            {
                self.book.poll.modify(port, Token::Port(index), interest)?;
            }
        }
        (self.blocked, self.clogged) = (blocked, clogged);
        if let Some(device) = self.tun.device() {
            let interest = self.tun_interest();
            self.book.poll.modify(device, Token::Tun, interest)?;
        }
        Ok(())
    }

    fn tun_interest(&self) -> Interest {
        if self.blocked.is_some() || self.clogged {
            Interest::Nothing
        } else {
            Interest::Read
        }
    }

    /// The TUN cannot be read any more. A gateway is nothing without it; a client goes on until it
    /// is given another one.
    fn lose_tun(&mut self, error: io::Error) -> io::Result<()> {
        if self.book.side == Side::Gateway {
            return Err(error);
        }
        self.book.counts.failure(Failure::TunLost);
        self.set_tun(None, false)
    }

    /// Works with another TUN from now on, or with none.
    fn set_tun(&mut self, device: Option<OwnedFd>, takes_udp: bool) -> io::Result<()> {
        if let Some(former) = self.tun.device() {
            // The service may hold a copy, for which the poll would go on waiting.
            self.book.poll.remove(former);
        }
        self.tun = Tun::new(device, takes_udp)?;
        if let Some(device) = self.tun.device() {
            let interest = self.tun_interest();
            self.book.poll.add(device, Token::Tun, interest)?;
        }
        Ok(())
    }

    /// Applies what only a client edge is given.
    fn equip(&mut self, order: ToData, now: u64) {
        let failed = match order {
            _ if self.book.side == Side::Gateway => Some(Failure::StaleOrder),
            ToData::Tun { fd, takes_udp } => self
                .set_tun(Some(fd), takes_udp)
                .err()
                .map(|_| Failure::TunLost),
            ToData::Port { session, socket } => match Port::new(socket) {
                Ok(port) => {
                    self.book.set_port(session, port, now);
                    None
                }
                Err(_) => Some(Failure::UdpReceive),
            },
            _ => None,
        };
        if let Some(failure) = failed {
            self.book.counts.failure(failure);
        }
    }

    /// Applies what waits in the inbox. False when the thread is to end.
    fn orders(&mut self) -> bool {
        for _ in 0..ORDERS {
            let now = self.clock.now_ms();
            match self.inbox.try_recv() {
                Ok(ToData::Link(order)) => commands::apply(order, &mut self.book, now),
                Ok(ToData::Adopt(adopted)) => {
                    if let Some(slot) = self.book.adopt(*adopted, now) {
                        self.to_tun
                            .first_turn(slot, &mut self.tun, &mut self.book, now);
                    }
                }
                Ok(order @ (ToData::Tun { .. } | ToData::Port { .. })) => self.equip(order, now),
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
