//! Every message from the control plane finds its owner here.

use std::sync::Arc;

use lockgate_dataplane::link::ToEdge;

use super::DataPort;
use super::codec::LinkError;
use super::directory::{Command, Directory};
use super::receive::Descriptors;
use crate::client::{Client, handed};
use crate::data::ToData;

/// Hands a message to its owner: the front (in a client edge, `client`) for connections it still
/// has, else the data thread. An error ends the link.
pub(super) fn dispatch(
    directory: &Directory,
    data: &dyn DataPort,
    client: Option<&Arc<Client>>,
    descriptors: &mut Descriptors,
    message: ToEdge,
) -> Result<(), LinkError> {
    match (message, client) {
        (ToEdge::Dial(dial), Some(client)) => {
            let socket = handed::tcp(descriptors.take()?)?;
            client.dial(dial, socket)
        }
        (ToEdge::SetTun { takes_udp }, Some(_)) => {
            let fd = handed::tun(descriptors.take()?)?;
            data.send(ToData::Tun { fd, takes_udp });
            Ok(())
        }
        (ToEdge::SetPort { session }, Some(_)) => {
            let socket = handed::udp(descriptors.take()?)?;
            data.send(ToData::Port { session, socket });
            Ok(())
        }
        (message, client) => {
            descriptors.none_left()?;
            common(directory, data, client.is_some(), message)
        }
    }
}

/// What both kinds of edge understand.
fn common(
    directory: &Directory,
    data: &dyn DataPort,
    is_client: bool,
    message: ToEdge,
) -> Result<(), LinkError> {
    match message {
        // Said once, at the start.
        ToEdge::Hello { .. } => return Err(LinkError::Message),
        // Only a client edge knows these.
        ToEdge::Dial(_) | ToEdge::SetTun { .. } | ToEdge::SetPort { .. } => {
            return Err(LinkError::Message);
        }
        ToEdge::StartEsp { .. } if !is_client => return Err(LinkError::Message),
        ToEdge::Keepalive {} => {}
        ToEdge::Frame {
            conn,
            vendor,
            kind,
            body,
        } => {
            if let Err(Command::Frame { vendor, kind, body }) =
                directory.command(conn, Command::Frame { vendor, kind, body })
            {
                data.send(ToData::Link(ToEdge::Frame {
                    conn,
                    vendor,
                    kind,
                    body,
                }));
            }
        }
        ToEdge::CloseConn { conn } => {
            if directory.command(conn, Command::Close).is_err() {
                data.send(ToData::Link(ToEdge::CloseConn { conn }));
            }
        }
        ToEdge::Attach { conn, session } => {
            // Not ours: it ended, which `conn_closed` says, or was attached before.
            if directory.owns(conn) {
                // The data thread must know before the connection or its frames can reach it.
                data.send(ToData::Link(ToEdge::Attach { conn, session }));
                if directory
                    .command(conn, Command::Attach { session })
                    .is_err()
                {
                    data.send(ToData::Link(ToEdge::CloseConn { conn }));
                }
            }
        }
        other => data.send(ToData::Link(other)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use lockgate_dataplane::link::VERSION;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<String>>);

    impl DataPort for Recorder {
        fn send(&self, order: ToData) {
            let text = match order {
                ToData::Link(message) => format!("{message:?}"),
                other => format!("{other:?}"),
            };
            crate::lock(&self.0).push(text);
        }
    }

    /// As a gateway's edge dispatches.
    fn send(directory: &Directory, data: &Recorder, message: ToEdge) -> Result<(), LinkError> {
        dispatch(directory, data, None, &mut Descriptors::default(), message)
    }

    #[tokio::test]
    async fn messages_go_to_the_owner_of_the_connection() {
        let directory = Directory::new(1000, Arc::default());
        directory.link_up();
        let mut mine = directory.register().unwrap();
        let data = Recorder::default();
        let conn = mine.conn;
        let frame = |conn| ToEdge::Frame {
            conn,
            vendor: 1,
            kind: 2,
            body: vec![],
        };
        send(&directory, &data, frame(conn)).unwrap();
        assert!(matches!(mine.next().await, Command::Frame { .. }));
        assert!(crate::lock(&data.0).is_empty());
        send(&directory, &data, ToEdge::Attach { conn, session: 5 }).unwrap();
        send(&directory, &data, frame(conn)).unwrap();
        send(&directory, &data, ToEdge::CloseConn { conn }).unwrap();
        send(
            &directory,
            &data,
            ToEdge::Attach {
                conn: 99,
                session: 5,
            },
        )
        .unwrap();
        assert!(matches!(mine.next().await, Command::Attach { session: 5 }));
        let sent = crate::lock(&data.0).clone();
        let starts: Vec<_> = sent
            .iter()
            .map(|text| text.split([' ', '{']).next().unwrap())
            .collect();
        assert_eq!(starts, ["Attach", "Frame", "CloseConn"]);
        assert!(send(&directory, &data, ToEdge::Hello { version: VERSION }).is_err());
        for message in [
            ToEdge::SetTun { takes_udp: true },
            ToEdge::SetPort { session: 5 },
            ToEdge::StartEsp {
                session: 5,
                extended: true,
            },
        ] {
            assert!(send(&directory, &data, message).is_err());
        }
    }

    #[tokio::test]
    async fn an_attach_that_comes_too_late_is_taken_back() {
        let directory = Directory::new(1000, Arc::default());
        directory.link_up();
        let mine = directory.register().unwrap();
        let conn = mine.conn;
        assert!(!mine.close());
        let data = Recorder::default();
        send(&directory, &data, ToEdge::Attach { conn, session: 5 }).unwrap();
        assert_eq!(crate::lock(&data.0).len(), 2);
        assert!(
            crate::lock(&data.0)
                .last()
                .unwrap()
                .starts_with("CloseConn")
        );
    }
}
