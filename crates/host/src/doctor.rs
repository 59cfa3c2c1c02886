//! What this host lacks, in words, and how to mend it.

use std::{fs, io, path::Path, process::Command, time::Duration};

use crate::{
    HostError, Progress,
    command::{Run, find, search_path},
    settings::KEYRING,
};

/// Commands that hearth runs, each with the Debian package that has it.
pub const COMMANDS: [(&str, &str); 7] = [
    ("apt-get", "apt"),
    ("apt-config", "apt"),
    ("dpkg-deb", "dpkg"),
    ("mke2fs", "e2fsprogs"),
    ("mmdebstrap", "mmdebstrap"),
    ("tar", "tar"),
    ("unshare", "util-linux"),
];
/// Files that hearth reads, each with the Debian package that has it.
const FILES: [(&str, &str); 3] = [
    (KEYRING, "debian-archive-keyring"),
    ("/usr/share/keyrings/debian-archive-trixie-stable.gpg", "debian-archive-keyring"),
    ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
];
/// Capabilities (capabilities(7)) that making root file systems, building images and jailing machines take.
const CAPABILITIES: [(u32, &str); 7] = [
    (0, "CAP_CHOWN"),
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (18, "CAP_SYS_CHROOT"),
    (21, "CAP_SYS_ADMIN"),
    (27, "CAP_MKNOD"),
];
/// Free space that the assets, one image and a few microVMs take.
const MIN_FREE_BYTES: u64 = 4 << 30;
/// Memory that one build and one small microVM take; less is only remarked on.
const GOOD_MEMORY_KIB: u64 = 2 << 20;
/// Longest time for apt to install what is missing.
const INSTALL_LIMIT: Duration = Duration::from_secs(20 * 60);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at, in a word or two.
    pub name: String,
    /// True when hearth can work with what was found. Always true for what is only worth knowing.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// How to mend it; empty when there is nothing to mend.
    pub hint: String,
}

impl Check {
    fn good(name: &str, detail: impl Into<String>) -> Self {
        Check { name: name.to_owned(), ok: true, detail: detail.into(), hint: String::new() }
    }

    fn bad(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Check { name: name.to_owned(), ok: false, detail: detail.into(), hint: hint.into() }
    }
}

/// Looks at everything, changes nothing. `data_dir` need not exist.
pub fn check(data_dir: &Path) -> Vec<Check> {
    let mut checks = vec![platform(), root(), capabilities(), namespaces()];
    checks.extend(COMMANDS.iter().map(|(name, package)| command(name, package)));
    checks.extend(FILES.iter().map(|(path, package)| file(path, package)));
    checks.extend([disk(data_dir), memory(), kvm()]);
    checks
}

/// Installs the Debian packages that [`check`] found missing, and nothing else: no package is removed or downgraded
/// (`--no-remove`). Without apt, or without root, it changes nothing and its error lists them.
pub async fn fix(data_dir: &Path, progress: &Progress) -> Result<(), HostError> {
    let packages = missing_packages();
    if packages.is_empty() {
        progress("no package is missing");
        return Ok(());
    }
    let list = packages.join(" ");
    if find("apt-get").is_none() {
        return Err(HostError::NotDebian { packages: list });
    }
    if !rustix::process::geteuid().is_root() {
        return Err(HostError::NotRoot { packages: list });
    }
    progress(&format!("installing {list}"));
    // A host may have third-party sources that cannot be reached: that alone must not stop the installation.
    if let Err(error) = apt(&["update"], &[], data_dir, progress).await {
        tracing::warn!(%error, "apt-get update failed in part, going on with the package lists at hand");
        progress("apt-get update failed in part, going on with the package lists at hand");
    }
    let options = ["install", "--no-install-recommends", "--no-remove", "-y"];
    apt(&options, &packages, data_dir, progress).await?;
    match missing_packages() {
        left if left.is_empty() => Ok(()),
        left => Err(HostError::Incomplete { packages: left.join(" ") }),
    }
}

async fn apt(options: &[&str], packages: &[&str], data_dir: &Path, progress: &Progress) -> Result<(), HostError> {
    // Another apt, such as unattended-upgrades, may hold the lock for a while.
    let argv = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
        .iter()
        .chain(options)
        .chain(packages)
        .map(Into::into)
        .collect();
    let title = format!("apt-get {}", options.first().unwrap_or(&""));
    Run {
        title,
        argv,
        envs: vec![("DEBIAN_FRONTEND", "noninteractive".into())],
        lock: None,
        limit: INSTALL_LIMIT,
        mirror: "the archives in /etc/apt".to_owned(),
        dir: existing_ancestor(data_dir).to_owned(),
        on_line: &|line| progress(line),
    }
    .run()
    .await
}

/// The Debian package of a command hearth runs.
pub(crate) fn package_of(command: &str) -> Option<&'static str> {
    COMMANDS.iter().find(|(name, _)| *name == command).map(|(_, package)| *package)
}

/// Packages of missing commands and files, each once.
fn missing_packages() -> Vec<&'static str> {
    let commands = COMMANDS.iter().filter(|(name, _)| find(name).is_none());
    let files = FILES.iter().filter(|(path, _)| !Path::new(path).exists());
    let mut packages: Vec<_> = commands.chain(files).map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn platform() -> Check {
    let system = rustix::system::uname();
    let (release, machine) = (system.release().to_string_lossy(), system.machine().to_string_lossy());
    let detail = format!("Linux {release} on {machine}");
    match machine.as_ref() {
        "x86_64" => Check::good("platform", detail),
        _ => Check::bad("platform", detail, "use an x86-64 machine; other processors are not supported yet"),
    }
}

fn root() -> Check {
    let uid = rustix::process::geteuid();
    match uid.is_root() {
        true => Check::good("root", "running as root"),
        false => Check::bad(
            "root",
            format!("running as uid {}", uid.as_raw()),
            "run hearth as root; its machines are jailed",
        ),
    }
}

fn capabilities() -> Check {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing_capabilities(&status);
    match missing.is_empty() {
        true => Check::good("capabilities", "all that are needed"),
        false => Check::bad(
            "capabilities",
            format!("lacking {}", missing.join(", ")),
            "run on the host itself, or give the container these capabilities (docker: --privileged)",
        ),
    }
}

/// Names of the needed capabilities that are not in `CapEff` of a `/proc/<pid>/status` text.
fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    CAPABILITIES.iter().filter(|(bit, _)| mask & (1 << bit) == 0).map(|(_, name)| *name).collect()
}

/// Tries what the jail does, rather than guessing from settings that may forbid it.
fn namespaces() -> Check {
    const NAME: &str = "namespaces";
    const HINT: &str = "run as root, outside of containers that forbid namespaces";
    let tried = Command::new("unshare")
        .args(["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--mount-proc", "true"])
        .env("PATH", search_path())
        .output();
    match tried {
        Ok(output) if output.status.success() => Check::good(NAME, "mount, pid, net, ipc and uts can be made"),
        Ok(output) => Check::bad(NAME, String::from_utf8_lossy(&output.stderr).trim().to_owned(), HINT),
        Err(error) => Check::bad(NAME, format!("unshare cannot be run: {error}"), HINT),
    }
}

fn command(name: &str, package: &str) -> Check {
    match find(name) {
        Some(path) => Check::good(name, path.display().to_string()),
        None => Check::bad(name, "not installed", format!("apt-get install {package}, or hearth doctor --fix")),
    }
}

fn file(path: &str, package: &str) -> Check {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > 0 => Check::good(path, format!("{} bytes", meta.len())),
        Ok(_) => Check::bad(path, "empty", format!("apt-get install --reinstall {package}")),
        Err(_) => Check::bad(path, "missing", format!("apt-get install {package}, or hearth doctor --fix")),
    }
}

fn disk(data_dir: &Path) -> Check {
    const NAME: &str = "disk space";
    let dir = existing_ancestor(data_dir);
    match rustix::fs::statvfs(dir) {
        Ok(stat) => disk_space(stat.f_bavail.saturating_mul(stat.f_frsize), dir),
        Err(error) => {
            Check::bad(NAME, format!("{}: {}", dir.display(), io::Error::from(error)), "choose another data directory")
        }
    }
}

fn disk_space(free: u64, dir: &Path) -> Check {
    let detail = format!("{:.1} GiB free on the file system of {}", free as f64 / (1_u64 << 30) as f64, dir.display());
    match free >= MIN_FREE_BYTES {
        true => Check::good("disk space", detail),
        false => Check::bad(
            "disk space",
            detail,
            format!("free at least {} GiB, or choose another data directory", MIN_FREE_BYTES >> 30),
        ),
    }
}

fn existing_ancestor(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."))
}

/// Only worth knowing: swap and other programs blur any bound.
fn memory() -> Check {
    let available = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(available_kib);
    match available {
        Some(kib) if kib < GOOD_MEMORY_KIB => {
            Check::good("memory", format!("{} MiB available, which is little for builds and microVMs", kib / 1024))
        }
        Some(kib) => Check::good("memory", format!("{} MiB available", kib / 1024)),
        None => Check::good("memory", "unknown (/proc/meminfo does not say)"),
    }
}

fn available_kib(meminfo: &str) -> Option<u64> {
    meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

/// Only worth knowing. That the device opens says little (ENGINE.md, section 1), so nothing more is claimed here.
fn kvm() -> Check {
    let opened = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let detail = match opened {
        Ok(_) => {
            "/dev/kvm opens; the first start tries whether it really works, else software emulation is used".to_owned()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            "no /dev/kvm: software emulation (TCG) is used, fit for development and tests".to_owned()
        }
        Err(error) => format!("/dev/kvm does not open ({error}): software emulation (TCG) is used"),
    };
    Check::good("kvm", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_package() {
        assert_eq!(package_of("mke2fs"), Some("e2fsprogs"));
        assert_eq!(package_of("mmdebstrap"), Some("mmdebstrap"));
        assert_eq!(package_of("emacs"), None);
    }

    #[test]
    fn a_missing_command_or_file_names_its_package() {
        let check = command("hearth-no-such-command", "some-package");
        assert!(!check.ok && check.hint.contains("some-package") && check.hint.contains("doctor --fix"));
        let check = file("/no/such/file", "some-package");
        assert!(!check.ok && check.hint.contains("some-package"));
        assert!(command("sh", "dash").ok);
    }

    #[test]
    fn lacking_capabilities_are_named() {
        assert_eq!(missing_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"), [] as [&str; 0]);
        assert_eq!(missing_capabilities("CapEff:\t000001ffffdfffff\n"), ["CAP_SYS_ADMIN"]);
        assert_eq!(missing_capabilities("").len(), CAPABILITIES.len());
    }

    #[test]
    fn little_disk_space_is_a_fault_and_its_bound_is_said() {
        let check = disk_space(MIN_FREE_BYTES - 1, Path::new("/data"));
        assert!(!check.ok && check.detail.contains("/data") && check.hint.contains("4 GiB"), "{check:?}");
        assert!(disk_space(MIN_FREE_BYTES, Path::new("/data")).ok);
    }

    #[test]
    fn a_data_directory_that_does_not_exist_yet_is_measured_at_its_parent() {
        assert_eq!(existing_ancestor(Path::new("/proc/no/such/dir")), Path::new("/proc"));
        assert_eq!(existing_ancestor(Path::new("no-such-dir")), Path::new("."));
    }

    #[test]
    fn meminfo_is_read() {
        assert_eq!(available_kib("MemTotal: 9 kB\nMemAvailable:   24000 kB\n"), Some(24000));
        assert_eq!(available_kib("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn all_checks_are_listed_also_the_good_ones() {
        let checks = check(Path::new("/"));
        assert_eq!(checks.len(), 7 + COMMANDS.len() + FILES.len());
        assert!(checks.iter().all(|check| !check.name.is_empty() && !check.detail.is_empty()));
        assert!(checks.iter().all(|check| check.ok == check.hint.is_empty()));
    }
}
