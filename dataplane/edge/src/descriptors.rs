//! Inherited descriptors: the one place where numbers become owned files.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// Hands out each inherited descriptor once.
#[derive(Debug, Default)]
pub struct Inherited {
    taken: BTreeSet<RawFd>,
}

impl Inherited {
    /// Takes ownership of descriptor `number` and marks it close-on-exec.
    ///
    /// Fails with `InvalidInput` on 0, 1, 2 or a number taken before, and with the error of the
    /// kernel (`EBADF`) when the parent left nothing open there.
    ///
    /// Call before any other code of this process opens files: a number that is free at start
    /// could otherwise belong to somebody else by now.
    pub fn take(&mut self, number: RawFd) -> io::Result<OwnedFd> {
        if number <= 2 || !self.taken.insert(number) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        // SAFETY: `borrow_raw` asks for a number other than -1 that stays open while borrowed.
        // Nothing in this process closes descriptors it did not open, and the call is made while
        // the process has one thread. Should the number not be open after all, fcntl answers
        // EBADF and nothing is touched.
        #[allow(unsafe_code)]
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl_getfd(borrowed)?;
        fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
        // SAFETY: `from_raw_fd` asks that the number is open and owned by nobody else. It is
        // open: fcntl has just succeeded. It is not ours by another owner: the parent named it
        // as handed over, it is not a standard stream, `taken` gives every number away once,
        // and the caller has opened nothing yet.
        #[allow(unsafe_code)]
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn a_descriptor_is_taken_once_and_must_be_open() {
        let (ours, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let number = OwnedFd::from(ours).into_raw_fd();
        let mut inherited = Inherited::default();
        let owned = inherited.take(number).unwrap();
        assert!(fcntl_getfd(&owned).unwrap().contains(FdFlags::CLOEXEC));
        assert_eq!(
            inherited.take(number).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert!(inherited.take(1).is_err());
        assert_eq!(
            inherited.take(1_000_000).unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
    }
}
