//! The limits against a server that keeps them: a simulation in which time is a number.

use super::*;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const SEND: &str = "POST /channels/{}/messages";

/// What the server does, and how honestly it speaks of it.
#[derive(Debug, Clone)]
struct Server {
    limit: u32,
    period: TimeDelta,
    global: usize,
    /// How much more it says is left than is.
    boast: u32,
    /// What it says of the time to the next window: this share of the truth.
    haste: f64,
    /// One in so many requests is refused though the window has room; 0: none.
    early: u64,
    /// So many requests of each window are refused although the headers promise them.
    hides: u32,
    /// One in so many answers has no headers; 0: none.
    mute: u64,
}

impl Server {
    fn honest(limit: u32, milliseconds: i64) -> Self {
        let period = TimeDelta::milliseconds(milliseconds);
        Self { limit, period, global: 50, boast: 0, haste: 1.0, early: 0, hides: 0, mute: 0 }
    }

    /// What it allows to so many channels, per second.
    fn rate(&self, channels: u64) -> f64 {
        let each = f64::from(self.limit) / self.period.as_seconds_f64();
        (each * channels as f64).min(self.global as f64)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(Ticket),
    IsAnswered(Ticket),
}

struct World {
    server: Server,
    limits: Limits,
    owner: Owner,
    /// The client's clock minus the server's.
    skew: TimeDelta,
    longest_way: i64,
    seed: u64,
    events: BinaryHeap<Reverse<(Moment, Event)>>,
    under_way: HashMap<Ticket, (Grant, Option<Ended>)>,
    windows: HashMap<u64, (Moment, u32)>,
    recent: VecDeque<Moment>,
    /// Until when each channel was told to wait.
    told_to_wait: HashMap<u64, Moment>,
    taken: u64,
    refused: u64,
    refused_early: u64,
    disobeyed: u64,
}

impl World {
    fn new(server: Server, channels: u64, longest_way: i64, skew: i64, seed: u64) -> Self {
        let mut limits = Limits::new(LimitSettings { invalid_stop: 100_000, ..LimitSettings::default() });
        let owner = limits.new_owner();
        let mut world = Self {
            server,
            limits,
            owner,
            skew: TimeDelta::milliseconds(skew),
            longest_way,
            seed,
            events: BinaryHeap::new(),
            under_way: HashMap::new(),
            windows: HashMap::new(),
            recent: VecDeque::new(),
            told_to_wait: HashMap::new(),
            taken: 0,
            refused: 0,
            refused_early: 0,
            disobeyed: 0,
        };
        (0..channels).for_each(|channel| world.ask(channel));
        world
    }

    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed >> 33
    }

    fn one_in(&mut self, many: u64) -> bool {
        many != 0 && self.random().is_multiple_of(many)
    }

    fn way(&mut self) -> TimeDelta {
        let most = self.longest_way as u64 * 1_000 + 1;
        TimeDelta::microseconds((self.random() % most) as i64)
    }

    fn ask(&mut self, channel: u64) {
        self.limits.enqueue(Lane { owner: self.owner, route: SEND, major: Major::Channel(channel) });
    }

    /// All channels always have something to say.
    fn run(&mut self, seconds: i64) {
        let start = DateTime::from_timestamp(1_900_000_000, 0).expect("a time");
        let end = start + TimeDelta::seconds(seconds);
        let mut now = start;
        while now < end {
            for grant in self.limits.grant(now + self.skew) {
                let arrives = now + self.way();
                self.events.push(Reverse((arrives, Event::Arrives(grant.ticket))));
                self.under_way.insert(grant.ticket, (grant, None));
            }
            let wake = self.limits.next_wake(now + self.skew).map(|wake| wake - self.skew);
            let next = self.events.peek().map(|Reverse((at, _))| *at);
            now = [wake, next].into_iter().flatten().min().expect("something happens");
            while let Some(Reverse((at, event))) = self.events.peek().copied()
                && at <= now
            {
                self.events.pop();
                self.happen(event, at);
            }
        }
    }

    fn happen(&mut self, event: Event, now: Moment) {
        match event {
            Event::Arrives(ticket) => {
                let channel = channel_of(&self.under_way[&ticket].0);
                let answer = self.serve(channel, now);
                let back = now + self.way();
                self.under_way.get_mut(&ticket).expect("under way").1 = Some(Ended::Answered(answer));
                self.events.push(Reverse((back, Event::IsAnswered(ticket))));
            }
            Event::IsAnswered(ticket) => {
                let (grant, ended) = self.under_way.remove(&ticket).expect("under way");
                self.limits.end(&grant, &ended.expect("an answer"), now + self.skew);
                self.ask(channel_of(&grant));
            }
        }
    }

    fn serve(&mut self, channel: u64, now: Moment) -> Seen {
        if self.told_to_wait.get(&channel).is_some_and(|until| now < *until) {
            self.disobeyed += 1;
        }
        while self.recent.front().is_some_and(|at| *at + TimeDelta::seconds(1) <= now) {
            self.recent.pop_front();
        }
        let early = self.one_in(self.server.early);
        let (limit, period) = (self.server.limit, self.server.period);
        let window = self.windows.entry(channel).or_insert((now + period, 0));
        if window.0 <= now {
            *window = (now + period, 0);
        }
        let used = window.1;
        let left = (window.0 - now).as_seconds_f64();
        let is_full = window.1 + self.server.hides >= limit;
        let is_global = self.recent.len() >= self.server.global;
        if is_full || early || is_global {
            self.refused += 1;
            self.refused_early += u64::from(early);
            let wait = (left * 1000.0).ceil() / 1000.0;
            self.told_to_wait.insert(channel, now + TimeDelta::microseconds((wait * 1e6) as i64));
            let remaining = if early { 3 } else { limit - used };
            let scope = if is_global { Scope::Global } else { Scope::User };
            return self.seen(429, remaining, left, Some(wait), Some(scope));
        }
        window.1 += 1;
        let remaining = limit - window.1 + self.server.boast;
        self.recent.push_back(now);
        self.taken += 1;
        let hasty = left * self.server.haste;
        self.seen(200, remaining, hasty, None, None)
    }

    fn seen(
        &mut self,
        status: u16,
        remaining: u32,
        left: f64,
        wait: Option<f64>,
        scope: Option<Scope>,
    ) -> Seen {
        // Milliseconds, rounded down: Discord's decimals may be.
        let reset_after = Duration::from_secs_f64((left * 1000.0).floor() / 1000.0);
        let mute = self.one_in(self.server.mute) && status == 200;
        let rate = RateHeaders {
            any: true,
            limit: Some(self.server.limit),
            remaining: Some(remaining),
            reset_after: Some(reset_after),
            bucket: Some("send".into()),
            scope,
        };
        Seen {
            status,
            class: (status == 429).then_some(Class::RateLimited),
            retry_after: wait.map(Duration::from_secs_f64),
            rate: if mute { RateHeaders::default() } else { rate },
        }
    }
}

fn channel_of(grant: &Grant) -> u64 {
    match grant.lane.major {
        Major::Channel(channel) => channel,
        Major::None | Major::Guild(_) | Major::Webhook(_) => unreachable!("only channels are asked for"),
    }
}

/// The share of the allowed rate that is used, once it has started.
fn share(server: &Server, channels: u64, longest_way: i64, skew: i64, seed: u64) -> (f64, World) {
    const SECONDS: i64 = 30;
    let mut world = World::new(server.clone(), channels, longest_way, skew, seed);
    world.run(SECONDS);
    let started = 2.0 * longest_way as f64 / 1000.0 * 3.0;
    let allowed = server.rate(channels) * (SECONDS as f64 - started);
    (world.taken as f64 / allowed, world)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn an_honest_server_is_never_exceeded_and_at_least_95_percent_of_its_rate_is_used(
        limit in 1..20u32,
        period in 1_000..7_001i64,
        channels in 1..40u64,
        longest_way in 0..15i64,
        skew in -100_000..100_000i64,
        seed: u64,
    ) {
        let server = Server::honest(limit, period);
        let serial = 1_000.0 / (longest_way as f64 * 2.0 + 1.0);
        prop_assume!(f64::from(limit) / server.period.as_seconds_f64() < serial / 2.0);
        let (share, world) = share(&server, channels, longest_way, skew, seed);
        prop_assert_eq!(world.refused, 0);
        prop_assert!(share >= 0.95, "only {share} of {} per second", server.rate(channels));
    }

    #[test]
    fn a_server_that_lies_is_obeyed_whenever_it_says_how_long_to_wait(
        boast in 0..5u32,
        haste in 0.2..1.0f64,
        early in prop_oneof![Just(0u64), 2..30u64],
        mute in 0..4u64,
        seed: u64,
    ) {
        let server = Server { boast, haste, early, mute, ..Server::honest(5, 5_000) };
        let mut world = World::new(server, 20, 10, 0, seed);
        world.run(30);
        prop_assert_eq!(world.disobeyed, 0);
        // A lie costs one refusal in each window of each channel.
        let windows = 20 * (30 / 5 + 1);
        prop_assert!(world.refused - world.refused_early <= windows, "{} refused", world.refused);
        prop_assert!(world.taken > 0);
    }
}

#[test]
fn a_thousand_destinations_get_95_percent_of_the_global_rate_and_each_its_share() {
    let server = Server::honest(5, 5_000);
    let mut world = World::new(server, 1_000, 10, 0, 7);
    world.run(22);
    assert_eq!(world.refused, 0);
    assert!(world.taken as f64 >= 0.95 * 50.0 * 22.0, "{}", world.taken);
    let served = world.windows.len();
    assert_eq!(served, 1_000, "nobody was forgotten");
}

#[test]
fn a_server_that_promises_too_much_is_found_out_after_a_few_refusals() {
    let server = Server { hides: 3, ..Server::honest(5, 5_000) };
    let mut world = World::new(server, 20, 10, 0, 7);
    world.run(9 * 60);
    assert!((3..=10).contains(&world.refused), "{} refused", world.refused);
    let windows = 9.0 * 60.0 / 5.0;
    assert!(world.taken as f64 >= 0.9 * windows * 20.0 * 2.0, "{} taken", world.taken);
}
