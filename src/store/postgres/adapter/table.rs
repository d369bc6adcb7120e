//! Rows of one table in memory: as they were read, as earlier jobs of a batch
//! have left them, and as the job at work changes them.

use std::{collections::BTreeMap, ops::RangeBounds};

/// See the module. `None` as a value: there is no such row.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    loaded: BTreeMap<K, Option<V>>,
    batch: BTreeMap<K, Option<V>>,
    job: BTreeMap<K, Option<V>>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            loaded: BTreeMap::new(),
            batch: BTreeMap::new(),
            job: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> Table<K, V> {
    /// The database has this, or has nothing there.
    pub(super) fn learn(&mut self, key: K, value: Option<V>) {
        self.loaded.insert(key, value);
    }

    /// Whether it is known what stands there.
    pub(super) fn knows(&self, key: &K) -> bool {
        self.job.contains_key(key) || self.batch.contains_key(key) || self.loaded.contains_key(key)
    }

    /// What stands there; nothing, where that is not known.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let layers = [&self.job, &self.batch, &self.loaded];
        layers
            .into_iter()
            .find_map(|layer| layer.get(key))?
            .as_ref()
    }

    /// What stands there, for changing.
    pub(super) fn edit(&mut self, key: &K) -> Option<&mut V> {
        if !self.job.contains_key(key) {
            let now = self.get(key)?.clone();
            self.job.insert(key.clone(), Some(now));
        }
        self.job.get_mut(key)?.as_mut()
    }

    pub(super) fn set(&mut self, key: K, value: V) {
        self.job.insert(key, Some(value));
    }

    pub(super) fn take(&mut self, key: &K) {
        self.job.insert(key.clone(), None);
    }

    /// What stands in a range, in order.
    pub(super) fn range(&self, range: impl RangeBounds<K> + Clone) -> Vec<(K, V)> {
        let mut found: BTreeMap<&K, &V> = BTreeMap::new();
        for layer in [&self.loaded, &self.batch, &self.job] {
            for (key, value) in layer.range(range.clone()) {
                match value {
                    Some(value) => found.insert(key, value),
                    None => found.remove(key),
                };
            }
        }
        let found = found.into_iter();
        found
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// The job at work has ended well.
    pub(super) fn keep_job(&mut self) {
        self.batch.append(&mut self.job);
    }

    /// It leaves nothing behind.
    pub(super) fn drop_job(&mut self) {
        self.job.clear();
    }

    /// Nothing of the batch holds.
    pub(super) fn drop_batch(&mut self) {
        self.job.clear();
        self.batch.clear();
    }

    /// The batch is committed.
    pub(super) fn keep_batch(&mut self) {
        self.loaded.append(&mut self.batch);
    }

    /// Nothing is known any more.
    pub(super) fn forget(&mut self) {
        self.drop_batch();
        self.loaded.clear();
    }

    /// What the batch changes: rows as they are to be, and keys of those that go.
    pub(super) fn changes(&self) -> (Vec<(&K, &V)>, Vec<&K>) {
        let mut puts = Vec::new();
        let mut gone = Vec::new();
        for (key, value) in &self.batch {
            let before = self.loaded.get(key).and_then(Option::as_ref);
            match value {
                Some(value) if before != Some(value) => puts.push((key, value)),
                None if before.is_some() => gone.push(key),
                _ => {}
            }
        }
        (puts, gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: of three jobs the first is kept, the second is dropped, the third
    /// takes a row away and puts one as it was; then the batch is kept, and another
    /// one is dropped.
    /// Guarantee: a job that is dropped leaves nothing behind; only rows that end up
    /// otherwise than they were read are written; what is kept is what is read next.
    #[test]
    fn a_job_that_is_dropped_leaves_nothing() {
        let mut table = Table::default();
        table.learn(1, Some("a"));
        table.learn(2, Some("b"));
        table.learn(3, None);
        table.set(3, "c");
        *table.edit(&1).unwrap() = "x";
        table.keep_job();
        table.set(2, "dropped");
        table.take(&3);
        assert_eq!(table.range(..), [(1, "x"), (2, "dropped")]);
        table.drop_job();
        assert_eq!(table.range(..), [(1, "x"), (2, "b"), (3, "c")]);
        table.take(&2);
        table.set(1, "a");
        table.keep_job();
        let (puts, gone) = table.changes();
        assert_eq!((puts, gone), (vec![(&3, &"c")], vec![&2]));
        table.keep_batch();
        table.set(9, "lost");
        table.keep_job();
        table.drop_batch();
        assert_eq!(table.range(2..), [(3, "c")]);
        assert!(table.knows(&2) && table.get(&2).is_none() && !table.knows(&9));
    }
}
