-- How many tasks of which actor are paused, and why, is counted each time that metrics are asked for.
CREATE INDEX actor_server_state_paused ON actor_server_state (actor_name, pause_reason) WHERE is_paused;
