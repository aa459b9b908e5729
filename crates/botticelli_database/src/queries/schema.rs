//! The tables as Diesel knows them; the migrations define them.

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
    use super::super::super::{Json, Instant};

    actor_server_state (task_id) {
        task_id -> Text,
        actor_name -> Text,
        definition -> Text,
        schedule -> Json,
        last_run -> Nullable<Instant>,
        next_run -> Nullable<Instant>,
        wake_at -> Nullable<Instant>,
        probe_at -> Nullable<Instant>,
        consecutive_failures -> Integer,
        max_consecutive_failures -> Integer,
        cooldown_seconds -> Nullable<BigInt>,
        is_paused -> Bool,
        pause_reason -> Nullable<Text>,
        metadata -> Json,
        updated_at -> Instant,
        followers -> Nullable<Json>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Integer, Nullable, Text};
    use super::super::super::{Json, Instant};

    actor_server_open_executions (id) {
        id -> BigInt,
        task_id -> Text,
        actor_name -> Text,
        trigger -> Text,
        scheduled_for -> Nullable<Instant>,
        due_at -> Instant,
        node -> Nullable<Text>,
        fence -> Nullable<BigInt>,
        attempt -> Integer,
        failures -> Integer,
        interruptions -> Integer,
        begun_at -> Nullable<Instant>,
        ready_at -> Nullable<Instant>,
        parameters -> Json,
        opened_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
    use super::super::super::{Json, Instant};

    actor_server_executions (id) {
        id -> BigInt,
        task_id -> Text,
        actor_name -> Text,
        trigger -> Text,
        scheduled_for -> Nullable<Instant>,
        scheduled_until -> Nullable<Instant>,
        occurrences -> BigInt,
        started_at -> Nullable<Instant>,
        completed_at -> Instant,
        outcome -> Text,
        skip_reason -> Nullable<Text>,
        success -> Nullable<Bool>,
        error_message -> Nullable<Text>,
        attempt -> Integer,
        node -> Nullable<Text>,
        fence -> Nullable<BigInt>,
        skills_succeeded -> Integer,
        skills_failed -> Integer,
        skills_skipped -> Integer,
        metadata -> Json,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Integer, Nullable, Text};
    use super::super::super::Instant;

    actor_server_attempts (execution_id, attempt) {
        execution_id -> BigInt,
        attempt -> Integer,
        node -> Text,
        started_at -> Nullable<Instant>,
        ended_at -> Instant,
        ended -> Text,
        error_message -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Integer, Nullable, Text};
    use super::super::super::{Json, Instant};

    actor_server_posts (id) {
        id -> BigInt,
        execution_id -> BigInt,
        task_id -> Text,
        platform -> Text,
        destination -> Text,
        part -> Integer,
        first_part -> Integer,
        key -> Text,
        content -> Json,
        limits -> Json,
        on_unknown -> Text,
        state -> Text,
        reason -> Nullable<Text>,
        not_before -> Nullable<Instant>,
        deliver_at -> Nullable<Instant>,
        follow_up_at -> Nullable<Instant>,
        attempts -> Integer,
        waits -> Integer,
        uncertain_since -> Nullable<Instant>,
        node -> Nullable<Text>,
        fence -> Nullable<BigInt>,
        lease_until -> Nullable<Instant>,
        receipt -> Nullable<Json>,
        created_at -> Instant,
        posted_at -> Nullable<Instant>,
        updated_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Integer, Nullable, Text};
    use super::super::super::{Json, Instant};

    actor_server_post_attempts (post_id, attempt) {
        post_id -> BigInt,
        attempt -> Integer,
        node -> Text,
        sent_at -> Instant,
        ended_at -> Nullable<Instant>,
        ended -> Nullable<Text>,
        reason -> Nullable<Text>,
        exchanges -> Nullable<Json>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Integer, Text};
    use super::super::super::Instant;

    actor_server_used_items (task_id, source, item_key, platform, destination) {
        task_id -> Text,
        source -> Text,
        item_key -> Text,
        platform -> Text,
        destination -> Text,
        text -> Text,
        execution_id -> BigInt,
        part -> Integer,
        used_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{Nullable, Text};
    use super::super::super::Instant;

    actor_server_nodes (node) {
        node -> Text,
        version -> Text,
        started_at -> Instant,
        heartbeat_at -> Instant,
        lease_until -> Instant,
        left_at -> Nullable<Instant>,
    }
}
