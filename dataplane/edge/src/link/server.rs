//! Accepts the control plane and serves one link at a time; the newest connection wins.

use std::sync::Arc;
use std::time::Duration;

use lockgate_dataplane::link::{FromEdge, ToEdge, VERSION};
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::DataPort;
use super::codec::{LinkError, encode, read_message};
use super::directory::Directory;
use super::dispatch::dispatch;
use super::receive::{self, Receiver};
use super::uplink::{Kept, Outgoing};
use crate::client::Client;
use crate::data::ToData;
use crate::front::refusal::{Refusal, Refusals};
use crate::log;

/// The control plane says something every 5 s; silent for this long it counts as gone.
const SILENCE: Duration = Duration::from_secs(30);
/// A write to the control plane that takes longer has met a stopped process.
const WRITE: Duration = Duration::from_secs(30);
/// For `hello` after connecting, and for the data thread's answer.
const GREETING: Duration = Duration::from_secs(5);

/// The edge's end of the link.
pub struct LinkServer {
    pub listener: UnixListener,
    /// The user id the control plane runs under; our own is taken as well.
    pub control_uid: u32,
    /// Random per process.
    pub edge: u64,
    pub directory: Arc<Directory>,
    pub data: Arc<dyn DataPort>,
    /// In a client edge, who dials; without, messages for a client edge end the link.
    pub client: Option<Arc<Client>>,
    pub outgoing: Outgoing,
    pub refusals: Arc<Refusals>,
}

impl std::fmt::Debug for LinkServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkServer")
            .field("edge", &self.edge)
            .finish_non_exhaustive()
    }
}

/// Why a link ended.
enum Lost {
    Replaced(UnixStream),
    Closed,
    Silent,
    /// Messages were lost for want of room.
    Overflow,
    Failed(LinkError),
}

impl LinkServer {
    /// Serves links, one after the other, for as long as the process lives.
    pub async fn run(mut self) {
        let mut kept = Kept::new(self.refusals.clone());
        let mut newcomer = None;
        loop {
            let stream = match newcomer.take() {
                Some(stream) => stream,
                None => self.wait_for_peer(&mut kept).await,
            };
            let (reader, mut writer) = stream.into_split();
            let descriptors = match self.client {
                Some(_) => receive::DESCRIPTORS,
                None => 0,
            };
            let mut reader = Receiver::new(reader, descriptors);
            if let Err(problem) = self.greet(&mut reader, &mut writer).await {
                log::warning(
                    "link-refused",
                    serde_json::json!({"reason": problem.to_string()}),
                );
                continue;
            }
            let epoch = self.directory.link_up();
            self.data.send(ToData::LinkUp);
            // What was lost before `hello` is repaired by its answer.
            self.outgoing.lost();
            log::info("link-up", serde_json::json!({"epoch": epoch}));
            let lost = self.serve(epoch, &mut kept, reader, writer).await;
            self.directory.link_down();
            self.data.send(ToData::LinkDown);
            let reason = match lost {
                Lost::Replaced(stream) => {
                    newcomer = Some(stream);
                    "a newer control plane connected".to_owned()
                }
                Lost::Closed => "closed by the control plane".to_owned(),
                Lost::Silent => format!("no message for {} s", SILENCE.as_secs()),
                Lost::Overflow => "the control plane reads too slowly".to_owned(),
                Lost::Failed(problem) => {
                    if !matches!(&problem, LinkError::Io(io) if !receive::is_refusal(io)) {
                        self.refusals.count(Refusal::LinkBadRecord);
                    }
                    problem.to_string()
                }
            };
            log::warning(
                "link-down",
                serde_json::json!({"epoch": epoch, "reason": reason}),
            );
        }
    }

    /// The next connection of a permitted user. Meanwhile nobody hears the messages in the queue:
    /// [`Kept`] has what must be told later, the rest goes.
    async fn wait_for_peer(&mut self, kept: &mut Kept) -> UnixStream {
        loop {
            tokio::select! {
                stream = accept(&self.listener, self.control_uid, &self.refusals) => return stream,
                queued = self.outgoing.queue.recv() => match queued {
                    Some(queued) => kept.keep(&queued.message, queued.epoch),
                    // Every sender is gone: the process is ending.
                    None => return accept(&self.listener, self.control_uid, &self.refusals).await,
                },
            }
        }
    }

    async fn greet(
        &self,
        reader: &mut Receiver,
        writer: &mut OwnedWriteHalf,
    ) -> Result<(), LinkError> {
        let late = || LinkError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        match timeout(GREETING, read_message(reader))
            .await
            .map_err(|_| late())??
        {
            Some(ToEdge::Hello { version: VERSION }) => {}
            Some(ToEdge::Hello { version }) => {
                log::error(
                    "link-version",
                    serde_json::json!({"theirs": version, "ours": VERSION}),
                );
                return Err(LinkError::Message);
            }
            _ => return Err(LinkError::Message),
        }
        reader.descriptors().none_left()?;
        let (reply, sessions) = oneshot::channel();
        self.data.send(ToData::ReportSessions(reply));
        let sessions = timeout(GREETING, sessions)
            .await
            .map_err(|_| late())?
            .map_err(|_| late())?;
        let record = encode(&FromEdge::Hello {
            version: VERSION,
            edge: self.edge,
            sessions,
        })?;
        timeout(WRITE, writer.write_all(&record))
            .await
            .map_err(|_| late())??;
        Ok(())
    }

    async fn serve(
        &mut self,
        epoch: u64,
        kept: &mut Kept,
        mut reader: Receiver,
        writer: OwnedWriteHalf,
    ) -> Lost {
        let Self {
            listener,
            control_uid,
            directory,
            data,
            client,
            outgoing,
            refusals,
            ..
        } = self;
        let hear = async {
            loop {
                match timeout(SILENCE, read_message(&mut reader)).await {
                    Err(_) => return Lost::Silent,
                    Ok(Ok(Some(message))) => {
                        let descriptors = reader.descriptors();
                        if let Err(problem) = dispatch(
                            directory,
                            data.as_ref(),
                            client.as_ref(),
                            descriptors,
                            message,
                        ) {
                            return Lost::Failed(problem);
                        }
                    }
                    Ok(Ok(None)) => return Lost::Closed,
                    Ok(Err(problem)) => return Lost::Failed(problem),
                }
            }
        };
        let tell = tell(epoch, kept, outgoing, refusals, writer);
        tokio::select! {
            lost = hear => lost,
            lost = tell => lost,
            stream = accept(listener, *control_uid, refusals) => Lost::Replaced(stream),
        }
    }
}

async fn accept(listener: &UnixListener, control_uid: u32, refusals: &Refusals) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
                if uid == Some(control_uid) || uid == Some(rustix::process::getuid().as_raw()) {
                    return stream;
                }
                refusals.count(Refusal::LinkPeer);
                log::warning(
                    "link-wrong-peer",
                    serde_json::json!({"uid": uid, "wanted": control_uid}),
                );
            }
            Err(problem) => {
                refusals.count(Refusal::Accept);
                log::error(
                    "link-accept",
                    serde_json::json!({"reason": problem.to_string()}),
                );
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Writes the queue to the control plane; returns when that is over.
async fn tell(
    epoch: u64,
    kept: &mut Kept,
    outgoing: &mut Outgoing,
    refusals: &Refusals,
    writer: OwnedWriteHalf,
) -> Lost {
    let mut writer = BufWriter::with_capacity(64 * 1024, writer);
    // Kept until it has left: the link may be lost at every step, and to hear something twice
    // does less harm than never to hear it.
    for message in kept.iter() {
        if let Err(problem) = write(&mut writer, &message).await {
            return Lost::Failed(problem);
        }
    }
    loop {
        let queued = match outgoing.queue.try_recv() {
            Ok(queued) => queued,
            Err(_) => {
                if let Err(lost) = flush(&mut writer, kept).await {
                    return lost;
                }
                match outgoing.queue.recv().await {
                    Some(queued) => queued,
                    None => return Lost::Closed,
                }
            }
        };
        if outgoing.lost() > 0 {
            kept.keep(&queued.message, queued.epoch);
            return Lost::Overflow;
        }
        if queued.epoch != 0 && queued.epoch != epoch {
            continue;
        }
        let mut message = queued.message;
        if let FromEdge::Stats { counters, .. } = &mut message {
            counters.extend(refusals.list());
        }
        if kept.is_full()
            && let Err(lost) = flush(&mut writer, kept).await
        {
            return lost;
        }
        kept.keep(&message, queued.epoch);
        if let Err(problem) = write(&mut writer, &message).await {
            return Lost::Failed(problem);
        }
    }
}

/// Writes what is buffered; then nothing needs to be kept any more.
async fn flush(writer: &mut BufWriter<OwnedWriteHalf>, kept: &mut Kept) -> Result<(), Lost> {
    match timeout(WRITE, writer.flush()).await {
        Ok(Ok(())) => {
            kept.clear();
            Ok(())
        }
        Ok(Err(problem)) => Err(Lost::Failed(problem.into())),
        Err(_) => Err(Lost::Silent),
    }
}

async fn write(
    writer: &mut BufWriter<OwnedWriteHalf>,
    message: &FromEdge,
) -> Result<(), LinkError> {
    let record = match encode(message) {
        Ok(record) => record,
        // One message too large for a record must not take the link with it again and again.
        Err(problem) => {
            log::error(
                "link-message-dropped",
                serde_json::json!({"reason": problem.to_string()}),
            );
            return Ok(());
        }
    };
    match timeout(WRITE, writer.write_all(&record)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}
