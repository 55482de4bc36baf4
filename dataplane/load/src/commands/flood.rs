//! Connections that go part of the way and never speak again.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use super::{Run, Turns, together};
use crate::args::Depth;
use crate::report::Tally;
use crate::session::StepError;

/// A connection that will not speak again.
enum Silent {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
}

/// Opens the connections, calls `holding` when all attempts are made, keeps them open.
pub async fn run(
    run: Arc<Run>,
    connections: usize,
    time: Duration,
    after: Depth,
    holding: impl Fn(usize),
) -> Tally {
    let (end, ended) = watch::channel(false);
    let (opened, mut arrivals) = mpsc::channel(run.parallel);
    let turns = Turns::new(connections);
    let openers: Vec<_> = (0..run.parallel.min(connections))
        .map(|_| opener(Arc::clone(&run), Arc::clone(&turns), after, opened.clone()))
        .collect();
    drop(opened);
    let opening = tokio::spawn(together(openers.into_iter()));
    let mut waiting = JoinSet::new();
    while let Some(connection) = arrivals.recv().await {
        waiting.spawn(wait_for_close(connection, ended.clone()));
    }
    let mut tally = opening.await.unwrap_or_default();
    holding(tally.succeeded);
    if tally.succeeded > 0 {
        tokio::time::sleep(time).await;
    }
    let _ = end.send(true);
    while let Some(closed) = waiting.join_next().await {
        let name = if matches!(closed, Ok(true)) {
            "closed by the gateway"
        } else {
            "open to the end"
        };
        tally.count(name, 1);
    }
    tally
}

async fn opener(
    run: Arc<Run>,
    turns: Arc<Turns>,
    after: Depth,
    opened: mpsc::Sender<Silent>,
) -> Tally {
    let mut tally = Tally::default();
    while let Some(turn) = turns.take() {
        match open(&run, turn, after).await {
            Ok(connection) => {
                tally.succeeded += 1;
                if opened.send(connection).await.is_err() {
                    break;
                }
            }
            Err(error) => tally.failure(&error),
        }
    }
    tally
}

async fn open(run: &Run, turn: usize, after: Depth) -> Result<Silent, StepError> {
    let target = &run.target;
    let tcp = target.tcp(turn).await?;
    if after == Depth::Tcp {
        return Ok(Silent::Plain(tcp));
    }
    let mut stream = target.tls(tcp).await?;
    if after == Depth::Upgrade {
        target.upgrade(&mut stream, None).await?;
    }
    Ok(Silent::Secured(Box::new(stream)))
}

/// True when the gateway closed the connection before the end.
async fn wait_for_close(connection: Silent, mut ended: watch::Receiver<bool>) -> bool {
    let closed = async {
        match connection {
            Silent::Plain(mut tcp) => drain(&mut tcp).await,
            Silent::Secured(mut stream) => drain(&mut stream).await,
        }
    };
    tokio::select! {
        () = closed => true,
        _ = ended.wait_for(|end| *end) => false,
    }
}

async fn drain(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut byte = [0; 16];
    while matches!(stream.read(&mut byte).await, Ok(1..)) {}
}
