//! Why a node has to be started anew: its database is of another history than what it
//! holds in its memory. Once that is known nothing is let in, or written, any more.

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::sync::watch;

use crate::store::StoreError;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LeftBehind(watch::Sender<Option<&'static str>>);

impl LeftBehind {
    /// From now on it is so; `said` is for the log. The first reason stays.
    pub(super) fn end(&self, why: &'static str, said: &str) {
        let is_new = self.0.send_if_modified(|left| {
            let is_new = left.is_none();
            left.get_or_insert(why);
            is_new
        });
        if is_new {
            tracing::error!(event = "database_left_behind", "{said}");
        }
    }

    /// # Errors
    /// [`StoreError::Unavailable`]: it is so, and why.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match *self.0.borrow() {
            None => Ok(()),
            Some(why) => Err(StoreError::Unavailable(why.to_owned())),
        }
    }

    /// Comes, with the reason, as soon as it is so.
    pub(super) fn known(&self) -> BoxFuture<'static, &'static str> {
        let mut why = self.0.subscribe();
        async move {
            let known = why.wait_for(Option::is_some).await.ok();
            match known.and_then(|known| *known) {
                Some(known) => known,
                // Whoever could say it is gone.
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}
