"""Policy `vllm` with a real engine, against `hf` on the same weights. One engine for the module: it takes a while."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("vllm")
psutil = pytest.importorskip("psutil")

from agentgym_rft.agents.policies.base import Completion, SampleRequest  # noqa: E402
from agentgym_rft.agents.policies.hf import HFPolicy  # noqa: E402
from agentgym_rft.agents.policies.loading import load_model  # noqa: E402
from agentgym_rft.agents.policies.seeds import seed_policy_path  # noqa: E402
from agentgym_rft.agents.policies.vllm import VLLMPolicy  # noqa: E402
from agentgym_rft.agents.policies.vllm_probe import ModelReference  # noqa: E402
from agentgym_rft.config.policy import VLLMSection  # noqa: E402
from agentgym_rft.errors import ConfigError, DataError, PolicyError  # noqa: E402
from tests.light_switch import MODEL, make_policy  # noqa: E402

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

FOLDER = seed_policy_path()
ROWS = [[(37 * i + 11 * j) % 500 + 5 for j in range(20 + 3 * i)] for i in range(12)]


class SpoilableReference:
    """Transformers' forward pass; while `spoilt` it computes with one tensor changed."""

    def __init__(self, model: Any) -> None:
        self._inner = ModelReference(model)
        self.spoilt: str | None = None

    def logprobs(self, weights: Mapping[str, torch.Tensor], ids: Sequence[int]) -> torch.Tensor:
        if self.spoilt is not None:
            weights = {**weights, self.spoilt: weights[self.spoilt] * 1.5}
        return self._inner.logprobs(weights, ids)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.set_num_threads(1)
    return load_model(FOLDER, device="cpu")[0]


@pytest.fixture(scope="module")
def reference(model: Any) -> SpoilableReference:
    return SpoilableReference(model)


@pytest.fixture(scope="module")
def engine(reference: SpoilableReference) -> Iterator[VLLMPolicy]:
    settings = VLLMSection(kv_cache_gb=0.5)
    policy = VLLMPolicy(
        FOLDER,
        settings,
        device="cpu",
        max_context=1024,
        version=0,
        spans_versions=True,
        reference=reference,
        max_lora_rank=4,
    )
    yield policy
    policy.close()


@pytest.fixture
def policy(engine: VLLMPolicy, model: Any) -> VLLMPolicy:
    """The engine with the directory's weights as version 0."""
    if engine.version != 0:
        engine.load(model.state_dict(), 0)
    return engine


def ask(policy: VLLMPolicy | HFPolicy, *, count: int = 16, temperature: float = 0.0, stop: tuple[int, ...] = ()):
    async def all_rows() -> list[Completion]:
        return await asyncio.gather(
            *(
                policy.sample(SampleRequest(f"e{i}", row, count, stop, temperature, 1000 + i))
                for i, row in enumerate(ROWS)
            )
        )

    return asyncio.run(all_rows())


def changed(model: Any, seed: int) -> dict[str, torch.Tensor]:
    """Other weights: every matrix with noise on it, tied ones with the same."""
    other, generator = deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.dim() > 1:
                parameter.add_(0.3 * parameter.std() * torch.randn(parameter.shape, generator=generator))
    return dict(other.state_dict())


def assert_same_greedy(policy: VLLMPolicy, weights: Mapping[str, torch.Tensor], model: Any, version: int) -> None:
    """Greedy answers of the engine and of `hf` with these weights agree; so do the log-probs."""
    with_weights, _ = load_model(FOLDER, device="cpu")
    hf = HFPolicy(with_weights, max_context=1024, num_threads=1)
    hf.load(weights, version)
    ours, theirs = ask(policy), ask(hf)
    assert [a.ids for a in ours] == [b.ids for b in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-3)
        assert (a.policy_version, a.last_version, a.stop) == (version, None, b.stop)


def test_greedy_tokens_and_log_probs_are_those_of_hf(policy: VLLMPolicy, model: Any):
    assert_same_greedy(policy, model.state_dict(), model, 0)
    assert 0 <= policy.drift.worst < 1e-3


def test_sampled_log_probs_are_the_models_own_whatever_the_temperature(policy: VLLMPolicy, model: Any):
    for temperature in (0.5, 2.0):
        reference = ModelReference(model)
        for row, answer in zip(ROWS, ask(policy, temperature=temperature), strict=True):
            table = reference.logprobs(model.state_dict(), [*row, *answer.ids])[len(row) - 1 : -1]
            expected = table.gather(1, torch.tensor(answer.ids)[:, None]).squeeze(1).tolist()
            assert answer.logprobs == pytest.approx(expected, abs=1e-3)


def test_a_seed_repeats_its_sample_and_another_does_not(policy: VLLMPolicy):
    first, second = ask(policy, temperature=1.0), ask(policy, temperature=1.0)
    assert [a.ids for a in first] == [b.ids for b in second]

    async def other_seed() -> Completion:
        return await policy.sample(SampleRequest("e0", ROWS[0], 16, (), 1.0, 5))

    assert asyncio.run(other_seed()).ids != first[0].ids


def test_seeded_requests_beyond_one_step_of_the_engine_are_served(policy: VLLMPolicy):
    """More prompt tokens than vLLM takes in one step; its CPU worker would die if it cut one of them in two."""

    async def many() -> list[Completion]:
        rows = [[(i + 7 * j) % 400 + 5 for j in range(300)] for i in range(12)]
        return await asyncio.gather(
            *(policy.sample(SampleRequest(f"long-{i}", row, 4, (), 1.0, i)) for i, row in enumerate(rows))
        )

    assert [len(answer.ids) for answer in asyncio.run(many())] == [4] * 12


def test_a_stop_id_ends_the_action_and_is_part_of_it_with_its_log_prob(policy: VLLMPolicy):
    free = ask(policy)[0]
    stop = free.ids[4]
    end = free.ids.index(stop) + 1
    stopped = ask(policy, stop=(stop,))[0]
    assert (free.stop, stopped.stop) == ("length", "stop")
    assert stopped.ids == free.ids[:end]
    assert stopped.logprobs == pytest.approx(free.logprobs[:end], abs=1e-4)


@pytest.mark.parametrize("sync", ["memory", "disk"])
def test_new_weights_are_sampled_from_without_a_restart(
    sync: str, policy: VLLMPolicy, model: Any, monkeypatch, tmp_path
):
    settings = VLLMSection(sync=sync, sync_dir=str(tmp_path))
    monkeypatch.setattr(policy, "_settings", settings)
    before = [answer.ids for answer in ask(policy)]
    workers = {process.pid for process in psutil.Process().children(recursive=True)}
    for version, seed in ((3, 1), (4, 2)):
        weights = changed(model, seed)
        policy.load(weights, version)
        assert policy.version == version
        assert_same_greedy(policy, weights, model, version)
    assert [answer.ids for answer in ask(policy)] != before
    assert {process.pid for process in psutil.Process().children(recursive=True)} == workers
    assert not list(tmp_path.iterdir())


def test_an_engine_with_other_weights_than_it_was_given_is_noticed_and_not_used(
    policy: VLLMPolicy, model: Any, reference: SpoilableReference
):
    """One tensor of the 29 differs between what the engine has and what the trainer says it gave."""
    reference.spoilt = "model.layers.1.mlp.up_proj.weight"
    try:
        with pytest.raises(PolicyError, match="does not sample from the weights of version 5"):
            policy.load(model.state_dict(), 5)
    finally:
        reference.spoilt = None
    assert policy.drift.worst > 5e-3
    with pytest.raises(PolicyError, match="does not sample from the weights of version 5"):
        ask(policy)
    policy.load(model.state_dict(), 6)
    assert ask(policy)[0].policy_version == 6


def test_vllms_own_reload_is_noticed_where_it_gives_wrong_tokens(policy: VLLMPolicy, model: Any, tmp_path):
    """Weights that reach the engine by another way than `load` are found out by the next probe."""
    from agentgym_rft.agents.policies.vllm_weights import handed_over

    with handed_over(ModelReference(model).distinct(changed(model, 3)), "disk", str(tmp_path)) as path:
        policy._engine.call(lambda: policy._engine.replace_weights(path, 0))
    with pytest.raises(PolicyError, match="does not sample from the weights"):
        policy._probe(model.state_dict())
    policy.load(model.state_dict(), 0)


def test_weights_that_do_not_fit_change_nothing(policy: VLLMPolicy, model: Any):
    before = [answer.ids for answer in ask(policy)]
    weights = model.state_dict()
    name = "model.layers.0.mlp.up_proj.weight"
    with pytest.raises(PolicyError, match="no weights named 'lora'"):
        policy.load({**weights, "lora": weights[name]}, 9)
    with pytest.raises(PolicyError, match="lack"):
        policy.load({key: value for key, value in weights.items() if key != name}, 9)
    with pytest.raises(PolicyError, match="the model has a tensor of shape"):
        policy.load({**weights, name: torch.zeros(2, 2)}, 9)
    assert policy.version == 0
    assert [answer.ids for answer in ask(policy)] == before


def test_a_completion_that_spans_a_hand_over_carries_both_versions_and_both_weights(policy: VLLMPolicy, model: Any):
    new = changed(model, 4)
    row, count = ROWS[3], 700

    async def across() -> Completion:
        task = asyncio.create_task(policy.sample(SampleRequest("long", row, count, (), 1.0, 1)))
        loop = asyncio.get_running_loop()
        short = await policy.sample(SampleRequest("short", row, 40, (), 1.0, 1))  # by then the long one is under way
        assert len(short.ids) == 40
        await loop.run_in_executor(None, policy.load, new, 7)
        return await task

    answer = asyncio.run(across())
    assert (answer.policy_version, answer.last_version, len(answer.ids)) == (0, 7, count)
    picked = torch.tensor(answer.ids)[:, None]
    by_version = [
        ModelReference(model).logprobs(weights, [*row, *answer.ids])[len(row) - 1 : -1].gather(1, picked).squeeze(1)
        for weights in (model.state_dict(), new)
    ]
    sampled = torch.tensor(answer.logprobs)
    is_old, is_new = (((sampled - expected).abs() < 1e-3) for expected in by_version)
    switch = int((~is_old).nonzero()[0])
    assert switch >= 40
    assert is_old[:switch].all()
    assert is_new[switch:].all()  # the cache of the old weights is not used under the new ones


def test_requests_that_run_refuse_new_weights_where_versions_may_not_be_spanned(policy, model, monkeypatch):
    monkeypatch.setattr(policy, "_spans_versions", False)

    async def during() -> None:
        task = asyncio.create_task(policy.sample(SampleRequest("long", ROWS[0], 300, (), 1.0, 1)))
        await asyncio.sleep(0)
        with pytest.raises(PolicyError, match="while 1 requests are sampling"):
            policy.load(model.state_dict(), 1)
        await task

    asyncio.run(during())


def test_released_and_cancelled_requests_end_at_once_and_leave_nothing_in_the_engine(policy: VLLMPolicy):
    def unfinished() -> int:
        return int(policy._engine._engine.get_num_unfinished_requests())

    async def run() -> None:
        released = asyncio.create_task(policy.sample(SampleRequest("a", ROWS[0], 900, (), 1.0, 1)))
        cancelled = asyncio.create_task(policy.sample(SampleRequest("b", ROWS[1], 900, (), 1.0, 1)))
        await policy.sample(SampleRequest("c", ROWS[2], 5, (), 1.0, 1))
        assert unfinished() == 2
        with pytest.raises(PolicyError, match="already sampling"):
            await policy.sample(SampleRequest("a", ROWS[0], 5, (), 1.0, 1))
        policy.release("a")
        with pytest.raises(PolicyError, match="'a' was released while it was sampling"):
            await released
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        for _ in range(50):  # the engine hears of it on its own thread
            await policy.sample(SampleRequest("c", ROWS[2], 2, (), 1.0, 1))
            if unfinished() == 0:
                break
        assert unfinished() == 0
        assert len((await policy.sample(SampleRequest("a", ROWS[0], 5, (), 1.0, 1))).ids) == 5

    asyncio.run(run())
    policy.release("unknown")


def test_requests_that_cannot_be_answered_are_refused(policy: VLLMPolicy):
    async def refused(request: SampleRequest, message: str) -> None:
        with pytest.raises(PolicyError, match=message):
            await policy.sample(request)

    asyncio.run(refused(SampleRequest("a", [5] * 1000, 100, ()), "more than max_context 1024"))
    asyncio.run(refused(SampleRequest("a", [], 1, ()), "expected at least 1"))
    asyncio.run(refused(SampleRequest("a", [10**6], 1, ()), "tokenizer of another model"))
    asyncio.run(refused(SampleRequest("a", [5], 1, (), float("nan")), "temperature nan"))
    asyncio.run(refused(SampleRequest("a", [5], 1, (), 3.0), r"vLLM failed on 'a'.*temperature must be in \[0, 2\]"))


def test_an_adapter_is_swapped_in_and_full_weights_take_it_off(policy: VLLMPolicy, model: Any, tmp_path: Path):
    pytest.importorskip("peft")
    from agentgym_rft.agents.policies.vllm_weights import merged

    policy_with_base = VLLMPolicyState(policy)
    before = [answer.ids for answer in ask(policy)]
    with policy_with_base:
        for version in (8, 9):
            folder = make_adapter(tmp_path / f"adapter-{version}", seed=version)
            policy.load_adapter(folder, version)
            assert_same_greedy(policy, merged(model.state_dict(), folder), model, version)
            assert [answer.ids for answer in ask(policy)] != before
        with pytest.raises(DataError, match="holds no LoRA adapter"):
            policy.load_adapter(tmp_path, 10)
        assert policy.version == 9
    policy.load(model.state_dict(), 11)
    assert [answer.ids for answer in ask(policy)] == before
    with pytest.raises(PolicyError, match="belongs to the weights of the model directory"):
        policy.load_adapter(folder, 12)


class VLLMPolicyState:
    """The other tests have replaced the weights that an adapter belongs to, by equal ones."""

    def __init__(self, policy: VLLMPolicy) -> None:
        self._policy = policy

    def __enter__(self) -> None:
        self._policy._is_base = True

    def __exit__(self, *_: object) -> None:
        self._policy._is_base = False


def make_adapter(folder: Path, seed: int) -> Path:
    """A LoRA adapter of rank 4 with weights that matter, written by peft."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    base, _ = load_model(FOLDER, device="cpu")
    adapted = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "up_proj"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    adapted.save_pretrained(folder)
    return folder


def test_a_device_that_this_vllm_does_not_compute_on_is_refused():
    with pytest.raises(ConfigError, match=r"policy\.device is 'cuda', but the installed vLLM computes on cpu"):
        VLLMPolicy(FOLDER, device="cuda")


def test_a_missing_directory_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        VLLMPolicy(tmp_path / "none", device="cpu")


def test_the_engine_does_not_start_with_what_vllm_refuses_and_leaves_nothing():
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with pytest.raises(PolicyError, match="engine does not start"):
        VLLMPolicy(FOLDER, VLLMSection(kv_cache_gb=1e-5), device="cpu", max_context=1024)
    assert engine_processes() <= before


def engine_processes() -> set[int]:
    """The processes below this one, that of Python's own bookkeeping of shared memory left out."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        try:
            if "resource_tracker" not in " ".join(process.cmdline()):
                found.add(process.pid)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


ONE_STEP = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from agentgym_rft.config.load import validate_config
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.trainers.loop import train
import psutil
if __name__ == "__main__":
    config = validate_config({
        "env": {"id": "tests.light_switch:LightSwitch"},
        "policy": {"path": "vllm:" + sys.argv[1], "max_context": 64, "num_threads": 1, "device": "cpu",
                   "vllm": {"kv_cache_gb": 0.5}},
        "rollout": {"num_tasks": 8, "group_size": 4, "max_steps": 4},
        "trainer": {"steps": 4, "learning_rate": 1e-2, "warmup_steps": 0, "mode": sys.argv[3], "max_staleness": 1},
        "eval": {"num_tasks": 4},
        "run": {"out": sys.argv[2], "checkpoint_every": 1},
    })
    train(config)
    rows = read_metrics(Path(sys.argv[2]) / "metrics.jsonl")
    left = [p for p in psutil.Process().children(recursive=True) if "VLLM" in p.name()]
    lag = max(row.get("staleness/max", 0.0) for row in rows)
    print("drift", max(row["drift/logprob_max"] for row in rows), "lag", lag, "left", len(left), "steps", len(rows))
"""


def test_heads_of_a_size_without_a_cpu_kernel_are_refused(switch_policy: Path):
    with pytest.raises(ConfigError, match="attention heads have 8 dimensions; vLLM on a CPU knows 32, 64"):
        VLLMPolicy(switch_policy, device="cpu")


@pytest.mark.parametrize(("mode", "lag"), [("sync", 0.0), ("one_step_off", 1.0), ("async", 1.0)])
def test_a_run_trains_on_what_vllm_samples_and_leaves_no_process(tmp_path: Path, mode: str, lag: float):
    model_dir = make_policy(tmp_path / "model", MODEL.model_copy(update={"head_dim": 32}))
    script = tmp_path / "train.py"
    script.write_text(ONE_STEP)
    command = [sys.executable, str(script), str(model_dir), str(tmp_path / "run"), mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=dict(os.environ), check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    words = done.stdout.split()
    assert float(words[words.index("drift") + 1]) < 1e-3
    assert float(words[words.index("lag") + 1]) == lag
    assert words[-4:] == ["left", "0", "steps", "4"]


HELD = """
import os, sys
from pathlib import Path
import psutil
from agentgym_rft.agents.policies.vllm import VLLMPolicy
from agentgym_rft.config.run import VLLMSection
if __name__ == "__main__":
    policy = VLLMPolicy(Path(sys.argv[1]), VLLMSection(kv_cache_gb=0.5), device="cpu", max_context=256)
    print(*(p.pid for p in psutil.Process().children(recursive=True)), flush=True)
    sys.stdin.read()
"""


def test_an_owner_that_is_killed_takes_the_engine_along(tmp_path: Path):
    script = tmp_path / "held.py"
    script.write_text(HELD)
    process = subprocess.Popen(
        [sys.executable, str(script), str(FOLDER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) >= 2
    children = [psutil.Process(pid) for pid in pids]
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []
    process.stdout.close()
    assert process.stdin is not None
    process.stdin.close()


def test_close_leaves_no_process_and_a_closed_policy_says_so(engine: VLLMPolicy):
    """The last test of the module: it closes the engine that the others share."""
    assert engine_processes()
    engine.close()
    engine.close()
    assert engine_processes() == set()
    assert multiprocessing.active_children() == []
    with pytest.raises(PolicyError, match="closed"):
        ask(engine)
