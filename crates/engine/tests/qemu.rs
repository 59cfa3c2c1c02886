//! The QEMU engine passes the suite of all engines, on real machines. Needs root, and what `cargo xtask test` prepares:
//! `HEARTH_TEST_CACHE` (a directory with the assets, made when missing) and `HEARTH_GUEST_AGENT` (the agent's binary).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use engine::{
    BootSpec, Engine, Hardware, MachineRecord, conformance,
    qemu::{Acceleration, QemuEngine, Settings},
};
use host::Assets;
use wire::Container;

struct QemuHarness {
    scratch: tempfile::TempDir,
    settings: Settings,
    kernel: PathBuf,
    initrd: PathBuf,
    base: PathBuf,
}

fn variable(name: &str) -> PathBuf {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set; run this through `cargo xtask test`")).into()
}

impl QemuHarness {
    async fn new() -> Self {
        let say = |line: &str| eprintln!("{line}");
        let cache_dir = variable("HEARTH_TEST_CACHE");
        let assets = Assets::new(cache_dir.clone(), host::Settings::default());
        let kernel = assets.kernel(&say).await.expect("kernel");
        let agent = fs::read(variable("HEARTH_GUEST_AGENT")).expect("agent");
        QemuHarness {
            scratch: tempfile::tempdir().expect("scratch"),
            initrd: assets.initramfs(&kernel, &agent, &say).await.expect("initramfs"),
            settings: Settings {
                root: assets.vmm_root(&say).await.expect("QEMU"),
                cache_dir,
                acceleration: Acceleration::Auto,
            },
            kernel: kernel.vmlinux,
            base: assets.base_root(&say).await.expect("base"),
        }
    }
}

/// The application: what the suite asks for, in a few lines of Python.
const APPLICATION: &str = r#"
import http.server, json, time
n = 0
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        global n
        n += 1
        body = json.dumps({"requests_served": n, "uptime_seconds": time.monotonic()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
print("listening", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"#;

#[async_trait]
impl conformance::Harness for QemuHarness {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(QemuEngine::new(self.settings.clone()).expect("engine"))
    }

    fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    async fn image(&self, image_dir: &Path, machine_dir: &Path) -> BootSpec {
        let tree = self.scratch.path().join("tree");
        fs::create_dir(&tree).expect("tree");
        let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
            let output = Command::new(program).args(arguments).output().expect(program);
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run("tar", &["-xf".as_ref(), self.base.as_ref(), "-C".as_ref(), tree.as_ref()]);
        fs::write(tree.join("app.py"), APPLICATION).expect("application");
        let disk = image_dir.join("rootfs.ext4");
        fs::File::create(&disk).and_then(|file| file.set_len(1 << 30)).expect("disk");
        run("mke2fs", &["-q".as_ref(), "-t".as_ref(), "ext4".as_ref(), "-d".as_ref(), tree.as_ref(), disk.as_ref()]);
        BootSpec {
            image_dir: image_dir.to_owned(),
            machine_dir: machine_dir.to_owned(),
            hardware: Hardware { memory_mib: 512, vcpus: 1 },
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
        }
    }

    fn container(&self) -> Container {
        Container {
            argv: vec!["python3".into(), "/app.py".into()],
            env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
            workdir: "/".into(),
            user: String::new(),
            all_capabilities: false,
            hostname: "conformance".into(),
        }
    }

    fn closed_port(&self) -> u16 {
        8081
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }

    fn leftovers(&self, record: &MachineRecord) -> Vec<String> {
        let name = record.machine_dir.to_string_lossy().into_owned();
        let processes = fs::read_dir("/proc").expect("proc").flatten().filter_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let last = record.machine_dir.file_name()?.to_string_lossy().into_owned();
            let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            words.windows(2).any(|pair| pair[0] == "-name" && pair[1] == last).then(|| format!("{:?}", entry.path()))
        });
        let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
        let mounts = mounts.lines().filter(|line| line.contains(&name)).map(str::to_owned).collect::<Vec<_>>();
        processes.chain(mounts).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots real machines as root; `cargo xtask test` runs it"]
async fn qemu_passes_the_suite() {
    let harness = QemuHarness::new().await;
    match conformance::run(&harness).await {
        Ok(passed) => {
            for (check, took) in passed {
                println!("{:>7.1} ms  {check}", took.as_secs_f64() * 1e3);
            }
        }
        Err(failure) => panic!("{failure}"),
    }
}
