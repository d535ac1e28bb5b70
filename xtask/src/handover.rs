//! One message and some open files from the process outside the namespace to the one inside.
//!
//! A socket belongs to the network namespace in which it was made, so the port that clients of the host
//! use is opened outside and handed in. Both ends of the channel stay open for the whole run: the word
//! `stop` on it, or its end, tells the inside that it is over.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};

const MESSAGE_LEN_MAX: usize = 64 * 1024;
const FILES_MAX: usize = 4;

/// A channel that keeps messages apart: outside end, inside end.
///
/// # Errors
/// No file descriptors are left.
pub(crate) fn channel() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("cannot make a socket pair")
}

/// Sends `message` and duplicates of `files`.
///
/// # Errors
/// The other end is gone.
///
/// # Panics
/// If there are more files or bytes than the other end would take.
pub(crate) fn send<T: Serialize>(channel: impl AsFd, message: &T, files: &[BorrowedFd<'_>]) -> Result<()> {
    let bytes = serde_json::to_vec(message)?;
    assert!(
        bytes.len() <= MESSAGE_LEN_MAX && files.len() <= FILES_MAX,
        "a handover is small"
    );
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        assert!(
            control.push(SendAncillaryMessage::ScmRights(files)),
            "the space is sized for them"
        );
    }
    sendmsg(
        channel,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .context("the handover was not taken")?;
    Ok(())
}

/// Receives what [`send`] sent.
///
/// # Errors
/// The other end is gone, or sent something else.
pub(crate) fn receive<T: DeserializeOwned>(channel: impl AsFd) -> Result<(T, Vec<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE_LEN_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        channel,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0
        || received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        bail!("no whole handover came");
    }
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            files.extend(received);
        }
    }
    Ok((serde_json::from_slice(&bytes[..received.bytes])?, files))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_message_and_its_files_arrive() {
        let (outside, inside) = channel().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        send(&outside, &("greeting".to_owned(), 7), &[far.as_fd()]).unwrap();
        let ((word, number), files): ((String, u32), _) = receive(&inside).unwrap();
        assert_eq!((word.as_str(), number, files.len()), ("greeting", 7, 1));
        let mut arrived = UnixStream::from(files.into_iter().next().unwrap());
        near.write_all(b"x").unwrap();
        let mut byte = [0];
        arrived.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn an_end_is_an_error_and_not_a_message() {
        let (outside, inside) = channel().unwrap();
        drop(outside);
        assert!(receive::<String>(&inside).is_err());
    }
}
