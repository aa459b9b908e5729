//! The tables as Diesel knows them; the migrations define them.

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
    use super::super::super::{Json, Timestamp};

    actor_server_state (task_id) {
        task_id -> Text,
        actor_name -> Text,
        definition -> Text,
        schedule -> Json,
        last_run -> Nullable<Timestamp>,
        next_run -> Nullable<Timestamp>,
        wake_at -> Nullable<Timestamp>,
        probe_at -> Nullable<Timestamp>,
        consecutive_failures -> Integer,
        max_consecutive_failures -> Integer,
        cooldown_seconds -> Nullable<BigInt>,
        is_paused -> Bool,
        pause_reason -> Nullable<Text>,
        metadata -> Json,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Integer, Nullable, Text};
    use super::super::super::{Json, Timestamp};

    actor_server_open_executions (id) {
        id -> BigInt,
        task_id -> Text,
        actor_name -> Text,
        trigger -> Text,
        scheduled_for -> Nullable<Timestamp>,
        due_at -> Timestamp,
        node -> Nullable<Text>,
        fence -> Nullable<BigInt>,
        attempt -> Integer,
        interruptions -> Integer,
        ready_at -> Nullable<Timestamp>,
        parameters -> Json,
        opened_at -> Timestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
    use super::super::super::{Json, Timestamp};

    actor_server_executions (id) {
        id -> BigInt,
        task_id -> Text,
        actor_name -> Text,
        trigger -> Text,
        scheduled_for -> Nullable<Timestamp>,
        scheduled_until -> Nullable<Timestamp>,
        occurrences -> BigInt,
        started_at -> Nullable<Timestamp>,
        completed_at -> Timestamp,
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
    use super::super::super::Timestamp;

    actor_server_attempts (execution_id, attempt) {
        execution_id -> BigInt,
        attempt -> Integer,
        node -> Text,
        started_at -> Nullable<Timestamp>,
        ended_at -> Timestamp,
        ended -> Text,
        error_message -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Integer, Nullable, Text};
    use super::super::super::{Json, Timestamp};

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
        not_before -> Nullable<Timestamp>,
        deliver_at -> Nullable<Timestamp>,
        attempts -> Integer,
        uncertain_since -> Nullable<Timestamp>,
        node -> Nullable<Text>,
        fence -> Nullable<BigInt>,
        lease_until -> Nullable<Timestamp>,
        receipt -> Nullable<Json>,
        created_at -> Timestamp,
        posted_at -> Nullable<Timestamp>,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Integer, Nullable, Text};
    use super::super::super::Timestamp;

    actor_server_post_attempts (post_id, attempt) {
        post_id -> BigInt,
        attempt -> Integer,
        node -> Text,
        sent_at -> Timestamp,
        ended_at -> Nullable<Timestamp>,
        ended -> Nullable<Text>,
        reason -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Integer, Text};
    use super::super::super::Timestamp;

    actor_server_used_items (task_id, source, item_key, platform, destination) {
        task_id -> Text,
        source -> Text,
        item_key -> Text,
        platform -> Text,
        destination -> Text,
        text -> Text,
        execution_id -> BigInt,
        part -> Integer,
        used_at -> Timestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{Nullable, Text};
    use super::super::super::Timestamp;

    actor_server_nodes (node) {
        node -> Text,
        version -> Text,
        started_at -> Timestamp,
        heartbeat_at -> Timestamp,
        lease_until -> Timestamp,
        left_at -> Nullable<Timestamp>,
    }
}
