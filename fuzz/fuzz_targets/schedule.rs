//! Whatever text someone writes as a schedule: it is refused, or it answers every question about any time.

#![no_main]

use botticelli_server::schedule::{CronSchedule, OnceSchedule, ScheduleType};
use chrono::DateTime;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, i64)| {
    let (text, timezone, micros) = input;
    let now = DateTime::from_timestamp_micros(micros).unwrap_or_default();
    let cron = CronSchedule::new(text, timezone).or_else(|_| CronSchedule::new(text, "Europe/Berlin"));
    let once = OnceSchedule::parse(text, Some(timezone)).or_else(|_| OnceSchedule::parse(text, None));
    for schedule in [cron.map(ScheduleType::Cron), once.map(ScheduleType::Once)] {
        match schedule {
            Ok(schedule) => answers(&schedule, now),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});

fn answers(schedule: &ScheduleType, now: DateTime<chrono::Utc>) {
    assert!(!schedule.describe().is_empty());
    assert!(schedule.following(now).is_none_or(|next| next > now));
    let Some(first) = schedule.first_occurrence(now) else { return };
    let Some(second) = schedule.following(first) else { return };
    let missed = schedule.occurrences_until(first, second).expect("both are due");
    assert_eq!((missed.count, missed.latest), (2, second));
}
