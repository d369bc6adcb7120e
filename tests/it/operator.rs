//! What an operator sees at a glance: who is behind, why, since when, what to do.

use crate::{
    cli::at,
    sessions::{events, healthy},
    support::{World, complaint, connected, eventually, submit_many},
};

const CITY: &str = "pemda-33.74";

/// Scenario: the hub goes away while a city hands two complaints over, and comes
/// back; then the city's node goes away while the hub sends it three.
/// Guarantee: at the node one line says that the link is lost, why, what waits and
/// that it goes out by itself; its log says when the link is back. At the hub one
/// line says which party is away, since when, what waits for it, and what to look
/// at; what the local system has not fetched is counted apart.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_at_a_glance() {
    let mut world = World::new();
    let mut city = world.adapter(CITY);
    connected(&world, &city, CITY).await;
    let row = |node: &crate::support::Node| -> Vec<String> {
        let shown = at(node, &["status"]).good().out;
        let row = shown.lines().find(|line| line.starts_with(CITY));
        let row = row.unwrap_or_else(|| panic!("{shown}"));
        row.split("  ")
            .map(|cell| cell.trim().to_owned())
            .filter(|cell| !cell.is_empty())
            .collect()
    };
    let before = events(&city, "link_connected").len();
    assert!(before > 0, "{}", city.log());
    world.hub.kill();
    let two = ["O-1", "O-2"].map(complaint);
    assert_eq!(submit_many(&city, two.to_vec()).await, 2);
    eventually("the node says so", async || row(&city)[1] == "disconnected").await;
    let told = row(&city);
    assert!(told[2].starts_with("20"), "since when: {told:?}");
    assert_eq!(&told[3..7], ["2", "0", "2", "0"], "{told:?}");
    for words in ["2 wait here, the oldest for", "tries again by itself"] {
        assert!(told[7].contains(words), "{told:?}");
    }
    world.hub.start_again();
    healthy(&city, CITY).await;
    assert!(events(&city, "link_connected").len() > before);
    eventually("all of it went out", async || {
        let told = row(&city);
        told[5] == "0" && told[6] != "0"
    })
    .await;

    city.kill();
    let hub = &world.hub;
    eventually("the hub says so", async || row(hub)[1] == "disconnected").await;
    let three = ["N-1", "N-2", "N-3"].map(complaint);
    assert_eq!(submit_many(hub, three.to_vec()).await, 3);
    let told = row(hub);
    assert_eq!(told[5], "3", "{told:?}");
    assert!(
        told[7].contains("is it running, and is its line good?"),
        "{told:?}"
    );
}
