//! What a message may hold.

use crate::support::Reply;
use crate::{double, double_with, messages};
use discord_double::{ContentUnit, Limits, Settings, standard};
use serde_json::{Value, json};

async fn post(body: Value) -> Reply {
    let (_double, http) = double();
    http.post(&messages(standard::GENERAL), body).await
}

/// The codes of the errors at a path of the form.
async fn errors(body: Value, path: &str) -> Vec<String> {
    let reply = post(body).await;
    assert_eq!((reply.status, &reply.json["code"]), (400, &json!(50035)), "{reply:?}");
    assert_eq!(reply.json["message"], "Invalid Form Body");
    reply.form_errors(path).into_iter().map(|(code, _)| code).collect()
}

#[tokio::test]
async fn content_has_2000_characters_after_trimming() {
    let reply = post(json!({"content": "x".repeat(2001)})).await;
    let said = ("BASE_TYPE_MAX_LENGTH".to_owned(), "Must be 2000 or fewer in length.".to_owned());
    assert_eq!((reply.status, reply.form_errors("content")), (400, vec![said]));
    assert_eq!(post(json!({"content": format!(" {}\n", "x".repeat(2000))})).await.status, 200);
}

#[tokio::test]
async fn what_is_counted_can_be_switched() {
    // One emoji: 1 scalar value, 2 units of UTF-16, 4 bytes.
    for (content_unit, fits) in
        [(ContentUnit::Characters, 2000), (ContentUnit::Utf16, 1000), (ContentUnit::Bytes, 500)]
    {
        let settings = Settings { content_unit, limits: Limits::off(), ..Settings::default() };
        let (_double, http) = double_with(settings);
        for (count, status) in [(fits, 200), (fits + 1, 400)] {
            let reply = http.post(&messages(standard::GENERAL), json!({"content": "😀".repeat(count)})).await;
            assert_eq!(reply.status, status, "{content_unit:?} {count}");
        }
    }
}

#[tokio::test]
async fn nothing_is_no_message() {
    for body in [json!({}), json!({"content": " \n"}), json!({"content": null, "embeds": []})] {
        let reply = post(body).await;
        assert_eq!((reply.status, &reply.json["code"]), (400, &json!(50006)));
    }
}

#[tokio::test]
async fn json_that_is_none_and_other_types_are_refused() {
    let (_double, http) = double();
    let send = |kind: &str, body: &str| {
        let body = Some((kind.to_owned(), body.as_bytes().to_vec()));
        let http = http.clone();
        async move {
            http.send_bytes("POST", &messages(standard::GENERAL), body).await.expect("a reply").json["code"]
                .clone()
        }
    };
    assert_eq!(send("application/json", "{\"content\":").await, 50109);
    assert_eq!(send("application/json", "{\"content\": \"\\ud800\"}").await, 50109, "a lone surrogate");
    assert_eq!(send("text/plain", "{\"content\": \"x\"}").await, 50035);
    assert_eq!(send("application/json", "[1]").await, 50035);
    assert_eq!(errors(json!({"content": {"a": 1}}), "content").await, ["STRING_TYPE_CONVERT"]);
}

#[tokio::test]
async fn each_part_of_an_embed_has_its_limit_and_all_errors_come_at_once() {
    let long = |length: usize| "x".repeat(length + 1);
    let embed = json!({
        "title": long(256), "description": long(4096), "footer": {"text": long(2048)}, "author": {"name": long(256)},
        "fields": [{"name": long(256), "value": long(1024)}, {"name": "", "value": "v"}],
        "color": 0x100_0000, "url": "ftp://example.org", "timestamp": "yesterday",
    });
    let reply = post(json!({"embeds": [{"title": "fine"}, embed]})).await;
    for (part, code) in [
        ("title", "BASE_TYPE_MAX_LENGTH"),
        ("description", "BASE_TYPE_MAX_LENGTH"),
        ("footer.text", "BASE_TYPE_MAX_LENGTH"),
        ("author.name", "BASE_TYPE_MAX_LENGTH"),
        ("fields.0.name", "BASE_TYPE_MAX_LENGTH"),
        ("fields.0.value", "BASE_TYPE_MAX_LENGTH"),
        ("fields.1.name", "BASE_TYPE_REQUIRED"),
        ("color", "NUMBER_TYPE_MAX"),
        ("url", "URL_TYPE_INVALID_SCHEME"),
        ("timestamp", "DATE_TIME_TYPE_PARSE"),
    ] {
        let found = reply.form_errors(&format!("embeds.1.{part}"));
        assert_eq!(found.first().map(|(code, _)| code.as_str()), Some(code), "{part}: {reply:?}");
    }
    assert_eq!(reply.form_errors("embeds")[0].0, "MAX_EMBED_SIZE_EXCEEDED");
}

#[tokio::test]
async fn all_embeds_together_have_6000_characters() {
    let embeds = |last: usize| json!({"embeds": [{"description": "x".repeat(4096)}, {"description": format!("  {}  ", "x".repeat(last))}]});
    assert_eq!(post(embeds(1904)).await.status, 200, "spaces around don't count");
    assert_eq!(errors(embeds(1905), "embeds").await, ["MAX_EMBED_SIZE_EXCEEDED"]);
}

#[tokio::test]
async fn embeds_are_at_most_ten_never_empty_and_one_for_each_url() {
    let many = vec![json!({"title": "t"}); 11];
    assert_eq!(errors(json!({"embeds": many}), "embeds").await, ["BASE_TYPE_MAX_LENGTH"]);
    assert_eq!(errors(json!({"embeds": [{}]}), "embeds.0.description").await, ["BASE_TYPE_REQUIRED"]);
    let fields = vec![json!({"name": "n", "value": "v"}); 26];
    assert_eq!(
        errors(json!({"embeds": [{"fields": fields}]}), "embeds.0.fields").await,
        ["BASE_TYPE_MAX_LENGTH"]
    );
    let url = "https://example.org";
    let same = json!({"embeds": [{"title": "a", "url": url}, {"title": "b", "url": url}, {"title": "c"}]});
    let shown = post(same).await.json["embeds"].clone();
    assert_eq!((shown[0]["title"].as_str(), shown[1]["title"].as_str()), (Some("a"), Some("c")));
    assert_eq!((shown.as_array().map(Vec::len), &shown[0]["type"]), (Some(2), &json!("rich")));
}

#[tokio::test]
async fn urls_must_be_urls() {
    let image = |url: &str| json!({"embeds": [{"image": {"url": url}}]});
    assert_eq!(post(image("attachment://a.png")).await.status, 200);
    for (url, code) in [
        ("attachment:a.png", "URL_TYPE_INVALID_URL"),
        ("nothing", "URL_TYPE_INVALID_URL"),
        ("https://a b", "URL_TYPE_INVALID_URL"),
        ("javascript://x", "URL_TYPE_INVALID_SCHEME"),
        (&format!("https://{}", "x".repeat(2048)), "BASE_TYPE_MAX_LENGTH"),
    ] {
        assert_eq!(errors(image(url), "embeds.0.image.url").await, [code], "{url}");
    }
}

#[tokio::test]
async fn files_are_stored_with_their_descriptions() {
    let (double, http) = double();
    let json =
        json!({"content": "x", "attachments": [{"id": 1, "filename": "b.txt", "description": "a text"}]});
    let reply =
        http.post_files(&messages(standard::GENERAL), json, &[("a.txt", b"aa"), ("c.txt", b"ccc")]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let attachments = &double.visible(standard::GENERAL)[0].message["attachments"];
    assert_eq!((&attachments[0]["filename"], &attachments[0]["size"]), (&json!("a.txt"), &json!(2)));
    assert_eq!(
        (&attachments[1]["filename"], &attachments[1]["description"]),
        (&json!("b.txt"), &json!("a text"))
    );
    assert_eq!(attachments[1]["content_type"], "text/plain");
    let named = json!({"attachments": [{"id": 7}]});
    let reply = http.post_files(&messages(standard::GENERAL), named, &[("a.txt", b"aa")]).await;
    assert_eq!(reply.json["code"], 50146);
}

#[tokio::test]
async fn files_have_10_mebibytes_and_requests_25() {
    let (_double, http) = double();
    let path = messages(standard::GENERAL);
    let file = vec![b'x'; 10 * 1024 * 1024 + 1];
    let fits = &file[..10 * 1024 * 1024];
    let too_large = http.post_files(&path, json!({"content": "x"}), &[("a", &file)]).await;
    assert_eq!((too_large.status, &too_large.json["code"]), (413, &json!(40005)));
    assert_eq!(
        http.post_files(&path, json!({"content": "x"}), &[("a", fits), ("b", fits)]).await.status,
        200
    );
    let three =
        http.post_files(&path, json!({"content": "x"}), &[("a", fits), ("b", fits), ("c", fits)]).await;
    assert_eq!((three.status, &three.json["code"]), (413, &json!(40005)));
}

#[tokio::test]
async fn components_of_the_second_version_exclude_the_rest() {
    let v2 = 1 << 15;
    let text = json!({"type": 10, "content": "hello"});
    let good = post(json!({"flags": v2, "components": [text]})).await;
    assert_eq!((good.status, &good.json["flags"]), (200, &json!(v2)));
    let mixed = json!({"flags": v2, "components": [text], "content": "x", "embeds": [{"title": "t"}], "sticker_ids": ["1"]});
    let reply = post(mixed).await;
    for field in ["content", "embeds", "sticker_ids"] {
        assert_eq!(
            reply.form_errors(field)[0].0,
            "MESSAGE_CANNOT_USE_LEGACY_FIELDS_WITH_COMPONENTS_V2",
            "{field}"
        );
    }
    let container = json!({"type": 17, "components": vec![text.clone(); 40]});
    assert_eq!(errors(json!({"flags": v2, "components": [container]}), "components").await.len(), 1);
    let long = json!({"type": 10, "content": "x".repeat(4001)});
    assert_eq!(errors(json!({"flags": v2, "components": [long]}), "components").await.len(), 1);
}

#[tokio::test]
async fn the_second_version_can_be_set_by_an_edit_and_not_taken_back() {
    let (_double, http) = double();
    let path = messages(standard::GENERAL);
    let text = json!({"type": 10, "content": "hello"});
    let id = http.post(&path, json!({"flags": 1 << 15, "components": [text]})).await.json["id"].clone();
    let path = format!("{path}/{}", id.as_str().expect("an id"));
    let edited = http.patch(&path, json!({"flags": 0, "components": [text]})).await;
    assert_eq!((edited.status, &edited.json["flags"]), (200, &json!(1 << 15)));
    assert_eq!(http.patch(&path, json!({"content": "x"})).await.form_errors("content").len(), 1);
}

#[tokio::test]
async fn rows_of_the_first_version_hold_one_to_five() {
    let button = json!({"type": 2, "style": 5, "url": "https://example.org", "label": "go"});
    let row = |count: usize| json!({"type": 1, "components": vec![button.clone(); count]});
    assert_eq!(post(json!({"content": "x", "components": [row(5)]})).await.status, 200);
    let bad = json!({"content": "x", "components": [row(6)]});
    assert_eq!(errors(bad, "components.0.components").await, ["BASE_TYPE_BAD_LENGTH"]);
    assert_eq!(errors(json!({"components": vec![row(1); 6]}), "components").await, ["BASE_TYPE_BAD_LENGTH"]);
    assert_eq!(errors(json!({"components": [button]}), "components.0.type").await, ["UNION_TYPE_CHOICES"]);
}

#[tokio::test]
async fn polls_have_limits_and_can_be_ended_but_not_edited() {
    let poll = |question: usize, answers: usize, hours: i64| {
        let answers = vec![json!({"poll_media": {"text": "a"}}); answers];
        json!({"poll": {"question": {"text": "q".repeat(question)}, "answers": answers, "duration": hours}})
    };
    assert_eq!(errors(poll(301, 1, 1), "poll.question.text").await, ["BASE_TYPE_BAD_LENGTH"]);
    assert_eq!(errors(poll(0, 1, 1), "poll.question.text").await, ["BASE_TYPE_REQUIRED"]);
    assert_eq!(errors(poll(1, 11, 1), "poll.answers").await, ["BASE_TYPE_BAD_LENGTH"]);
    assert_eq!(errors(poll(1, 1, 769), "poll.duration").await, ["NUMBER_TYPE_MAX"]);
    assert_eq!(errors(poll(1, 1, 0), "poll.duration").await, ["NUMBER_TYPE_MIN"]);
    let (_double, http) = double();
    let posted = http.post(&messages(standard::GENERAL), poll(300, 10, 768)).await;
    assert_eq!((posted.status, &posted.json["poll"]["results"]["is_finalized"]), (200, &json!(false)));
    let id = posted.json["id"].as_str().expect("an id").to_owned();
    let edited = http.patch(&format!("{}/{id}", messages(standard::GENERAL)), poll(1, 1, 1)).await;
    assert_eq!((edited.status, &edited.json["poll"]["question"]), (200, &posted.json["poll"]["question"]));
    let expire = format!("/channels/{}/polls/{id}/expire", standard::GENERAL);
    let ended = http.post(&expire, json!({})).await;
    assert_eq!((ended.status, &ended.json["poll"]["results"]["is_finalized"]), (200, &json!(true)));
    assert_eq!(http.post(&expire, json!({})).await.json["code"], 520_001);
}

#[tokio::test]
async fn flags_that_can_not_be_set_are_ignored() {
    assert_eq!(post(json!({"content": "x", "flags": 1 | 1 << 12})).await.json["flags"], 1 << 12);
    assert_eq!(errors(json!({"content": "x", "flags": "many"}), "flags").await, ["NUMBER_TYPE_COERCE"]);
    assert_eq!(
        errors(json!({"sticker_ids": ["1", "2", "3", "4"]}), "sticker_ids").await,
        ["BASE_TYPE_MAX_LENGTH"]
    );
}
