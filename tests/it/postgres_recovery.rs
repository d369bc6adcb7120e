//! A database that was put back to an earlier state, with PostgreSQL's own
//! tools as docs/operate.md has them: what hubs, adapters and the operator's
//! commands make of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use jembatan::wire::v1;

use crate::{
    cli::{jembatan, verdict},
    kill::items,
    recovery::{PARTIES, consume, hand_over, level, path, references, told},
    replicas::{
        cluster::{Cluster, USER, own_directory, programs, unprivileged},
        park,
    },
    support::{Node, World, eventually},
};

/// The database of these hubs.
const DATABASE: &str = "national";

/// Runs one of PostgreSQL's programs as the server's user does.
fn run(cluster: &Cluster, program: &str, arguments: &[&str]) {
    let said = unprivileged(&cluster.programs.join(program))
        .args(arguments)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{program} {arguments:?}: {error}");
}

/// As `createdb` with the url's host and port.
fn create(cluster: &Cluster) {
    let (host, port) = (path(&cluster.directory), cluster.port.to_string());
    run(
        cluster,
        "createdb",
        &["-h", host, "-p", &port, "-U", USER, DATABASE],
    );
}

fn psql(cluster: &Cluster, statement: &str) {
    psql_in(cluster, "postgres", statement);
}

fn psql_in(cluster: &Cluster, database: &str, statement: &str) {
    let url = cluster.url(database);
    run(
        cluster,
        "psql",
        &[
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &url,
            "-c",
            statement,
        ],
    );
}

/// Waits until each of two hubs has written something from now on: what a hub has
/// not written itself it can't miss. One without links still writes for its health.
fn both_write(cluster: &Cluster) {
    psql_in(
        cluster,
        DATABASE,
        "DO $$ DECLARE was jsonb; BEGIN \
             SELECT coalesce(jsonb_object_agg(id, batch), '{}') INTO was FROM replica; \
             FOR n IN 1..1200 LOOP \
                 IF 2 = (SELECT count(*) FROM replica \
                     WHERE batch > coalesce((was->>id::text)::bigint, 0)) \
                 THEN RETURN; END IF; \
                 PERFORM pg_sleep(0.05); \
             END LOOP; \
             RAISE 'not every hub writes'; END $$",
    );
}

/// A hub on this server, and the file with its settings.
fn hub_on(cluster: &Cluster) -> (World, PathBuf) {
    let table = format!("[store]\nurl = \"{}\"\n", cluster.url(DATABASE));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.toml");
    std::fs::write(&file, &table).unwrap();
    jembatan(&["store", "migrate", "--config", path(&file)]).good();
    let world = World::with_hub(&table);
    let file = world.directory.path().join("hub.toml");
    (world, file)
}

/// What `recover` says of the province.
fn of_province(value: &serde_json::Value) -> &serde_json::Value {
    let parties = value["parties"].as_array().unwrap();
    let found = parties.iter().find(|party| party["party"] == PARTIES[0]);
    found.unwrap()
}

/// The record is whole, by its own account; what it has of the province.
fn whole(file: &Path) -> serde_json::Value {
    let check = ["store", "check", "--deep", "--config", path(file)];
    let said = jembatan(&[&check[..], &["--output", "json"]].concat()).good();
    let found = said.lines().pop().unwrap();
    assert_eq!(found["isWhole"], true, "{found}");
    of_province(&found).clone()
}

async fn is_behind(province: &Node, hub: &Node) {
    eventually("both ends are red", || async {
        [province, hub]
            .iter()
            .all(|end| verdict(end, PARTIES[0]) == "VERDICT_MISMATCH")
    })
    .await;
    assert!(province.log().contains("HUB_BEHIND"), "{}", province.log());
}

/// The files of a server that is stopped become those of a base backup, and WAL
/// is read again from the archive up to a named moment.
fn put_back_to(cluster: &mut Cluster, base: &Path, archive: &Path, moment: &str) {
    cluster.let_go("keep");
    let data = cluster.directory.join("data");
    std::fs::rename(&data, cluster.directory.join("lost")).unwrap();
    let copied = unprivileged(Path::new("cp"))
        .args(["-a", path(base), path(&data)])
        .status();
    assert!(copied.unwrap().success());
    let settings = format!(
        "restore_command = 'cp {}/%f %p'\nrecovery_target_name = '{moment}'\n\
         recovery_target_action = 'promote'\n",
        archive.display()
    );
    let written = format!(
        "printf '%s' \"$1\" >> {data}/postgresql.auto.conf && touch {data}/recovery.signal",
        data = data.display()
    );
    let told = unprivileged(Path::new("/bin/sh"))
        .args(["-c", &written, "sh", &settings])
        .status();
    assert!(told.unwrap().success());
    cluster.run();
    // It takes reads first; it is promoted when it is at the moment.
    psql(
        cluster,
        "DO $$ BEGIN FOR n IN 1..600 LOOP EXIT WHEN NOT pg_is_in_recovery(); \
         PERFORM pg_sleep(0.05); END LOOP; END $$",
    );
}

/// Scenario: a server with a WAL archive and a base backup, which a check found
/// whole. Two hubs serve; the city takes some over; more is handed over after a
/// moment with a name. The server is put back to that moment while both hubs run
/// on; one is started anew; the operator tries to recover too early, then stops the
/// hubs, looks, recovers, and starts them.
/// Guarantee: hubs that ran on serve nobody from the older state and end; links
/// stop as HUB_BEHIND at the one that was started, doors stay open; `recover` names
/// who is in its way; afterwards count in = count out: each filing at the hub once
/// under the Tracking ID that it had, told to its author once, handed over to the
/// city once; both ends of every journal are equal, and the record is whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_put_back_to_a_moment_loses_nothing_that_an_adapter_holds() {
    let Some(programs) = programs() else { return };
    let archive = own_directory();
    let command = format!("archive_command=cp %p {}/%f", archive.display());
    let settings = ["archive_mode=on", &command, "wal_level=replica"];
    let mut cluster = Cluster::start(&programs, &settings);
    create(&cluster);
    let (mut world, file) = hub_on(&cluster);
    let second = crate::replicas::second_hub(&world);
    let both = |text| crate::replicas::with_both(&world, &second, text);
    let mut second = Node::start("hub", &second.0);
    for party in PARTIES {
        world.issue_party(party);
    }
    let mut province = world.adapter_with("province", PARTIES[0], both);
    let mut city = world.adapter_with("city", PARTIES[1], both);

    let base = cluster.directory.join("base");
    let url = cluster.url(DATABASE);
    run(
        &cluster,
        "pg_basebackup",
        &["-d", &url, "-D", path(&base), "-c", "fast", "-X", "stream"],
    );
    run(&cluster, "pg_verifybackup", &[path(&base)]);
    hand_over(&province, references("A", 20), 0).await;
    level(&world, &province, &city, 20).await;
    let mut handed_over = consume(&city, 5).await;
    psql(&cluster, "SELECT pg_create_restore_point('before')");
    hand_over(&province, references("B", 25), 0).await;
    level(&world, &province, &city, 45).await;
    handed_over.extend(consume(&city, 12).await);
    let before = told(&province).await;
    both_write(&cluster);
    psql(&cluster, "SELECT pg_switch_wal()");
    assert_eq!(whole(&file)["accepted"], 45);

    put_back_to(&mut cluster, &base, &archive, "before");
    // It ran on, with links and tokens of the state that is gone.
    for hub in [&world.hub, &second] {
        eventually("the hub has noticed", || async {
            hub.log().contains("database_left_behind")
        })
        .await;
    }
    world.hub.restart();
    is_behind(&province, &world.hub).await;
    hand_over(&province, references("C", 5), 0).await;
    let place = world.hub.place(PARTIES[0], v1::Journal::Submissions).await;
    assert_eq!(place.position, 20, "nobody resends");
    let recover = ["recover", "--config", path(&file), "--output", "json"];
    let refused = jembatan(&recover);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("stop every hub"), "{}", refused.err);

    assert!(world.hub.stop());
    assert!(!second.stop(), "it has ended by itself");
    let look = jembatan(&[&recover[..], &["--dry-run"]].concat());
    let look = look.good().json();
    assert_eq!(of_province(&look)["submissions"], 20, "{look}");
    let done = jembatan(&recover).good().json();
    let ended = |value| of_province(value)["endedEpoch"].clone();
    assert_eq!(ended(&look), ended(&done), "looking changed nothing");
    world.hub.start_again();
    second.start_again();
    // They would come by themselves, but not hurry: nobody else could help.
    province.restart();
    city.restart();

    level(&world, &province, &city, 50).await;
    let after = told(&province).await;
    for (event, tracking_id) in &before {
        assert_eq!(after.get(event), Some(tracking_id));
    }
    let distinct: std::collections::BTreeSet<_> = after.values().collect();
    assert_eq!(distinct.len(), 50, "no Tracking ID is given twice");
    handed_over.extend(consume(&city, usize::MAX).await);
    assert_eq!(handed_over.len(), 50, "each was handed over once");
    let all = references("A", 20)
        .chain(references("B", 25))
        .chain(references("C", 5));
    let handed_over: std::collections::BTreeSet<_> = handed_over.into_iter().collect();
    assert_eq!(handed_over, all.collect());
    // Life goes on in the new epoch.
    hand_over(&province, references("D", 3), 30_000).await;
    level(&world, &province, &city, 53).await;
    assert_eq!(consume(&city, usize::MAX).await.len(), 3);
    let found = whole(&file);
    assert_eq!(
        (&found["epochs"], &found["accepted"]),
        (&2.into(), &53.into())
    );
    assert!(world.hub.stop() && second.stop());
    std::fs::remove_dir_all(archive).unwrap();
}

/// A hub on a server of its own and the file with its settings, the adapters of the
/// province and the city, and ten complaints at all of them; `None`: there are no
/// programs of a server here.
async fn ten_at_both_ends() -> Option<(Cluster, World, PathBuf, Node, Node)> {
    let cluster = Cluster::start(&programs()?, &[]);
    create(&cluster);
    let (world, file) = hub_on(&cluster);
    let (province, city) = (world.adapter(PARTIES[0]), world.adapter(PARTIES[1]));
    hand_over(&province, references("A", 10), 0).await;
    level(&world, &province, &city, 10).await;
    Some((cluster, world, file, province, city))
}

/// Scenario: a dump of the database is taken while the hub runs; more comes; the
/// dump goes into a fresh database of that name, as the refusals of `backup` and
/// `restore` say; the hub, which was stopped, is started before `recover`, and
/// after it. Something was parked and refused before the dump.
/// Guarantee: as above; letters are listed while no hub runs, and a damaged row
/// is named by `store check --deep`.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_from_a_dump_is_recovered() {
    let Some(ten) = ten_at_both_ends().await else {
        return;
    };
    let (mut cluster, mut world, file, mut province, mut city) = ten;
    let dump = cluster.directory.join("national.dump");
    let url = cluster.url(DATABASE);
    let copy = world.directory.path().join("copy.db");
    let refused = jembatan(&["backup", "--config", path(&file), path(&copy)]);
    let said = format!("pg_dump -d '{url}' -Fc -f FILE");
    assert!(refused.err.contains(&said), "{}", refused.err);
    run(&cluster, "pg_dump", &["-d", &url, "-Fc", "-f", path(&dump)]);
    hand_over(&province, references("B", 10), 0).await;
    level(&world, &province, &city, 20).await;

    assert!(world.hub.stop());
    let refused = jembatan(&["restore", path(&copy), "--config", path(&file)]);
    let said = format!("pg_restore -d '{url}' --exit-on-error FILE");
    assert!(refused.err.contains(&said), "{}", refused.err);
    psql(
        &cluster,
        &format!("ALTER DATABASE {DATABASE} RENAME TO lost"),
    );
    create(&cluster);
    run(
        &cluster,
        "pg_restore",
        &["-d", &url, "--exit-on-error", path(&dump)],
    );
    world.hub.start_again();
    is_behind(&province, &world.hub).await;
    assert!(world.hub.stop());
    let recover = ["recover", "--config", path(&file)];
    let done = jembatan(&recover).good();
    assert!(done.out.contains("submissions 1-10"), "{}", done.out);

    // Another version could not decide this one, and no hub runs.
    park(url.clone(), &["L-1"]).await;
    let list = ["dead-letters", "list", "--config", path(&file)];
    let letters = jembatan(&[&list[..], &["--output", "json"]].concat()).good();
    let letters = letters.lines();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0]["outcome"], "parked");
    let id = letters[0]["eventId"].as_str().unwrap();
    let show = jembatan(&["dead-letters", "show", id, "--config", path(&file)]);
    assert_eq!(show.good().json(), letters[0]);
    world.hub.start_again();
    province.restart();
    city.restart();
    let settled = ["dead-letters", "retry", "--all", "--output", "json"];
    let settled = crate::cli::at(&world.hub, &settled).good().lines();
    assert_eq!(settled[0]["decision"]["outcome"], "OUTCOME_ACCEPTED");
    let filed = async || {
        let place = world.hub.place(PARTIES[0], v1::Journal::Submissions).await;
        let there = province.place(PARTIES[0], v1::Journal::Submissions).await;
        place == there && place.position == 11
    };
    eventually("what the dump lacked is there again", &filed).await;
    let all = async || items(&city).await.len() == 20;
    eventually("the city has everything", &all).await;
    // The one that was parked names no region, and stands in triage.
    assert_eq!(consume(&city, usize::MAX).await.len(), 20);
    assert_eq!(whole(&file)["accepted"], 21);

    let damage = format!(
        "UPDATE submission SET event = event || '\\x00' WHERE id = (SELECT max(id) FROM submission \
         WHERE id >> 36 = (SELECT journal FROM submission_head WHERE party = '{}'))",
        PARTIES[0]
    );
    run(&cluster, "psql", &["-X", "-q", "-d", &url, "-c", &damage]);
    let deep = jembatan(&["store", "check", "--deep", "--config", path(&file)]);
    assert_eq!(deep.code, 1);
    let epoch = format!("chain {}/", PARTIES[0]);
    assert!(deep.out.contains(&epoch), "{}", deep.out);
    assert!(deep.err.contains("damage"), "{}", deep.err);
    assert!(world.hub.stop());
    cluster.let_go("remove");
}

/// Scenario: ten complaints at both ends, then ten more; every row of the hub's
/// database becomes what it was in between, under the hub's own connections, as
/// behind a proxy that changes over to a server that was put back.
/// Guarantee: the links that saw more end by themselves, and at once, and stop as
/// HUB_BEHIND; `recover` brings the rest again, each once.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_goes_back_under_live_links_ends_them() {
    let Some(ten) = ten_at_both_ends().await else {
        return;
    };
    let (mut cluster, mut world, file, mut province, mut city) = ten;
    psql_in(
        &cluster,
        DATABASE,
        "CREATE SCHEMA earlier; DO $$ DECLARE name text; BEGIN \
         FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' \
                 AND tablename NOT IN ('replica', 'refinery_schema_history') LOOP \
             EXECUTE format('CREATE TABLE earlier.%I AS TABLE public.%I', name, name); \
         END LOOP; END $$",
    );
    hand_over(&province, references("B", 10), 0).await;
    level(&world, &province, &city, 20).await;
    psql_in(
        &cluster,
        DATABASE,
        "DO $$ DECLARE name text; BEGIN \
         SET LOCAL session_replication_role = replica; \
         FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'earlier' LOOP \
             EXECUTE format('DELETE FROM public.%I', name); \
             EXECUTE format('INSERT INTO public.%I OVERRIDING SYSTEM VALUE \
                 SELECT * FROM earlier.%I', name, name); \
         END LOOP; END $$; DROP SCHEMA earlier CASCADE",
    );
    is_behind(&province, &world.hub).await;
    assert!(world.hub.log().contains("put back to an earlier state"));

    assert!(world.hub.stop());
    jembatan(&["recover", "--config", path(&file)]).good();
    world.hub.start_again();
    province.restart();
    city.restart();
    level(&world, &province, &city, 20).await;
    assert_eq!(consume(&city, usize::MAX).await.len(), 20);
    assert_eq!(whole(&file)["accepted"], 20);
    assert!(world.hub.stop());
    cluster.let_go("remove");
}

/// The commands of the runbook and those of the tests are the same ones.
#[test]
fn the_runbook_has_the_commands_that_were_run() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operate.md"));
    let text = text.unwrap();
    for command in [
        "-c fast -X stream",
        "pg_verifybackup",
        "-Fc -f",
        "pg_restore -d",
        "--exit-on-error",
        "recovery.signal",
        "restore_command",
        "recovery_target_action = 'promote'",
        "jembatan store check --deep",
    ] {
        assert!(text.contains(command), "{command}");
    }
    let said = Command::new(env!("CARGO_BIN_EXE_jembatan"))
        .args(["store", "check", "--help"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).contains("--deep"));
}
