//! Times: microseconds and versions for programs, dates for people.

use in_mem::blocking::Version;
use in_mem::blocking::serde_json::Value as Json;

use crate::output::Output;

/// Microseconds since the Unix epoch.
pub(crate) fn time(output: &Output, micros: i64) -> Json {
    if output.is_json() { micros.into() } else { date(micros).into() }
}

/// The moment of a version.
pub(crate) fn moment(output: &Output, version: Version) -> Json {
    time(output, i64::try_from(version.get() / 1_000).unwrap_or(i64::MAX))
}

/// A date of the proleptic Gregorian calendar, in UTC.
pub(crate) fn date(micros: i64) -> String {
    const DAY: i64 = 86_400;
    let (seconds, millis) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000) / 1_000);
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let second = seconds.rem_euclid(DAY);
    let (hours, minutes, seconds) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{millis:03}")
}

/// A date without the time of the day.
pub(crate) fn day(micros: i64) -> String {
    let date = date(micros);
    date.split_once(' ').map_or_else(|| date.clone(), |(day, _)| day.to_owned())
}

/// Year, month and day from the days since the Unix epoch. Howard Hinnant, "chrono-compatible low-level date algorithms".
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::{date, day};

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00:00.000");
        assert_eq!(date(-1), "1969-12-31 23:59:59.999");
        assert_eq!(date(1_709_210_096_789_000), "2024-02-29 12:34:56.789");
        assert_eq!(date(1_798_761_599_000_000), "2026-12-31 23:59:59.000");
        assert_eq!(day(1_709_210_096_789_000), "2024-02-29");
    }
}
