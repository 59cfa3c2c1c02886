//! Makes a restored guest its own: clock, connections, randomness, names. On the way to the first request after every restore.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::fd::AsFd,
};

use rustix::{
    system::sethostname,
    time::{ClockId, Timespec, clock_settime},
};
use wire::{Fault, Identity};

use crate::{application::hostname, connections, log, names::Names, sys};

/// Does all of it, as far as it goes: one failed step does not keep the others from being done. A repeat is safe.
///
/// The clock comes first, so that everything after it bears the right time.
pub fn renew(identity: &Identity) -> Result<(), Fault> {
    close_connections();
    let steps: [(&str, io::Result<()>); 3] = [
        ("set the clock", set_clock(identity.unix_time_ns)),
        ("renew randomness", renew_randomness(&identity.entropy)),
        ("renew names", renew_names(identity)),
    ];
    let failures: Vec<String> =
        steps.into_iter().filter_map(|(step, result)| result.err().map(|error| format!("{step}: {error}"))).collect();
    if failures.is_empty() { Ok(()) } else { Err(Fault::Failed(failures.join("; "))) }
}

fn set_clock(unix_time_ns: u64) -> io::Result<()> {
    const NANOSECONDS: u64 = 1_000_000_000;
    let (seconds, rest) = (unix_time_ns / NANOSECONDS, unix_time_ns % NANOSECONDS);
    let time = Timespec { tv_sec: seconds.try_into().map_err(io::Error::other)?, tv_nsec: rest as _ };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

/// Without it (a kernel that has no `tcp_diag`) they end by themselves, much later.
fn close_connections() {
    match connections::close_outbound() {
        Ok(0) => {}
        Ok(closed) => log::info(format_args!("closed {closed} connections that led out of here")),
        Err(error) => log::warn(format_args!("cannot close connections that lead out of here: {error}")),
    }
}

fn renew_randomness(entropy: &[u8; 32]) -> io::Result<()> {
    let mut random = OpenOptions::new().write(true).open("/dev/urandom")?;
    // Mixed in by a write as well, which cannot fail for want of a capability.
    random.write_all(entropy)?;
    sys::add_entropy(random.as_fd(), entropy)
}

fn renew_names(identity: &Identity) -> io::Result<()> {
    let (old, new) = (hostname(), identity.hostname.as_str());
    let renamed = !new.is_empty() && new != old;
    if renamed {
        sethostname(new.as_bytes())?; // the container shares it
    }
    let names = Names::of_container();
    if !names.exist() {
        return Ok(()); // no container yet
    }
    if renamed {
        names.rename(&old, new)?;
    }
    if is_machine_id(&identity.machine_id) {
        names.set_machine_id(&identity.machine_id)?;
    }
    Ok(())
}

fn is_machine_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_machine_id_is_written_as_one() {
        assert!(is_machine_id("0123456789abcdef0123456789abcdef"));
        assert!(!is_machine_id(""));
        assert!(!is_machine_id("0123456789ABCDEF0123456789ABCDEF"));
        assert!(!is_machine_id("0123456789abcdef0123456789abcde\n"));
    }
}
