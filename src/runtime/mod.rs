//! What a process needs whatever it does: the clock that is passed in,
//! supervision of tasks, staged shutdown. Knows nothing of the other rooms.

mod clock;

pub use clock::{Clock, ManualClock, SystemClock};
