//! Ends connections whose request heads two HTTP implementations could read differently
//! (`lockgate_dataplane::http_head`) before hyper sees the bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use lockgate_dataplane::http_head::{Ambiguous, Watch};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::refusal::{Refusal, Refusals};

/// A stream whose reads are watched; what is refused is counted.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    watch: Watch,
    refusals: Arc<Refusals>,
}

impl<S> Watched<S> {
    pub fn new(stream: S, refusals: Arc<Refusals>) -> Self {
        Self {
            stream,
            watch: Watch::default(),
            refusals,
        }
    }

    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let seen = buffer.filled().get(before..).unwrap_or_default();
        Poll::Ready(self.watch.see(seen).map_err(|Ambiguous| {
            self.refusals.count(Refusal::BadHead);
            io::Error::from(io::ErrorKind::InvalidData)
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
