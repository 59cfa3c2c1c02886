//! The virtio-serial port as an asynchronous byte stream that knows when the host is there.
//!
//! The port is opened once and never closed. That is what keeps it ours: the kernel lets one process at a time open a port,
//! so nothing in the guest, not even a container with every capability and a device node of its own, can get at it. It also
//! makes a reconnect after a restore cheap: the host's bytes need no "guest opened" message first.
//!
//! # Knowing when the host is there
//!
//! While no host is connected, `read` returns 0 at once and `poll` says `POLLIN | POLLHUP` for ever, so neither a blocking
//! read nor a level-triggered wait can wait for the host, and tokio's own readiness never forgets a hang-up. But the driver
//! wakes the port's wait queue whenever the host comes or goes, data arrives, or the queue to the host drains. An
//! edge-triggered epoll instance of our own turns each of these into exactly one event; that instance is itself a pollable
//! file, which tokio watches. So there is no polling, no sleep and no thread.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use futures::{
    future::poll_fn,
    io::{AsyncRead, AsyncWrite},
};
use rustix::{
    event::epoll,
    fs::{Mode, OFlags},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink, netlink::SocketAddrNetlink, recv, socket_with,
    },
};
use tokio::io::unix::AsyncFd;
use wire::PORT_NAME;

use crate::sys;

/// Bytes read ahead. One read of the driver gives one of its 4 KiB buffers; there is no use in more than a few.
const INPUT_BYTES: usize = 16 * 1024;
/// Bytes collected before they are written; the driver takes at most 32 KiB at a time.
const OUTPUT_BYTES: usize = 32 * 1024;

/// The open port. One task at a time may use it: there is one waker.
pub struct Port {
    file: OwnedFd,
    edges: AsyncFd<OwnedFd>,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    output: Vec<u8>,
    /// False after the driver had nothing to read, until the next edge.
    readable: bool,
    /// False after the driver took nothing, until the next edge.
    writable: bool,
}

impl Port {
    /// Waits for the port called [`PORT_NAME`] and opens it. The name reaches the guest a few milliseconds after the driver
    /// is loaded; each step of that is announced by a uevent.
    pub async fn find() -> io::Result<Self> {
        let uevents = subscribe_uevents()?;
        loop {
            if let Some(device) = scan() {
                return Self::open(&device);
            }
            let mut guard = uevents.readable().await?;
            // Which event it was does not matter: look again after each. A full queue (ENOBUFS) is a reason to look, too.
            let mut message = [0_u8; 4096];
            if recv(uevents.get_ref(), &mut message, RecvFlags::DONTWAIT) == Err(Errno::AGAIN) {
                guard.clear_ready();
            }
        }
    }

    fn open(device: &PathBuf) -> io::Result<Self> {
        let file = rustix::fs::open(device, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        Self::over(file)
    }

    /// Over any non-blocking byte stream.
    pub fn over(file: OwnedFd) -> io::Result<Self> {
        let instance = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&instance, &file, epoll::EventData::new_u64(0), flags)?;
        Ok(Self {
            file,
            edges: sys::watch_readable(instance)?,
            input: vec![0; INPUT_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            output: Vec::with_capacity(OUTPUT_BYTES),
            readable: true,
            writable: true,
        })
    }

    /// Waits until something happened at the port since it was last found empty or closed: call it after end of file to
    /// wait for the host to come back.
    pub async fn changed(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_edge(cx)).await
    }

    /// Forgets what was to be written: it was for a connection that is over.
    pub fn discard_output(&mut self) {
        self.output.clear();
    }

    /// Takes back up to `bytes` bytes that were read last, so that they are read again.
    pub fn rewind(&mut self, bytes: usize) {
        self.start = self.start.saturating_sub(bytes);
    }

    /// Consumes one edge. Both directions are tried again after it; the direction that did not ask is woken by a wake of
    /// the task, because this edge may have been its own.
    fn poll_edge(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = ready!(self.edges.poll_read_ready(cx))?;
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 1];
        // Drain first, then forget the readiness, then (by the flags) try again: an edge in between sets it anew.
        epoll::wait(self.edges.get_ref(), &mut events, Some(&rustix::time::Timespec::default()))?;
        guard.clear_ready();
        (self.readable, self.writable) = (true, true);
        Poll::Ready(Ok(()))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.readable {
                match rustix::io::read(&self.file, &mut self.input[..]) {
                    Ok(count) => {
                        (self.start, self.end) = (0, count);
                        return Poll::Ready(Ok(()));
                    }
                    Err(Errno::AGAIN) => self.readable = false,
                    Err(Errno::INTR) => continue,
                    Err(error) => return Poll::Ready(Err(error.into())),
                }
            }
            let other = !self.writable;
            ready!(self.poll_edge(cx))?;
            wake_other(other, cx.waker());
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            if self.writable {
                match rustix::io::write(&self.file, &self.output) {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Ok(count) => drop(self.output.drain(..count)),
                    Err(Errno::AGAIN) => self.writable = false,
                    Err(Errno::INTR) => {}
                    Err(error) => return Poll::Ready(Err(error.into())),
                }
                continue;
            }
            let other = !self.readable;
            ready!(self.poll_edge(cx))?;
            wake_other(other, cx.waker());
        }
        Poll::Ready(Ok(()))
    }
}

/// See [`Port::poll_edge`].
fn wake_other(waits: bool, waker: &Waker) {
    if waits {
        waker.wake_by_ref();
    }
}

impl AsyncRead for Port {
    /// 0 means that no host is connected (any more); reading on is allowed, see [`Port::changed`].
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.start == this.end {
            ready!(this.poll_fill(cx))?;
        }
        let count = buffer.len().min(this.end - this.start);
        buffer[..count].copy_from_slice(&this.input[this.start..this.start + count]);
        this.start += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.output.len() >= OUTPUT_BYTES {
            ready!(this.poll_drain(cx))?;
        }
        let count = bytes.len().min(OUTPUT_BYTES - this.output.len());
        this.output.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_drain(cx)
    }

    /// Flushes only: the port stays open.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// The device node of the port called [`PORT_NAME`], if the kernel has it by now.
fn scan() -> Option<PathBuf> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim_end() == PORT_NAME {
            return Some(PathBuf::from("/dev").join(entry.file_name()));
        }
    }
    None
}

/// A socket that becomes readable with every kernel uevent (group 1 of `NETLINK_KOBJECT_UEVENT`).
fn subscribe_uevents() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::KOBJECT_UEVENT))?;
    bind(socket.as_fd(), &SocketAddrNetlink::new(0, 1))?;
    sys::watch_readable(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{AsyncReadExt, AsyncWriteExt};
    use std::os::unix::net::UnixStream;

    fn pair() -> (Port, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        ours.set_nonblocking(true).expect("non-blocking");
        (Port::over(ours.into()).expect("port"), theirs)
    }

    #[tokio::test]
    async fn reads_wait_for_edges_and_what_was_read_last_can_be_read_again() {
        let (mut port, mut host) = pair();
        let mut buffer = [0; 5];
        assert!(futures::poll!(Box::pin(port.read(&mut buffer))).is_pending());
        io::Write::write_all(&mut host, b"hello").expect("write");
        port.read_exact(&mut buffer).await.expect("read");
        port.rewind(2);
        let mut again = [0; 2];
        port.read_exact(&mut again).await.expect("read");
        assert_eq!((&buffer, &again), (b"hello", b"lo"));
    }

    #[tokio::test]
    async fn both_directions_of_one_task_make_progress_through_full_queues() {
        let (mut port, mut host) = pair();
        let peer = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            io::Read::read_exact(&mut host, &mut buffer).expect("read");
            io::Write::write_all(&mut host, &buffer).expect("write");
            host
        });
        let sent: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
        port.write_all(&sent).await.expect("write");
        port.flush().await.expect("flush");
        let mut received = vec![0; sent.len()];
        port.read_exact(&mut received).await.expect("read");
        assert_eq!(sent, received);
        drop(peer.join().expect("peer"));
        assert_eq!(port.read(&mut received).await.expect("end"), 0);
    }
}
