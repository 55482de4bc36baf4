//! How a Network Connect client is let in: it has asked by HTTP, and waits for our answer.
//!
//! The control plane's first word is the verdict. Accepted, the client says its host name in a
//! record of its own form, and hears a status. Until the verdict is out it must be silent: what came
//! would stand in no protocol, neither HTTP's nor the tunnel's.

use lockgate_dataplane::ncp;

use super::{Command, Conversation, End, Registered, read_some};
use crate::framing::Framing;
use crate::front::refusal::Refusal;

/// The answer after which the connection is the tunnel. openconnect reads headers up to the empty
/// line and nothing as a body.
const ACCEPTED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\
    Cache-Control: no-store\r\n\r\n";
/// The answer that tells a client not to try again with this cookie.
const REFUSED: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Cache-Control: no-store\r\nContent-Length: 33\r\nConnection: close\r\n\r\n\
    Sign in to connect with a tunnel.";

impl Conversation<'_> {
    /// Lets the client in, or says why not. Nothing to do where HTTP has done it.
    pub(super) async fn greet(&mut self, registered: &mut Registered) -> Result<(), End> {
        if !matches!(self.framing, Framing::Ncp(_)) {
            return Ok(());
        }
        match self.verdict(registered).await? {
            true => self.write_record(ACCEPTED).await?,
            false => {
                self.write_record(REFUSED).await?;
                return Err(End::Closed);
            }
        }
        let (name, end) = loop {
            match ncp::host(&self.unread) {
                Ok(Some(found)) => break found,
                Ok(None) => {}
                Err(_) => return Err(End::Refused(Refusal::BadFrame)),
            }
            match self.command_or_input(registered).await? {
                None => {}
                Some(Command::Close) => return Err(End::Closed),
                Some(Command::Drop(refusal)) => return Err(End::Refused(refusal)),
                Some(_) => return Err(End::Refused(Refusal::BadFrame)),
            }
        };
        let name = self.unread.get(name).unwrap_or_default().to_vec();
        self.received.add(end, &self.terms)?;
        self.unread.drain(..end);
        self.write_record(&ncp::STATUS).await?;
        self.send_up(registered, 0, 0, name).await
    }

    /// Whether the control plane lets the client in.
    async fn verdict(&mut self, registered: &mut Registered) -> Result<bool, End> {
        let command = match self.command_or_input(registered).await {
            Ok(Some(command)) => command,
            Ok(None) | Err(End::Refused(Refusal::BadFrame)) => {
                return Err(End::Refused(Refusal::EarlyBytes));
            }
            Err(end) => return Err(end),
        };
        match command {
            Command::Frame {
                vendor: 0,
                kind: 0,
                body,
            } if body.is_empty() => self.is_silent().await.map(|()| true),
            Command::Close => Ok(false),
            Command::Drop(refusal) => Err(End::Refused(refusal)),
            Command::Frame { .. } | Command::Attach { .. } => Err(End::Refused(Refusal::BadFrame)),
        }
    }

    /// Fails when the client has spoken already.
    async fn is_silent(&mut self) -> Result<(), End> {
        let Some(stream) = &mut self.stream else {
            return Err(End::HandedOver);
        };
        tokio::select! {
            biased;
            read = read_some(stream, &mut self.unread, 1) => match read {
                Ok(0) => Err(End::PeerClosed),
                Ok(_) => Err(End::Refused(Refusal::EarlyBytes)),
                Err(_) => Err(End::PeerFailed),
            },
            () = std::future::ready(()) => Ok(()),
        }
    }
}
