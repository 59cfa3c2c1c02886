//! A server with the fake engine, to measure.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::client::Target;
use crate::process;

/// Dropping it ends the server.
pub struct Served {
    /// The program.
    pub hearth: PathBuf,
    /// Its data directory.
    pub dir: PathBuf,
    /// Its API.
    pub target: Target,
    server: Child,
}

impl Drop for Served {
    fn drop(&mut self) {
        process::stop(&mut self.server, Duration::from_secs(30));
    }
}

impl Served {
    /// On that data directory, which is made where it is missing and kept.
    pub fn open(hearth: &Path, dir: PathBuf) -> Result<Served> {
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let log = fs::File::create(dir.join("server.log")).context("make the server's log")?;
        let mut serve = Command::new(hearth);
        serve.args(["serve", "--engine", "fake", "--api", "127.0.0.1:0", "--ingress", "127.0.0.1:0", "--data-dir"]);
        serve.arg(&dir).env("RUST_LOG", "warn").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        println!("  $ {}", process::shown(&serve));
        let mut server = serve.spawn().context("start hearth serve")?;
        let mut shell = Command::new("sh");
        shell.args(["-euc", r#"eval "$("$0" env --wait 60 --data-dir "$1")" && env -0"#]).arg(hearth).arg(&dir);
        let told =
            process::capture(&mut shell, b"", Duration::from_secs(70)).and_then(|said| said.success("hearth env"));
        // Another server of the same directory would answer in its place.
        let alive = server.try_wait().context("look at the server")?.is_none();
        let target = told.and_then(|env| {
            if !alive {
                bail!("the server has ended; {} says why", dir.join("server.log").display());
            }
            let variables: BTreeMap<&str, &str> = env.split('\0').filter_map(|pair| pair.split_once('=')).collect();
            Target::new(|name| variables.get(name).map(|value| (*value).to_owned()))
        });
        match target {
            Ok(target) => Ok(Served { hearth: hearth.to_owned(), dir, server, target }),
            Err(error) => {
                process::stop(&mut server, Duration::from_secs(5));
                Err(error.context(format!("a store of another version? Remove {}", dir.display())))
            }
        }
    }
}
