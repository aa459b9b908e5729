-- What an attempt asked its platform, and what that answered: a JSON array, for `posts show`. Null: nobody knows, because
-- the node was lost, or of a version that did not store it.
ALTER TABLE actor_server_post_attempts ADD COLUMN exchanges text CHECK (json_valid(exchanges));
