//! One dial: from a TCP connection to IF-T, or to a reason why not.

use std::net::SocketAddr;
use std::sync::Arc;

use lockgate_dataplane::link::{Dial, DialFailure, Dialed, FromEdge, Secret, ToEdge};
use rustls::pki_types::ServerName;
use serde_bytes::ByteBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::trust::{Judge, Presented};
use super::{Client, Failure, upgrade};
use crate::conversation::{self, Opening};
use crate::data::ToData;
use crate::framing::Framing;
use crate::front::tls;
use crate::link::directory::{Command, Registered};

/// Everything of one connection until the data thread has it. Each dial is answered once, by
/// `dialed` or `dial_failed`, unless the link it came from is gone.
pub(super) async fn run(
    client: Arc<Client>,
    mut registered: Registered,
    dial: Box<Dial>,
    socket: std::net::TcpStream,
) {
    let ties = &client.ties;
    let judge = Arc::new(Judge::new(&dial, client.provider.clone()));
    let mut attached = false;
    let reached = {
        let attempt = timeout(client.dial_time, reach(&judge, &dial, socket));
        tokio::select! {
            done = attempt => done.unwrap_or_else(|_| {
                let text = format!("no answer within {} s", client.dial_time.as_secs());
                Err(Failure::new(DialFailure::Timeout, text))
            }),
            command = registered.next() => {
                attached = matches!(command, Command::Attach { .. });
                Err(Failure::new(DialFailure::Closed, given_up(&command)))
            }
        }
    };
    let (conn, epoch) = (dial.conn, registered.epoch);
    drop(dial);
    match reached {
        Ok(Reached {
            stream,
            unread,
            peer,
        }) => {
            let first = dialed(conn, &stream, judge.presented());
            drop(judge);
            let (ties, terms) = (ties.clone(), client.terms);
            drop(client);
            let opening = Opening {
                stream: stream.into(),
                framing: Framing::if_t(terms.side),
                unread,
                peer,
            };
            conversation::run(ties, terms, registered, opening, first).await;
        }
        Err(failure) => {
            ties.directory.forget(conn);
            if registered.close() || attached {
                // The data thread waits for a connection that will not come.
                ties.data.send(ToData::Link(ToEdge::CloseConn { conn }));
            }
            let Presented {
                certificates, pin, ..
            } = judge.presented();
            let message = FromEdge::DialFailed {
                conn,
                cause: failure.cause,
                detail: failure.detail,
                certificates: certificates.into_iter().map(ByteBuf::from).collect(),
                pin,
            };
            let _ = ties.uplink.send_for(epoch, message).await;
        }
    }
}

/// Why a dial ends that the service interrupted.
fn given_up(command: &Command) -> &'static str {
    match command {
        Command::Close => "closed by the service",
        Command::Drop(refusal) => refusal.name(),
        Command::Frame { .. } | Command::Attach { .. } => "the service did not wait for the answer",
    }
}

/// A connection that speaks IF-T.
struct Reached {
    stream: TlsStream<TcpStream>,
    /// Plaintext behind the answer's head.
    unread: Vec<u8>,
    peer: SocketAddr,
}

/// TLS, the request, its answer. No byte of ours goes to a server that is not believed.
async fn reach(
    judge: &Arc<Judge>,
    dial: &Dial,
    socket: std::net::TcpStream,
) -> Result<Reached, Failure> {
    let head = upgrade::request(dial)?;
    let name = ServerName::try_from(dial.server_name.clone()).map_err(|_| {
        let text = "the server name is neither a DNS name nor an IP address";
        Failure::new(DialFailure::WrongName, text)
    })?;
    let config = judge.config().map_err(|problem| tls_failed(&problem))?;
    let peer = socket.peer_addr().map_err(|problem| lost(&problem))?;
    // A flight of small frames would wait for acknowledgements.
    let _ = socket.set_nodelay(true);
    let socket = TcpStream::from_std(socket).map_err(|problem| lost(&problem))?;
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
        .map_err(|problem| {
            let unbelieved = judge.presented().failure;
            unbelieved.unwrap_or_else(|| lost(&problem))
        })?;
    let asked = async {
        stream.write_all(&head).await?;
        stream.flush().await
    };
    asked.await.map_err(|problem| lost(&problem))?;
    let mut answer = Vec::new();
    let head = loop {
        match stream.read_buf(&mut answer).await {
            Ok(0) => {
                let text = "the server closed the connection without an answer";
                return Err(Failure::new(DialFailure::Closed, text));
            }
            Ok(_) => {}
            Err(problem) => return Err(lost(&problem)),
        }
        if let Some(head) = upgrade::answer(&answer)? {
            break head;
        }
    };
    let unread = answer.split_off(head);
    Ok(Reached {
        stream,
        unread,
        peer,
    })
}

/// What an error of the TLS stream means.
fn lost(problem: &std::io::Error) -> Failure {
    let inner = problem.get_ref();
    if let Some(problem) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls_failed(problem);
    }
    Failure::new(DialFailure::Closed, problem)
}

fn tls_failed(problem: &rustls::Error) -> Failure {
    Failure::new(DialFailure::Tls, problem)
}

fn dialed(conn: u64, stream: &TlsStream<TcpStream>, presented: Presented) -> FromEdge {
    let connection = stream.get_ref().1;
    let exporter: Secret = tls::exporter(connection);
    FromEdge::Dialed(Box::new(Dialed {
        conn,
        tls_version: tls::version(connection).to_owned(),
        tls_cipher: tls::cipher(connection),
        tls_group: tls::group(connection),
        certificates: presented
            .certificates
            .into_iter()
            .map(ByteBuf::from)
            .collect(),
        pin: presented.pin,
        exporter,
    }))
}
