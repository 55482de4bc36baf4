//! Reads the link's bytes and the descriptors that travel with them (SCM_RIGHTS, unix(7)).
//!
//! A descriptor arrives with the first byte of the record it belongs to, at the latest when that
//! record is whole. Descriptors wait in the order they came until a message takes them; whatever
//! is left when the link ends is closed with it.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, ReturnFlags, recvmsg,
};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;

use super::codec::LinkError;

/// Most descriptors that may wait. Each message takes one, and records are read one at a time:
/// more than one waits only when the sender wrote several records at once.
pub const DESCRIPTORS: usize = 16;

/// Received descriptors nobody has taken yet.
#[derive(Debug, Default)]
pub struct Descriptors {
    queue: VecDeque<OwnedFd>,
    most: usize,
}

impl Descriptors {
    fn push(&mut self, descriptor: OwnedFd) -> io::Result<()> {
        if self.queue.len() >= self.most {
            return Err(refusal("more descriptors than may wait"));
        }
        self.queue.push_back(descriptor);
        Ok(())
    }

    /// The descriptor of the message at hand.
    pub fn take(&mut self) -> Result<OwnedFd, LinkError> {
        self.queue.pop_front().ok_or(LinkError::Descriptor(
            "a message came without its descriptor",
        ))
    }

    /// An error when there are descriptors: the message at hand takes none.
    pub fn none_left(&self) -> Result<(), LinkError> {
        match self.queue.is_empty() {
            true => Ok(()),
            false => Err(LinkError::Descriptor(
                "a descriptor came that no message takes",
            )),
        }
    }
}

/// The reading half of a link.
#[derive(Debug)]
pub struct Receiver {
    stream: OwnedReadHalf,
    descriptors: Descriptors,
}

impl Receiver {
    /// `most`: descriptors that may wait; with 0 the first one is an error.
    pub fn new(stream: OwnedReadHalf, most: usize) -> Self {
        Self {
            stream,
            descriptors: Descriptors {
                queue: VecDeque::new(),
                most,
            },
        }
    }

    pub fn descriptors(&mut self) -> &mut Descriptors {
        &mut self.descriptors
    }
}

impl AsyncRead for Receiver {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            stream,
            descriptors,
        } = self.get_mut();
        let stream: &UnixStream = stream.as_ref();
        loop {
            ready!(stream.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            let done = stream.try_io(Interest::READABLE, || receive(stream, room, descriptors));
            match done {
                Ok(bytes) => {
                    buffer.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => {}
                Err(problem) => return Poll::Ready(Err(problem)),
            }
        }
    }
}

/// One system call. Descriptors that find no place are closed at once, here or by the kernel.
fn receive(
    stream: &UnixStream,
    room: &mut [u8],
    descriptors: &mut Descriptors,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(room)];
    let RecvMsg { bytes, flags, .. } = loop {
        match recvmsg(stream, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            done => break done?,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            for descriptor in received {
                descriptors.push(descriptor)?;
            }
        }
    }
    if flags.contains(ReturnFlags::CTRUNC) {
        return Err(refusal("more descriptors in one message than may wait"));
    }
    Ok(bytes)
}

fn refusal(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Whether reading failed because of what was sent, not because of the socket.
pub fn is_refusal(problem: &io::Error) -> bool {
    problem.kind() == io::ErrorKind::InvalidData
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::io::{FdFlags, fcntl_getfd};
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::io::{IoSlice, Read, Write};
    use std::os::fd::AsFd;
    use tokio::io::AsyncReadExt;

    /// Sends `bytes` with `count` ends of a pipe whose other ends come back.
    fn send(stream: &UnixStream, bytes: &[u8], count: usize) -> Vec<std::io::PipeReader> {
        let (readers, writers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| std::io::pipe().unwrap()).unzip();
        let borrowed: Vec<_> = writers.iter().map(AsFd::as_fd).collect();
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(count == 0 || control.push(SendAncillaryMessage::ScmRights(&borrowed)));
        let slices = [IoSlice::new(bytes)];
        sendmsg(stream, &slices, &mut control, SendFlags::empty()).unwrap();
        readers
    }

    fn pair(most: usize) -> (Receiver, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (Receiver::new(near.into_split().0, most), far)
    }

    /// Nobody holds the writing end any more.
    fn is_closed(mut reader: std::io::PipeReader) -> bool {
        reader.read(&mut [0]).unwrap() == 0
    }

    #[tokio::test]
    async fn descriptors_come_in_order_beside_the_bytes() {
        let (mut receiver, far) = pair(DESCRIPTORS);
        send(&far, b"a", 0);
        let mut pipes = send(&far, b"bc", 2);
        pipes.extend(send(&far, b"d", 1));
        let mut bytes = [0; 4];
        receiver.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"abcd");
        for mut pipe in pipes {
            assert!(receiver.descriptors().none_left().is_err());
            let taken = receiver.descriptors().take().unwrap();
            assert!(fcntl_getfd(&taken).unwrap().contains(FdFlags::CLOEXEC));
            std::fs::File::from(taken).write_all(b"x").unwrap();
            assert_eq!(pipe.read(&mut [0]).unwrap(), 1);
        }
        receiver.descriptors().none_left().unwrap();
        assert!(receiver.descriptors().take().is_err());
        drop(far);
        assert_eq!(receiver.read(&mut bytes).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn more_than_may_wait_is_refused_and_closed() {
        for (most, first, second) in [(0, 1, 0), (1, 2, 0), (2, 1, 2), (DESCRIPTORS, 17, 0)] {
            let (mut receiver, far) = pair(most);
            let mut pipes = send(&far, b"a", first);
            pipes.extend(send(&far, b"b", second));
            let mut bytes = [0; 2];
            let problem = receiver.read_exact(&mut bytes).await.unwrap_err();
            assert!(is_refusal(&problem), "{most} {first}: {problem}");
            drop(receiver);
            drop(far);
            assert!(pipes.into_iter().all(is_closed));
        }
    }
}
