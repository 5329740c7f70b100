//! Moments as text: RFC 3339 (ISO 8601), the format of Apache's and nginx's logs, and counts since 1970. Days are counted by the Gregorian
//! calendar (Hinnant, "chrono-compatible low-level date algorithms"); leap seconds are the second after.

use tidegate_engine::Timestamp;

/// `2015-05-17T10:05:03Z`.
pub(crate) fn show(moment: Timestamp) -> String {
    let seconds = moment.micros() / 1_000_000;
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads `2015-05-17T10:05:03.123Z`, with any offset and up to nine decimals, a space for the `T`.
pub(crate) fn from_rfc3339(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.split('-');
    let (year, month, day) = (digits(date.next()?, 4)?, digits(date.next()?, 2)?, digits(date.next()?, 2)?);
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at(zone);
    let offset = if zone.eq_ignore_ascii_case("z") { 0 } else { offset(&zone.replacen(':', "", 1))? };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.split(':');
    let clock = (digits(clock.next()?, 2)?, digits(clock.next()?, 2)?, digits(clock.next()?, 2)?);
    if date.next().is_some() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    moment((year, month, day), clock, offset, micros)
}

/// Reads `17/May/2015:10:05:03 +0000`.
pub(crate) fn from_common_log(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (time, zone) = text.split_once(' ')?;
    let mut parts = time.split(['/', ':']);
    let day = digits(parts.next()?, 2)?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|month| *month == name)?;
    let year = digits(parts.next()?, 4)?;
    let clock = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() {
        return None;
    }
    moment((year, u64::try_from(month).ok()? + 1, day), clock, offset(zone)?, 0)
}

/// Reads a count since 1970, perhaps with a fraction. Its size says of what: seconds have up to eleven digits (until the
/// year 5138), milliseconds twelve to fourteen (from 1973 on), microseconds up to seventeen, nanoseconds more.
pub(crate) fn from_count(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    // Where the point stands once it counts microseconds: 1431857103.25 s are 1431857103250000.
    let point = match whole.len() {
        0..=11 => whole.len() + 6,
        12..=14 => whole.len() + 3,
        15..=17 => whole.len(),
        _ => whole.len() - 3,
    };
    let digits = whole.chars().chain(fraction.chars()).chain(std::iter::repeat('0'));
    exact(digits.take(point).collect::<String>().parse().ok()?)
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize) -> Option<u64> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The seconds of `+0530`.
fn offset(text: &str) -> Option<i64> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_at_checked(2)?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 24 && minutes < 60).then(|| sign * i64::try_from(hours * 3600 + minutes * 60).unwrap_or(0))
}

fn moment(date: (u64, u64, u64), clock: (u64, u64, u64), offset: i64, micros: u64) -> Option<Timestamp> {
    let ((year, month, day), (hour, minute, second)) = (date, clock);
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = match month {
        2 => 28 + u64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || !(1..=last).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = seconds.checked_add_signed(-offset)?;
    exact(seconds * 1_000_000 + micros)
}

/// The moment; later ones than the engine counts are none, and not the last one that it does.
fn exact(micros: u64) -> Option<Timestamp> {
    (micros <= Timestamp::MAX.micros()).then(|| Timestamp::from_micros(micros))
}

/// Days since 1970-01-01. Years begin in March, so that a leap day is a year's last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

/// The date so many days after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_shown() {
        for (text, micros, shown) in [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            ("2015-05-17T10:05:03.25+02:00", 1_431_849_903_250_000, "2015-05-17T08:05:03Z"),
            ("2024-02-29 23:59:60Z", 1_709_251_200_000_000, "2024-03-01T00:00:00Z"),
            ("2000-12-31T23:59:59.999999999-00:30", (978_309_000_000_000 - 1), "2001-01-01T00:29:59Z"),
        ] {
            let moment = from_rfc3339(text).unwrap();
            assert_eq!((moment.micros(), show(moment).as_str()), (micros, shown), "{text}");
        }
        let moment = from_common_log("17/May/2015:10:05:03 +0000").unwrap();
        assert_eq!(show(moment), "2015-05-17T10:05:03Z");
        assert_eq!(show(from_common_log("01/Jan/2024:00:30:00 +0530").unwrap()), "2023-12-31T19:00:00Z");
    }

    #[test]
    fn counts_since_1970_are_of_what_their_size_says() {
        let micros = 1_431_857_103_250_000;
        for text in [
            "1431857103.25",
            "1431857103250",
            "1431857103250.0",
            "1431857103250000",
            "1431857103250000000",
            "01431857103.2500009",
        ] {
            assert_eq!(from_count(text).map(Timestamp::micros), Some(micros), "{text}");
        }
        for (text, micros) in [
            ("0", Some(0)),
            ("0.0000019", Some(1)),
            ("9007199254.740991", Some((1 << 53) - 1)),
            ("99999999999", None),
            ("100000000000", Some(100_000_000_000_000)),
            ("99999999999999", None),
            ("100000000000000", Some(100_000_000_000_000)),
            ("9007199254740992", None),
            ("100000000000000000", Some(100_000_000_000_000)),
            ("9007199254740991999", Some((1 << 53) - 1)),
        ] {
            assert_eq!(from_count(text).map(Timestamp::micros), micros, "{text}");
        }
        for text in ["", ".5", "-1", "+1", "1e9", "1.2.3", "0x10", " 1", "99999999999999999999999999"] {
            assert_eq!(from_count(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_a_century_is_shown_as_it_is_read() {
        for day in 0..36_525 * 2 {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
        }
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in [
            "",
            "2015",
            "2015-13-01T00:00:00Z",
            "2015-02-29T00:00:00Z",
            "2015-05-17T10:05:03",
            "2015-05-17T1:05:03Z",
            "1969-12-31T23:59:59Z",
            "2015-05-17T10:05:03.1234567890Z",
            "2015-05-17T10:05:03+2:00",
            "2300-01-01T00:00:00Z",
        ] {
            assert_eq!(from_rfc3339(text), None, "{text}");
        }
        for text in ["", "17/may/2015:10:05:03 +0000", "17/May/2015:10:05:03", "31/Apr/2015:10:05:03 +0000"] {
            assert_eq!(from_common_log(text), None, "{text}");
        }
    }
}
