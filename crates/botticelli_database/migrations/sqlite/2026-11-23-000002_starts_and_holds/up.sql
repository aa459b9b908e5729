-- Earlier attempts that failed are counted apart from those whose node died (`interruptions`): only the former use up
-- the attempts that a task allows. After an interruption each start is written down before it happens (`begun_at`):
-- what had not begun when its node died was not interrupted.
ALTER TABLE actor_server_open_executions ADD COLUMN failures integer NOT NULL DEFAULT 0;
ALTER TABLE actor_server_open_executions ADD COLUMN begun_at text CHECK (begun_at GLOB '????-??-?? ??:??:??*+00:00');

-- Set while a destination does not take the post: until then the others wait for it.
ALTER TABLE actor_server_posts ADD COLUMN holds_until text CHECK (holds_until GLOB '????-??-?? ??:??:??*+00:00');
CREATE INDEX actor_server_posts_holding ON actor_server_posts (platform, destination)
    WHERE holds_until IS NOT NULL;
