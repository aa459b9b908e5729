use super::*;
use proptest::prelude::*;
use serde_json::json;

fn refusal(status: u16, body: &[u8]) -> Refusal<'_> {
    Refusal {
        route: "POST /channels/{}/messages",
        creates_message: true,
        is_webhook: false,
        status,
        has_rate_headers: true,
        retry_after: None,
        body,
    }
}

fn classify(status: u16, body: &Value) -> Answer {
    refusal(status, body.to_string().as_bytes()).classify()
}

/// Discord's documented codes by what has to be done about them, with the HTTP status under which they come.
const BY_CLASS: &[(Class, u16, &[u64])] = &[
    (Class::Blocked, 403, &[40333]),
    (Class::Transient, 503, &[130000]),
    (Class::Later, 429, &[20028, 20029, 20016, 20022, 30046, 40062, 40004, 40006, 110000, 30040, 40003]),
    (
        Class::Message,
        400,
        &[
            50035, 50006, 50109, 40005, 50045, 50046, 50110, 50123, 50146, 30015, 200000, 200001, 240000,
            520002, 520004, 50080, 50081, 50600, 50159, 50160, 50161,
        ],
    ),
    (Class::Destination, 404, &[10003, 10004, 10015]),
    (
        Class::Destination,
        403,
        &[50001, 50013, 50008, 50009, 50024, 40058, 40066, 40067, 50083, 160005, 160006, 160007, 400001],
    ),
    (Class::Destination, 400, &[220001, 220002, 220003, 220004]),
    (Class::Recipient, 403, &[50007, 50278, 20009]),
    (Class::Token, 401, &[0, 40001, 50014]),
    (Class::Token, 403, &[40001, 50014]),
    (Class::Spam, 403, &[10008, 340015]),
    (Class::AlreadyDone, 400, &[40033, 160004, 40060]),
    (Class::Config, 403, &[160002, 20001, 40002]),
    (Class::Config, 400, &[50041]),
];

#[test]
fn every_code_is_sorted_by_what_has_to_be_done_about_it() {
    for (class, status, codes) in BY_CLASS {
        for code in *codes {
            let answer = classify(*status, &json!({"code": code, "message": "Something"}));
            assert_eq!(answer.class, *class, "{status} {code}");
            assert_eq!(answer.code, *code);
            assert!(!answer.cause.is_empty() && !answer.fix.is_empty(), "{code}");
        }
    }
    let covered = |code| BY_CLASS.iter().any(|(_, _, codes)| codes.contains(&code));
    let forgotten: Vec<_> = TABLE.iter().map(|known| known.code).filter(|code| !covered(*code)).collect();
    assert_eq!(forgotten, [50027], "a webhook's code, see below");
    assert!(TABLE.is_sorted_by_key(|known| known.code));
}

#[test]
fn an_unknown_code_fails_safe_by_its_status() {
    let cases = [
        (400, Class::Message),
        (401, Class::Token),
        (403, Class::Destination),
        (404, Class::Destination),
        (405, Class::Message),
        (408, Class::Transient),
        (409, Class::Later),
        (413, Class::Message),
        (429, Class::RateLimited),
        (500, Class::Transient),
        (502, Class::Transient),
        (520, Class::Transient),
        (302, Class::Config),
    ];
    for (status, class) in cases {
        assert_eq!(classify(status, &json!({"code": 987_654, "message": "New"})).class, class, "{status}");
        if status != 429 {
            assert_eq!(classify(status, &json!({"code": 0, "message": "New"})).class, class, "{status}");
        }
    }
}

#[test]
fn what_a_code_means_depends_on_what_was_asked() {
    let unknown_message = json!({"code": 10008, "message": "Unknown Message"});
    assert_eq!(classify(404, &unknown_message).class, Class::Removed, "the nonce of a deleted message");
    let body = unknown_message.to_string();
    let delete = Refusal { creates_message: false, ..refusal(404, body.as_bytes()) };
    assert_eq!(delete.classify().class, Class::AlreadyDone);
    let body = json!({"code": 50027, "message": "Invalid Webhook Token"}).to_string();
    let webhook = Refusal { is_webhook: true, ..refusal(401, body.as_bytes()) };
    assert_eq!(webhook.classify().class, Class::Destination, "no token of ours is to blame");
}

#[test]
fn what_the_edge_refuses_is_told_from_what_the_api_refuses() {
    let page = b"<!DOCTYPE html><title>Access denied</title>";
    let blocked = json!({"code": 0, "message": "You are being blocked from accessing our API temporarily"});
    let limit = json!({"message": "You are being rate limited.", "retry_after": 3.5, "global": false});
    let global = json!({"message": "You are being rate limited.", "retry_after": 0.5, "global": true});
    let bare = |status, body: &[u8]| Refusal { has_rate_headers: false, ..refusal(status, body) }.classify();
    for status in [403, 429] {
        assert_eq!(bare(status, page).class, Class::Blocked);
        assert_eq!(bare(status, b"").class, Class::Blocked);
        assert_eq!(bare(status, blocked.to_string().as_bytes()).class, Class::Blocked);
    }
    let answer = bare(429, limit.to_string().as_bytes());
    assert_eq!((answer.class, answer.retry_after), (Class::Blocked, Some(Duration::from_millis(3500))));
    assert_eq!(bare(429, global.to_string().as_bytes()).class, Class::RateLimited);
    let no_permission = json!({"code": 50013, "message": "Missing Permissions"});
    assert_eq!(bare(403, no_permission.to_string().as_bytes()).class, Class::Destination);
    assert_eq!(refusal(429, page).classify().class, Class::RateLimited, "the limiter's headers were there");
    for status in [400, 404, 500] {
        assert_ne!(bare(status, page).class, Class::Blocked);
    }
}

#[test]
fn of_two_waits_the_longer_one_counts() {
    let body = json!({"message": "Limited", "retry_after": 1163.0, "code": 20028}).to_string();
    let answer =
        Refusal { retry_after: Some(Duration::from_secs(1)), ..refusal(429, body.as_bytes()) }.classify();
    assert_eq!((answer.class, answer.retry_after), (Class::Later, Some(Duration::from_secs(1163))));
    for lie in [json!(-1.0), json!(1e300), json!("soon"), json!(null)] {
        let body = json!({"message": "Limited", "retry_after": lie}).to_string();
        let refusal = Refusal { retry_after: Some(Duration::from_secs(1)), ..refusal(429, body.as_bytes()) };
        assert_eq!(refusal.classify().retry_after, Some(Duration::from_secs(1)));
    }
}

#[test]
fn nested_problems_are_told_by_the_path_of_their_field() {
    let answer = classify(
        400,
        &json!({"code": 50035, "message": "Invalid Form Body", "errors": {
            "_errors": [{"code": "ROOT", "message": "The whole is wrong."}],
            "content": {"_errors": [{"code": "BASE_TYPE_MAX_LENGTH", "message": "Must be 2000 or fewer in length."}]},
            "embeds": {"0": {"fields": {"12": {"value": {"_errors": [
                {"code": "BASE_TYPE_REQUIRED", "message": "This field is required"}]}}}}},
        }}),
    );
    let paths: Vec<_> = answer.fields.iter().map(|field| field.path.as_str()).collect();
    assert_eq!(paths, ["", "content", "embeds[0].fields[12].value"]);
    assert_eq!(
        answer.to_string(),
        "POST /channels/{}/messages: HTTP 400, code 50035: Discord does not take the message as it is; \
         the message: The whole is wrong (ROOT); \
         content: Must be 2000 or fewer in length (BASE_TYPE_MAX_LENGTH); \
         embeds[0].fields[12].value: This field is required (BASE_TYPE_REQUIRED); \
         what helps: change the field that is named"
    );
}

#[test]
fn the_deliverer_is_told_what_it_can_rely_on() {
    let post =
        |status, body: &Value| PostError::from(DiscordError::Answered(Box::new(classify(status, body))));
    let code = |code: u64| json!({"code": code, "message": "Something"});
    assert!(matches!(post(400, &code(50035)), PostError::Refused(_)));
    assert!(matches!(post(403, &code(50013)), PostError::DestinationClosed(_)));
    assert!(matches!(post(401, &code(0)), PostError::DestinationClosed(_)));
    assert!(matches!(post(502, &code(0)), PostError::Unknown(_)));
    let limited = json!({"message": "Limited", "retry_after": 2.0});
    assert!(matches!(
        post(429, &limited),
        PostError::NotSent { retry_after: Some(wait), .. } if wait == Duration::from_secs(2)
    ));
}

proptest! {
    /// Whatever comes, it is sorted, bounded, and nothing panics.
    #[test]
    fn any_body_under_any_status_is_sorted(
        status in 300..600u16,
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "\\{\"code\": ?[0-9]{1,9}, ?\"message\": ?\"[a-z ]*\", ?\"errors\": ?\\{\"a\": ?\\{\"_errors\": ?\\[[0-9,]*\\]?\\}\\}\\}?"
                .prop_map(String::into_bytes),
        ],
        has_rate_headers: bool,
    ) {
        let answer = Refusal { has_rate_headers, ..refusal(status, &body) }.classify();
        prop_assert!(answer.message.chars().count() <= LONGEST_MESSAGE);
        prop_assert!(answer.fields.len() <= MOST_FIELDS);
        if status == 401 {
            prop_assert_eq!(answer.class, Class::Token);
        }
        if status >= 500 {
            prop_assert_eq!(answer.class, Class::Transient);
        }
    }
}
