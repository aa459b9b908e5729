use super::*;
use botticelli_server::clock::Clock;
use botticelli_testkit::clock::ManualClock;
use futures::FutureExt;
use proptest::prelude::*;
use std::sync::Mutex;

const SEND: &str = "POST /channels/{}/messages";
const CROSSPOST: &str = "POST /channels/{}/messages/{}/crosspost";

fn start() -> Moment {
    DateTime::from_timestamp(1_900_000_000, 0).expect("a time")
}

fn after(milliseconds: i64) -> Moment {
    start() + TimeDelta::milliseconds(milliseconds)
}

struct Desk {
    limits: Limits,
    owner: Owner,
}

/// The limits of a bot that is under way, so that several requests may be.
fn desk() -> Desk {
    desk_with(LimitSettings::default())
}

fn desk_with(settings: LimitSettings) -> Desk {
    let most = settings.in_flight;
    let mut limits = Limits::new(settings);
    let owner = limits.new_owner();
    limits.owner_mut(owner).allowed = most;
    Desk { limits, owner }
}

impl Desk {
    fn lane(&self, route: &'static str, channel: u64) -> Lane {
        Lane { owner: self.owner, route, major: Major::Channel(channel) }
    }

    fn ask(&mut self, channel: u64) -> Ticket {
        self.limits.enqueue(self.lane(SEND, channel))
    }

    fn one(&mut self, channel: u64, now: Moment) -> Grant {
        self.ask(channel);
        let mut grants = self.limits.grant(now);
        assert_eq!(grants.len(), 1);
        grants.remove(0)
    }

    fn granted(&mut self, now: Moment) -> Vec<Ticket> {
        self.limits.grant(now).into_iter().map(|grant| grant.ticket).collect()
    }
}

fn ok(remaining: u32, reset_after: f64) -> Ended {
    Ended::Answered(Seen {
        status: 200,
        class: None,
        retry_after: None,
        rate: RateHeaders {
            any: true,
            limit: Some(5),
            remaining: Some(remaining),
            reset_after: Some(Duration::from_secs_f64(reset_after)),
            bucket: Some("abc".into()),
            scope: None,
        },
    })
}

fn limited(scope: Scope, retry_after: f64) -> Seen {
    Seen {
        status: 429,
        class: Some(Class::RateLimited),
        retry_after: Some(Duration::from_secs_f64(retry_after)),
        rate: RateHeaders { any: true, scope: Some(scope), ..RateHeaders::default() },
    }
}

fn blocked(retry_after: Option<Duration>) -> Ended {
    let rate = RateHeaders::default();
    Ended::Answered(Seen { status: 429, class: Some(Class::Blocked), retry_after, rate })
}

#[test]
fn an_unknown_bucket_lets_one_request_go_until_its_headers_are_known() {
    let mut desk = desk();
    let first = desk.one(1, start());
    let second = desk.ask(1);
    let elsewhere = desk.ask(2);
    assert_eq!(desk.granted(start()), [elsewhere]);
    assert_eq!(desk.limits.next_wake(start()), None, "only an answer helps");
    desk.limits.end(&first, &ok(4, 5.0), after(80));
    assert_eq!(desk.granted(after(80)), [second]);
}

#[test]
fn an_empty_window_is_waited_for_and_not_a_moment_less() {
    let mut desk = desk();
    let first = desk.one(1, start());
    desk.limits.end(&first, &ok(0, 0.250), after(10));
    let second = desk.ask(1);
    assert!(desk.granted(after(259)).is_empty());
    let wake = desk.limits.next_wake(after(10)).expect("a time");
    assert_eq!(wake, after(261), "rounded up, as Discord may have rounded down");
    assert_eq!(desk.granted(wake), [second]);
}

#[test]
fn routes_that_share_a_bucket_share_its_window() {
    let mut desk = desk();
    let edit = desk.lane("PATCH /channels/{}/messages/{}", 1);
    desk.limits.enqueue(edit);
    let grants = desk.limits.grant(start());
    desk.limits.end(&grants[0], &ok(1, 5.0), start());
    let first = desk.one(1, start());
    desk.limits.end(&first, &ok(0, 5.0), start());
    desk.limits.enqueue(edit);
    assert!(desk.granted(after(4_000)).is_empty());
    assert_eq!(desk.granted(after(5_001)).len(), 1);
}

#[test]
fn a_refused_bucket_holds_up_nobody_else() {
    let mut desk = desk();
    let first = desk.one(1, start());
    desk.limits.end(&first, &Ended::Answered(limited(Scope::User, 30.0)), start());
    let (held, free) = (desk.ask(1), desk.ask(2));
    assert_eq!(desk.granted(start()), [free]);
    assert!(desk.granted(after(30_000)).is_empty());
    assert_eq!(desk.granted(after(30_001)), [held]);
}

#[test]
fn a_hidden_limit_pauses_only_its_own_route() {
    for seen in [
        limited(Scope::Shared, 1163.0),
        Seen { class: Some(Class::Later), ..limited(Scope::User, 1163.0) },
        Seen {
            rate: RateHeaders { remaining: Some(3), ..limited(Scope::User, 1.0).rate },
            ..limited(Scope::User, 1163.0)
        },
    ] {
        let mut desk = desk();
        let send = desk.one(1, start());
        desk.limits.end(&send, &ok(3, 5.0), start());
        let crosspost = desk.lane(CROSSPOST, 1);
        desk.limits.enqueue(crosspost);
        let grants = desk.limits.grant(start());
        let rate = RateHeaders { bucket: Some("abc".into()), ..seen.rate.clone() };
        desk.limits.end(&grants[0], &Ended::Answered(Seen { rate, ..seen }), start());
        desk.limits.enqueue(crosspost);
        let send = desk.ask(1);
        assert_eq!(desk.granted(after(6_000)), [send]);
        assert_eq!(desk.limits.earliest(crosspost, start()), Some(after(1_163_001)));
    }
}

#[test]
fn a_global_refusal_pauses_the_token_and_then_one_request_goes_first() {
    let mut desk = desk();
    let first = desk.one(1, start());
    let notices = desk.limits.end(&first, &Ended::Answered(limited(Scope::Global, 2.0)), start());
    assert_eq!(notices, [Notice::Global(Duration::from_secs(2))]);
    let tickets: Vec<_> = (2..6).map(|channel| desk.ask(channel)).collect();
    let webhook = Lane { owner: Owner::NOBODY, route: "POST /webhooks/{}/{}", major: Major::Webhook(9) };
    let webhook = desk.limits.enqueue(webhook);
    assert_eq!(desk.granted(after(1_000)), [webhook], "another owner's requests go on");
    let grants = desk.limits.grant(after(2_001));
    assert_eq!(grants.len(), 1, "no herd");
    desk.limits.end(&grants[0], &ok(4, 5.0), after(2_050));
    assert_eq!(desk.granted(after(2_050)), tickets[1..3]);
}

/// A token of which Discord takes `limit` requests in each window of so many milliseconds, for so long; then ours again.
/// Returns how many were taken and refused until the end, and after how long our own rate was reached again.
fn lower_limit(limit: u32, window: i64, lasts: TimeDelta, end: TimeDelta) -> (u32, u32, Option<TimeDelta>) {
    let mut desk = desk();
    let (mut now, mut taken, mut refused, mut recovered) = (start(), 0, 0, None);
    let (mut opened, mut used) = (start(), 0);
    for channel in 0..20 {
        desk.ask(channel);
    }
    while now < start() + end {
        let grants = desk.limits.grant(now);
        let arrived = now + TimeDelta::milliseconds(20);
        let is_fast = grants.len() > 1 || desk.limits.owner(desk.owner).caution.hold(now).is_none();
        if now >= start() + lasts && is_fast && recovered.is_none() {
            recovered = Some(now - start() - lasts);
        }
        for grant in &grants {
            if arrived >= opened + TimeDelta::milliseconds(window) {
                (opened, used) = (arrived, 0);
            }
            let is_low = arrived < start() + lasts;
            let ended = if is_low && used >= limit {
                refused += 1;
                let wait = opened + TimeDelta::milliseconds(window) - arrived;
                Ended::Answered(limited(Scope::Global, wait.as_seconds_f64()))
            } else {
                used += 1;
                taken += 1;
                ok(4, 1.0)
            };
            desk.limits.end(grant, &ended, arrived);
            desk.limits.enqueue(grant.lane);
        }
        let wake = desk.limits.next_wake(arrived).unwrap_or(arrived);
        now = wake.max(arrived);
    }
    (taken, refused, recovered)
}

#[test]
fn a_global_limit_that_is_lower_than_ours_is_learnt_and_not_tried_in_each_of_its_windows() {
    let minutes = TimeDelta::minutes;
    // Of eight that are under way when it begins, seven are refused.
    let (taken, refused, _) = lower_limit(1, 20_000, minutes(10), minutes(10));
    assert!((8..=7 + 8).contains(&refused), "{refused} refused");
    assert!(taken >= 20, "{taken} of 30 taken");
    let (taken, refused, _) = lower_limit(20, 1_000, minutes(10), minutes(10));
    assert!(refused <= 60, "{refused} refused");
    assert!(taken >= 9_600, "{taken} of 12000 taken");
}

#[test]
fn when_a_lower_global_limit_is_over_our_own_rate_comes_back() {
    let (_, _, recovered) = lower_limit(1, 20_000, TimeDelta::seconds(200), TimeDelta::minutes(10));
    let recovered = recovered.expect("it comes back");
    assert!(recovered <= TimeDelta::seconds(150), "{recovered}");
}

#[test]
fn one_global_refusal_is_a_pause_and_no_more() {
    let mut desk = desk();
    let first = desk.one(1, start());
    desk.limits.end(&first, &Ended::Answered(limited(Scope::Global, 2.0)), start());
    for channel in 2..4 {
        let grant = desk.one(channel, after(2_001));
        desk.limits.end(&grant, &ok(4, 5.0), after(2_001));
    }
}

#[test]
fn who_names_too_short_a_wait_again_and_again_is_asked_ever_less_often() {
    let mut desk = desk();
    let mut now = start();
    let mut asked = 0;
    while now < start() + TimeDelta::minutes(10) {
        desk.ask(1);
        for grant in desk.limits.grant(now) {
            asked += 1;
            desk.limits.end(&grant, &Ended::Answered(limited(Scope::User, 0.0)), now);
        }
        now = desk.limits.earliest(desk.lane(SEND, 1), now).expect("a time");
    }
    assert!(asked <= 14, "{asked}");
}

#[test]
fn the_global_limit_is_waited_for() {
    let settings = LimitSettings { global_per_second: 3, in_flight: 100, ..LimitSettings::default() };
    let mut desk = desk_with(settings);
    let tickets: Vec<_> = (0..7).map(|channel| desk.ask(channel)).collect();
    assert_eq!(desk.granted(start()), tickets[..3]);
    assert_eq!(desk.limits.next_wake(start()), Some(after(1_025)));
    assert!(desk.granted(after(1_024)).is_empty());
    assert_eq!(desk.granted(after(1_025)), tickets[3..6]);
}

#[test]
fn a_busy_destination_does_not_push_a_quiet_one_back() {
    let settings = LimitSettings { global_per_second: 1, ..LimitSettings::default() };
    let mut desk = desk_with(settings);
    let busy: Vec<_> = (0..3).map(|_| desk.ask(1)).collect();
    let mut now = start();
    let mut order = Vec::new();
    let mut quiet = 0;
    for round in 0..4 {
        for grant in desk.limits.grant(now) {
            order.push(grant.ticket);
            desk.limits.end(&grant, &ok(4, 5.0), now);
        }
        if round == 0 {
            quiet = desk.ask(2);
        }
        now += TimeDelta::milliseconds(1_100);
    }
    assert_eq!(order, [busy[0], quiet, busy[1], busy[2]]);
}

#[test]
fn what_the_edge_refuses_stops_everything_and_one_request_probes() {
    let mut desk = desk();
    let first = desk.one(1, start());
    let under_way = desk.one(2, start());
    let hour = Duration::from_secs(3600);
    assert_eq!(desk.limits.end(&first, &blocked(None), start()), [Notice::Blocked(hour)]);
    let webhook = Lane { owner: Owner::NOBODY, route: "POST /webhooks/{}/{}", major: Major::Webhook(9) };
    desk.limits.enqueue(webhook);
    let waiting: Vec<_> = (3..6).map(|channel| desk.ask(channel)).collect();
    // An answer to an earlier request proves nothing.
    desk.limits.end(&under_way, &ok(4, 5.0), after(100));
    assert!(desk.granted(after(3_599_999)).is_empty());
    let probe = desk.limits.grant(after(3_600_000));
    assert_eq!(probe.len(), 1);
    let again = Some(Duration::from_secs(60));
    assert_eq!(
        desk.limits.end(&probe[0], &blocked(again), after(3_600_100)),
        [Notice::Blocked(Duration::from_secs(60))]
    );
    assert!(desk.granted(after(3_660_000)).is_empty());
    let probe = desk.limits.grant(after(3_660_100));
    assert_eq!(probe.len(), 1);
    assert_eq!(desk.limits.end(&probe[0], &Ended::NoAnswer, after(3_670_000)), []);
    assert!(desk.granted(after(3_699_999)).is_empty(), "no answer: the block stands");
    let probe = desk.limits.grant(after(3_700_000));
    assert_eq!(desk.limits.end(&probe[0], &ok(4, 5.0), after(3_700_010)), [Notice::Unblocked]);
    assert_eq!(desk.granted(after(3_700_010)), waiting[2..]);
}

#[test]
fn too_many_invalid_requests_stop_everything_until_they_are_forgotten() {
    let settings = LimitSettings { invalid_stop: 3, ..LimitSettings::default() };
    let mut desk = desk_with(settings);
    let forbidden = Ended::Answered(Seen {
        status: 403,
        class: Some(Class::Destination),
        retry_after: None,
        rate: RateHeaders { any: true, ..RateHeaders::default() },
    });
    let shared = desk.one(100, start());
    desk.limits.end(&shared, &Ended::Answered(limited(Scope::Shared, 1.0)), start());
    assert_eq!(desk.limits.ban().invalid(start()), 0, "shared limits don't count");
    for channel in 0..10 {
        desk.ask(channel);
    }
    let grants = desk.limits.grant(start());
    assert_eq!(grants.len(), 3, "each that is under way may be invalid too");
    let notices: Vec<_> =
        grants.iter().flat_map(|grant| desk.limits.end(grant, &forbidden, start())).collect();
    assert_eq!(notices, [Notice::TooManyInvalid]);
    assert!(desk.granted(after(599_999)).is_empty());
    assert_eq!(desk.limits.next_wake(start()), Some(after(600_000)));
    assert_eq!(desk.granted(after(600_000)).len(), 3);
}

#[test]
fn a_refused_token_is_never_used_again_but_another_one_is() {
    let mut desk = desk();
    let first = desk.one(1, start());
    let waiting = desk.ask(2);
    let refused = Ended::Answered(Seen {
        status: 401,
        class: Some(Class::Token),
        retry_after: None,
        rate: RateHeaders::default(),
    });
    assert_eq!(desk.limits.end(&first, &refused, start()), [Notice::Stopped(Class::Token)]);
    assert_eq!(desk.limits.take_stopped(), [(waiting, Class::Token)]);
    assert_eq!(desk.limits.stopped(desk.owner), Some(Class::Token));
    let other = desk.limits.new_owner();
    assert_eq!(desk.limits.stopped(other), None);
    assert_eq!(desk.limits.stopped(Owner::NOBODY), None);
}

#[test]
fn what_was_not_sent_is_given_back() {
    let settings = LimitSettings { global_per_second: 1, ..LimitSettings::default() };
    let mut desk = desk_with(settings);
    let first = desk.one(1, start());
    desk.limits.end(&first, &Ended::NotSent, start());
    let second = desk.one(1, start());
    desk.limits.end(&second, &ok(1, 5.0), start());
    let later = after(1_100);
    let third = desk.one(1, later);
    desk.limits.end(&third, &Ended::NotSent, later);
    assert_eq!(desk.one(1, later).lane.major, Major::Channel(1));
}

#[test]
fn what_is_idle_is_forgotten() {
    let mut desk = desk();
    for number in 0..20_000u32 {
        let now = start() + TimeDelta::milliseconds(i64::from(number) * 100);
        let grant = desk.one(u64::from(number), now);
        desk.limits.end(&grant, &ok(4, 5.0), now);
    }
    assert!(desk.limits.buckets.len() <= 2 * MOST_IDLE, "{}", desk.limits.buckets.len());
    assert!(desk.limits.lanes.len() <= 2 * MOST_IDLE, "{}", desk.limits.lanes.len());
}

fn limiter(clock: &Arc<ManualClock>) -> (Arc<Limiter>, Lane) {
    let limiter = Limiter::new(LimitSettings::default(), clock.clone());
    let owner = limiter.owner();
    (limiter, Lane { owner, route: SEND, major: Major::Channel(1) })
}

async fn permit(limiter: &Arc<Limiter>, lane: Lane) -> Permit {
    let mut permit = limiter.turn(lane).await.expect("its turn");
    permit.sent();
    permit
}

#[tokio::test]
async fn requests_wait_for_their_turn_and_go_in_order() {
    let clock = ManualClock::new();
    let (limiter, lane) = limiter(&clock);
    permit(&limiter, lane).await.end(&ok(0, 2.0));
    let order = Arc::new(Mutex::new(Vec::new()));
    let tasks = (0..3).map(|number| {
        let (limiter, clock, order) = (limiter.clone(), clock.clone(), order.clone());
        let begun = clock.now();
        tokio::spawn(async move {
            let permit = permit(&limiter, lane).await;
            order.lock().expect("a lock").push((number, (clock.now() - begun).num_milliseconds()));
            permit.end(&ok(0, 1.0));
        })
    });
    let tasks: Vec<_> = tasks.collect();
    clock.advance(Duration::from_secs(5)).await;
    futures::future::join_all(tasks).await;
    assert_eq!(*order.lock().expect("a lock"), [(0, 2_001), (1, 3_002), (2, 4_003)]);
}

#[tokio::test]
async fn who_would_wait_too_long_is_told_at_once_when_to_come_again() {
    let clock = ManualClock::new();
    let (limiter, lane) = limiter(&clock);
    permit(&limiter, lane).await.end(&ok(0, 60.0));
    let told = limiter.turn(lane).now_or_never().expect("at once").expect_err("too long");
    assert_eq!(told, NotYet::Later(Duration::from_millis(60_001)));
}

#[tokio::test]
async fn who_waits_behind_a_slow_request_gives_up_after_a_while() {
    let clock = ManualClock::new();
    let (limiter, lane) = limiter(&clock);
    let slow = permit(&limiter, lane).await;
    let waiting = tokio::spawn({
        let limiter = limiter.clone();
        async move { limiter.turn(lane).await.map(drop) }
    });
    clock.advance(Duration::from_secs(5)).await;
    assert_eq!(waiting.await.expect("no panic"), Err(NotYet::Later(Duration::ZERO)));
    slow.end(&ok(4, 5.0));
    drop(permit(&limiter, lane).await);
}

#[tokio::test]
async fn who_waits_behind_one_that_is_refused_is_told_at_once() {
    let clock = ManualClock::new();
    let (limiter, lane) = limiter(&clock);
    let first = permit(&limiter, lane).await;
    let waits = limiter.turn(lane);
    tokio::pin!(waits);
    assert!(waits.as_mut().now_or_never().is_none());
    first.end(&Ended::Answered(limited(Scope::User, 60.0)));
    let told = waits.now_or_never().expect("at once").map(drop);
    assert_eq!(told, Err(NotYet::Later(Duration::from_millis(60_001))));
}

#[tokio::test]
async fn who_leaves_the_queue_holds_up_nobody() {
    let clock = ManualClock::new();
    let (limiter, lane) = limiter(&clock);
    let first = permit(&limiter, lane).await;
    let mut leaves = Box::pin(limiter.turn(lane));
    assert!(leaves.as_mut().now_or_never().is_none());
    let stays = limiter.turn(lane);
    tokio::pin!(stays);
    assert!(stays.as_mut().now_or_never().is_none());
    assert_eq!(limiter.status().waiting, 2);
    drop(leaves);
    assert_eq!(limiter.status().waiting, 1);
    first.end(&ok(4, 5.0));
    let permit = stays.await.expect("its turn");
    drop(permit);
    assert_eq!(limiter.status().waiting, 0);
}

#[tokio::test]
async fn a_turn_that_came_too_late_is_given_to_the_next() {
    let clock = ManualClock::new();
    let (limiter, lane) = limiter(&clock);
    let first = permit(&limiter, lane).await;
    let mut gone = Box::pin(limiter.turn(lane));
    assert!(gone.as_mut().now_or_never().is_none());
    first.end(&ok(4, 5.0));
    drop(gone);
    drop(permit(&limiter, lane).await);
}

#[tokio::test]
async fn those_who_wait_with_a_token_that_is_refused_are_told() {
    let clock = ManualClock::new();
    let (limiter, lane) = limiter(&clock);
    let first = permit(&limiter, lane).await;
    let waits = limiter.turn(lane);
    tokio::pin!(waits);
    assert!(waits.as_mut().now_or_never().is_none());
    let (status, class) = (401, Some(Class::Token));
    first.end(&Ended::Answered(Seen { status, class, retry_after: None, rate: RateHeaders::default() }));
    assert_eq!(waits.await.map(drop), Err(NotYet::Stopped(Class::Token)));
    assert_eq!(limiter.turn(lane).await.map(drop), Err(NotYet::Stopped(Class::Token)));
    assert_eq!(limiter.status().invalid_requests, 1);
}

#[tokio::test]
async fn a_clock_that_is_set_back_freezes_nothing() {
    let clock = ManualClock::new();
    let (limiter, lane) = limiter(&clock);
    permit(&limiter, lane).await.end(&ok(0, 2.0));
    clock.set(clock.now() - TimeDelta::hours(1));
    let waits = tokio::spawn({
        let limiter = limiter.clone();
        async move { permit(&limiter, lane).await.end(&ok(4, 5.0)) }
    });
    clock.advance(Duration::from_millis(2_001)).await;
    waits.await.expect("no panic");
}

proptest! {
    /// However requests come, leave and end: what is granted is taken from the queue, and nothing is forgotten in it.
    #[test]
    fn the_queue_always_moves_on(steps in proptest::collection::vec((0..5u8, 0..4u64), 1..200)) {
        let mut desk = desk();
        let mut now = start();
        let mut under_way = Vec::new();
        for (step, channel) in steps {
            match (step, under_way.pop()) {
                (0 | 1, grant) => {
                    under_way.extend(grant);
                    desk.ask(channel);
                }
                (2, Some(grant)) => { desk.limits.end(&grant, &Ended::NoAnswer, now); }
                (3, Some(grant)) => { desk.limits.end(&grant, &ok(0, 1.5), now); }
                (_, grant) => {
                    under_way.extend(grant);
                    now += TimeDelta::milliseconds(300);
                }
            }
            under_way.extend(desk.limits.grant(now));
        }
        for _ in 0..10_000 {
            if desk.limits.waiting() == 0 {
                return Ok(());
            }
            for grant in std::mem::take(&mut under_way) {
                desk.limits.end(&grant, &ok(1, 0.5), now);
            }
            under_way = desk.limits.grant(now);
            if under_way.is_empty() {
                now = desk.limits.next_wake(now).expect("something to wait for");
            }
        }
        prop_assert!(false, "{} still wait", desk.limits.waiting());
    }
}
