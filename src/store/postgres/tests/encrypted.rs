//! The line to a server that wants TLS and a client's certificate.

use std::process::Command;

use super::*;
use crate::{
    domain::Micros,
    identity::{Authority, Lifetime, Subject, TrustDomain, write_new},
    runtime::Clock as _,
    store::Store as _,
};

/// Roots of its own, and a certificate for 127.0.0.1 by them.
fn pki(directory: &Path) {
    let now = Micros(SystemClock.now_micros());
    let domain = TrustDomain::parse("jembatan.example").unwrap();
    let authority = Authority::init(directory, &domain, now, false).unwrap();
    let subject = Subject::Hub(vec!["127.0.0.1".to_owned()]);
    let issued = authority.issue(&subject, Lifetime::days(now, 3)).unwrap();
    let key = issued.key.unwrap();
    write_new(&directory.join("server.key"), &key, true, true).unwrap();
    write_new(
        &directory.join("server.pem"),
        &issued.certificate,
        false,
        true,
    )
    .unwrap();
}

/// A server that lets nobody in over the network without TLS and a certificate by
/// these roots, and a database there.
async fn guarded(programs: &Path, files: &Path, own: &Path) -> (Cluster, String) {
    // The server's user must own its key, and reads beside it.
    let served = files.join("served");
    let hba = "local all all trust\nhostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n";
    let copied = Command::new("cp").arg("-r").args([own, &served]).status();
    assert!(copied.unwrap().success());
    std::fs::write(served.join("hba.conf"), hba).unwrap();
    Cluster::give(files);
    let at = |name: &str| served.join(name).display().to_string();
    let settings_of_server = [
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", at("server.pem")),
        format!("ssl_key_file={}", at("server.key")),
        format!("ssl_ca_file={}", at("ca.pem")),
        format!("hba_file={}", at("hba.conf")),
    ];
    let words: Vec<&str> = settings_of_server.iter().map(String::as_str).collect();
    let cluster = Cluster::start(programs, &words);
    let name = database(&cluster).await;
    (cluster, name)
}

/// Scenario: a server that lets nobody in without TLS and a certificate by its
/// roots; a hub with all of it, with other roots, without a certificate, and
/// without TLS.
/// Guarantee: only the first comes in, encrypted; each other is told what is
/// wrong.
#[tokio::test(flavor = "multi_thread")]
async fn the_line_is_encrypted_and_both_ends_are_checked() {
    let Some(programs) = programs() else { return };
    let files = tempfile::tempdir().unwrap();
    let (own, other) = (files.path().join("own"), files.path().join("other"));
    pki(&own);
    pki(&other);
    let (cluster, name) = guarded(&programs, files.path(), &own).await;
    let url = format!("postgres://{USER}@127.0.0.1:{}/{name}", cluster.port);
    let good = Settings {
        roots: Some(own.join("ca.pem")),
        certificate: Some(own.join("server.pem")),
        key: Some(own.join("server.key")),
        ..settings(&url)
    };
    let store = open_with(good.clone(), decide).await.unwrap();
    store.probe().await.unwrap();
    let text = "SELECT count(*) FROM pg_stat_ssl WHERE ssl AND client_dn IS NOT NULL";
    assert!(value(&cluster, "postgres", text).await >= 1, "the writer");
    let why =
        async |settings: Settings| open_with(settings, decide).await.err().unwrap().to_string();
    let strange = Settings {
        roots: Some(other.join("ca.pem")),
        ..good.clone()
    };
    let found = why(strange).await;
    assert!(found.contains("certificate"), "{found}");
    let nameless = Settings {
        certificate: None,
        key: None,
        ..good.clone()
    };
    let found = why(nameless).await;
    assert!(found.contains("certificate"), "{found}");
    let clear = Settings {
        url: format!("{url}?sslmode=disable"),
        ..good
    };
    let found = why(clear).await;
    assert!(found.contains("pg_hba.conf"), "{found}");
}

/// Scenario: the files of roots, certificate and key change under a running
/// store: to some that can't be read, to some that the server does not take, and
/// back.
/// Guarantee: the next connection is made with what the files hold, without a
/// restart; files that can't be used change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn new_files_are_used_by_the_next_connection() {
    let Some(programs) = programs() else { return };
    let files = tempfile::tempdir().unwrap();
    let (own, other) = (files.path().join("own"), files.path().join("other"));
    pki(&own);
    pki(&other);
    let (cluster, name) = guarded(&programs, files.path(), &own).await;
    let used = files.path().join("used");
    let copy = |from: &Path| {
        for file in ["server.pem", "server.key"] {
            std::fs::copy(from.join(file), used.join(file)).unwrap();
        }
    };
    std::fs::create_dir(&used).unwrap();
    copy(&own);
    let url = format!("postgres://{USER}@127.0.0.1:{}/{name}", cluster.port);
    let settings = Settings {
        roots: Some(own.join("ca.pem")),
        certificate: Some(used.join("server.pem")),
        key: Some(used.join("server.key")),
        ..settings(&url)
    };
    let store = open_with(settings, decide).await.unwrap();
    let database = &store.shared.database;
    std::fs::write(used.join("server.pem"), "no certificate").unwrap();
    assert!(database.line().await.is_ok(), "the last good ones");
    copy(&other);
    assert!(
        database.line().await.is_err(),
        "the server knows no such root"
    );
    copy(&own);
    assert!(database.line().await.is_ok());
}
