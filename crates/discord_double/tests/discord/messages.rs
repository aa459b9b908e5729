use crate::{double, messages};
use discord_double::standard;
use serde_json::json;

#[tokio::test]
async fn a_message_is_created_edited_read_and_deleted() {
    let (double, http) = double();
    let created = http.post(&messages(standard::GENERAL), json!({"content": " hello "})).await;
    assert_eq!((created.status, &created.json["content"]), (200, &json!("hello")));
    assert_eq!(created.json["author"]["id"], standard::BOT.to_string());
    let path = format!("{}/{}", messages(standard::GENERAL), created.json["id"].as_str().expect("an id"));
    let edited = http.patch(&path, json!({"content": "bye"})).await;
    assert_eq!((edited.status, edited.json["edited_timestamp"].is_string()), (200, true));
    assert_eq!(http.get(&path).await.json["content"], "bye");
    assert_eq!(double.visible(standard::GENERAL)[0].content, "bye");
    assert_eq!(http.delete(&path).await.status, 204);
    assert_eq!(http.get(&path).await.json["code"], 10008);
    assert_eq!(double.ledger().len(), 3);
}
