use super::*;
use botticelli_actor::discord::error::Class;
use botticelli_server::post::PostError;
use botticelli_testkit::clock::ManualClock;
use discord_double::{BanPage, BanRules, Limits, Scope, What};

fn manual(settings: Settings) -> (Stage, Arc<ManualClock>) {
    let clock = ManualClock::new();
    (Stage::on_clock(settings, clock.clone()), clock)
}

fn retry_after(error: &DiscordError) -> Option<Duration> {
    match PostError::from(error.clone()) {
        PostError::NotSent { retry_after, .. } => retry_after,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn limits_are_kept_before_they_are_hit() {
    let limits = Limits::default().faster(20);
    let stage = Stage::with(Settings { limits, ..Settings::default() });
    let bot = stage.bot();
    let posts = (0..40).map(|number| {
        let bot = &bot;
        async move {
            let channel = if number % 2 == 0 { standard::GENERAL } else { standard::RANDOM };
            say(bot, channel, &number.to_string(), &number.to_string()).await.expect("posted")
        }
    });
    futures::future::join_all(posts).await;
    assert_eq!(stage.double.invalid_requests(), 0);
    let even: Vec<_> = (0..40).filter(|number| number % 2 == 0).map(|number| number.to_string()).collect();
    assert_eq!(stage.texts(standard::GENERAL), even, "in order");
    assert_eq!(stage.texts(standard::RANDOM).len(), 20);
}

#[tokio::test]
async fn a_429_is_obeyed_by_the_longer_of_its_two_times_and_costs_one_invalid_request() {
    let (stage, clock) = manual(Settings::default());
    let bot = stage.bot();
    say(&bot, standard::GENERAL, "before", "0").await.expect("posted");
    let limited =
        |scope, code| What::RateLimit { scope, retry_after_seconds: 1163.0, header_seconds: Some(1.0), code };
    stage.double.next(limited(Scope::User, 0));
    let error = say(&bot, standard::GENERAL, "x", "1").await.expect_err("limited");
    assert_eq!(error.class(), Some(Class::RateLimited));
    assert_eq!(retry_after(&error), Some(seconds(1163)));
    for _ in 0..5 {
        clock.advance(seconds(200)).await;
        let error = say(&bot, standard::GENERAL, "x", "1").await.expect_err("limited");
        assert!(matches!(error, DiscordError::NotSent { .. }), "{error:?}");
        assert!(retry_after(&error).is_some_and(|wait| wait > seconds(5)));
    }
    say(&bot, standard::RANDOM, "elsewhere", "2").await.expect("posted");
    clock.advance(seconds(163)).await;
    clock.advance(Duration::from_millis(2)).await;
    say(&bot, standard::GENERAL, "x", "1").await.expect("posted");
    assert_eq!(stage.double.invalid_requests(), 1);
    stage.double.next(limited(Scope::Shared, 20028));
    let error = say(&bot, standard::GENERAL, "y", "3").await.expect_err("limited");
    assert_eq!((error.class(), retry_after(&error)), (Some(Class::Later), Some(seconds(1163))));
    assert_eq!((stage.double.invalid_requests(), stage.limiter.status().invalid_requests), (1, 0));
}

#[tokio::test]
async fn a_global_429_stops_the_whole_token() {
    let (stage, clock) = manual(Settings::default());
    let bot = stage.bot();
    let what =
        What::RateLimit { scope: Scope::Global, retry_after_seconds: 30.0, header_seconds: None, code: 0 };
    stage.double.next(what);
    say(&bot, standard::GENERAL, "x", "1").await.expect_err("limited");
    for channel in [standard::GENERAL, standard::RANDOM, standard::NEWS] {
        let error = say(&bot, channel, "x", "1").await.expect_err("limited");
        assert!(matches!(error, DiscordError::NotSent { .. }), "{error:?}");
    }
    assert_eq!(stage.double.requests().len(), 1);
    clock.advance(seconds(31)).await;
    say(&bot, standard::GENERAL, "x", "1").await.expect("posted");
    assert_eq!(stage.double.invalid_requests(), 1);
}

#[tokio::test]
async fn a_ban_stops_everything_and_one_request_asks_again() {
    for page in [BanPage::Html, BanPage::Plain, BanPage::Json] {
        let ban = BanRules { page, ban_seconds: 5400, ..BanRules::default() };
        let (stage, clock) = manual(Settings { ban, ..Settings::default() });
        let (bot, webhook) = (stage.bot(), stage.webhook(standard::WEBHOOK, standard::WEBHOOK_TOKEN));
        say(&bot, standard::GENERAL, "before", "0").await.expect("posted");
        stage.double.next(What::Ban);
        let error = say(&bot, standard::GENERAL, "x", "1").await.expect_err("banned");
        assert_eq!(error.class(), Some(Class::Blocked), "{page:?}: {error}");
        assert!(stage.limiter.status().blocked_until.is_some());
        let sent = stage.double.requests().len();
        for minutes in 0..59 {
            let error = say(&bot, standard::RANDOM, "x", "2").await.expect_err("banned");
            let left = retry_after(&error).expect("a time");
            assert!(left.abs_diff(seconds(3600 - 60 * minutes)) < seconds(1), "{left:?}");
            let error = webhook.execute(&Message::text("x"), vec![]).await.expect_err("banned");
            assert!(matches!(error, DiscordError::NotSent { .. }), "{error:?}");
            clock.advance(seconds(60)).await;
        }
        assert_eq!(stage.double.requests().len(), sent, "nothing left this machine");
        clock.advance(seconds(60)).await;
        let posts =
            [standard::GENERAL, standard::RANDOM, standard::NEWS].map(|channel| say(&bot, channel, "x", "3"));
        let errors = futures::future::join_all(posts).await;
        assert!(errors.iter().all(Result::is_err), "{errors:?}");
        assert_eq!(stage.double.requests().len(), sent + 1, "one probe");
        clock.advance(seconds(3600)).await;
        say(&bot, standard::GENERAL, "x", "1").await.expect("posted");
        say(&bot, standard::RANDOM, "x", "2").await.expect("posted");
        assert_eq!(stage.limiter.status().blocked_until, None);
    }
}
