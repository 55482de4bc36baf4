//! Carries requests of one client connection to the control plane's HTTP server.
//!
//! Each client connection has at most one connection to the control plane, used for its requests
//! one after the other. hyper writes what hyper has read: no byte of the client's own framing
//! reaches the other side.

use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::body::RequestBody;

/// For connecting to a local socket: only a stopped process takes longer.
const CONNECT: Duration = Duration::from_secs(2);
/// Least that must pass of a request body while its answer is waited for; a client on a bad line
/// sends more in a few seconds.
const PROGRESS: u64 = 16 * 1024;
/// Largest head of an answer.
const ANSWER_HEAD: usize = 64 * 1024;

/// Why there is no answer to pass on.
#[derive(Debug)]
pub enum NoAnswer {
    /// No control plane takes connections.
    Down,
    /// It took the request, but too long to answer.
    Slow,
    /// The request body was refused on the way: too large.
    TooLarge,
    /// It closed the connection, sent nonsense, or the client's body broke off.
    Broken,
}

impl NoAnswer {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Down => StatusCode::SERVICE_UNAVAILABLE,
            Self::Slow => StatusCode::GATEWAY_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken => StatusCode::BAD_GATEWAY,
        }
    }

    pub fn text(&self) -> &'static str {
        match self {
            Self::Down => "The gateway is starting. Try again in a few seconds.\n",
            Self::Slow => "The gateway took too long to answer. Try again.\n",
            Self::TooLarge => "The request is too large.\n",
            Self::Broken => "The gateway could not answer this request. Try again.\n",
        }
    }
}

/// The connection to the control plane, made when first needed.
#[derive(Debug, Default)]
pub struct Upstream {
    sender: Option<SendRequest<RequestBody>>,
}

impl Upstream {
    /// Sends `request` and returns the head of the answer; its body follows as it comes. `patience`
    /// is for the answer: the time in which the request's own body moves on does not count.
    pub async fn send(
        &mut self,
        socket: &Path,
        mut request: Request<RequestBody>,
        patience: Duration,
    ) -> Result<Response<Incoming>, NoAnswer> {
        *request.version_mut() = hyper::Version::HTTP_11;
        let passed = request.body().passed();
        // A kept connection may have been closed by the other side in this very moment; hyper
        // then gives back a request it has not begun to send, and a new connection takes it.
        for _ in 0..2 {
            let mut sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
                Some(sender) => sender,
                None => connect(socket).await?,
            };
            if sender.ready().await.is_err() {
                continue;
            }
            match while_it_moves(sender.try_send_request(request), &passed, patience).await {
                None => return Err(NoAnswer::Slow),
                Some(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(NoAnswer::Broken);
                }
                Some(Ok(response)) => {
                    self.sender = Some(sender);
                    return Ok(response);
                }
                Some(Err(mut problem)) => match problem.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(refused(problem.error())),
                },
            }
        }
        Err(NoAnswer::Down)
    }
}

/// What `answer` becomes; `None` when for `patience` neither it came nor the body moved on.
async fn while_it_moves<T>(
    answer: impl Future<Output = T>,
    passed: &AtomicU64,
    patience: Duration,
) -> Option<T> {
    let mut answer = pin!(answer);
    loop {
        let before = passed.load(Ordering::Relaxed);
        if let Ok(answer) = timeout(patience, answer.as_mut()).await {
            return Some(answer);
        }
        if passed.load(Ordering::Relaxed) < before.saturating_add(PROGRESS) {
            return None;
        }
    }
}

/// Tells our own refusal of a body from trouble with the control plane.
fn refused(problem: &hyper::Error) -> NoAnswer {
    let mut cause = std::error::Error::source(problem);
    while let Some(inner) = cause {
        if let Some(super::body::BodyError::TooLarge) = inner.downcast_ref() {
            return NoAnswer::TooLarge;
        }
        cause = inner.source();
    }
    NoAnswer::Broken
}

async fn connect(socket: &Path) -> Result<SendRequest<RequestBody>, NoAnswer> {
    let stream = match timeout(CONNECT, UnixStream::connect(socket)).await {
        Ok(Ok(stream)) => stream,
        _ => return Err(NoAnswer::Down),
    };
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(ANSWER_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| NoAnswer::Down)?;
    // Ends when the sender and the last answer's body are dropped: with the client connection.
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn patience_is_for_the_answer_and_not_for_the_body() {
        let patience = Duration::from_millis(100);
        for (a_step, wanted) in [(PROGRESS, Some(())), (PROGRESS / 4, None)] {
            let passed = AtomicU64::new(0);
            let answer = async {
                for _ in 0..8 {
                    passed.fetch_add(a_step, Ordering::Relaxed);
                    tokio::time::sleep(patience / 2).await;
                }
            };
            assert_eq!(while_it_moves(answer, &passed, patience).await, wanted);
        }
    }
}
