//! How long and how much, for people.

/// A span of milliseconds in its two largest units: `312ms`, `12.3s`, `4m10s`, `3h02m`, `2d04h`.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..=59 => format!("{seconds}.{}s", ms % 1000 / 100),
        60..=3599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..=86399 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// Bytes in the largest binary unit that they fill: `900 B`, `12.3 MiB`.
pub fn size(bytes: u64) -> String {
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].iter();
    let (mut whole, mut rest) = (bytes, 0);
    let mut unit = units.next().unwrap_or(&"B");
    while whole >= 1024 {
        let Some(next) = units.next() else { break };
        (whole, rest, unit) = (whole / 1024, whole % 1024, next);
    }
    if *unit == "B" { format!("{whole} B") } else { format!("{whole}.{} {unit}", rest * 10 / 1024) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_units_of_time() {
        let shown = [0, 999, 1_000, 59_999, 60_000, 3_599_000, 3_600_000, 86_399_999, 86_400_000].map(span);
        assert_eq!(shown, ["0ms", "999ms", "1.0s", "59.9s", "1m00s", "59m59s", "1h00m", "23h59m", "1d00h"]);
    }

    #[test]
    fn one_unit_of_size() {
        let shown = [0, 1023, 1024, 1_536, 1 << 20, (1 << 30) - 1, u64::MAX].map(size);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1023.9 MiB", "16777215.9 TiB"]);
    }
}
