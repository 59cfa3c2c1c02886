//! Closes the TCP connections that lead out of the guest, after a restore: their other ends are gone or somebody else's. The
//! application sees `ECONNABORTED`, as on AWS; what stays within the guest goes on (spec 5.7).
//!
//! Spoken to the kernel over `NETLINK_SOCK_DIAG`, as `ss --kill` does.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
};

use rustix::{
    fd::OwnedFd,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        netlink::{self, SocketAddrNetlink},
        recv, sendto, socket_with,
    },
};

/// `linux/netlink.h` and `linux/sock_diag.h`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// All states of a connection but those that have no other end any more: TIME_WAIT, CLOSE, LISTEN.
const CONNECTED: u32 = 0xfff & !(1 << 6 | 1 << 7 | 1 << 10);
/// Length of a message's head, of `inet_diag_sockid`, and where that is in `inet_diag_msg`.
const HEAD: usize = 16;
const ID: usize = 48;
const ID_IN_MESSAGE: usize = 4;
/// Bytes received at a time; the kernel fills at most half of it.
const ANSWER_BYTES: usize = 64 * 1024;

/// `inet_diag_sockid`: ports, addresses, interface and cookie, as the kernel has them.
type SocketId = [u8; ID];

/// Closes them all; how many there were. Those that end by themselves meanwhile are fine.
pub fn close_outbound() -> io::Result<usize> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
    let mut closed = 0;
    for family in [AF_INET, AF_INET6] {
        for id in list(&socket, family)?.iter().filter(|id| leads_out(family, id)) {
            match destroy(&socket, family, id) {
                Ok(()) => closed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(closed)
}

fn list(socket: &OwnedFd, family: u8) -> io::Result<Vec<SocketId>> {
    send(socket, &request(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, family, &[0; ID]))?;
    let mut found = Vec::new();
    loop {
        for (kind, body) in messages(&receive(socket)?) {
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => return errno(body).map(|()| found),
                _ => {
                    let id = body.get(ID_IN_MESSAGE..ID_IN_MESSAGE + ID).and_then(|id| id.try_into().ok());
                    found.push(id.ok_or_else(|| io::Error::other("a socket's description is cut off"))?);
                }
            }
        }
    }
}

fn destroy(socket: &OwnedFd, family: u8, id: &SocketId) -> io::Result<()> {
    send(socket, &request(SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, family, id))?;
    let answer = receive(socket)?;
    messages(&answer).find(|(kind, _)| *kind == NLMSG_ERROR).map_or(Ok(()), |(_, body)| errno(body))
}

/// `nlmsghdr` and `inet_diag_req_v2`.
fn request(kind: u16, flags: u16, family: u8, id: &SocketId) -> Vec<u8> {
    let body = [[family, IPPROTO_TCP, 0, 0].as_slice(), &CONNECTED.to_ne_bytes(), id].concat();
    let length = (HEAD + body.len()) as u32;
    let head = [length.to_ne_bytes().as_slice(), &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
    [head, body].concat()
}

/// The messages of an answer: kind and body of each.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let body = bytes.get(HEAD..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The outcome in an `nlmsgerr`: 0, or a negative error number.
fn errno(body: &[u8]) -> io::Result<()> {
    match body.get(..4).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::Error::other("an answer of the kernel is cut off")),
    }
}

/// Is the other end outside? Not where both are one address, or loopback.
fn leads_out(family: u8, id: &SocketId) -> bool {
    let (here, there) = (address(family, &id[4..20]), address(family, &id[20..36]));
    here != there && !there.is_loopback()
}

fn address(family: u8, bytes: &[u8]) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(bytes);
    let [a, b, c, d, ..] = octets;
    if family == AF_INET { [a, b, c, d].into() } else { Ipv6Addr::from(octets).to_canonical() }
}

fn send(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    sendto(socket, message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    Ok(())
}

fn receive(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; ANSWER_BYTES];
    let (length, _) = recv(socket, &mut answer, RecvFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(here: [u8; 4], there: [u8; 4]) -> SocketId {
        let mut id = [0; ID];
        id[4..8].copy_from_slice(&here);
        id[20..24].copy_from_slice(&there);
        id
    }

    fn id6(here: &str, there: &str) -> SocketId {
        let octets = |text: &str| text.parse::<Ipv6Addr>().expect("address").octets();
        let mut id = [0; ID];
        id[4..20].copy_from_slice(&octets(here));
        id[20..36].copy_from_slice(&octets(there));
        id
    }

    #[test]
    fn only_what_leads_out_is_closed() {
        assert!(leads_out(AF_INET, &id([10, 0, 0, 2], [10, 0, 0, 1])));
        assert!(!leads_out(AF_INET, &id([127, 0, 0, 1], [127, 0, 0, 1])));
        assert!(!leads_out(AF_INET, &id([127, 0, 0, 1], [127, 0, 0, 9])));
        assert!(!leads_out(AF_INET, &id([10, 0, 0, 2], [10, 0, 0, 2])));
        assert!(leads_out(AF_INET6, &id6("fd00::2", "fd00::1")));
        assert!(leads_out(AF_INET6, &id6("::ffff:10.0.0.2", "::ffff:10.0.0.1")));
        assert!(!leads_out(AF_INET6, &id6("::1", "::1")));
        assert!(!leads_out(AF_INET6, &id6("::ffff:127.0.0.1", "::ffff:127.0.0.1")));
    }

    #[test]
    fn messages_are_taken_apart_and_rubbish_ends_them() {
        let done = request(NLMSG_DONE, 0, 0, &[0; ID]);
        let mut error = [20u32.to_ne_bytes().as_slice(), &NLMSG_ERROR.to_ne_bytes(), &[0; 10]].concat();
        error.extend((-2i32).to_ne_bytes());
        let both = [error.as_slice(), &done, &[1, 2, 3]].concat();
        let kinds: Vec<_> = messages(&both).map(|(kind, body)| (kind, body.len())).collect();
        assert_eq!(kinds, [(NLMSG_ERROR, 4), (NLMSG_DONE, 56)]);
        let (_, body) = messages(&both).next().expect("there");
        assert_eq!(errno(body).expect_err("no such socket").kind(), io::ErrorKind::NotFound);
        assert!(errno(&[]).is_err() && errno(&[0; 4]).is_ok());
        assert_eq!(messages(&[255; 64]).count() + messages(&[0; 64]).count() + messages(&[]).count(), 0);
    }
}
