//! What may be written, what is refused, and what the person is told.

use botticelli_server::schedule::{
    CronSchedule, Fold, Gap, OnceSchedule, ScheduleError, ScheduleType, WrittenSchedule,
};
use proptest::prelude::*;

fn json(text: &str) -> Result<ScheduleType, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn toml(text: &str) -> Result<ScheduleType, String> {
    toml::from_str(text).map_err(|error| error.message().to_owned())
}

#[test]
fn a_bad_expression_is_refused_with_field_value_and_what_is_allowed() {
    let days = "1-31, L, L-1 to L-30, LW, 1W to 31W, ?";
    let quartz = "SUN-SAT or 1-7 with 1 = Sunday, FRIL, FRI#1 to FRI#5, ?";
    let posix = "SUN-SAT or 0-7 with 0 and 7 = Sunday, FRIL, FRI#1 to FRI#5, ?";
    for (expression, problem) in [
        ("", "has 0 fields (allowed: 5, 6 or 7)".to_owned()),
        ("*", "has 1 field (allowed: 5, 6 or 7)".to_owned()),
        ("* * * *", "has 4 fields (allowed: 5, 6 or 7)".to_owned()),
        ("* * * * * * * *", "has 8 fields (allowed: 5, 6 or 7)".to_owned()),
        ("60 * * * * * *", "has second 60 (allowed: 0-59)".to_owned()),
        ("0 60 * * * * *", "has minute 60 (allowed: 0-59)".to_owned()),
        ("0 0 25 * * * *", "has hour 25 (allowed: 0-23)".to_owned()),
        ("0 0 24 * * * *", "has hour 24 (allowed: 0-23)".to_owned()),
        ("0 24 * * *", "has hour 24 (allowed: 0-23)".to_owned()),
        ("0 0 9am * * * *", "has hour \"9am\" (allowed: 0-23)".to_owned()),
        ("0 0 -1 * * * *", "has hour \"-1\" (allowed: 0-23)".to_owned()),
        ("0 0 +1 * * * *", "has hour \"+1\" (allowed: 0-23)".to_owned()),
        ("0 0 1,,2 * * * *", "has hour \"\" (allowed: 0-23)".to_owned()),
        ("0 0 1,26,3 * * * *", "has hour 26 (allowed: 0-23)".to_owned()),
        ("0 0 99999999999999999999 * * * *", "has hour 99999999999999999999 (allowed: 0-23)".to_owned()),
        ("0 0 ? * * * *", "has hour \"?\" (allowed: 0-23)".to_owned()),
        ("0 0 L * * * *", "has hour \"L\" (allowed: 0-23)".to_owned()),
        ("0 0 ٣ * * * *", "has hour \"٣\" (allowed: 0-23)".to_owned()),
        ("0 0 9 0 * * *", format!("has day of month 0 (allowed: {days})")),
        ("0 0 9 32 * * *", format!("has day of month 32 (allowed: {days})")),
        ("0 0 9 32W * * *", format!("has day of month \"32W\" (allowed: {days})")),
        ("0 0 9 L-31 * * *", format!("has day of month \"L-31\" (allowed: {days})")),
        ("0 0 9 * 13 * *", "has month 13 (allowed: 1-12 or JAN-DEC)".to_owned()),
        ("0 0 9 * Janu * *", "has month \"Janu\" (allowed: 1-12 or JAN-DEC)".to_owned()),
        ("0 0 9 * * 0 *", format!("has weekday 0 (allowed: {quartz})")),
        ("0 0 9 * * 8 *", format!("has weekday 8 (allowed: {quartz})")),
        ("0 0 9 * * Mo *", format!("has weekday \"Mo\" (allowed: {quartz})")),
        ("0 0 9 * * L *", format!("has weekday \"L\" (allowed: {quartz})")),
        ("0 0 9 * * FRI#6 *", format!("has weekday \"FRI#6\" (allowed: {quartz})")),
        ("0 0 9 * * FRI#0 *", format!("has weekday \"FRI#0\" (allowed: {quartz})")),
        ("0 9 * * 8", format!("has weekday 8 (allowed: {posix})")),
        ("0 0 9 * * * 1969", "has year 1969 (allowed: 1970-2199)".to_owned()),
        ("0 0 9 * * * 2200", "has year 2200 (allowed: 1970-2199)".to_owned()),
        ("0 */0 * * * * *", "has minute step 0 (allowed: 1-59)".to_owned()),
        ("0 */90 * * * * *", "has minute step 90 (allowed: 1-59)".to_owned()),
        ("0 0 */24 * * * *", "has hour step 24 (allowed: 1-23)".to_owned()),
        ("0 */x * * * * *", "has minute step \"x\" (allowed: 1-59)".to_owned()),
        ("0 */5/5 * * * * *", "has minute step \"5/5\" (allowed: 1-59)".to_owned()),
        ("0 0 17-9 * * * *", "has hour range \"17-9\", which runs backwards (allowed: from low to high)".to_owned()),
        ("0 0 9-17-20 * * * *", "has hour \"17-20\" (allowed: 0-23)".to_owned()),
        ("@dayly", "is not a known shortcut (allowed: @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly)".to_owned()),
        ("0 0 9 30 2 * *", "never matches: no date from 1970 to 2199 has that day, month, weekday and year".to_owned()),
        ("0 0 9 29 2 * 2027", "never matches: no date from 1970 to 2199 has that day, month, weekday and year".to_owned()),
        ("0 0 9 31W 2,4 * *", "never matches: no date from 1970 to 2199 has that day, month, weekday and year".to_owned()),
        ("0 0 9 1 * FRI#5 *", "never matches: no date from 1970 to 2199 has that day, month, weekday and year".to_owned()),
    ] {
        let error = CronSchedule::new(expression, "UTC").unwrap_err();
        assert_eq!(error.to_string(), format!("cron expression {expression:?} {problem}"));
        assert!(error.hint().is_some());
    }
}

#[test]
fn hints_say_what_to_try() {
    let hint = |expression| CronSchedule::new(expression, "UTC").unwrap_err().hint().unwrap();
    assert_eq!(
        hint("0 0 25 * * * *"),
        "7 fields: sec min hour day-of-month month day-of-week year; `actor-server next --cron \"0 0 9 * * * *\"` shows what one means"
    );
    assert_eq!(hint("0 0 22-2 * * * *"), "for a range over the turn write two: 22-23,0-2");
    assert_eq!(hint("0 0 9 25-5 * * *"), "for a range over the turn write two: 25-31,1-5");
    assert_eq!(hint("@reboot"), "for a run at each start take type = \"Immediate\" with every_start = true");
}

#[test]
fn a_very_long_text_is_refused_and_not_repeated() {
    let error = CronSchedule::new(&"9".repeat(100_000), "UTC").unwrap_err().to_string();
    assert!(error.ends_with("is 100000 bytes long (allowed: at most 1024)"), "{error}");
    assert!(error.len() < 1000);
    let every_second = (0..60).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    assert!(CronSchedule::new(&format!("{every_second} {every_second} * * * * *"), "UTC").is_ok());
}

#[test]
fn an_unknown_timezone_is_refused_with_a_suggestion() {
    let error = |name| CronSchedule::new("@daily", name).unwrap_err();
    assert_eq!(
        error("Berlin").to_string(),
        "timezone \"Berlin\" is not known (allowed: IANA names such as \"Europe/Berlin\", or \"UTC\")"
    );
    assert_eq!(error("Berlin").hint().unwrap(), "did you mean \"Europe/Berlin\"?");
    assert_eq!(error("US/New York").hint().unwrap(), "did you mean \"America/New_York\"?");
    for name in ["", " ", "Mars/Olympus", "local", "Etc/Unknown", "../etc/passwd", "+01:00", "é"] {
        assert_eq!(error(name).hint(), None, "{name}");
    }
}

#[test]
fn a_fold_policy_that_can_not_work_is_refused() {
    let hourly = || CronSchedule::new("@hourly", "Europe/Berlin").unwrap();
    // What such an expression does anyway may be said.
    assert!(hourly().with_policy(Gap::Skip, Fold::Both).is_ok());
    let error = hourly().with_policy(Gap::Skip, Fold::Second).unwrap_err();
    assert_eq!(
        error.to_string(),
        "fold = \"second\" has no meaning for cron expression \"@hourly\", whose minute or hour starts with `*` (allowed: \"first\", \"both\")"
    );
    assert!(error.hint().unwrap().contains("0-23"));
}

#[test]
fn bad_values_of_the_other_schedules_are_refused() {
    for (text, message) in [
        (r#"{"type": "Interval", "seconds": 0}"#, "interval has seconds = 0 (allowed: 1-316224000)"),
        (r#"{"type": "Interval", "seconds": -5}"#, "interval has seconds = -5 (allowed: 1-316224000)"),
        (
            r#"{"type": "Interval", "seconds": 316224001}"#,
            "interval has seconds = 316224001 (allowed: 1-316224000)",
        ),
        (
            r#"{"type": "Once", "at": "tomorrow"}"#,
            "once has at = \"tomorrow\" (allowed: a date and time with offset, such as 2026-12-24T18:00:00+01:00, or without one together with `timezone`)",
        ),
        (
            r#"{"type": "Once", "at": "2026-02-30T09:00:00Z"}"#,
            "once has at = \"2026-02-30T09:00:00Z\" (allowed: a date and time with offset, such as 2026-12-24T18:00:00+01:00, or without one together with `timezone`)",
        ),
        (
            r#"{"type": "Once", "at": "2026-12-24T18:00:00"}"#,
            "once has at = \"2026-12-24T18:00:00\" without an offset (allowed: an offset, such as 2026-12-24T18:00:00Z, or a `timezone`)",
        ),
        (
            r#"{"type": "Once", "at": "2026-12-24T18:00:00", "timezone": "Mars"}"#,
            "timezone \"Mars\" is not known (allowed: IANA names such as \"Europe/Berlin\", or \"UTC\")",
        ),
        (
            r#"{"type": "Weekly"}"#,
            "unknown variant `Weekly`, expected one of `Cron`, `Interval`, `Once`, `Immediate`, `Event` at line 1 column 17",
        ),
        (r#"{"type": "Cron"}"#, "missing field `expression`"),
    ] {
        assert_eq!(json(text).unwrap_err(), message);
    }
}

#[test]
fn an_unknown_key_is_refused() {
    for text in [
        r#"{"type": "Cron", "expression": "@daily", "tz": "UTC"}"#,
        r#"{"type": "Interval", "seconds": 5, "minutes": 1}"#,
        r#"{"type": "Once", "at": "2026-12-24T18:00:00Z", "every_start": true}"#,
        r#"{"type": "Immediate", "seconds": 5}"#,
    ] {
        let error = json(text).unwrap_err();
        assert!(error.starts_with("unknown field `"), "{error}");
    }
}

#[test]
fn what_was_written_comes_back() {
    for (written, expected) in [
        (
            r#"{"type": "Cron", "expression": "0 0 9 * * MON-FRI"}"#,
            r#"{"type":"Cron","expression":"0 0 9 * * MON-FRI","timezone":"UTC","gap":"run_after","fold":"first"}"#,
        ),
        (
            r#"{"type":"Cron","expression":"@daily","timezone":"europe/berlin","gap":"skip","fold":"second"}"#,
            r#"{"type":"Cron","expression":"@daily","timezone":"Europe/Berlin","gap":"skip","fold":"second"}"#,
        ),
        (r#"{"type":"Interval","seconds":90}"#, r#"{"type":"Interval","seconds":90}"#),
        (
            r#"{"type":"Once","at":"2026-12-24T18:00:00.123456789","timezone":"Europe/Berlin"}"#,
            r#"{"type":"Once","at":"2026-12-24T17:00:00.123456Z","timezone":"Europe/Berlin"}"#,
        ),
        (
            r#"{"type":"Once","at":"2026-12-24T18:00:00+01:00"}"#,
            r#"{"type":"Once","at":"2026-12-24T18:00:00+01:00"}"#,
        ),
        (r#"{"type":"Immediate"}"#, r#"{"type":"Immediate","every_start":false}"#),
        (r#"{"type":"Immediate","every_start":true}"#, r#"{"type":"Immediate","every_start":true}"#),
    ] {
        let schedule = json(written).unwrap();
        let text = serde_json::to_string(&schedule).unwrap();
        assert_eq!(text, expected);
        assert_eq!(json(&text).unwrap(), schedule);
        assert_eq!(toml(&toml::to_string(&schedule).unwrap()).unwrap(), schedule);
    }
}

#[test]
fn schedules_differ_when_anything_differs() {
    let schedules = [
        r#"{"type":"Cron","expression":"@daily"}"#,
        r#"{"type":"Cron","expression":"0 0 * * *"}"#,
        r#"{"type":"Cron","expression":"@daily","timezone":"Europe/Berlin"}"#,
        r#"{"type":"Cron","expression":"@daily","gap":"skip"}"#,
        r#"{"type":"Cron","expression":"@daily","fold":"both"}"#,
        r#"{"type":"Interval","seconds":5}"#,
        r#"{"type":"Interval","seconds":6}"#,
        r#"{"type":"Once","at":"2026-12-24T18:00:00Z"}"#,
        r#"{"type":"Once","at":"2026-12-24T18:00:01Z"}"#,
        r#"{"type":"Immediate"}"#,
        r#"{"type":"Immediate","every_start":true}"#,
    ]
    .map(|text| json(text).unwrap());
    for (index, schedule) in schedules.iter().enumerate() {
        assert_eq!(schedules.iter().position(|other| other == schedule), Some(index));
    }
}

#[test]
fn toml_has_date_times_of_its_own() {
    let expected = json(r#"{"type":"Once","at":"2026-12-24T17:00:00Z","timezone":"Europe/Berlin"}"#).unwrap();
    for text in [
        "type = \"Once\"\nat = 2026-12-24T18:00:00+01:00\ntimezone = \"Europe/Berlin\"",
        "type = \"Once\"\nat = 2026-12-24 18:00:00+01:00\ntimezone = \"Europe/Berlin\"",
        "type = \"Once\"\nat = \"2026-12-24T18:00:00+01:00\"\ntimezone = \"Europe/Berlin\"",
        "type = \"Once\"\nat = 2026-12-24T18:00:00\ntimezone = \"Europe/Berlin\"",
        "timezone = \"Europe/Berlin\"\nat = 2026-12-24T17:00:00Z\ntype = \"Once\"",
    ] {
        assert_eq!(toml(text).unwrap(), expected, "{text}");
    }
    for text in ["2026-12-24", "18:00:00", "5", "true", "{ year = 2026 }"] {
        let error = toml(&format!("type = \"Once\"\nat = {text}")).unwrap_err();
        assert!(error.contains("date and time"), "{text}: {error}");
    }
}

/// serde has only text for errors; whoever wants the hint too reads the unchecked form.
#[test]
fn the_unchecked_form_gives_the_typed_error() {
    let written: WrittenSchedule =
        toml::from_str("type = \"Cron\"\nexpression = \"0 0 9 * * * *\"\ntimezone = \"Berlin\"").unwrap();
    let error = ScheduleType::try_from(written).unwrap_err();
    assert!(matches!(&error, ScheduleError::Timezone { name, .. } if name == "Berlin"));
    assert_eq!(error.hint().unwrap(), "did you mean \"Europe/Berlin\"?");
}

#[test]
fn editors_get_a_schema() {
    let schema = serde_json::to_value(schemars::schema_for!(ScheduleType)).unwrap();
    let variants = schema["oneOf"].as_array().unwrap();
    let types: Vec<_> =
        variants.iter().map(|variant| variant["properties"]["type"]["const"].as_str().unwrap()).collect();
    assert_eq!(types, ["Cron", "Interval", "Once", "Immediate", "Event"]);
    assert!(variants.iter().all(|variant| variant["additionalProperties"] == false));
    assert_eq!(variants[1]["properties"]["seconds"]["maximum"], 316_224_000);
}

/// Text that gets past the first checks more often than chance would let it.
fn cron_like() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "*", "?", "L", "W", "LW", "#", "/", "-", ",", "@", "0", "1", "5", "7", "12", "31", "59", "60",
        "2026", "65536", "MON", "sunday", "feb", "daily", "\u{e9}", "\u{130}", " ",
    ]);
    let field = prop::collection::vec(token, 0..5).prop_map(|tokens| tokens.concat());
    prop::collection::vec(field, 0..9).prop_map(|fields| fields.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn arbitrary_text_never_panics(expression in prop_oneof![".*", cron_like()], timezone in ".*") {
        let refusals = [
            CronSchedule::new(&expression, "Europe/Berlin").err(),
            CronSchedule::new("@daily", &timezone).err(),
            OnceSchedule::parse(&expression, None).err(),
            OnceSchedule::parse(&expression, Some(&timezone)).err(),
        ];
        for refusal in refusals.into_iter().flatten() {
            prop_assert!(!refusal.to_string().is_empty());
            prop_assert!(refusal.hint().is_none_or(|hint| !hint.is_empty()));
        }
    }

    #[test]
    fn what_was_accepted_answers_every_question(expression in cron_like(), seconds in any::<i32>()) {
        if let Ok(cron) = CronSchedule::new(&expression, "America/New_York") {
            let schedule = ScheduleType::Cron(cron);
            let now = chrono::DateTime::from_timestamp(seconds.into(), 0).unwrap();
            let next = schedule.following(now);
            prop_assert!(next.is_none_or(|next| next > now));
            prop_assert!(!schedule.describe().is_empty());
        }
    }
}
