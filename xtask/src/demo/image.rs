//! Step 2: the image, its build watched live.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{Scene, store};
use crate::process;

/// Name of the story's image.
pub const NAME: &str = "hello";
/// Longest time for a build on a slow machine that has nothing cached yet.
const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);

/// Plays it.
pub fn play(scene: &mut Scene) -> Result<()> {
    let managed = scene.microvms(&["list-managed-microvm-images"])?;
    let base = managed["items"][0]["imageArn"].as_str().context("there is no managed image")?.to_owned();
    scene.report.expect("list-managed-microvm-images names a base", base.contains(":aws:microvm-image:"), &base);
    let created = create(scene, &base)?;
    scene.image = created["imageArn"].as_str().context("create-microvm-image gave no ARN")?.to_owned();
    scene.report.expect("create-microvm-image answers CREATING at once", created["state"] == "CREATING", &scene.image);
    let lines = watch_build(scene)?;
    let image = scene.image.clone();
    let arguments = ["get-microvm-image", "--image-identifier", &image];
    let got = scene.microvms(&arguments)?;
    let created = got["state"] == "CREATED" && got["latestActiveImageVersion"] == "1.0";
    if !created {
        let reason = reason(scene).unwrap_or_default();
        bail!("the image is {} instead of CREATED: {reason}; {}", got["state"], scene.server_says());
    }
    let seconds = build_seconds(&got);
    scene.report.expect("the image becomes CREATED", true, format!("after {seconds:.1} s"));
    scene.report.timing("image_build", (seconds * 1000.0).round());
    let said = |word: &str| lines.iter().any(|line| line.contains(word));
    let (ran, cached) = (said("Successfully installed humanize"), said("Using cache"));
    let detail = if ran {
        "pip ran"
    } else if cached {
        "its layer came from the cache"
    } else {
        "not in the log"
    };
    scene.report.expect("the build log tells of the RUN step", said("pip install") && (ran || cached), detail);
    scene.report.expect("it says that the base image is a stand-in", said("stand-in"), "");
    Ok(())
}

fn create(scene: &Scene, base: &str) -> Result<serde_json::Value> {
    let artifact = json!({"uri": format!("s3://{}/{}", store::BUCKET, store::KEY)}).to_string();
    let hooks = json!({
        "port": 9000,
        "microvmHooks": {"run": "ENABLED", "resume": "ENABLED", "suspend": "ENABLED"},
        "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": 300},
    });
    scene.microvms(&[
        "create-microvm-image",
        "--name",
        NAME,
        "--code-artifact",
        &artifact,
        "--base-image-arn",
        base,
        "--build-role-arn",
        "arn:aws:iam::000000000000:role/build",
        "--resources",
        r#"[{"minimumMemoryInMiB":512}]"#,
        "--hooks",
        &hooks.to_string(),
    ])
}

/// Shows `hearth logs -f` until the build has ended; the lines it printed. Expects that they came while it was going on.
fn watch_build(scene: &mut Scene) -> Result<Vec<String>> {
    let mut command = scene.hearth_command("logs");
    command.args(["-f", NAME]).stdin(Stdio::null()).stdout(Stdio::piped());
    println!("  $ {}", process::shown(&command));
    let mut follower = command.spawn().context("start hearth logs")?;
    let output = follower.stdout.take().context("hearth logs has no output")?;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let count = Arc::new(AtomicUsize::new(0));
    let printer = {
        let (lines, count) = (lines.clone(), count.clone());
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                println!("    build | {line}");
                count.fetch_add(1, Ordering::SeqCst);
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        })
    };
    let start = Instant::now();
    let mut early = 0;
    let ended = process::until("the build", Duration::from_millis(500), BUILD_LIMIT, || {
        let seen = count.load(Ordering::SeqCst);
        let image = scene.microvms_quietly(&["get-microvm-image", "--image-identifier", &scene.image])?;
        if image["state"] == "CREATING" {
            early = seen;
            return Ok(None);
        }
        Ok(Some(()))
    });
    let finished = process::until("hearth logs -f to end", Duration::from_millis(50), Duration::from_secs(30), || {
        follower.try_wait().context("wait for hearth logs")
    });
    if finished.is_err() {
        process::stop(&mut follower, Duration::from_secs(2));
    }
    drop(printer.join());
    ended?;
    let status = finished?;
    let detail = format!("{early} lines before the build had ended, {} s in all", start.elapsed().as_secs());
    scene.report.expect("hearth logs -f shows the build live", status.success() && early > 0, detail);
    let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(lines.clone())
}

/// From the acceptance of the request to the image being CREATED, by the server's own clock: the AWS CLI's start-up, a
/// second each time, is not part of it.
fn build_seconds(image: &serde_json::Value) -> f64 {
    let at = |name: &str| timestamp(&image[name]);
    match at("createdAt").zip(at("updatedAt")) {
        Some((created, updated)) => updated - created,
        None => f64::NAN,
    }
}

/// Seconds since the epoch, of the AWS CLI's ISO 8601 with an offset, or of a plain number.
fn timestamp(value: &serde_json::Value) -> Option<f64> {
    if let Some(number) = value.as_f64() {
        return Some(number);
    }
    let text = value.as_str()?;
    let (date, time) = text.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone = time.find(['+', 'Z']).or_else(|| time.rfind('-'))?;
    let mut clock = time[..zone].split(':').map(|part| part.parse::<f64>().ok());
    let seconds = clock.next()?? * 3600.0 + clock.next()?? * 60.0 + clock.next()??;
    let offset = offset_seconds(&time[zone..])?;
    // Days from the epoch of a date of the Gregorian calendar, years beginning in March.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days =
        year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (month * 153 + 2) / 5 + day
            - 719_469;
    Some(days as f64 * 86_400.0 + seconds - offset)
}

fn offset_seconds(zone: &str) -> Option<f64> {
    if zone == "Z" {
        return Some(0.0);
    }
    let sign = if zone.starts_with('-') { -1.0 } else { 1.0 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (hours.parse::<f64>().ok()? * 3600.0 + minutes.parse::<f64>().ok()? * 60.0))
}

/// Why the build failed: it is on the build record only (spec 4.4).
fn reason(scene: &Scene) -> Option<String> {
    let arguments = ["list-microvm-image-builds", "--image-identifier", &scene.image, "--image-version", "1.0"];
    let builds = scene.microvms(&arguments).ok()?;
    Some(builds["items"][0]["stateReason"].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_time() {
        let of = |text: &str| timestamp(&json!(text));
        assert_eq!(timestamp(&json!(1_790_000_000.5)), Some(1_790_000_000.5));
        assert_eq!(of("1970-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(of("2026-09-21T14:13:20.500000+00:00"), Some(1_790_000_000.5));
        assert_eq!(of("2026-09-21T16:13:20+02:00"), Some(1_790_000_000.0));
        assert_eq!(of("2024-02-29T12:00:00-05:00"), Some(1_709_226_000.0));
        assert_eq!(of("nonsense"), None);
    }
}
