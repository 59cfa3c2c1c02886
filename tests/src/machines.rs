//! The processes of real machines.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// Longest time for killed processes to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// Kills every machine whose directory lies below that data directory: they outlive their server.
pub(crate) fn end(data_dir: &Path) {
    let start = Instant::now();
    loop {
        let left = of(data_dir);
        if left.is_empty() || start.elapsed() >= GONE_WITHIN {
            return;
        }
        for pid in left {
            // One that has just ended is as wished.
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes of machines: their command line names the machine's directory, and nobody else's does.
pub(crate) fn of(data_dir: &Path) -> Vec<u32> {
    let names = |dir: &str| fs::read_dir(data_dir.join(dir)).into_iter().flatten().flatten();
    let marks: Vec<String> =
        names("microvms").map(|entry| format!("\0-name\0{}\0", entry.file_name().to_string_lossy())).collect();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            marks.iter().any(|mark| line.contains(mark))
        })
        .collect()
}
