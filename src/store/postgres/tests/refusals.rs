//! What is refused at the start, and how it is said.

use super::*;
use crate::store::Store as _;
use cluster::GUARDED;

use super::super::{check, check_integrity, is_reachable, migrate_adapter};

async fn why(settings: Settings) -> String {
    let opened = PostgresStore::open(Options {
        settings,
        encoder: Arc::new(WireHeaders),
        policy: Policy::default(),
        clock: Arc::new(SystemClock),
        seed: random_bytes(),
        decide,
    });
    opened.await.err().unwrap().to_string()
}

/// Scenario: an empty database, one with the schema, one whose schema has
/// contracted since, and two programs that migrate at once.
/// Guarantee: each that does not fit is refused with what to do; migrating
/// twice changes nothing; a newer schema that still serves is served from.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_does_not_fit_is_refused() {
    let Some(cluster) = shared() else { return };
    let name = format!("s{}", hex::encode(random_bytes::<8>()));
    sql(cluster, "postgres", &format!("CREATE DATABASE {name}")).await;
    let url = cluster.url(&name);
    let state = check(&settings(&url)).await.unwrap();
    assert!(state.found == 0 && !state.fits());
    let found = why(settings(&url)).await;
    assert!(found.contains("jembatan store migrate"), "{found}");
    let own = settings(&url);
    let (one, other) = tokio::join!(migrate(&own), migrate(&own));
    let state = one.unwrap();
    assert!(state.fits() && other.unwrap() == state);
    assert_eq!(check(&own).await.unwrap(), state);

    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
         VALUES (99, 'later', '2027-01-01T00:00:00Z', '1')";
    sql(cluster, &name, newer).await;
    let store = open(&url, decide).await.unwrap();
    store.close().await;
    sql(cluster, &name, "UPDATE schema_use SET readable_from = 98").await;
    let found = why(settings(&url)).await;
    assert!(found.contains("install the newer program"), "{found}");
}

/// Scenario: a wrong password, a user without rights, a database that is not
/// there, a user whose connections are all in use, a server that is not there.
/// Guarantee: each is said for what it is, and no password is in it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_said() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let roles = format!(
        "DROP ROLE IF EXISTS {GUARDED}; CREATE ROLE {GUARDED} LOGIN PASSWORD 'right'; \
         DROP ROLE IF EXISTS narrow; CREATE ROLE narrow LOGIN CONNECTION LIMIT 0"
    );
    sql(cluster, "postgres", &roles).await;
    let at = |user: &str, name: &str| {
        format!(
            "postgres://{user}@127.0.0.1:{}/{name}?sslmode=disable",
            cluster.port
        )
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    let with = |password: &str| {
        std::fs::write(file.path(), password).unwrap();
        Settings {
            password_file: Some(file.path().to_owned()),
            ..settings(&at(GUARDED, &name))
        }
    };
    let found = why(with("secret")).await;
    assert!(
        found.contains("pg_hba.conf") && !found.contains("secret"),
        "{found}"
    );
    let found = why(with("right")).await;
    assert!(found.contains("lacks a right"), "{found}");
    let found = why(settings(&cluster.url("nowhere"))).await;
    assert!(found.contains("make the database first"), "{found}");
    let found = why(settings(&at("narrow", &name))).await;
    assert!(found.contains("no connection left"), "{found}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let found = why(settings(&cluster.tcp_url(&name, port))).await;
    assert!(found.contains("refused"), "{found}");
}

/// Scenario: a user that owns its database and has no other right, as managed
/// servers give them, migrates, serves, recovers and checks; one that may read and
/// write its rows serves.
/// Guarantee: that is enough for all of it, as docs/operate.md says.
#[tokio::test(flavor = "multi_thread")]
async fn who_owns_the_database_needs_no_other_right() {
    let Some(cluster) = shared() else { return };
    let name = format!("o{}", hex::encode(random_bytes::<8>()));
    for statement in [
        format!("CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION"),
        format!("CREATE DATABASE {name} OWNER {name}"),
    ] {
        sql(cluster, "postgres", &statement).await;
    }
    let url = cluster.url(&name);
    let own = url.replace(&format!("user={USER}"), &format!("user={name}"));
    assert!(migrate(&settings(&own)).await.unwrap().fits());
    let store = super::faults::prepared(&own).await;
    super::faults::submit(&store, 0).await.unwrap();
    let later = Micros(at(0).0 * 2);
    let why = recover(&settings(&own), later, false).await;
    let why = why.unwrap_err().to_string();
    assert!(why.contains("pid"), "{why}");
    store.close().await;
    for statement in [
        format!("CREATE ROLE serves_{name} LOGIN"),
        format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO serves_{name}"
        ),
        format!("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO serves_{name}"),
    ] {
        sql(cluster, &name, &statement).await;
    }
    let serves = url.replace(&format!("user={USER}"), &format!("user=serves_{name}"));
    assert!(is_reachable(&settings(&serves)).await.unwrap());
    let store = super::faults::prepared(&serves).await;
    super::faults::submit(&store, 1).await.unwrap();
    store.close().await;
    recover(&settings(&own), later, false).await.unwrap();
    let read = |header: &[u8]| wire::decode_header(&bytes::Bytes::copy_from_slice(header)).ok();
    let found = check_integrity(&settings(&own), read).await.unwrap();
    assert!(found.is_whole(), "{:?}", found.findings);
}

/// Scenario: the schema is to be made by a user that may not make tables.
/// Guarantee: it is said what is missing, and where to read about it.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_without_a_right_says_which() {
    let Some(cluster) = shared() else { return };
    let name = format!("m{}", hex::encode(random_bytes::<8>()));
    for statement in [
        format!("CREATE ROLE {name} LOGIN"),
        format!("CREATE DATABASE {name}"),
    ] {
        sql(cluster, "postgres", &statement).await;
    }
    let narrow = "REVOKE CREATE ON SCHEMA public FROM PUBLIC";
    sql(cluster, &name, narrow).await;
    let url = cluster.url(&name);
    let url = url.replace(&format!("user={USER}"), &format!("user={name}"));
    for outcome in [
        migrate(&settings(&url)).await,
        migrate_adapter(&settings(&url)).await,
    ] {
        let why = outcome.unwrap_err().to_string();
        assert!(why.contains("permission denied for schema public"), "{why}");
        assert!(why.contains("docs/operate.md"), "{why}");
    }
}

/// Scenario: a url that asks for less than is promised; TLS without roots.
/// Guarantee: the session keeps what the settings say; TLS is not silently left
/// out.
#[tokio::test(flavor = "multi_thread")]
async fn a_url_can_not_weaken_what_is_promised() {
    let Some(cluster) = shared() else { return };
    let name = database(cluster).await;
    let weak = format!(
        "{}&options=-c%20synchronous_commit%3Doff",
        cluster.url(&name)
    );
    let store = open(&weak, decide).await.unwrap();
    let line = store.shared.database.line().await.unwrap();
    let row = line.client().query_one("SHOW synchronous_commit", &[]);
    assert_eq!(row.await.unwrap().get::<_, String>(0), "on");
    for mode in ["", "?sslmode=prefer", "?sslmode=require"] {
        let url = format!("postgres://jembatan@db.example/jembatan{mode}");
        let found = why(settings(&url)).await;
        assert!(
            found.contains("[store] roots is missing"),
            "{mode}: {found}"
        );
    }
}

/// Scenario: a server that does not sync.
/// Guarantee: refused: what it calls stored is not on its disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_fsync_is_refused() {
    let Some(programs) = programs() else { return };
    let cluster = Cluster::start(&programs, &["fsync=off"]);
    let found = why(settings(&cluster.url("postgres"))).await;
    assert!(found.contains("fsync=off"), "{found}");
}
