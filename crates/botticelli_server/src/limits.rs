//! Limits that an actor sets for itself: how often it posts to a destination, and in which hours.
//!
//! They are decided twice: when the post is written, and again when it is delivered. So they travel with the post, as
//! JSON.

use crate::schedule::jitter;
use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Timelike, Utc};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// The limits that travel with a post.
///
/// An unknown field is refused: a limit that this program does not know would otherwise be broken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliveryLimits {
    /// At most so many messages in any 24 hours (not: in a calendar day, which would allow twice as many around
    /// midnight).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_posts_per_day: Option<NonZeroU32>,
    /// At least so many minutes between two messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_interval_minutes: Option<NonZeroU32>,
    /// What happens to a message over these two limits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_over: WhenOver,
    /// Only in these hours. A message outside always waits for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What happens to a message that is over a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenOver {
    /// It waits for the first time that the limits allow.
    #[default]
    Defer,
    /// It is left out.
    Skip,
}

/// Whether a post may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Now.
    Now,
    /// Not before this time.
    Later(DateTime<Utc>),
    /// Not at all.
    Skip,
}

/// The span in which `max_posts_per_day` counts.
pub const DAY: TimeDelta = TimeDelta::hours(24);

impl DeliveryLimits {
    /// Decides for a post at `now`, given the times at which this task posted, or will post, to the destination.
    ///
    /// [`Verdict::Later`] is the earliest time at which everything holds, if nothing else is posted until then. Planned
    /// posts count like those before: a post is not squeezed in where it would push a planned one over a limit.
    pub fn verdict(&self, earlier: &[DateTime<Utc>], now: DateTime<Utc>) -> Verdict {
        let mut earlier = earlier.to_vec();
        earlier.sort_unstable();
        let mut at = now;
        // Each step goes to the next time at which a limit that is broken could hold again, so nothing allowed is
        // passed over. There are two such times for each earlier post, and one window a day; the bound is for a
        // window that can't be met.
        for _ in 0..2 * earlier.len() + 64 {
            let free = self.after_limits(&earlier, at);
            if free > at && self.when_over == WhenOver::Skip {
                return Verdict::Skip;
            }
            let open = self.window.as_ref().map_or(free, |window| window.open_from(free));
            if open == at {
                break;
            }
            at = open;
        }
        if at == now { Verdict::Now } else { Verdict::Later(at) }
    }

    /// How far back earlier posts matter.
    pub fn looks_back(&self) -> TimeDelta {
        self.interval().max(if self.max_posts_per_day.is_some() { DAY } else { TimeDelta::zero() })
    }

    /// `at`, or the next time at which a limit that is broken at `at` could hold again.
    fn after_limits(&self, earlier: &[DateTime<Utc>], at: DateTime<Utc>) -> DateTime<Utc> {
        let over = if self.is_too_many(earlier, at) {
            DAY
        } else if earlier.iter().any(|post| (at - *post).abs() < self.interval()) {
            self.interval()
        } else {
            return at;
        };
        earlier.iter().map(|post| *post + over).find(|again| *again > at).unwrap_or(at)
    }

    fn interval(&self) -> TimeDelta {
        TimeDelta::minutes(self.min_interval_minutes.map_or(0, |minutes| i64::from(minutes.get())))
    }

    /// Whether with a post at `at` some 24 hours have more posts than allowed. `earlier` is sorted.
    fn is_too_many(&self, earlier: &[DateTime<Utc>], at: DateTime<Utc>) -> bool {
        let Some(max) = self.max_posts_per_day else { return false };
        let max = max.get() as usize;
        let before = earlier.partition_point(|post| *post <= at);
        let with_this = |index: usize| match index.cmp(&before) {
            std::cmp::Ordering::Less => earlier.get(index),
            std::cmp::Ordering::Equal => Some(&at),
            std::cmp::Ordering::Greater => earlier.get(index - 1),
        };
        (before.saturating_sub(max)..=before)
            .filter_map(|first| Some(*with_this(first + max)? - *with_this(first)?))
            .any(|span| span < DAY)
    }
}

/// Hours of the day, on some days of the week, where somebody lives.
///
/// It is open while the clocks there show a time in it. So where clocks jump over the whole window it does not open
/// on that day, and where they are set back into it, it opens again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Opens at this local time.
    pub start: LocalTime,
    /// Closes at this local time: on the next day if it is not after `start`. Equal times make a whole day.
    pub end: LocalTime,
    /// The days on which it opens. An overnight window belongs to the day on which it opens.
    pub days: WindowDays,
    /// The IANA name of the time zone.
    pub timezone: Zone,
    /// Set when posts are to be spread over the window: where in it is a hash of this text and the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<String>,
}

/// Furthest that the next opening is looked for. A zone has skipped a whole day of the week (Samoa, 2011), so a window
/// of one day may stay closed for two weeks.
const FURTHEST_DAYS: u64 = 15;

impl Window {
    /// When in the window a post for `at` goes out: spread over what is left of it, if it is to be spread; else at
    /// once, or as soon as it opens. It depends on nothing else, so every node comes to the same.
    pub fn place(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        let opening = self.next(at, true).unwrap_or(at);
        match &self.spread {
            Some(seed) => opening + jitter(seed, opening, self.rest(opening)),
            None => opening,
        }
    }

    /// `at` where the window is open; else where [`Window::place`] puts it.
    fn open_from(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        if self.is_open(at) { at } else { self.place(at) }
    }

    /// Whether the clocks there show a time in the window.
    pub fn is_open(&self, at: DateTime<Utc>) -> bool {
        let local = self.timezone.local(at);
        let (time, date) = (local.time(), local.date());
        let opened_on = if self.start.0 < self.end.0 {
            (self.start.0 <= time && time < self.end.0).then_some(date)
        } else if time >= self.start.0 {
            Some(date)
        } else if time < self.end.0 {
            date.pred_opt()
        } else {
            None
        };
        opened_on.is_some_and(|date| self.days.has(date))
    }

    /// How long it stays open, less a second so that nothing falls on its very end.
    fn rest(&self, from: DateTime<Utc>) -> Duration {
        let end = self.next(from, false).unwrap_or(from).min(from + DAY);
        (end - from - TimeDelta::seconds(1)).to_std().unwrap_or_default()
    }

    /// The first time from `at` on at which the window is open, or closed. It opens and closes only where clocks show
    /// its start or end, and where they jump.
    fn next(&self, at: DateTime<Utc>, open: bool) -> Option<DateTime<Utc>> {
        let until = at + Days::new(FURTHEST_DAYS);
        let yesterday = self.timezone.local(at).date().pred_opt()?;
        let turns = yesterday
            .iter_days()
            .take(FURTHEST_DAYS as usize + 2)
            .flat_map(|date| [self.start, self.end].map(|time| date.and_time(time.0)))
            .flat_map(|local| self.timezone.instants(local));
        std::iter::once(at)
            .chain(turns)
            .chain(self.timezone.jumps(at, until))
            .filter(|turn| *turn >= at && self.is_open(*turn) == open)
            .min()
    }
}

/// A time of day, `HH:MM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct LocalTime(NaiveTime);

impl TryFrom<String> for LocalTime {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (hour, minute) = text.split_once(':').filter(|_| text.len() == 5).unwrap_or_default();
        let number =
            |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?;
        Option::zip(number(hour), number(minute))
            .and_then(|(hour, minute)| NaiveTime::from_hms_opt(hour, minute, 0))
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no time of day (allowed: \"00:00\" to \"23:59\")"))
    }
}

impl From<LocalTime> for String {
    fn from(time: LocalTime) -> String {
        time.to_string()
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0.hour(), self.0.minute())
    }
}

/// Days of the week; at least one. All of them by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "BTreeSet<Weekday>", into = "BTreeSet<Weekday>")]
#[schemars(with = "BTreeSet<Weekday>")]
pub struct WindowDays(BTreeSet<Weekday>);

impl WindowDays {
    fn has(&self, date: NaiveDate) -> bool {
        use chrono::Datelike;
        self.0.contains(&Weekday::from(date.weekday()))
    }
}

impl Default for WindowDays {
    fn default() -> Self {
        use Weekday::*;
        Self([Mon, Tue, Wed, Thu, Fri, Sat, Sun].into())
    }
}

impl TryFrom<BTreeSet<Weekday>> for WindowDays {
    type Error = &'static str;
    fn try_from(days: BTreeSet<Weekday>) -> Result<Self, Self::Error> {
        if days.is_empty() { Err("no days: the window would never open") } else { Ok(Self(days)) }
    }
}

impl From<WindowDays> for BTreeSet<Weekday> {
    fn from(days: WindowDays) -> Self {
        days.0
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Weekday {
    #[serde(alias = "monday")]
    Mon,
    #[serde(alias = "tuesday")]
    Tue,
    #[serde(alias = "wednesday")]
    Wed,
    #[serde(alias = "thursday")]
    Thu,
    #[serde(alias = "friday")]
    Fri,
    #[serde(alias = "saturday")]
    Sat,
    #[serde(alias = "sunday")]
    Sun,
}

impl From<chrono::Weekday> for Weekday {
    fn from(day: chrono::Weekday) -> Self {
        match day {
            chrono::Weekday::Mon => Self::Mon,
            chrono::Weekday::Tue => Self::Tue,
            chrono::Weekday::Wed => Self::Wed,
            chrono::Weekday::Thu => Self::Thu,
            chrono::Weekday::Fri => Self::Fri,
            chrono::Weekday::Sat => Self::Sat,
            chrono::Weekday::Sun => Self::Sun,
        }
    }
}

/// A time zone of the IANA data that is compiled in, the same on every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }
}

impl TryFrom<String> for Zone {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        match TimeZone::get(&name) {
            Ok(zone) => Ok(Self { name, zone }),
            Err(_) => Err(format!("unknown time zone {name:?} (allowed: IANA names like \"Europe/Berlin\")")),
        }
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.name
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// chrono outside, jiff inside: here is the border.
impl Zone {
    /// What the clocks there show.
    fn local(&self, at: DateTime<Utc>) -> chrono::NaiveDateTime {
        let offset = self.zone.to_offset(timestamp(at));
        at.naive_utc() + TimeDelta::seconds(i64::from(offset.seconds()))
    }

    /// When the clocks there show `local`: twice in a fold, never in a gap (then: when they jump over it).
    fn instants(&self, local: chrono::NaiveDateTime) -> Vec<DateTime<Utc>> {
        let Ok(local) = civil(local) else { return Vec::new() };
        let instant = self.zone.to_ambiguous_timestamp(local);
        [instant.earlier(), instant.later()].into_iter().flatten().map(chrono_time).collect()
    }

    /// When clocks there jump, between these times.
    fn jumps(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let jumps = self.zone.following(timestamp(from)).map(|jump| chrono_time(jump.timestamp()));
        jumps.take_while(|jump| *jump <= until).collect()
    }
}

fn timestamp(at: DateTime<Utc>) -> jiff::Timestamp {
    let bounds = (jiff::Timestamp::MIN.as_microsecond(), jiff::Timestamp::MAX.as_microsecond());
    jiff::Timestamp::from_microsecond(at.timestamp_micros().clamp(bounds.0, bounds.1)).unwrap_or_default()
}

fn chrono_time(at: jiff::Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.as_microsecond()).unwrap_or_default()
}

fn civil(local: chrono::NaiveDateTime) -> Result<jiff::civil::DateTime, jiff::Error> {
    use chrono::Datelike;
    let small = |number: u32| number as i8;
    jiff::civil::DateTime::new(
        local.year().try_into().unwrap_or(i16::MAX),
        small(local.month()),
        small(local.day()),
        small(local.hour()),
        small(local.minute()),
        small(local.second()),
        0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn limits(value: serde_json::Value) -> DeliveryLimits {
        serde_json::from_value(value).unwrap()
    }

    fn window(start: &str, end: &str, days: &[&str], timezone: &str) -> DeliveryLimits {
        let days = if days.is_empty() { json!(WindowDays::default()) } else { json!(days) };
        limits(json!({"window": {"start": start, "end": end, "days": days, "timezone": timezone}}))
    }

    #[test]
    fn without_limits_everything_goes_out_now() {
        let now = at("2026-03-01T12:00:00Z");
        assert_eq!(DeliveryLimits::default().verdict(&[now, now], now), Verdict::Now);
    }

    #[test]
    fn a_day_is_any_24_hours() {
        let two = limits(json!({"max_posts_per_day": 2}));
        let earlier = [at("2026-03-01T10:00:00Z"), at("2026-03-01T23:00:00Z")];
        assert_eq!(
            two.verdict(&earlier, at("2026-03-02T00:30:00Z")),
            Verdict::Later(at("2026-03-02T10:00:00Z")),
            "midnight changes nothing"
        );
        assert_eq!(two.verdict(&earlier, at("2026-03-02T10:00:00Z")), Verdict::Now);
    }

    #[test]
    fn a_planned_post_keeps_its_distance_too() {
        let limits = limits(json!({"min_interval_minutes": 60}));
        let planned = [at("2026-03-01T12:30:00Z")];
        assert_eq!(
            limits.verdict(&planned, at("2026-03-01T12:00:00Z")),
            Verdict::Later(at("2026-03-01T13:30:00Z"))
        );
        assert_eq!(limits.verdict(&planned, at("2026-03-01T11:30:00Z")), Verdict::Now);
    }

    #[test]
    fn over_a_limit_is_skipped_where_the_actor_says_so_but_a_closed_window_only_waits() {
        let mut limits = window("09:00", "17:00", &[], "UTC");
        limits.max_posts_per_day = NonZeroU32::new(1);
        limits.when_over = WhenOver::Skip;
        let now = at("2026-03-01T08:00:00Z");
        assert_eq!(limits.verdict(&[], now), Verdict::Later(at("2026-03-01T09:00:00Z")));
        assert_eq!(limits.verdict(&[at("2026-03-01T07:00:00Z")], now), Verdict::Skip);
    }

    #[test]
    fn window_count_and_interval_hold_together() {
        let mut limits = window("09:00", "10:00", &[], "Europe/Berlin");
        limits.max_posts_per_day = NonZeroU32::new(2);
        limits.min_interval_minutes = NonZeroU32::new(45);
        let earlier = [at("2026-03-01T08:00:00Z"), at("2026-03-01T08:45:00Z")];
        // 10:00 there is closed; tomorrow 09:00 frees the first of today's two.
        let verdict = limits.verdict(&earlier, at("2026-03-01T08:50:00Z"));
        assert_eq!(verdict, Verdict::Later(at("2026-03-02T08:00:00Z")));
    }

    #[test]
    fn an_overnight_window_belongs_to_the_day_on_which_it_opens() {
        let friday_night = window("22:00", "02:00", &["friday"], "UTC");
        assert_eq!(friday_night.verdict(&[], at("2026-03-07T01:59:59Z")), Verdict::Now, "a Saturday");
        let next = Verdict::Later(at("2026-03-13T22:00:00Z"));
        assert_eq!(friday_night.verdict(&[], at("2026-03-07T02:00:00Z")), next);
        assert_eq!(
            friday_night.verdict(&[], at("2026-03-06T01:00:00Z")),
            Verdict::Later(at("2026-03-06T22:00:00Z"))
        );
    }

    #[test]
    fn clocks_that_jump_are_followed() {
        // Berlin 2026: 02:00 -> 03:00 on March 29, 03:00 -> 02:00 on October 25.
        let early = window("02:30", "04:00", &[], "Europe/Berlin");
        assert_eq!(
            early.verdict(&[], at("2026-03-29T00:00:00Z")),
            Verdict::Later(at("2026-03-29T01:00:00Z"))
        );
        let lost = window("02:15", "02:45", &[], "Europe/Berlin");
        assert_eq!(lost.verdict(&[], at("2026-03-29T00:00:00Z")), Verdict::Later(at("2026-03-30T00:15:00Z")));
        let twice = window("02:15", "02:45", &[], "Europe/Berlin");
        assert_eq!(
            twice.verdict(&[], at("2026-10-25T00:50:00Z")),
            Verdict::Later(at("2026-10-25T01:15:00Z"))
        );
    }

    #[test]
    fn what_is_stored_stays_readable() {
        let json = json!({
            "max_posts_per_day": 3, "min_interval_minutes": 15, "when_over": "skip",
            "window": {"start": "22:00", "end": "06:30", "days": ["mon", "sun"], "timezone": "Asia/Tokyo", "spread": "a"}
        });
        assert_eq!(serde_json::to_value(limits(json.clone())).unwrap(), json);
        assert_eq!(serde_json::to_value(DeliveryLimits::default()).unwrap(), json!({}));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |value: serde_json::Value| {
            serde_json::from_value::<DeliveryLimits>(value).unwrap_err().to_string()
        };
        let window = |start: &str, days: &[&str], zone: &str| {
            error(json!({"window": {"start": start, "end": "10:00", "days": days, "timezone": zone}}))
        };
        for start in ["24:00", "9:00", "09:60", "+9:00", "", "09:00:00", "noon!"] {
            let message = window(start, &["mon"], "UTC");
            assert!(message.contains(&format!("{start:?} is no time of day")), "{message}");
        }
        assert!(window("09:00", &[], "UTC").contains("no days"));
        assert!(window("09:00", &["mon"], "Berlin").contains("unknown time zone \"Berlin\""));
        assert!(error(json!({"max_posts_per_day": 0})).contains("nonzero"));
        assert!(error(json!({"per_hour": 1})).contains("unknown field `per_hour`"));
    }

    /// The same rule, said slowly: every limit at this one minute.
    fn holds(limits: &DeliveryLimits, earlier: &[DateTime<Utc>], at: DateTime<Utc>) -> bool {
        let mut all = earlier.to_vec();
        all.push(at);
        let close = earlier.iter().filter(|post| (at - **post).abs() < limits.interval()).count();
        let crowded = all.iter().filter(|from| (at - **from) < DAY && **from <= at).any(|from| {
            let max = limits.max_posts_per_day.map_or(usize::MAX, |max| max.get() as usize);
            all.iter().filter(|post| *post >= from && **post - *from < DAY).count() > max
        });
        close == 0 && !crowded && limits.window.as_ref().is_none_or(|window| window.is_open(at))
    }

    fn zones() -> impl Strategy<Value = String> {
        let names = [
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "Asia/Kathmandu",
            "Pacific/Apia",
        ];
        proptest::sample::select(names.to_vec()).prop_map(str::to_owned)
    }

    fn any_limits() -> impl Strategy<Value = DeliveryLimits> {
        let time =
            (0u32..24, 0u32..4).prop_map(|(h, m)| LocalTime(NaiveTime::from_hms_opt(h, m * 15, 0).unwrap()));
        let days =
            proptest::sample::subsequence(WindowDays::default().0.into_iter().collect::<Vec<_>>(), 1..=7);
        let window = (time.clone(), time, days, zones()).prop_map(|(start, end, days, zone)| Window {
            start,
            end,
            days: WindowDays(days.into_iter().collect()),
            timezone: Zone::try_from(zone).unwrap(),
            spread: None,
        });
        (proptest::option::of(1u32..4), proptest::option::of(1u32..300), proptest::option::of(window))
            .prop_map(|(count, minutes, window)| DeliveryLimits {
                max_posts_per_day: count.and_then(NonZeroU32::new),
                min_interval_minutes: minutes.and_then(NonZeroU32::new),
                when_over: WhenOver::Defer,
                window,
            })
    }

    /// Whole minutes around a change of clocks in Berlin, or any time of the years.
    fn any_minute() -> impl Strategy<Value = DateTime<Utc>> {
        let base = prop_oneof![
            Just(at("2026-03-28T00:00:00Z")),
            Just(at("2026-10-24T00:00:00Z")),
            Just(at("2011-12-28T00:00:00Z"))
        ];
        (base, 0i64..5 * 24 * 60).prop_map(|(base, minutes)| base + TimeDelta::minutes(minutes))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn the_verdict_is_the_first_minute_at_which_everything_holds(
            limits in any_limits(),
            now in any_minute(),
            offsets in proptest::collection::vec(-3000i64..3000, 0..7),
        ) {
            let earlier: Vec<_> = offsets.iter().map(|offset| now + TimeDelta::minutes(*offset)).collect();
            let first = (0..40 * 24 * 60).map(|m| now + TimeDelta::minutes(m)).find(|m| holds(&limits, &earlier, *m));
            let expected = match first {
                Some(first) if first == now => Verdict::Now,
                Some(first) => Verdict::Later(first),
                None => return Err(TestCaseError::reject("never in 40 days")),
            };
            prop_assert_eq!(limits.verdict(&earlier, now), expected);
        }

        #[test]
        fn a_spread_post_stays_in_its_window(limits in any_limits(), now in any_minute(), seed in ".*") {
            if let Some(mut window) = limits.window {
                window.spread = Some(seed);
                let place = window.place(now);
                prop_assert!(place >= now && window.is_open(place));
                prop_assert_eq!(place, window.place(now));
            }
        }
    }
}
