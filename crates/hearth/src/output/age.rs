//! Spans of time for people.

/// How long ago `then` was, both in milliseconds since the epoch, in its largest unit: `5s`, `12m`, `3h`, `2d`. The future
/// is `0s`: clocks differ.
pub fn age(then: i64, now: i64) -> String {
    let seconds = (now.saturating_sub(then) / 1000).max(0);
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3599 => format!("{}m", seconds / 60),
        3600..=86399 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_unit() {
        let ago = |seconds: i64| age(0, seconds * 1000);
        assert_eq!(
            [ago(0), ago(59), ago(60), ago(3599), ago(3600), ago(86400)],
            ["0s", "59s", "1m", "59m", "1h", "1d"]
        );
        assert_eq!(age(10, 0), "0s");
        assert_eq!(age(i64::MIN, i64::MAX), format!("{}d", i64::MAX / 1000 / 86400));
    }
}
