//! What the black-box tests share: a running `hearth serve` with a data directory of its own, and the clients of a user.
//! Nothing here knows a type of hearth's: the tests see what users see.

mod machines;

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

/// Longest time for any command of a test.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// The same with real machines, whose own bounds are up to 30 s each, and add up.
const REAL_LIMIT: Duration = Duration::from_secs(600);

/// A server. Dropping it kills it and removes its data.
pub struct Server {
    /// Its `--data-dir`.
    pub data_dir: PathBuf,
    engine: Engine,
    variables: Vec<(String, String)>,
    env: Vec<(String, String)>,
    child: Option<Child>,
    log: PathBuf,
    _scratch: TempDir,
}

/// Which machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Fake,
    Qemu,
}

/// What a command did.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Said {
    /// Its standard output; fails the test when it did not succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        match serde_json::from_str(&text) {
            Ok(json) => json,
            Err(error) => panic!("{error}: {text}"),
        }
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Server {
    /// Starts one on ports of its choice and waits until it is ready.
    pub fn start() -> Result<Server> {
        Self::start_with("")
    }

    /// As [`Server::start`], with that text as its `hearth.toml`.
    pub fn start_with(settings: &str) -> Result<Server> {
        let scratch = tempfile::tempdir().context("make a scratch directory")?;
        let (data_dir, log) = (scratch.path().join("data"), scratch.path().join("server.log"));
        if !settings.is_empty() {
            fs::create_dir(&data_dir).context("make the data directory")?;
            fs::write(data_dir.join("hearth.toml"), settings).context("write hearth.toml")?;
        }
        Self::open(data_dir, Engine::Fake, &[], log, scratch)
    }

    /// One with these variables.
    pub fn start_in(variables: &[(&str, &str)]) -> Result<Server> {
        let scratch = tempfile::tempdir().context("make a scratch directory")?;
        let (data_dir, log) = (scratch.path().join("data"), scratch.path().join("server.log"));
        Self::open(data_dir, Engine::Fake, variables, log, scratch)
    }

    /// One with real machines, on that data directory; root only. Dropping it ends them too.
    pub fn start_real(data_dir: &Path) -> Result<Server> {
        let scratch = tempfile::tempdir().context("make a scratch directory")?;
        let log = scratch.path().join("server.log");
        Self::open(data_dir.to_owned(), Engine::Qemu, &[], log, scratch)
    }

    fn open(
        data_dir: PathBuf,
        engine: Engine,
        variables: &[(&str, &str)],
        log: PathBuf,
        scratch: TempDir,
    ) -> Result<Server> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut server = Server { data_dir, engine, variables, env: Vec::new(), child: None, log, _scratch: scratch };
        server.serve()?;
        Ok(server)
    }

    /// Starts it (again) on the same data directory.
    pub fn serve(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log).context("open the log")?;
        let mut command = Command::new(hearth_path()?);
        command.args(["serve", "--api", "127.0.0.1:0", "--ingress", "127.0.0.1:0", "--data-dir"]).arg(&self.data_dir);
        match self.engine {
            Engine::Fake => command.args(["--engine", "fake"]).env("RUST_LOG", "trace"),
            Engine::Qemu => {
                let cache = found("HEARTH_TEST_CACHE", |target| target.join("hearth-cache"))?;
                command.args(["--engine", "qemu", "--cache-dir"]).arg(cache).env("RUST_LOG", "info")
            }
        };
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("start hearth serve")?);
        // The first server with real machines makes root file systems out of Debian packages.
        let wait = if self.engine == Engine::Fake { 30 } else { 1800 };
        let script = r#"eval "$("$0" env --wait "$2" --data-dir "$1")" && env -0"#;
        let mut shell = Command::new("sh");
        shell.args(["-euc", script]).arg(hearth_path()?).arg(&self.data_dir).arg(wait.to_string());
        let said = run_within(&mut shell, Duration::from_secs(wait + 10))?;
        if said.code != Some(0) {
            bail!("{}; the server said: {}", said.stderr, self.log());
        }
        let ours = |name: &str| {
            ["AWS_", "HEARTH_INGRESS", "HEARTH_PLAIN_HTTP", "SSL_CERT_FILE", "CURL_CA_BUNDLE"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        };
        let pair = |text: &str| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.env = said.stdout.split('\0').filter_map(pair).filter(|(name, _)| ours(name)).collect();
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it does not run")?;
        child.kill().context("kill the server")?;
        child.wait().context("wait for the server")?;
        Ok(())
    }

    /// SIGTERM; its exit code.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        let mut child = self.child.take().context("it does not run")?;
        run(Command::new("kill").arg(child.id().to_string()))?.ok();
        Ok(child.wait().context("wait for the server")?.code())
    }

    /// Ids of the processes of its machines.
    pub fn machines(&self) -> Vec<u32> {
        machines::of(&self.data_dir)
    }

    /// A variable of `hearth env`.
    pub fn variable(&self, name: &str) -> &str {
        self.env.iter().find(|(each, _)| each == name).map_or("", |(_, value)| value)
    }

    /// Where it logs to.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Everything that the server logged; with the fake engine at its most talkative.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `hearth <arguments>` for this server.
    pub fn hearth(&self, arguments: &[&str]) -> Said {
        let command = || -> Result<Said> {
            self.run(Command::new(hearth_path()?).args(arguments).env("HEARTH_DATA_DIR", &self.data_dir))
        };
        command().unwrap_or_else(|error| panic!("hearth {arguments:?}: {error:#}"))
    }

    /// The AWS CLI, pointed here by `hearth env` and nothing else.
    pub fn aws(&self, arguments: &[&str]) -> Said {
        let aws = python_path().map(|python| python.with_file_name("aws"));
        let command = || -> Result<Said> { run(self.user(&mut Command::new(aws?)).args(arguments)) };
        command().unwrap_or_else(|error| panic!("aws {arguments:?}: {error:#}"))
    }

    /// A Python script with boto3; `prelude.py` goes before it.
    pub fn python(&self, script: &str, arguments: &[&str]) -> Said {
        let command = || -> Result<Said> {
            let script = format!("{}\n{script}", include_str!("../e2e/prelude.py"));
            self.run(self.user(&mut Command::new(python_path()?)).args(["-c", &script]).args(arguments))
        };
        command().unwrap_or_else(|error| panic!("python: {error:#}"))
    }

    /// A Python program with what a user of boto3 and the AWS CLI has.
    pub fn python_file(&self, program: &Path, arguments: &[&str]) -> Said {
        let command =
            || -> Result<Said> { run(self.user(&mut Command::new(python_path()?)).arg(program).args(arguments)) };
        command().unwrap_or_else(|error| panic!("python {}: {error:#}", program.display()))
    }

    /// A JavaScript program with what a user of the AWS SDK has.
    pub fn node(&self, program: &Path, arguments: &[&str]) -> Said {
        let command = || -> Result<Said> {
            let modules = found("HEARTH_TEST_NODE_MODULES", |target| target.join("node/node_modules"))?;
            let node = env::var_os("HEARTH_TEST_NODE").unwrap_or_else(|| "node".into());
            let mut command = Command::new(node);
            command.env("HEARTH_TEST_NODE_MODULES", modules);
            run(self.user(&mut command).arg(program).args(arguments))
        };
        command().unwrap_or_else(|error| panic!("node {}: {error:#}", program.display()))
    }

    fn run(&self, command: &mut Command) -> Result<Said> {
        run_within(command, if self.engine == Engine::Fake { COMMAND_LIMIT } else { REAL_LIMIT })
    }

    fn user<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(name);
        }
        command.envs(self.env.iter().chain(&self.variables).map(|(name, value)| (name, value)));
        command.env("AWS_CONFIG_FILE", "/nonexistent").env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent");
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_PAGER", "");
        command.env("NO_PROXY", "127.0.0.1,localhost,.localhost").env("no_proxy", "127.0.0.1,localhost,.localhost")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.engine == Engine::Qemu {
            machines::end(&self.data_dir);
        }
    }
}

/// Runs a command to its end, bounded.
pub fn run(command: &mut Command) -> Result<Said> {
    run_within(command, COMMAND_LIMIT)
}

fn run_within(command: &mut Command, limit: Duration) -> Result<Said> {
    let shown = command.get_program().to_string_lossy().into_owned();
    // Files instead of pipes: nobody has to read while it runs.
    let scratch = tempfile::tempdir().context("make a scratch directory")?;
    let (out, err) = (scratch.path().join("out"), scratch.path().join("err"));
    command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?);
    let mut child = command.spawn().with_context(|| format!("start {shown}"))?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            let said = Said { code: None, stdout: fs::read_to_string(out)?, stderr: fs::read_to_string(err)? };
            bail!("{shown} took longer than {} s: {said:?}", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ok(Output { status, stdout: fs::read(out)?, stderr: fs::read(err)? }.into())
}

/// The binary under test: `HEARTH_BIN`, else the one beside this test.
pub fn hearth_path() -> Result<PathBuf> {
    found("HEARTH_BIN", |target| target.join("debug/hearth"))
}

/// A Python with boto3 and the AWS CLI beside it: `HEARTH_TEST_PYTHON`, else the environment that xtask makes.
fn python_path() -> Result<PathBuf> {
    found("HEARTH_TEST_PYTHON", |target| target.join("demo-venv/bin/python"))
}

fn found(variable: &str, otherwise: impl FnOnce(&Path) -> PathBuf) -> Result<PathBuf> {
    let path = match env::var_os(variable) {
        Some(path) => path.into(),
        None => {
            let this = env::current_exe().context("find this test")?;
            otherwise(this.ancestors().nth(3).context("find the target directory")?)
        }
    };
    if !path.exists() {
        bail!("{} is missing; run `cargo xtask test`, which makes it", path.display());
    }
    Ok(path)
}
