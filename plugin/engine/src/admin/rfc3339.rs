//! Moments as RFC 3339 writes them, in UTC. Only written here, never read: the wire's numbers are what counts.

use crate::time::Timestamp;

/// A moment to the microsecond: `2027-01-15T08:00:00.123456Z`.
pub fn written(at: Timestamp) -> String {
    let micros = at.micros();
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

/// The proleptic Gregorian date of a day since 1970-01-01: Hinnant, `days_from_civil` turned round. Years begin in March
/// there, so that a leap day ends its year; 719,468 is the number of days from 0000-03-01 to 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let skipped = (of_era / 1_460).saturating_add(of_era / 146_096);
    let year_of_era = of_era.saturating_add(of_era / 36_524).saturating_sub(skipped) / 365;
    let before_year = year_of_era.saturating_mul(365).saturating_add(year_of_era / 4).saturating_sub(year_of_era / 100);
    let of_year = of_era.saturating_sub(before_year);
    let shifted = of_year.saturating_mul(5).saturating_add(2) / 153;
    let day = of_year.saturating_sub(shifted.saturating_mul(153).saturating_add(2) / 5).saturating_add(1);
    let month = if shifted < 10 { shifted.saturating_add(3) } else { shifted.saturating_sub(9) };
    let year = era.saturating_mul(400).saturating_add(year_of_era).saturating_add(u64::from(month <= 2));
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_calendars_have_them() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000000Z"),
            (1_800_000_000, "2027-01-15T08:00:00.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(written(Timestamp::from_micros(seconds * 1_000_000)), expected);
        }
        assert_eq!(written(Timestamp::from_micros(1_800_000_000_123_456)), "2027-01-15T08:00:00.123456Z");
        let _ = written(Timestamp::MAX);
    }
}
