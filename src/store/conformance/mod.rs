//! One suite that every engine passes. An engine gives an [`Engine`]; the
//! suite speaks with it through the traits only.

mod deciding;
mod enrolling;
mod epochs;
mod erasing;
mod letters;
mod listing;
mod moving;
mod opening;
mod overruling;
mod pruning;
mod referring;
mod submitting;
mod unmapped;
mod world;

pub(crate) use moving::read_by;
pub(crate) use world::{
    Engine, Kept, TOKEN, World, at, city, event, filing, incoming, national, own_filing, province,
    received, referring, registered,
};

/// Runs all of it against an engine.
pub(crate) async fn run(engine: &dyn Engine) {
    submitting::repeats_and_conflicts(engine).await;
    submitting::survives_reopening(engine).await;
    submitting::refuses_what_it_can_know(engine).await;
    submitting::many_at_once(engine).await;
    unmapped::statuses_wait_for_a_row(engine).await;
    deciding::answers_each_position_once(engine).await;
    deciding::duplicates_get_the_original_result(engine).await;
    deciding::near_duplicates_are_kept(engine).await;
    deciding::thirteen_months_later(engine).await;
    deciding::nothing_poisonous_blocks(engine).await;
    deciding::a_panic_parks_the_entry(engine).await;
    deciding::old_sessions_are_fenced(engine).await;
    deciding::both_ends_prove_the_same_history(engine).await;
    erasing::reaches_only_its_own_complaint(engine).await;
    erasing::a_node_erases_only_in_the_complaint_told(engine).await;
    erasing::reaches_whoever_held_it(engine).await;
    erasing::an_erased_entry_stays_a_duplicate(engine).await;
    erasing::nothing_is_kept_of_what_was_rejected(engine).await;
    overruling::the_national_desk_reads_and_overrules(engine).await;
    moving::a_new_reader_gets_what_is_open(engine).await;
    moving::a_party_that_is_back_gets_what_it_missed(engine).await;
    moving::a_change_of_the_directory_is_one(engine).await;
    overruling::merging_tells_both_sides(engine).await;
    referring::references_survive_a_lost_disk(engine).await;
    letters::what_was_parked_is_decided_again(engine).await;
    letters::what_was_parked_is_given_up(engine).await;
    letters::what_is_final_stays(engine).await;
    letters::who_waits_hears_of_this_epoch(engine).await;
    letters::what_could_not_be_read_is_read_again(engine).await;
    listing::a_list_is_filtered_and_paged(engine).await;
    listing::a_place_without_its_epoch_means_several(engine).await;
    listing::a_node_has_letters_of_two_journals(engine).await;
    pruning::only_what_is_settled_goes(engine).await;
    pruning::what_is_decided_again_waits_again(engine).await;
    pruning::pages_follow_each_other(engine).await;
    enrolling::a_code_is_used_once(engine).await;
    enrolling::a_revoked_serial_takes_its_code_along(engine).await;
    enrolling::what_was_refused_is_kept(engine).await;
    opening::a_lost_disk_comes_back(engine).await;
    opening::what_was_set_aside_goes_again(engine).await;
    opening::who_waits_hears_nothing_of_the_lost_disk(engine).await;
    epochs::nothing_is_lost_or_told_twice_over_epochs(engine).await;
    epochs::what_was_let_go_of_or_lost_still_has_its_outcome(engine).await;
    epochs::what_was_parked_is_settled_over_epochs(engine).await;
    epochs::what_nobody_has_taken_over_is_told_again(engine).await;
    epochs::open_invitations_are_taken_back(engine).await;
}
