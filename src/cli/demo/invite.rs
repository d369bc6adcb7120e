//! What a visitor can paste: commands that work from any directory, with the
//! contract and the script in the demo's own.

use std::{net::SocketAddr, path::Path};

use anyhow::Context as _;

use crate::cli::output::line;

use super::world::{SPARE, World};

/// The contract, so that a client can be made where only the program is.
const CONTRACT: [(&str, &str); 6] = [
    (
        "complaint",
        include_str!("../../../proto/jembatan/v1/complaint.proto"),
    ),
    (
        "directory",
        include_str!("../../../proto/jembatan/v1/directory.proto"),
    ),
    (
        "enrolment",
        include_str!("../../../proto/jembatan/v1/enrolment.proto"),
    ),
    (
        "exchange",
        include_str!("../../../proto/jembatan/v1/exchange.proto"),
    ),
    (
        "gateway",
        include_str!("../../../proto/jembatan/v1/gateway.proto"),
    ),
    (
        "sync_health",
        include_str!("../../../proto/jembatan/v1/sync_health.proto"),
    ),
];
const SCRIPT: &str = include_str!("../../../tests/foreign/unary_party.py");

/// A command with its title. Blank lines stand between them.
struct Command {
    title: &'static str,
    text: String,
}

/// Writes what the commands need, and prints them.
pub(super) fn invite(world: &World) -> anyhow::Result<()> {
    let links = world.hub.addresses.links.context("the hub has no port")?;
    write_client(&world.directory)?;
    line(format!(
        "\nIt stays. The party {SPARE:?} is yours: registered as unary, it calls the hub itself over mutual TLS at {links}.\n\
         National, province and city are robots: they verify, route, answer and close whatever {SPARE} files.\n\
         A complaint for {SPARE} waits in its inbox. Certificate and key: {}.",
        world.directory.join("pki").display()
    ))?;
    line("Ctrl-C ends it.\n")?;
    for Command { title, text } in commands(world, links)? {
        line(format!("# {title}\n{text}\n"))?;
    }
    line(format!("# logs: {}\n", world.hub.log().display()))
}

fn write_client(directory: &Path) -> anyhow::Result<()> {
    let proto = directory.join("proto/jembatan/v1");
    let stubs = directory.join("stubs");
    for made in [&proto, &stubs] {
        std::fs::create_dir_all(made).with_context(|| made.display().to_string())?;
    }
    for (name, text) in CONTRACT {
        std::fs::write(proto.join(format!("{name}.proto")), text)?;
    }
    std::fs::write(directory.join("unary_party.py"), SCRIPT)?;
    Ok(())
}

fn commands(world: &World, links: SocketAddr) -> anyhow::Result<Vec<Command>> {
    let here = world.directory.display().to_string();
    let program = std::env::current_exe()?.display().to_string();
    let quoted = |path: &str| format!("'{}'", path.replace('\'', r"'\''"));
    let at = |name: &str| quoted(&format!("{here}/{name}"));
    let (ca, certificate, key) = (
        at("pki/ca.pem"),
        at(&format!("pki/{SPARE}.crt")),
        at(&format!("pki/{SPARE}.key")),
    );
    let (proto, stubs, script) = (at("proto"), at("stubs"), at("unary_party.py"));
    let buf = |method: &str, body: &str| {
        format!(
            "buf curl --schema {proto} --protocol grpc --cacert {ca} --cert {certificate} --key {key} \\\n  -d '{body}' \\\n  https://{links}/jembatan.v1.GatewayService/{method}"
        )
    };
    Ok(vec![
        Command {
            title: "buf: file a complaint as the spare party (buf is in the npm package @bufbuild/buf)",
            text: buf(
                "Submit",
                r#"{"handover":{"complaint":{"reference":"A-1","title":"Lampu jalan padam","body":"Sudah tiga hari lampu jalan padam.","handling":"HANDLING_ROUTE"}},"waitForHubMs":5000}"#,
            ),
        },
        Command {
            title: "buf: what the robots said to it",
            text: buf("FetchInbox", r#"{"waitMs":2000}"#),
        },
        Command {
            title: "curl: the city's own door in plain HTTP",
            text: format!(
                "curl -sS 'http://{}/v1/complaints?wait=hub' -H 'content-type: application/json' \\\n  -d '{{\"reference\":\"B-1\",\"title\":\"Jalan rusak\",\"body\":\"Jalan berlubang di depan pasar.\",\"handling\":\"HANDLING_OWN\"}}'",
                world.city.addresses.http
            ),
        },
        Command {
            title: "python: a whole unary client (pip install grpcio grpcio-tools; PYTHON names another python3)",
            text: format!(
                "${{PYTHON:-python3}} -m grpc_tools.protoc -I{proto} --python_out={stubs} --grpc_python_out={stubs} \\\n  jembatan/v1/complaint.proto jembatan/v1/exchange.proto jembatan/v1/gateway.proto &&\n${{PYTHON:-python3}} {script} {stubs} {links} {ca} {certificate} {key} localhost"
            ),
        },
        Command {
            title: "status: how it stands",
            text: format!(
                "{} status --door {}",
                quoted(&program),
                world.hub.addresses.grpc
            ),
        },
    ])
}
