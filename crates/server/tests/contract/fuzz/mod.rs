//! Random requests for every operation, well-formed and ill-formed, from several callers at once, on a whole server: no 5xx, no
//! panic, and no answer outside what its operation declares.
//!
//! `HEARTH_FUZZ_REQUESTS` says how many, `HEARTH_FUZZ_SEED` repeats a run as far as its callers do not race. A failure shows
//! the request whole.

mod generate;
mod pool;
mod watch;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use api::{Operation, sigv4::percent};

use self::{generate::Generator, pool::Pool, watch::Watch};
use crate::{
    answers::fault,
    client::{Answer, Client},
    request::Request,
    world::serving,
};

/// Requests when nobody says.
const REQUESTS: u64 = 4000;
/// Requests from which on every operation must have been done and refused.
const ENOUGH: u64 = 4000;
/// Callers at a time.
const CALLERS: u64 = 8;
/// Failures after which a run is not worth going on.
const FAILURES: usize = 20;

/// What all callers of a run share.
struct Run {
    left: AtomicU64,
    pool: Pool,
    failures: Mutex<Vec<String>>,
    /// Answers by operation and status.
    seen: Mutex<BTreeMap<(String, u16), u64>>,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_breaks_the_contract() {
    let seed = number("HEARTH_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let requests = number("HEARTH_FUZZ_REQUESTS").unwrap_or(REQUESTS);
    eprintln!("fuzz: HEARTH_FUZZ_SEED={seed} HEARTH_FUZZ_REQUESTS={requests}");
    let watch = Watch::start();
    let serving = serving().await;
    let run = Arc::new(Run {
        left: AtomicU64::new(requests),
        pool: Pool::default(),
        failures: Mutex::default(),
        seen: Mutex::default(),
    });
    let start = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let rng = fastrand::Rng::with_seed(seed.wrapping_mul(CALLERS).wrapping_add(caller));
            tokio::spawn(call(run.clone(), serving.client(), rng))
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    serving.stop().await;
    let panics = watch.panics();
    let failures = std::mem::take(&mut *run.failures.lock().unwrap());
    report(&run, requests, seconds, &watch);
    assert!(panics.is_empty(), "seed {seed}: the server panicked:\n{}", panics.join("\n"));
    assert!(failures.is_empty(), "seed {seed}: {} failures:\n{}", failures.len(), failures.join("\n"));
    if requests >= ENOUGH {
        covered(&run);
    }
}

/// One caller, until enough is sent.
async fn call(run: Arc<Run>, mut client: Client, rng: fastrand::Rng) {
    let mut generator = Generator::new(rng);
    while run.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let request = generator.request(&run.pool);
        let answer = client.send(&request).await;
        let operation = Operation::find(&request.method, &request.path).ok().map(|(operation, _)| operation);
        let name = operation.map_or("none".to_owned(), |operation| operation.to_string());
        *run.seen.lock().unwrap().entry((name, answer.status)).or_default() += 1;
        if let Some(words) = wrong(operation, &request, &answer) {
            let mut failures = run.failures.lock().unwrap();
            failures.push(format!("{words}\n  {request}\n  {} {}", answer.status, answer.text()));
            if failures.len() >= FAILURES {
                run.left.store(0, Ordering::Relaxed);
            }
        }
        // What falls out of the pool nobody would end.
        for id in answer.json().iter().flat_map(|body| run.pool.learn(body)).collect::<Vec<_>>() {
            let path = format!("/2025-09-09/microvms/{id}");
            let end =
                Request { service: "lambda", method: "DELETE".to_owned(), path, query: String::new(), body: vec![] };
            client.send(&end).await;
        }
    }
}

fn wrong(operation: Option<Operation>, request: &Request, answer: &Answer) -> Option<String> {
    if answer.status >= 500 {
        return Some("a server's fault".to_owned());
    }
    // Nobody can sign a query that cannot be decoded.
    let signed = percent::query_pairs(&request.query).is_some();
    if !signed && answer.status == 403 && answer.header("x-amzn-errortype") == Some("InvalidSignatureException") {
        return None;
    }
    fault(operation, answer)
}

fn report(run: &Run, requests: u64, seconds: f64, watch: &Watch) {
    let mut lines: BTreeMap<String, String> = BTreeMap::new();
    for ((name, status), count) in run.seen.lock().unwrap().iter() {
        let line = lines.entry(name.clone()).or_default();
        line.push_str(&format!(" {status}: {count}"));
    }
    for (name, line) in lines {
        eprintln!("fuzz: {name}{line}");
    }
    for (line, count) in watch.errors() {
        eprintln!("fuzz: logged {count} times: {line}");
    }
    eprintln!("fuzz: {requests} requests in {seconds:.1} s");
}

/// A run that never gets past the border shows nothing.
fn covered(run: &Run) {
    let seen = run.seen.lock().unwrap();
    for operation in Operation::ALL {
        let of = |(name, _): &&(String, u16)| name == operation.as_str();
        let statuses: Vec<_> = seen.keys().filter(of).map(|(_, status)| *status).collect();
        assert!(statuses.iter().any(|status| *status < 300), "{operation} was never done: {statuses:?}");
        assert!(statuses.iter().any(|status| *status >= 400), "{operation} was never refused: {statuses:?}");
    }
}
