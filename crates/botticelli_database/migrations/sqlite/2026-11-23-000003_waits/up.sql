-- How many attempts only waited, because the platform or the actor's own limits asked for it: they don't make the waits
-- after a failure longer.
ALTER TABLE actor_server_posts ADD COLUMN waits integer NOT NULL DEFAULT 0;
