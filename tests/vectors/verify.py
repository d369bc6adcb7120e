"""Recomputes worked.json with nothing but Python's own SHA-256.

    python3 tests/vectors/verify.py
"""

import hashlib
import json
import pathlib
import uuid

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def len16(text):
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def root(party, direction, epoch):
    return sha(
        b"jembatan/1 journal", b"\0", len16(party), bytes([direction]), epoch.to_bytes(8, "big")
    )


def digest(direction, header, event):
    if direction == 1:
        return sha(b"\1", event)
    carried = sha(b"\1", event) if event else bytes(32)
    return sha(b"\2", sha(header), carried)


def derived(label, party, system, name):
    first = sha(label.encode(), b"\0", len16(party), len16(system), len16(name))[:16]
    number = int.from_bytes(first, "big")
    number = number & ~(0xF << 76) | (8 << 76)  # version 8
    number = number & ~(0x3 << 62) | (2 << 62)  # variant of RFC 9562
    return uuid.UUID(int=number)


def tracking_id(complaint):
    bits = int.from_bytes(sha(b"jembatan/1 tracking", b"\0", complaint.bytes, b"\0")[:8], "big") >> 4
    values = [bits >> (55 - 5 * place) & 31 for place in range(12)]
    total = 0
    for place, value in enumerate(reversed(values)):  # Luhn mod 32
        weighted = value * (2 if place % 2 == 0 else 1)
        total += weighted // 32 + weighted % 32
    return "".join(CROCKFORD[value] for value in values + [-total % 32])


def main():
    path = pathlib.Path(__file__).with_name("worked.json")
    worked = json.loads(path.read_text())
    places = 0
    for chain in worked["chains"]:
        current = root(chain["party"], chain["direction"], chain["epoch"])
        for step in chain["steps"]:
            if step["position"] > 0:
                header, event = bytes.fromhex(step["header_hex"]), bytes.fromhex(step["event_hex"])
                own = digest(chain["direction"], header, event)
                assert own.hex() == step["digest"], step
                current = sha(current, own)
            assert current.hex() == step["chain"], step
            places += 1
    for ids in worked["ids"]:
        name = (ids["party"], ids["system"], ids["name"])
        assert str(derived("jembatan/1 event", *name)) == ids["event_id"], ids
        complaint = derived("jembatan/1 complaint", *name)
        assert str(complaint) == ids["complaint_id"], ids
        assert tracking_id(complaint) == ids["tracking_id"], ids
    part = worked["part"]
    assert sha(bytes.fromhex(part["bytes_hex"])).hex() == part["sha256"]
    print(f"all agree: {places} places, {len(worked['ids'])} ids")


main()
