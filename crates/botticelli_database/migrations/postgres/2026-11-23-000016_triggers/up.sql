-- Which tasks run after this one. It stands here, and not in a table of its own, because whoever records an end has read
-- this row: for tasks that nobody runs after there is nothing more to ask.
ALTER TABLE actor_server_state ADD COLUMN followers jsonb;

-- Ends that other tasks run after, stored with what ended. A moment later each is an execution of the task that runs
-- after it, and its row is gone.
CREATE TABLE actor_server_ends (
    execution_id bigint NOT NULL,
    task_id text NOT NULL,
    arrival jsonb NOT NULL,
    ended_at timestamptz NOT NULL,
    PRIMARY KEY (execution_id, task_id)
);

-- Which node listens to a channel of notifications, until when that is believed, and up to when all of them were heard.
CREATE TABLE actor_server_listeners (
    database text NOT NULL,
    channel text NOT NULL,
    node text NOT NULL,
    lease_until timestamptz NOT NULL,
    heard_until timestamptz,
    PRIMARY KEY (database, channel)
);
