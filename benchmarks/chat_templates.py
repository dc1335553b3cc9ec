"""Judge what the package does with chat templates that people use.

    python benchmarks/chat_templates.py [--folder FOLDER] [--only WORD] [--details]

Takes every chat template that installed packages ship, or all `*.jinja` of a folder, makes tokenizers for it, plays
conversations and prints a table, a row a template. The truth comes from the template's own rendering by transformers
(`template_truth.py`). Exits with 1 if a template is treated wrongly. A row "could grow" where the template would have
left the replies as they were, and the package renders them anew all the same: right, but slower.
"""

from __future__ import annotations

import argparse
import re
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from template_checks import judge
from template_play import Verdict
from template_tokenizers import FLAGS, USUAL, Flags, control_tokens, make_tokenizer
from template_truth import FIRST, NEXT, PAIRS, REPLY, Renderer, Truth, Unrenderable, assistant, examine, user

from agentgym_rft.agents.card import parse_card
from agentgym_rft.agents.policies.loading import load_tokenizer
from agentgym_rft.config.load import find_yaml, read_yaml

CARDS = ("plain", "think", "window")


@dataclass
class Result:
    """Everything about one template."""

    name: str
    truth: Truth | None
    turn_end: str
    verdicts: dict[tuple[str, str], Verdict] = field(default_factory=dict)

    def failures(self) -> dict[str, list[str]]:
        """Return the details of the failures by kind."""
        found: dict[str, list[str]] = {}
        for (flags, card), verdict in self.verdicts.items():
            for kind, detail in verdict.failures.items():
                found.setdefault(kind, []).append(f"{card}, {flags}: {detail}")
        return found


def installed_templates() -> list[Path]:
    """Return the chat templates in the installed packages."""
    found = Path(sysconfig.get_paths()["purelib"]).rglob("*.jinja*")
    return sorted(path for path in found if _is_chat_template(path))


def _is_chat_template(path: Path) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    return path.suffix in (".jinja", ".jinja2") and "messages" in text and "role" in text


def probe(template: str, folder: Path) -> tuple[Truth | None, str, list[str]]:
    """Return truth, end token and control tokens of a template, found with all its tokens special."""
    tags = thought_tags(template)
    tokens = control_tokens(template)
    for _ in range(2):  # the second time with the tokens that only a rendering shows
        make_tokenizer(folder, template, tokens, tags, "", Flags("probe", thoughts="special"))
        tokenizer = load_tokenizer(folder)
        messages = [user(FIRST), assistant(REPLY), user(NEXT)]
        with suppress(Unrenderable):
            tokens = list(dict.fromkeys([*tokens, *control_tokens(Renderer(tokenizer)(messages))]))
        try:
            truth = examine(tokenizer, {})
        except Unrenderable:
            return None, "", tokens
    end = str(tokenizer.convert_ids_to_tokens(truth.ends[-1])) if truth.ends else ""
    return truth, end, tokens


def thought_tags(template: str) -> list[str]:
    """Return the tags around thoughts that a template names and that are single tokens."""
    return [tag for pair in PAIRS for tag in pair if "\n" not in "".join(pair) and tag in template]


def examine_template(name: str, template: str, flags: Iterable[Flags] = FLAGS) -> Result:
    """Return what the package does with a template, for each way of flagging its tokens and each card."""
    cards = {card: parse_card(read_yaml(find_yaml("agents", card))) for card in CARDS}
    tags = thought_tags(template)
    with tempfile.TemporaryDirectory() as scratch:
        truth, turn_end, tokens = probe(template, Path(scratch) / "probe")
        result = Result(name, truth, turn_end)
        for kind in flags:
            folder = Path(scratch) / kind.name
            make_tokenizer(folder, template, tokens, tags, turn_end, kind)
            tokenizer = load_tokenizer(folder)
            for card, content in cards.items():
                result.verdicts[kind.name, card] = judge(tokenizer, content, {})
            for name, value in switches(template) if kind is USUAL else ():
                content = cards["plain"].model_copy(update={"chat_template_kwargs": {name: value}})
                result.verdicts[kind.name, f"plain with {name}={value}"] = judge(tokenizer, content, {name: value})
    return result


def switches(template: str) -> list[tuple[str, bool]]:
    """Return the arguments by which users of a template turn thoughts on and off."""
    found = [name for name in ("enable_thinking", "thinking") if re.search(rf"\b(?<!\.){name}\b", template)]
    return [(name, value) for name in found for value in (True, False)]


def row(result: Result) -> list[str]:
    """Return the cells of a template in the table."""
    usual = {card: result.verdicts[USUAL.name, card] for card in CARDS}
    failures = result.failures()
    plain = usual["plain"]
    growth = "refused" if plain.refusal else ", ".join(_growth(usual[card]) for card in CARDS)
    truth = result.truth
    return [
        result.name,
        growth,
        _mark(failures, "ids"),
        ", ".join(f"`{stop}`" for stop in plain.stops),
        truth.system if truth else "",
        truth.style if truth else "",
        _mark(failures, "imitation"),
        _mark(failures, "parse"),
        _mark(failures, "observations"),
        plain.refusal or " ".join(plain.notes),
    ]


def _growth(verdict: Verdict) -> str:
    """Return how the row went on: it grew, was rendered anew at each turn, or only after a thought."""
    has_grown = {name: not is_restart for name, is_restart in verdict.restarts.items()}
    if has_grown.get("thoughts"):
        return "grows"
    growth = "grows without thoughts" if has_grown.get("no thoughts") else "anew"
    return f"{growth} (could grow)" if verdict.could_grow else growth


def _mark(failures: dict[str, list[str]], kind: str) -> str:
    return "no" if any(name.startswith(kind) for name in failures) else "yes"


HEAD = (
    *("template", "plain, think, window", "ids exact", "stop ids", "system", "thoughts", "imitation right"),
    *("replies parsed", "observations are text", "notes"),
)


def line(cells: Sequence[str]) -> str:
    """Return a line of the table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a folder of *.jinja instead of the installed packages")
    parser.add_argument("--only", default="", help="a part of the names of the templates to take")
    parser.add_argument("--details", action="store_true", help="say what is wrong, a line a kind")
    options = parser.parse_args()
    paths = sorted(options.folder.glob("*.jinja")) if options.folder else installed_templates()
    chosen = [path for path in paths if options.only in path.name]
    print(line(HEAD), line(["---"] * len(HEAD)), sep="\n")
    results = []
    for path in chosen:
        results.append(examine_template(path.stem, path.read_text(encoding="utf-8")))
        print(line(row(results[-1])), flush=True)
    wrong = [result for result in results if result.failures()]
    if options.details:
        for result in wrong:
            for kind, details in result.failures().items():
                print(f"{result.name}: {kind} ({len(details)}): {details[0]}")
    kinds: dict[str, int] = {}
    for result in wrong:
        for kind in result.failures():
            kinds[kind] = kinds.get(kind, 0) + 1
    print("".join(f"\n{kind}: {count} templates" for kind, count in sorted(kinds.items())))
    print(f"\n{len(results) - len(wrong)} of {len(results)} templates are right.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
