//! What each asset that comes out of Debian packages is made of, and the one way they are made: mmdebstrap.

use std::{
    ffi::{OsStr, OsString},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{
    HostError, Progress,
    claim::{Claim, blocking},
    command::{Run, find, search_path},
    settings::Archive,
};

/// Longest time one recipe may take: 300 MB over a slow line.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// Longest time `apt-config dump` may take; it only reads files.
const CONFIG_LIMIT: Duration = Duration::from_secs(20);
/// Grows when the way recipes are cooked changes what comes out.
const GENERATION: u32 = 1;

/// A file system from packages.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// First part of the asset's name.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Debian suite.
    pub suite: &'static str,
    /// mmdebstrap's variant: `extract` only unpacks, `minbase` installs and configures.
    pub variant: &'static str,
    /// Packages beside those of the variant; their dependencies come along, recommendations do not.
    pub packages: Vec<String>,
    /// Shell script run at the end with the tree as its argument, on this host and as root.
    pub script: &'static str,
    /// Documentation and manuals of packages are not even unpacked, now or by an apt-get in the tree.
    pub slim: bool,
    /// Name of the result: a directory, or an archive when it ends in `.tar`.
    pub suffix: &'static str,
}

impl Recipe {
    /// The asset's name: it changes whenever the recipe does. `salt` is what else defines the asset.
    pub fn asset_name(&self, salt: &str) -> String {
        let text = format!("{GENERATION} {salt} {self:?}");
        format!("{}-{}-{}{}", self.name, self.suite, short_hash(text.as_bytes()), self.suffix)
    }

    /// Makes the file system in the claim's workshop and says where it is there.
    pub async fn cook(&self, claim: &Claim, archive: &Archive, progress: &Progress) -> Result<PathBuf, HostError> {
        let workshop = claim.workshop();
        let out = workshop.join(format!("out{}", self.suffix));
        let (script, config, tmp) = (workshop.join("finish.sh"), workshop.join("apt.conf"), workshop.join("tmp"));
        let config_text = apt_config().await;
        let (script_, config_, tmp_, text) = (script.clone(), config.clone(), tmp.clone(), self.script);
        blocking(move || {
            std::fs::write(&script_, text)?;
            std::fs::set_permissions(&script_, PermissionsExt::from_mode(0o700))?;
            std::fs::write(&config_, config_text)?;
            std::fs::create_dir(&tmp_)
        })
        .await
        .map_err(|error| HostError::io("preparing", workshop, error))?;
        let title = self.title;
        progress(&format!("{title}: reading the package lists of Debian {} from {}", self.suite, archive.mirror));
        let steps = |line: &str| {
            if let Some(step) = step(line) {
                progress(&format!("{title}: {step}"));
            }
        };
        let hook = self.is_archive().then_some(script.as_path());
        let run = |title: String, argv: Vec<OsString>| -> Result<Run<'_>, HostError> {
            Ok(Run {
                title,
                argv,
                envs: vec![("TMPDIR", tmp.clone().into_os_string())],
                lock: Some(claim.lock()?),
                limit: LIMIT,
                mirror: archive.mirror.clone(),
                dir: workshop.parent().unwrap_or(workshop).to_owned(),
                on_line: &steps,
            })
        };
        run(format!("mmdebstrap for the {title}"), self.mmdebstrap(&out, hook, &config, archive))?.run().await?;
        if hook.is_none() {
            progress(&format!("{title}: keeping what is needed"));
            run(format!("the last step of the {title}"), isolated(&[script.as_os_str(), out.as_os_str()]))?
                .run()
                .await?;
        }
        Ok(out)
    }

    /// Is the result one archive file? Then the script must run inside mmdebstrap; a directory is finished after it, since
    /// mmdebstrap's own cleaning wants apt's files in place.
    fn is_archive(&self) -> bool {
        self.suffix == ".tar"
    }

    fn mmdebstrap(&self, out: &Path, hook: Option<&Path>, config: &Path, archive: &Archive) -> Vec<OsString> {
        let Archive { mirror, security, keyring } = archive;
        let suite = self.suite;
        let mut argv = isolated(&["mmdebstrap".as_ref(), "--mode=root".as_ref()]);
        argv.push(format!("--variant={}", self.variant).into());
        argv.push(format!("--include={}", self.packages.join(",")).into());
        argv.push(with_path("--aptopt=", config));
        argv.extend(hook.map(|script| with_path("--customize-hook=", script)));
        if self.slim {
            for tree in ["man", "info", "locale", "lintian", "doc"] {
                argv.push(format!("--dpkgopt=path-exclude=/usr/share/{tree}/*").into());
            }
            argv.push("--dpkgopt=path-include=/usr/share/doc/*/copyright".into());
        }
        argv.push(suite.into());
        argv.push(out.into());
        let (updates, fixes) = (format!("{suite}-updates"), format!("{suite}-security"));
        for (url, suite) in [(mirror, suite), (mirror, &updates), (security, &fixes)] {
            argv.push(format!("deb [signed-by={keyring}] {url} {suite} main").into());
        }
        argv
    }
}

/// A command line in mount and process namespaces of its own: its mounts never show on the host, and when it is ended
/// everything it started ends too.
fn isolated(command: &[&OsStr]) -> Vec<OsString> {
    let wrapper = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    wrapper.iter().map(OsString::from).chain(command.iter().map(OsString::from)).collect()
}

fn with_path(option: &str, path: &Path) -> OsString {
    let mut arg = OsString::from(option);
    arg.push(path);
    arg
}

/// The step that a line of mmdebstrap tells of, if people want to hear of it.
fn step(line: &str) -> Option<&str> {
    let line = line.strip_prefix("I: ")?.trim_end_matches('.');
    ["downloading", "extracting", "installing", "creating"].iter().any(|start| line.starts_with(start)).then_some(line)
}

/// apt's options for the recipe: the host's own about proxies and downloads, so that a host that can install packages can
/// make assets. The file goes into the tree while it is made, and the recipe's script takes it out again.
async fn apt_config() -> String {
    const OWN: &str = "APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAcquire::Retries \"3\";\n\
        Acquire::http::Timeout \"60\";\nAcquire::https::Timeout \"60\";\n";
    let Some(program) = find("apt-config") else { return OWN.to_owned() };
    let run = tokio::process::Command::new(program)
        .arg("dump")
        .env("PATH", search_path())
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(CONFIG_LIMIT, run).await {
        Ok(Ok(output)) if output.status.success() => {
            format!("{OWN}{}", host_options(&String::from_utf8_lossy(&output.stdout)))
        }
        other => {
            let status = other.map(|outcome| outcome.map(|output| output.status));
            tracing::warn!(?status, "apt's configuration cannot be read, going on without its proxy settings");
            OWN.to_owned()
        }
    }
}

/// The lines of `apt-config dump` about how to download.
fn host_options(dump: &str) -> String {
    const KEPT: [&str; 6] = [
        "Acquire::http::",
        "Acquire::https::",
        "Acquire::Check-Valid-Until ",
        "Acquire::Check-Date ",
        "Acquire::ForceIPv4 ",
        "Acquire::ForceIPv6 ",
    ];
    dump.lines().filter(|line| KEPT.iter().any(|start| line.starts_with(start))).flat_map(|line| [line, "\n"]).collect()
}

/// Twelve hexadecimal digits of SHA-256: names, not security.
pub(crate) fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The guest kernel's package, unpacked with kmod so that `depmod` runs in the tree. Trixie compresses its modules, bookworm
/// does not, and its kernel is the one that hearth's measurements were made with.
pub(crate) fn kernel() -> Recipe {
    Recipe {
        name: "kernel",
        title: "guest kernel",
        suite: "bookworm",
        variant: "extract",
        packages: names(&["linux-image-cloud-amd64", "kmod"]),
        script: include_str!("../recipes/kernel.sh"),
        slim: false,
        suffix: "",
    }
}

/// QEMU with what it needs to run: the root of the machines' jails. Trixie's is 10.0: a private writable view of a read-only
/// memory file (`readonly=on,rom=off`) came with 8.2. base-files has the links of the merged /usr.
pub(crate) fn vmm_root() -> Recipe {
    Recipe {
        name: "vmm-root",
        title: "QEMU root",
        suite: "trixie",
        variant: "extract",
        packages: names(&["base-files", "qemu-system-x86"]),
        script: include_str!("../recipes/vmm.sh"),
        slim: false,
        suffix: "",
    }
}

/// buildah with crun, which runs the RUN steps. It will not start without netavark, though such builds never run it.
/// Trixie's is 1.39: heredocs came with 1.35.
pub(crate) fn builder_root() -> Recipe {
    Recipe {
        name: "builder-root",
        title: "builder root",
        suite: "trixie",
        variant: "extract",
        packages: names(&[
            "base-files",
            "bash",
            "buildah",
            "ca-certificates",
            "coreutils",
            "crun",
            "dash",
            "e2fsprogs",
            "findutils",
            "gzip",
            "mount",
            "netavark",
            "sed",
            "tar",
            "util-linux",
        ]),
        script: include_str!("../recipes/builder.sh"),
        slim: false,
        suffix: "",
    }
}

/// The offline stand-in for al2023-minimal, as a tar archive.
pub(crate) fn base_root(packages: Vec<String>) -> Recipe {
    Recipe {
        name: "base-root",
        title: "base image",
        suite: "trixie",
        variant: "minbase",
        packages,
        script: include_str!("../recipes/base.sh"),
        slim: true,
        suffix: ".tar",
    }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    #[test]
    fn a_changed_recipe_has_another_name() {
        let recipe = base_root(Settings::default().base_packages().unwrap());
        let name = recipe.asset_name("");
        assert!(name.starts_with("base-root-trixie-") && name.ends_with(".tar"), "{name}");
        assert_eq!(name, recipe.clone().asset_name(""));
        assert_ne!(name, base_root(vec!["curl".into()]).asset_name(""));
        assert_ne!(name, Recipe { script: "#!/bin/sh\n", ..recipe.clone() }.asset_name(""));
        assert_ne!(name, recipe.asset_name("2"));
    }

    #[test]
    fn only_download_options_of_the_host_are_kept() {
        let dump = "APT::Architecture \"amd64\";\nAcquire::http::Proxy \"http://proxy:3142\";\n\
            Acquire::Check-Valid-Until \"false\";\nDPkg::Post-Invoke:: \"rm x\";\nAcquire::IndexTargets \"\";\n";
        assert_eq!(
            host_options(dump),
            "Acquire::http::Proxy \"http://proxy:3142\";\nAcquire::Check-Valid-Until \"false\";\n"
        );
    }

    #[test]
    fn the_archive_is_named_with_its_keys_and_nothing_of_the_host() {
        let archive =
            Settings { apt_mirror: Some("http://near/debian".into()), ..Settings::default() }.archive().unwrap();
        let argv = vmm_root().mmdebstrap(Path::new("/o"), None, Path::new("/c"), &archive);
        let line = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://near/debian-security \
            trixie-security main";
        assert_eq!(argv.last().unwrap(), line);
        assert!(argv.contains(&"--include=base-files,qemu-system-x86".into()));
        assert!(!argv.iter().any(|arg| arg.to_string_lossy().contains("deb.debian.org")));
    }

    #[test]
    fn steps_are_told_and_chatter_is_not() {
        assert_eq!(step("I: downloading packages with apt..."), Some("downloading packages with apt"));
        assert_eq!(step("I: success in 5 seconds"), None);
        assert_eq!(step("W: skipping"), None);
    }
}
