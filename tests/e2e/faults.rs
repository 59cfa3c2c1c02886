//! Faults on real machines: what ends, breaks, hangs or runs full under a microVM. Each leaves a right state, a reason, and
//! nothing on the host. The cases are Python (`faults/`), those of a file at once on one server.
//!
//! All servers begin with copies of one data directory, which has the image: whoever comes first makes it.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use e2e::Server;

/// Requests wait so long for a microVM: long for one that can wake, short for a test of one that cannot.
const SETTINGS: &str = "[endpoint]\nwake_seconds = 20\n[build]\nboot_seconds = 600\n";

const WORLD: &str = include_str!("faults/world.py");

#[test]
#[ignore = "runs real machines as root; `cargo xtask test` runs it"]
fn machines_that_are_killed_or_stand_still() {
    play(&Stage::open().unwrap(), include_str!("faults/processes.py"));
}

#[test]
#[ignore = "runs real machines as root; `cargo xtask test` runs it"]
fn damaged_files_are_refused_by_name_and_work_again_once_they_are_mended() {
    play(&Stage::open().unwrap(), include_str!("faults/files.py"));
}

#[test]
#[ignore = "runs real machines as root; `cargo xtask test` runs it"]
fn hooks_that_hang() {
    let mut stage = Stage::open().unwrap();
    play(&stage, include_str!("faults/hooks.py"));
    stage.restart("[compat]\nprofile = \"aws\"\n[quotas]\nenabled = false\n").unwrap();
    play(&stage, include_str!("faults/hooks_aws.py"));
}

#[test]
#[ignore = "runs real machines as root; `cargo xtask test` runs it"]
fn guests_that_end_or_starve_their_agent() {
    play(&Stage::open().unwrap(), include_str!("faults/guests.py"));
}

#[test]
#[ignore = "runs real machines as root; `cargo xtask test` runs it"]
fn no_space_left() {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(disk) = Disk::mount(scratch.path()).unwrap() else {
        eprintln!("skipped: this host has no loop devices");
        return;
    };
    play(&Stage::open_in(&disk.mounted.join("data")).unwrap(), include_str!("faults/room.py"));
}

/// Cases, and what must be so after them.
fn play(stage: &Stage, cases: &str) {
    let server = &stage.server;
    let [data, log] = [&server.data_dir, &server.log_path().to_owned()].map(|path| path.display().to_string());
    let said = server.python(&format!("{WORLD}\n{cases}"), &[&data, &log]);
    println!("{}", said.stdout);
    assert_eq!(said.code, Some(0), "{}\n{}\n{}", said.stdout, said.stderr, server.log());
    server.hearth(&["terminate", "--all"]).ok();
    server.hearth(&["check"]).ok();
    assert_eq!(server.machines(), [0_u32; 0], "processes of machines are left");
    assert_eq!(fs::read_dir(server.data_dir.join("microvms")).unwrap().count(), 0, "files of microVMs are left");
}

/// A server with the image.
struct Stage {
    server: Server,
    _scratch: tempfile::TempDir,
}

impl Stage {
    fn open() -> Result<Stage> {
        let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).context("make a scratch directory")?;
        let data_dir = scratch.path().join("data");
        Self::with(&data_dir, scratch)
    }

    fn open_in(data_dir: &Path) -> Result<Stage> {
        Self::with(data_dir, tempfile::tempdir()?)
    }

    fn with(data_dir: &Path, scratch: tempfile::TempDir) -> Result<Stage> {
        copy(&template()?, data_dir)?;
        Ok(Stage { server: Server::start_real(data_dir)?, _scratch: scratch })
    }

    /// Again, with other settings.
    fn restart(&mut self, settings: &str) -> Result<()> {
        self.server.stop()?;
        fs::write(self.server.data_dir.join("hearth.toml"), settings).context("write hearth.toml")?;
        self.server.serve()
    }
}

/// A data directory with the images, of this hearth and this application. Made once: other tests wait.
fn template() -> Result<PathBuf> {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/faults/app");
    let lock = File::create(tmp.join("faults.lock")).context("make the lock")?;
    lock.lock().context("wait for the images")?;
    let mut key = DefaultHasher::new();
    let hearth = fs::metadata(e2e::hearth_path()?).context("look at hearth")?;
    (hearth.len(), hearth.mtime(), hearth.mtime_nsec(), SETTINGS, WORLD).hash(&mut key);
    for file in ["Dockerfile", "server.py"] {
        fs::read(app.join(file)).with_context(|| format!("read {file}"))?.hash(&mut key);
    }
    let found = tmp.join(format!("faults-{:016x}", key.finish()));
    if found.exists() {
        return Ok(found);
    }
    for old in fs::read_dir(tmp)?.flatten().filter(|old| old.file_name().to_string_lossy().starts_with("faults-")) {
        fs::remove_dir_all(old.path()).context("remove the images of an older hearth")?;
    }
    let making = tmp.join("faults-making");
    fs::create_dir(&making).context("make the data directory")?;
    fs::write(making.join("hearth.toml"), SETTINGS).context("write hearth.toml")?;
    let mut server = Server::start_real(&making)?;
    let arguments = [&making, &server.log_path().to_owned(), &app].map(|path| path.display().to_string());
    let arguments = arguments.each_ref().map(String::as_str);
    let said = server.python(&format!("{WORLD}\nimages(sys.argv[3])"), &arguments);
    assert_eq!(said.code, Some(0), "{}\n{}", said.stderr, server.log());
    assert_eq!(server.stop()?, Some(0));
    fs::rename(&making, &found).context("keep the images")?;
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    e2e::run(Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to))?.ok();
    Ok(())
}

/// A small file system of its own; dropping it unmounts it.
struct Disk {
    mounted: PathBuf,
}

impl Disk {
    /// `None` where there are no loop devices.
    fn mount(scratch: &Path) -> Result<Option<Disk>> {
        if !Path::new("/dev/loop-control").exists() {
            return Ok(None);
        }
        let (file, mounted) = (scratch.join("disk"), scratch.join("mounted"));
        File::create(&file)?.set_len(DISK_BYTES).context("make the disk")?;
        fs::create_dir(&mounted)?;
        // Without a reserve for root: the server is root, and would not run out with its machines.
        e2e::run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&file))?.ok();
        e2e::run(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&mounted))?.ok();
        Ok(Some(Disk { mounted }))
    }
}

/// Holds the images, and a few hundred MiB more.
const DISK_BYTES: u64 = 2 << 30;

impl Drop for Disk {
    fn drop(&mut self) {
        // The server's last machine may hold it for a moment; the lazy way detaches it once that is gone.
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).status();
    }
}
