//! How long reads take with many records in the store: over loopback, signatures verified, hearth optimised, one client on
//! one connection. The records are made through the API, by microVMs of the fake engine that are run and terminated.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use api::sigv4::percent;
use serde_json::{Value, json};

use super::{Figures, client::Client, figures, served::Served};
use crate::{build, process, workspace};

/// Records of the large store: what is promised is promised for so many.
const MANY: usize = 10_000;
/// Records of the small store, which the large one is compared with.
const FEW: usize = 100;
/// Items of a page: the most that there may be.
const PAGE: usize = 50;
/// How often each read is measured.
const ROUNDS: usize = 1000;
/// Clients that make records, at once.
const MAKERS: usize = 8;
/// Median of every read must be below, milliseconds.
const PROMISE_MS: f64 = 2.0;
/// The last page may cost so many times what the first does: equal, but for noise.
const SAME: f64 = 1.25;
const MICROVMS: &str = "/2025-09-09/microvms";

/// Measures both stores; fails when a promise is not kept.
pub fn run(hearth: Option<PathBuf>) -> Result<()> {
    let hearth = match hearth {
        Some(hearth) => hearth,
        None => build::hearth(&build::agent()?, true)?,
    };
    let few = Store::open(&hearth, FEW)?.measure(FEW)?;
    let many = Store::open(&hearth, MANY)?.measure(MANY)?;
    println!("\nreads, ms{:>34}{:>22}", format!("{FEW} records"), format!("{MANY} records"));
    println!("{:<26}{:>9}{:>9}{:>12}{:>9}{:>9}", "", "median", "p99", "median", "p99", "ratio");
    for ((name, few), (_, many)) in few.iter().zip(&many) {
        let ratio = many.median / few.median;
        println!("{name:<26}{:>9.3}{:>9.3}{:>12.3}{:>9.3}{ratio:>9.2}", few.median, few.p99, many.median, many.p99);
    }
    let last = many["ListMicrovms, last page"].median / many["ListMicrovms, first page"].median;
    println!("last page / first page, {MANY} records: {last:.2}");
    if let Some((name, slow)) = many.iter().find(|(_, figures)| figures.median >= PROMISE_MS) {
        bail!("{name}: {:.3} ms, promised less than {PROMISE_MS} ms", slow.median);
    }
    if last > SAME {
        bail!("the last page costs {last:.2} times what the first costs, promised {SAME} at most");
    }
    Ok(())
}

/// A server whose store is kept under `target` for the next run.
struct Store(Served);

impl Store {
    /// With at least so many records.
    fn open(hearth: &Path, records: usize) -> Result<Store> {
        let store = Store(Served::open(hearth, workspace::target().join("bench").join(format!("records-{records}")))?);
        let there = store.ids()?.len();
        if there < records {
            store.make(records - there)?;
        }
        Ok(store)
    }

    /// Every record's id, newest first.
    fn ids(&self) -> Result<Vec<String>> {
        let mut client = self.0.target.connect()?;
        let (mut ids, mut cursor) = (Vec::new(), None);
        loop {
            let (items, next) = page(&mut client, cursor.as_deref())?;
            ids.extend(items);
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(ids),
            }
        }
    }

    /// Runs and terminates so many microVMs, several at once, and waits until all are over.
    fn make(&self, count: usize) -> Result<()> {
        let image = self.image()?;
        let (start, made) = (Instant::now(), AtomicUsize::new(0));
        let maker = || -> Result<()> {
            let mut client = self.0.target.connect()?;
            while made.fetch_add(1, Ordering::SeqCst) < count {
                let body = json!({"imageIdentifier": image}).to_string();
                let vm = client.call("POST", MICROVMS, "", &body)?;
                let id = vm["microvmId"].as_str().context("RunMicrovm gave no microvmId")?;
                client.call("DELETE", &format!("{MICROVMS}/{id}"), "", "")?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let makers: Vec<_> = (0..MAKERS).map(|_| scope.spawn(maker)).collect();
            makers.into_iter().try_for_each(|each| each.join().unwrap_or_else(|_| bail!("a maker panicked")))
        })?;
        let seconds = start.elapsed().as_secs_f64();
        println!("  {count} microVMs run and terminated in {seconds:.0} s: {:.0} a second", count as f64 / seconds);
        let mut client = self.0.target.connect()?;
        process::until("all microVMs to end", Duration::from_millis(200), Duration::from_secs(120), || {
            let newest = client.call("GET", MICROVMS, &format!("maxResults={PAGE}"), "")?;
            let over = |items: &Vec<Value>| items.iter().all(|item| item["state"] == "TERMINATED");
            Ok(newest["items"].as_array().is_some_and(over).then_some(()))
        })
    }

    /// ARN of the image that all are run from.
    fn image(&self) -> Result<String> {
        let mut client = self.0.target.connect()?;
        let mut newest = || -> Result<Option<String>> {
            let images = client.call("GET", "/2025-09-09/microvm-images", "", "")?;
            Ok(images["items"][0]["imageArn"].as_str().map(str::to_owned))
        };
        if let Some(arn) = newest()? {
            return Ok(arn);
        }
        let mut build = Command::new(&self.0.hearth);
        build.args(["build", "--name", "records", "--data-dir"]).arg(&self.0.dir);
        process::run(build.arg(workspace::root().join("examples/hello")))?;
        newest()?.context("the image that was built is not listed")
    }

    fn measure(&self, records: usize) -> Result<BTreeMap<&'static str, Figures>> {
        let ids = self.ids()?;
        let mut client = self.0.target.connect()?;
        // Behind each page but the last; the last full one is measured.
        let mut cursors = vec![None];
        while let (_, Some(next)) =
            page(&mut client, cursors.last().and_then(|cursor: &Option<String>| cursor.as_deref()))?
        {
            cursors.push(Some(next));
        }
        let last = cursors.get(ids.len() / PAGE - 1).context("the list is shorter than it was")?;
        let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        // One after the other, so that what disturbs the host disturbs all alike.
        for round in 0..ROUNDS {
            let id = &ids[round * 7919 % ids.len()];
            let mut timed = |name, read: &mut dyn FnMut(&mut Client) -> Result<usize>, wanted| -> Result<()> {
                let start = Instant::now();
                let found = read(&mut client)?;
                times.entry(name).or_default().push(start.elapsed().as_secs_f64() * 1000.0);
                if found == wanted { Ok(()) } else { bail!("{name}: {found} records, wanted {wanted}") }
            };
            timed("GetMicrovm", &mut |client| get(client, id), 1)?;
            timed("ListMicrovms, first page", &mut |client| Ok(page(client, None)?.0.len()), PAGE)?;
            timed("ListMicrovms, last page", &mut |client| Ok(page(client, last.as_deref())?.0.len()), PAGE)?;
        }
        println!("  {} records, {records} wanted; {ROUNDS} rounds", ids.len());
        Ok(times.into_iter().map(|(name, times)| (name, figures(times))).collect())
    }
}

/// 1 when the answer is about that microVM.
fn get(client: &mut Client, id: &str) -> Result<usize> {
    let vm = client.call("GET", &format!("{MICROVMS}/{id}"), "", "")?;
    Ok(usize::from(vm["microvmId"] == id))
}

/// Ids of a page, and the cursor to the next.
fn page(client: &mut Client, cursor: Option<&str>) -> Result<(Vec<String>, Option<String>)> {
    let more = cursor.map(|cursor| format!("&nextToken={}", percent::encode(cursor))).unwrap_or_default();
    let page = client.call("GET", MICROVMS, &format!("maxResults={PAGE}{more}"), "")?;
    let items = page["items"].as_array().context("ListMicrovms gave no items")?;
    let ids = items.iter().filter_map(|item| item["microvmId"].as_str().map(str::to_owned)).collect();
    Ok((ids, page["nextToken"].as_str().map(str::to_owned)))
}
