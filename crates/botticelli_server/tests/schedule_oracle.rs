//! Cron schedules against slow, obvious oracles.
//!
//! The number of cases and the seed come from the environment: `SCHEDULE_CASES` (default 2,000; a long run takes
//! 100,000 and `--release`) and `SCHEDULE_SEED`. A failure prints the seed that replays it alone.

use std::fmt::Write as _;
use std::ops::{Range, RangeInclusive};

use botticelli_server::schedule::{
    CronProblem, CronSchedule, Fold, Gap, Missed, ScheduleError, ScheduleType,
};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Every second of ± 3 days around a change of the clocks, in any zone, from 1970 to 2100: the schedule has exactly
/// the occurrences that a walk over all seconds finds.
#[test]
fn around_clock_changes_a_schedule_has_exactly_the_occurrences_it_should_have() {
    const CASES_PER_WINDOW: u64 = 4; // Laying out the seconds of a window costs more than a case.
    let windows = cases().div_ceil(CASES_PER_WINDOW);
    let zones = Zones::all();
    let mut seen = Seen::default();
    for seed in (0..windows).map(|index| seed().wrapping_add(index)) {
        let mut random = Random(seed);
        let window = Window::sample(&mut random, &zones);
        for _ in 0..CASES_PER_WINDOW {
            let case = Case::sample(&mut random, &window);
            let replay = format!("SCHEDULE_SEED={seed} SCHEDULE_CASES=1: {case:?} in {}", window.zone);
            check(&case, &window, &mut random, &mut seen, &replay);
        }
    }
    println!("{windows} windows of {CASES_PER_WINDOW} cases from SCHEDULE_SEED={}: {seen:?}", seed());
    // The cases must meet what they are for.
    if windows >= 500 {
        let often = windows * CASES_PER_WINDOW / 50;
        assert!(seen.occurrences > 100 * often && seen.in_gap > often && seen.in_fold > often, "{seen:?}");
    }
}

/// What a long time holds is the same, however one looks at it.
#[test]
fn counting_missed_occurrences_is_the_same_as_walking_over_them() {
    let zones = Zones::all();
    for seed in (0..cases() / 4).map(|index| seed().wrapping_add(index)) {
        let mut random = Random(seed);
        let name = &random.pick(&zones.0).0;
        let start = random.within(0..=4_000_000_000);
        let expression = Expression::sample(&mut random, civil_date(start / DAY), 0);
        let fold = if expression.elapsed { Fold::First } else { *random.pick(&FOLDS) };
        let gap = *random.pick(&GAPS);
        let Ok(cron) = CronSchedule::new(&expression.text, name) else { continue };
        let schedule = ScheduleType::Cron(cron.with_policy(gap, fold).unwrap());
        let Some(first) = schedule.first_occurrence(instant(start)) else { continue };
        let replay =
            format!("SCHEDULE_SEED={seed} SCHEDULE_CASES=4: {} {gap:?} {fold:?} in {name}", expression.text);
        let mut latest = first;
        for count in 1..200 {
            assert_eq!(schedule.occurrences_until(first, latest), Some(Missed { count, latest }), "{replay}");
            let Some(next) = schedule.following(latest) else { break };
            let just_before = next - chrono::TimeDelta::microseconds(1);
            assert_eq!(
                schedule.occurrences_until(first, just_before),
                Some(Missed { count, latest }),
                "{replay}"
            );
            latest = next;
        }
    }
}

/// Where both can say it, the grammar means what it means in croner, whose 6 and 7 fields are those of Quartz.
#[test]
fn in_utc_the_grammar_agrees_with_croner() {
    let mut compared = 0;
    for seed in (0..cases()).map(|index| seed().wrapping_add(index)) {
        let mut random = Random(seed);
        let start = random.within(0..=3_000_000_000);
        let expression = Expression::sample(&mut random, civil_date(start / DAY), start.rem_euclid(DAY));
        if !expression.croner_agrees {
            continue;
        }
        let text = &expression.text;
        let theirs = croner_parser(text).parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let Ok(ours) = CronSchedule::new(text, "UTC") else { continue };
        let ours = ScheduleType::Cron(ours);
        let mut time = instant(start);
        for _ in 0..5 {
            let next = theirs.find_next_occurrence(&time, false).ok().filter(|next| next.year() < 2200);
            assert_eq!(
                ours.following(time),
                next,
                "SCHEDULE_SEED={seed} SCHEDULE_CASES=1: {text} after {time}"
            );
            compared += 1;
            let Some(next) = next else { break };
            time = next;
        }
    }
    println!("{compared} occurrences compared from SCHEDULE_SEED={}", seed());
    assert!(compared >= cases(), "only {compared} occurrences compared");
}

fn croner_parser(text: &str) -> croner::parser::CronParser {
    use croner::parser::{CronParser, Seconds, Year};
    let posix = text.split(' ').count() == 5;
    CronParser::builder()
        .seconds(if posix { Seconds::Disallowed } else { Seconds::Required })
        .year(if posix { Year::Disallowed } else { Year::Optional })
        .alternative_weekdays(!posix)
        .dom_and_dow(!posix)
        .sloppy_ranges(true)
        .build()
}

fn check(case: &Case, window: &Window, random: &mut Random, seen: &mut Seen, replay: &str) {
    let expected = window.occurrences(case, seen);
    seen.occurrences += expected.len() as u64;
    let cron = match CronSchedule::new(&case.expression.text, &window.zone) {
        Ok(cron) => cron.with_policy(case.gap, case.fold).unwrap(),
        Err(ScheduleError::Cron { problem: CronProblem::NeverMatches, .. }) => {
            seen.never += 1;
            return assert!(expected.is_empty(), "{expected:?}: {replay}");
        }
        Err(error) => panic!("{error}: {replay}"),
    };
    let schedule = ScheduleType::Cron(cron);
    let after = |time| expected.get(expected.partition_point(|&found| found <= time)).copied();
    let follows = |time: i64| {
        let following = schedule.following(instant(time)).map(|time| time.timestamp());
        let following = following.filter(|time| time <= window.inner().end());
        assert_eq!(following, after(time), "following {time}: {replay}");
    };
    follows(window.inner().start() - 1);
    // All of them, or, of very many, those around the change and some more.
    let change = expected.partition_point(|&time| time < window.change);
    let some = if expected.len() < 1_500 {
        0..expected.len()
    } else {
        change.saturating_sub(500)..(change + 500).min(expected.len())
    };
    expected[some].iter().for_each(|&time| follows(time));
    for _ in 0..50 {
        let (one, other) = (random.within(window.inner()), random.within(window.inner()));
        follows(one);
        let (first, until) = (after(one.min(other)), one.max(other));
        let Some(first) = first else { continue };
        let missed: Vec<_> = expected.iter().filter(|&&time| (first..=until).contains(&time)).collect();
        let expected =
            missed.last().map(|&&latest| Missed { count: missed.len() as u64, latest: instant(latest) });
        let found = schedule.occurrences_until(instant(first), instant(until));
        assert_eq!(found, expected, "from {first} until {until}: {replay}");
    }
}

/// What the cases met, to see that they are not empty.
#[derive(Debug, Default)]
struct Seen {
    occurrences: u64,
    never: usize,
    in_gap: u64,
    in_fold: u64,
}

#[derive(Debug)]
struct Case {
    expression: Expression,
    gap: Gap,
    fold: Fold,
}

const GAPS: [Gap; 2] = [Gap::RunAfter, Gap::Skip];
const FOLDS: [Fold; 3] = [Fold::First, Fold::Second, Fold::Both];

impl Case {
    fn sample(random: &mut Random, window: &Window) -> Self {
        // Near what the clock shows before or after the change.
        let civil = random.pick(&window.shows) + random.within(-2 * HOUR..=2 * HOUR);
        let expression = Expression::sample(random, civil_date(civil.div_euclid(DAY)), civil.rem_euclid(DAY));
        let fold = *random.pick(if expression.elapsed { &FOLDS[..1] } else { &FOLDS });
        Self { expression, gap: *random.pick(&GAPS), fold }
    }
}

/// The seconds around a change of the clocks, and what the clock shows in each.
struct Window {
    zone: String,
    change: i64,
    /// What the clock shows before and after the change.
    shows: [i64; 2],
    first_civil: i64,
    /// For each civil second from `first_civil` on.
    civil: Vec<Civil>,
}

/// When the clock shows a civil second.
#[derive(Clone, Copy)]
enum Civil {
    /// At these two instants, which are the same outside folds.
    Shown { first: i64, last: i64 },
    /// Never: the next instant shows something later (if it is still in the window).
    Gap { end: Option<i64> },
}

impl Window {
    fn sample(random: &mut Random, zones: &Zones) -> Self {
        let (zone, time_zone, changes) = random.pick(&zones.0);
        let change =
            if changes.is_empty() { random.within(0..=4_000_000_000) } else { *random.pick(changes) };
        // More than is looked at, so that a gap or fold at the edge is seen whole.
        let (first, last) = (change - 4 * DAY - HOUR, change + 4 * DAY + HOUR);
        let (first_civil, last_civil) = (first - DAY, last + DAY);
        let mut civil = vec![Civil::Gap { end: None }; (last_civil - first_civil) as usize];
        for_each_second(time_zone, first..last, |instant, shows| {
            let place = &mut civil[(shows - first_civil) as usize];
            *place = match *place {
                Civil::Gap { .. } => Civil::Shown { first: instant, last: instant },
                Civil::Shown { first, .. } => Civil::Shown { first, last: instant },
            };
        });
        let mut next = None;
        for place in civil.iter_mut().rev() {
            match place {
                Civil::Shown { first, .. } => next = Some(*first),
                Civil::Gap { end } => *end = next,
            }
        }
        let shows = [change - 1, change].map(|instant| instant + offset(time_zone, instant));
        Self { zone: zone.clone(), change, shows, first_civil, civil }
    }

    /// The seconds that are compared.
    fn inner(&self) -> RangeInclusive<i64> {
        self.change - 3 * DAY..=self.change + 3 * DAY
    }

    /// The definition of a cron schedule, word by word.
    fn occurrences(&self, case: &Case, seen: &mut Seen) -> Vec<i64> {
        let mut occurrences = Vec::new();
        self.for_each_match(&case.expression, |civil| {
            match (civil, case.expression.elapsed, case.gap, case.fold) {
                (Civil::Shown { first, last }, true, _, _) => occurrences.extend([first, last]),
                (Civil::Shown { first, .. }, false, _, Fold::First) => occurrences.push(first),
                (Civil::Shown { last, .. }, false, _, Fold::Second) => occurrences.push(last),
                (Civil::Shown { first, last }, false, _, Fold::Both) => occurrences.extend([first, last]),
                (Civil::Gap { end }, false, Gap::RunAfter, _) => occurrences.extend(end),
                (Civil::Gap { .. }, true, _, _) | (Civil::Gap { .. }, false, Gap::Skip, _) => {}
            }
            match civil {
                Civil::Shown { first, last } => seen.in_fold += u64::from(first < last),
                Civil::Gap { end } => seen.in_gap += u64::from(end == Some(self.change)),
            }
        });
        occurrences.retain(|time| self.inner().contains(time));
        occurrences.sort_unstable();
        occurrences.dedup();
        occurrences
    }

    fn for_each_match(&self, expression: &Expression, mut with: impl FnMut(Civil)) {
        let last_civil = self.first_civil + self.civil.len() as i64 - 1;
        for day in self.first_civil.div_euclid(DAY)..=last_civil.div_euclid(DAY) {
            if !expression.matches_date(civil_date(day)) {
                continue;
            }
            for hour in (0..24).filter(|&hour| expression.hours[hour]) {
                for minute in (0..60).filter(|&minute| expression.minutes[minute]) {
                    for second in (0..60).filter(|&second| expression.seconds[second]) {
                        let civil = day * DAY + (hour * 3600 + minute * 60 + second) as i64;
                        self.civil
                            .get((civil - self.first_civil) as usize)
                            .copied()
                            .into_iter()
                            .for_each(&mut with);
                    }
                }
            }
        }
    }
}

/// Each second of a time, and what the clock shows then. jiff is asked at every quarter of an hour, and at every
/// second of a quarter in which the offset changed.
fn for_each_second(zone: &TimeZone, instants: Range<i64>, mut with: impl FnMut(i64, i64)) {
    for quarter in instants.step_by(900) {
        let (start, end) = (offset(zone, quarter), offset(zone, quarter + 900));
        for instant in quarter..quarter + 900 {
            with(instant, instant + if start == end { start } else { offset(zone, instant) });
        }
    }
}

fn offset(zone: &TimeZone, instant: i64) -> i64 {
    zone.to_offset(Timestamp::from_second(instant).unwrap()).seconds().into()
}

/// All zones with their changes from 1970 to 2100.
struct Zones(Vec<(String, TimeZone, Vec<i64>)>);

impl Zones {
    fn all() -> Self {
        let database = TimeZoneDatabase::bundled();
        let (from, to) = (civil_day(1970) * DAY, civil_day(2101) * DAY);
        let zone = |name: String| {
            let zone = database.get(&name).unwrap();
            let changes = zone.following(Timestamp::from_second(from).unwrap());
            let changes = changes.map(|change| change.timestamp().as_second());
            let changes = changes.take_while(|&change| change < to).collect();
            (name, zone, changes)
        };
        Self(database.available().map(|name| zone(name.to_string())).collect())
    }
}

/// An expression, and independently what it means.
#[derive(Default)]
struct Expression {
    text: String,
    seconds: Vec<bool>,
    minutes: Vec<bool>,
    hours: Vec<bool>,
    days: Vec<Day>,
    months: Vec<bool>,
    weekdays: Vec<Weekday>,
    years: Vec<bool>,
    elapsed: bool,
    either: bool,
    croner_agrees: bool,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

#[derive(Clone, Copy)]
enum Day {
    Number(usize),
    NearestWeekday(u32),
    BeforeLast(u32),
    LastWeekday,
}

/// 0 = Sunday.
#[derive(Clone, Copy)]
enum Weekday {
    Every(u32),
    Nth(u32, u32),
    Last(u32),
}

impl Expression {
    /// A random expression that often matches that date, around that time of day.
    fn sample(random: &mut Random, date: NaiveDate, time: i64) -> Self {
        let fields = *random.pick(&[5, 6, 7, 7, 7]);
        let mut made = Self { croner_agrees: true, ..Self::default() };
        let second = if random.chance(60) { "0".to_owned() } else { String::new() };
        let (second, seconds) = if fields == 5 || !second.is_empty() {
            ("0".to_owned(), just(0, 60))
        } else {
            field(random, 0, 59, time % 60)
        };
        let (minute, minutes) = field(random, 0, 59, time / 60 % 60);
        let (hour, hours) = field(random, 0, 23, time / HOUR);
        let (day, days) = made.day_field(random, date);
        let (month, months) = month_field(random, date);
        let (weekday, weekdays) = made.weekday_field(random, date, fields == 5);
        let (year, years) = if fields < 7 || random.chance(70) {
            ("*".to_owned(), vec![true; 2200])
        } else {
            field(random, 1970, 2199, date.year().clamp(1970, 2199).into())
        };
        let open = |field: &str| field.starts_with('*') || field == "?";
        let exactly_open = |field: &str| field == "*" || field == "?";
        made.elapsed = minute.starts_with('*') || hour.starts_with('*');
        made.either = fields == 5 && !open(&day) && !open(&weekday);
        // croner's star rule looks for a lone star, and its years begin elsewhere.
        made.croner_agrees &= !year.contains("*/");
        made.croner_agrees &=
            fields > 5 || (open(&day) == exactly_open(&day) && open(&weekday) == exactly_open(&weekday));
        made.text = match fields {
            5 => [minute, hour, day, month, weekday].join(" "),
            6 => [second, minute, hour, day, month, weekday].join(" "),
            _ => [second, minute, hour, day, month, weekday, year].join(" "),
        };
        Self { seconds, minutes, hours, days, months, weekdays, years, ..made }
    }

    fn day_field(&mut self, random: &mut Random, date: NaiveDate) -> (String, Vec<Day>) {
        let numbers = |set: Vec<bool>| (1..=31).filter(|&day| set[day]).map(Day::Number).collect::<Vec<_>>();
        if random.chance(55) {
            return (random.pick(&["*", "?"]).to_string(), numbers(vec![true; 32]));
        }
        let (mut text, mut days) = (String::new(), Vec::new());
        if random.chance(40) {
            let day = near(random, 1, 31, date.day().into()) as u32;
            let (special, meaning) = match random.within(0..=3) {
                0 => ("L".to_owned(), Day::BeforeLast(0)),
                1 => ("LW".to_owned(), Day::LastWeekday),
                2 => (format!("{day}W"), Day::NearestWeekday(day)),
                _ => (format!("L-{}", day.min(30)), Day::BeforeLast(day.min(30))),
            };
            self.croner_agrees &= !special.contains('-');
            text.push_str(&random.case(&special));
            days.push(meaning);
        }
        if text.is_empty() || random.chance(30) {
            // croner keeps `L`, `W` and numbers in one place, where they get in each other's way.
            self.croner_agrees &= text.is_empty();
            let (more, set) = field(random, 1, 31, date.day().into());
            write!(text, "{}{more}", if text.is_empty() { "" } else { "," }).unwrap();
            days.extend(numbers(set));
        }
        (text, days)
    }

    fn weekday_field(&mut self, random: &mut Random, date: NaiveDate, posix: bool) -> (String, Vec<Weekday>) {
        if random.chance(55) {
            return (random.pick(&["*", "?"]).to_string(), (0..7).map(Weekday::Every).collect());
        }
        let (mut items, mut weekdays) = (Vec::new(), Vec::new());
        for _ in 0..random.within(1..=3) {
            let weekday = if random.chance(50) {
                date.weekday().num_days_from_sunday()
            } else {
                random.within(0..=6) as u32
            };
            let to = random.within(0..=6) as u32;
            let [name, end] = [weekday, to].map(|weekday| weekday_name(random, weekday, posix));
            self.croner_agrees &= name.len() <= 3 && end.len() <= 3;
            match random.within(0..=4) {
                0 => {
                    let nth = random.within(1..=5) as u32;
                    items.push(format!("{name}#{nth}"));
                    weekdays.push(Weekday::Nth(weekday, nth));
                }
                1 => {
                    items.push(format!("{name}L"));
                    weekdays.push(Weekday::Last(weekday));
                }
                2 => {
                    // Over the end of the week where `to` comes first, which croner refuses, as it does some names.
                    self.croner_agrees &= weekday <= to && to > 0 && name != "7";
                    // Sunday is one day, except that 0-7 is all of them.
                    let days =
                        if end == "7" && weekday == 0 && name != "7" { 7 } else { (to + 7 - weekday) % 7 };
                    items.push(format!("{name}-{end}"));
                    weekdays.extend((0..=days).map(|n| Weekday::Every((weekday + n) % 7)));
                }
                _ => {
                    items.push(name);
                    weekdays.push(Weekday::Every(weekday));
                }
            }
        }
        (items.join(","), weekdays)
    }

    fn matches_date(&self, date: NaiveDate) -> bool {
        let year = date.year();
        if !(1970..2200).contains(&year) || !self.years[year as usize] || !self.months[date.month() as usize]
        {
            return false;
        }
        let day = self.days.iter().any(|day| day.matches(date));
        let weekday = self.weekdays.iter().any(|weekday| weekday.matches(date));
        if self.either { day || weekday } else { day && weekday }
    }
}

impl Day {
    fn matches(self, date: NaiveDate) -> bool {
        let last = (28..=31).filter_map(|day| date.with_day(day)).max().unwrap();
        match self {
            Self::Number(day) => date.day() as usize == day,
            Self::BeforeLast(days) => last.day() - date.day() == days,
            Self::LastWeekday => {
                date == (22..=31).filter_map(|day| date.with_day(day)).filter(is_workday).max().unwrap()
            }
            // Of the working days of the month the nearest; of two, the one on the side of the weekend's day.
            Self::NearestWeekday(day) => date.with_day(day).is_some_and(|wanted| {
                let month = (1..=31).filter_map(|day| date.with_day(day)).filter(is_workday);
                date == month.min_by_key(|day| (*day - wanted).num_days().abs()).unwrap()
            }),
        }
    }
}

fn is_workday(date: &NaiveDate) -> bool {
    (1..=5).contains(&date.weekday().num_days_from_sunday())
}

impl Weekday {
    fn matches(self, date: NaiveDate) -> bool {
        let weekday = date.weekday().num_days_from_sunday();
        match self {
            Self::Every(wanted) => weekday == wanted,
            Self::Nth(wanted, nth) => weekday == wanted && date.day().div_ceil(7) == nth,
            Self::Last(wanted) => weekday == wanted && date.with_day(date.day() + 7).is_none(),
        }
    }
}

fn weekday_name(random: &mut Random, weekday: u32, posix: bool) -> String {
    let names = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    let name = names[weekday as usize];
    match random.within(0..=9) {
        0 => random.case(name),
        1..=4 => random.case(&name[..3]),
        _ if !posix => (weekday + 1).to_string(),
        _ if weekday == 0 => random.pick(&["0", "7"]).to_string(),
        _ => weekday.to_string(),
    }
}

fn month_field(random: &mut Random, date: NaiveDate) -> (String, Vec<bool>) {
    let names = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
    match random.within(0..=9) {
        0..=6 => ("*".to_owned(), vec![true; 13]),
        7 => (random.case(names[date.month0() as usize]), just(date.month() as usize, 13)),
        _ => field(random, 1, 12, date.month().into()),
    }
}

/// A field of numbers, and which numbers it means. It often has a number near `wanted`.
fn field(random: &mut Random, min: i64, max: i64, wanted: i64) -> (String, Vec<bool>) {
    let (mut items, mut set) = (Vec::new(), vec![false; max as usize + 1]);
    let count = *random.pick(&[1, 1, 1, 2, 4]);
    for _ in 0..count {
        let (one, other) = (near(random, min, max, wanted), near(random, min, max, wanted));
        let (from, to) = (one.min(other), one.max(other));
        let step = random.within(1..=(max - min).min(max));
        let (item, range, step) = match random.within(0..=11) {
            0 => ("*".to_owned(), min..=max, 1),
            1 => (format!("*/{step}"), min..=max, step),
            2 => (format!("{from}-{to}/{step}"), from..=to, step),
            3 => (format!("{from}/{step}"), from..=max, step),
            4 | 5 => (format!("{from}-{to}"), from..=to, 1),
            _ => (format!("{from}"), from..=from, 1),
        };
        range.step_by(step as usize).for_each(|number| set[number as usize] = true);
        items.push(item);
    }
    // A lone star is the star of the star rules; in a list croner reads it as something else.
    if items.len() > 1 && items.iter().any(|item| item == "*") {
        items = vec!["*".to_owned()];
    }
    (items.join(","), set)
}

fn near(random: &mut Random, min: i64, max: i64, wanted: i64) -> i64 {
    match random.within(0..=3) {
        0 => random.within(min..=max),
        1 => (wanted + random.within(-3..=3)).clamp(min, max),
        _ => wanted,
    }
}

fn just(number: usize, size: usize) -> Vec<bool> {
    (0..size).map(|index| index == number).collect()
}

fn instant(time: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(time, 0).unwrap()
}

fn civil_date(day: i64) -> NaiveDate {
    NaiveDate::from_epoch_days(day as i32).unwrap()
}

fn civil_day(year: i32) -> i64 {
    NaiveDate::from_yo_opt(year, 1).unwrap().to_epoch_days().into()
}

/// SplitMix64: small, and the same for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn within(&mut self, range: RangeInclusive<i64>) -> i64 {
        let size = (range.end() - range.start() + 1) as u64;
        range.start() + (self.next() % size) as i64
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[(self.next() % from.len() as u64) as usize]
    }

    fn case(&mut self, text: &str) -> String {
        match self.within(0..=2) {
            0 => text.to_uppercase(),
            1 => text.to_lowercase(),
            _ => text.to_owned(),
        }
    }
}

fn cases() -> u64 {
    from_environment("SCHEDULE_CASES").unwrap_or(2_000)
}

fn seed() -> u64 {
    from_environment("SCHEDULE_SEED").unwrap_or(20_261_123)
}

#[expect(clippy::disallowed_methods, reason = "how long to test, and what to replay, is the caller's choice")]
fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")))
}
