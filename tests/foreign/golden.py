"""Reads golden messages with Python's own protobuf, in both directions.

    python3 golden.py <stubs> <messages.json> ...

<stubs> holds what grpc_tools.protoc made of proto/jembatan/v1.
"""

import importlib
import json
import pathlib
import sys

stubs = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(stubs))

from google.protobuf import json_format, message_factory, descriptor_pool

for module in sorted(stubs.glob("jembatan/v1/*_pb2.py")):
    importlib.import_module(f"jembatan.v1.{module.stem}")

pool = descriptor_pool.Default()
agreed = 0
for name in sys.argv[2:]:
    found = json.loads(pathlib.Path(name).read_text())
    # A list of messages, or a transcript: what is no frame has no bytes.
    for golden in found if isinstance(found, list) else found["steps"]:
        if "message" not in golden:
            continue
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(golden["message"]))
        data = bytes.fromhex(golden["hex"])
        read = json_format.MessageToDict(kind.FromString(data))
        assert read == golden["json"], (golden["message"], read, golden["json"])
        written = json_format.ParseDict(golden["json"], kind()).SerializeToString()
        assert written == data, (golden["message"], written.hex(), golden["hex"])
        agreed += 1
print(f"{agreed} goldens agree")
