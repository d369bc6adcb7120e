//! What a process needs whatever it does: the clock that is passed in,
//! supervision of tasks, staged shutdown, random bytes. Knows nothing of the
//! other rooms.

mod clock;
mod random;
mod stages;
mod tasks;

pub use clock::{Clock, ManualClock, SystemClock};
pub use random::{fill_random, random_bytes, random_unit};
pub use stages::{Stage, StageReport, Stages};
pub use tasks::{OnEnd, TaskEnd, Tasks};
