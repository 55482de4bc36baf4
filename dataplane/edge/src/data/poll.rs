//! Waiting for many descriptors: a level-triggered epoll with typed tokens.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

/// Events taken from the kernel in one go.
const EVENTS: usize = 256;

/// What has become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Wake,
    Tun,
    /// A UDP socket by index.
    Port(usize),
    /// A connection by slot.
    Conn(usize),
}

/// Ports take the numbers below this one, connections those above.
const FIRST_CONN: u64 = 1 << 32;
const FIRST_PORT: u64 = 2;

impl Token {
    fn encode(self) -> EventData {
        EventData::new_u64(match self {
            Self::Wake => 0,
            Self::Tun => 1,
            Self::Port(index) => FIRST_PORT + index as u64,
            Self::Conn(slot) => FIRST_CONN + slot as u64,
        })
    }

    fn decode(data: EventData) -> Self {
        match data.u64() {
            0 => Self::Wake,
            1 => Self::Tun,
            port if port < FIRST_CONN => Self::Port((port - FIRST_PORT) as usize),
            conn => Self::Conn((conn - FIRST_CONN) as usize),
        }
    }
}

/// What is waited for on one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    Nothing,
    Read,
    ReadWrite,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Self::Nothing => EventFlags::empty(),
            Self::Read => EventFlags::IN,
            Self::ReadWrite => EventFlags::IN | EventFlags::OUT,
        }
    }
}

/// A descriptor that is ready. Errors and hang-ups count as readable: reading shows them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) token: Token,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

#[derive(Debug)]
pub(super) struct Poll {
    epoll: OwnedFd,
}

/// Room for the events of one wait.
pub(super) struct Events(Vec<Event>);

impl Events {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(EVENTS))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Ready> + '_ {
        self.0.iter().map(|event| {
            let Event { flags, data } = *event;
            Ready {
                token: Token::decode(data),
                readable: flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR),
                writable: flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR),
            }
        })
    }
}

impl Poll {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
        })
    }

    /// The kernel forgets a descriptor by itself when its last copy anywhere is closed.
    pub(super) fn add(
        &self,
        source: impl AsFd,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            source,
            token.encode(),
            interest.flags(),
        )?)
    }

    pub(super) fn modify(
        &self,
        source: impl AsFd,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            source,
            token.encode(),
            interest.flags(),
        )?)
    }

    /// Forgets a descriptor of which another process may hold a copy.
    pub(super) fn remove(&self, source: impl AsFd) {
        // It may not be there: adding it may have failed.
        let _ = epoll::delete(&self.epoll, source);
    }

    /// Waits for at most `timeout` ms; being interrupted counts as nothing having happened.
    pub(super) fn wait(&self, events: &mut Events, timeout: u64) -> io::Result<()> {
        events.0.clear();
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout / 1000).unwrap_or(i64::MAX),
            tv_nsec: (timeout % 1000) as i64 * 1_000_000,
        };
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events.0),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The event counter with which other threads end a wait.
pub(super) fn wake_fd() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Makes a woken event counter quiet again.
pub(super) fn clear_wake(wake: impl AsFd) {
    let mut count = [0; 8];
    // Nothing to clear is fine: the counter is only a hint to look into the inbox.
    let _ = rustix::io::read(wake, &mut count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::Wake,
            Token::Tun,
            Token::Port(0),
            Token::Port(63),
            Token::Conn(0),
            Token::Conn(1 << 20),
        ] {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
