-- Tasks that were made over the API, as they were asked for. One without an entry was removed: nodes that hold it find out
-- by its revision, which is greater than all before it.
CREATE TABLE actor_server_api_tasks (
    task_id text PRIMARY KEY,
    entry jsonb,
    revision bigint NOT NULL UNIQUE,
    updated_at timestamptz NOT NULL
);

-- Whose the task is. Programs that do not know of the API's tasks enter those of their file.
ALTER TABLE actor_server_state ADD COLUMN origin text NOT NULL DEFAULT 'file' CHECK (origin IN ('file', 'api'));
