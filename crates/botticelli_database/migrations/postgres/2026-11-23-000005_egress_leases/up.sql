-- Which node sends for a token, so that several nodes do not add up to more than its limit. `scope` is a fingerprint of the
-- token, never the token.
CREATE TABLE actor_server_egress_leases (
    platform text NOT NULL,
    scope text NOT NULL,
    node text NOT NULL,
    lease_until timestamptz NOT NULL,
    PRIMARY KEY (platform, scope)
);
