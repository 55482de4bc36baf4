//! Which IF-T connections the front owns, and the link they belong to.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use lockgate_dataplane::if_t;
use tokio::sync::{mpsc, watch};

use crate::front::refusal::{Refusal, Refusals};
use crate::lock;

/// What the control plane wants of a connection the front still owns.
#[derive(Debug)]
pub enum Command {
    Frame {
        vendor: u32,
        kind: u32,
        body: Vec<u8>,
    },
    /// Hand over to the data thread.
    Attach { session: u64 },
    /// Close when everything before has been written.
    Close,
    /// Close now; nobody is left to be told why.
    Drop(Refusal),
}

/// A connection's end of the directory.
#[derive(Debug)]
pub struct Registered {
    pub conn: u64,
    pub epoch: u64,
    commands: mpsc::UnboundedReceiver<Command>,
    queued: Arc<AtomicUsize>,
}

impl Registered {
    /// The next command. Its bytes no longer count as queued.
    pub async fn next(&mut self) -> Command {
        let command = self.commands.recv().await;
        match command {
            Some(Command::Frame { ref body, .. }) => {
                self.queued.fetch_sub(cost(body), Ordering::Relaxed);
            }
            // The directory forgot us without a word: the link is gone.
            None => return Command::Drop(Refusal::NoControl),
            _ => {}
        }
        command.unwrap_or(Command::Drop(Refusal::NoControl))
    }

    /// Takes no more commands. True when `Attach` was among those nobody will carry out.
    pub fn close(mut self) -> bool {
        self.commands.close();
        let mut attach = false;
        while let Ok(command) = self.commands.try_recv() {
            attach |= matches!(command, Command::Attach { .. });
        }
        attach
    }
}

#[derive(Debug)]
struct Entry {
    commands: mpsc::UnboundedSender<Command>,
    queued: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    /// 0: no link.
    epoch: u64,
    last_epoch: u64,
    last_conn: u64,
    entries: HashMap<u64, Entry>,
}

impl State {
    fn enter(&mut self, conn: u64) -> Registered {
        let (sender, commands) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        self.entries.insert(
            conn,
            Entry {
                commands: sender,
                queued: queued.clone(),
            },
        );
        Registered {
            conn,
            epoch: self.epoch,
            commands,
            queued,
        }
    }
}

/// Shared by the link and the front.
#[derive(Debug)]
pub struct Directory {
    state: Mutex<State>,
    link: watch::Sender<bool>,
    queue_bytes: usize,
    refusals: Arc<Refusals>,
}

impl Directory {
    /// `queue_bytes`: most bytes that may wait for one connection.
    pub fn new(queue_bytes: usize, refusals: Arc<Refusals>) -> Self {
        Self {
            state: Mutex::new(State {
                last_conn: first_number(),
                ..State::default()
            }),
            link: watch::Sender::new(false),
            queue_bytes,
            refusals,
        }
    }

    /// A control plane has been greeted. Returns the epoch of this link.
    pub fn link_up(&self) -> u64 {
        let mut state = lock(&self.state);
        state.last_epoch += 1;
        state.epoch = state.last_epoch;
        let epoch = state.epoch;
        drop(state);
        self.link.send_replace(true);
        epoch
    }

    /// The link is gone: every connection of the front goes with it.
    pub fn link_down(&self) {
        let mut state = lock(&self.state);
        state.epoch = 0;
        // Dropping the senders is what tells the connections.
        let entries = std::mem::take(&mut state.entries);
        drop(state);
        drop(entries);
        self.link.send_replace(false);
    }

    /// True as soon as there is a link, false when `patience` is over.
    pub async fn wait_for_link(&self, patience: std::time::Duration) -> bool {
        let mut link = self.link.subscribe();
        tokio::time::timeout(patience, link.wait_for(|up| *up))
            .await
            .is_ok_and(|up| up.is_ok())
    }

    /// Whether there is a link, and every change of that.
    pub fn link(&self) -> watch::Receiver<bool> {
        self.link.subscribe()
    }

    /// Gives a new connection its number; `None` when there is no link.
    pub fn register(&self) -> Option<Registered> {
        let mut state = lock(&self.state);
        if state.epoch == 0 {
            return None;
        }
        state.last_conn += 1;
        let conn = state.last_conn;
        Some(state.enter(conn))
    }

    /// Enters a connection whose number the control plane chose; `None` when that number is in
    /// use or there is no link.
    pub fn register_as(&self, conn: u64) -> Option<Registered> {
        let mut state = lock(&self.state);
        if state.epoch == 0 || state.entries.contains_key(&conn) {
            return None;
        }
        Some(state.enter(conn))
    }

    /// The connection has ended.
    pub fn forget(&self, conn: u64) {
        lock(&self.state).entries.remove(&conn);
    }

    /// Passes `command` to its connection; gives it back when the front does not own `conn`.
    ///
    /// After `Attach` the front does not own the connection any more: what follows is for the
    /// data thread. A connection that lets more pile up than it may is closed.
    pub fn command(&self, conn: u64, command: Command) -> Result<(), Command> {
        let mut state = lock(&self.state);
        let Some(entry) = state.entries.get(&conn) else {
            return Err(command);
        };
        let last = matches!(command, Command::Attach { .. });
        if let Command::Frame { body, .. } = &command {
            let before = entry.queued.fetch_add(cost(body), Ordering::Relaxed);
            if before + cost(body) > self.queue_bytes {
                self.refusals.count(Refusal::QueueFull);
                let _ = entry.commands.send(Command::Drop(Refusal::QueueFull));
                state.entries.remove(&conn);
                return Ok(());
            }
        }
        let sent = entry.commands.send(command);
        if last || sent.is_err() {
            state.entries.remove(&conn);
        }
        // The receiver is gone when the connection is just ending.
        sent.map_err(|unsent| unsent.0)
    }

    /// Whether the front owns `conn`.
    pub fn owns(&self, conn: u64) -> bool {
        lock(&self.state).entries.contains_key(&conn)
    }

    pub fn len(&self) -> usize {
        lock(&self.state).entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where connection numbers start: another place in every process, so that a control plane that
/// outlives an edge never takes a new connection for an old one. At most 2^52.
fn first_number() -> u64 {
    let random = RandomState::new().build_hasher().finish() as u32;
    u64::from(random.max(1)) << 20
}

fn cost(body: &[u8]) -> usize {
    body.len() + if_t::HEADER
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn frame(bytes: usize) -> Command {
        Command::Frame {
            vendor: 0,
            kind: 0,
            body: vec![0; bytes],
        }
    }

    #[tokio::test]
    async fn connections_live_in_the_epoch_of_their_link() {
        let directory = Directory::new(1000, Arc::default());
        assert!(directory.register().is_none());
        assert!(!directory.wait_for_link(std::time::Duration::ZERO).await);
        let first = directory.link_up();
        assert!(directory.wait_for_link(std::time::Duration::ZERO).await);
        let mut registered = directory.register().unwrap();
        assert_eq!(registered.epoch, first);
        directory.link_down();
        assert!(matches!(
            registered.next().await,
            Command::Drop(Refusal::NoControl)
        ));
        assert!(directory.is_empty());
        assert!(directory.link_up() > first);
        assert!(directory.register().unwrap().conn > registered.conn);
    }

    #[test]
    fn connection_numbers_start_at_another_place_in_every_process() {
        let starts: std::collections::BTreeSet<_> = (0..4).map(|_| first_number()).collect();
        assert!(starts.len() > 1);
        for start in starts {
            assert!((1 << 20..1 << 52).contains(&start));
        }
        let directory = Directory::new(1000, Arc::default());
        directory.link_up();
        let first = directory.register().unwrap().conn;
        assert!(first > 1 << 20);
        assert_eq!(directory.register().unwrap().conn, first + 1);
    }

    #[test]
    fn a_chosen_number_is_taken_once_at_a_time() {
        let directory = Directory::new(1000, Arc::default());
        assert!(directory.register_as(7).is_none(), "there is no link");
        directory.link_up();
        let first = directory.register_as(7).unwrap();
        assert_eq!(first.conn, 7);
        assert!(directory.register_as(7).is_none());
        directory.forget(7);
        assert!(directory.register_as(7).is_some());
    }

    #[tokio::test]
    async fn after_attach_commands_come_back_for_the_data_thread() {
        let directory = Directory::new(1000, Arc::default());
        directory.link_up();
        let mut registered = directory.register().unwrap();
        directory.command(registered.conn, frame(1)).unwrap();
        directory
            .command(registered.conn, Command::Attach { session: 9 })
            .unwrap();
        assert!(matches!(
            directory.command(registered.conn, frame(1)),
            Err(Command::Frame { .. })
        ));
        assert!(matches!(registered.next().await, Command::Frame { .. }));
        assert!(matches!(
            registered.next().await,
            Command::Attach { session: 9 }
        ));
    }

    #[tokio::test]
    async fn what_a_connection_does_not_take_is_bounded() {
        let refusals = Arc::new(Refusals::default());
        let directory = Directory::new(100, refusals.clone());
        directory.link_up();
        let mut registered = directory.register().unwrap();
        directory.command(registered.conn, frame(50)).unwrap();
        assert!(matches!(registered.next().await, Command::Frame { .. }));
        directory.command(registered.conn, frame(50)).unwrap();
        directory.command(registered.conn, frame(50)).unwrap();
        assert!(matches!(registered.next().await, Command::Frame { .. }));
        assert!(matches!(
            registered.next().await,
            Command::Drop(Refusal::QueueFull)
        ));
        assert_eq!(refusals.of(Refusal::QueueFull), 1);
    }
}
