//! Tasks that are made over the API: kept beside those of the server's file, which they can't touch.

use crate::store::Store;
use botticelli_server::ids::TaskId;
use botticelli_server::ledger::LedgerError;
use botticelli_server::task::Task;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Whose a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The server's file says what it is.
    File,
    /// It was made over the API.
    Api,
}

impl Origin {
    /// The word used in tables, JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

/// A task that was made over the API.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiTask {
    /// Its name.
    pub task_id: TaskId,
    /// What was asked for; `None`: it was removed.
    pub entry: Option<Value>,
    /// Greater with every change of any of them.
    pub revision: i64,
}

/// What whoever changes a task takes it for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// There is none of the name.
    New,
    /// Whatever it is.
    Any,
    /// As it is since one of these revisions.
    Revisions(Vec<i64>),
}

/// A task that is to be made, or to replace one.
#[derive(Debug, Clone)]
pub struct PutTask {
    /// What the entry comes to on the node that was asked.
    pub task: Task,
    /// What was asked for.
    pub entry: Value,
    /// What is there so far.
    pub expected: Expected,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskChange {
    /// It is so, since this revision.
    Done(i64),
    /// There is a task of that name, made over the API.
    NameTaken,
    /// The name is that of a task of the server's file.
    OfFile,
    /// There is no such task.
    Unknown,
    /// Somebody else has changed it.
    OtherRevision,
}

impl Store {
    /// Makes a task, or replaces one. The state of one that is replaced is kept, as at a reload.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_task(&self, wanted: PutTask) -> Result<TaskChange, LedgerError> {
        let action = if wanted.expected == Expected::New { "task.create" } else { "task.replace" };
        let task = wanted.task.id.clone();
        let audit = self.audit(action, &task, json!({ "entry": wanted.entry }));
        self.put_task_by(wanted, audit).await
    }

    /// Removes a task. Its history stays, what is open of it is cancelled, what is in the outbox is still delivered.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_task(&self, task: &TaskId, expected: Expected) -> Result<TaskChange, LedgerError> {
        let audit = self.audit("task.remove", task, Value::Null);
        self.remove_task_by(task.clone(), expected, audit).await
    }
}
