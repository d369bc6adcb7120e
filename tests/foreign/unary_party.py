"""A foreign client: a unary party in Python, with nothing but grpcio and stubs
generated from proto/. It submits, repeats, conflicts, fetches, acknowledges.

    python unary_party.py <stubs dir> <host:port> <roots.pem> <cert.pem> <key.pem> <server name>

Prints one JSON object with what it saw; the test that calls it asserts on it.
"""

import json
import sys

sys.path.insert(0, sys.argv[1])

import grpc  # noqa: E402
from jembatan.v1 import complaint_pb2 as c  # noqa: E402
from jembatan.v1 import gateway_pb2 as g  # noqa: E402
from jembatan.v1 import gateway_pb2_grpc as rpc  # noqa: E402


def read(path):
    with open(path, "rb") as file:
        return file.read()


def channel(address, roots, certificate, key, server_name):
    credentials = grpc.ssl_channel_credentials(read(roots), read(key), read(certificate))
    return grpc.secure_channel(
        address,
        credentials,
        options=[("grpc.ssl_target_name_override", server_name)],
    )


def handover(reference, body):
    return g.SubmitRequest(
        handover=g.Handover(
            complaint=g.NewComplaint(
                reference=reference,
                title="Lampu jalan padam di depan pasar",
                body=body,
                category="street-light",
                region="33.74",
                channel="web",
                handling=c.HANDLING_ROUTE,
                reporter=c.Reporter(name="Pelapor Uji 900"),
            )
        )
    )


def refusal(call, *arguments):
    """The status that a call must end with; a call that succeeds is a failure."""
    try:
        call(*arguments, timeout=20)
    except grpc.RpcError as error:
        return {"code": error.code().name, "message": error.details()}
    raise SystemExit("the call should have been refused")


def main():
    address, roots, certificate, key, server_name = sys.argv[2:7]
    seen = {}
    with channel(address, roots, certificate, key, server_name) as link:
        gateway = rpc.GatewayServiceStub(link)
        first = gateway.Submit(handover("PY-1", "Sudah satu minggu padam."), timeout=20).receipt
        seen["first"] = {
            "event_id": first.event_id,
            "complaint_id": first.complaint_id,
            "progress": g.Progress.Name(first.progress),
            "repeated": first.repeated_handover,
            "tracking_id": first.decision.tracking_id,
        }
        again = gateway.Submit(handover("PY-1", "Sudah satu minggu padam."), timeout=20).receipt
        seen["again"] = {
            "event_id": again.event_id,
            "repeated": again.repeated_handover,
            "tracking_id": again.decision.tracking_id,
        }
        seen["conflict"] = refusal(gateway.Submit, handover("PY-1", "Isi yang lain sama sekali."))
        seen["invalid"] = refusal(
            gateway.Submit, g.SubmitRequest(handover=g.Handover(complaint=g.NewComplaint()))
        )

        stream = gateway.SubmitStream(
            iter(
                g.SubmitStreamRequest(handover=handover(f"PY-S{n}", f"Laporan ke-{n}.").handover)
                for n in range(50)
            ),
            timeout=30,
        )
        answers = list(stream)
        seen["streamed"] = len(answers)
        seen["streamed_in_order"] = [a.ordinal for a in answers] == list(range(50))
        seen["streamed_errors"] = sum(1 for a in answers if a.HasField("error"))

        items, after = [], ""
        while True:
            page = gateway.FetchInbox(g.FetchInboxRequest(after=after, limit=20), timeout=20)
            if not page.items:
                break
            items.extend(page.items)
            after = page.items[-1].cursor
        decisions = [i.decision for i in items if i.HasField("decision")]
        seen["decisions"] = len(decisions)
        seen["accepted"] = sum(1 for d in decisions if d.outcome == 1)
        gateway.AcknowledgeInbox(g.AcknowledgeInboxRequest(through=after), timeout=20)
        rest = gateway.FetchInbox(g.FetchInboxRequest(), timeout=20)
        seen["left_after_acknowledging"] = len(rest.items)

        shown = gateway.GetComplaint(
            g.GetComplaintRequest(complaint=g.ComplaintName(reference="PY-1")), timeout=20
        ).complaint
        seen["shown"] = {
            "tracking_id": shown.tracking_id,
            "revision": shown.revision,
            "title": shown.history[0].event.content.title,
            "reporter": shown.history[0].event.reporter.name,
        }
    print(json.dumps(seen, sort_keys=True))


main()
