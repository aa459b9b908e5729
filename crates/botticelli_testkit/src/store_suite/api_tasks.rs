//! Tasks that are made over the API, beside those of the file.

use super::players::*;
use crate::databases::TestStore;
use botticelli_database::{ApiTask, Expected, PutTask, TaskChange};
use botticelli_server::ids::DefinitionHash;
use botticelli_server::ledger::{Ledger as _, Registered, Registration, Trigger};
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::server::{Accepted, Event, EventServer as _};
use botticelli_server::task::Task;
use serde_json::{Value, json};

fn defined(mut task: Task, definition: &str) -> Task {
    task.definition = DefinitionHash::new(definition).expect("a hash");
    task
}

async fn put(db: &TestStore, task: &Task, expected: Expected) -> TaskChange {
    let entry = json!({ "definition": task.definition.as_str() });
    db.put_task(PutTask { task: task.clone(), entry, expected }).await.expect("an answer")
}

async fn done(db: &TestStore, task: &Task, expected: Expected) -> i64 {
    match put(db, task, expected).await {
        TaskChange::Done(revision) => revision,
        other => panic!("not done: {other:?}"),
    }
}

/// A server reloads its file, which has `file`, and makes of the API's tasks `made`.
async fn reload(db: &TestStore, file: &[&Task], made: &[(&Task, i64)]) -> Registered {
    let tasks = file.iter().map(|task| (*task).clone()).collect();
    let made = made.iter().map(|(task, revision)| ((*task).clone(), *revision)).collect();
    let registration = Registration { tasks, complete: true, start: false };
    db.register_all(registration, made).await.expect("an answer")
}

/// A name has one owner, whoever comes first.
pub async fn the_file_and_the_api_leave_each_others_tasks_alone(db: &TestStore) {
    let (file, made) = (each_minute("file"), each_minute("made"));
    reload(db, &[&file], &[]).await;
    done(db, &made, Expected::New).await;
    assert_eq!(put(db, &made, Expected::New).await, TaskChange::NameTaken);
    for expected in [Expected::New, Expected::Any, Expected::Revisions(vec![1])] {
        assert_eq!(put(db, &file, expected).await, TaskChange::OfFile);
    }
    assert_eq!(db.remove_task(&file.id, Expected::Any).await.expect("an answer"), TaskChange::OfFile);
    assert_eq!(put(db, &each_minute("none"), Expected::Any).await, TaskChange::Unknown);
    let again = reload(db, &[&file], &[]).await;
    assert_eq!(again, Registered { unchanged: 1, ..Registered::default() });
    assert!(!state(db, &made).await.is_paused, "a node that can't make it does not retire it");
    let refused = reload(db, &[&each_minute("new"), &made], &[]).await;
    assert_eq!(refused, Registered { taken: vec![made.id.clone()], ..Registered::default() });
    let names = db.values("SELECT task_id AS value FROM actor_server_state ORDER BY task_id").await;
    assert_eq!(names, ["file", "made"], "nothing was registered");
    // A name that is given up is free for the file, and then the file's.
    db.remove_task(&made.id, Expected::Any).await.expect("an answer");
    assert_eq!(reload(db, &[&file, &made], &[]).await.changed, std::slice::from_ref(&made.id));
    assert_eq!(put(db, &made, Expected::New).await, TaskChange::OfFile);
}

/// Two nodes change a task at the same time, or one while it reloads: what is registered belongs to the last entry.
pub async fn an_entry_that_was_changed_meanwhile_is_not_registered(db: &TestStore) {
    let made = each_minute("made");
    let first = done(db, &made, Expected::New).await;
    assert_eq!(done(db, &made, Expected::Any).await, first, "the same again changes nothing");
    let second_made = defined(made.clone(), "second");
    let second = done(db, &second_made, Expected::Revisions(vec![first])).await;
    assert!(second > first);
    assert_eq!(put(db, &made, Expected::Revisions(vec![first])).await, TaskChange::OtherRevision);
    reload(db, &[], &[(&made, first)]).await;
    assert_eq!(state(db, &made).await.definition, second_made.definition);
    // A node whose actor is another one registers that, as it does for tasks of its file.
    let of_another_actor = defined(made.clone(), "second, of another actor");
    let registered = reload(db, &[], &[(&of_another_actor, second)]).await;
    assert_eq!(registered.changed, std::slice::from_ref(&made.id));
    let player = Player::enter(db, "node").await;
    assert_eq!(player.try_claim(&second_made).await, None, "nobody runs the old definition");
    player.run(&of_another_actor, Vec::new()).await;
    let entry = Some(json!({ "definition": "second" }));
    let known = ApiTask { task_id: made.id.clone(), entry, revision: second };
    assert_eq!(db.api_tasks(first).await.expect("an answer"), std::slice::from_ref(&known));
    assert_eq!(db.api_tasks(second).await.expect("an answer"), []);
    assert_eq!(db.api_task(&made.id).await.expect("an answer"), Some(known));
}

/// Whoever removes a task wants it to stop.
pub async fn what_is_open_of_a_removed_task_ends(db: &TestStore) {
    let made = each_minute("made");
    let first = done(db, &made, Expected::New).await;
    let player = Player::enter(db, "node").await;
    let runs = player.claim(&made).await;
    let event = Event { task: made.id.clone(), trigger: Trigger::Manual, parameters: Value::Null };
    let Ok(Accepted::Execution(waits)) = db.publish(event).await else { panic!("not published") };
    let removed = db.remove_task(&made.id, Expected::Revisions(vec![first])).await.expect("an answer");
    let TaskChange::Done(revision) = removed else { panic!("not removed: {removed:?}") };
    let execution = db.execution(waits).await.expect("an answer").expect("it is there");
    assert_eq!(execution.outcome.as_deref(), Some("cancelled"));
    assert_eq!(player.store.cancelled(&player.id).await.expect("an answer"), [runs.execution_id]);
    player.end(&made, &runs, AttemptEnd::Cancelled, Made::default()).await;
    db.advance(10 * MINUTE).await;
    assert_eq!(player.try_claim(&made).await, None);
    assert_eq!(db.remove_task(&made.id, Expected::Any).await.expect("an answer"), TaskChange::Unknown);
    let known = ApiTask { task_id: made.id.clone(), entry: None, revision };
    assert_eq!(db.api_tasks(first).await.expect("an answer"), [known]);
    assert_eq!(db.api_task(&made.id).await.expect("an answer"), None);
    // Made again it goes on; what it missed meanwhile was missed on purpose.
    done(db, &made, Expected::New).await;
    assert_eq!(player.try_claim(&made).await, None);
    db.advance(MINUTE).await;
    player.run(&made, Vec::new()).await;
    let history = db.history(&made.id, 10).await.expect("history");
    let skipped: Vec<_> = history.iter().filter_map(|row| row.skip_reason.as_deref()).collect();
    assert_eq!(skipped, ["paused"], "{history:#?}");
}
