-- One row for each alert: from the beginning to the end of one trouble, for one section of the configuration. Its posts
-- stand in the outbox, under the task `alert:NAME`; the first of them has the alert's number as its execution.
CREATE TABLE actor_server_alerts (
    id integer PRIMARY KEY,
    alert text NOT NULL,
    rule text NOT NULL,
    subject text NOT NULL,
    severity text NOT NULL,
    actor_name text,
    summary text NOT NULL,
    incident text NOT NULL,
    started_at text NOT NULL CHECK (started_at GLOB '????-??-?? ??:??:??*+00:00'),
    last_sent_at text NOT NULL CHECK (last_sent_at GLOB '????-??-?? ??:??:??*+00:00'),
    ended_at text CHECK (ended_at GLOB '????-??-?? ??:??:??*+00:00')
) STRICT;
-- What is told once.
CREATE UNIQUE INDEX actor_server_alerts_open ON actor_server_alerts (alert, rule, subject) WHERE ended_at IS NULL;
CREATE INDEX actor_server_alerts_ended ON actor_server_alerts (ended_at) WHERE ended_at IS NOT NULL;

-- Few tasks fail, and they are looked for every other second.
CREATE INDEX actor_server_state_failing ON actor_server_state (task_id) WHERE consecutive_failures > 0;
