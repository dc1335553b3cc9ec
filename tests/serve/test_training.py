"""From an external agent's conversations to a better policy, and back to the agent."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest
import torch

from agentgym_rft.agents.card import load_card
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import AgentSection, Config
from agentgym_rft.errors import ConfigError, DataError, PolicyError
from agentgym_rft.serve.follow import Follower
from agentgym_rft.serve.sinks import StoreSink
from agentgym_rft.store.experience import ExperienceStore
from agentgym_rft.trainers.loop import train
from tests.light_switch import LightSwitch, weights_of
from tests.serve.gateways import Client, serving
from tests.trainers.test_loop import switch_config
from tests.trainers.tiny import tiny_model

GROUP_SIZE = 4
SYSTEM = load_card(AgentSection()).system
TASKS = LightSwitch().task_ids("train")


def play(client: Client, name: str, task_id: str) -> float:
    """What an agent written elsewhere does: it knows the endpoint and its own environment."""
    env = LightSwitch()
    messages = [{"role": "system", "content": SYSTEM}] if SYSTEM else []
    observation, info = env.reset(options={"task_id": task_id})
    total, is_over = 0.0, False
    while not is_over:
        action = client.say(name, messages, observation)
        observation, reward, is_over, _, info = env.step(action.strip())
        total += reward
    assert client.feedback(name, total, task_id=task_id, won=info["won"]).status == 200
    return total


def stored_config(policy: Path, out: Path, steps: int, **sections: dict) -> Config:
    data = json.loads(switch_config(policy, out, steps=steps, learning_rate=5e-3).model_dump_json())  # episodes are old
    data["rollout"] |= {"num_tasks": 6, "group_size": GROUP_SIZE} | sections.pop("rollout", {})
    return validate_config(data | sections)


def test_a_policy_learns_from_the_stored_conversations_of_an_external_agent(switch_policy, tmp_path):
    store = tmp_path / "store.db"
    tokenizer = load_model(switch_policy, device="cpu")[1]
    sink = StoreSink(store, tokenizer)
    with serving(switch_policy, sink, group_size=GROUP_SIZE) as gateway, ThreadPoolExecutor(16) as pool:
        client = Client(gateway.url)
        tasks = [task for task in TASKS for _ in range(GROUP_SIZE)]
        returns = list(pool.map(lambda job: play(client, f"c{job[0]}", job[1]), enumerate(tasks)))
        counts = client.status()
    sink.close()
    assert counts["conversations"]["stored"] == len(tasks)
    assert counts["groups"] | {"trained": 0} == counts["groups"], "nobody trained on them yet"
    with_signal = 0.05 < sum(returns) / len(returns) < 0.6
    assert with_signal
    stored = ExperienceStore(store)
    assert stored.is_finished
    assert len(stored.keys) == len(TASKS)
    stored.close()
    config = stored_config(
        switch_policy,
        tmp_path / "run",
        30,
        rollout={"stored": str(store)},
        algorithm={"name": "sft"},  # no bound on the ratio keeps it near what was stored
    )
    before, after = train(config).evaluations
    assert after["success"] > before["success"] + 0.1


@contextmanager
def in_thread(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """`work` runs meanwhile; its event says when to end. What it raises is raised here."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work, stop)
        try:
            yield
        finally:
            stop.set()
            future.result()


def test_trainer_gateway_and_agents_go_on_together(switch_policy, tmp_path):
    store, run_dir = tmp_path / "store.db", tmp_path / "run"
    sink = StoreSink(store, load_model(switch_policy, device="cpu")[1])
    names = count()

    def agents(stop: threading.Event) -> None:
        def one(worker: int) -> None:
            while not stop.is_set():
                number = next(names)
                play(client, f"c{number}", TASKS[number // GROUP_SIZE % len(TASKS)])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(8)))

    def follow(stop: threading.Event) -> None:
        while not stop.wait(0.05):
            follower.check()

    config = stored_config(
        switch_policy, run_dir, 30, store={"path": str(store), "replay_share": 1, "max_staleness": 8, "wait_s": 60}
    )
    with serving(switch_policy, sink, group_size=GROUP_SIZE) as gateway:
        client = Client(gateway.url)
        follower = Follower(run_dir, gateway.load)
        with in_thread(follow), in_thread(agents):
            before, after = train(config).evaluations
        status = client.status()
    sink.close()
    assert after["success"] > before["success"] + 0.2
    assert status["policy_version"] >= 8
    assert status["groups"]["trained"] == 30 * 6
    counts = status["conversations"]
    assert counts["recorded"] == counts["waiting"] + counts["stored"] + counts["open"]


@pytest.fixture(scope="module")
def run_dir(switch_policy, tmp_path_factory):
    """A run of two steps with a checkpoint each."""
    out = tmp_path_factory.mktemp("followed") / "run"
    train(stored_config(switch_policy, out, 2, eval={"num_tasks": 0}, rollout={"num_tasks": 2}))
    return out


class Taken:
    """What a follower handed over."""

    def __init__(self) -> None:
        self.versions: list[int] = []
        self.weights: dict[str, torch.Tensor] = {}

    def __call__(self, weights: dict[str, torch.Tensor], version: int) -> None:
        self.versions.append(version)
        self.weights = weights


def test_a_follower_takes_up_each_newer_checkpoint_once(run_dir, tmp_path):
    followed, taken = tmp_path / "run", Taken()
    follower = Follower(followed, taken)
    assert follower.check() is None, "the run is not there yet"
    for step in (1, 2):
        shutil.copytree(run_dir / f"checkpoints/step-00000{step}", followed / f"checkpoints/step-00000{step}")
        assert (follower.check(), follower.check()) == (step, None)
        expected = weights_of(followed / f"checkpoints/step-00000{step}/model")
        for name, tensor in expected.items():
            assert torch.equal(taken.weights[name], tensor)
    assert taken.versions == [1, 2]


def test_a_damaged_checkpoint_is_not_taken_up(run_dir, tmp_path, caplog):
    followed, taken = tmp_path / "run", Taken()
    shutil.copytree(run_dir / "checkpoints", followed / "checkpoints")
    weights = followed / "checkpoints/step-000002/model/model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:100])
    follower = Follower(followed, taken)
    assert (follower.check(), follower.check()) == (1, None)
    (followed / "checkpoints/step-000001/manifest.json").unlink()
    other = Follower(followed, Taken())
    caplog.clear()
    assert (other.check(), other.check()) == (None, None)
    assert caplog.text.count("is not taken up yet") == 1
    weights.write_bytes(good)
    assert other.check() == 2, "it was tried again"


def test_a_checkpoint_of_another_model_is_an_error(run_dir):
    policy = HFPolicy(tiny_model(dtype=torch.float32))
    with pytest.raises(PolicyError, match="The new weights lack"):
        Follower(run_dir, policy.load).check()
    assert policy.version == 0


def test_a_store_of_another_tokenizer_or_writer_is_refused(switch_policy, tmp_path):
    tokenizer = load_model(switch_policy, device="cpu")[1]
    with pytest.raises(ConfigError, match="there is no directory"):
        StoreSink(tmp_path / "none" / "store.db", tokenizer)
    path = tmp_path / "store.db"
    ExperienceStore(path, "0123456789abcdef").close()
    with pytest.raises(DataError, match="of another tokenizer"):
        StoreSink(path, tokenizer)
    path.unlink()
    sink = StoreSink(path, tokenizer)
    sink.close()
    store = ExperienceStore(path)
    store.fill("agentgym explore")
    store.close()
    with pytest.raises(ConfigError, match="is filled by agentgym explore"):
        StoreSink(path, tokenizer)


def test_a_second_server_on_a_store_is_refused_and_does_not_end_the_first(switch_policy, tmp_path):
    tokenizer = load_model(switch_policy, device="cpu")[1]
    sink = StoreSink(tmp_path / "store.db", tokenizer)
    (tmp_path / "link.db").symlink_to("store.db")
    for path in (tmp_path / "store.db", tmp_path / "link.db"):
        with pytest.raises(ConfigError, match=f"Another program is filling the experience store '{path}'. Wait for"):
            StoreSink(path, tokenizer)
    with closing(ExperienceStore(tmp_path / "store.db")) as store:
        assert not store.is_finished
        sink.close()
        assert store.is_finished
    StoreSink(tmp_path / "store.db", tokenizer).close()
