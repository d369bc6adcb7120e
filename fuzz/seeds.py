"""Writes what the fuzz targets begin with into the directory that is named: the
golden bytes and JSON of every message and event, the shipped settings, a few
names, and what other programs make (tests/vectors/foreign). The same seeds as
those of tests/it/hostile_bytes.rs."""

import json
import pathlib
import sys

root = pathlib.Path(__file__).resolve().parent.parent
out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)

for path in (
    "deploy/hub.toml",
    "deploy/adapter.toml",
    "deploy/directory.toml",
    "examples/legacy-status-map.csv",
):
    (out / pathlib.Path(path).name).write_bytes((root / path).read_bytes())
for number, name in enumerate((
    "7Q2KX-9M4TR-3AB",
    "0189f0c2-7b1e-8c3a-9d54-2f6f3a1b2c3d",
    "18446744073709551615-18446744073709551615.4294967295",
    "1-7.3",
)):
    (out / f"name-{number}").write_text(name)
for path in sorted((root / "tests/vectors/foreign").iterdir()):
    (out / path.name).write_bytes(path.read_bytes())
for vectors in ("messages", "events"):
    goldens = json.loads((root / f"tests/vectors/{vectors}.json").read_text())
    for number, golden in enumerate(goldens):
        (out / f"{vectors}-{number}.bin").write_bytes(bytes.fromhex(golden["hex"]))
        (out / f"{vectors}-{number}.json").write_text(json.dumps(golden["json"]))
