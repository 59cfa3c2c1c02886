//! Notices that the guest ran out of memory: the kernel then kills a process and says so in its log, and nowhere else.

use std::{io, os::fd::OwnedFd};

use rustix::{
    fs::{Mode, OFlags, SeekFrom, open, seek},
    io::{Errno, read},
};
use tokio::io::unix::AsyncFd;

use crate::{log, sys};

/// The kernel's log, one record a read.
const KERNEL_LOG: &str = "/dev/kmsg";
/// Longer than any record.
const RECORD_BYTES: usize = 8 * 1024;
/// What the kernel says before pid and name of the process it killed.
const KILLED: &str = "ut of memory: Killed process ";

/// A process that the kernel killed.
#[derive(Debug, PartialEq, Eq)]
pub struct Killed {
    /// Its pid, as the agent sees it.
    pub pid: i32,
    /// What it called itself.
    pub name: String,
}

/// The kernel's log, from when it was opened.
pub struct KernelLog {
    file: AsyncFd<OwnedFd>,
}

impl KernelLog {
    /// Opens it at its end.
    pub fn open() -> io::Result<Self> {
        let file = open(KERNEL_LOG, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        seek(&file, SeekFrom::End(0))?;
        Ok(Self { file: sys::watch_readable(file)? })
    }

    /// Waits until there is something new in it.
    pub async fn changed(&self) -> io::Result<()> {
        self.file.readable().await?.clear_ready();
        Ok(())
    }

    /// The processes it tells of that were not told of yet.
    pub fn killed(&self) -> Vec<Killed> {
        let (mut found, mut record) = (Vec::new(), vec![0; RECORD_BYTES]);
        loop {
            match read(&self.file, &mut record) {
                Ok(0) | Err(Errno::AGAIN) => return found,
                Ok(length) => found.extend(killed(&String::from_utf8_lossy(&record[..length]))),
                // Records that were written over before they were read.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(error) => {
                    log::warn(format_args!("cannot read {KERNEL_LOG}: {error}"));
                    return found;
                }
            }
        }
    }
}

/// The process that a record says was killed.
fn killed(record: &str) -> Option<Killed> {
    let (_, message) = record.split_once(';')?;
    let message = message.lines().next()?;
    let (before, rest) = message.split_once(KILLED)?;
    let (pid, rest) = rest.split_once(" (")?;
    let (name, _) = rest.rsplit_once(") total-vm:")?;
    matches!(before, "O" | "Memory cgroup o").then_some(())?;
    Some(Killed { pid: pid.parse().ok()?, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_understood_and_nothing_else() {
        let record =
            "3,420,1234567,-;Out of memory: Killed process 211 (python3 (x)) total-vm:9kB, anon-rss:1kB\n KEY=v\n";
        let told = |pid, name: &str| Some(Killed { pid, name: name.into() });
        assert_eq!(killed(record), told(211, "python3 (x)"));
        let cgroup = "3,1,1,-;Memory cgroup out of memory: Killed process 7 (a) total-vm:1kB\n";
        assert_eq!(killed(cgroup), told(7, "a"));
        for other in ["", "3,1,1,-;eth0: up", "1;x: Out of memory: Killed process 7 (a) total-vm:", &record[..40]] {
            assert_eq!(killed(other), None, "{other}");
        }
    }
}
