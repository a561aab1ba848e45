//! The present second as text, in the five forms that logs and heads need it in.

use std::cell::RefCell;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The texts of one second. Formatted once per thread and second.
#[derive(Debug, Default)]
pub struct Stamps {
    /// Seconds since 1970; 0 before the first use.
    second: u64,
    error_log: String,
    local: String,
    iso8601: String,
    syslog: String,
    http_date: String,
}

impl Stamps {
    /// `2026/11/23 10:00:00`, local time: how a line of the error log begins.
    pub fn error_log(&self) -> &str {
        &self.error_log
    }

    /// `$time_local`: `23/Nov/2026:10:00:00 +0000`
    pub fn local(&self) -> &str {
        &self.local
    }

    /// `$time_iso8601`: `2026-11-23T10:00:00+00:00`
    pub fn iso8601(&self) -> &str {
        &self.iso8601
    }

    /// `Nov 23 10:00:00`, local time (RFC 3164 section 4.1.2): a day below 10 has a blank before it.
    pub fn syslog(&self) -> &str {
        &self.syslog
    }

    /// The value of `Date:` (RFC 9110 section 5.6.7): `Mon, 23 Nov 2026 10:00:00 GMT`
    pub fn http_date(&self) -> &str {
        &self.http_date
    }

    fn update(&mut self, second: u64, zone: TimeZone) {
        let timestamp = i64::try_from(second)
            .ok()
            .and_then(|second| Timestamp::from_second(second).ok())
            .unwrap_or(Timestamp::MAX);
        let local = timestamp.to_zoned_datetime(zone);
        for (text, format) in [
            (&mut self.error_log, "%Y/%m/%d %H:%M:%S"),
            (&mut self.local, "%d/%b/%Y:%H:%M:%S %z"),
            (&mut self.iso8601, "%Y-%m-%dT%H:%M:%S%:z"),
            (&mut self.syslog, "%b %e %H:%M:%S"),
            (&mut self.http_date, "%a, %d %b %Y %H:%M:%S GMT"),
        ] {
            text.clear();
            // Writing to a String cannot fail, and the formats above name only fields that a zoned time has.
            let _ = if format.ends_with("GMT") {
                write!(text, "{}", timestamp.strftime(format))
            } else {
                write!(text, "{}", local.strftime(format))
            };
        }
        self.second = second;
    }
}

/// Lends the texts of the present second.
pub fn with_now<R>(read: impl FnOnce(&Stamps) -> R) -> R {
    with_time(SystemTime::now(), read)
}

/// The same for a clock that the caller has read already. A time before 1970 is taken for 1970.
pub fn with_time<R>(now: SystemTime, read: impl FnOnce(&Stamps) -> R) -> R {
    thread_local! {
        static STAMPS: RefCell<Stamps> = RefCell::default();
    }
    let second = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    STAMPS.with(|stamps| {
        let Ok(mut stamps) = stamps.try_borrow_mut() else {
            // A `read` further up has lent them out.
            let mut stamps = Stamps::default();
            stamps.update(second, TimeZone::system());
            return read(&stamps);
        };
        if stamps.second != second || stamps.local.is_empty() {
            // Asked anew each second, so that a changed zone is seen; jiff keeps it for minutes itself.
            stamps.update(second, TimeZone::system());
        }
        read(&stamps)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_form() {
        let second = 1_795_428_000; // 2026-11-23 10:00:00 UTC
        for (zone, error_log, local, iso8601, syslog) in [
            (
                TimeZone::UTC,
                "2026/11/23 10:00:00",
                "23/Nov/2026:10:00:00 +0000",
                "2026-11-23T10:00:00+00:00",
                "Nov 23 10:00:00",
            ),
            (
                TimeZone::fixed(jiff::tz::offset(-5)),
                "2026/11/23 05:00:00",
                "23/Nov/2026:05:00:00 -0500",
                "2026-11-23T05:00:00-05:00",
                "Nov 23 05:00:00",
            ),
        ] {
            let mut stamps = Stamps::default();
            stamps.update(second, zone);
            assert_eq!(stamps.error_log(), error_log);
            assert_eq!(stamps.local(), local);
            assert_eq!(stamps.iso8601(), iso8601);
            assert_eq!(stamps.syslog(), syslog);
            assert_eq!(stamps.http_date(), "Mon, 23 Nov 2026 10:00:00 GMT");
        }
    }

    #[test]
    fn the_date_is_what_httpdate_says() {
        for second in [0, 784_111_777, 951_782_400, 4_102_444_799] {
            let time = UNIX_EPOCH + Duration::from_secs(second);
            with_time(time, |stamps| {
                assert_eq!(stamps.http_date(), httpdate::fmt_http_date(time));
            });
        }
    }

    #[test]
    fn the_second_is_formatted_once() {
        let time = UNIX_EPOCH + Duration::from_millis(1_795_428_000_100);
        let text = |time| {
            with_time(time, |stamps| {
                (stamps.local().as_ptr(), stamps.local().to_owned())
            })
        };
        let first = text(time);
        assert_eq!(text(time + Duration::from_millis(899)), first);
        let next = text(time + Duration::from_millis(900));
        assert_ne!(next.1, first.1);
        assert_eq!(next.0, first.0, "the buffer is used again");
    }

    #[test]
    fn texts_may_be_read_within_a_reading() {
        let later = UNIX_EPOCH + Duration::from_secs(86_400);
        let dates = with_time(UNIX_EPOCH, |outer| {
            with_time(later, |inner| {
                [outer, inner].map(|stamps| stamps.http_date().to_owned())
            })
        });
        assert_eq!(dates[0], "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(dates[1], "Fri, 02 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn absurd_clocks_do_not_panic() {
        for time in [
            UNIX_EPOCH - Duration::from_secs(1),
            UNIX_EPOCH,
            UNIX_EPOCH + Duration::from_secs(1 << 62),
        ] {
            with_time(time, |stamps| assert!(!stamps.http_date().is_empty()));
        }
    }
}
