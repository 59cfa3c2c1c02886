//! The fake engine passes the suite of all engines, and does what its script says.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use engine::{
    BootSpec, Engine, EngineError, Hardware, Machine, MachineRecord, RestoreSpec, SEALED,
    agent::{Agent, AgentError},
    conformance,
    fake::{FakeEngine, Operation},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::{Application, Container, Happening};

const PATIENCE: Duration = Duration::from_secs(10);

fn boot_spec(image_dir: &Path, machine_dir: &Path) -> BootSpec {
    BootSpec {
        image_dir: image_dir.to_owned(),
        machine_dir: machine_dir.to_owned(),
        hardware: Hardware { memory_mib: 512, vcpus: 1 },
        kernel: PathBuf::new(),
        initrd: PathBuf::new(),
    }
}

fn container(env: &[(&str, &str)]) -> Container {
    Container {
        argv: vec!["python3".into(), "app.py".into()],
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        workdir: "/app".into(),
        user: String::new(),
        all_capabilities: false,
        hostname: "image".into(),
    }
}

struct FakeHarness {
    scratch: tempfile::TempDir,
}

#[async_trait]
impl conformance::Harness for FakeHarness {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(FakeEngine::new())
    }

    fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    async fn image(&self, image_dir: &Path, machine_dir: &Path) -> BootSpec {
        boot_spec(image_dir, machine_dir)
    }

    fn container(&self) -> Container {
        container(&[("HEARTH_FAKE_CLOSED_PORTS", "9999")])
    }

    fn closed_port(&self) -> u16 {
        9999
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fake_passes_the_suite_of_all_engines() {
    let harness = FakeHarness { scratch: tempfile::tempdir().expect("a directory") };
    for (check, took) in conformance::run(&harness).await.unwrap_or_else(|failure| panic!("{failure}")) {
        println!("{took:>10.1?}  {check}");
    }
    assert_eq!(FakeEngine::new().count_below(harness.scratch.path()), 0, "machines are left");
}

/// A fake machine with an agent, and where its files are.
struct Guest {
    engine: FakeEngine,
    scratch: tempfile::TempDir,
    machine: Box<dyn Machine>,
    agent: Agent,
}

impl Guest {
    /// Boots; does not start the application.
    async fn boot() -> Self {
        let scratch = tempfile::tempdir().expect("a directory");
        let engine = FakeEngine::new();
        let image_dir = scratch.path().join("image");
        std::fs::create_dir(&image_dir).expect("makes it");
        let machine = engine.boot(boot_spec(&image_dir, &scratch.path().join("fresh"))).await.expect("boots");
        let agent = connect(machine.as_ref()).await;
        Guest { engine, scratch, machine, agent }
    }

    async fn start(env: &[(&str, &str)]) -> Self {
        let guest = Guest::boot().await;
        guest.agent.start(container(env)).await.expect("starts");
        guest
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn clone_spec(&self, name: &str) -> RestoreSpec {
        RestoreSpec { image_dir: self.path("image"), machine_dir: self.path(name), saved_dir: None }
    }

    async fn seal(&self) {
        self.machine.pause().await.expect("pauses");
        self.machine.save(&self.path("image").join(SEALED)).await.expect("seals");
        self.machine.kill().await.expect("ends");
    }
}

/// The first file that a seal writes, as one that nobody can open for writing until somebody reads it.
fn hold_up(image_dir: &Path) -> PathBuf {
    let fifo = image_dir.join("memory.tmp");
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).expect("makes it");
    fifo
}

/// Lets what [`hold_up`] holds up go on.
async fn let_go(fifo: PathBuf) {
    tokio::task::spawn_blocking(move || std::fs::read(fifo)).await.expect("reads").expect("reads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_waits_for_a_save_that_was_dropped_half_way() {
    let guest = Guest::boot().await;
    let (fifo, sealed) = (hold_up(&guest.path("image")), guest.path("image").join(SEALED));
    guest.machine.pause().await.expect("pauses");
    let mut save = guest.machine.save(&sealed);
    assert!(tokio::time::timeout(Duration::from_millis(10), &mut save).await.is_err(), "it is held up");
    drop(save);
    let mut kill = guest.machine.kill();
    let waits = tokio::time::timeout(Duration::from_millis(50), &mut kill).await.is_err();
    let_go(fifo).await;
    assert!(waits, "the save was at work");
    kill.await.expect("kills");
    std::fs::remove_dir_all(guest.path("image")).expect("nobody writes to it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_boot_that_was_dropped_half_way_is_reclaimed() {
    let scratch = tempfile::tempdir().expect("a directory");
    let (engine, machine_dir) = (FakeEngine::new(), scratch.path().join("machine"));
    for _ in 0..5 {
        let mut boot = engine.boot(boot_spec(scratch.path(), &machine_dir));
        assert!(futures::poll!(&mut boot).is_pending(), "it has files to write");
        drop(boot);
        engine.reclaim(&machine_dir).await.expect("reclaims");
        // Longer than the boot takes: no machine comes after the reclaim.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(engine.count_below(scratch.path()), 0, "a machine that nobody holds");
    }
}

async fn connect(machine: &dyn Machine) -> Agent {
    Agent::open(machine.connect().await.expect("connects"), PATIENCE).await.expect("answers")
}

/// Calls a hook; the status, or `None` when the connection was closed instead.
async fn hook(agent: &Agent, hook: &str) -> Option<u16> {
    let mut stream = agent.dial(9000).await.expect("listens");
    let request = format!(
        "POST /aws/lambda-microvms/runtime/v1/{hook} HTTP/1.1\r\nhost: localhost:9000\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("reads");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok())
}

async fn exit_code(agent: &Agent) -> i32 {
    let mut events = agent.events(0).await.expect("follows");
    loop {
        let event = events.next().await.expect("reads").expect("more");
        if let Happening::Exited { code } = event.what {
            return code;
        }
    }
}

#[tokio::test]
async fn hooks_answer_as_the_environment_says_and_leave_lines() {
    let guest = Guest::start(&[
        ("HEARTH_FAKE_READY_STATUS", "503,503,200"),
        ("HEARTH_FAKE_RUN_STATUS", "500"),
        ("HEARTH_FAKE_SUSPEND_STATUS", "close"),
        ("HEARTH_FAKE_RESUME_STATUS", "never"),
    ])
    .await;
    let mut seen = Vec::new();
    for name in ["ready", "ready", "ready", "ready", "validate", "run", "suspend", "terminate"] {
        seen.push(hook(&guest.agent, name).await);
    }
    let (ok, busy) = (Some(200), Some(503));
    assert_eq!(seen, [busy, busy, ok, ok, ok, Some(500), None, ok]);
    assert!(tokio::time::timeout(Duration::from_millis(50), hook(&guest.agent, "resume")).await.is_err());

    let mut events = guest.agent.events(0).await.expect("follows");
    let mut lines = Vec::new();
    while lines.len() < 10 {
        let event = events.next().await.expect("reads").expect("more");
        assert_eq!(event.sequence, lines.len() as u64 + 1);
        if let Happening::Line { text, .. } = event.what {
            lines.push(text);
        }
    }
    assert_eq!(lines[..2], ["fake application started", "hook ready: 503"]);
    assert_eq!(lines[9], "hook resume: no answer");
}

#[tokio::test]
async fn hook_calls_are_counted_across_a_snapshot() {
    let guest = Guest::start(&[("HEARTH_FAKE_RUN_STATUS", "200,500")]).await;
    assert_eq!(hook(&guest.agent, "run").await, Some(200));
    guest.seal().await;
    let clone = guest.engine.restore(guest.clone_spec("clone")).await.expect("restores");
    clone.resume().await.expect("resumes");
    assert_eq!(hook(&connect(clone.as_ref()).await, "run").await, Some(500));
    clone.kill().await.expect("ends");
}

#[tokio::test]
async fn an_application_that_ends_is_told_and_refuses_from_then_on() {
    let guest = Guest::start(&[("HEARTH_FAKE_EXIT_AFTER_MS", "20"), ("HEARTH_FAKE_EXIT_CODE", "3")]).await;
    let open = guest.agent.dial(8080).await;
    assert_eq!(exit_code(&guest.agent).await, 3);
    assert!(matches!(guest.agent.dial(8080).await, Err(AgentError::Refused { port: 8080 })));
    if let Ok(mut stream) = open {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
    let again = connect(guest.machine.as_ref()).await;
    assert_eq!(again.hello().application, Application::Exited(3));
}

#[tokio::test]
async fn a_program_that_only_ends_ends_at_once() {
    let guest = Guest::boot().await;
    let argv = ["/bin/sh", "-c", "exit 42"].map(str::to_owned).to_vec();
    guest.agent.start(Container { argv, ..container(&[]) }).await.expect("starts");
    assert_eq!(exit_code(&guest.agent).await, 42);
}

#[tokio::test]
async fn a_mistyped_script_makes_the_start_fail_by_name() {
    let guest = Guest::boot().await;
    let error = guest.agent.start(container(&[("HEARTH_FAKE_REDY_STATUS", "200")])).await.expect_err("unknown");
    assert!(error.to_string().contains("HEARTH_FAKE_REDY_STATUS"), "{error}");
    // Nothing was started, so another try is not a repeat.
    guest.agent.start(container(&[])).await.expect("starts");
}

#[tokio::test]
async fn scripted_texts_come_back_from_their_step() {
    let guest = Guest::start(&[
        ("HEARTH_FAKE_QUIESCE_ERROR", "sync: input/output error"),
        ("HEARTH_FAKE_RENEW_ERROR", "no clock"),
        ("HEARTH_FAKE_SAVE_ERROR", "no disk"),
    ])
    .await;
    let error = guest.agent.quiesce().await.expect_err("scripted").to_string();
    assert_eq!(error, "quiesce failed in the guest: sync: input/output error");
    guest.machine.pause().await.expect("pauses");
    let sealed = guest.path("image").join(SEALED);
    assert_eq!(guest.machine.save(&sealed).await.expect_err("scripted").to_string(), "save: no disk");
    assert!(!sealed.exists());
}

#[tokio::test]
async fn a_crash_ends_the_machine_and_its_connections() {
    let guest = Guest::start(&[("HEARTH_FAKE_CRASH_AFTER_MS", "20")]).await;
    guest.machine.wait().await;
    guest.agent.closed().await;
    assert!(matches!(guest.agent.dial(8080).await, Err(AgentError::Ended(_))));
    assert!(matches!(guest.machine.connect().await, Err(EngineError::Gone(_))));
    assert!(guest.engine.adopt(&guest.machine.record()).await.expect("looks").is_none());

    let other = Guest::start(&[]).await;
    assert_eq!(other.engine.count_below(other.scratch.path()), 1);
    assert!(other.engine.crash(&other.path("fresh")));
    other.machine.wait().await;
    assert!(!other.engine.crash(&other.path("fresh")));
    assert_eq!(other.engine.count_below(other.scratch.path()), 0);
}

#[tokio::test]
async fn a_paused_machine_does_nothing_at_all() {
    let guest = Guest::start(&[]).await;
    let mut stream = guest.agent.dial(7).await.expect("echoes");
    guest.machine.pause().await.expect("pauses");
    stream.write_all(b"frozen").await.expect("fits");
    let mut echo = [0; 6];
    let early = tokio::time::timeout(Duration::from_millis(50), stream.read_exact(&mut echo)).await;
    assert!(early.is_err(), "a frozen guest answered");
    guest.machine.resume().await.expect("resumes");
    stream.read_exact(&mut echo).await.expect("echoes");
    assert_eq!(&echo, b"frozen");
}

#[tokio::test]
async fn a_running_or_sealed_machine_is_kept_from_harm() {
    let guest = Guest::start(&[]).await;
    let sealed = guest.path("image").join(SEALED);
    assert!(guest.machine.save(&sealed).await.is_err(), "saved while it ran");
    guest.machine.pause().await.expect("pauses");
    assert!(guest.machine.save(&guest.path("elsewhere")).await.is_err(), "sealed beside its image");
    guest.machine.save(&sealed).await.expect("seals");
    assert!(guest.machine.resume().await.is_err(), "a sealed machine ran on");
    guest.machine.kill().await.expect("ends");
    let over = guest.engine.boot(boot_spec(&guest.path("image"), &guest.path("over"))).await;
    assert!(over.is_err(), "booted over a sealed image");
    assert!(!guest.path("over").exists());

    let clone = guest.engine.restore(guest.clone_spec("clone")).await.expect("restores");
    let twin = guest.engine.restore(guest.clone_spec("clone")).await;
    assert!(twin.is_err(), "two machines in one directory");
    clone.kill().await.expect("ends");
}

#[tokio::test]
async fn scripted_engine_failures_come_once_each_and_leave_nothing() {
    let guest = Guest::start(&[]).await;
    guest.seal().await;
    let fail = |operation| guest.engine.fail_next(operation, EngineError::Host("scripted".into()));
    let scripted = |error: Option<EngineError>| error.map(|error| error.to_string()) == Some("scripted".to_owned());

    fail(Operation::Boot);
    let spec = boot_spec(&guest.path("image"), &guest.path("other"));
    assert!(scripted(guest.engine.boot(spec).await.err()));
    fail(Operation::Restore);
    fail(Operation::Restore);
    assert!(scripted(guest.engine.restore(guest.clone_spec("clone")).await.err()));
    assert!(scripted(guest.engine.restore(guest.clone_spec("clone")).await.err()));
    assert!(!guest.path("clone").exists());
    let clone = guest.engine.restore(guest.clone_spec("clone")).await.expect("restores");
    for operation in [Operation::Save, Operation::Resume, Operation::Pause, Operation::Connect, Operation::Adopt] {
        fail(operation);
        let error = match operation {
            Operation::Save => clone.save(&guest.path("saved")).await.err(),
            Operation::Resume => clone.resume().await.err(),
            Operation::Pause => clone.pause().await.err(),
            Operation::Connect => clone.connect().await.err(),
            _ => guest.engine.adopt(&clone.record()).await.err(),
        };
        assert!(scripted(error), "{operation:?}");
    }
    assert!(!guest.path("saved").exists());
    clone.save(&guest.path("saved")).await.expect("saves");
    clone.kill().await.expect("ends");
}

#[tokio::test]
async fn a_record_of_another_process_is_not_adopted() {
    let guest = Guest::start(&[]).await;
    let record = guest.machine.record();
    assert_eq!(record.pid, 0, "nobody may take it for a process");
    let text = serde_json::to_string(&record).expect("encodes");
    let same: MachineRecord = serde_json::from_str(&text).expect("decodes");
    assert!(guest.engine.adopt(&same).await.expect("looks").is_some());
    let other = MachineRecord { boot_id: "fake-of-another-process".into(), ..record };
    assert!(guest.engine.adopt(&other).await.expect("looks").is_none());
}
