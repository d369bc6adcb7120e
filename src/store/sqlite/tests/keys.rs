//! Keys that wait: they are found wherever they are, by everyone who may see
//! them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rusqlite::Connection;

use super::super::{
    connect,
    keys::{Db, Keys, Table},
    migrations,
};

/// Keys that wait before they go into their tables: few, so that the round is
/// made many times.
const LIMIT: usize = 20;

#[derive(Debug, Clone)]
enum Step {
    /// One transaction: keys with their values.
    Commit(Vec<(bool, u16, i64)>),
    /// One that is rolled back.
    Fail(Vec<(bool, u16, i64)>),
    /// A job in it that fails, after others.
    Undo(Vec<(bool, u16, i64)>, Vec<(bool, u16, i64)>),
    /// Somebody begins to read, and reads on for some steps.
    Read,
    /// The process ends without a word.
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys = || {
        let key = (any::<bool>(), 0u16..300, 1i64..1_000_000);
        prop::collection::vec(key, 0..12)
    };
    let step = prop_oneof![
        8 => keys().prop_map(Step::Commit),
        1 => keys().prop_map(Step::Fail),
        1 => (keys(), keys()).prop_map(|(kept, undone)| Step::Undo(kept, undone)),
        3 => Just(Step::Read),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

/// What stands under a key, and in how many transactions it has moved.
type Model = BTreeMap<(bool, u16), (i64, u32)>;

fn table(is_complaint: bool) -> Table {
    match is_complaint {
        true => Table::Complaints,
        false => Table::Events,
    }
}

fn check(db: &Db<'_>, model: &Model) {
    for is_complaint in [false, true] {
        for key in (0..300).step_by(7).chain(model.keys().map(|(_, key)| *key)) {
            let found = db.at_key(table(is_complaint), i64::from(key)).unwrap();
            let expected = model.get(&(is_complaint, key)).map(|(value, _)| *value);
            assert_eq!(found, expected, "{key}");
        }
    }
}

fn put(db: &Db<'_>, model: &mut Model, keys: &[(bool, u16, i64)]) {
    let before = model.clone();
    for (is_complaint, key, value) in keys {
        let is_new = !model.contains_key(&(*is_complaint, *key));
        let was_put = db.put_key(table(*is_complaint), i64::from(*key), *value);
        assert_eq!(was_put.unwrap(), is_new);
        if !is_new {
            // A row that moves.
            db.set_key(table(*is_complaint), i64::from(*key), *value);
        }
        let moves = before.get(&(*is_complaint, *key));
        let moves = moves.map_or(0, |(_, moves)| moves + 1);
        model.insert((*is_complaint, *key), (*value, moves));
    }
    check(db, model);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Scenario: keys are put, moved, undone and rolled back in any order, with
    /// readers that began earlier and stops in between; so few may wait that
    /// they go into their tables all the time.
    /// Guarantee: the writer and every new reader find exactly what was
    /// committed; a reader that began earlier finds every key that was there
    /// then and still has its value, and where one stood that has moved once
    /// since; memory stays bounded.
    #[test]
    fn keys_are_found_wherever_they_are(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.db");
        let mut connection = connect(&path).unwrap();
        migrations::migrations::runner().run(&mut connection).unwrap();
        let mut keys = Keys::with_limits(LIMIT..=LIMIT);
        keys.load(&connection).unwrap();
        let mut model = Model::new();
        let mut readers: Vec<(std::sync::Arc<()>, Connection, Model)> = Vec::new();
        for step in steps {
            match step {
                Step::Commit(new) => {
                    let transaction = connection.transaction().unwrap();
                    put(&Db::writer(&transaction, &keys), &mut model, &new);
                    let step = keys.before_commit(&transaction).unwrap();
                    transaction.commit().unwrap();
                    keys.committed(step);
                }
                Step::Undo(kept, undone) => {
                    let transaction = connection.transaction().unwrap();
                    let db = Db::writer(&transaction, &keys);
                    put(&db, &mut model, &kept);
                    let before = keys.fresh_len();
                    put(&db, &mut model.clone(), &undone);
                    keys.undo_to(before);
                    check(&Db::writer(&transaction, &keys), &model);
                    let step = keys.before_commit(&transaction).unwrap();
                    transaction.commit().unwrap();
                    keys.committed(step);
                }
                Step::Fail(new) => {
                    let transaction = connection.transaction().unwrap();
                    put(&Db::writer(&transaction, &keys), &mut model.clone(), &new);
                    keys.before_commit(&transaction).unwrap();
                    transaction.rollback().unwrap();
                    keys.rolled_back();
                }
                Step::Read => {
                    let reading = keys.reading();
                    let reader = connect(&path).unwrap();
                    reader.execute_batch("BEGIN; SELECT count(*) FROM key_log;").unwrap();
                    readers.push((reading, reader, model.clone()));
                    if readers.len() > 3 {
                        readers.remove(0);
                    }
                }
                Step::Reopen => {
                    readers.clear();
                    connection = connect(&path).unwrap();
                    keys = Keys::with_limits(LIMIT..=LIMIT);
                    keys.load(&connection).unwrap();
                }
            }
            check(&Db::reader(&connection, &keys), &model);
            for (_, reader, then) in &readers {
                let db = Db::reader(reader, &keys);
                for ((is_complaint, key), (value, moves)) in then {
                    let (table, at) = (table(*is_complaint), i64::from(*key));
                    let (now, moved) = model[&(*is_complaint, *key)];
                    if now == *value {
                        prop_assert_eq!(db.at_key(table, at).unwrap(), Some(*value));
                    } else if moved == moves + 1 {
                        let earlier = db.earlier_at_key(table, at).unwrap();
                        prop_assert!(earlier.contains(&Some(*value)), "{:?}", earlier);
                    }
                }
            }
            if readers.is_empty() {
                // After a stop the log holds up to two rounds.
                prop_assert!(keys.waiting() <= 5 * LIMIT, "{}", keys.waiting());
            }
        }
    }
}
