//! Writes the kernel's initramfs format: cpio "newc" (Documentation/driver-api/early-userspace/buffer-format.rst).

/// An archive being written. Everything belongs to root and carries no time, so the same content gives the same bytes.
#[derive(Default)]
pub(crate) struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

/// File type bits of a mode (stat(2)).
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

impl Cpio {
    /// Adds a directory; its parent must have been added.
    pub fn directory(&mut self, name: &str, mode: u32) {
        self.entry(name, DIRECTORY | mode, 2, (0, 0), &[]);
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, FILE | mode, 1, (0, 0), content);
    }

    /// Adds a character device.
    pub fn character_device(&mut self, name: &str, mode: u32, major: u32, minor: u32) {
        self.entry(name, CHARACTER_DEVICE | mode, 1, (major, minor), &[]);
    }

    /// Ends the archive, padded to 512 bytes as cpio does.
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.write("TRAILER!!!", 0, 0, 1, (0, 0), &[]);
        self.pad(512);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, links: u32, device: (u32, u32), content: &[u8]) {
        self.inode += 1;
        self.write(name, self.inode, mode, links, device, content);
    }

    /// Thirteen fields of eight hexadecimal digits behind the magic, the name with its NUL, the content; both padded to four.
    fn write(&mut self, name: &str, inode: u32, mode: u32, links: u32, device: (u32, u32), content: &[u8]) {
        let size = u32::try_from(content.len()).expect("no file of an initramfs reaches 4 GiB");
        let name_size = name.len() as u32 + 1;
        let (major, minor) = device;
        self.bytes.extend(b"070701");
        for field in [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0] {
            self.bytes.extend(format!("{field:08x}").into_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad(4);
        self.bytes.extend(content);
        self.pad(4);
    }

    fn pad(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    use super::*;

    fn sample() -> Vec<u8> {
        let mut cpio = Cpio::default();
        cpio.directory("dev", 0o755);
        cpio.character_device("dev/console", 0o600, 5, 1);
        cpio.file("init", 0o755, b"agent");
        cpio.finish()
    }

    #[test]
    fn the_layout_is_newc() {
        let bytes = sample();
        assert_eq!(bytes.len() % 512, 0);
        let header = std::str::from_utf8(&bytes[..110]).unwrap();
        let fields = ["00000001", "000041ed", "00000000", "00000000", "00000002", "00000000", "00000000"];
        assert_eq!(header[..62], format!("070701{}", fields.concat()));
        assert_eq!(&header[94..102], "00000004", "name size with its NUL");
        assert_eq!(&bytes[110..116], b"dev\0\0\0");
        let console = std::str::from_utf8(&bytes[116..226]).unwrap();
        assert_eq!(&console[14..22], "00002180");
        assert_eq!(&console[78..94], "0000000500000001");
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 4);
        assert!(text.contains("TRAILER!!!"));
        assert_eq!(bytes, sample(), "the same content gives the same bytes");
    }

    /// The real reader's view, where there is one.
    #[test]
    fn cpio_reads_it() {
        let Ok(mut child) = Command::new("cpio")
            .args(["-tv", "--numeric-uid-gid"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        else {
            return;
        };
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let listing = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = listing.lines().collect();
        assert_eq!(lines.len(), 3, "{listing}");
        assert!(lines[0].starts_with("drwxr-xr-x") && lines[0].ends_with(" dev"), "{listing}");
        assert!(lines[1].starts_with("crw-------") && lines[1].contains("5,   1"), "{listing}");
        assert!(lines[2].starts_with("-rwxr-xr-x") && lines[2].contains(" 5 "), "{listing}");
    }
}
