//! What an image directory holds, by name, and the sheet that says how to build the same machine again.
//!
//! ```text
//! rootfs.ext4      the container's file system, raw
//! disk.qcow2       what the guest wrote to it before the snapshot; sealed with it
//! memory           guest memory, sparse; written by the boot, sealed read-only
//! sealed/          appears whole when the image is sealed
//!   device-state
//!   machine.json   this module's Sheet
//!   sums           checksums of all of the above
//! ```

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{EngineError, Hardware, SEALED};

pub const ROOTFS: &str = "rootfs.ext4";
pub const DISK: &str = "disk.qcow2";
pub const MEMORY: &str = "memory";
/// What the image consists of beside its sealed directory.
pub const FILES: [&str; 3] = [MEMORY, DISK, ROOTFS];
pub const SHEET: &str = "machine.json";
const FORMAT: u32 = 1;

/// Everything about the virtual hardware that device state depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sheet {
    format: u32,
    pub hardware: Hardware,
    /// `kvm` or `tcg`: processor state of one does not load into the other.
    pub acceleration: String,
    /// Name of the root file system whose QEMU wrote it: another version's may not read it.
    pub root: String,
}

impl Sheet {
    pub fn new(hardware: Hardware, acceleration: &str, root: &Path) -> Self {
        let root = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Sheet { format: FORMAT, hardware, acceleration: acceleration.to_owned(), root }
    }

    /// The root file system to run it from: the one it was made with, which stays beside the present one.
    pub fn root(&self, present: &Path) -> Result<PathBuf, EngineError> {
        let root = present.with_file_name(&self.root);
        if root.is_dir() {
            return Ok(root);
        }
        let message = format!("the QEMU that made the image, {}, is gone; build the image again", root.display());
        Err(EngineError::Host(message))
    }

    /// Reads the sheet of a sealed image.
    pub fn read(image_dir: &Path) -> Result<Self, EngineError> {
        Self::of_boot(&image_dir.join(SEALED))
    }

    /// Reads the sheet that a boot left in its machine's directory.
    pub fn of_boot(dir: &Path) -> Result<Self, EngineError> {
        let path = dir.join(SHEET);
        let text = fs::read(&path).map_err(|e| EngineError::io("read", &path, e))?;
        let sheet: Sheet = serde_json::from_slice(&text)
            .map_err(|e| EngineError::Host(format!("{} is damaged: {e}; build the image again", path.display())))?;
        if sheet.format != FORMAT {
            let found = sheet.format;
            return Err(EngineError::Host(format!("image format {found} is not {FORMAT}; build the image again")));
        }
        Ok(sheet)
    }

    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let mut file = File::create_new(dir.join(SHEET))?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()
    }
}

/// Makes a file of the image immutable by anyone but root, and durable.
pub fn seal(path: &Path) -> io::Result<()> {
    std::os::unix::fs::chown(path, Some(0), Some(0))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o444))?;
    File::open(path)?.sync_all()
}

/// Bytes that a (sparse) file takes on disk; 0 when it is missing.
pub fn bytes_on_disk(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.blocks() * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_runs_from_the_root_that_made_it_or_says_that_it_is_gone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (old, new) = (dir.path().join("vmm-root-1"), dir.path().join("vmm-root-2"));
        fs::create_dir(&old).expect("old root");
        let sheet = Sheet::new(Hardware { memory_mib: 512, vcpus: 1 }, "tcg", &old);
        assert_eq!(sheet.root(&new).expect("still there"), old);
        fs::remove_dir(&old).expect("gone");
        let error = sheet.root(&new).expect_err("gone").to_string();
        assert!(error.contains("vmm-root-1") && error.contains("build the image again"), "{error}");
    }

    #[test]
    fn a_sheet_reads_back_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let sheet = Sheet::new(Hardware { memory_mib: 512, vcpus: 2 }, "kvm", Path::new("/cache/vmm-root-1"));
        sheet.write(dir.path()).expect("write");
        assert_eq!(Sheet::of_boot(dir.path()).expect("read"), sheet);
        fs::write(dir.path().join(SHEET), b"{").expect("damage");
        assert!(Sheet::of_boot(dir.path()).is_err());
    }
}
