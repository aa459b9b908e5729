//! What schedules promise, example by example.

use std::time::Duration;

use botticelli_server::schedule::{
    CronSchedule, Fold, Gap, ImmediateSchedule, IntervalSchedule, Missed, OnceSchedule, Schedule,
    ScheduleCheck, ScheduleType, jitter,
};
use chrono::{DateTime, TimeDelta, Utc};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a time"))
}

fn cron(expression: &str, timezone: &str) -> ScheduleType {
    ScheduleType::Cron(CronSchedule::new(expression, timezone).unwrap())
}

fn cron_with(expression: &str, timezone: &str, gap: Gap, fold: Fold) -> ScheduleType {
    ScheduleType::Cron(CronSchedule::new(expression, timezone).unwrap().with_policy(gap, fold).unwrap())
}

fn every(seconds: i64) -> ScheduleType {
    ScheduleType::Interval(IntervalSchedule::new(seconds).unwrap())
}

fn once(time: &str) -> ScheduleType {
    ScheduleType::Once(OnceSchedule::new(at(time)))
}

/// The first occurrences from a time on (inclusive), as local times.
fn occurrences(schedule: &ScheduleType, from: &str, count: usize, format: &str) -> Vec<String> {
    let first = schedule.first_occurrence(at(from));
    std::iter::successors(first, |&previous| schedule.following(previous))
        .take(count)
        .map(|time| schedule.local(time).format(format).to_string())
        .collect()
}

fn times(schedule: &ScheduleType, from: &str, count: usize) -> Vec<String> {
    occurrences(schedule, from, count, "%Y-%m-%dT%H:%M:%S%:z")
}

fn days(expression: &str, from: &str, count: usize) -> Vec<String> {
    occurrences(&cron(expression, "UTC"), from, count, "%a %Y-%m-%d")
}

mod when_clocks_change {
    use super::*;

    const BEFORE_GAP: &str = "2026-03-27T12:00:00Z";
    const BEFORE_FOLD: &str = "2026-10-24T12:00:00Z";

    #[test]
    fn a_fixed_time_in_a_gap_runs_at_the_end_of_the_gap() {
        let daily = cron("0 30 2 * * * *", "Europe/Berlin");
        assert_eq!(
            times(&daily, BEFORE_GAP, 3),
            ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
        );
    }

    #[test]
    fn it_can_be_skipped_instead() {
        let daily = cron_with("0 30 2 * * * *", "Europe/Berlin", Gap::Skip, Fold::First);
        assert_eq!(times(&daily, BEFORE_GAP, 2), ["2026-03-28T02:30:00+01:00", "2026-03-30T02:30:00+02:00"]);
    }

    #[test]
    fn times_that_coincide_at_the_end_of_a_gap_are_one_occurrence() {
        let list = cron("0 0,15,30,45 2,3 * * * *", "Europe/Berlin");
        assert_eq!(
            times(&list, "2026-03-29T00:30:00Z", 3),
            ["2026-03-29T03:00:00+02:00", "2026-03-29T03:15:00+02:00", "2026-03-29T03:30:00+02:00"]
        );
    }

    #[test]
    fn a_fixed_time_in_a_fold_runs_once_the_first_time() {
        let daily = cron("0 30 2 * * * *", "Europe/Berlin");
        assert_eq!(times(&daily, BEFORE_FOLD, 2), ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]);
    }

    #[test]
    fn it_can_run_the_second_time_or_both_times_instead() {
        let second = cron_with("0 30 2 * * * *", "Europe/Berlin", Gap::RunAfter, Fold::Second);
        assert_eq!(
            times(&second, BEFORE_FOLD, 2),
            ["2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"]
        );
        let both = cron_with("0 30 2 * * * *", "Europe/Berlin", Gap::RunAfter, Fold::Both);
        assert_eq!(
            times(&both, BEFORE_FOLD, 3),
            ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"]
        );
    }

    #[test]
    fn a_list_in_a_fold_is_not_doubled() {
        let list = cron("0 15,45 1,2,3 * * * *", "Europe/Berlin");
        assert_eq!(
            times(&list, "2026-10-24T23:30:00Z", 5),
            [
                "2026-10-25T01:45:00+02:00",
                "2026-10-25T02:15:00+02:00",
                "2026-10-25T02:45:00+02:00",
                "2026-10-25T03:15:00+01:00",
                "2026-10-25T03:45:00+01:00",
            ]
        );
    }

    #[test]
    fn an_hourly_expression_follows_elapsed_time() {
        let hourly = cron("@hourly", "Europe/Berlin");
        assert_eq!(
            times(&hourly, "2026-10-24T23:30:00Z", 3),
            ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"]
        );
        assert_eq!(
            times(&hourly, "2026-03-29T00:00:00Z", 2),
            ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"]
        );
    }

    /// The minute starts with `*`, so half past two is not made up for at three.
    #[test]
    fn a_star_with_a_step_follows_elapsed_time_too() {
        let in_one_hour = cron("0 */30 2 * * * *", "Europe/Berlin");
        assert_eq!(times(&in_one_hour, "2026-03-29T00:00:00Z", 1), ["2026-03-30T02:00:00+02:00"]);
        assert_eq!(
            times(&in_one_hour, "2026-10-25T00:00:00Z", 4),
            [
                "2026-10-25T02:00:00+02:00",
                "2026-10-25T02:30:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T02:30:00+01:00",
            ]
        );
    }

    #[test]
    fn hours_written_as_a_range_are_fixed_times() {
        let hours = cron("0 0 0-23 * * * *", "Europe/Berlin");
        assert_eq!(
            times(&hours, "2026-10-25T00:00:00Z", 2),
            ["2026-10-25T02:00:00+02:00", "2026-10-25T03:00:00+01:00"]
        );
    }

    #[test]
    fn the_second_field_does_not_make_a_time_elapsed() {
        let each_second = cron("* 30 2 * * * *", "Europe/Berlin");
        assert_eq!(
            times(&each_second, "2026-03-29T00:00:00Z", 2),
            ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
        );
        let fold = each_second.occurrences_until(at("2026-10-25T00:30:00Z"), at("2026-10-25T12:00:00Z"));
        assert_eq!(fold, Some(Missed { count: 60, latest: at("2026-10-25T00:30:59Z") }));
    }

    #[test]
    fn lord_howe_moves_by_half_an_hour() {
        let daily = cron("0 15 2 * * * *", "Australia/Lord_Howe");
        assert_eq!(
            times(&daily, "2026-10-03T00:00:00Z", 2),
            ["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"]
        );
        let daily = cron("0 45 1 * * * *", "Australia/Lord_Howe");
        assert_eq!(
            times(&daily, "2026-04-04T00:00:00Z", 2),
            ["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"]
        );
    }

    #[test]
    fn apia_had_no_30_december_2011() {
        let daily = cron("0 0 9 * * * *", "Pacific/Apia");
        assert_eq!(
            times(&daily, "2011-12-29T12:00:00Z", 3),
            ["2011-12-29T09:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T09:00:00+14:00"]
        );
        let midnight = cron("0 0 0 30,31 * * *", "Pacific/Apia");
        assert_eq!(
            times(&midnight, "2011-12-29T12:00:00Z", 2),
            ["2011-12-31T00:00:00+14:00", "2012-01-30T00:00:00+14:00"]
        );
    }

    #[test]
    fn a_midnight_that_does_not_exist_is_the_first_instant_of_the_day() {
        let daily = cron("@daily", "America/Asuncion");
        assert_eq!(times(&daily, "2023-10-01T03:59:59Z", 1), ["2023-10-01T01:00:00-03:00"]);
    }
}

mod days_and_weekdays {
    use super::*;

    const NEW_YEAR: &str = "2026-01-01T00:00:00Z"; // a Thursday

    #[test]
    fn seven_fields_count_weekdays_from_1_as_quartz_does() {
        assert_eq!(days("0 0 9 * * 1 *", NEW_YEAR, 1), ["Sun 2026-01-04"]);
        assert_eq!(days("0 0 9 * * 7 *", NEW_YEAR, 1), ["Sat 2026-01-03"]);
        assert_eq!(days("0 0 9 * * 2-6", "2026-01-02T12:00:00Z", 2), ["Mon 2026-01-05", "Tue 2026-01-06"]);
    }

    #[test]
    fn five_fields_count_weekdays_from_0_as_posix_does() {
        assert_eq!(days("0 9 * * 1", NEW_YEAR, 1), ["Mon 2026-01-05"]);
        assert_eq!(days("0 9 * * 0", NEW_YEAR, 1), ["Sun 2026-01-04"]);
        assert_eq!(days("0 9 * * 7", NEW_YEAR, 1), ["Sun 2026-01-04"]);
        assert_eq!(days("0 9 * * 5-7", "2026-01-03T12:00:00Z", 2), ["Sun 2026-01-04", "Fri 2026-01-09"]);
    }

    #[test]
    fn names_mean_the_same_everywhere() {
        for expression in ["0 9 * * mon", "0 0 9 * * MON", "0 0 9 * * Monday *", "0 0 9 * january monday *"] {
            assert_eq!(days(expression, NEW_YEAR, 1), ["Mon 2026-01-05"], "{expression}");
        }
    }

    #[test]
    fn a_range_of_weekdays_may_go_over_the_end_of_the_week() {
        for expression in ["0 9 * * FRI-SUN", "0 0 9 * * FRI-SUN", "0 0 9 * * 6-1", "0 9 * * 5-0"] {
            assert_eq!(
                days(expression, NEW_YEAR, 4),
                ["Fri 2026-01-02", "Sat 2026-01-03", "Sun 2026-01-04", "Fri 2026-01-09"],
                "{expression}"
            );
        }
    }

    #[test]
    fn in_seven_fields_day_and_weekday_must_both_match() {
        assert_eq!(days("0 0 9 13 * FRI *", NEW_YEAR, 2), ["Fri 2026-02-13", "Fri 2026-03-13"]);
    }

    #[test]
    fn in_five_fields_day_or_weekday_must_match() {
        assert_eq!(
            days("0 9 13 * FRI", NEW_YEAR, 4),
            ["Fri 2026-01-02", "Fri 2026-01-09", "Tue 2026-01-13", "Fri 2026-01-16"]
        );
    }

    #[test]
    fn in_five_fields_a_star_leaves_the_decision_to_the_other_field() {
        assert_eq!(days("0 9 13 * *", NEW_YEAR, 2), ["Tue 2026-01-13", "Fri 2026-02-13"]);
        assert_eq!(days("0 9 */2 * MON", NEW_YEAR, 2), ["Mon 2026-01-05", "Mon 2026-01-19"]);
        assert_eq!(days("0 9 ? * MON", NEW_YEAR, 2), ["Mon 2026-01-05", "Mon 2026-01-12"]);
    }

    #[test]
    fn the_last_day_and_the_days_before_it() {
        assert_eq!(days("0 0 9 L * ? *", NEW_YEAR, 2), ["Sat 2026-01-31", "Sat 2026-02-28"]);
        assert_eq!(days("0 0 9 L-3 * ? *", NEW_YEAR, 2), ["Wed 2026-01-28", "Wed 2026-02-25"]);
        assert_eq!(days("0 0 9 LW * ? *", NEW_YEAR, 2), ["Fri 2026-01-30", "Fri 2026-02-27"]);
    }

    #[test]
    fn the_nearest_weekday_never_leaves_the_month() {
        assert_eq!(days("0 0 9 15W 2 ? *", NEW_YEAR, 1), ["Mon 2026-02-16"]); // the 15th is a Sunday
        assert_eq!(days("0 0 9 14W 2 ? *", NEW_YEAR, 1), ["Fri 2026-02-13"]); // a Saturday
        assert_eq!(days("0 0 9 1W 8 ? *", NEW_YEAR, 1), ["Mon 2026-08-03"]); // a Saturday
        assert_eq!(days("0 0 9 31W 5 ? *", NEW_YEAR, 1), ["Fri 2026-05-29"]); // a Sunday
    }

    #[test]
    fn the_nth_and_the_last_weekday_of_the_month() {
        assert_eq!(days("0 0 9 ? * FRI#2 *", NEW_YEAR, 2), ["Fri 2026-01-09", "Fri 2026-02-13"]);
        assert_eq!(days("0 0 9 ? * 6#5 *", NEW_YEAR, 2), ["Fri 2026-01-30", "Fri 2026-05-29"]);
        assert_eq!(days("0 9 ? * 5#5", NEW_YEAR, 2), ["Fri 2026-01-30", "Fri 2026-05-29"]);
        assert_eq!(days("0 0 9 ? * fridayL *", NEW_YEAR, 2), ["Fri 2026-01-30", "Fri 2026-02-27"]);
        assert_eq!(days("0 0 9 ? * MON#1,6L *", NEW_YEAR, 2), ["Mon 2026-01-05", "Fri 2026-01-30"]);
    }

    #[test]
    fn a_day_that_a_month_does_not_have_is_left_out() {
        assert_eq!(days("0 0 9 31 * * *", "2026-02-01T00:00:00Z", 2), ["Tue 2026-03-31", "Sun 2026-05-31"]);
    }

    #[test]
    fn february_29_comes_in_leap_years() {
        assert_eq!(days("0 0 9 29 2 * *", NEW_YEAR, 2), ["Tue 2028-02-29", "Sun 2032-02-29"]);
        assert_eq!(days("0 0 9 29 2 * *", "2096-03-01T00:00:00Z", 1), ["Fri 2104-02-29"]);
    }

    #[test]
    fn the_year_field_ends_a_schedule() {
        let schedule = cron("0 0 0 1 1 * 2026,2028", "UTC");
        assert_eq!(times(&schedule, NEW_YEAR, 9).len(), 2);
        assert_eq!(schedule.following(at("2028-01-01T00:00:00Z")), None);
    }

    #[test]
    fn shortcuts() {
        for (shortcut, expression) in [
            ("@yearly", "0 0 0 1 1 ?"),
            ("@Annually", "0 0 1 1 *"),
            ("@monthly", "0 0 0 1 * ?"),
            ("@weekly", "0 0 * * 0"),
            ("@daily", "0 0 0 * * ?"),
            ("@MIDNIGHT", "0 0 * * *"),
            ("@hourly", "0 * * * *"),
        ] {
            let (short, long) = (cron(shortcut, "UTC"), cron(expression, "UTC"));
            assert_eq!(times(&short, NEW_YEAR, 20), times(&long, NEW_YEAR, 20), "{shortcut}");
        }
    }

    #[test]
    fn lists_ranges_and_steps() {
        let minutes = |expression| occurrences(&cron(expression, "UTC"), NEW_YEAR, 4, "%M");
        assert_eq!(minutes("0 */20 * * * *"), ["00", "20", "40", "00"]);
        assert_eq!(minutes("0 10-40/15 * * * *"), ["10", "25", "40", "10"]);
        assert_eq!(minutes("0 5/25 * * * *"), ["05", "30", "55", "05"]);
        assert_eq!(minutes("0 7,3-4 * * * *"), ["03", "04", "07", "03"]);
    }
}

mod all_schedules {
    use super::*;

    #[test]
    fn an_interval_is_anchored_and_does_not_drift() {
        let interval = every(300);
        let first = interval.first_occurrence(at("2026-01-01T00:00:07Z")).unwrap();
        assert_eq!(first, at("2026-01-01T00:00:07Z"));
        assert_eq!(interval.following(first), Some(at("2026-01-01T00:05:07Z")));
        assert_eq!(
            interval.occurrences_until(first, at("2026-01-01T01:00:00Z")),
            Some(Missed { count: 12, latest: at("2026-01-01T00:55:07Z") })
        );
    }

    #[test]
    fn once_keeps_its_time_even_when_that_is_past() {
        let schedule = once("2026-01-01T09:00:00Z");
        assert_eq!(schedule.first_occurrence(at("2027-01-01T00:00:00Z")), Some(at("2026-01-01T09:00:00Z")));
        assert_eq!(schedule.following(at("2026-01-01T09:00:00Z")), None);
    }

    #[test]
    fn once_can_be_a_time_of_the_wall_clock() {
        let parse = |at, timezone| OnceSchedule::parse(at, timezone).unwrap().at();
        assert_eq!(parse("2026-07-01T09:00:00", Some("Europe/Berlin")), at("2026-07-01T07:00:00Z"));
        assert_eq!(parse("2026-07-01T09:00:00+09:00", Some("Europe/Berlin")), at("2026-07-01T00:00:00Z"));
        assert_eq!(parse("2026-07-01T09:00:00+09:00", None), at("2026-07-01T00:00:00Z"));
        // In a gap the end of the gap, in a fold the first time.
        assert_eq!(parse("2026-03-29T02:30:00", Some("Europe/Berlin")), at("2026-03-29T01:00:00Z"));
        assert_eq!(parse("2026-10-25T02:30:00", Some("Europe/Berlin")), at("2026-10-25T00:30:00Z"));
    }

    #[test]
    fn cron_may_be_due_in_the_very_second_in_which_it_is_first_seen() {
        let schedule = cron("0 0 9 * * *", "UTC");
        let (nine, next) = (at("2026-01-01T09:00:00Z"), at("2026-01-02T09:00:00Z"));
        assert_eq!(schedule.first_occurrence(nine), Some(nine));
        assert_eq!(schedule.first_occurrence(at("2026-01-01T08:59:59.000001Z")), Some(nine));
        assert_eq!(schedule.first_occurrence(at("2026-01-01T09:00:00.000001Z")), Some(next));
        assert_eq!(schedule.next_execution(nine), Some(next));
        assert_eq!(schedule.next_execution(at("2026-01-01T08:59:59.999999Z")), Some(nine));
    }

    #[test]
    fn check_says_whether_something_is_due_and_when_the_next_time_is() {
        let now = at("2026-01-01T10:00:00Z");
        let due = |next: Option<&str>| ScheduleCheck { should_run: true, next_run: next.map(at) };
        let not_due = |next: Option<&str>| ScheduleCheck { should_run: false, next_run: next.map(at) };
        let immediate = ScheduleType::Immediate(ImmediateSchedule::default());
        let (daily, hourly) = (cron("0 0 9 * * *", "UTC"), every(3600));
        let (past, future) = (once("2026-01-01T09:00:00Z"), once("2026-01-01T11:00:00Z"));
        for (name, schedule, last_run, expected) in [
            ("cron, never ran", &daily, None, not_due(Some("2026-01-02T09:00:00Z"))),
            ("cron, missed", &daily, Some("2025-12-30T09:00:00Z"), due(Some("2026-01-02T09:00:00Z"))),
            ("cron, ran", &daily, Some("2026-01-01T09:00:00Z"), not_due(Some("2026-01-02T09:00:00Z"))),
            ("interval, never ran", &hourly, None, due(Some("2026-01-01T11:00:00Z"))),
            ("interval, missed", &hourly, Some("2026-01-01T07:30:00Z"), due(Some("2026-01-01T10:30:00Z"))),
            (
                "interval, exactly now",
                &hourly,
                Some("2026-01-01T09:00:00Z"),
                due(Some("2026-01-01T11:00:00Z")),
            ),
            ("interval, ran", &hourly, Some("2026-01-01T09:30:00Z"), not_due(Some("2026-01-01T10:30:00Z"))),
            ("once, past, never ran", &past, None, due(None)),
            ("once, past, ran", &past, Some("2026-01-01T09:00:00Z"), not_due(None)),
            ("once, ran before it was moved", &past, Some("2025-01-01T09:00:00Z"), due(None)),
            ("once, future", &future, None, not_due(Some("2026-01-01T11:00:00Z"))),
            ("immediate, never ran", &immediate, None, due(None)),
            ("immediate, ran", &immediate, Some("2025-01-01T00:00:00Z"), not_due(None)),
        ] {
            assert_eq!(schedule.check(last_run.map(at), now), expected, "{name}");
        }
    }

    #[test]
    fn ten_years_of_missed_seconds_are_counted_at_once() {
        let schedule = cron("* * * * * * *", "Europe/Berlin");
        let (first, until) = (at("2016-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
        let started = std::time::Instant::now();
        let missed = schedule.occurrences_until(first, until).unwrap();
        assert!(started.elapsed() < Duration::from_secs(1), "took {:?}", started.elapsed());
        let seconds = (until - first).num_seconds().unsigned_abs();
        assert_eq!(missed, Missed { count: seconds + 1, latest: until });
    }

    #[test]
    fn nothing_is_missed_before_the_first_time() {
        for schedule in [every(60), cron("@hourly", "UTC"), once("2026-01-01T00:00:00Z")] {
            let before = at("2025-12-31T23:59:59Z");
            assert_eq!(schedule.occurrences_until(at("2026-01-01T00:00:00Z"), before), None);
        }
    }

    #[test]
    fn the_ends_of_time_are_no_trouble() {
        let schedules = [
            cron("* * * * * * *", "UTC"),
            cron("0 30 2 29 2 * *", "Europe/Berlin"),
            cron_with("0 0 0 L * FRI 2199", "Pacific/Apia", Gap::Skip, Fold::Second),
            every(1),
            every(316_224_000),
            once("2026-01-01T00:00:00Z"),
            ScheduleType::Immediate(ImmediateSchedule { every_start: true }),
        ];
        let day = TimeDelta::days(1);
        let times = [
            DateTime::<Utc>::MIN_UTC,
            DateTime::<Utc>::MIN_UTC + day,
            at("1969-12-31T23:59:59Z"),
            at("2199-12-31T23:59:59Z"),
            at("2200-01-02T00:00:00Z"),
            DateTime::<Utc>::MAX_UTC - day,
            DateTime::<Utc>::MAX_UTC,
        ];
        for schedule in &schedules {
            for &now in &times {
                assert!(!schedule.local(now).to_rfc3339().is_empty());
                assert!(schedule.next_execution(now).is_none_or(|next| next > now));
                for last in times {
                    let next = schedule.check(Some(last), now).next_run;
                    assert!(next.is_none_or(|next| next > now), "{schedule:?} {last} {now}");
                    let missed = schedule.occurrences_until(last, now);
                    assert_eq!(missed.is_some(), last <= now);
                }
            }
        }
        assert_eq!(schedules[0].following(at("2199-12-31T23:59:59Z")), None);
        assert_eq!(schedules[0].following(DateTime::<Utc>::MIN_UTC), Some(at("1970-01-01T00:00:00Z")));
    }
}

mod in_words {
    use super::*;

    #[test]
    fn schedules_are_described_as_people_say_them() {
        for (expression, words) in [
            ("0 0 9 * * * *", "at 09:00:00 every day"),
            ("0 0 9,17 * * MON-FRI *", "at 09:00:00 and 17:00:00 on Monday to Friday"),
            ("0 9 * * 6,0", "at 09:00:00 on Sunday and Saturday"),
            ("* * * * * *", "every second"),
            ("*/10 * * * * *", "every 10 seconds"),
            ("0 * * * * *", "every minute"),
            ("0 */5 * * * *", "every 5 minutes"),
            ("0 */5 * * * SUN", "every 5 minutes on Sunday"),
            ("@hourly", "every hour"),
            ("0 0 */6 * * *", "at 00:00:00, 06:00:00, 12:00:00 and 18:00:00 every day"),
            ("0 0 */4 * * *", "every 4 hours"),
            ("30 15 * * * *", "every hour at 15:30"),
            ("0 */15 9-17 * * *", "at second 0 of minute 0, 15, 30 and 45 of hour 9 to 17 every day"),
            ("0 0 9 13 * FRI *", "at 09:00:00 on day 13 of the month, when it is Friday"),
            ("0 9 13 * FRI", "at 09:00:00 on day 13 of the month or on Friday"),
            ("0 0 9 L,15W * ?", "at 09:00:00 on the weekday nearest to day 15 and the last day of the month"),
            ("0 0 9 LW * ? *", "at 09:00:00 on the last weekday (Monday to Friday) of the month"),
            ("0 0 9 L-3 * ? *", "at 09:00:00 on the day 3 days before the last day of the month"),
            ("0 0 9 ? * FRI#2 *", "at 09:00:00 on the second Friday of the month"),
            ("0 0 9 ? * MONL *", "at 09:00:00 on the last Monday of the month"),
            ("0 0 9 1 1-3,12 *", "at 09:00:00 on day 1 of the month in January to March and December"),
            ("0 0 9 1 * * 2027-2030", "at 09:00:00 on day 1 of the month in 2027 to 2030"),
            ("0 0 9 * 7 * *", "at 09:00:00 every day in July"),
        ] {
            assert_eq!(
                cron(expression, "Asia/Tokyo").describe(),
                format!("{words}, Asia/Tokyo"),
                "{expression}"
            );
        }
    }

    #[test]
    fn so_are_the_others() {
        for (seconds, words) in [
            (1, "every second"),
            (90, "every 90 seconds"),
            (300, "every 5 minutes"),
            (86_400, "every day"),
            (1_209_600, "every 2 weeks"),
        ] {
            assert_eq!(every(seconds).describe(), words);
        }
        let christmas = OnceSchedule::parse("2026-12-24T18:00:00", Some("Europe/Berlin")).unwrap();
        let christmas = ScheduleType::Once(christmas);
        assert_eq!(christmas.describe(), "once at 2026-12-24 18:00:00 +01:00, Europe/Berlin");
        assert_eq!(christmas.timezone(), "Europe/Berlin");
        let own_offset = ScheduleType::Once(OnceSchedule::parse("2026-12-24T18:00:00+01:00", None).unwrap());
        assert_eq!(own_offset.describe(), "once at 2026-12-24 18:00:00 +01:00");
        assert_eq!(ScheduleType::Immediate(ImmediateSchedule::default()).describe(), "once, at once");
    }

    #[test]
    fn a_cron_schedule_shows_its_expression_as_written() {
        assert_eq!(CronSchedule::new("0 0 9 * * Mon-fri", "UTC").unwrap().to_string(), "0 0 9 * * Mon-fri");
        assert_eq!(CronSchedule::new("@daily", "europe/berlin").unwrap().timezone(), "Europe/Berlin");
    }
}

mod jittering {
    use super::*;

    const NINE: &str = "2026-01-01T09:00:00Z";

    /// Other nodes and other releases must come to the same: these values are for ever.
    #[test]
    fn it_is_the_same_everywhere() {
        let minute = Duration::from_secs(60);
        assert_eq!(jitter("daily_poster", at(NINE), minute), Duration::from_micros(9_518_745));
        assert_eq!(jitter("trending", at(NINE), minute), Duration::from_micros(58_332_331));
    }

    #[test]
    fn it_spreads_evenly_over_the_time_given() {
        let max = Duration::from_secs(10);
        let mut seconds = [0; 10];
        for task in 0..10_000 {
            let jitter = jitter(&format!("task {task}"), at(NINE), max);
            assert!(jitter < max);
            seconds[usize::try_from(jitter.as_secs()).unwrap()] += 1;
        }
        assert!(seconds.iter().all(|tasks| (850..1150).contains(tasks)), "{seconds:?}");
    }

    #[test]
    fn it_differs_from_time_to_time() {
        let jitter = |time| jitter("daily_poster", at(time), Duration::from_secs(3600));
        assert_ne!(jitter(NINE), jitter("2026-01-02T09:00:00Z"));
    }

    #[test]
    fn no_jitter_is_no_jitter() {
        assert_eq!(jitter("task", at(NINE), Duration::ZERO), Duration::ZERO);
        assert_eq!(jitter("task", at(NINE), Duration::from_micros(1)), Duration::ZERO);
        assert!(jitter("task", DateTime::<Utc>::MAX_UTC, Duration::MAX) < Duration::MAX);
    }
}
