//! One QEMU process: its command line, its jail, and finding it again.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{PermissionsExt, chown},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use super::image::Sheet;
use crate::{
    EngineError,
    sys::{self, Bind, Jail},
};

/// Where a machine's own directory and its image's appear inside the jail.
const VM: &str = "/vm";
const IMAGE: &str = "/image";
const KERNEL: &str = "/kernel";
const INITRD: &str = "/initrd";
/// What must exist in the jail's root to mount over.
pub const MOUNT_POINTS: [&str; 4] = [VM, IMAGE, KERNEL, INITRD];
/// Inside the machine's directory.
pub const QMP_SOCKET: &str = "qmp.sock";
pub const AGENT_SOCKET: &str = "agent.sock";
pub const DISK: &str = "disk.qcow2";
pub const STATE: &str = "device-state";
const LOG: &str = "qemu.log";
const CONSOLE: &str = "console.log";

/// First uid of the range that machines get, one each; far above what systems and containers hand out.
const FIRST_UID: u32 = 0x4000_0000;

/// How the memory of the new process relates to the image's memory file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The process writes the file: a boot that will be sealed.
    Shared,
    /// The process has a private copy-on-write view of the sealed file, and waits for device state.
    Private,
}

/// All that decides a process's command line.
#[derive(Debug)]
pub struct Launch<'a> {
    /// hearth's own root file system with QEMU in it.
    pub root: &'a Path,
    pub image_dir: &'a Path,
    pub machine_dir: &'a Path,
    pub sheet: &'a Sheet,
    pub memory: Memory,
    /// For a boot only: a restored machine has its kernel in memory.
    pub kernel: Option<Kernel<'a>>,
}

/// What a fresh machine boots. The two files' directories become visible in the jail.
#[derive(Debug)]
pub struct Kernel<'a> {
    pub kernel: &'a Path,
    pub initrd: &'a Path,
    pub line: &'a str,
}

/// A process that was just started, and both ends that matter.
#[derive(Debug)]
pub struct Started {
    pub pid: u32,
    pub qmp: UnixStream,
}

impl Launch<'_> {
    /// Starts the process in its jail. Blocking. On failure the machine directory keeps only the log.
    pub fn spawn(&self) -> Result<Started, EngineError> {
        let uid = uid_of(self.machine_dir);
        let qmp = listen(self.machine_dir, QMP_SOCKET)?;
        let agent = listen(self.machine_dir, AGENT_SOCKET)?;
        let at = |e| EngineError::io("prepare", self.machine_dir, e);
        fs::set_permissions(self.machine_dir, fs::Permissions::from_mode(0o700)).map_err(at)?;
        chown(self.machine_dir, Some(uid), Some(uid)).map_err(at)?;
        for name in [DISK, STATE] {
            own(&self.machine_dir.join(name), uid).map_err(at)?;
        }
        if self.memory == Memory::Shared {
            for name in [super::image::MEMORY, super::image::DISK] {
                own(&self.image_dir.join(name), uid).map_err(at)?;
            }
        }
        let log_path = self.machine_dir.join(LOG);
        let log = OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.map_err(|e| EngineError::io("open", &log_path, e))?;
        let stderr = log.try_clone().map_err(at)?;
        let mut command = Command::new(super::QEMU);
        // The machine's own user may not open /dev/kvm, and need not: it gets it open.
        let kvm = match self.sheet.acceleration.as_str() {
            "kvm" => Some(open_kvm()?),
            _ => None,
        };
        let kvm_fd = kvm.as_ref().map(AsRawFd::as_raw_fd);
        command.args(self.arguments(qmp.as_raw_fd(), agent.as_raw_fd(), kvm_fd));
        command.env_clear().stdin(Stdio::null()).stdout(log).stderr(stderr);
        let keep = [qmp.as_raw_fd(), agent.as_raw_fd()].into_iter().chain(kvm_fd).collect();
        sys::enter_on_exec(&mut command, self.jail(uid, keep)?);
        crash::point("machine: sockets made");
        let child = command.spawn().map_err(|e| EngineError::io("start QEMU in the jail at", self.root, e))?;
        crash::point("machine: process started");
        let stream = connect(self.machine_dir, QMP_SOCKET).map_err(at)?;
        Ok(Started { pid: child.id(), qmp: stream })
    }

    fn jail(&self, uid: u32, keep: Vec<i32>) -> Result<Jail, EngineError> {
        let inside = |target: &str| self.root.join(target.trim_start_matches('/'));
        let mut binds = vec![
            Bind { source: c_path(self.machine_dir)?, target: c_path(&inside(VM))?, read_only: false },
            Bind {
                source: c_path(self.image_dir)?,
                target: c_path(&inside(IMAGE))?,
                read_only: self.memory == Memory::Private,
            },
        ];
        if let Some(boot) = &self.kernel {
            for (file, target) in [(boot.kernel, KERNEL), (boot.initrd, INITRD)] {
                let dir = file.parent().unwrap_or(Path::new("/"));
                binds.push(Bind { source: c_path(dir)?, target: c_path(&inside(target))?, read_only: true });
            }
        }
        Ok(Jail { root: c_path(self.root)?, binds, uid, keep })
    }

    fn arguments(&self, qmp_fd: i32, agent_fd: i32, kvm_fd: Option<i32>) -> Vec<String> {
        let sheet = self.sheet;
        let (mode, disk) = match self.memory {
            Memory::Shared => ("share=on", format!("{IMAGE}/{}", super::image::DISK)),
            Memory::Private => ("share=off,readonly=on,rom=off", format!("{VM}/{DISK}")),
        };
        let console = match self.memory {
            Memory::Shared => format!("file,id=console,path={VM}/{CONSOLE}"),
            Memory::Private => "null,id=console".to_owned(),
        };
        let cpu = if kvm_fd.is_some() { "host" } else { "max" };
        let mut arguments: Vec<String> = [
            "-nodefaults -no-user-config -no-reboot -display none",
            "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
            // Both needed so that `xen-save-devices-state` output loads through `migrate-incoming` (ENGINE.md section 4).
            "-global migration.send-configuration=off",
            // SeaBIOS hangs two boots of five under TCG; qboot needs no option ROMs and never did.
            "-bios qboot.rom",
        ]
        .iter()
        .flat_map(|line| line.split(' ').map(str::to_owned))
        .collect();
        let mut put = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        put("-name", name_of(self.machine_dir));
        match kvm_fd {
            Some(fd) => {
                put("-add-fd", format!("fd={fd},set=1"));
                put("-accel", "kvm,device=/dev/fdset/1".into());
            }
            None => put("-accel", "tcg,thread=multi".into()),
        }
        put("-M", "microvm,x-option-roms=off,auto-kernel-cmdline=off,suppress-vmdesc=on,memory-backend=memory".into());
        put("-cpu", cpu.into());
        put("-smp", sheet.hardware.vcpus.to_string());
        put("-m", format!("{}M", sheet.hardware.memory_mib));
        let size = sheet.hardware.memory_mib;
        let path = format!("{IMAGE}/{}", super::image::MEMORY);
        put("-object", format!("memory-backend-file,id=memory,size={size}M,mem-path={path},{mode}"));
        put("-drive", format!("file={disk},if=none,id=root,format=qcow2,cache=writeback,discard=unmap"));
        put("-device", "virtio-blk-device,drive=root".into());
        put("-object", "rng-builtin,id=entropy".into());
        put("-device", "virtio-rng-device,rng=entropy".into());
        put("-device", "virtio-serial-device".into());
        put("-chardev", format!("socket,id=agent,fd={agent_fd},server=on,wait=off"));
        put("-device", format!("virtserialport,chardev=agent,name={}", wire::PORT_NAME));
        put("-chardev", console);
        put("-serial", "chardev:console".into());
        put("-chardev", format!("socket,id=monitor,fd={qmp_fd},server=on,wait=off"));
        put("-mon", "chardev=monitor,mode=control".into());
        if let Some(boot) = &self.kernel {
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            put("-kernel", format!("{KERNEL}/{}", name(boot.kernel)));
            put("-initrd", format!("{INITRD}/{}", name(boot.initrd)));
            put("-append", boot.line.to_owned());
        }
        if self.memory == Memory::Private {
            arguments.extend(["-S", "-incoming", "defer"].map(str::to_owned));
        }
        arguments
    }
}

fn open_kvm() -> Result<File, EngineError> {
    let path = Path::new("/dev/kvm");
    OpenOptions::new().read(true).write(true).open(path).map_err(|e| EngineError::io("open", path, e))
}

fn c_path(path: &Path) -> Result<CString, EngineError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| EngineError::Host(format!("{} has a NUL byte in its name", path.display())))
}

fn own(path: &Path, uid: u32) -> io::Result<()> {
    match chown(path, Some(uid), Some(uid)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The uid of the machine in this directory: derived from its name (a microVM id), so it needs no record. Of a billion
/// ids; two machines that met would share a uid, not a view: each still sees only its own files.
fn uid_of(machine_dir: &Path) -> u32 {
    let name = machine_dir.file_name().unwrap_or_default().as_bytes();
    let hash = name.iter().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    FIRST_UID + (hash & 0x3fff_ffff)
}

/// The machine's name on its command line: its directory's, where that is fit to stand there.
fn name_of(machine_dir: &Path) -> String {
    let name = machine_dir.file_name().unwrap_or_default().to_string_lossy();
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect()
}

/// Processes of the machine in this directory, by the uid and the name that only they have.
pub fn of_machine(machine_dir: &Path) -> io::Result<Vec<u32>> {
    let uid = format!("Uid:\t{}\t", uid_of(machine_dir));
    let name = format!("\0-name\0{}\0", name_of(machine_dir));
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ended since the listing is none of ours.
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        if String::from_utf8_lossy(&read("status")).contains(&uid)
            && String::from_utf8_lossy(&read("cmdline")).contains(&name)
        {
            found.push(pid);
        }
    }
    Ok(found)
}

/// A socket path through the directory's descriptor: `sun_path` holds 108 bytes, data directories may be longer.
fn through(dir: &Path, name: &str) -> io::Result<(OwnedFd, PathBuf)> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, rustix::fs::Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", fd.as_raw_fd()));
    Ok((fd, path))
}

fn listen(dir: &Path, name: &str) -> Result<UnixListener, EngineError> {
    let bind = || {
        let (_dir, path) = through(dir, name)?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bind().map_err(|e| EngineError::io("listen on", &dir.join(name), e))
}

/// Connects to a socket in a machine's directory.
pub fn connect(machine_dir: &Path, name: &str) -> io::Result<UnixStream> {
    let (_dir, path) = through(machine_dir, name)?;
    UnixStream::connect(path)
}

/// The last words of a monitor that died: at most the last 400 bytes of its log.
pub fn last_words(machine_dir: &Path) -> String {
    let text = fs::read(machine_dir.join(LOG)).unwrap_or_default();
    let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(400)..]).trim().to_owned();
    if tail.is_empty() { "it left no message".into() } else { tail }
}

/// Removes what the engine put into a machine's directory for as long as the process lived.
pub fn sweep(machine_dir: &Path) {
    for name in [QMP_SOCKET, AGENT_SOCKET, STATE, LOG, CONSOLE, super::image::SHEET] {
        let _ = fs::remove_file(machine_dir.join(name));
    }
}

/// A process, held so that its id cannot come to mean another one.
#[derive(Debug)]
pub struct Process {
    pub pid: u32,
    pub start_ticks: u64,
    handle: AsyncFd<OwnedFd>,
}

impl Process {
    /// Takes hold of a live process; `None` when there is none, or only a zombie.
    pub fn hold(pid: u32) -> io::Result<Option<Self>> {
        let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let handle = match pidfd_open(id, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let Some(start_ticks) = start_ticks(pid)? else { return Ok(None) };
        let handle = sys::watch(handle)?;
        Ok(Some(Process { pid, start_ticks, handle }))
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(self.handle.get_ref(), Signal::KILL) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        self.ended().await
    }

    /// Waits until it has ended, and reaps it where it is our child.
    pub async fn ended(&self) -> io::Result<()> {
        let _ready = self.handle.readable().await?;
        sys::reap(self.pid);
        Ok(())
    }
}

/// Field 22 of `/proc/<pid>/stat`; `None` for no process or a zombie.
fn start_ticks(pid: u32) -> io::Result<Option<u64>> {
    let text = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    let state = fields.next().unwrap_or("Z");
    Ok(if matches!(state, "Z" | "X") { None } else { fields.nth(18).and_then(|field| field.parse().ok()) })
}

/// The host's boot.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Opens the image's memory file, to find its mapping by inode.
pub fn open_memory(image_dir: &Path) -> Result<File, EngineError> {
    let path = image_dir.join(super::image::MEMORY);
    File::open(&path).map_err(|e| EngineError::io("open", &path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_stable_unprivileged_and_differ() {
        let a = uid_of(Path::new("/data/microvms/microvm-11111111-2222-3333-4444-555555555555"));
        let b = uid_of(Path::new("/data/microvms/microvm-11111111-2222-3333-4444-555555555556"));
        assert!(a >= FIRST_UID && b >= FIRST_UID && a != b);
        assert_eq!(a, uid_of(Path::new("/elsewhere/microvm-11111111-2222-3333-4444-555555555555")));
    }

    #[tokio::test]
    #[allow(clippy::zombie_processes, reason = "the code under test reaps it")]
    async fn a_process_is_held_killed_and_reaped_and_a_recycled_id_is_told_apart() {
        let child = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let process = Process::hold(child.id()).expect("hold").expect("alive");
        assert!(process.start_ticks > 0);
        process.kill().await.expect("kill");
        process.kill().await.expect("idempotent");
        assert!(Process::hold(child.id()).expect("hold").is_none());
    }

    #[test]
    fn long_directories_still_get_sockets() {
        let dir = tempfile::tempdir().expect("tempdir");
        let deep = dir.path().join("d".repeat(120));
        fs::create_dir(&deep).expect("mkdir");
        let listener = listen(&deep, QMP_SOCKET).expect("listen");
        connect(&deep, QMP_SOCKET).expect("connect");
        listener.accept().expect("accept");
    }
}
