//! A Python environment of our own with the AWS CLI and boto3, kept under `target`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{process, workspace};

/// What is installed. A change makes a new environment.
const PACKAGES: [&str; 2] = ["awscli", "boto3"];
/// Fails when the installed model does not know the service.
const PROBE: &str = "import boto3; boto3.client('lambda-microvms', region_name='us-east-1')";

/// An environment whose AWS CLI and boto3 know `lambda-microvms`.
#[derive(Debug, Clone)]
pub struct Venv {
    dir: PathBuf,
}

impl Venv {
    /// The one of before, or a new one (network: the configured Python package index).
    pub fn ready() -> Result<Venv> {
        let venv = Venv { dir: workspace::target().join("demo-venv") };
        let stamp = venv.dir.join("stamp");
        let wanted = PACKAGES.join(" ");
        if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && venv.knows_the_service() {
            return Ok(venv);
        }
        if venv.dir.exists() {
            fs::remove_dir_all(&venv.dir).with_context(|| format!("remove {}", venv.dir.display()))?;
        }
        process::run(Command::new("python3").args(["-m", "venv"]).arg(&venv.dir))?;
        process::run(venv.python().args(["-m", "pip", "install", "--quiet", "--upgrade"]).args(PACKAGES))?;
        process::capture(venv.python().args(["-c", PROBE]), b"", Duration::from_secs(60))?
            .success("the installed boto3 does not know lambda-microvms; PyPI's newest does: its probe")?;
        fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))?;
        Ok(venv)
    }

    /// Installs what a file of requirements names, where that was not done before.
    pub fn require(&self, requirements: &Path) -> Result<()> {
        let mut install = self.python();
        install.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements);
        process::run(&mut install)
    }

    fn knows_the_service(&self) -> bool {
        let probe = process::capture(self.python().args(["-c", PROBE]), b"", Duration::from_secs(60));
        probe.is_ok_and(|output| output.status.success())
    }

    /// Its Python.
    pub fn python(&self) -> Command {
        Command::new(self.python_path())
    }

    /// Path of its Python.
    pub fn python_path(&self) -> PathBuf {
        self.dir.join("bin/python")
    }

    /// Path of its AWS CLI.
    pub fn aws_path(&self) -> PathBuf {
        self.dir.join("bin/aws")
    }
}
