//! The bounded queue of messages to the control plane.
//!
//! Strangers fill one half only: frames and announcements of connections before sign-in wait for
//! room counted in bytes, so a control plane that reads slowly slows those conversations down.
//! The data thread cannot wait: its frames are dropped when the room is used up, and when even
//! its short messages find the queue full the link is given up, because a control plane that
//! missed one of them knows the wrong state; the answer to the next `hello` repairs that. Records
//! of flows are not taken while there is no room; it keeps them and comes again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use lockgate_dataplane::link::{FromEdge, Secret};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::front::refusal::{Refusal, Refusals};

/// Messages in the queue.
const MESSAGES: usize = 16 * 1024;
/// Room for frame bodies and announcements, in units of 1 KiB: 16 MiB.
const ROOM: usize = 16 * 1024;
/// Ends of sessions kept for the next link.
const KEPT_ENDS: usize = 4096;
/// Frames kept for the next link, and bytes in their bodies.
const KEPT_FRAMES: usize = 1024;
const KEPT_BYTES: usize = 1 << 20;
/// Messages about flows kept for the next link: 64,000 records.
const KEPT_FLOWS: usize = 64;
/// Room for records of flows, in units of 1 KiB: 4 MiB. Apart from that of frames: who reaches much
/// must not take the room of those who sign in.
const FLOW_ROOM: usize = 4 * 1024;
/// More than the body of any frame of the data thread.
const LONGEST_BODY: usize = 64 << 10;

/// One message on its way up.
#[derive(Debug)]
pub struct Queued {
    pub message: FromEdge,
    /// The link this belongs to; 0 is any.
    pub epoch: u64,
    _room: Option<OwnedSemaphorePermit>,
}

/// The link the message belonged to is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkGone;

/// Puts messages into the queue; cheap to clone.
#[derive(Clone, Debug)]
pub struct Uplink {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    flow_room: Arc<Semaphore>,
    overflow: Arc<AtomicU64>,
    refusals: Arc<Refusals>,
}

/// The other end, held by the link.
#[derive(Debug)]
pub struct Outgoing {
    pub queue: mpsc::Receiver<Queued>,
    overflow: Arc<AtomicU64>,
}

pub fn channel(refusals: Arc<Refusals>) -> (Uplink, Outgoing) {
    let (sender, queue) = mpsc::channel(MESSAGES);
    let overflow = Arc::new(AtomicU64::new(0));
    let uplink = Uplink {
        queue: sender,
        room: Arc::new(Semaphore::new(ROOM)),
        flow_room: Arc::new(Semaphore::new(FLOW_ROOM)),
        overflow: overflow.clone(),
        refusals,
    };
    (uplink, Outgoing { queue, overflow })
}

impl Uplink {
    /// From the data thread; never blocks. False: the message was not taken. Of records of flows
    /// that is no loss yet, so nothing counts it.
    pub fn send(&self, message: FromEdge) -> bool {
        let room = match message {
            FromEdge::Frame { .. } => Some(&self.room),
            FromEdge::Flows { .. } => Some(&self.flow_room),
            _ => None,
        };
        let is_flows = matches!(message, FromEdge::Flows { .. });
        let room = match room {
            Some(room) => match room.clone().try_acquire_many_owned(units(&message)) {
                Ok(permit) => Some(permit),
                Err(_) => {
                    if !is_flows {
                        self.refusals.count(Refusal::LinkFull);
                    }
                    return false;
                }
            },
            None => None,
        };
        let taken = self
            .queue
            .try_send(Queued {
                message,
                epoch: 0,
                _room: room,
            })
            .is_ok();
        if !taken && !is_flows {
            self.refusals.count(Refusal::LinkFull);
            self.overflow.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// From a connection of the front; waits for room.
    pub async fn send_for(&self, epoch: u64, message: FromEdge) -> Result<(), LinkGone> {
        let room = self
            .room
            .clone()
            .acquire_many_owned(units(&message))
            .await
            .map_err(|_| LinkGone)?;
        self.queue
            .send(Queued {
                message,
                epoch,
                _room: Some(room),
            })
            .await
            .map_err(|_| LinkGone)
    }
}

impl Outgoing {
    /// Messages lost since the last call; any at all means the link must be made anew.
    pub fn lost(&self) -> u64 {
        self.overflow.swap(0, Ordering::Relaxed)
    }
}

/// What the next link must hear although this one is gone: ends of sessions, what clients said
/// on attached connections, which live on (answers with ESP keys among it), and records of flows.
/// Everything else is repaired by the answer to `hello`.
#[derive(Debug)]
pub struct Kept {
    messages: VecDeque<(FromEdge, Instant)>,
    ends: usize,
    flows: usize,
    frames: usize,
    bytes: usize,
    refusals: Arc<Refusals>,
}

impl Kept {
    pub fn new(refusals: Arc<Refusals>) -> Self {
        Self {
            messages: VecDeque::new(),
            ends: 0,
            flows: 0,
            frames: 0,
            bytes: 0,
            refusals,
        }
    }

    /// Keeps a message nobody has heard, if it is worth it. `epoch` as in [`Queued`].
    pub fn keep(&mut self, message: &FromEdge, epoch: u64) {
        match message {
            FromEdge::SessionEnded { .. } => {
                if self.ends >= KEPT_ENDS {
                    self.drop_first_end();
                }
                self.ends += 1;
            }
            // Connections of the front go with their link.
            FromEdge::Frame { body, .. } if epoch == 0 => {
                if self.frames >= KEPT_FRAMES || self.bytes + body.len() > KEPT_BYTES {
                    return self.refusals.count(Refusal::LinkFull);
                }
                self.frames += 1;
                self.bytes += body.len();
            }
            FromEdge::Flows { .. } => {
                if self.flows >= KEPT_FLOWS {
                    return self.refusals.count(Refusal::LinkFull);
                }
                self.flows += 1;
            }
            FromEdge::ConnClosed { conn, .. } => return self.forget(*conn),
            _ => return,
        }
        self.messages.push_back((message.clone(), Instant::now()));
    }

    /// Whether the next message may find no room: what can be told must be told first.
    pub fn is_full(&self) -> bool {
        self.ends >= KEPT_ENDS
            || self.flows >= KEPT_FLOWS
            || self.frames >= KEPT_FRAMES
            || self.bytes > KEPT_BYTES - LONGEST_BODY
    }

    fn drop_first_end(&mut self) {
        let end =
            |(message, _): &(FromEdge, Instant)| matches!(message, FromEdge::SessionEnded { .. });
        if let Some(at) = self.messages.iter().position(end) {
            self.messages.remove(at);
            self.ends -= 1;
        }
    }

    /// A connection is gone: nobody waits for what its client said.
    fn forget(&mut self, conn: u64) {
        if self.frames == 0 {
            return;
        }
        let Self {
            messages,
            frames,
            bytes,
            ..
        } = self;
        messages.retain(|(message, _)| match message {
            FromEdge::Frame {
                conn: from, body, ..
            } if *from == conn => {
                *frames -= 1;
                *bytes -= body.len();
                false
            }
            _ => true,
        });
    }

    /// Oldest first, as they are to be told now.
    pub fn iter(&self) -> impl Iterator<Item = FromEdge> + '_ {
        self.messages.iter().map(|(message, since)| {
            let mut message = message.clone();
            if let FromEdge::Flows { waited, .. } = &mut message {
                let kept = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                *waited = waited.saturating_add(kept);
            }
            message
        })
    }

    /// All of it has been told.
    pub fn clear(&mut self) {
        self.messages.clear();
        (self.ends, self.flows, self.frames, self.bytes) = (0, 0, 0, 0);
    }
}

/// Bytes of a record of a flow on the link, names of its fields included.
const FLOW_BYTES: usize = 192;

/// Room a message takes, in KiB rounded up.
fn units(message: &FromEdge) -> u32 {
    let secret = |Secret(bytes): &Secret| bytes.len();
    let bytes = match message {
        FromEdge::Frame { body, .. } => body.len(),
        FromEdge::ConnOpened(opened) => {
            opened
                .client_certificates
                .iter()
                .map(|der| der.len())
                .sum::<usize>()
                + secret(&opened.cookie)
                + opened.path.len()
                + opened.host.len()
                + opened.user_agent.len()
        }
        FromEdge::Flows { flows, .. } => flows.len() * FLOW_BYTES,
        FromEdge::Dialed(dialed) => dialed.certificates.iter().map(|der| der.len()).sum(),
        FromEdge::DialFailed { certificates, .. } => certificates.iter().map(|der| der.len()).sum(),
        _ => 0,
    };
    u32::try_from(bytes / 1024 + 1)
        .unwrap_or(u32::MAX)
        .min(ROOM as u32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use lockgate_dataplane::link::{Flow, FlowCause, MAX_FLOWS};

    fn frame(body: usize) -> FromEdge {
        FromEdge::Frame {
            conn: 1,
            vendor: 0,
            kind: 0,
            body: vec![0; body],
        }
    }

    #[tokio::test]
    async fn frames_of_the_data_thread_are_dropped_when_the_room_is_used_up() {
        let refusals = Arc::new(Refusals::default());
        let (uplink, mut outgoing) = channel(refusals.clone());
        for _ in 0..ROOM {
            uplink.send(frame(64 * 1024));
        }
        assert!(refusals.of(Refusal::LinkFull) > 0);
        // Its short messages still find a place, and the link need not be given up.
        uplink.send(FromEdge::RekeyWanted { session: 1 });
        assert_eq!(outgoing.lost(), 0);
        let mut last = None;
        while let Ok(queued) = outgoing.queue.try_recv() {
            last = Some(queued.message);
        }
        assert_eq!(last, Some(FromEdge::RekeyWanted { session: 1 }));
    }

    #[tokio::test]
    async fn a_full_queue_is_reported_as_lost() {
        let (uplink, outgoing) = channel(Arc::default());
        for _ in 0..=MESSAGES {
            uplink.send(FromEdge::RekeyWanted { session: 1 });
        }
        assert_eq!(outgoing.lost(), 1);
        assert_eq!(outgoing.lost(), 0);
    }

    #[tokio::test]
    async fn records_of_flows_that_are_not_taken_may_come_again() {
        let refusals = Arc::new(Refusals::default());
        let (uplink, mut outgoing) = channel(refusals.clone());
        let flows = |number| FromEdge::Flows {
            number,
            waited: 0,
            flows: vec![flow(); MAX_FLOWS],
        };
        let room = FLOW_ROOM as u64 / u64::from(units(&flows(0)));
        for number in 0..room {
            assert!(uplink.send(flows(number)));
        }
        assert!(!uplink.send(flows(room)));
        assert!(uplink.send(frame(1)), "the room of frames is another");
        drop(outgoing.queue.recv().await.unwrap());
        assert!(uplink.send(flows(room)));
        while uplink.send(FromEdge::RekeyWanted { session: 1 }) {}
        let (lost, full) = (outgoing.lost(), refusals.of(Refusal::LinkFull));
        assert_eq!((lost, full), (1, 1), "of what is told once");
        for _ in 0..room {
            drop(outgoing.queue.recv().await.unwrap());
        }
        while uplink.send(FromEdge::RekeyWanted { session: 1 }) {}
        outgoing.lost();
        assert!(!uplink.send(flows(room + 1)), "the queue is full");
        assert_eq!((outgoing.lost(), refusals.of(Refusal::LinkFull)), (0, 2));
    }

    fn flow() -> Flow {
        Flow {
            session: 1,
            allowed: true,
            rule_set: 1,
            rule: None,
            protocol: 6,
            remote: vec![10, 0, 0, 1],
            port: Some(443),
            outbound: true,
            first: 2,
            last: 1,
            packets_in: 1,
            bytes_in: 40,
            packets_out: 0,
            bytes_out: 0,
            cause: FlowCause::Idle,
        }
    }

    fn ended(session: u64) -> FromEdge {
        FromEdge::SessionEnded {
            session,
            generation: 1,
            cause: lockgate_dataplane::link::EndCause::Logout,
            traffic: lockgate_dataplane::link::Traffic::default(),
        }
    }

    fn closed(conn: u64) -> FromEdge {
        FromEdge::ConnClosed {
            conn,
            session: 0,
            cause: String::new(),
        }
    }

    #[test]
    fn what_is_kept_for_the_next_link_is_bounded() {
        let refusals = Arc::new(Refusals::default());
        let mut kept = Kept::new(refusals.clone());
        for _ in 0..KEPT_FRAMES + 1 {
            kept.keep(&frame(1), 0);
        }
        assert_eq!(kept.iter().count(), KEPT_FRAMES);
        assert!(kept.is_full());
        assert_eq!(refusals.of(Refusal::LinkFull), 1);
        kept.keep(&closed(1), 0);
        assert_eq!((kept.iter().count(), kept.frames, kept.bytes), (0, 0, 0));
        kept.keep(&frame(KEPT_BYTES), 0);
        kept.keep(&frame(1), 0);
        assert_eq!(refusals.of(Refusal::LinkFull), 2);
        for session in 0..KEPT_ENDS as u64 + 1 {
            kept.keep(&ended(session), 0);
        }
        assert_eq!(kept.iter().count(), KEPT_ENDS + 1);
        assert_eq!(kept.iter().nth(1), Some(ended(1)), "the oldest went");
        kept.clear();
        assert_eq!((kept.iter().count(), kept.ends, kept.bytes), (0, 0, 0));
    }

    #[test]
    fn only_what_hello_does_not_repair_is_kept_in_its_order() {
        let mut kept = Kept::new(Arc::default());
        kept.keep(&frame(1), 0);
        kept.keep(&frame(2), 5);
        kept.keep(&FromEdge::RekeyWanted { session: 1 }, 0);
        kept.keep(&ended(1), 0);
        kept.keep(&closed(2), 0);
        assert!(kept.iter().eq([frame(1), ended(1)]));
    }

    #[tokio::test]
    async fn connections_wait_for_room() {
        let (uplink, mut outgoing) = channel(Arc::default());
        for _ in 0..ROOM / 64 - 1 {
            uplink.send_for(1, frame(64 * 1024 - 1)).await.unwrap();
        }
        let waiting = uplink.clone();
        let task = tokio::spawn(async move { waiting.send_for(1, frame(100 * 1024)).await });
        while outgoing.queue.len() + 1 > ROOM / 64 {
            tokio::task::yield_now().await;
        }
        assert!(!task.is_finished());
        for _ in 0..2 {
            drop(outgoing.queue.recv().await.unwrap());
        }
        task.await.unwrap().unwrap();
    }
}
