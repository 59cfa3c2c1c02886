//! The file system of a sandbox, as steps for its first process.

use std::{
    ffi::{CStr, CString},
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use crate::{error::BuildError, sandbox::FIRST_ID, sys::Step};

/// The steps that make the sandbox's file system; paths are relative to a tmpfs, the new root is its `root`.
#[derive(Default)]
pub(crate) struct Mounts {
    pub steps: Vec<Step>,
}

const TMPFS_FLAGS: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV;

impl Mounts {
    /// The builder root under an overlay, at `namespace`.
    pub(crate) fn root(&mut self, namespace: &Path, builder_root: &Path) -> Result<(), BuildError> {
        self.mount(None, c"/".to_owned(), None, libc::MS_REC | libc::MS_PRIVATE, None);
        let namespace = c(namespace.as_os_str().as_bytes())?;
        self.mount(
            None,
            namespace.clone(),
            Some(c"tmpfs"),
            TMPFS_FLAGS & !libc::MS_NODEV,
            Some(c"mode=755".to_owned()),
        );
        self.steps.push(Step::Enter(namespace));
        for name in [c"lower", c"upper", c"overlay", c"root"] {
            self.steps.push(Step::Directory(name.to_owned()));
        }
        let builder_root = c(builder_root.as_os_str().as_bytes())?;
        self.mount(Some(builder_root), c"lower".to_owned(), None, libc::MS_BIND, None);
        let layers = c"lowerdir=lower,upperdir=upper,workdir=overlay".to_owned();
        self.mount(None, c"root".to_owned(), Some(c"overlay"), 0, Some(layers));
        Ok(())
    }

    /// Fresh /proc, /dev, /sys and scratch directories.
    pub(crate) fn file_systems(&mut self) {
        let closed = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let path = |text: &str| CString::new(format!("root{text}")).expect("literals hold no NUL");
        self.directory("/proc");
        self.mount(None, path("/proc"), Some(c"proc"), closed, None);
        self.tmpfs("/sys", "mode=755,size=1m");
        self.directory("/sys/fs/cgroup");
        // crun wants to see a cgroup file system; this process is the root of its own, and cannot write to it.
        self.mount(None, path("/sys/fs/cgroup"), Some(c"cgroup2"), closed | libc::MS_RDONLY, None);
        self.directory("/dev");
        self.mount(None, path("/dev"), Some(c"tmpfs"), libc::MS_NOSUID, Some(c"mode=755,size=1m".to_owned()));
        for (name, major, minor) in
            [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
        {
            self.steps.push(Step::Device { path: path(&format!("/dev/{name}")), major, minor });
        }
        self.steps.push(Step::Link { target: c"/proc/self/fd".to_owned(), path: path("/dev/fd") });
        self.tmpfs("/dev/shm", "mode=1777,size=64m");
        for name in ["/run", "/tmp", "/root", "/var/cache", "/var/lib/containers"] {
            self.tmpfs(name, &format!("mode=755,size=512m,uid={FIRST_ID},gid={FIRST_ID}"));
        }
    }

    fn tmpfs(&mut self, target: &str, options: &str) {
        self.directory(target);
        let string = |text: String| CString::new(text).expect("literals hold no NUL");
        let options = string(options.to_owned());
        self.mount(None, string(format!("root{target}")), Some(c"tmpfs"), TMPFS_FLAGS, Some(options));
    }

    /// Shows a file or directory of the host at `target`, without set-user-id and devices.
    pub(crate) fn bind(&mut self, source: &Path, target: &str, write: bool) -> Result<(), BuildError> {
        let kind = fs::metadata(source).map_err(|error| BuildError::io("use", source, &error))?;
        let inside = c(format!("root{target}"))?;
        if kind.is_dir() {
            self.directory(target);
        } else {
            self.directory(target.rsplit_once('/').map_or("", |(parent, _)| parent));
            self.steps.push(Step::Empty(inside.clone()));
        }
        self.mount(Some(c(source.as_os_str().as_bytes())?), inside.clone(), None, libc::MS_BIND, None);
        let access = if write { 0 } else { libc::MS_RDONLY };
        self.mount(None, inside, None, libc::MS_BIND | libc::MS_REMOUNT | TMPFS_FLAGS | access, None);
        Ok(())
    }

    /// The directory and its parents, in the new root.
    fn directory(&mut self, target: &str) {
        let mut path = "root".to_owned();
        for name in target.split('/').filter(|name| !name.is_empty()) {
            path.push('/');
            path.push_str(name);
            self.steps.push(Step::Directory(CString::new(path.as_str()).expect("literals hold no NUL")));
        }
    }

    fn mount(
        &mut self,
        source: Option<CString>,
        target: CString,
        kind: Option<&CStr>,
        flags: libc::c_ulong,
        data: Option<CString>,
    ) {
        let kind = kind.map(ToOwned::to_owned);
        let source = source.or_else(|| kind.clone());
        self.steps.push(Step::Mount { source, target, kind, flags, data });
    }
}

/// A C string of what may hold a NUL.
pub(crate) fn c(bytes: impl AsRef<[u8]>) -> Result<CString, BuildError> {
    CString::new(bytes.as_ref()).map_err(|_| BuildError::platform("a path or argument of the build holds a NUL byte"))
}
