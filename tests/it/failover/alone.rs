//! One hub of two whose way to the database leads somewhere else.

use std::time::Duration;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::replicas::cluster::{Cluster, USER, programs};

use super::{
    checks::count_in_is_count_out,
    load::Load,
    nation::{Nation, eventually},
    promotion::accepted,
};

/// A way to a server, as a name or a virtual address is; when it is turned to
/// another one, lines that are there are cut.
struct Way {
    port: u16,
    leads_to: watch::Sender<u16>,
}

impl Way {
    async fn to(server: &Cluster) -> Self {
        let (leads_to, turned) = watch::channel(server.port);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, turned.clone()));
            }
        });
        Self { port, leads_to }
    }

    fn url(&self) -> String {
        format!(
            "postgres://{USER}@127.0.0.1:{}/national?sslmode=disable",
            self.port
        )
    }
}

async fn carry(mut client: TcpStream, mut turned: watch::Receiver<u16>) {
    let port = *turned.borrow_and_update();
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = turned.changed() => {}
    }
}

/// Scenario: two hubs, each with a way of its own to one server, adapters and the
/// national application hand over. A standby stops to follow; later it is promoted,
/// though the primary lives, and the way of one hub is turned to it.
/// Guarantee: that hub writes nothing there, says that it was left behind, and
/// ends; its adapters go to the other one; count in = count out.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_database_went_back_for_it_alone_ends() {
    let Some(programs) = programs() else { return };
    let primary = Cluster::start(&programs, &[]);
    primary.create("national");
    let (one, other) = (Way::to(&primary).await, Way::to(&primary).await);
    let mut nation = Nation::start(&one.url(), "statement_timeout_seconds = 3", 2, 4).await;
    nation.hubs[1].kill();
    let file = nation.directory.path().join("hub-1.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(&one.url(), &other.url())).unwrap();
    nation.hubs[1].start_again();
    nation.all_linked().await;

    let load = Load::start(&nation, Duration::from_millis(30));
    let flows = async |what: &str| {
        let now = accepted(&primary);
        eventually(what, async || accepted(&primary) > now + 100).await;
    };
    flows("traffic flows").await;
    let stale = primary.standby();
    stale.psql("postgres", "ALTER SYSTEM SET primary_conninfo = ''");
    stale.psql("postgres", "SELECT pg_reload_conf()");
    let following = "SELECT count(*) FROM pg_stat_replication";
    eventually("nobody follows", async || {
        primary.psql("postgres", following).trim() == "0"
    })
    .await;
    flows("both hubs serve").await;

    stale.promote();
    let there = accepted(&stale);
    assert!(there < accepted(&primary), "it has gone back");
    other.leads_to.send(stale.port).unwrap();
    eventually("the hub has noticed", async || {
        nation.hubs[1].log().contains("database_left_behind")
    })
    .await;
    flows("the other one serves").await;
    let mut left = nation.hubs.remove(1);
    assert!(!left.stop(), "it has ended by itself");
    nation.all_linked().await;
    let all = load.stop().await;
    assert_eq!(accepted(&stale), there, "nothing was written there");
    count_in_is_count_out(&nation, &primary, &all).await;
}
