"""What `fuzz.py` damages of models: policies, checkpoints, whoever signed them, opponents and GGUF files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from fuzz_targets import Read, Target, a_run, command

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import load_card
from agentgym_rft.agents.policies.gguf_file import read_header, read_model, read_tokenizer
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.cli.settings import resumed_config
from agentgym_rft.config.run import AgentSection
from agentgym_rft.store.checkpoint import file_sums, load_checkpoint
from agentgym_rft.trainers.loop import restore_run
from agentgym_rft.trainers.run import build
from tests.cli.bad_inputs import QUICK, TEAM


def policies(folder: Path) -> Read:
    from tests.light_switch import make_policy

    make_policy(folder / "policy")

    def read(path: Path) -> None:
        _, tokenizer = load_model(path.parent, device="cpu")
        chat_format(tokenizer, load_card(AgentSection()))

    return read


def checkpoints(folder: Path) -> Read:
    run = a_run(folder)
    shutil.rmtree(run / "checkpoints" / "step-000001")
    return lambda _: load_checkpoint(run / "checkpoints")


def signed_checkpoints(folder: Path) -> Read:
    run = a_run(folder)
    shutil.rmtree(run / "checkpoints" / "step-000001")
    parts = build(resumed_config(run, ()), run)
    return lambda _: restore_run(parts, run)


def adapters(folder: Path) -> Read:
    run = a_run(folder, "--trainer.lora.rank=2")
    shutil.rmtree(run / "checkpoints" / "step-000001")
    parts = build(resumed_config(run, ()), run)
    return lambda _: restore_run(parts, run)


def sign(path: Path) -> None:
    """Write the checksums of a checkpoint's files anew, as a giver could."""
    checkpoint = next(parent for parent in path.parents if parent.name.startswith("step-"))
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    (checkpoint / "manifest.json").write_text(json.dumps({**manifest, "files": file_sums(checkpoint)}))


def opponents(folder: Path) -> Read:
    from tests.light_switch import make_policy

    policy, run = make_policy(folder / "policy"), folder / "run"
    pool = ("--team.seats.a.policy=trained", "--team.seats.b.policy=trained", "--team.pool.share=0.5")
    command("train", "--env", TEAM, "--policy", policy, "--out", run, "--steps", "1", *QUICK, *pool)
    pooled = build(resumed_config(run, ()), run).explorer.pool
    assert pooled is not None

    def read(_: Path) -> None:
        pooled.load_state_dict({"success": [[0, 0.5]], "left": [], "num_groups": 0})
        pooled.begin(1)

    return read


def ggufs(folder: Path) -> Read:
    from tests.agents.policies.tiny_gguf import write_gguf

    write_gguf(folder / "m.gguf")

    def read(path: Path) -> None:
        header = read_header(path)
        chat_format(read_tokenizer(path), load_card(AgentSection()))
        read_model(path, header)

    return read


_CHECKPOINT = "run/checkpoints/step-000002"
MODEL_TARGETS = (
    Target(
        "policies",
        policies,
        (("policy/*.json", "json"), ("policy/*.safetensors", "safetensors"), ("policy/*.jinja", "")),
        4,
    ),
    Target("checkpoints", checkpoints, ((f"{_CHECKPOINT}/*.json", "json"), (f"{_CHECKPOINT}/*/*", "")), 10),
    Target(
        "checkpoints with new checksums",
        signed_checkpoints,
        (
            (f"{_CHECKPOINT}/state.json", "json"),
            (f"{_CHECKPOINT}/trainer/groups.json", "json"),
            (f"{_CHECKPOINT}/trainer/.metadata", ""),
            (f"{_CHECKPOINT}/trainer/*.distcp", ""),
            (f"{_CHECKPOINT}/model/*.safetensors", "safetensors"),
            (f"{_CHECKPOINT}/model/*.json", "json"),
        ),
        4,
        sign,
    ),
    Target("adapters", adapters, ((f"{_CHECKPOINT}/adapter/*.safetensors", "safetensors"),), 1, sign),
    Target("opponents", opponents, (("run/opponents/*.safetensors", "safetensors"),), 3),
    Target("GGUF files", ggufs, (("m.gguf", ""),), 1),
)
