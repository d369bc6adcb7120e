//! Staged, bounded shutdown. Each stage has a token that its workers listen
//! to, and a deadline; what does not end in time is cut, and named.

use std::{future::Future, time::Duration};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The stages, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Health says "not serving"; work goes on.
    NotServing,
    /// Nothing new is accepted at doors and listeners.
    StopAccepting,
    /// Peers are told (`Drain`) and links end.
    DrainLinks,
    /// The store finishes what waits and closes.
    Persist,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 4] = [
        Self::NotServing,
        Self::StopAccepting,
        Self::DrainLinks,
        Self::Persist,
    ];

    /// Name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotServing => "not_serving",
            Self::StopAccepting => "stop_accepting",
            Self::DrainLinks => "drain_links",
            Self::Persist => "persist",
        }
    }
}

/// How a stage went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageReport {
    /// Which.
    pub stage: Stage,
    /// It ended before its deadline.
    pub in_time: bool,
}

/// One token per stage.
#[derive(Debug, Clone, Default)]
pub struct Stages {
    tokens: [CancellationToken; 4],
}

impl Stages {
    /// None has begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the stage begins.
    pub fn token(&self, stage: Stage) -> CancellationToken {
        self.tokens[stage as usize].clone()
    }

    /// Begins a stage and waits for its work, at most until the deadline.
    pub async fn run(
        &self,
        stage: Stage,
        deadline: Duration,
        work: impl Future<Output = ()>,
    ) -> StageReport {
        tracing::info!(event = "shutdown_stage", stage = stage.name());
        self.tokens[stage as usize].cancel();
        let in_time = timeout(deadline, work).await.is_ok();
        if !in_time {
            tracing::warn!(
                event = "shutdown_stage_cut",
                stage = stage.name(),
                deadline_ms = deadline.as_millis() as u64
            );
        }
        StageReport { stage, in_time }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a stage whose work never ends.
    /// Guarantee: it is cut at its deadline and reported, and its token had
    /// told the workers.
    #[tokio::test(start_paused = true)]
    async fn a_stage_that_hangs_is_cut_and_named() {
        let stages = Stages::new();
        let token = stages.token(Stage::DrainLinks);
        let report = stages
            .run(
                Stage::DrainLinks,
                Duration::from_secs(5),
                std::future::pending(),
            )
            .await;
        assert!(!report.in_time);
        assert!(token.is_cancelled());
        assert!(!stages.token(Stage::Persist).is_cancelled());
        let report = stages
            .run(Stage::Persist, Duration::from_secs(5), async {})
            .await;
        assert!(report.in_time);
    }
}
