-- The first schema: the tables of ARCHITECTURE.md, "State". The same tables stand in ../../sqlite.

-- All decisions about time are made by the database's clock, so that a node whose clock is wrong can neither steal nor
-- lose work. Tests replace these two functions; nothing else asks for the time.
CREATE FUNCTION actor_server_now() RETURNS timestamptz
    LANGUAGE sql STABLE AS 'SELECT statement_timestamp()';
CREATE FUNCTION actor_server_now_plus(microseconds bigint) RETURNS timestamptz
    LANGUAGE sql STABLE AS 'SELECT actor_server_now() + microseconds * interval ''1 microsecond''';

-- One row. `ledger_id` is part of every idempotency key: two servers that post to one channel both have an execution 1.
-- A program older than `min_binary` refuses this database.
CREATE TABLE actor_server_meta (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    ledger_id text NOT NULL,
    min_binary text NOT NULL
);
INSERT INTO actor_server_meta (ledger_id, min_binary)
    VALUES (replace(gen_random_uuid()::text, '-', ''), '0.1.0');

-- Numbers for executions and fences. A fence is larger than every fence before it.
CREATE SEQUENCE actor_server_ids AS bigint;

-- Where each task stands.
CREATE TABLE actor_server_state (
    task_id text PRIMARY KEY,
    actor_name text NOT NULL,
    definition text NOT NULL,
    schedule jsonb NOT NULL,
    last_run timestamptz,
    next_run timestamptz,
    wake_at timestamptz,
    probe_at timestamptz,
    consecutive_failures integer NOT NULL DEFAULT 0,
    max_consecutive_failures integer NOT NULL,
    cooldown_seconds bigint,
    is_paused boolean NOT NULL DEFAULT false,
    pause_reason text CHECK (pause_reason IN ('operator', 'breaker', 'definition')),
    metadata jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT actor_server_now()
) WITH (fillfactor = 70);
CREATE INDEX actor_server_state_due ON actor_server_state (wake_at) WHERE NOT is_paused;
CREATE INDEX actor_server_state_probe ON actor_server_state (probe_at) WHERE probe_at IS NOT NULL;
CREATE INDEX actor_server_state_resumed ON actor_server_state (task_id)
    WHERE pause_reason IS NOT NULL AND NOT is_paused;
CREATE INDEX actor_server_state_next_run ON actor_server_state (next_run);
CREATE INDEX actor_server_state_actor_name ON actor_server_state (actor_name);

-- Executions that are not over: owned by a node, or waiting for one from `ready_at` on. Small, whatever the history.
CREATE TABLE actor_server_open_executions (
    id bigint PRIMARY KEY,
    task_id text NOT NULL,
    actor_name text NOT NULL,
    trigger text NOT NULL CHECK (trigger IN ('schedule', 'probe', 'manual', 'event')),
    scheduled_for timestamptz,
    due_at timestamptz NOT NULL,
    node text,
    fence bigint,
    attempt integer NOT NULL,
    interruptions integer NOT NULL DEFAULT 0,
    ready_at timestamptz,
    parameters jsonb NOT NULL DEFAULT 'null',
    opened_at timestamptz NOT NULL,
    UNIQUE (task_id, scheduled_for),
    CHECK ((node IS NULL) = (ready_at IS NOT NULL)),
    CHECK ((node IS NULL) = (fence IS NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX actor_server_open_executions_ready ON actor_server_open_executions (ready_at)
    WHERE ready_at IS NOT NULL;

-- History: executions that are over, and occurrences that were left out. A row is written once.
CREATE TABLE actor_server_executions (
    id bigint PRIMARY KEY,
    task_id text NOT NULL,
    actor_name text NOT NULL,
    trigger text NOT NULL CHECK (trigger IN ('schedule', 'probe', 'manual', 'event')),
    scheduled_for timestamptz,
    -- A row for occurrences left out together: the last nominal time, and how many.
    scheduled_until timestamptz,
    occurrences bigint NOT NULL DEFAULT 1,
    started_at timestamptz,
    completed_at timestamptz NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('succeeded', 'failed', 'skipped', 'cancelled')),
    skip_reason text,
    success boolean,
    error_message text,
    attempt integer NOT NULL,
    node text,
    fence bigint,
    skills_succeeded integer NOT NULL DEFAULT 0,
    skills_failed integer NOT NULL DEFAULT 0,
    skills_skipped integer NOT NULL DEFAULT 0,
    metadata jsonb NOT NULL DEFAULT 'null',
    UNIQUE (task_id, scheduled_for),
    CHECK ((outcome = 'skipped') = (skip_reason IS NOT NULL))
);
CREATE INDEX actor_server_executions_task_id ON actor_server_executions (task_id, id);
CREATE INDEX actor_server_executions_started_at ON actor_server_executions (started_at);

-- Attempts that did not end their execution; the last one stands in the execution's own row.
CREATE TABLE actor_server_attempts (
    execution_id bigint NOT NULL,
    attempt integer NOT NULL,
    node text NOT NULL,
    started_at timestamptz,
    ended_at timestamptz NOT NULL,
    ended text NOT NULL CHECK (ended IN ('failed', 'interrupted')),
    error_message text,
    PRIMARY KEY (execution_id, attempt)
);

-- The outbox. `deliver_at` is set while the post waits.
CREATE TABLE actor_server_posts (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    execution_id bigint NOT NULL,
    task_id text NOT NULL,
    platform text NOT NULL,
    destination text NOT NULL,
    part integer NOT NULL,
    first_part integer NOT NULL,
    key text NOT NULL UNIQUE,
    content jsonb NOT NULL,
    limits jsonb NOT NULL,
    on_unknown text NOT NULL CHECK (on_unknown IN ('needs_review', 'at_most_once')),
    state text NOT NULL
        CHECK (state IN ('pending', 'deferred', 'sending', 'posted', 'failed', 'needs_review', 'skipped')),
    reason text,
    not_before timestamptz,
    deliver_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    uncertain_since timestamptz,
    node text,
    fence bigint,
    lease_until timestamptz,
    receipt jsonb,
    created_at timestamptz NOT NULL,
    posted_at timestamptz,
    updated_at timestamptz NOT NULL,
    UNIQUE (execution_id, platform, destination, part),
    CHECK ((state IN ('pending', 'deferred')) = (deliver_at IS NOT NULL)),
    CHECK ((state = 'sending') = (fence IS NOT NULL)),
    CHECK (state <> 'posted' OR receipt IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX actor_server_posts_due ON actor_server_posts (deliver_at) WHERE deliver_at IS NOT NULL;
CREATE INDEX actor_server_posts_sending ON actor_server_posts (platform, destination) WHERE state = 'sending';
CREATE INDEX actor_server_posts_lease ON actor_server_posts (lease_until) WHERE state = 'sending';
CREATE INDEX actor_server_posts_unsettled ON actor_server_posts (execution_id)
    WHERE state NOT IN ('posted', 'failed', 'skipped');
CREATE INDEX actor_server_posts_failed ON actor_server_posts (task_id, execution_id) WHERE state = 'failed';
CREATE INDEX actor_server_posts_task ON actor_server_posts (task_id, platform, destination, id);

-- One row for every request that left, or may have left. It is committed before the request.
CREATE TABLE actor_server_post_attempts (
    post_id bigint NOT NULL,
    attempt integer NOT NULL,
    node text NOT NULL,
    sent_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended text CHECK (ended IN ('posted', 'failed', 'deferred', 'needs_review', 'skipped', 'lost')),
    reason text,
    PRIMARY KEY (post_id, attempt)
);

-- What a task has posted, or has on its way: it will not select these items again.
CREATE TABLE actor_server_used_items (
    task_id text NOT NULL,
    source text NOT NULL,
    item_key text NOT NULL,
    platform text NOT NULL,
    destination text NOT NULL,
    text text NOT NULL,
    execution_id bigint NOT NULL,
    part integer NOT NULL,
    used_at timestamptz NOT NULL,
    PRIMARY KEY (task_id, source, item_key, platform, destination)
);
CREATE INDEX actor_server_used_items_destination ON actor_server_used_items (platform, destination, used_at);

-- A queue that a person fills: a knowledge source of type `table` reads it.
CREATE TABLE actor_server_content (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    topic text,
    title text,
    text text NOT NULL,
    source text,
    tags jsonb NOT NULL DEFAULT '[]',
    priority double precision NOT NULL DEFAULT 0,
    score double precision NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    scheduled_for timestamptz,
    expires_at timestamptz
);

-- One row for each process that serves, or served, this database. It lives until `lease_until`.
CREATE TABLE actor_server_nodes (
    node text PRIMARY KEY,
    version text NOT NULL,
    started_at timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL,
    lease_until timestamptz NOT NULL,
    left_at timestamptz
) WITH (fillfactor = 50);

-- Snapshots by name, for recovery (`StatePersistence`).
CREATE TABLE actor_server_snapshots (
    name text PRIMARY KEY,
    snapshot jsonb NOT NULL,
    updated_at timestamptz NOT NULL
);
