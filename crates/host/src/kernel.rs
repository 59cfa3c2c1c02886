//! The guest kernel: Debian's cloud kernel, unpacked and never installed, and the initramfs that goes with it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    HostError, bzimage,
    cpio::Cpio,
    modules::{WANTED, load_order},
};

/// A guest kernel on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The uncompressed ELF kernel, to be booted through PVH.
    pub vmlinux: PathBuf,
    /// The modules every guest loads, in load order.
    pub modules: Vec<PathBuf>,
    /// The kernel's release, as `uname -r` prints it in the guest.
    pub release: String,
}

/// Part of the asset's name: grows when what [`distil`] keeps changes.
pub(crate) fn salt() -> String {
    format!("1 {}", WANTED.join(" "))
}

/// Takes what a guest needs out of `tree` (the unpacked packages, after `depmod`) and writes it to the new directory `out`:
/// `vmlinux`, `release`, and `modules/` with its `order`.
pub(crate) fn distil(tree: &Path, out: &Path) -> Result<(), HostError> {
    let all = tree.join("lib/modules");
    let release = only_entry(&all).map_err(|error| HostError::io("reading", &all, error))?;
    let unusable = |reason: String| HostError::Kernel { release: release.clone(), reason };
    let kernel = bzimage::vmlinux(&read(&tree.join("boot").join(format!("vmlinuz-{release}")))?).map_err(unusable)?;
    let modules_dir = all.join(&release);
    let (dep, builtin) = (text(&modules_dir.join("modules.dep"))?, text(&modules_dir.join("modules.builtin"))?);
    let order = load_order(&dep, &builtin, &WANTED).map_err(unusable)?;
    let kept = out.join("modules");
    fs::create_dir_all(&kept).map_err(|error| HostError::io("creating", &kept, error))?;
    let mut names = String::new();
    for path in &order {
        let name = path.rsplit('/').next().unwrap_or(path);
        if !name.ends_with(".ko") {
            return Err(unusable(format!("its module {name} is compressed, the guest loads only plain .ko files")));
        }
        write(&kept.join(name), &read(&modules_dir.join(path))?)?;
        names.push_str(name);
        names.push('\n');
    }
    write(&kept.join("order"), names.as_bytes())?;
    write(&out.join("vmlinux"), &kernel)?;
    write(&out.join("release"), release.as_bytes())
}

/// Reads back what [`distil`] wrote.
pub(crate) fn load(dir: &Path) -> Result<Kernel, HostError> {
    let modules = dir.join("modules");
    let order = text(&modules.join("order"))?;
    Ok(Kernel {
        vmlinux: dir.join("vmlinux"),
        modules: order.lines().map(|name| modules.join(name)).collect(),
        release: text(&dir.join("release"))?,
    })
}

/// The initramfs: the agent as `/init`, the kernel's modules with `/lib/modules/order` naming them in load order (one absolute
/// path a line), the console and empty mount points. Uncompressed: under TCG unpacking costs more than reading.
pub(crate) fn initramfs(kernel: &Kernel, agent: &[u8]) -> Result<Vec<u8>, HostError> {
    let mut cpio = Cpio::default();
    for name in ["dev", "proc", "sys", "run", "root-fs", "lib", "lib/modules"] {
        cpio.directory(name, 0o755);
    }
    cpio.character_device("dev/console", 0o600, 5, 1);
    cpio.file("init", 0o755, agent);
    let mut order = String::new();
    for path in &kernel.modules {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("lib/modules/{name}");
        cpio.file(&name, 0o644, &read(path)?);
        order.push_str(&format!("/{name}\n"));
    }
    cpio.file("lib/modules/order", 0o644, order.as_bytes());
    Ok(cpio.finish())
}

fn read(path: &Path) -> Result<Vec<u8>, HostError> {
    fs::read(path).map_err(|error| HostError::io("reading", path, error))
}

fn text(path: &Path) -> Result<String, HostError> {
    fs::read_to_string(path).map_err(|error| HostError::io("reading", path, error))
}

fn write(path: &Path, content: &[u8]) -> Result<(), HostError> {
    fs::write(path, content).map_err(|error| HostError::io("writing", path, error))
}

/// The name of a directory's one entry.
fn only_entry(dir: &Path) -> io::Result<String> {
    let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    match names.as_slice() {
        [name] => name.to_str().map(str::to_owned).ok_or_else(|| io::Error::other("the release is not text")),
        names => Err(io::Error::other(format!("expected one kernel release, found {}", names.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [&str; 3] = ["kernel/a/virtio_ring.ko", "kernel/a/virtio.ko", "kernel/b/overlay.ko"];

    /// An unpacked kernel package whose wanted modules are all built in, but for three.
    fn tree(dir: &Path) {
        let modules = dir.join("lib/modules/6.1.0-test");
        for path in PATHS {
            fs::create_dir_all(modules.join(path).parent().unwrap()).unwrap();
            fs::write(modules.join(path), path).unwrap();
        }
        let dep = format!("{}: {}\n{}:\n{}:\n", PATHS[1], PATHS[0], PATHS[0], PATHS[2]);
        fs::write(modules.join("modules.dep"), dep).unwrap();
        let builtin: String = WANTED.iter().map(|name| format!("kernel/x/{name}.ko\n")).collect();
        fs::write(modules.join("modules.builtin"), builtin).unwrap();
        let mut image = vec![0; 2560];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206] = 0x0f;
        image[0x207] = 2;
        let packed = lz4_flex::block::compress(b"\x7fELF kernel");
        let mut payload = vec![0x02, 0x21, 0x4c, 0x18];
        payload.extend((packed.len() as u32).to_le_bytes());
        payload.extend(packed);
        payload.extend(11_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend(payload);
        fs::create_dir(dir.join("boot")).unwrap();
        fs::write(dir.join("boot/vmlinuz-6.1.0-test"), image).unwrap();
    }

    #[test]
    fn a_package_becomes_a_kernel_and_an_initramfs() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path());
        let out = dir.path().join("out");
        distil(dir.path(), &out).unwrap();
        let kernel = load(&out).unwrap();
        assert_eq!(kernel.release, "6.1.0-test");
        assert_eq!(fs::read(&kernel.vmlinux).unwrap(), b"\x7fELF kernel");
        let names: Vec<_> = kernel.modules.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["virtio_ring.ko", "virtio.ko", "overlay.ko"]);
        let bytes = initramfs(&kernel, b"the agent").unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("the agent"));
        assert!(text.contains("/lib/modules/virtio_ring.ko\n/lib/modules/virtio.ko\n/lib/modules/overlay.ko\n"));
        assert_eq!(bytes, initramfs(&kernel, b"the agent").unwrap());
        assert_ne!(bytes, initramfs(&kernel, b"another one").unwrap());
    }

    #[test]
    fn a_kernel_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path());
        fs::write(dir.path().join("boot/vmlinuz-6.1.0-test"), b"no kernel").unwrap();
        let error = distil(dir.path(), &dir.path().join("out")).unwrap_err().to_string();
        assert!(error.contains("6.1.0-test") && error.contains("not a bzImage"), "{error}");
    }
}
