//! Where the story plays: a server with a data directory of its own, and the tools of a user who was told `hearth env`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{footprint::Footprint, processes, report::Report, server::Server, settings};
use crate::{process, sys, venv::Venv, workspace};

/// Longest time for one command of the AWS CLI or of hearth's client.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);
/// Longest time for the server to start: the first time it makes root file systems out of Debian packages.
const START_LIMIT_SECONDS: u64 = 1800;

/// A microVM of the story.
#[derive(Debug, Clone)]
pub struct Vm {
    /// Its id.
    pub id: String,
    /// Host of its endpoint.
    pub endpoint: String,
}

/// Everything that a step needs.
pub struct Scene {
    /// The binary.
    pub hearth: PathBuf,
    /// The AWS CLI.
    pub venv: Venv,
    /// The server's state.
    pub data_dir: PathBuf,
    /// What outlives the demo: kernels, root file systems, layers.
    pub cache_dir: PathBuf,
    /// Everything else that the demo makes.
    pub work: PathBuf,
    /// What `hearth env` said.
    pub env: Vec<(String, String)>,
    /// What was expected.
    pub report: Report,
    /// ARN of the story's image, once it is asked for.
    pub image: String,
    /// The microVM that the story is about.
    pub vm: Option<Vm>,
    engine: Option<&'static str>,
    server: Option<Server>,
    before: Footprint,
    over: bool,
}

impl Scene {
    /// Looks at the host, and makes the directories. Nothing runs yet.
    pub fn open(hearth: PathBuf, venv: Venv, report: Report) -> Result<Scene> {
        let before = Footprint::take();
        let work = workspace::target().join("demo").join(format!("run-{}", std::process::id()));
        let (data_dir, cache_dir) = (work.join("data"), workspace::hearth_cache());
        for dir in [&data_dir, &cache_dir] {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        settings::write(&data_dir)?;
        Ok(Scene {
            hearth,
            venv,
            data_dir,
            cache_dir,
            work,
            env: Vec::new(),
            report,
            image: String::new(),
            vm: None,
            engine: None,
            server: None,
            before,
            over: false,
        })
    }

    /// Plays one part: an error is an expectation not met. Returns false when there is no going on.
    pub fn part(&mut self, title: &str, play: impl FnOnce(&mut Scene) -> Result<()>) -> bool {
        println!("\n{title}");
        if sys::interrupted() {
            self.report.fail(title, "interrupted");
            return false;
        }
        match play(self) {
            Ok(()) => true,
            Err(error) => {
                self.report.fail(title, format!("{error:#}"));
                false
            }
        }
    }

    /// `hearth doctor`, `hearth serve`, `hearth env`.
    pub fn start(&mut self) -> Result<()> {
        let mut doctor = self.hearth_command("doctor");
        if sys::is_root() {
            doctor.arg("--fix");
        }
        println!("  $ {}", process::shown(&doctor));
        let output = process::capture(&mut doctor, b"", Duration::from_secs(1200))?;
        let last = output.stdout.lines().last().unwrap_or_default().to_owned();
        self.report.expect("hearth doctor finds nothing lacking", output.status.success(), last);
        self.serve()?;
        let address = self.variable("AWS_ENDPOINT_URL").to_owned();
        self.report.expect("hearth serve is ready, hearth env points to it", true, address);
        Ok(())
    }

    /// `hearth serve` with the fake engine, which needs nothing of the host, and `hearth env`.
    pub fn start_fake(&mut self) -> Result<()> {
        self.engine = Some("fake");
        self.serve()?;
        let address = self.variable("AWS_ENDPOINT_URL").to_owned();
        self.report.expect("hearth serve is ready, hearth env points to it", true, address);
        Ok(())
    }

    /// Process id of the server, while it runs.
    pub fn server_pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    /// Starts the server, the first time on ports of its choice, later on the same ones, and asks `hearth env`.
    pub fn serve(&mut self) -> Result<()> {
        let known = |name: &str| {
            let value = self.variable(name).trim_start_matches("http://");
            if value.is_empty() { "127.0.0.1:0".to_owned() } else { value.to_owned() }
        };
        let (api, ingress) = (known("AWS_ENDPOINT_URL"), known("HEARTH_INGRESS"));
        let mut command = self.hearth_command("serve");
        command.args(["--api", &api, "--ingress", &ingress]).arg("--cache-dir").arg(&self.cache_dir);
        command.args(self.engine.iter().flat_map(|engine| ["--engine", *engine]));
        println!("  $ {}", process::shown(&command));
        self.server = Some(Server::start(command, &self.work.join("server.log"))?);
        let hearth = self.hearth.display();
        let script = format!("eval \"$('{hearth}' env --data-dir '{}')\" && env -0", self.data_dir.display());
        let mut shell = Command::new("sh");
        shell.args(["-euc", &script]);
        let output = process::capture(&mut shell, b"", Duration::from_secs(START_LIMIT_SECONDS + 10))?;
        let stdout = output.success("hearth env").map_err(|error| error.context(self.server_says()))?;
        let exported = |text: &str| {
            let (name, value) = text.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        self.env = stdout.split('\0').filter_map(exported).filter(|(name, _)| is_ours(name)).collect();
        Ok(())
    }

    /// `kill -9`: nothing of the server's own code runs any more.
    pub fn kill_server(&mut self) -> Result<()> {
        let Some(server) = self.server.take() else { bail!("the server does not run") };
        println!("  $ kill -9 {}", server.pid());
        server.kill()
    }

    /// What `hearth env` exports under that name; empty when it does not.
    pub fn variable(&self, name: &str) -> &str {
        self.env.iter().find(|(each, _)| each == name).map_or("", |(_, value)| value)
    }

    /// `hearth <verb>` for this server.
    pub fn hearth_command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.hearth);
        command.arg(verb).arg("--data-dir").arg(&self.data_dir);
        command
    }

    /// A program with the variables of `hearth env`, and nobody else's AWS settings.
    pub fn user_command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.env("AWS_CONFIG_FILE", "/nonexistent").env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent");
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_PAGER", "");
        // What listens on this host is not reached through a proxy.
        command.env("NO_PROXY", "127.0.0.1,localhost,.localhost").env("no_proxy", "127.0.0.1,localhost,.localhost");
        command
    }

    /// The AWS CLI; its standard output.
    pub fn aws(&self, arguments: &[&str]) -> Result<String> {
        println!("  $ aws {}", arguments.join(" "));
        self.aws_quietly(arguments)
    }

    fn aws_quietly(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.user_command(&self.venv.aws_path());
        command.args(arguments).args(["--output", "json"]);
        process::capture(&mut command, b"", COMMAND_LIMIT)?.success(&format!("aws {}", arguments.join(" ")))
    }

    /// `aws lambda-microvms <arguments>`; its JSON, null when it prints nothing.
    pub fn microvms(&self, arguments: &[&str]) -> Result<Value> {
        println!("  $ aws lambda-microvms {}", arguments.join(" "));
        self.microvms_quietly(arguments)
    }

    /// The same, not shown: for asking again and again.
    pub fn microvms_quietly(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.aws_quietly(&[&["lambda-microvms"], arguments].concat())?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("aws printed no JSON: {text}"))
    }

    /// The story's microVM.
    pub fn vm(&self) -> Result<Vm> {
        self.vm.clone().context("there is no microVM yet")
    }

    /// Waits, with the AWS CLI, until a microVM is in that state.
    pub fn wait_for(&self, id: &str, wanted: &str) -> Result<Value> {
        println!("  $ aws lambda-microvms get-microvm --microvm-identifier {id}   # until {wanted}");
        let pause = Duration::from_millis(100);
        process::until(&format!("{id} to be {wanted}"), pause, Duration::from_secs(120), || {
            let vm = self.microvms_quietly(&["get-microvm", "--microvm-identifier", id])?;
            match vm["state"].as_str() {
                Some(state) if state == wanted => Ok(Some(vm)),
                Some("TERMINATED") => bail!("{id} ended: {}", vm["stateReason"]),
                _ => Ok(None),
            }
        })
    }

    /// Virtual machines of this server that run now.
    pub fn machines(&self) -> Vec<processes::Process> {
        processes::machines(&self.data_dir, &self.ids())
    }

    /// Ids of all microVMs that the server tells of, ended ones included; none while it does not run.
    fn ids(&self) -> Vec<String> {
        let mut command = self.hearth_command("ls");
        command.args(["--all", "--json"]);
        let said = process::capture(&mut command, b"", COMMAND_LIMIT);
        let listed: Value = said.ok().and_then(|output| serde_json::from_str(&output.stdout).ok()).unwrap_or_default();
        let items = listed.as_array().into_iter().flatten();
        items.filter_map(|item| item["microvmId"].as_str().map(str::to_owned)).collect()
    }

    /// The end of the server's log, for when something went wrong.
    pub fn server_says(&self) -> String {
        let log = fs::read_to_string(self.work.join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("the server's last words: {}", lines[lines.len().saturating_sub(5)..].join(" | "))
    }

    /// Leaves everything as it is and says how to go on and how to end it.
    pub fn keep(&mut self) {
        self.over = true;
        let (hearth, data) = (self.hearth.display(), self.data_dir.display());
        println!("\nkept: the server runs on. To use it:\n  eval \"$({hearth} env --data-dir {data})\"");
        if let Some(server) = self.server.take() {
            println!("To end it:\n  {hearth} terminate --all; kill {}", server.pid());
            server.detach();
        }
    }

    /// Stops and removes everything, and expects nothing to be left. What must be kept for finding out why something
    /// failed (the server's log) stays in `target/demo`.
    pub fn leave(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        println!("\nleaving");
        sys::begin_cleaning();
        let ids = self.ids();
        if let Some(server) = self.server.take() {
            // Machines outlive a server that is told to stop; what the story has left running ends here.
            let ended = process::capture(self.hearth_command("terminate").arg("--all"), b"", COMMAND_LIMIT);
            let ended = ended.and_then(|output| output.success("hearth terminate --all"));
            self.report.expect("hearth terminate --all ends what still lives", ended.is_ok(), outcome(&ended));
            let ended = server.stop(Duration::from_secs(30));
            self.report.expect("the server ends when it is told to", ended.is_ok(), outcome(&ended));
        }
        self.expect_no_remains(&ids);
        let killed = processes::end_all(&self.data_dir, &ids);
        if killed > 0 {
            eprintln!("xtask: killed {killed} processes that were left");
        }
        self.remove_files();
    }

    fn expect_no_remains(&mut self, ids: &[String]) {
        let left = processes::of_server(&self.data_dir, ids);
        let names: Vec<String> = left.iter().map(ToString::to_string).collect();
        self.report.expect("no process is left", left.is_empty(), names.join(", "));
        let ready = self.data_dir.join("run/ready.json");
        self.report.expect("the server takes its ready file along", !ready.exists(), "");
        let new = Footprint::take().since(&self.before, &[&self.work, &self.cache_dir]);
        self.report.expect("no mount, namespace, tap or stray file is left", new.is_empty(), new.join(", "));
    }

    fn remove_files(&mut self) {
        let failed = self.report.failures() > 0;
        if failed {
            let log = self.work.join("server.log");
            let kept = workspace::target().join("demo/server.log");
            if fs::copy(&log, &kept).is_ok() {
                println!("  the server's log is in {}", kept.display());
            }
        }
        let removed = super::footprint::remove_tree(&self.work);
        self.report.expect("the demo's own files are removed", removed.is_ok(), outcome(&removed));
    }

    /// What was expected, at the end.
    pub fn into_report(mut self) -> Report {
        std::mem::take(&mut self.report)
    }
}

/// Also when a step panicked.
impl Drop for Scene {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Variables that `hearth env` sets, among all that the shell has.
fn is_ours(name: &str) -> bool {
    ["AWS_", "HEARTH_"].iter().any(|prefix| name.starts_with(prefix))
        || ["SSL_CERT_FILE", "CURL_CA_BUNDLE"].contains(&name)
}

fn outcome<T>(result: &Result<T>) -> String {
    result.as_ref().err().map_or_else(String::new, |error| format!("{error:#}"))
}
