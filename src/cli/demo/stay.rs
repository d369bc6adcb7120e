//! `--stay`: a partner at home for whoever writes a client.

use std::time::Duration;

use crate::wire::v1::{self, new_event::Body};

use super::{
    story::Cast,
    world::{SPARE, World},
};

/// Says how to connect, and plays the national desk for the spare party until
/// the visitor has had enough.
pub(super) async fn stay(world: &World, cast: &mut Cast) -> anyhow::Result<()> {
    invite(world);
    let mut after = None;
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            outcome = answer(cast, &mut after) => {
                if let Err(error) = outcome {
                    eprintln!("   the robot: {error:#}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

fn invite(world: &World) {
    let Some(links) = world.hub.addresses.links else {
        return;
    };
    let pki = world.directory.join("pki");
    let pki = pki.display();
    println!(
        "\nIt stays. The party {SPARE:?} is yours: registered as unary, it calls the hub itself over mutual TLS."
    );
    println!(
        "A national robot verifies, routes and answers whatever {SPARE} files. Ctrl-C ends it.\n"
    );
    println!(
        "# the hub, with the certificate of {SPARE} (buf from npm: @bufbuild/buf; run it in this repository)"
    );
    println!(
        "npx buf curl --schema proto --protocol grpc --http2-prior-knowledge --cacert {pki}/ca.pem --cert {pki}/{SPARE}.pem --key {pki}/{SPARE}.key \\\n  -d '{{\"handover\":{{\"complaint\":{{\"reference\":\"A-1\",\"title\":\"Lampu jalan padam\",\"body\":\"Sudah tiga hari lampu jalan padam.\",\"handling\":\"HANDLING_ROUTE\"}}}},\"waitForHubMs\":5000}}' \\\n  https://{links}/jembatan.v1.GatewayService/Submit\n"
    );
    println!("# the city's door in plain HTTP");
    println!(
        "curl -s 'http://{}/v1/complaints?wait=hub' -H 'content-type: application/json' \\\n  -d '{{\"reference\":\"B-1\",\"title\":\"Jalan rusak\",\"body\":\"Jalan berlubang di depan pasar.\",\"handling\":\"HANDLING_OWN\"}}'\n",
        world.city.addresses.http
    );
    println!(
        "# Python (pip install grpcio grpcio-tools; stubs from proto/, see tests/foreign/unary_party.py)"
    );
    println!(
        "python tests/foreign/unary_party.py <stubs> {links} {pki}/ca.pem {pki}/{SPARE}.pem {pki}/{SPARE}.key localhost\n"
    );
    println!("# how it stands");
    println!("jembatan status --door {}", world.hub.addresses.grpc);
    println!("# logs: {}\n", world.hub.log().display());
}

/// Answers what newly came into national triage.
async fn answer(cast: &mut Cast, after: &mut Option<String>) -> anyhow::Result<()> {
    let gateway = &mut cast.nation.gateway;
    let request = v1::FetchInboxRequest {
        after: after.clone().unwrap_or_default(),
        wait_ms: 2_000,
        limit: 100,
    };
    let items = gateway.fetch_inbox(request).await?.into_inner().items;
    for item in items {
        *after = Some(item.cursor.clone());
        let Some(v1::inbox_item::Item::Event(event)) = item.item else {
            continue;
        };
        let (Some(what), Some(header)) = (event.event, event.header) else {
            continue;
        };
        let is_new = matches!(what.body, Some(v1::event::Body::Filed(_)));
        if what.party != SPARE || !is_new {
            continue;
        }
        let id = header.tracking_id;
        let nation = &mut cast.nation;
        nation.say(&id, "", Body::Verified(v1::Verified {})).await?;
        let body = Body::Responded(v1::Responded {
            attachments: Vec::new(),
        });
        nation
            .say(&id, "Laporan Anda sudah kami terima dan teruskan.", body)
            .await?;
        let body = Body::Forwarded(v1::Forwarded {
            institution: SPARE.to_owned(),
            unit: String::new(),
        });
        let decision = nation.say(&id, "Mohon ditindaklanjuti.", body).await?;
        println!(
            "   robot: verified, answered and routed {id} to {}",
            decision.handler
        );
    }
    Ok(())
}
