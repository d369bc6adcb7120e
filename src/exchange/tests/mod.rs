//! The exchange by hand, by random schedules, and model-checked.

mod model;
mod model_hub;
mod opening;
mod outage;
mod schedule;
mod steps;
mod toy;
