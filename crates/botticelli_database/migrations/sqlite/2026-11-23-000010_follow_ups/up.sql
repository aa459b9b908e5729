-- A post that is there, and that something is to follow (a thread, a crosspost; `to_follow` of its receipt): when that is
-- tried, or tried again. While it is tried, `node` and `lease_until` say by whom.
ALTER TABLE actor_server_posts ADD COLUMN follow_up_at text CHECK (follow_up_at GLOB '????-??-?? ??:??:??*+00:00');
CREATE INDEX actor_server_posts_follow_up ON actor_server_posts (follow_up_at) WHERE follow_up_at IS NOT NULL;
