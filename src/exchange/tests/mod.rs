//! The exchange by hand, by random schedules, and model-checked.

mod model;
mod opening;
mod schedule;
mod toy;
