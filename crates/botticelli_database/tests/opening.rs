//! Opening a database: what a person reads when it does not work, and what goes on beside a server when it does.

use botticelli_database::{Condition, Mode, OpenError, Store, Wakeups};
use botticelli_server::ids::{NodeId, TaskId};
use botticelli_server::ledger::{Ledger as _, LedgerError};
use botticelli_server::server::StatePersistence as _;
use botticelli_testkit::clock::ManualClock;
use botticelli_testkit::databases::{TestDatabase, TestStore};
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

async fn open(url: &str, mode: Mode) -> Result<Store, OpenError> {
    Store::open(url, mode, ManualClock::new()).await
}

async fn refusal(url: &str, mode: Mode) -> String {
    open(url, mode).await.err().expect("it can't be opened").to_string()
}

/// A folder with a short name in messages.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// A message with this folder's name left out.
    fn shown(&self, message: &str) -> String {
        message.replace(&self.0.path().display().to_string(), "…")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_database_is_left_as_it_is() {
    let folder = Folder::new();
    let path = folder.file("notes.txt");
    let text = "not a database. ".repeat(200);
    std::fs::write(&path, &text).expect("written");
    let message = refusal(&url(&path), Mode::Command).await;
    assert_eq!(folder.shown(&message), "can't connect to sqlite://…/notes.txt: file is not a database");
    assert_eq!(std::fs::read_to_string(&path).expect("read"), text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_can_not_be_written_is_named() {
    let folder = Folder::new();
    std::fs::write(folder.file("file"), "").expect("written");
    let pipe = std::process::Command::new("mkfifo").arg(folder.file("pipe")).status();
    assert!(pipe.expect("mkfifo").success());
    for (place, mode, reason) in [
        ("missing/a.db", Mode::Server, "unable to open database file"),
        ("file/a.db", Mode::Server, "unable to open database file"),
        ("", Mode::Command, "it is a directory, not a file"),
        ("", Mode::Server, "it is a directory, not a file"),
        ("pipe", Mode::Server, "it is a device or a pipe, not a file"),
    ] {
        let message = folder.shown(&refusal(&url(&folder.file(place)), mode).await);
        assert!(message.starts_with(&format!("can't connect to sqlite://…/{place}: ")), "{message}");
        assert!(message.ends_with(reason), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_a_database_makes_nothing_and_finds_what_would_keep_it_closed() {
    let folder = Folder::new();
    assert_eq!(Store::look(&url(&folder.file("new.db"))).await.expect("it can be made"), Condition::New);
    std::fs::write(folder.file("notes.txt"), "not a database. ".repeat(200)).expect("written");
    for (place, reason) in [
        ("missing/a.db", "No such file or directory (os error 2)"),
        ("notes.txt/a.db", "Not a directory (os error 20)"),
        ("notes.txt", "file is not a database"),
        ("", "it is a directory, not a file"),
    ] {
        let error = Store::look(&url(&folder.file(place))).await.expect_err("it can't be opened");
        let message = folder.shown(&error.to_string());
        assert!(message.starts_with(&format!("can't connect to sqlite://…/{place}: ")), "{message}");
        assert!(message.contains(reason), "{message}");
    }
    let names: Vec<_> = std::fs::read_dir(folder.0.path()).expect("read").flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    if let Some(empty) = TestDatabase::postgres().await {
        assert_eq!(Store::look(empty.url()).await.expect("an answer"), Condition::New);
        assert_eq!(Store::look(empty.url()).await.expect("still nothing there"), Condition::New);
    }
}

/// The file may be read but not written: root may write it all the same, so SQLite is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_can_only_be_read_says_so() {
    let folder = Folder::new();
    let path = folder.file("a.db");
    drop(open(&url(&path), Mode::Server).await.expect("it opens"));
    let mut permissions = std::fs::metadata(&path).expect("metadata").permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).expect("set");
    if std::fs::File::options().write(true).open(&path).is_ok() {
        // We are root, for whom permissions mean nothing.
        let store = open(&url(&path), Mode::Server).await.expect("root may");
        assert!(store.now().await.is_ok());
        return;
    }
    let store = open(&url(&path), Mode::Command).await.expect("it can be read");
    assert!(store.tasks().await.is_ok());
    let error = store.pause(&TaskId::new("t").expect("a name")).await.expect_err("it can't be written");
    assert!(matches!(error, LedgerError::NotWritable(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_a_file_is_refused_and_a_command_is_not() {
    let folder = Folder::new();
    let path = folder.file("a.db");
    let server = open(&url(&path), Mode::Server).await.expect("the first");
    let message = folder.shown(&refusal(&url(&path), Mode::Server).await);
    assert_eq!(message, "…/a.db is in use by another server (lock file …/a.db.lock)");
    let command = open(&url(&path), Mode::Command).await.expect("a command may");
    std::os::unix::fs::symlink(&path, folder.file("link.db")).expect("a link");
    let message = folder.shown(&refusal(&url(&folder.file("link.db")), Mode::Server).await);
    assert_eq!(
        message, "…/link.db is in use by another server (lock file …/a.db.lock)",
        "it is the same file"
    );
    drop((server, command));
    open(&url(&path), Mode::Server).await.expect("the first is gone");
}

/// Locks and logs go by the name, so that two servers would not see each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_with_two_names_is_refused() {
    let folder = Folder::new();
    let path = folder.file("a.db");
    let server = open(&url(&path), Mode::Server).await.expect("the first");
    std::fs::hard_link(&path, folder.file("b.db")).expect("a link");
    for mode in [Mode::Server, Mode::Command] {
        let message = folder.shown(&refusal(&url(&folder.file("b.db")), mode).await);
        assert_eq!(message, "…/b.db has 2 names (hard links): each would have a log and a lock of its own");
    }
    assert!(matches!(Store::look(&url(&path)).await, Err(OpenError::ManyNames { names: 2, .. })));
    drop(server);
    std::fs::remove_file(folder.file("b.db")).expect("removed");
    open(&url(&path), Mode::Server).await.expect("it has one name again");
}

async fn is_lost(folder: &Folder, lose: impl Fn(&Path)) {
    let path = folder.file("a.db");
    let server = open(&url(&path), Mode::Server).await.expect("it opens");
    let node = NodeId::new("node").expect("a name");
    server.renew(&node, Duration::from_secs(1)).await.expect("written");
    lose(&path);
    let error = server.renew(&node, Duration::from_secs(1)).await.expect_err("nobody would find it");
    assert!(matches!(error, LedgerError::NotWritable(_)), "{error:?}");
    let said = "the database can't be written: …/a.db was deleted, moved or replaced while it was in use";
    assert_eq!(folder.shown(&error.to_string()), said);
    // Returns by itself.
    server.watch(Wakeups::default(), CancellationToken::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stored_in_a_file_that_is_gone_from_its_place() {
    let folder = Folder::new();
    is_lost(&folder, |path| std::fs::remove_file(path).expect("removed")).await;
    let other = folder.file("b.db");
    drop(open(&url(&other), Mode::Server).await.expect("another database"));
    is_lost(&folder, |path| std::fs::rename(&other, path).expect("replaced")).await;
}

/// Neither where there is nothing, nor in what is somebody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_makes_no_database() {
    let folder = Folder::new();
    let message = folder.shown(&refusal(&url(&folder.file("typo.db")), Mode::Command).await);
    assert_eq!(message, "sqlite://…/typo.db does not exist");
    assert_eq!(std::fs::read_dir(folder.0.path()).expect("read").count(), 0);

    let others = folder.file("others.db");
    let mut connection = SqliteConnection::establish(others.to_str().expect("a path")).expect("a file");
    connection.batch_execute("CREATE TABLE theirs (id integer)").expect("a table");
    let before = std::fs::read(&others).expect("read");
    let message = folder.shown(&refusal(&url(&others), Mode::Command).await);
    assert_eq!(message, "sqlite://…/others.db has none of the server's tables");
    assert_eq!(std::fs::read(&others).expect("read"), before);

    if let Some(empty) = TestDatabase::postgres().await {
        let message = refusal(empty.url(), Mode::Command).await;
        assert!(message.ends_with(" has none of the server's tables"), "{message}");
        assert_eq!(Store::look(empty.url()).await.expect("an answer"), Condition::New);
    }
}

async fn is_behind(database: &TestStore) {
    let last = database.value("SELECT max(version) AS value FROM __diesel_schema_migrations").await;
    database.sql(&format!("DELETE FROM __diesel_schema_migrations WHERE version = '{last}'")).await;
    let message = refusal(database.url(), Mode::Command).await;
    let said = format!(" was left by an older actor-server: not migrated yet ({last})");
    assert!(message.ends_with(&said), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_leaves_a_database_as_an_older_server_left_it() {
    is_behind(&TestStore::sqlite().await).await;
    if let Some(postgres) = TestStore::postgres().await {
        is_behind(&postgres).await;
    }
}

/// A backup, or a person who forgot to end a transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_reads_does_not_wait_for_who_writes() {
    let database = TestStore::sqlite().await;
    let path = database.url().trim_start_matches("sqlite://");
    let mut writer = SqliteConnection::establish(path).expect("it opens");
    writer.batch_execute("BEGIN IMMEDIATE").expect("nobody else writes");
    let command = open(database.url(), Mode::Command).await.expect("nothing is to be migrated");
    assert_eq!(command.tasks().await.expect("they are read"), []);
    let nothing = Store::migrate(database.url(), ManualClock::new()).await;
    assert_eq!(nothing.expect("there is nothing to do"), Vec::<String>::new());
    open(database.url(), Mode::Server).await.expect("a server too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_only_read_can_read() {
    let Some(database) = TestStore::postgres().await else { return };
    let separator = if database.url().contains('?') { '&' } else { '?' };
    let reader = format!("{}{separator}options=-c%20role%3Dpg_read_all_data", database.url());
    let command = open(&reader, Mode::Command).await.expect("nothing is to be migrated");
    assert_eq!(command.tasks().await.expect("they are read"), []);
    let error = command.living_nodes().await;
    assert_eq!(error.expect("they are read too"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_does_not_get_its_lock_says_so() {
    let Some(database) = TestStore::postgres().await else { return };
    database.sql("DELETE FROM __diesel_schema_migrations WHERE version = '20261123000005'").await;
    let other =
        tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.expect("another program");
    let _open = tokio::spawn(other.1);
    other.0.batch_execute("SELECT pg_advisory_lock(7236504110)").await.expect("it has the lock");
    let separator = if database.url().contains('?') { '&' } else { '?' };
    let hasty = format!("{}{separator}options=-c%20lock_timeout%3D200ms", database.url());
    let message = refusal(&hasty, Mode::Server).await;
    assert!(message.ends_with(" has to be migrated, and another program keeps it locked"), "{message}");
}

async fn is_too_new(database: &TestStore, shown: &str) {
    database.sql("UPDATE actor_server_meta SET min_binary = '0.10.0'").await;
    let message = refusal(database.url(), Mode::Command).await;
    assert_eq!(message, format!("{shown} needs actor-server 0.10.0 or newer; this is 0.1.0"));
    assert_eq!(Store::look(database.url()).await.expect_err("too new").to_string(), message);
    assert!(matches!(
        Store::migrate(database.url(), ManualClock::new()).await,
        Err(OpenError::TooNew { needed, .. }) if needed == "0.10.0"
    ));
    database.sql("UPDATE actor_server_meta SET min_binary = '0.1.0'").await;
    assert_eq!(Store::look(database.url()).await.expect("an answer"), Condition::Ready);
    open(database.url(), Mode::Command).await.expect("now it is old enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_a_newer_program_is_refused() {
    let sqlite = TestStore::sqlite().await;
    is_too_new(&sqlite, sqlite.url()).await;
    if let Some(postgres) = TestStore::postgres().await {
        let name = postgres.url().split('?').next().expect("a URL").rsplit('/').next().expect("a name");
        let place = postgres.url().split("://").nth(1).expect("a URL").split('?').next().expect("a place");
        let shown = place.rsplit_once('@').map_or(place, |(_, place)| place);
        assert!(shown.ends_with(name));
        is_too_new(&postgres, &format!("postgres://{shown}")).await;
    }
}

async fn eight_open_at_once(url: &str) {
    let opening: Vec<_> = (0..8)
        .map(|_| {
            let url = url.to_owned();
            tokio::spawn(async move {
                Store::migrate(&url, ManualClock::new()).await.expect("it is made");
                let store = open(&url, Mode::Command).await.expect("it opens");
                store.now().await.expect("it works")
            })
        })
        .collect();
    for opening in opening {
        opening.await.expect("no panic");
    }
    let again = Store::migrate(url, ManualClock::new()).await.expect("nothing to do");
    assert_eq!(again, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_open_and_migrate_a_new_database_at_once() {
    for _ in 0..3 {
        let folder = Folder::new();
        eight_open_at_once(&url(&folder.file("a.db"))).await;
    }
    if let Some(empty) = TestDatabase::postgres().await {
        eight_open_at_once(empty.url()).await;
    }
}

/// Also who only asks whether it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_does_not_answer_is_named_without_its_password() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = nobody.local_addr().expect("an address").port();
    drop(nobody);
    let message = refusal(&format!("postgres://me:s3cret@127.0.0.1:{port}/bots"), Mode::Server).await;
    assert_eq!(
        message,
        format!(
            "can't connect to postgres://127.0.0.1:{port}/bots: error connecting to server: \
             Connection refused (os error 111)"
        )
    );
    for bad in [
        "postgres://me:s3cret@h:port/bots",
        "postgres://me:s3cret@h/bots?keepalives=s3cret",
        "postgres://me:s3cret@%zz/b",
    ] {
        let message = refusal(bad, Mode::Server).await;
        assert!(!message.contains("s3cret"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_said_and_not_shown() {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = server.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = server.accept().await {
            let mut buffer = [0; 1024];
            // What PostgreSQL says to a client whose password is wrong.
            let mut length = client.read(&mut buffer).await.expect("a request");
            if length == 8 {
                client.write_all(b"N").await.expect("no TLS here");
                length = client.read(&mut buffer).await.expect("the start");
            }
            assert!(length > 8);
            client.write_all(b"R\0\0\0\x08\0\0\0\x03").await.expect("the password, please");
            let length = client.read(&mut buffer).await.expect("the password");
            assert!(buffer[..length].windows(6).any(|bytes| bytes == b"s3cret"));
            let fields = b"SFATAL\0C28P01\0Mpassword authentication failed for user \"me\"\0\0";
            let mut error = b"E".to_vec();
            error.extend(u32::try_from(fields.len() + 4).expect("short").to_be_bytes());
            error.extend(fields);
            client.write_all(&error).await.expect("the answer");
        }
    });
    let message = refusal(&format!("postgres://me:s3cret@127.0.0.1:{port}/bots"), Mode::Server).await;
    assert!(
        message.starts_with(&format!("can't connect to postgres://127.0.0.1:{port}/bots: ")),
        "{message}"
    );
    assert!(message.contains("password authentication failed for user \"me\""), "{message}");
    assert!(!message.contains("s3cret"), "{message}");
}

/// Whoever comes next gets a new connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_postgres_closed_are_replaced() {
    let Some(database) = TestStore::postgres().await else { return };
    let all = futures::future::join_all((0..8).map(|_| database.now())).await;
    assert!(all.iter().all(Result::is_ok));
    database
        .sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    let mut errors = 0;
    while let Err(error) = database.now().await {
        assert!(matches!(error, LedgerError::Unavailable(_)), "{error:?}");
        errors += 1;
        assert!(errors <= 8, "one for each connection at most");
    }
}

/// A server and commands write as fast as they can, for many turns: they wait for each other, and nobody is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_ever_reads_that_the_database_is_locked() {
    let database = TestStore::sqlite().await;
    let server = open(database.url(), Mode::Server).await.expect("the server");
    let mut writers = vec![server];
    for _ in 0..3 {
        writers.push(database.another().await);
    }
    let tasks: Vec<_> = writers
        .into_iter()
        .enumerate()
        .map(|(n, store)| {
            tokio::spawn(async move {
                let name = format!("writer {n}");
                let snapshot = botticelli_database::DatabaseStatePersistence::<u32>::new(store.clone(), name);
                let node = botticelli_server::ids::NodeId::new(format!("node {n}")).expect("a name");
                for turn in 0..150_u32 {
                    snapshot.save(&turn).await.expect("written");
                    store.renew(&node, Duration::from_secs(1)).await.expect("written");
                    store.agenda(store.now().await.expect("read"), None, 10).await.expect("read");
                    assert_eq!(snapshot.load().await.expect("read"), Some(turn));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

/// A server on SQLite is alone: every other node that left a row there is dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_sqlite_takes_over_at_once_what_its_predecessor_left() {
    use botticelli_testkit::store_suite::{Player, each_minute, register};
    let database = TestStore::sqlite().await;
    let task = each_minute("task");
    register(&database, &[&task]).await;
    let killed = Player::enter(&database, "killed").await;
    let attempt = killed.claim(&task).await;
    let server = open(database.url(), Mode::Server).await.expect("the server");
    let node = botticelli_server::ids::NodeId::new("server").expect("a name");
    server.renew(&node, Duration::from_secs(15)).await.expect("a heartbeat");
    let rescued = server.rescue(&node).await.expect("an answer");
    assert_eq!(rescued.handed_on, [attempt.execution_id]);
}
