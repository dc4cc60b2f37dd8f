"""What lies in a folder that isn't a checkpoint of a known format, and what to type next."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from convkit.formats.contents import contents_of

#: what lies there, as the rest of a sentence, and the way on
Said = tuple[str, str]
#: says what the format of a checkpoint is; None if it isn't one
Recognise = Callable[[Path], str | None]

#: names that a message lists; folders that are looked into
_SHOWN, _LOOKED_INTO = 4, 64

_SHARD = re.compile(r"(?P<stem>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(?P<suffix>safetensors|bin|pt)")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".mdl", ".hdf5")


def surroundings(folder: Path, recognise: Recognise) -> Said:
    """What lies in a folder, and the way on.

    Args:
        folder: which no format recognises.
        recognise: asked of files and folders in it.
    """
    names = sorted(entry.name for entry in folder.iterdir())
    for look in (_broken_links, _hub_cache, _shards, _distributed, _deepspeed, _meta, _adapter):
        if (said := look(folder, names)) is not None:
            return said
    return (
        _checkpoints_below(folder, names, recognise)
        or _files(folder, names)
        or (
            f"holds no checkpoint of a known format: {_listed(names)}",
            "name the checkpoint itself, or its format: --source-format",
        )
    )


def broken_link(path: Path) -> Said | None:
    """What to say of a link that leads nowhere."""
    if not path.is_symlink() or path.exists():
        return None
    return (
        f"is a link to {path.readlink()}, which isn't there",
        "fetch the file again, or copy it with what its links lead to: cp -RL",
    )


def _broken_links(folder: Path, names: list[str]) -> Said | None:
    ends = (*_WEIGHTS, ".json", "")  # folders have none
    broken = [name for name in names if broken_link(folder / name) and Path(name).suffix in ends]
    if not broken:
        return None
    said = broken_link(folder / broken[0])
    assert said
    return f"holds links that lead nowhere: {_listed(broken)}; {broken[0]} {said[0]}", said[1]


def _hub_cache(folder: Path, names: list[str]) -> Said | None:
    """The Hub's cache: of one repository, or of several."""
    if {"snapshots", "refs"} <= set(names) or (folder.name.startswith("models--") and "snapshots" in names):
        found = [snapshot for one in _revisions(folder) if (snapshot := folder / "snapshots" / one).is_dir()]
        if found:
            return "is the Hub's cache of one repository", f"name a snapshot in it: {found[0]}"
        return "is the Hub's cache of one repository, without a snapshot", "download it again"
    inner = folder / "hub" if "hub" in names else folder
    models = sorted(one.name for one in inner.glob("models--*"))
    if models:
        return f"is the Hub's cache: {_listed(models)}", f"name a snapshot in it: {inner / models[0]}/snapshots/..."
    return None


def _revisions(folder: Path) -> Iterator[str]:
    """The revisions of a repository in the Hub's cache, that of its main branch first."""
    main = folder / "refs" / "main"
    if main.is_file():
        yield main.read_text(errors="replace").strip()
    snapshots = folder / "snapshots"
    if snapshots.is_dir():
        yield from sorted(one.name for one in snapshots.iterdir())


def _shards(folder: Path, names: list[str]) -> Said | None:
    """Shards without their index."""
    found = [match for name in names if (match := _SHARD.fullmatch(name))]
    if not found:
        return None
    first = found[0]
    alike = [match for match in found if match["stem"] == first["stem"] and match["count"] == first["count"]]
    index = f"{first['stem']}.{first['suffix']}.index.json"
    there, count = {int(match["number"]) for match in alike}, int(first["count"])
    lacking = [number for number in range(1, count + 1) if number not in there]
    if lacking:
        also = f", and {index}" if index not in names else ""
        return (
            f"holds {len(there)} of {count} shards: {first['stem']}-{lacking[0]:05d}-of-{count:05d}.{first['suffix']}"
            f"{f' and {len(lacking) - 1} more are' if lacking[1:] else ' is'} missing{also}",
            "fetch every file of the checkpoint",
        )
    known = index if first["suffix"] in ("safetensors", "bin") else "its index"
    return f"holds {count} shards ({alike[0][0]} ...), but not {known}", f"fetch {known} too: it says what lies where"


def _distributed(folder: Path, names: list[str]) -> Said | None:
    """What torch.distributed.checkpoint writes."""
    parts = [name for name in names if name.endswith(".distcp")]
    if not parts and ".metadata" not in names:
        return None
    return (
        f"is a checkpoint of torch.distributed.checkpoint, in {len(parts)} files .distcp",
        f"join it first: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} model.pt",
    )


def _deepspeed(folder: Path, names: list[str]) -> Said | None:
    shards = [name for name in names if re.fullmatch(r"(?:bf16_)?zero_pp_rank_.*|mp_rank_\d+.*states\.pt", name)]
    if not shards and not ("latest" in names and ("zero_to_fp32.py" in names or _numbered(names, "global_step"))):
        return None
    script = folder if "zero_to_fp32.py" in names or not shards else folder.parent
    return (
        f"is a checkpoint of DeepSpeed, in parts: {_listed(shards or _numbered(names, 'global_step'))}",
        f"join them first: python {script / 'zero_to_fp32.py'} {script} model.pt",
    )


def _meta(_folder: Path, names: list[str]) -> Said | None:
    """Meta's own release of Llama, and Mistral's."""
    parts = [name for name in names if re.fullmatch(r"consolidated(?:\.\d+)?\.(?:pth|safetensors)", name)]
    if not parts:
        return None
    who = "Meta's" if parts[0].endswith(".pth") else "Mistral's"
    return (
        f"holds {who} own layout ({_listed(parts)}), which no mapping of convkit's reads",
        "convert it first by the script of the family in transformers (convert_..._weights_to_hf.py), "
        "or fetch the repository that is made for transformers",
    )


def _adapter(_folder: Path, names: list[str]) -> Said | None:
    if "adapter_config.json" not in names:
        return None
    return (
        f"is the folder of an adapter, without its weights: {_listed(names)}",
        "merge the adapter first (in peft: merge_and_unload(), then save_pretrained)",
    )


def _checkpoints_below(folder: Path, names: list[str], recognise: Recognise) -> Said | None:
    """Checkpoints in the folder's folders, of one training for instance: the last one is named."""
    found = list(_recognised([folder / name for name in names], recognise))
    if not found:
        inner = [folder / name for name in names if (folder / name).is_dir()]
        found = list(_recognised([one for each in inner[:_LOOKED_INTO] for one in sorted(each.iterdir())], recognise))
    if not found:
        return None
    found.sort(key=lambda one: _natural(str(one[0])))
    last, format = found[-1]
    shown = _listed([str(path.relative_to(folder)) for path, _ in found])
    count = f"{len(found)} checkpoints" if found[1:] else "a checkpoint"
    if found[1:] and all((path / "config.json").is_file() and path.parent == folder for path, _ in found):
        remedy = f"name one: {last} ({format}); if they are parts of one model: --source-format folders"
        return f"isn't a checkpoint itself, but holds {count} in its folders: {shown}", remedy
    return f"isn't a checkpoint itself, but holds {count} in its folders: {shown}", f"name one: {last} ({format})"


def _recognised(paths: list[Path], recognise: Recognise) -> Iterator[tuple[Path, str]]:
    for path in paths[: _LOOKED_INTO * 4]:
        if path.is_dir() and (format := recognise(path)):
            yield path, format


def _files(folder: Path, names: list[str]) -> Said | None:
    """Weights under names that a folder's checkpoint hasn't got, and files that aren't weights of a known format."""
    files = [name for name in names if (folder / name).is_file() and not name.endswith((".json", ".txt", ".md", ".py"))]
    what = {name: found for name in files if (found := contents_of(folder / name)) is not None}
    weights = [name for name, found in what.items() if found.format and found.format != "orbax-v0"]
    if weights:
        return (
            f"holds no file of a name that is known in a folder; weights lie in {_listed(weights)}",
            f"name the file itself: {folder / weights[0]}",
        )
    named = [name for name in what if name.endswith((*_WEIGHTS, ".msgpack", ".h5", ".gguf", ".npz"))] or list(what)
    if named:
        first = what[named[0]]
        others = f" (also there: {_listed(named[1:])})" if named[1:] else ""
        return f"holds {named[0]}, which {first.what}{others}", first.remedy
    if any(name.endswith((".ckpt.index", ".data-00000-of-00001")) or name == "saved_model.pb" for name in names):
        return "holds a checkpoint of TensorFlow", "in transformers: from_pretrained(..., from_tf=True)"
    if "config.json" in names or "params.yaml" in names:
        return f"holds a config and no weights: {_listed(names)}", "fetch the files of the weights too"
    return None


def _numbered(names: list[str], stem: str) -> list[str]:
    return [name for name in names if re.fullmatch(rf"{stem}\d+", name)]


def _natural(name: str) -> list[tuple[int, str]]:
    """Numbers in a name count as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
