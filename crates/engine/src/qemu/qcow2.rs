//! A minimal qcow2 overlay, written without a `qemu-img` process: four clusters, nothing allocated, everything read
//! through to the backing file. Format: QEMU's `docs/interop/qcow2.txt`, version 3.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Guest bytes that one L1 entry maps: a cluster of 8-byte L2 entries, each naming one cluster.
const L1_ENTRY_BYTES: u64 = CLUSTER / 8 * CLUSTER;
const HEADER_BYTES: u32 = 104;
const BACKING_FORMAT_EXTENSION: u32 = 0xE279_2ACA;

/// Creates the overlay `path` of `virtual_bytes` over `backing` (a path as QEMU will see it), whose format is `raw` or
/// `qcow2`. Fails when `path` exists.
///
/// `virtual_bytes` is at most 4 TiB, the most that one cluster of L1 entries maps.
pub fn create_overlay(path: &Path, virtual_bytes: u64, backing: &str, format: &str) -> io::Result<()> {
    let image = overlay(virtual_bytes, backing, format)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(&image)
}

fn overlay(virtual_bytes: u64, backing: &str, format: &str) -> io::Result<Vec<u8>> {
    let l1_entries = virtual_bytes.div_ceil(L1_ENTRY_BYTES);
    if l1_entries * 8 > CLUSTER || backing.len() > 1023 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "overlay larger than 4 TiB or backing name too long"));
    }
    let mut header = Vec::with_capacity(512);
    let mut put = |bytes: &[u8]| header.extend_from_slice(bytes);
    let extensions = 8 + format.len().next_multiple_of(8) + 8;
    let backing_offset = HEADER_BYTES as usize + extensions;
    put(b"QFI\xfb");
    put(&3u32.to_be_bytes());
    put(&(backing_offset as u64).to_be_bytes());
    put(&(backing.len() as u32).to_be_bytes());
    put(&CLUSTER_BITS.to_be_bytes());
    put(&virtual_bytes.to_be_bytes());
    put(&0u32.to_be_bytes()); // no encryption
    put(&(l1_entries as u32).to_be_bytes());
    put(&(3 * CLUSTER).to_be_bytes()); // L1 table
    put(&CLUSTER.to_be_bytes()); // refcount table
    put(&1u32.to_be_bytes()); // of one cluster
    put(&0u32.to_be_bytes()); // no snapshots
    put(&0u64.to_be_bytes());
    put(&[0; 24]); // no incompatible, compatible or autoclear features
    put(&4u32.to_be_bytes()); // refcounts of 16 bits
    put(&HEADER_BYTES.to_be_bytes());
    put(&BACKING_FORMAT_EXTENSION.to_be_bytes());
    put(&(format.len() as u32).to_be_bytes());
    put(format.as_bytes());
    put(&vec![0; format.len().next_multiple_of(8) - format.len()]);
    put(&[0; 8]); // end of extensions
    put(backing.as_bytes());

    let mut image = vec![0; 4 * CLUSTER as usize];
    image[..header.len()].copy_from_slice(&header);
    let at = |cluster: u64| (cluster * CLUSTER) as usize;
    image[at(1)..at(1) + 8].copy_from_slice(&(2 * CLUSTER).to_be_bytes());
    for used in 0..4 {
        image[at(2) + used * 2..at(2) + used * 2 + 2].copy_from_slice(&1u16.to_be_bytes());
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_what_was_asked() {
        let image = overlay(8 << 30, "/image/rootfs.ext4", "raw").expect("fits");
        assert_eq!(&image[..4], b"QFI\xfb");
        assert_eq!(u64::from_be_bytes(image[24..32].try_into().expect("8")), 8 << 30);
        assert_eq!(u32::from_be_bytes(image[36..40].try_into().expect("4")), 16, "8 GiB are 16 L1 entries of 512 MiB");
        let offset = u64::from_be_bytes(image[8..16].try_into().expect("8")) as usize;
        assert_eq!(&image[offset..offset + 18], b"/image/rootfs.ext4");
    }

    #[test]
    fn too_large_is_refused_and_an_existing_file_is_kept() {
        assert!(overlay(5 << 40, "/x", "raw").is_err());
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("disk.qcow2");
        std::fs::write(&path, b"precious").expect("write");
        assert!(create_overlay(&path, 1 << 30, "/x", "raw").is_err());
        assert_eq!(std::fs::read(&path).expect("read"), b"precious");
    }

    /// Where the host has `qemu-img`, it must find nothing to complain about.
    #[test]
    fn qemu_img_accepts_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let raw = dir.path().join("base.raw");
        std::fs::File::create(&raw).and_then(|f| f.set_len(3 << 30)).expect("base");
        let path = dir.path().join("disk.qcow2");
        create_overlay(&path, 3 << 30, raw.to_str().expect("utf-8"), "raw").expect("create");
        if let Ok(out) = std::process::Command::new("qemu-img").arg("check").arg(&path).output() {
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
    }
}
