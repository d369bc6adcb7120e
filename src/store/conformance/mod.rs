//! One suite that every engine passes. An engine gives an [`Engine`]; the
//! suite speaks with it through the traits only.

mod deciding;
mod opening;
mod submitting;
mod world;

pub(crate) use world::Engine;

/// Runs all of it against an engine.
pub(crate) async fn run(engine: &dyn Engine) {
    submitting::repeats_and_conflicts(engine).await;
    submitting::survives_reopening(engine).await;
    submitting::refuses_what_it_can_know(engine).await;
    submitting::many_at_once(engine).await;
    deciding::answers_each_position_once(engine).await;
    deciding::duplicates_get_the_original_result(engine).await;
    deciding::nothing_poisonous_blocks(engine).await;
    deciding::a_panic_parks_the_entry(engine).await;
    deciding::old_sessions_are_fenced(engine).await;
    deciding::both_ends_prove_the_same_history(engine).await;
    opening::a_lost_disk_comes_back(engine).await;
    opening::what_was_set_aside_goes_again(engine).await;
}
