use super::*;
use botticelli_actor::discord::error::Class;
use botticelli_server::post::PostError;
use discord_double::{Change, What};

fn is_unknown<T: std::fmt::Debug>(result: &Result<T, DiscordError>) -> bool {
    matches!(result, Err(DiscordError::Unknown(_)))
}

/// Everything after which nobody knows whether the message is there.
fn doubts() -> Vec<What> {
    let mut doubts = vec![
        What::DropReply,
        What::ResetReply,
        What::LoseRequest,
        What::ResetMidBody,
        What::TruncateBody,
        What::HtmlBody,
    ];
    for status in [500, 502, 503, 504] {
        doubts.push(What::FailAfterCommit { status });
        doubts.push(What::FailBeforeCommit { status });
    }
    doubts
}

#[tokio::test]
async fn after_bad_luck_the_outcome_is_unknown_and_the_nonce_makes_one_message_of_two_requests() {
    let stage = Stage::with(Settings { limits: discord_double::Limits::off(), ..Settings::default() });
    let bot = stage.bot();
    let mut said = Vec::new();
    for what in doubts() {
        let text = format!("{what:?}");
        stage.double.next(what);
        let result = say(&bot, standard::GENERAL, &text, &text).await;
        assert!(is_unknown(&result), "{text}: {result:?}");
        assert!(matches!(PostError::from(result.expect_err("an error")), PostError::Unknown(_)));
        say(&bot, standard::GENERAL, &text, &text).await.expect("posted");
        said.push(text);
        assert_eq!(stage.texts(standard::GENERAL), said);
    }
    assert_eq!(stage.double.invalid_requests(), 0);
    assert_eq!(stage.double.requests().len(), 2 * said.len(), "nothing is sent twice by itself");
}

#[tokio::test]
async fn a_reply_that_does_not_come_is_not_waited_for() {
    let mut stage = Stage::new();
    stage.http.total_timeout = Duration::from_millis(100);
    let bot = stage.bot();
    stage.double.next(What::HoldReply);
    let result = say(&bot, standard::GENERAL, "x", "1").await;
    assert!(is_unknown(&result), "{result:?}");
    stage.double.release();
    assert_eq!(stage.texts(standard::GENERAL), ["x"]);
}

#[tokio::test]
async fn what_found_no_connection_was_not_sent() {
    let mut stage = Stage::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("its address");
    drop(nobody);
    stage.http.api_base_url = format!("http://{address}/api/v10");
    let bot = stage.bot();
    let error = say(&bot, standard::GENERAL, "x", "1").await.expect_err("nobody there");
    assert!(matches!(error, DiscordError::NotSent { .. }), "{error:?}");
    assert!(matches!(PostError::from(error), PostError::NotSent { .. }));
    let webhook = stage.webhook(standard::WEBHOOK, standard::WEBHOOK_TOKEN);
    let error = webhook.execute(&Message::text("x"), vec![]).await.expect_err("nobody there");
    assert!(!format!("{error} {error:?}").contains(standard::WEBHOOK_TOKEN), "{error:?}");
}

#[tokio::test]
async fn tls_to_somebody_who_does_not_speak_it_was_not_sent() {
    let mut stage = Stage::new();
    stage.http.api_base_url = stage.double.base_url().replace("http://", "https://");
    match Rest::new(&stage.http, &SecretString::from("t"), stage.limiter.clone(), stage.clock.clone()) {
        Ok(bot) => {
            let error = say(&bot, standard::GENERAL, "x", "1").await.expect_err("no TLS");
            assert!(matches!(error, DiscordError::NotSent { .. }), "{error:?}");
        }
        // A machine without any certificates says so at once.
        Err(error) => assert!(error.to_string().contains("ca-certificates"), "{error}"),
    }
}

#[tokio::test]
async fn a_refused_token_is_used_once() {
    let stage = Stage::new();
    let bot = stage.bot();
    say(&bot, standard::GENERAL, "before", "1").await.expect("posted");
    stage.double.change(Change::RevokeToken { token: standard::TOKEN.into() }).expect("it was valid");
    let error = say(&bot, standard::GENERAL, "x", "2").await.expect_err("refused");
    assert_eq!(error.class(), Some(Class::Token));
    for key in ["3", "4"] {
        let error = say(&bot, standard::GENERAL, "x", key).await.expect_err("stopped");
        assert!(matches!(error, DiscordError::Stopped(_)), "{error:?}");
        assert!(matches!(PostError::from(error), PostError::DestinationClosed(_)));
    }
    assert_eq!(stage.double.requests().len(), 2);
    let change = Change::IssueToken { bot: standard::BOT, token: "another".into() };
    stage.double.change(change).expect("the bot is there");
    say(&stage.bot_with("another"), standard::GENERAL, "after", "5").await.expect("posted");
}

#[tokio::test]
async fn secrets_are_in_no_text_about_what_happened() {
    let mut stage = Stage::new();
    stage.http.total_timeout = Duration::from_millis(500);
    let (bot, webhook) = (stage.bot(), stage.webhook(standard::WEBHOOK, standard::WEBHOOK_TOKEN));
    let mut texts = vec![format!("{bot:?} {webhook:?} {:?}", stage.limiter)];
    let mut bad_luck = doubts();
    bad_luck.push(What::Error { status: 403, code: 50013, message: "Missing Permissions".into() });
    bad_luck.push(What::Error { status: 400, code: 50035, message: "Invalid Form Body".into() });
    for what in bad_luck {
        stage.double.next(what);
        let error = webhook.execute(&Message::text("x"), vec![]).await.expect_err("bad luck");
        texts.push(format!("{error} {error:?} {:?}", PostError::from(error.clone())));
    }
    stage.double.change(Change::RevokeToken { token: standard::TOKEN.into() }).expect("it was valid");
    for key in ["1", "2"] {
        let error = say(&bot, standard::GENERAL, "x", key).await.expect_err("refused");
        texts.push(format!("{error} {error:?}"));
    }
    let webhook = stage.webhook(standard::WEBHOOK, "wrong-secret");
    let error = webhook.execute(&Message::text("x"), vec![]).await.expect_err("refused");
    assert!(matches!(error.class(), Some(Class::Destination)), "{error:?}");
    texts.push(format!("{error} {error:?}"));
    for text in texts {
        for secret in [standard::TOKEN, standard::WEBHOOK_TOKEN, "wrong-secret", "127.0.0.1"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
