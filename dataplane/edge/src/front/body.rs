//! Bodies on their way through: bounded, watched for standstill, and without trailers.
//!
//! Trailers are fields that come after the checks of a head; nothing here needs them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

use super::refusal::{Refusal, Refusals};

/// What the front answers with: a text of its own or the control plane's body.
pub type Answer = Either<Full<Bytes>, WithoutTrailers>;

/// Why a request body ended early.
#[derive(Debug)]
pub enum BodyError {
    TooLarge,
    Stalled,
    Broken(hyper::Error),
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the request body is too large"),
            Self::Stalled => f.write_str("the request body stopped coming"),
            Self::Broken(problem) => write!(f, "{problem}"),
        }
    }
}

impl std::error::Error for BodyError {}

/// A client's request body.
#[derive(Debug)]
pub struct RequestBody {
    body: Incoming,
    left: u64,
    /// Bytes passed on so far.
    passed: Arc<AtomicU64>,
    patience: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    refusals: Arc<Refusals>,
}

impl RequestBody {
    /// `most`: bytes in all. `patience`: longest time without a byte.
    pub fn new(body: Incoming, most: u64, patience: Duration, refusals: Arc<Refusals>) -> Self {
        Self {
            body,
            left: most,
            passed: Arc::default(),
            patience,
            deadline: None,
            refusals,
        }
    }

    /// Counts the bytes passed on, also while somebody else sends the body.
    pub fn passed(&self) -> Arc<AtomicU64> {
        self.passed.clone()
    }

    fn fail(
        &self,
        refusal: Refusal,
        problem: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.refusals.count(refusal);
        Poll::Ready(Some(Err(problem)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(problem))) => {
                    return Poll::Ready(Some(Err(BodyError::Broken(problem))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    self.deadline = None;
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    let Some(left) = self.left.checked_sub(data.len() as u64) else {
                        return self.fail(Refusal::BodyTooLarge, BodyError::TooLarge);
                    };
                    self.left = left;
                    self.passed.fetch_add(data.len() as u64, Ordering::Relaxed);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Pending => {
                    let patience = self.patience;
                    let deadline = self
                        .deadline
                        .get_or_insert_with(|| Box::pin(sleep(patience)));
                    ready!(deadline.as_mut().poll(context));
                    return self.fail(Refusal::BodyStalled, BodyError::Stalled);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body of the control plane.
#[derive(Debug)]
pub struct WithoutTrailers(pub Incoming);

impl Body for WithoutTrailers {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            match ready!(Pin::new(&mut self.0).poll_frame(context)) {
                Some(Ok(frame)) if frame.is_trailers() => continue,
                other => return Poll::Ready(other),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
