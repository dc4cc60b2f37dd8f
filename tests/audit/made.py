"""Signed outputs and a signed campaign, made once a run, and how to take a copy and tamper with it."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from once import once

from convkit.audit.dsse import Line, line_of, read_lines, write_bundle
from convkit.audit.keys import KINDS, generate, read_private, write_pair
from convkit.cli import main

#: an output that is one file, and one that is a folder
OUTPUTS = {"m.mdl": "cerebras-h5", "folder": "safetensors"}
BUNDLE = "m.mdl.intoto.jsonl"


def make_keys(folder: Path) -> None:
    for name in (*KINDS, "other"):
        write_pair(generate(name if name in KINDS else "p256"), folder / f"{name}.pem", None)


def keys() -> Path:
    """A key of every kind, and one that signs nothing."""
    return once("audit-keys", make_keys)


def prove(target: Path, format: str, seed: int) -> None:
    source = f"generated://llama?layers=1&seed={seed}"
    assert main(["prove", source, str(target), "--to", "cerebras/llama", "--format", format, "-q"]) == 0


def sign(path: Path, key: str = "p256", *more: str) -> int:
    return main(["audit", "sign", str(path), "--key", str(keys() / f"{key}.pem"), "-q", *more])


def make_outputs(folder: Path) -> None:
    for seed, (name, format) in enumerate(OUTPUTS.items(), start=1):
        prove(folder / name, format, seed)
        assert sign(folder / name, "p256", "--responsible", "A. Reviewer") == 0


def outputs() -> Path:
    """Outputs that were proved and signed by the key p256."""
    return once("audit-outputs", make_outputs)


def make_campaign(folder: Path) -> None:
    rows = [f"{name}\tgenerated://llama\tcerebras/llama" for name in ("one", "two")]
    (folder / "checkpoints.tsv").write_text("\n".join(["id\tsource\tto", *rows]) + "\n")
    (folder / "config.json").write_text('{"threads": 1}\n')
    for seed, name in enumerate(("one", "two"), start=3):
        row = folder / name
        target = row / "target.mdl"
        prove(target, "cerebras-h5", seed)
        (row / "logs").mkdir()
        shutil.copy2(row / "target.mdl.convkit.json", row / "convert.json")
        shutil.copy2(row / "target.mdl.source.fetch.json", row / "fetch.json")
        for check in ("roundtrip", "equivalence"):
            (row / f"target.mdl.{check}.json").rename(row / f"{check}.json")
        (row / "target.mdl.prove.json").unlink()
    assert sign(folder, "p256", "--responsible", "A. Reviewer") == 0


def campaign() -> Path:
    """The results of a campaign of two rows, signed by the key p256."""
    return once("audit-campaign", make_campaign)


def verified(path: Path, capsys: Any, *more: str, key: str = "p256") -> tuple[int, dict[str, Any]]:
    """The exit code of checking a path by one key, and the document."""
    capsys.readouterr()
    code = main(["audit", "verify", str(path), "--public-key", str(keys() / f"{key}.pub.pem"), "--json", "-q", *more])
    out = capsys.readouterr().out
    return code, json.loads(out)


def found(document: dict[str, Any]) -> set[tuple[str, str, str]]:
    """The problems of a check: row, kind and file, without the line's number."""
    return {(one["row"], one["kind"], one["file"].partition(" line ")[0]) for one in document["problems"]}


def edit_lines(path: Path, edit: Callable[[list[str]], list[str]]) -> None:
    """Change the lines of a bundle."""
    path.write_text("".join(f"{line}\n" for line in edit(path.read_text().splitlines())))


def edit_envelope(path: Path, number: int, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change the envelope of a line, counted from 0."""

    def change(lines: list[str]) -> list[str]:
        envelope = json.loads(lines[number])
        edit(envelope)
        return [*lines[:number], json.dumps(envelope), *lines[number + 1 :]]

    edit_lines(path, change)


def edit_payload(path: Path, number: int, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change what a line says, and leave its signatures."""

    def change(envelope: dict[str, Any]) -> None:
        statement = json.loads(base64.b64decode(envelope["payload"]))
        edit(statement)
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()

    edit_envelope(path, number, change)


def sign_anew(path: Path, key: str, edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Change what a bundle says, and sign every line anew, as who has the key could."""
    statements = [line.statement for line in read_lines(path) if isinstance(line, Line)]
    private = read_private(keys() / f"{key}.pem")
    write_bundle(path, [line_of(one).signed(private) for one in edit(statements)])
