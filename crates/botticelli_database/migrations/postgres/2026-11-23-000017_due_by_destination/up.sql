-- Whether the time of a post that waits has come, as the last claim saw it. So the oldest due post of a destination is
-- found without a look at those that wait for a later time, and the destinations without a look at all their posts.
ALTER TABLE actor_server_posts ADD COLUMN is_due boolean NOT NULL DEFAULT false;
CREATE INDEX actor_server_posts_turn ON actor_server_posts (platform, destination, id)
    WHERE is_due AND deliver_at IS NOT NULL;
CREATE INDEX actor_server_posts_not_due ON actor_server_posts (deliver_at, id)
    WHERE NOT is_due AND deliver_at IS NOT NULL;
