//! The one way this crate runs another program: bounded, its words kept for the error, and nothing of it left behind.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStderr, Command},
};

use crate::{HostError, doctor};

/// Lines of standard error kept for an error message.
const TAIL_LINES: usize = 20;
/// Bytes of one such line that are kept; package managers' lines are far shorter.
const LINE_BYTES: u64 = 4096;
/// Where Debian keeps commands; appended to `PATH`, since a root shell from `su` may lack the `sbin` ones.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One run of a program.
pub(crate) struct Run<'a> {
    /// For errors: the program and what it is for.
    pub title: String,
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// Extra environment.
    pub envs: Vec<(&'static str, OsString)>,
    /// Becomes the program's standard input: a lock that must be held as long as it or a child of it lives.
    pub lock: Option<File>,
    /// After this long the program is killed.
    pub limit: Duration,
    /// The archive it downloads from, for [`HostError::NoNetwork`].
    pub mirror: String,
    /// The directory it writes to, for [`HostError::DiskFull`].
    pub dir: PathBuf,
    /// Gets every line of its standard error.
    pub on_line: &'a (dyn Fn(&str) + Send + Sync),
}

impl Run<'_> {
    /// Runs it to its end. A dropped future kills the program.
    pub async fn run(self) -> Result<(), HostError> {
        let program = self.argv.first().map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default();
        let path = find(&program).ok_or_else(|| HostError::MissingCommand {
            package: doctor::package_of(&program).unwrap_or(&program).to_owned(),
            command: program.clone(),
        })?;
        let stdin = self.lock.map_or_else(Stdio::null, Stdio::from);
        let mut child = Command::new(path)
            .args(&self.argv[1..])
            .env("PATH", search_path())
            .env("LC_ALL", "C.UTF-8")
            .envs(self.envs)
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| HostError::Io { what: format!("starting {}", self.title), source })?;
        let mut tail = Tail::default();
        let stderr = child.stderr.take();
        let ended = tokio::time::timeout(self.limit, follow(&mut child, stderr, &mut tail, self.on_line)).await;
        let status = match ended {
            Ok(status) => {
                status.map_err(|source| HostError::Io { what: format!("waiting for {}", self.title), source })?
            }
            Err(_) => {
                // It may be gone by now, which is as good.
                let _ = child.kill().await;
                let seconds = self.limit.as_secs();
                return Err(HostError::Timeout { command: self.title, seconds, tail: tail.text() });
            }
        };
        if status.success() {
            return Ok(());
        }
        Err(explain(self.title, status, &tail.text(), &self.mirror, &self.dir))
    }
}

/// Reads the program's words until it closes them, then waits for its end.
async fn follow(
    child: &mut Child,
    stderr: Option<ChildStderr>,
    tail: &mut Tail,
    on_line: &(dyn Fn(&str) + Send + Sync),
) -> std::io::Result<ExitStatus> {
    if let Some(stderr) = stderr {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        while (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut line).await? > 0 {
            let text = redact(String::from_utf8_lossy(&line).trim_end());
            if !text.is_empty() {
                on_line(&text);
                tail.push(text);
            }
            line.clear();
        }
    }
    child.wait().await
}

/// The last lines of a program.
#[derive(Default)]
struct Tail(VecDeque<String>);

impl Tail {
    fn push(&mut self, line: String) {
        if self.0.len() == TAIL_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }

    fn text(&self) -> String {
        if self.0.is_empty() {
            return "(it said nothing)".to_owned();
        }
        self.0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }
}

/// Turns a failed run into the error that says most: a full disk and a dead network have their own words.
fn explain(command: String, status: ExitStatus, tail: &str, mirror: &str, dir: &Path) -> HostError {
    const NETWORK: [&str; 8] = [
        "Temporary failure resolving",
        "Could not resolve",
        "Could not connect",
        "Unable to connect",
        "Cannot initiate the connection",
        "Network is unreachable",
        "Connection timed out",
        "Connection failed",
    ];
    if tail.contains("No space left on device") || tail.contains("Disk quota exceeded") {
        return HostError::DiskFull(dir.to_owned());
    }
    let tail = tail.to_owned();
    if NETWORK.iter().any(|sign| tail.contains(sign)) {
        return HostError::NoNetwork { command, mirror: redact(mirror), tail };
    }
    HostError::Command { command, status: status.to_string(), tail }
}

/// Replaces `user:password@` in URLs: apt's mirrors and proxies may carry one.
pub(crate) fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c == '/' || c == '"' || c.is_whitespace()).unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rfind('@') {
            Some(at) => {
                out.push_str("[redacted]");
                out.push_str(&authority[at..]);
            }
            None => out.push_str(authority),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// The directories that commands are looked for in.
pub(crate) fn search_path() -> OsString {
    match std::env::var_os("PATH") {
        Some(mut path) if !path.is_empty() => {
            path.push(":");
            path.push(SYSTEM_PATH);
            path
        }
        _ => SYSTEM_PATH.into(),
    }
}

/// Where a command is, if it is installed.
pub(crate) fn find(command: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    std::env::split_paths(&search_path()).map(|dir| dir.join(command)).find(|path| {
        path.is_absolute() && path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Run<'static> {
        Run {
            title: "sh for a test".into(),
            argv: vec!["sh".into(), "-c".into(), script.into()],
            envs: Vec::new(),
            lock: None,
            limit,
            mirror: "http://u:p@mirror/debian".into(),
            dir: "/data".into(),
            on_line: &|_| {},
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_failure_carries_status_and_the_last_lines() {
        let script = "i=0; while [ $i -lt 30 ]; do echo line $i >&2; i=$((i+1)); done; exit 7";
        let error = sh(script, LONG).run().await.unwrap_err().to_string();
        assert!(error.contains("exit status: 7"), "{error}");
        assert!(error.contains("line 29") && error.contains("line 10"), "{error}");
        assert!(!error.contains("line 9\n"), "{error}");
    }

    #[tokio::test]
    async fn a_full_disk_and_a_dead_network_are_named() {
        let error = sh("echo 'tar: write: No space left on device' >&2; exit 2", LONG).run().await.unwrap_err();
        assert!(matches!(&error, HostError::DiskFull(dir) if dir == Path::new("/data")), "{error}");
        let error =
            sh("echo \"Temporary failure resolving 'deb.debian.org'\" >&2; exit 100", LONG).run().await.unwrap_err();
        assert!(matches!(&error, HostError::NoNetwork { .. }), "{error}");
        assert!(error.to_string().contains("http://[redacted]@mirror/debian"), "{error}");
    }

    #[tokio::test]
    async fn the_bound_ends_it() {
        let error = sh("echo waiting >&2; exec sleep 100", Duration::from_millis(200)).run().await.unwrap_err();
        assert!(matches!(&error, HostError::Timeout { tail, .. } if tail.contains("waiting")), "{error}");
    }

    #[tokio::test]
    async fn a_missing_command_is_named_with_its_package() {
        let mut run = sh("", LONG);
        run.argv = vec!["hearth-no-such-command".into()];
        let error = run.run().await.unwrap_err();
        assert!(matches!(&error, HostError::MissingCommand { command, .. } if command == "hearth-no-such-command"));
    }

    #[test]
    fn credentials_in_urls_are_redacted() {
        assert_eq!(redact("proxy http://me:secret@host:3128/ and"), "proxy http://[redacted]@host:3128/ and");
        assert_eq!(redact("a://b@c d://e"), "a://[redacted]@c d://e");
        assert_eq!(redact("no url"), "no url");
    }
}
