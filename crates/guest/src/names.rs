//! The files of the container that bear its names: host name, hosts, resolver, machine id.
//!
//! As under Docker these are not files of the root disk but bind mounts of files that the agent keeps in memory. So a
//! renewal after a restore costs no disk access (40 ms of cold ext4 code under emulation), and the agent never follows a
//! path that the application could have bent.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// Where the agent keeps them.
pub const DIRECTORY: &str = "/run/container";
/// Their names, there and in the container's `/etc`. The last is special: what the image has of it is kept until a renewal.
pub const FILES: [&str; 4] = ["hosts", "hostname", "resolv.conf", MACHINE_ID];
/// See [`FILES`].
pub const MACHINE_ID: &str = "machine-id";
/// More than any of these files needs.
const MAX_BYTES: u64 = 64 * 1024;

/// The agent's copies, in a directory of its own.
pub struct Names(PathBuf);

impl Names {
    /// Those of the container.
    pub fn of_container() -> Self {
        Self(DIRECTORY.into())
    }

    /// Writes all of them for a container that is about to start. A repeat is safe.
    pub fn create(&self, hostname: &str) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        // Nothing answers there yet, which fails at once; without the file programs that want it fail in odder ways.
        let texts = [hosts(hostname), format!("{hostname}\n"), "nameserver 127.0.0.1\n".to_owned(), String::new()];
        FILES.iter().zip(texts).try_for_each(|(name, text)| self.write(name, &text))
    }

    /// Puts the new host name in the place of the old one. A file that the application has changed stays as it is.
    pub fn rename(&self, old: &str, new: &str) -> io::Result<()> {
        let changes = [("hosts", hosts(old), hosts(new)), ("hostname", format!("{old}\n"), format!("{new}\n"))];
        for (name, old, new) in changes {
            if read_text(&self.0.join(name))?.is_some_and(|text| text == old) {
                self.write(name, &new)?;
            }
        }
        Ok(())
    }

    /// Sets the machine id.
    pub fn set_machine_id(&self, machine_id: &str) -> io::Result<()> {
        self.write(MACHINE_ID, &format!("{machine_id}\n"))
    }

    /// True once [`Names::create`] has been.
    pub fn exist(&self) -> bool {
        self.0.exists()
    }

    /// Changes the content of the file in place: the container has the file itself, not its name, mounted.
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        OpenOptions::new().write(true).create(true).truncate(true).open(self.0.join(name))?.write_all(text.as_bytes())
    }
}

/// The text of a regular file (lossy, at most 64 KiB of it); `None` when there is no such file.
pub fn read_text(path: &Path) -> io::Result<Option<String>> {
    read_bounded(path, MAX_BYTES)
}

/// The text of a regular file (lossy, at most `max_bytes` of it); `None` when there is no such file.
pub fn read_bounded(path: &Path, max_bytes: u64) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(io::Error::other("not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(max_bytes).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn hosts(hostname: &str) -> String {
    format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (tempfile::TempDir, Names) {
        let dir = tempfile::tempdir().expect("tempdir");
        let names = Names(dir.path().join("names"));
        assert!(!names.exist());
        names.create("one").expect("create");
        (dir, names)
    }

    fn text(names: &Names, name: &str) -> String {
        read_text(&names.0.join(name)).expect("read").expect("there")
    }

    #[test]
    fn all_are_made_and_follow_the_name() {
        let (_dir, names) = names();
        assert!(names.exist());
        names.rename("one", "two").expect("rename");
        names.set_machine_id("abc").expect("machine id");
        assert_eq!(text(&names, "hostname"), "two\n");
        assert!(text(&names, "hosts").ends_with("127.0.1.1\ttwo\n"));
        assert_eq!(text(&names, "machine-id"), "abc\n");
    }

    #[test]
    fn what_the_application_changed_stays() {
        let (_dir, names) = names();
        names.write("hosts", "10.0.0.1 mine\n").expect("write");
        names.rename("one", "two").expect("rename");
        assert_eq!(text(&names, "hosts"), "10.0.0.1 mine\n");
        assert_eq!(text(&names, "hostname"), "two\n");
    }

    #[test]
    fn reading_is_bounded_and_takes_regular_files_only() {
        let (dir, names) = names();
        assert_eq!(read_bounded(&names.0.join("hostname"), 2).expect("read"), Some("on".to_owned()));
        assert_eq!(read_text(&dir.path().join("gone")).expect("read"), None);
        assert!(read_text(dir.path()).is_err());
    }
}
