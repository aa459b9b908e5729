use super::*;
use crate::skills::testing::World;
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use serde_json::json;
use std::fs;

/// A folder with an actor file in it, so to speak.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn own_database(&self) -> String {
        format!("sqlite://{}", self.0.path().join("own.db").display())
    }

    fn execute(&self, sql: &str) {
        let path = self.0.path().join("own.db");
        SqliteConnection::establish(path.to_str().unwrap()).unwrap().batch_execute(sql).unwrap();
    }

    fn build(&self, toml: &str) -> Result<KnowledgeSet, Vec<Fault>> {
        self.build_in(self.0.path(), toml)
    }

    fn build_in(&self, folder: &Path, toml: &str) -> Result<KnowledgeSet, Vec<Fault>> {
        let mut file: ActorFile = toml::from_str(&format!("actor.name = 'a'\n{toml}")).unwrap();
        file.folder = folder.to_owned();
        KnowledgeSet::build(&file, &self.own_database())
    }

    async fn read(&self, toml: &str) -> Result<Vec<Item>, String> {
        let set = self.build(&format!("[[knowledge]]\nname = 'facts'\n{toml}")).unwrap();
        items(&set, &World::new()).await
    }

    /// The fields of the items of one file.
    async fn fields(self, name: &str, content: impl AsRef<[u8]>) -> Result<Value, String> {
        let read = self.file(name, content).read(&format!("type = 'file'\npath = '{name}'")).await;
        read.map(|items| items.into_iter().map(|item| Value::Object(item.fields)).collect())
    }

    fn fault(&self, toml: &str) -> (String, String) {
        let mut faults = self.build(toml).err().expect("a fault");
        assert_eq!(faults.len(), 1, "{faults:?}");
        let Fault { path, message, .. } = faults.remove(0);
        (path.to_string(), message)
    }
}

async fn items(set: &KnowledgeSet, world: &World) -> Result<Vec<Item>, String> {
    set.items("facts", &world.context()).await.map(|items| items.to_vec()).map_err(|error| error.to_string())
}

fn keys(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.key.as_str()).collect()
}

#[tokio::test]
async fn every_kind_of_file_is_read() {
    let expected = json!([{"id": "a", "text": "One, two"}]);
    for (name, content) in [
        ("facts.csv", "\u{feff}id,text\na,\"One, two\"\n"),
        ("facts.json", r#"[{"id": "a", "text": "One, two"}]"#),
        ("facts2.json", r#"{"version": 1, "items": [{"id": "a", "text": "One, two"}]}"#),
        ("facts.jsonl", "\n{\"id\": \"a\", \"text\": \"One, two\"}\r\n\n"),
        ("facts.toml", "title = 'x'\n[[facts]]\nid = 'a'\ntext = 'One, two'"),
        ("facts.md", "+++\nid = 'a'\n+++\n\nOne, two\n"),
        ("facts.markdown", "---\r\nid: a\r\n---\r\n\r\nOne, two\r\n"),
    ] {
        assert_eq!(Folder::new().fields(name, content).await.unwrap(), expected, "{name}");
    }
}

#[tokio::test]
async fn times_in_toml_become_texts_and_values_in_flat_front_matter_get_their_types() {
    let toml = Folder::new().fields("a.md", "+++\nat = 2026-03-01T10:00:00Z\n+++\nx").await.unwrap();
    assert_eq!(toml, json!([{"at": "2026-03-01T10:00:00Z", "text": "x"}]));
    let flat = "---\n# comment\ntitle: It's: a title\nscore: 7.5\ndraft: false\ntags: [a, 'b c', 3]\nquoted: \"x: y\"\n---\nx";
    assert_eq!(
        Folder::new().fields("a.md", flat).await.unwrap(),
        json!([{"title": "It's: a title", "score": 7.5, "draft": false, "tags": ["a", "b c", 3], "quoted": "x: y", "text": "x"}])
    );
    assert_eq!(
        Folder::new().fields("a.md", "no front matter").await.unwrap(),
        json!([{"text": "no front matter"}])
    );
    let inline =
        Folder::new().read("type = 'inline'\nitems = ['one', {id = 2, at = 2026-03-01}]").await.unwrap();
    assert_eq!(Value::Object(inline[1].fields.clone()), json!({"id": 2, "at": "2026-03-01"}));
    assert_eq!(inline[0].text(), "one");
}

#[tokio::test]
async fn a_bad_file_is_named_with_the_place() {
    for (name, content, message) in [
        (
            "a.csv",
            "id,text\na\n".as_bytes(),
            "a.csv: CSV error: record 1 (line: 2, byte: 8): found record with 1 fields, but the previous record has 2 fields",
        ),
        ("a.csv", b"id,id\n", "a.csv: the head line has \"id\" twice"),
        ("a.json", b"[{]", "a.json: key must be a string at line 1 column 3"),
        ("a.json", b"[1]", "a.json: item 1 is no object: 1"),
        ("a.json", b"3", "a.json: there is no list of items"),
        ("a.json", br#"{"a": [], "b": []}"#, "a.json: there are several lists: which one has the items?"),
        ("a.jsonl", b"{}\n{\"a\": }\n", "a.jsonl: line 2: expected value at line 1 column 7"),
        ("a.toml", b"a = [", "a.toml: TOML parse error at line 1"),
        ("a.md", b"+++\nid = 1\n", "a.md: the front matter has no +++ at its end"),
        (
            "a.md",
            b"---\ntags:\n  - a\n---\n",
            "a.md: line 2: \"tags\" is not flat (nested YAML is not read; use +++ and TOML)",
        ),
        ("a.md", b"---\n- a\n---\n", "a.md: line 2: not `key: value`"),
        ("a.md", b"---\na: 1\na: 2\n---\n", "a.md: line 3: \"a\" is there twice"),
        ("a.md", b"+++\ntext = 'x'\n+++\n", "a.md: the front matter has `text`"),
        ("a.csv", b"id\nok\n\xff\n", "a.csv:3: invalid UTF-8 (byte 6)"),
    ] {
        let error = Folder::new().fields(name, content).await.unwrap_err();
        assert!(error.starts_with("knowledge \"facts\": ") && error.contains(message), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_is_missing_or_too_large_is_an_error_that_names_it() {
    let folder = Folder::new();
    let set = folder.build("[[knowledge]]\nname = 'facts'\ntype = 'file'\npath = 'missing.csv'").unwrap();
    let error = set.items("facts", &World::new().context()).await.unwrap_err();
    assert!(matches!(&error, SkillError::Unrecoverable(text) if text.ends_with("missing.csv")), "{error}");
    let nothing = folder.read("type = 'file'\npath = '*.csv'").await.unwrap_err();
    assert!(nothing.contains("no file matches") && nothing.ends_with("*.csv"), "{nothing}");

    let path = folder.0.path().join("huge.csv");
    fs::File::create(&path).unwrap().set_len((64 << 20) + 1).unwrap();
    let error = folder.read("type = 'file'\npath = 'huge.csv'").await.unwrap_err();
    assert!(error.ends_with("huge.csv: the source has more than 64 MiB"), "{error}");
}

#[tokio::test]
async fn a_pattern_reads_files_in_order_from_the_actor_file_s_folder() {
    let folder = Folder::new().file("[b]/2.md", "two").file("[b]/1.md", "one").file("[b]/c/3.md", "three");
    let base = folder.0.path().join("[b]");
    let set =
        folder.build_in(&base, "[[knowledge]]\nname = 'facts'\ntype = 'file'\npath = '**/*.md'").unwrap();
    let texts: Vec<_> =
        items(&set, &World::new()).await.unwrap().iter().map(|item| item.text().into_owned()).collect();
    assert_eq!(texts, ["one", "two", "three"]);
}

#[tokio::test]
async fn an_item_is_known_by_its_key_else_by_its_content_in_whatever_order() {
    let folder = Folder::new().file(
        "a.json",
        r#"[{"id": 7, "slug": "x"}, {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}]"#,
    );
    let found = folder.read("type = 'file'\npath = 'a.json'").await.unwrap();
    assert_eq!(keys(&found), ["7", "59df172bedb243f0678439bb5097193b"]);
    let error = folder.read("type = 'file'\npath = 'a.json'\nkey = 'slug'").await.unwrap_err();
    assert_eq!(error, "knowledge \"facts\": item 2 has no \"slug\", which is its key");
    let twice = folder.read("type = 'inline'\nitems = [{id = 1, a = 1}, {id = 1, a = 2}]").await.unwrap_err();
    assert_eq!(twice, "knowledge \"facts\": items 1 and 2 have the same id, \"1\", but are not the same");
}

#[tokio::test]
async fn tables_and_queries_are_read_from_the_server_s_own_database_or_another() {
    let folder = Folder::new();
    folder.execute(
        "CREATE TABLE facts (id TEXT, task TEXT); INSERT INTO facts VALUES ('a', 'daily'), ('b', 'other')",
    );
    let table = folder.read("type = 'table'\ntable = 'facts'\norder_by = 'id desc'").await.unwrap();
    assert_eq!(keys(&table), ["b", "a"]);
    let query = "type = 'query'\nquery = 'SELECT * FROM facts WHERE task = $task AND $scheduled_for <= $now'";
    assert_eq!(keys(&folder.read(query).await.unwrap()), ["a"]);
    let elsewhere = folder
        .read("type = 'table'\ntable = 'facts'\ndatabase = 'sqlite:///nowhere/x.db'")
        .await
        .unwrap_err();
    assert_eq!(elsewhere, "knowledge \"facts\": sqlite:///nowhere/x.db does not exist");
}

#[tokio::test]
async fn a_missing_table_is_named_with_the_nearest() {
    let folder = Folder::new();
    folder.execute("CREATE TABLE facts (id TEXT)");
    let error = folder.read("type = 'table'\ntable = 'fakts'").await.unwrap_err();
    assert!(error.contains("there is no table \"fakts\" in sqlite://"), "{error}");
    assert!(error.ends_with("(did you mean \"facts\"?)"), "{error}");
    let set = folder.build("[[knowledge]]\nname = 'facts'\ntype = 'table'\ntable = 'x'").unwrap();
    let error = set.items("facts", &World::new().context()).await.unwrap_err();
    assert!(
        matches!(&error, SkillError::Unrecoverable(text) if text.ends_with("(there are: facts)")),
        "{error}"
    );
}

#[tokio::test]
async fn a_trigger_s_parameters_are_bound_and_may_have_defaults() {
    let folder = Folder::new();
    let query = "type = 'query'\nquery = 'SELECT $channel AS id'";
    let error = folder.read(query).await.unwrap_err();
    assert!(
        error.contains("the query's parameter $channel has no value (known: task, now, scheduled_for;"),
        "{error}"
    );
    folder.execute("CREATE TABLE t (a)");
    let set = folder
        .build(&format!("[[knowledge]]\nname = 'facts'\n{query}\nparameters = {{channel = 'art'}}"))
        .unwrap();
    let mut context = World::new().context();
    assert_eq!(set.items("facts", &context).await.unwrap()[0].key, "art");
    context.parameters = json!({"channel": "'; --"});
    assert_eq!(set.items("facts", &context).await.unwrap()[0].key, "'; --");
}

#[test]
fn what_can_be_seen_without_reading_is_refused_at_load() {
    let folder = Folder::new();
    for (toml, path, message) in [
        (
            "type = 'file'\npath = 'facts.xlsx'",
            "path",
            "\"facts.xlsx\" has no ending that says what it is (allowed: .csv,",
        ),
        ("type = 'file'\npath = '[.csv'", "path", "bad pattern"),
        ("type = 'file'\npath = 'a.csv'\npth = 'x'", "pth", "pth is not a known key"),
        ("type = 'file'", "path", "path is missing"),
        ("type = 'files'", "type", "type: unknown type \"files\""),
        ("type = 'table'\ntable = 'a b'", "table", "\"a b\" is no name"),
        ("type = 'table'\ntable = 'a'\nlimit = 0", "limit", "limit is 0 (allowed: a whole number, 1-100000)"),
        ("type = 'table'\ntable = 'a'\norder_by = 'b down'", "order_by", "\"b down\" is no order"),
        ("type = 'table'\ntable = 'a'\ndatabase = 'mysql://x:secret@y'", "database", "\"mysql\""),
        ("type = 'query'\nquery = 'DELETE FROM a'", "query", "only a query is allowed"),
        (
            "type = 'query'\nquery = 'SELECT 1'\nparameters = {a = 1}",
            "parameters",
            "the query has no parameter $a",
        ),
        ("type = 'inline'\nitems = [3]", "items", "an item is a text or a table"),
    ] {
        let (found, text) = folder.fault(&format!("[[knowledge]]\nname = 'facts'\n{toml}"));
        assert_eq!(found.split_once("].").unwrap().1.split('[').next(), Some(path), "{toml}: {text}");
        assert!(text.contains(message) && !text.contains("secret"), "{text}");
    }
    let inline = "[[knowledge]]\nname = 'facts'\ntype = 'inline'\nitems = []\n";
    assert_eq!(
        folder.fault(&format!("{inline}{inline}")),
        ("knowledge[1].name".to_owned(), "name: there is another knowledge source \"facts\"".to_owned())
    );
}

#[tokio::test]
async fn what_was_read_is_kept_as_long_as_the_cache_says() {
    let folder = Folder::new().file("a.csv", "id\na\n");
    let source = "[[knowledge]]\nname = 'facts'\ntype = 'file'\npath = 'a.csv'\n";
    let cached = folder.build(&format!("{source}[cache]\nstrategy = 'memory'\nttl_seconds = 60")).unwrap();
    let fresh = folder.build(source).unwrap();
    let mut world = World::new();
    items(&cached, &world).await.unwrap();
    let folder = folder.file("a.csv", "id\nb\n");
    assert_eq!(keys(&items(&fresh, &world).await.unwrap()), ["b"]);
    world.now += TimeDelta::seconds(59);
    assert_eq!(keys(&items(&cached, &world).await.unwrap()), ["a"]);
    world.now += TimeDelta::seconds(1);
    assert_eq!(keys(&items(&cached, &world).await.unwrap()), ["b"]);
    drop(folder);
}

#[tokio::test]
async fn the_cache_keeps_results_apart_and_no_more_than_it_may() {
    let folder = Folder::new();
    folder.execute("CREATE TABLE counter (n)");
    let set = folder
        .build("[[knowledge]]\nname = 'facts'\ntype = 'query'\nquery = 'SELECT $a AS a, count(*) AS n FROM counter'\n[cache]\nstrategy = 'memory'\nmax_entries = 2")
        .unwrap();
    let read = async |a: i64| {
        let mut context = World::new().context();
        context.parameters = json!({"a": a});
        set.items("facts", &context).await.unwrap()[0].number("n").unwrap()
    };
    assert_eq!((read(1).await, read(2).await), (0.0, 0.0));
    folder.execute("INSERT INTO counter VALUES (1)");
    assert_eq!((read(2).await, read(1).await), (0.0, 0.0), "both are kept");
    assert_eq!(read(3).await, 1.0, "another parameter is another result");
    assert_eq!(read(1).await + read(2).await + read(3).await, 2.0, "one had to go");
}

#[tokio::test]
async fn a_query_that_is_out_of_time_is_named_with_its_time() {
    let folder = Folder::new();
    folder.execute("CREATE TABLE t (a)");
    // Computes one row for ever.
    let endless =
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) AS id FROM c";
    let source = format!("type = 'query'\ntimeout_seconds = 1\nquery = '{endless}'");
    let set = folder.build(&format!("[[knowledge]]\nname = 'facts'\n{source}")).unwrap();
    let SkillError::Recoverable(error) = set.items("facts", &World::new().context()).await.unwrap_err()
    else {
        panic!("another try may help");
    };
    assert!(error.starts_with("knowledge \"facts\": "), "{error}");
    assert!(error.ends_with(" did not answer within 1 s"), "{error}");
}

#[tokio::test]
async fn an_unknown_source_is_named() {
    let set = Folder::new().build("[[knowledge]]\nname = 'fact'\ntype = 'inline'\nitems = []").unwrap();
    let error = items(&set, &World::new()).await.unwrap_err();
    assert_eq!(error, "unknown knowledge source \"facts\" (did you mean \"fact\"? (known: fact))");
}
