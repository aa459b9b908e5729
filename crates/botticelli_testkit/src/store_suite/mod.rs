//! What a store must do, in sentences. `botticelli_database` runs this on both databases.

mod alerts;
mod api_tasks;
mod changes;
mod claims;
mod events;
mod followers;
mod nodes;
mod operators;
mod players;
mod posts;
mod readings;
mod records;
mod registrations;
mod restores;
mod walk;

pub use alerts::*;
pub use api_tasks::*;
pub use changes::*;
pub use claims::*;
pub use events::*;
pub use followers::*;
pub use nodes::*;
pub use operators::*;
pub use players::*;
pub use posts::*;
pub use readings::*;
pub use records::*;
pub use registrations::*;
pub use restores::*;
pub use walk::*;

/// A test for each rule: `store_suite!(sqlite, TestStore::sqlite());`. Needs `tokio` with its macros.
///
/// The expression gives a `TestStore`, or an option of one: without it the rules are left out.
#[macro_export]
macro_rules! store_suite {
    ($name:ident, $make:expr) => {
        $crate::store_suite!(@each $name, $make,
            an_occurrence_is_claimed_once_however_many_claim_at_once,
            a_claim_is_refused_when_the_task_is_not_as_the_plan_saw_it,
            a_claim_too_far_ahead_is_refused,
            occurrences_skipped_together_are_one_row_of_history,
            occurrences_skipped_with_some_that_are_known_are_all_accounted_for,
            an_occurrence_is_not_run_twice_even_if_next_run_is_set_back_by_hand,
            a_task_that_runs_is_not_claimed_unless_it_may_overlap,
            two_requests_for_one_task_in_one_batch_are_one_claim,
            five_thousand_tasks_are_one_batch,
            an_agenda_comes_in_parts,
            columns_that_are_added_meanwhile_harm_nobody,
            a_record_stores_all_that_a_run_made,
            a_record_that_the_database_refuses_stores_nothing_and_harms_no_other,
            a_record_sent_again_is_stored_once_and_answered_as_stored,
            an_attempt_that_is_made_again_is_answered_as_stored_too,
            a_stale_writer_is_refused,
            an_attempt_that_failed_is_made_again_as_the_same_execution,
            occurrences_that_fall_into_the_wait_after_a_failure_are_skipped,
            a_run_that_found_nothing_is_skipped_and_one_that_was_stopped_is_cancelled,
            an_item_that_is_used_again_belongs_to_the_later_run,
            two_runs_side_by_side_do_not_use_up_the_same_item,
            odd_text_comes_back_as_it_went_in,
            a_dead_nodes_executions_are_handed_on_when_its_lease_is_over,
            a_stall_shorter_than_the_lease_costs_nothing,
            a_node_does_not_rescue_itself,
            the_third_interruption_of_an_execution_fails_it,
            an_execution_that_only_waited_when_its_nodes_died_is_no_poison,
            what_one_more_interruption_makes_poison_is_alone_of_its_kind_on_a_node,
            an_attempt_that_was_handed_on_does_not_begin,
            an_interruption_uses_up_none_of_the_attempts,
            work_that_is_given_back_or_left_behind_in_good_order_does_not_count,
            work_claimed_ahead_by_a_node_that_dies_still_starts_in_its_order,
            what_waits_is_taken_when_the_slot_is_free_and_the_pause_allows_it,
            what_waits_is_left_to_nodes_that_hold_the_registered_definition,
            nodes_that_are_long_gone_are_forgotten_once_nothing_of_theirs_is_left,
            a_rescue_by_many_at_once_hands_on_once,
            the_breaker_opens_at_its_limit_and_a_good_probe_closes_it,
            a_breaker_that_opens_on_one_node_is_open_on_all,
            an_operators_pause_is_not_undone_by_a_probe,
            an_open_breaker_without_cooldown_waits_for_a_person,
            a_pause_takes_back_claims_whose_time_has_not_come,
            a_pause_takes_back_a_retry_whose_time_has_not_come,
            a_pause_without_a_reason_takes_back_a_probe_whose_time_has_not_come,
            a_task_that_is_let_go_is_claimed_by_no_node,
            a_pause_leaves_what_has_begun_alone,
            a_pause_does_not_go_back_over_what_the_ledger_has,
            what_was_missed_in_a_pause_is_skipped_at_the_resume,
            the_first_occurrence_after_a_resume_runs_even_if_nobody_looked_before,
            setting_is_paused_to_false_by_sql_resumes_a_task,
            what_a_restored_backup_believes_to_be_due_is_left_out_or_doubted,
            a_registration_that_changes_nothing_writes_nothing,
            a_changed_schedule_causes_no_catch_up,
            a_task_that_is_gone_is_retired_and_can_come_back,
            a_disabled_task_is_known_and_does_not_run,
            an_immediate_task_runs_once_or_at_every_start,
            the_file_and_the_api_leave_each_others_tasks_alone,
            an_entry_that_was_changed_meanwhile_is_not_registered,
            what_is_open_of_a_removed_task_ends,
            registrations_at_once_agree_on_the_first_occurrence,
            one_post_of_a_destination_is_on_its_way_at_a_time,
            many_deliverers_at_once_send_each_post_once_and_in_order,
            destinations_take_turns,
            many_posts_whose_time_comes_at_once_go_out_in_order,
            parts_go_out_in_order_and_not_after_one_that_failed,
            a_post_that_needs_review_does_not_hold_up_the_destination,
            a_deferred_post_goes_out_at_its_time_and_not_before,
            while_a_destination_takes_no_posts_the_others_wait_in_order,
            one_node_at_a_time_sends_for_a_token,
            what_a_node_sent_for_is_handed_over_when_it_goes,
            one_of_many_that_ask_at_once_sends_for_a_token,
            a_token_that_nobody_sends_for_any_more_is_forgotten,
            a_post_that_waits_for_another_names_it,
            a_retry_asks_the_destination_again_at_once,
            what_a_platform_was_asked_and_answered_is_kept_with_the_attempt,
            a_post_that_is_never_taken_does_not_silence_its_destination_for_ever,
            a_post_that_is_settled_holds_nobody_any_more,
            a_doubt_is_kept_from_the_first_attempt_until_it_is_cleared,
            a_post_whose_lease_was_lost_is_uncertain_and_belongs_to_another,
            an_attempt_that_only_waited_is_no_try,
            a_post_in_doubt_comes_with_the_receipts_of_others,
            a_post_in_doubt_comes_with_what_others_say_that_may_be_there,
            the_late_end_of_an_attempt_does_not_end_the_next_one_of_the_same_node,
            a_late_end_that_nobody_overtook_is_stored,
            a_post_that_failed_counts_as_one_failure_of_its_task,
            failures_are_forgotten_when_the_posts_of_a_success_are_settled,
            a_person_decides_about_a_post_in_any_state,
            a_doubt_ends_where_a_person_says_so_and_not_by_a_retry,
            a_post_that_a_person_has_seen_is_settled_by_its_words,
            a_later_part_that_a_person_sends_again_goes_out,
            a_claimed_post_knows_the_times_that_its_limits_count,
            skills_are_told_what_was_posted_or_is_on_its_way,
            an_item_is_free_again_when_a_limit_left_its_post_out,
            people_who_retry_posts_of_one_destination_at_once_do_not_lock_each_other_out,
            deliveries_decisions_and_rescues_at_once_do_not_write_over_each_other,
            what_follows_a_post_is_tried_at_its_own_time_and_holds_nobody,
            a_follow_up_whose_node_is_lost_is_due_again_and_a_late_end_is_refused,
            a_person_decides_what_still_follows_a_post,
            history_is_newest_first_and_shows_what_is_open,
            pruning_keeps_posts_used_items_and_attempts_of_what_is_open,
            a_snapshot_is_kept_until_it_is_replaced_or_cleared,
            what_begins_and_ends_is_told_once_each,
            one_node_at_a_time_watches,
            looks_at_the_same_moment_tell_once,
            an_alert_that_can_not_be_told_is_no_failure_and_no_alert_of_its_own,
            a_paused_destination_is_an_alert_until_it_takes_a_post,
            a_token_that_is_refused_is_an_alert,
            posts_that_wait_for_a_person_are_an_alert_of_their_task,
            a_task_that_nobody_runs_is_overdue,
            an_open_breaker_is_an_alert_until_the_task_is_resumed,
            what_a_node_has_found_itself_is_told_like_the_rest,
            alerts_that_are_over_are_forgotten_in_time,
            an_event_is_taken_once_by_its_id,
            an_event_that_many_bring_at_once_is_stored_once,
            events_that_follow_each_other_closely_are_one_run_for_the_last,
            events_of_a_batch_are_one_run_for_all_of_them,
            an_event_is_refused_when_too_many_runs_wait,
            a_task_runs_after_another_once_for_each_end_that_it_wants,
            an_end_is_passed_on_once_however_many_do_it,
            a_task_runs_after_one_that_was_poison,
            ends_are_gathered_and_bounded_as_events_are,
            who_runs_after_whom_is_as_it_was_registered_last,
            ends_of_a_restored_backup_run_nothing,
            one_node_at_a_time_listens_to_a_channel,
            what_changes_is_told_in_order,
            many_changes_come_in_pages,
            what_is_committed_late_is_not_missed,
            who_comes_back_too_late_is_told_of_a_gap,
            who_follows_is_told_of_every_execution_once,
            what_people_changed_long_ago_is_forgotten_with_the_history,
            times_are_kept_to_the_microsecond,
            the_longest_durations_are_understood,
            every_occurrence_is_accounted_for_whatever_happens,
        );
    };
    (@each $name:ident, $make:expr, $($rule:ident,)+) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    if let Some(store) = Option::<$crate::databases::TestStore>::from($make.await) {
                        $crate::store_suite::$rule(&store).await;
                    }
                }
            )+
        }
    };
}
