-- Who may use the API. The token itself is stored nowhere: what it hashes to is.
CREATE TABLE actor_server_tokens (
    id integer PRIMARY KEY AUTOINCREMENT,
    name text NOT NULL,
    scope text NOT NULL CHECK (scope IN ('read', 'operate', 'admin', 'events')),
    sha256 text NOT NULL UNIQUE,
    created_at text NOT NULL CHECK (created_at GLOB '????-??-?? ??:??:??*+00:00'),
    revoked_at text CHECK (revoked_at GLOB '????-??-?? ??:??:??*+00:00')
) STRICT;
-- The name of a revoked token is free again.
CREATE UNIQUE INDEX actor_server_tokens_name ON actor_server_tokens (name) WHERE revoked_at IS NULL;

-- One row for every change that a person or a program has asked for.
CREATE TABLE actor_server_audit (
    id integer PRIMARY KEY AUTOINCREMENT,
    at text NOT NULL CHECK (at GLOB '????-??-?? ??:??:??*+00:00'),
    who text NOT NULL,
    origin text NOT NULL,
    action text NOT NULL,
    target text,
    note text,
    detail text NOT NULL DEFAULT 'null' CHECK (json_valid(detail))
) STRICT;

-- Requests that carry a key of their own are carried out once, however often they arrive. `request` is a hash of what
-- was asked: the same key with another request is a mistake.
CREATE TABLE actor_server_request_keys (
    task_id text NOT NULL,
    key text NOT NULL,
    request text NOT NULL,
    execution_id integer NOT NULL,
    at text NOT NULL CHECK (at GLOB '????-??-?? ??:??:??*+00:00'),
    PRIMARY KEY (task_id, key)
) STRICT;
CREATE INDEX actor_server_request_keys_at ON actor_server_request_keys (at);

-- Why a person has paused the task.
ALTER TABLE actor_server_state ADD COLUMN pause_note text;
-- What the breaker has paused is asked for by every health check.
CREATE INDEX actor_server_state_breaker ON actor_server_state (task_id)
    WHERE is_paused AND pause_reason = 'breaker';

-- A person wants it to end; the node that has it is told by this.
ALTER TABLE actor_server_open_executions
    ADD COLUMN cancel_requested_at text CHECK (cancel_requested_at GLOB '????-??-?? ??:??:??*+00:00');
CREATE INDEX actor_server_open_executions_cancel ON actor_server_open_executions (node)
    WHERE cancel_requested_at IS NOT NULL;

-- Lists, newest first: of what did not go well, and of one task.
CREATE INDEX actor_server_executions_unusual ON actor_server_executions (task_id, outcome, id)
    WHERE outcome <> 'succeeded';
CREATE INDEX actor_server_posts_unusual ON actor_server_posts (state, id)
    WHERE state IN ('failed', 'needs_review', 'skipped');
CREATE INDEX actor_server_posts_of_task ON actor_server_posts (task_id, id);
