//! Endpoints beside nginx: both are TLS reverse proxies to one and the same server on this host. In hearth's case the whole
//! of it is in between: token check, wake, agent channel and agent, of a microVM of the fake engine whose port leads back to
//! the host. One after the other in every round, so that what disturbs the host disturbs both.
//!
//! Two nginx: one as a plain `proxy_pass` makes it, a connection for each request, which is what is promised against; one
//! that keeps connections to the server for all clients, which hearth keeps for each client alone.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{figures, served::Served};
use crate::{build, process, setup, workspace};

const MICROVMS: &str = "/2025-09-09/microvms";
/// Rounds of everything.
const ROUNDS: usize = 5;
/// Clients at a time, and requests of a round.
const LOADS: [(u32, u32); 3] = [(1, 3_000), (64, 30_000), (256, 30_000)];
/// Bytes of the large file.
const LARGE: u64 = 1_000_000_000;
/// Requests whose time is taken one by one.
const TIMED: u32 = 4_000;
/// hearth's requests in a second, of nginx's, must be so many: as many, but for noise.
const PROMISE: f64 = 0.97;
/// What hearth may add to a request, milliseconds, at the median and at the 99th percentile.
const ADDS_MS: (f64, f64) = (0.3, 1.0);
const SOON: Duration = Duration::from_secs(120);

/// Measures; fails when a promise is not kept.
pub fn run(hearth: Option<PathBuf>) -> Result<()> {
    setup::proxies()?;
    let hearth = match hearth {
        Some(hearth) => hearth,
        None => build::hearth(&build::agent()?, true)?,
    };
    let dir = workspace::target().join("bench/proxy");
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let [server, plain, keeping] = free_ports()?;
    let nginx = Nginx::start(&dir, server, plain, keeping)?;
    let endpoint = Endpoint::open(&hearth, &dir, server)?;
    let direct = Way { name: "direct", scheme: "http", port: server, endpoint: &endpoint };
    let plain = Way { name: "nginx", scheme: "https", port: plain, endpoint: &endpoint };
    let keeping = Way { name: "nginx, keeping", scheme: "https", port: keeping, endpoint: &endpoint };
    let ours = Way { name: "hearth", scheme: "https", port: endpoint.port, endpoint: &endpoint };

    let mut broken = Vec::new();
    println!(
        "\nrequests in a second, median of {ROUNDS}   nginx  nginx, keeping     hearth   of nginx   of the keeping"
    );
    for version in [Version::Http1, Version::Http2] {
        for (clients, requests) in LOADS {
            let rates = rounds([plain, keeping, ours], |way| way.load(version, clients, requests))?;
            let ratio = median_ratio(&rates[2], &rates[0]);
            let [plain, keeping, ours] = rates.each_ref().map(|rates| figures(rates.clone()).median);
            let kept = median_ratio(&rates[2], &rates[1]);
            println!(
                "{:<10}{clients:>4} clients{plain:>23.0}{keeping:>16.0}{ours:>11.0}{ratio:>11.2}{kept:>17.2}",
                version.name()
            );
            if ratio < PROMISE {
                broken.push(format!("{} with {clients} clients: {ratio:.2} of nginx", version.name()));
            }
        }
    }
    let rates = rounds([plain, keeping, ours], |way| way.download())?;
    let ratio = median_ratio(&rates[2], &rates[0]);
    let [of_nginx, _, of_hearth] = rates.each_ref().map(|rates| figures(rates.clone()).median / 1e6);
    println!("1 GB, MB in a second{of_nginx:>21.0}{:>27.0}{ratio:>11.2}", of_hearth);
    if ratio < PROMISE {
        broken.push(format!("1 GB: {ratio:.2} of nginx"));
    }
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (times, way) in times.iter_mut().zip([direct, plain, ours]) {
            times.extend(way.times(&dir)?);
        }
    }
    let [direct, plain, ours] = times.map(figures);
    let adds = (ours.median - direct.median, ours.p99 - direct.p99);
    println!("one request, ms        median      p99");
    for (name, times) in [("direct", &direct), ("nginx", &plain), ("hearth", &ours)] {
        println!("  {name:<18}{:>9.3}{:>9.3}", times.median, times.p99);
    }
    println!("  hearth adds       {:>9.3}{:>9.3}", adds.0, adds.1);
    if adds.0 > ADDS_MS.0 || adds.1 > ADDS_MS.1 {
        broken.push(format!("hearth adds {:.3} ms, {:.3} ms at p99", adds.0, adds.1));
    }
    drop((endpoint, nginx));
    if broken.is_empty() { Ok(()) } else { bail!("promised otherwise: {}", broken.join("; ")) }
}

/// Figures of each way, by round.
fn rounds<const N: usize>(ways: [Way<'_>; N], measure: impl Fn(&Way<'_>) -> Result<f64>) -> Result<[Vec<f64>; N]> {
    let mut all = std::array::from_fn(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (figures, way) in all.iter_mut().zip(&ways) {
            figures.push(measure(way).with_context(|| format!("measure {}", way.name))?);
        }
    }
    Ok(all)
}

/// Of the ratios within the rounds.
fn median_ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    figures(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()).median
}

#[derive(Debug, Clone, Copy)]
enum Version {
    Http1,
    Http2,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Version::Http1 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }
}

/// One of the ways to the server.
#[derive(Clone, Copy)]
struct Way<'a> {
    name: &'static str,
    scheme: &'static str,
    port: u16,
    endpoint: &'a Endpoint,
}

impl Way<'_> {
    fn url(&self, path: &str) -> String {
        format!("{}://{}:{}{path}", self.scheme, self.endpoint.host, self.port)
    }

    /// Headers that hearth wants; the others get them too, so that all carry the same bytes.
    fn headers(&self) -> [String; 2] {
        let Endpoint { token, server, .. } = self.endpoint;
        [format!("x-aws-proxy-auth: {token}"), format!("x-aws-proxy-port: {server}")]
    }

    fn h2load(&self, version: Version, arguments: &[&str]) -> Command {
        let mut command = Command::new("h2load");
        if matches!(version, Version::Http1) {
            command.arg("--h1");
        }
        command.args(arguments).arg(format!("--connect-to=127.0.0.1:{}", self.port));
        for header in self.headers() {
            command.args(["-H", &header]);
        }
        command
    }

    /// Requests in a second. HTTP/2 clients share connections by 32.
    fn load(&self, version: Version, clients: u32, requests: u32) -> Result<f64> {
        let (connections, streams) = match version {
            Version::Http1 => (clients, 1),
            Version::Http2 => (clients.div_ceil(32), clients.min(32)),
        };
        let numbers = [connections, streams, requests].map(|number| number.to_string());
        let mut command = self.h2load(version, &["-c", &numbers[0], "-m", &numbers[1], "-n", &numbers[2]]);
        let said = process::capture(command.arg(self.url("/")), b"", SOON)?.success("h2load")?;
        if !said.contains(&format!("{requests} 2xx")) {
            bail!("not all requests succeeded: {said}");
        }
        let rate =
            said.lines().find_map(|line| line.strip_prefix("finished in ")?.split(", ").nth(1)?.strip_suffix(" req/s"));
        rate.and_then(|rate| rate.parse().ok()).with_context(|| format!("h2load said no rate: {said}"))
    }

    /// Milliseconds of requests one after the other on one connection, HTTP/1.1.
    fn times(&self, dir: &Path) -> Result<Vec<f64>> {
        let log = dir.join("times");
        let _ = fs::remove_file(&log);
        let number = TIMED.to_string();
        let mut command = self.h2load(Version::Http1, &["-c", "1", "-m", "1", "-n", &number]);
        command.arg(format!("--log-file={}", log.display()));
        process::capture(command.arg(self.url("/")), b"", SOON)?.success("h2load")?;
        // Start in microseconds since the epoch, status, microseconds.
        let text = fs::read_to_string(&log).context("read the times")?;
        let times: Vec<f64> = text
            .lines()
            .filter_map(|line| line.split('\t').nth(2)?.parse::<f64>().ok())
            .map(|us| us / 1000.0)
            .collect();
        if times.len() == TIMED as usize { Ok(times) } else { bail!("{} times of {TIMED}", times.len()) }
    }

    /// Bytes in a second of the large file, HTTP/1.1.
    fn download(&self) -> Result<f64> {
        let mut curl = Command::new("curl");
        curl.args(["-sSfk", "--http1.1", "-o", "/dev/null", "-w", "%{size_download} %{speed_download}", "--resolve"]);
        curl.arg(format!("{}:{}:127.0.0.1", self.endpoint.host, self.port));
        for header in self.headers() {
            curl.args(["-H", &header]);
        }
        let said = process::capture(curl.arg(self.url("/large")), b"", SOON)?.success("curl")?;
        match said.split_once(' ') {
            Some((size, speed)) if size == LARGE.to_string() => speed.parse().context("read the speed"),
            _ => bail!("curl got {said}"),
        }
    }
}

/// The endpoint of a microVM whose port `server` is the host's.
struct Endpoint {
    host: String,
    port: u16,
    server: u16,
    token: String,
    _served: Served,
}

impl Endpoint {
    fn open(hearth: &Path, dir: &Path, server: u16) -> Result<Endpoint> {
        let data_dir = dir.join("data");
        let _ = fs::remove_dir_all(&data_dir);
        let served = Served::open(hearth, data_dir)?;
        let mut build = Command::new(hearth);
        build.args(["build", "--name", "proxy", "--env", &format!("HEARTH_FAKE_HOST_PORTS={server}"), "--data-dir"]);
        process::run(build.arg(&served.dir).arg(workspace::root().join("examples/hello")))?;
        let mut run = Command::new(hearth);
        run.args(["run", "proxy", "--json", "--data-dir"]).arg(&served.dir);
        let vm = process::capture(&mut run, b"", SOON)?.success("hearth run")?;
        let vm: serde_json::Value = serde_json::from_str(&vm).context("read what hearth run said")?;
        let word = |name: &str| vm[name].as_str().with_context(|| format!("hearth run gave no {name}"));
        let (host, port) = word("endpoint")?.split_once(':').context("the endpoint names no port")?;
        let wanted = json!({"allowedPorts": [{"port": server}], "expirationInMinutes": 60}).to_string();
        let path = format!("{MICROVMS}/{}/auth-token", word("microvmId")?);
        let minted = served.target.connect()?.call("POST", &path, "", &wanted)?;
        let token = minted["authToken"]["X-aws-proxy-auth"].as_str().context("there is no token")?.to_owned();
        let port = port.parse().context("read the endpoint's port")?;
        Ok(Endpoint { host: host.to_owned(), port, server, token, _served: served })
    }
}

/// The server, and nginx as proxy in front of it, in one.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        process::stop(&mut self.0, Duration::from_secs(5));
    }
}

impl Nginx {
    fn start(dir: &Path, server: u16, plain: u16, keeping: u16) -> Result<Nginx> {
        let path = |name: &str| dir.join(name).display().to_string();
        fs::File::create(path("large"))?.set_len(LARGE).context("make the large file")?;
        let mut certificate = Command::new("openssl");
        certificate.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        certificate.args([
            "-days",
            "30",
            "-subj",
            "/CN=localhost",
            "-keyout",
            &path("key.pem"),
            "-out",
            &path("cert.pem"),
        ]);
        process::capture(&mut certificate, b"", SOON)?.success("openssl")?;
        let (cert, key, error, pid) = (path("cert.pem"), path("key.pem"), path("nginx.log"), path("nginx.pid"));
        let tls = format!("ssl http2 backlog=4096; ssl_certificate {cert}; ssl_certificate_key {key}");
        let settings = format!(
            "daemon off; worker_processes 2; pid {pid}; error_log {error};\n\
             events {{ worker_connections 8192; }}\n\
             http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 100000000; proxy_http_version 1.1;\n\
             proxy_set_header Host $host;\n\
             upstream kept {{ server 127.0.0.1:{server}; keepalive 256; keepalive_requests 100000000; }}\n\
             server {{ listen 127.0.0.1:{server} backlog=4096; root {root}; location = / {{ return 200 'hello'; }} }}\n\
             server {{ listen 127.0.0.1:{plain} {tls}; location / {{ proxy_pass http://127.0.0.1:{server}; }} }}\n\
             server {{ listen 127.0.0.1:{keeping} {tls};\n\
             location / {{ proxy_pass http://kept; proxy_set_header Connection ''; proxy_set_header Host $host; }} }} }}\n",
            root = dir.display(),
        );
        fs::write(path("nginx.conf"), settings).context("write nginx.conf")?;
        let mut command = Command::new("nginx");
        command.args(["-c", &path("nginx.conf"), "-e", &error]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut nginx = Nginx(command.stderr(Stdio::null()).spawn().context("start nginx")?);
        let started = process::until("nginx to listen", Duration::from_millis(20), Duration::from_secs(10), || {
            if nginx.0.try_wait()?.is_some() {
                bail!("nginx has ended; {error} says why");
            }
            Ok(TcpStream::connect(("127.0.0.1", keeping)).ok().map(drop))
        });
        started.map(|()| nginx)
    }
}

/// Ports that nobody listens on.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let held: Vec<TcpListener> = (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let ports: Vec<u16> = held.iter().map(|one| Ok(one.local_addr()?.port())).collect::<Result<_>>()?;
    ports.try_into().ok().context("too few ports")
}
