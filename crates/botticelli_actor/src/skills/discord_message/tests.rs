use super::super::testing::*;
use super::*;
use serde_json::json;

fn world(item: Value) -> World {
    World::new().items(json!([item]))
}

async fn extra(world: &World, settings: &str) -> Result<Extra, String> {
    let draft = world.run("discord_message", settings, world.draft_of_items()).await;
    draft.map(|mut draft| draft.entries[0].extras.remove(EXTRA).unwrap()).map_err(|error| error.to_string())
}

async fn first(world: &World, settings: &str) -> Value {
    extra(world, settings).await.unwrap().first
}

fn faults(settings: &str) -> Vec<String> {
    let faults = skill("discord_message", settings).check(&[]);
    faults.into_iter().map(|fault| fault.message).collect()
}

const EVERYTHING: &str = "
silent = true
crosspost = true
reply_to = '{{ answers }}'
mentions = { users = ['7'], replied_user = true }
thread = { name = 'About {{ title }}', auto_archive_minutes = 60 }
poll = { question = '{{ title }}?', answers = ['Yes', '{{ other|default(\"\") }}', 'No'], hours = 48, multiple = true }
links = [{ label = 'Read', url = '{{ url }}' }, { label = 'More', url = '{{ more|default(\"\") }}' }]
[[embeds]]
title = '{{ title|upper }}'
description = '{{ text }}'
url = '{{ url }}'
color = '#ff8800'
timestamp = '{{ now }}'
image = '{{ picture|default(\"\") }}'
footer = { text = 'by {{ task }}' }
fields = [{ name = 'A', value = '{{ n }}', inline = true }, { name = 'B', value = '{{ nothing|default(\"\") }}' }]
[[embeds]]
title = '{{ nothing|default(\"\") }}'
color = '#000000'
[[files]]
name = '{{ title }}.txt'
text = '{{ text }}'
";

#[tokio::test]
async fn every_setting_becomes_what_discord_gets_and_what_is_empty_is_left_out() {
    assert_eq!(faults(EVERYTHING), [""; 0]);
    let item =
        json!({"id": "a", "title": "Tea", "text": "Hot", "n": 3, "url": "https://a.b/", "answers": "5"});
    let world = world(item);
    let extra = extra(&world, EVERYTHING).await.unwrap();
    assert_eq!(
        extra.first,
        json!({
            "silent": true,
            "crosspost": true,
            "reply": {"message_id": "5"},
            "mentions": {"users": ["7"], "replied_user": true},
            "thread": {"name": "About Tea", "auto_archive_minutes": 60},
            "poll": {"question": "Tea?", "answers": ["Yes", "No"], "hours": 48, "multiple": true},
            "links": [{"label": "Read", "url": "https://a.b/"}],
            "embeds": [{
                "title": "TEA",
                "description": "Hot",
                "url": "https://a.b/",
                "timestamp": "2026-03-01T12:00:00Z",
                "color": 0xFF_8800,
                "footer": {"text": "by daily"},
                "fields": [{"name": "A", "value": "3", "inline": true}],
            }],
            "files": [{"name": "Tea.txt", "data": {"text": "Hot"}}],
        })
    );
    let others = json!({"silent": true, "crosspost": true, "mentions": {"users": ["7"]}});
    assert_eq!((extra.others, extra.whole), (Some(others), None));
    let notes = world.notes("discord_message", "silent = true", world.draft_of_items()).await;
    assert_eq!(notes, ["\"a\" comes with silent on Discord"]);
}

#[tokio::test]
async fn a_forum_post_and_a_message_that_hides_its_text_have_one_part() {
    let world = world(json!({"id": "a", "title": "Tea"}));
    let forum = extra(&world, "forum = { name = '{{ title }}', tags = ['news'] }").await.unwrap();
    assert_eq!(forum.first, json!({"forum": {"name": "Tea", "tags": ["news"]}}));
    assert_eq!((forum.others, forum.whole), (None, Some("a post in a forum")));
    let hidden = extra(&world, "hide_text = true\nembeds = [{ title = '{{ title }}' }]").await.unwrap();
    assert_eq!(hidden.first, json!({"content": "", "embeds": [{"title": "Tea"}]}));
    assert_eq!(hidden.whole, Some("a message that hides its text"));
}

#[test]
fn what_can_not_fit_is_refused_at_load_with_field_and_limit() {
    let answers = |count| format!("poll = {{ question = 'Q', answers = {:?} }}", vec!["a"; count]);
    for (settings, wrong) in [
        ("", "nothing is set: nothing comes with the message"),
        ("hide_text = true", "content is empty, and there are no embeds, files, links or poll either"),
        (&answers(11), "poll.answers has 11 entries (allowed: 10)"),
        ("embeds = [{ color = 'red', title = 'x' }]", "embeds[0].color is \"red\" (allowed: \"#RRGGBB\")"),
        (
            "embeds = [{ timestamp = 'now', title = 'x' }]",
            "embeds[0].timestamp is no time in RFC 3339: \"now\"",
        ),
        ("links = [{ label = 'a', url = 'a.b' }]", "links[0].url is no URL of a page (https://…): \"a.b\""),
        (
            "thread = { name = 't', auto_archive_minutes = 7 }",
            "thread.auto_archive_minutes is 7 (allowed: 60, 1440, 4320, 10080)",
        ),
        ("reply_to = 'me'", "reply_to \"me\" is no id of Discord's: those are numbers of 17 to 20 digits"),
        ("files = [{}]", "files[0] needs either `path` or `text`"),
        ("files = [{ text = 'a' }]", "files[0].name is missing: a file of `text` needs a name"),
        (
            "forum = { name = 'f' }\ncrosspost = true",
            "crosspost is not possible in the first message of a forum post",
        ),
        (
            "mentions = { any_user = true, users = ['7'] }",
            "mentions.users can't be listed when any may be pinged",
        ),
    ] {
        assert_eq!(faults(settings), [wrong], "{settings}");
    }
    let long = format!("embeds = [{{ title = '{}' }}]", "x".repeat(257));
    assert_eq!(faults(&long), ["embeds[0].title has 257 characters (allowed: 256)"]);
    let two_of_items = "files = [{ path = '{{ a }}' }, { path = '{{ b }}' }]\n\
                        embeds = [{ image = 'attachment://a.png' }]\nsender = { name = '{{ who }}' }";
    assert_eq!(faults(two_of_items), [""; 0], "only an item can tell");
}

#[tokio::test]
async fn a_template_that_fails_is_named_by_its_field() {
    let world = world(json!({"id": "a", "title": "T"}));
    let error = extra(&world, "embeds = [{ title = '{{ titel }}' }]").await.unwrap_err();
    assert!(
        error.starts_with(
            "item \"a\" of \"facts\": embeds[0].title: the item has no field \"titel\" (did you mean \"title\"?"
        ),
        "{error}"
    );
    let error = extra(&world, "reply_to = '{{ title }}'").await.unwrap_err();
    assert!(error.contains("reply_to \"T\" is no id of Discord's"), "{error}");
}

#[tokio::test]
async fn files_are_those_of_the_actor_s_folder_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let actor = folder.path().join("actor");
    std::fs::create_dir_all(actor.join("pictures")).unwrap();
    std::fs::write(folder.path().join("secret.txt"), "x").unwrap();
    std::fs::write(actor.join("pictures/a.png"), "x").unwrap();
    std::fs::File::create(actor.join("huge")).unwrap().set_len((10 << 20) + 1).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret.txt"), actor.join("link")).unwrap();
    let with = |path: &str| {
        let mut world = world(json!({"id": "a", "path": path}));
        world.folder = actor.clone();
        world
    };
    let settings = "files = [{ path = '{{ path }}', spoiler = true }]";
    let whole = actor.canonicalize().unwrap().join("pictures/a.png");
    let file = json!([{"name": "a.png", "data": {"path": whole}, "spoiler": true}]);
    assert_eq!(first(&with("pictures/a.png"), settings).await["files"], file);
    for (path, wrong) in [
        ("../secret.txt", "files[0].path leads out of the actor's folder: \"../secret.txt\""),
        ("/etc/passwd", "files[0].path leads out of the actor's folder: \"/etc/passwd\""),
        ("link", "files[0].path leads out of the actor's folder: \"link\""),
        ("pictures", "files[0].path is no file: \"pictures\""),
        ("none", "files[0].path can't read \"none\": "),
        ("huge", "files[0] has 10485761 bytes (allowed: 10485760)"),
    ] {
        let error = extra(&with(path), settings).await.unwrap_err();
        assert!(error.contains(wrong), "{path}: {error}");
    }
}
