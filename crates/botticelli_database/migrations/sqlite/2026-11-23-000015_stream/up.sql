-- What has changed, for those who follow it as it happens: one row for each transaction that ends executions, and one for
-- each post, breaker and alert that changed. It names what changed; what that is stands where it stood. Kept for a day.
--
-- There is one writer, so rows are committed in the order of their numbers. `tx` is for PostgreSQL, where they are not.
CREATE TABLE actor_server_stream (
    id integer PRIMARY KEY AUTOINCREMENT,
    tx integer NOT NULL DEFAULT 0,
    at text NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now') || '+00:00')
        CHECK (at GLOB '????-??-?? ??:??:??*+00:00'),
    kind text NOT NULL CHECK (kind IN ('start', 'execution', 'post', 'breaker', 'alert')),
    about text NOT NULL CHECK (json_valid(about))
) STRICT;
CREATE INDEX actor_server_stream_order ON actor_server_stream (tx, id);
-- There is always one, so that there is always a place to begin at.
INSERT INTO actor_server_stream (kind, about) VALUES ('start', '[]');

-- Triggers, because these rows are changed in many places, and by people with SQL, whose tools do not know the server's
-- own functions.
CREATE TRIGGER actor_server_posts_told AFTER UPDATE OF state ON actor_server_posts
WHEN OLD.state <> NEW.state AND NEW.state <> 'sending' BEGIN
    INSERT INTO actor_server_stream (kind, about) VALUES ('post', json_array(NEW.id));
END;

CREATE TRIGGER actor_server_state_told AFTER UPDATE OF is_paused, pause_reason ON actor_server_state
WHEN OLD.is_paused <> NEW.is_paused OR (NEW.is_paused AND OLD.pause_reason IS NOT NEW.pause_reason) BEGIN
    INSERT INTO actor_server_stream (kind, about) VALUES ('breaker', json_array(json_object(
        'task_id', NEW.task_id, 'actor_name', NEW.actor_name,
        'is_paused', json(CASE WHEN NEW.is_paused THEN 'true' ELSE 'false' END),
        'pause_reason', CASE WHEN NEW.is_paused THEN COALESCE(NEW.pause_reason, 'operator') END,
        'consecutive_failures', NEW.consecutive_failures, 'probe_at', NEW.probe_at)));
END;

CREATE TRIGGER actor_server_alerts_begun AFTER INSERT ON actor_server_alerts BEGIN
    INSERT INTO actor_server_stream (kind, about) VALUES ('alert', json_array(json_object(
        'id', NEW.id, 'notice', 'started')));
END;
CREATE TRIGGER actor_server_alerts_over AFTER UPDATE OF ended_at ON actor_server_alerts
WHEN OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL BEGIN
    INSERT INTO actor_server_stream (kind, about) VALUES ('alert', json_array(json_object(
        'id', NEW.id, 'notice', 'ended')));
END;

-- Lists across all tasks, newest first: of what did not go well, and of what no schedule has started. Few rows are either.
CREATE INDEX actor_server_executions_unusual_of_all ON actor_server_executions (outcome, id)
    WHERE outcome <> 'succeeded';
CREATE INDEX actor_server_executions_asked_for ON actor_server_executions (trigger, id)
    WHERE trigger <> 'schedule';
