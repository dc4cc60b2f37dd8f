"""Find what wraps the keys of a checkpoint: a prefix, or wrapper modules, without which they are those of a layout.

Names are those of PyTorch's wrapper modules (2.9: ``torch/_dynamo/eval_frame.py``,
``torch/distributed/fsdp/_common_utils.py``, ``torch/distributed/algorithms/_checkpoint/checkpoint_wrapper.py``) and of
Lightning's Fabric. A prefix may be any: of ``DataParallel`` (``module.``), of a module that holds the model
(``net.``), of a dict in which a training's state dict lies (``model_state_dict.``).
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from convkit.checkpoint import Leaf
from convkit.checkpoint.wrapping import PLAIN, Wrapping
from convkit.errors import PlanError
from convkit.mapping import Mapping as LayoutMapping
from convkit.mapping import Verbatim
from convkit.mapping.keys import KeyTemplate, Placeholder
from convkit.plan.document import Plan
from convkit.plan.drawn import drawn_in_words
from convkit.plan.match import MissingError

#: parts of keys that only name a wrapper
_WRAPPERS = (
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_fpw_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
    "_original_module",
)
#: a part of keys that names a wrapper where the rest shows it: of DataParallel and DistributedDataParallel
_PARALLEL = "module"
#: all weights of a module of FSDP in one tensor
_FLAT = re.compile(r"(?:^|\.)_?flat_param(?:_\d+)?$")
#: fewest leaves of a layout's forms that show a wrapper
_FEWEST = 2
#: names of leaves that an error shows
_SHOWN = 3


def unwrapped(
    leaves: Mapping[str, Leaf], mapping: LayoutMapping, drop: Iterable[str]
) -> tuple[Wrapping, tuple[str, ...]]:
    """What wraps the keys of a checkpoint, and the names and patterns of leaves to drop, by their plain keys.

    A pattern may fit stored keys or plain ones. Leaves that it drops show no wrapper.

    Raises:
        PlanError: see :func:`wrapping_of`.
    """
    stored = {one: [key for key in leaves if key == one] or fnmatch.filter(leaves, one) for one in drop}
    left_out = {key for keys in stored.values() for key in keys}
    wrapping = wrapping_of({key: leaf for key, leaf in leaves.items() if key not in left_out}, mapping)
    names = (name for one, keys in stored.items() for name in (map(wrapping.plain, keys) if keys else [one]))
    return wrapping, tuple(dict.fromkeys(names)) if wrapping else tuple(drop)


def fitting(keys: Iterable[str], mapping: LayoutMapping) -> int:
    """How many plain keys have the forms of the mapping's left layout; all, if it carries over any other too."""
    if any(isinstance(rule, Verbatim) for rule in mapping.rules):
        return sum(1 for _ in keys)
    form = _form(mapping)
    return sum(form.fullmatch(key) is not None for key in keys)


def none_of(error: PlanError, leaves: Mapping[str, Leaf], mapping: LayoutMapping) -> PlanError:
    """The error of a missing leaf; or what the leaves are called, if not one of them is of the layout."""
    names = [key for key, leaf in leaves.items() if leaf.spec is not None]
    if not isinstance(error, MissingError) or not names or fitting(names, mapping):
        return error
    there = f"{', '.join(names[:_SHOWN])}{', ...' if names[_SHOWN:] else ''}"
    return PlanError(
        f"none of its {len(names)} tensors is called as those of {mapping.left.name}, such as {error.key}; "
        f"they are called {there}",
        remedy="name the right layout (--from) or the config of this checkpoint (--config)",
    )


def taken_off(plan: Plan, wrapping: Wrapping) -> Plan:
    """The plan, which says what its source's keys are freed of."""
    if not wrapping:
        return plan
    warnings = []
    if wrapping.prefix or wrapping.within:
        warnings.append(f"the keys are read without {wrapping}, which wraps the model; the way back writes plain keys")
    if wrapping.drawn:
        warnings.append(drawn_in_words(wrapping.drawn))
    return replace(plan, wrapping=wrapping, warnings=[*warnings, *plan.warnings])


def wrapping_of(leaves: Mapping[str, Leaf], mapping: LayoutMapping) -> Wrapping:
    """What wraps the keys of a checkpoint of the mapping's left layout; nothing if they are plain, or of another one.

    Raises:
        PlanError: FSDP's flat parameters or DeepSpeed's placeholders are there instead of weights, or the model is
            there twice.
    """
    if any(isinstance(rule, Verbatim) for rule in mapping.rules):
        return PLAIN  # any key is one of its own
    keys = [key for key, leaf in leaves.items() if leaf.spec is not None]
    for key in keys:
        if _FLAT.search(key):
            remedy = "save the full state dict: StateDictType.FULL_STATE_DICT"
            raise PlanError("is a flat parameter of FSDP, which holds many weights in one", key=key, remedy=remedy)
    parts = {part for key in keys for part in key.split(".")}
    within = tuple(name for name in _WRAPPERS if name in parts)
    form = _form(mapping)
    found, fitting = _prefixed(keys, within, form)
    if _PARALLEL in parts:
        without, more = _prefixed(keys, (*within, _PARALLEL), form)
        found = without if more > fitting else found
    if found.prefix:
        _check_filled(leaves, found)
    return found


def _prefixed(keys: Iterable[str], within: tuple[str, ...], form: re.Pattern[str]) -> tuple[Wrapping, int]:
    """The wrapping with these wrapper modules, and how many keys have the forms of the layout without it.

    Raises:
        PlanError: two prefixes make the keys those of the layout.
    """
    bare = Wrapping("", within)
    plain = [bare.plain(key) for key in keys]
    if fitting := sum(form.fullmatch(key) is not None for key in plain):
        return bare, fitting
    votes = Counter(key[:cut] for key in plain for cut in _cuts(key) if form.fullmatch(key, cut))
    likely = {prefix: votes[prefix] for prefix in votes if _convincing(prefix, votes[prefix], plain)}
    if not likely:
        return bare, 0
    best = min(likely, key=lambda prefix: (-likely[prefix], len(prefix)))
    for other, count in likely.items():
        if not other.startswith(best) and not best.startswith(other) and 2 * count >= likely[best]:
            raise PlanError(
                f"the model is there twice: {likely[best]} leaves lie below it, and {count} below {other}",
                key=best.removesuffix("."),
                remedy=f"leave one out: --drop '{other}*', or --drop '{best}*'",
            )
    return Wrapping(best, within), likely[best]


def _cuts(key: str) -> Iterator[int]:
    """Where a part of a key begins, after the first one."""
    return (found.end() for found in re.finditer(r"\.", key))


def _convincing(prefix: str, votes: int, keys: Iterable[str]) -> bool:
    """Whether most leaves below a prefix have the forms of the layout."""
    return votes >= _FEWEST and 2 * votes >= sum(key.startswith(prefix) for key in keys)


def _check_filled(leaves: Mapping[str, Leaf], wrapping: Wrapping) -> None:
    """Refuse the placeholders of weights that DeepSpeed's ZeRO-3 keeps elsewhere.

    Raises:
        PlanError: most weights have no elements.
    """
    mine = [leaf for key, leaf in leaves.items() if leaf.spec and key.startswith(wrapping.prefix)]
    empty = [leaf.key for leaf in mine if leaf.spec and leaf.spec.size == 0]
    if 2 * len(empty) > len(mine):
        raise PlanError(
            f"has no elements, nor have {len(empty) - 1} others: DeepSpeed's ZeRO-3 keeps them in shards",
            key=empty[0],
            remedy="join them: python zero_to_fp32.py . joined, beside the shards; then convert that",
        )


def _form(mapping: LayoutMapping) -> re.Pattern[str]:
    """What the keys of the mapping's left layout look like, in whatever variant; wild forms don't count."""
    choices = {variant.name: variant.choices for variant in mapping.variants if variant.side == "left"}
    templates = [KeyTemplate.parse(text) for text in mapping.forms("left")]
    named = [one for one in templates if not any(part.wild for part in one.placeholders.values())]
    forms = ("".join(_part(part, choices) for part in template.parts) for template in named)
    return re.compile("|".join(forms) or r"(?!)")


def _part(part: str | Placeholder, choices: Mapping[str, tuple[str, ...]]) -> str:
    if isinstance(part, str):
        return re.escape(part)
    known = choices.get(part.name, ()) if part.config else part.choices
    if known:
        return f"(?:{'|'.join(map(re.escape, known))})"
    return r"[^.]*\.?" if part.config else r"\d+"  # a name may stand for a part with its dot
