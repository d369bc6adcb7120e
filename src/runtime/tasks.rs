//! Supervised tasks: each hangs on a handle, has a name and a policy, and a
//! panic is never swallowed.

use std::{future::Future, time::Duration};

use tokio::task::{Id, JoinSet};

/// What the end of a task means for the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnd {
    /// The node stops.
    StopNode,
    /// It is logged.
    Log,
}

/// A task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEnd {
    /// Its name.
    pub name: String,
    /// What that means.
    pub on_end: OnEnd,
    /// It panicked: what it said.
    pub panic: Option<String>,
}

/// A set of supervised tasks. Dropping it aborts them.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    known: Vec<(Id, String, OnEnd)>,
}

impl Tasks {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task.
    pub fn spawn(
        &mut self,
        name: impl Into<String>,
        on_end: OnEnd,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let handle = self.set.spawn(task);
        self.known.push((handle.id(), name.into(), on_end));
    }

    /// Waits until any task ends; `None` if there is none.
    pub async fn next_end(&mut self) -> Option<TaskEnd> {
        let (id, panic) = match self.set.join_next_with_id().await? {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(panic_text(error))),
        };
        let place = self.known.iter().position(|(known, ..)| *known == id);
        let (name, on_end) = match place {
            Some(place) => {
                let (_, name, on_end) = self.known.swap_remove(place);
                (name, on_end)
            }
            None => ("unnamed".to_owned(), OnEnd::StopNode),
        };
        if let Some(panic) = &panic {
            tracing::error!(event = "task_panicked", task = %name, %panic);
        }
        Some(TaskEnd {
            name,
            on_end,
            panic,
        })
    }

    /// Waits until a task ends whose end stops the node.
    pub async fn stopped(&mut self) -> TaskEnd {
        loop {
            match self.next_end().await {
                Some(end) if end.on_end == OnEnd::StopNode || end.panic.is_some() => return end,
                Some(end) => tracing::info!(event = "task_ended", task = %end.name),
                None => std::future::pending().await,
            }
        }
    }

    /// Waits for all, at most so long; aborts and names what is left.
    pub async fn finish(&mut self, deadline: Duration) -> Vec<String> {
        let all = async { while self.next_end().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_ok() {
            return Vec::new();
        }
        self.set.abort_all();
        self.known.drain(..).map(|(_, name, _)| name).collect()
    }
}

fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a message".to_owned()),
        Err(_) => "aborted".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: one task ends quietly, one panics.
    /// Guarantee: the panic stops the node and is named.
    #[tokio::test]
    async fn a_panic_is_never_swallowed() {
        let mut tasks = Tasks::new();
        tasks.spawn("quiet", OnEnd::Log, async {});
        tasks.spawn("loud", OnEnd::Log, async { panic!("on purpose") });
        let end = tasks.stopped().await;
        assert_eq!(end.name, "loud");
        assert_eq!(end.panic.as_deref(), Some("on purpose"));
    }

    /// Scenario: a task that does not end.
    /// Guarantee: `finish` cuts it at the deadline and names it.
    #[tokio::test(start_paused = true)]
    async fn what_hangs_is_named() {
        let mut tasks = Tasks::new();
        tasks.spawn("stuck", OnEnd::Log, std::future::pending());
        let cut = tasks.finish(Duration::from_secs(1)).await;
        assert_eq!(cut, ["stuck"]);
    }
}
