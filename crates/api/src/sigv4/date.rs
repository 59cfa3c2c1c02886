//! `YYYYMMDDTHHMMSSZ`.

/// A point in time as signatures write it, whole seconds, UTC, years 1970..=9999.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmzDate {
    text: String,
    seconds: i64,
}

const DAY: i64 = 86_400;

impl AmzDate {
    /// From seconds since the Unix epoch; outside of the years that can be written, the nearest one.
    pub fn from_seconds(seconds: i64) -> Self {
        let seconds = seconds.clamp(0, 253_402_300_799);
        let (year, month, day) = civil(seconds / DAY);
        let rest = seconds % DAY;
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        AmzDate { text: format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z"), seconds }
    }

    /// Reads the 16 characters; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let number = |from: usize, to: usize| -> Option<i64> {
            let digits = &bytes[from..to];
            let all = digits.iter().all(u8::is_ascii_digit);
            all.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
        };
        let days = days(number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let seconds = days * DAY + number(9, 11)? * 3600 + number(11, 13)? * 60 + number(13, 15)?;
        // One spelling for each time: this refuses month 13, February 30 and second 61.
        let date = AmzDate::from_seconds(seconds);
        (date.text == text).then_some(date)
    }

    /// All 16 characters.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `YYYYMMDD`.
    pub fn day(&self) -> &str {
        &self.text[..8]
    }

    /// Seconds since the Unix epoch.
    pub const fn seconds(&self) -> i64 {
        self.seconds
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar; years are counted from March so that leap days come last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

/// The date of that day, by search: no table of months is needed.
fn civil(since_epoch: i64) -> (i64, i64, i64) {
    let mut year = 1970 + since_epoch / 366;
    while days(year + 1, 1, 1) <= since_epoch {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days(year, month + 1, 1) <= since_epoch {
        month += 1;
    }
    (year, month, since_epoch - days(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_440_938_160, "20150830T123600Z"),
            (1_790_000_000, "20260921T141320Z"),
            (253_402_300_799, "99991231T235959Z"),
        ] {
            assert_eq!(AmzDate::from_seconds(seconds).as_str(), text);
            assert_eq!(AmzDate::parse(text).unwrap().seconds(), seconds);
        }
        assert_eq!(AmzDate::from_seconds(0).day(), "19700101");
    }

    #[test]
    fn every_day_of_four_centuries_round_trips() {
        for day in 0..146_097 {
            let date = AmzDate::from_seconds(day * DAY + 1);
            assert_eq!(AmzDate::parse(date.as_str()).unwrap(), date);
        }
    }

    #[test]
    fn other_texts_are_no_times() {
        for wrong in [
            "",
            "20150830T123600",
            "20150830 123600Z",
            "20151330T123600Z",
            "20150230T123600Z",
            "20150830T246000Z",
            "2015-8-30T123600Z",
            "00000000T000000Z",
            "２０150830T123600Z",
        ] {
            assert!(AmzDate::parse(wrong).is_none(), "{wrong}");
        }
    }
}
