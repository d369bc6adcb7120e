"""Recomputes worked.json, and every chain in the transcripts, with nothing but
Python's own SHA-256.

    python3 tests/vectors/verify.py
"""

import base64
import hashlib
import json
import pathlib
import uuid

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
HERE = pathlib.Path(__file__).parent


def sha(data):
    return hashlib.sha256(data).digest()


def len16(text):
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def len32(text):
    data = text.encode()
    return len(data).to_bytes(4, "big") + data


def root_input(party, direction, epoch):
    return b"jembatan/1 journal\0" + len16(party) + bytes([direction]) + epoch.to_bytes(8, "big")


def digest_input(direction, header, event):
    if direction == 1:
        return b"\1" + event
    carried = sha(b"\1" + event) if event else bytes(32)
    return b"\2" + sha(header) + carried


def id_input(label, party, system, name):
    return label.encode() + b"\0" + len16(party) + len16(system) + len16(name)


def uuid_v8(digest):
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | (8 << 76)  # version 8
    number = number & ~(0x3 << 62) | (2 << 62)  # variant of RFC 9562
    return uuid.UUID(int=number)


def tracking_id(digest):
    bits = int.from_bytes(digest[:8], "big") >> 4
    values = [bits >> (55 - 5 * place) & 31 for place in range(12)]
    total = 0
    for place, value in enumerate(reversed(values)):  # Luhn mod 32
        weighted = value * (2 if place % 2 == 0 else 1)
        total += weighted // 32 + weighted % 32
    return "".join(CROCKFORD[value] for value in values + [-total % 32])


def check_chain(chain):
    direction = chain["direction"]
    first, *steps = chain["steps"]
    given = root_input(chain["party"], direction, chain["epoch"])
    assert given.hex() == first["chain_input_hex"], first
    assert sha(given).hex() == first["chain"], first
    current = sha(given)
    for step in steps:
        header = bytes.fromhex(step.get("header_hex", ""))
        if direction == 2:
            assert sha(header).hex() == step["header_sha256"], step
        given = digest_input(direction, header, bytes.fromhex(step["event_hex"]))
        assert given.hex() == step["digest_input_hex"], step
        assert sha(given).hex() == step["digest"], step
        given = current + sha(given)
        assert given.hex() == step["chain_input_hex"], step
        current = sha(given)
        assert current.hex() == step["chain"], step


def check_ids(ids):
    name = (ids["party"], ids["system"], ids["name"])
    for kind, label in (("event", "jembatan/1 event"), ("complaint", "jembatan/1 complaint")):
        given = id_input(label, *name)
        assert given.hex() == ids[f"{kind}_input_hex"], ids
        assert sha(given).hex() == ids[f"{kind}_sha256"], ids
        assert str(uuid_v8(sha(given))) == ids[f"{kind}_id"], ids
    given = b"jembatan/1 tracking\0" + uuid.UUID(ids["complaint_id"]).bytes + b"\0"
    assert given.hex() == ids["tracking_input_hex"], ids
    assert sha(given).hex() == ids["tracking_sha256"], ids
    assert tracking_id(sha(given)) == ids["tracking_id"], ids


def check_handover(handover):
    given = b"jembatan/1 handover\0"
    for name, value in handover["fields"]:
        given += len16(name) + len32(value)
    assert given.hex() == handover["input_hex"], handover
    assert sha(given).hex() == handover["digest"], handover


def check_part(part, events):
    data = bytes.fromhex(part["salt_hex"] + part["message_hex"])
    assert len(bytes.fromhex(part["salt_hex"])) == 16, part
    assert data.hex() == part["bytes_hex"] and len(data) == part["size_bytes"], part
    assert sha(data).hex() == part["sha256"], part
    assert part["sha256"] in events[part["of_submission"]], "the event names it"


def check_transcript(transcript):
    """Every frame of entries continues what the journal held, every
    acknowledgement names the chain of what was sent, and both ends agree."""
    party = transcript["party"]
    known = {}  # (journal, epoch, position) -> chain
    numbers = {"JOURNAL_SUBMISSIONS": 1, "JOURNAL_DELIVERIES": 2}
    for end in (transcript["before"]["node"], transcript["before"]["hub"]):
        known[1, end["epoch"], end["submissions"]["position"]] = end["submissions"]["chain"]
    for step in transcript["steps"]:
        if "message" not in step:
            continue
        (kind, frame), = step["json"]["frame"].items()
        if kind == "open":
            for journal, place in ((1, frame["acknowledged"]), (2, frame["received"])):
                if "position" not in place:
                    epoch = int(frame.get("epoch", 0))
                    chain = sha(root_input(party, journal, epoch))
                    assert base64.b64decode(place["chain"]) == chain, step
        elif kind == "entries":
            journal, epoch = numbers[frame["journal"]], int(frame["epoch"])
            position = int(frame["firstPosition"]) - 1
            chain = base64.b64decode(frame["previousChain"])
            known_chain = known.get((journal, epoch, position))
            if known_chain and known_chain != chain.hex():
                # Only the frame that was sent for it does not continue.
                assert "wrong-chain" in transcript["name"], step
                continue
            for entry in frame["entries"]:
                header = base64.b64decode(entry.get("header", ""))
                event = base64.b64decode(entry.get("event", ""))
                chain = sha(chain + sha(digest_input(journal, header, event)))
                position += 1
                known[journal, epoch, position] = chain.hex()
        elif kind == "acknowledgement":
            place = (numbers[frame["journal"]], int(frame["epoch"]), int(frame["position"]))
            assert base64.b64decode(frame["chain"]).hex() == known[place], step
    if any("stops" in step for step in transcript["steps"]):
        assert transcript["before"] == transcript["after"], "a link that stops moves nothing"
        return
    for end in (transcript["after"]["node"], transcript["after"]["hub"]):
        place = end["submissions"]
        found = known.get((1, end["epoch"], place["position"]))
        assert found in (None, place["chain"]), transcript["after"]


def main():
    worked = json.loads((HERE / "worked.json").read_text())
    for chain in worked["chains"]:
        check_chain(chain)
    for ids in worked["ids"]:
        check_ids(ids)
    for handover in worked["handovers"]:
        check_handover(handover)
    submissions = worked["chains"][0]["steps"]
    events = {step["position"]: step.get("event_hex", "") for step in submissions}
    for part in worked["parts"]:
        check_part(part, events)
    transcripts = sorted((HERE / "transcripts").glob("*.json"))
    for path in transcripts:
        check_transcript(json.loads(path.read_text()) | {"name": path.stem})
    places = sum(len(chain["steps"]) for chain in worked["chains"])
    print(
        f"all agree: {places} places, {len(worked['ids'])} ids, "
        f"{len(worked['handovers'])} hand-overs, {len(worked['parts'])} parts, "
        f"{len(transcripts)} transcripts"
    )


main()
