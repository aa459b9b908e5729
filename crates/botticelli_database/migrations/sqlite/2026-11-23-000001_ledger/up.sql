-- The first schema: the tables of ARCHITECTURE.md, "State". The same tables stand in ../../postgres.

-- `actor_server_now()` and `actor_server_now_plus(microseconds)` are functions of the server's own connections, so that
-- the queries are the same on both databases. Times are text as in `2026-11-23 09:00:00.250+00:00`: they sort.

-- One row. `ledger_id` is part of every idempotency key: two servers that post to one channel both have an execution 1.
-- A program older than `min_binary` refuses this database.
CREATE TABLE actor_server_meta (
    only_row integer PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    ledger_id text NOT NULL,
    min_binary text NOT NULL
) STRICT;
INSERT INTO actor_server_meta (ledger_id, min_binary)
    VALUES (lower(hex(randomblob(16))), '0.1.0');

-- Numbers for executions and fences. A fence is larger than every fence before it.
CREATE TABLE actor_server_ids (last integer NOT NULL) STRICT;
INSERT INTO actor_server_ids VALUES (0);

-- Where each task stands.
CREATE TABLE actor_server_state (
    task_id text PRIMARY KEY,
    actor_name text NOT NULL,
    definition text NOT NULL,
    schedule text NOT NULL CHECK (json_valid(schedule)),
    last_run text CHECK (last_run GLOB '????-??-?? ??:??:??*+00:00'),
    next_run text CHECK (next_run GLOB '????-??-?? ??:??:??*+00:00'),
    wake_at text CHECK (wake_at GLOB '????-??-?? ??:??:??*+00:00'),
    probe_at text CHECK (probe_at GLOB '????-??-?? ??:??:??*+00:00'),
    consecutive_failures integer NOT NULL DEFAULT 0,
    max_consecutive_failures integer NOT NULL,
    cooldown_seconds integer,
    is_paused integer NOT NULL DEFAULT 0 CHECK (is_paused IN (0, 1)),
    pause_reason text CHECK (pause_reason IN ('operator', 'breaker', 'definition')),
    metadata text NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    updated_at text NOT NULL CHECK (updated_at GLOB '????-??-?? ??:??:??*+00:00')
) STRICT;
CREATE INDEX actor_server_state_due ON actor_server_state (wake_at) WHERE NOT is_paused;
CREATE INDEX actor_server_state_probe ON actor_server_state (probe_at) WHERE probe_at IS NOT NULL;
CREATE INDEX actor_server_state_resumed ON actor_server_state (task_id)
    WHERE pause_reason IS NOT NULL AND NOT is_paused;
CREATE INDEX actor_server_state_next_run ON actor_server_state (next_run);
CREATE INDEX actor_server_state_actor_name ON actor_server_state (actor_name);

-- Executions that are not over: owned by a node, or waiting for one from `ready_at` on. Small, whatever the history.
CREATE TABLE actor_server_open_executions (
    id integer PRIMARY KEY,
    task_id text NOT NULL,
    actor_name text NOT NULL,
    trigger text NOT NULL CHECK (trigger IN ('schedule', 'probe', 'manual', 'event')),
    scheduled_for text CHECK (scheduled_for GLOB '????-??-?? ??:??:??*+00:00'),
    due_at text NOT NULL CHECK (due_at GLOB '????-??-?? ??:??:??*+00:00'),
    node text,
    fence integer,
    attempt integer NOT NULL,
    interruptions integer NOT NULL DEFAULT 0,
    ready_at text CHECK (ready_at GLOB '????-??-?? ??:??:??*+00:00'),
    parameters text NOT NULL DEFAULT 'null' CHECK (json_valid(parameters)),
    opened_at text NOT NULL CHECK (opened_at GLOB '????-??-?? ??:??:??*+00:00'),
    UNIQUE (task_id, scheduled_for),
    CHECK ((node IS NULL) = (ready_at IS NOT NULL)),
    CHECK ((node IS NULL) = (fence IS NULL))
) STRICT;
CREATE INDEX actor_server_open_executions_ready ON actor_server_open_executions (ready_at)
    WHERE ready_at IS NOT NULL;

-- History: executions that are over, and occurrences that were left out. A row is written once.
CREATE TABLE actor_server_executions (
    id integer PRIMARY KEY,
    task_id text NOT NULL,
    actor_name text NOT NULL,
    trigger text NOT NULL CHECK (trigger IN ('schedule', 'probe', 'manual', 'event')),
    scheduled_for text CHECK (scheduled_for GLOB '????-??-?? ??:??:??*+00:00'),
    -- A row for occurrences left out together: the last nominal time, and how many.
    scheduled_until text CHECK (scheduled_until GLOB '????-??-?? ??:??:??*+00:00'),
    occurrences integer NOT NULL DEFAULT 1,
    started_at text CHECK (started_at GLOB '????-??-?? ??:??:??*+00:00'),
    completed_at text NOT NULL CHECK (completed_at GLOB '????-??-?? ??:??:??*+00:00'),
    outcome text NOT NULL CHECK (outcome IN ('succeeded', 'failed', 'skipped', 'cancelled')),
    skip_reason text,
    success integer CHECK (success IN (0, 1)),
    error_message text,
    attempt integer NOT NULL,
    node text,
    fence integer,
    skills_succeeded integer NOT NULL DEFAULT 0,
    skills_failed integer NOT NULL DEFAULT 0,
    skills_skipped integer NOT NULL DEFAULT 0,
    metadata text NOT NULL DEFAULT 'null' CHECK (json_valid(metadata)),
    UNIQUE (task_id, scheduled_for),
    CHECK ((outcome = 'skipped') = (skip_reason IS NOT NULL))
) STRICT;
CREATE INDEX actor_server_executions_task_id ON actor_server_executions (task_id, id);
CREATE INDEX actor_server_executions_started_at ON actor_server_executions (started_at);

-- Attempts that did not end their execution; the last one stands in the execution's own row.
CREATE TABLE actor_server_attempts (
    execution_id integer NOT NULL,
    attempt integer NOT NULL,
    node text NOT NULL,
    started_at text CHECK (started_at GLOB '????-??-?? ??:??:??*+00:00'),
    ended_at text NOT NULL CHECK (ended_at GLOB '????-??-?? ??:??:??*+00:00'),
    ended text NOT NULL CHECK (ended IN ('failed', 'interrupted')),
    error_message text,
    PRIMARY KEY (execution_id, attempt)
) STRICT;

-- The outbox. `deliver_at` is set while the post waits.
CREATE TABLE actor_server_posts (
    id integer PRIMARY KEY AUTOINCREMENT,
    execution_id integer NOT NULL,
    task_id text NOT NULL,
    platform text NOT NULL,
    destination text NOT NULL,
    part integer NOT NULL,
    first_part integer NOT NULL,
    key text NOT NULL UNIQUE,
    content text NOT NULL CHECK (json_valid(content)),
    limits text NOT NULL CHECK (json_valid(limits)),
    on_unknown text NOT NULL CHECK (on_unknown IN ('needs_review', 'at_most_once')),
    state text NOT NULL
        CHECK (state IN ('pending', 'deferred', 'sending', 'posted', 'failed', 'needs_review', 'skipped')),
    reason text,
    not_before text CHECK (not_before GLOB '????-??-?? ??:??:??*+00:00'),
    deliver_at text CHECK (deliver_at GLOB '????-??-?? ??:??:??*+00:00'),
    attempts integer NOT NULL DEFAULT 0,
    uncertain_since text CHECK (uncertain_since GLOB '????-??-?? ??:??:??*+00:00'),
    node text,
    fence integer,
    lease_until text CHECK (lease_until GLOB '????-??-?? ??:??:??*+00:00'),
    receipt text CHECK (json_valid(receipt)),
    created_at text NOT NULL CHECK (created_at GLOB '????-??-?? ??:??:??*+00:00'),
    posted_at text CHECK (posted_at GLOB '????-??-?? ??:??:??*+00:00'),
    updated_at text NOT NULL CHECK (updated_at GLOB '????-??-?? ??:??:??*+00:00'),
    UNIQUE (execution_id, platform, destination, part),
    CHECK ((state IN ('pending', 'deferred')) = (deliver_at IS NOT NULL)),
    CHECK ((state = 'sending') = (fence IS NOT NULL)),
    CHECK (state <> 'posted' OR receipt IS NOT NULL)
) STRICT;
CREATE INDEX actor_server_posts_due ON actor_server_posts (deliver_at) WHERE deliver_at IS NOT NULL;
CREATE INDEX actor_server_posts_sending ON actor_server_posts (platform, destination) WHERE state = 'sending';
CREATE INDEX actor_server_posts_lease ON actor_server_posts (lease_until) WHERE state = 'sending';
CREATE INDEX actor_server_posts_unsettled ON actor_server_posts (execution_id)
    WHERE state NOT IN ('posted', 'failed', 'skipped');
CREATE INDEX actor_server_posts_failed ON actor_server_posts (task_id, execution_id) WHERE state = 'failed';
CREATE INDEX actor_server_posts_task ON actor_server_posts (task_id, platform, destination, id);

-- One row for every request that left, or may have left. It is committed before the request.
CREATE TABLE actor_server_post_attempts (
    post_id integer NOT NULL,
    attempt integer NOT NULL,
    node text NOT NULL,
    sent_at text NOT NULL CHECK (sent_at GLOB '????-??-?? ??:??:??*+00:00'),
    ended_at text CHECK (ended_at GLOB '????-??-?? ??:??:??*+00:00'),
    ended text CHECK (ended IN ('posted', 'failed', 'deferred', 'needs_review', 'skipped', 'lost')),
    reason text,
    PRIMARY KEY (post_id, attempt)
) STRICT;

-- What a task has posted, or has on its way: it will not select these items again.
CREATE TABLE actor_server_used_items (
    task_id text NOT NULL,
    source text NOT NULL,
    item_key text NOT NULL,
    platform text NOT NULL,
    destination text NOT NULL,
    text text NOT NULL,
    execution_id integer NOT NULL,
    part integer NOT NULL,
    used_at text NOT NULL CHECK (used_at GLOB '????-??-?? ??:??:??*+00:00'),
    PRIMARY KEY (task_id, source, item_key, platform, destination)
) STRICT;
CREATE INDEX actor_server_used_items_destination ON actor_server_used_items (platform, destination, used_at);

-- A queue that a person fills: a knowledge source of type `table` reads it.
CREATE TABLE actor_server_content (
    id integer PRIMARY KEY AUTOINCREMENT,
    topic text,
    title text,
    text text NOT NULL,
    source text,
    tags text NOT NULL DEFAULT '[]' CHECK (json_valid(tags)),
    priority real NOT NULL DEFAULT 0,
    score real NOT NULL DEFAULT 0,
    created_at text NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')) CHECK (created_at GLOB '????-??-?? ??:??:??*+00:00'),
    scheduled_for text CHECK (scheduled_for GLOB '????-??-?? ??:??:??*+00:00'),
    expires_at text CHECK (expires_at GLOB '????-??-?? ??:??:??*+00:00')
) STRICT;

-- One row for each process that serves, or served, this database. It lives until `lease_until`.
CREATE TABLE actor_server_nodes (
    node text PRIMARY KEY,
    version text NOT NULL,
    started_at text NOT NULL CHECK (started_at GLOB '????-??-?? ??:??:??*+00:00'),
    heartbeat_at text NOT NULL CHECK (heartbeat_at GLOB '????-??-?? ??:??:??*+00:00'),
    lease_until text NOT NULL CHECK (lease_until GLOB '????-??-?? ??:??:??*+00:00'),
    left_at text CHECK (left_at GLOB '????-??-?? ??:??:??*+00:00')
) STRICT;

-- Snapshots by name, for recovery (`StatePersistence`).
CREATE TABLE actor_server_snapshots (
    name text PRIMARY KEY,
    snapshot text NOT NULL CHECK (json_valid(snapshot)),
    updated_at text NOT NULL CHECK (updated_at GLOB '????-??-?? ??:??:??*+00:00')
) STRICT;
