from __future__ import annotations

import numpy as np
import pytest
import torch

from agentgym_rft.config.run import LoraSection
from agentgym_rft.core import Group, StopReason, Trajectory
from agentgym_rft.errors import CheckpointError, ConfigError
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.trainers.learner.lora import add_lora
from agentgym_rft.trainers.loop import train, train_step
from agentgym_rft.trainers.run import build
from agentgym_rft.trainers.sources.opponents import (
    draw_weights,
    kept_members,
    member_of,
    own_success,
    past_model,
    snapshot,
)
from tests.trainers.learner.test_per_policy import opened, same_run, team_config
from tests.trainers.tiny import tiny_model

POOL = {"share": 0.5, "every": 1, "size": 3}


def pool_sections(**pool: object) -> dict[str, dict[str, object]]:
    return {"team": {"weights": "shared", "pool": {**POOL, **pool}}}


def test_members_are_drawn_by_the_rule():
    successes = [0.0, 0.5, 0.75]
    assert draw_weights("uniform", successes).tolist() == [1 / 3, 1 / 3, 1 / 3]
    assert draw_weights("latest", successes).tolist() == [0, 0, 1]
    # (1 - p)^2 is 1, 1/4, 1/16: of 21 sixteenths
    np.testing.assert_allclose(draw_weights("prioritised", successes), [16 / 21, 4 / 21, 1 / 21])


def test_of_members_that_are_all_beaten_each_is_as_likely():
    assert draw_weights("prioritised", [1.0, 1.0]).tolist() == [0.5, 0.5]


def test_the_first_member_stays_and_the_oldest_of_the_others_leaves():
    members: list[int] = []
    for step in (0, 5, 10, 15):
        members = kept_members(members, step, size=3)
    assert members == [0, 10, 15]
    assert kept_members([0], 5, size=1) == [0]


def seat(agent: str, player: str, score: float, stop: StopReason = StopReason.FAILURE) -> Trajectory:
    info = {"role": "r", "player": player, "is_trained": not player, "score": score}
    return Trajectory("1", "g", "e", (), stop, agent_id=agent, info=info)


def test_success_is_the_mean_score_of_what_was_trained():
    group = Group(
        "g",
        "1",
        (
            seat("a", "", 1.0, StopReason.SUCCESS),
            seat("b", "pool/5", 0.0),
            seat("a", "", 0.5),  # a draw
            seat("b", "pool/5", 0.5),
            seat("a", "", 0.0, StopReason.ENV_ERROR),
            seat("b", "pool/5", 0.0, StopReason.ENV_ERROR),
        ),
    )
    assert own_success(group) == 0.75
    assert member_of(group) == 5
    assert own_success(Group("g", "1", group.trajectories[4:])) is None
    assert member_of(Group("g", "1", (seat("a", "", 0.0), seat("b", "", 0.0)))) is None


def test_a_groups_players_follow_from_its_id_and_each_seat_has_its_turn(switch_policy, tmp_path):
    parts = opened(team_config(switch_policy, tmp_path, **pool_sections(share=0.5)))
    pool = parts.explorer.pool
    drawn = [pool.players(f"{number}/1") for number in range(200)]
    against = [players for players in drawn if players]
    assert 70 < len(against) < 130
    assert against[:4] == [{"b": "pool/0"}, {"a": "pool/0"}] * 2
    again = [bool(pool.players(f"{number}/1")) for number in range(200)]
    assert again == [bool(players) for players in drawn]
    parts.workers.close()


def test_only_the_seat_of_the_current_policy_is_trained_against_the_pool(switch_policy, tmp_path):
    parts = opened(team_config(switch_policy, tmp_path, **pool_sections(share=1.0)))
    metrics, batch = train_step(parts, 0)
    for group in batch.groups:
        trained = {t.agent_id for t in group.trajectories if t.info["is_trained"]}
        others = {t.info["player"] for t in group.trajectories if not t.info["is_trained"]}
        assert len(trained) == 1
        assert others == {"pool/0"}
    assert metrics["pool/share"] == 1.0
    assert metrics["pool/size"] == 1.0
    assert metrics["group/num"] == len(batch.groups)
    # the moving average, by hand: 0.5 at first, a fifth of the way to each group's score
    success = 0.5
    for group in batch.groups:
        success += 0.2 * (own_success(group) - success)
    assert metrics["pool/success/0"] == pytest.approx(success)
    parts.workers.close()


def test_a_member_plays_as_the_policy_did_then(switch_policy, tmp_path):
    parts = opened(team_config(switch_policy, tmp_path, trainer={"learning_rate": 0.1}, **pool_sections(share=1.0)))
    ids = torch.arange(12)[None]
    before = parts.model(ids).logits.detach()
    start = snapshot(parts.model)
    train_step(parts, 0)
    assert not torch.equal(parts.model(ids).logits, before)
    assert torch.equal(past_model(parts.model, start)(ids).logits, before)
    parts.workers.close()


def test_a_past_model_with_adapters_has_its_own_ones_and_the_base_of_the_trained(switch_policy):
    pytest.importorskip("peft")
    model = tiny_model(dtype=torch.float32)
    add_lora(model, LoraSection(rank=2), 0)
    ids = torch.arange(12)[None]
    start, before = snapshot(model), model(ids).logits.detach()
    assert all(".lora_" in name for name in start)
    for name, weight in model.named_parameters():
        if ".lora_B" in name:
            weight.data.fill_(0.1)
    past = past_model(model, start)
    assert torch.equal(past(ids).logits, before)
    assert not torch.equal(model(ids).logits, before)
    mine, theirs = dict(model.named_parameters()), dict(past.named_parameters())
    assert all((mine[name] is theirs[name]) == (".lora_" not in name) for name in mine)
    assert any(weight.requires_grad for weight in model.parameters())
    assert not any(weight.requires_grad for weight in past.parameters())


def test_a_snapshot_of_another_model_is_refused():
    model = tiny_model(dtype=torch.float32)
    weights = dict(list(snapshot(model).items())[1:])
    with pytest.raises(CheckpointError, match="The snapshot of an opponent is of another model: it lacks"):
        past_model(model, weights)


@pytest.mark.parametrize("rule", ["uniform", "prioritised"])
@pytest.mark.parametrize("lora", [{}, {"rank": 2}], ids=["full", "lora"])
def test_a_resumed_run_with_a_pool_is_the_run_that_was_not_stopped(switch_policy, tmp_path, rule, lora):
    if lora:
        pytest.importorskip("peft")
    same_run(switch_policy, tmp_path, trainer={"lora": lora}, **pool_sections(rule=rule))
    rows = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert [row["pool/size"] for row in rows] == [1.0, 2.0, 3.0, 3.0]
    assert sum(row["pool/share"] for row in rows) > 0
    assert "pool/success/1" in rows[2]
    assert "pool/success/1" not in rows[3]


def test_snapshots_are_kept_as_long_as_a_checkpoint_may_need_them(switch_policy, tmp_path):
    sections = {**pool_sections(size=2), "trainer": {"steps": 6}}
    train(
        team_config(
            switch_policy, tmp_path / "run", run={"out": str(tmp_path / "run"), "keep_checkpoints": 2}, **sections
        )
    )
    left = sorted(int(path.stem.removeprefix("step-")) for path in (tmp_path / "run" / "opponents").iterdir())
    # members are 0 and 6; when 6 joined, the checkpoints were of 4 and 5, whose members 4 and 5 had left after 5 and 6
    assert left == [0, 4, 5, 6]


def test_a_run_whose_snapshot_is_damaged_says_so(switch_policy, tmp_path):
    config = team_config(switch_policy, tmp_path / "run", trainer={"steps": 2}, **pool_sections())
    train(config)
    path = tmp_path / "run" / "opponents" / "step-000001.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    longer = team_config(switch_policy, tmp_path / "run", trainer={"steps": 3}, **pool_sections())
    with pytest.raises(CheckpointError, match=r"step-000001\.safetensors' cannot be read"):
        train(longer, resume=tmp_path / "run")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"env": {"id": "tests.light_switch:LightSwitch"}}, "with fewer than two trained seats"),
        ({"team": {"seats": {"b": {"policy": "random"}}}}, "with fewer than two trained seats"),
        ({"team": {"weights": "separate"}}, "with team.weights=separate"),
        ({"rollout": {"workers": "ray"}}, "with rollout.workers=ray"),
        ({"policy": {"path": "vllm:seed"}}, "with vllm:"),
        ({"trainer": {"mode": "async"}}, "with groups that play ahead"),
        ({"store": {"replay_share": 0.5, "max_uses": 2}}, "with stored groups"),
    ],
)
def test_a_pool_refuses_what_cannot_work(switch_policy, tmp_path, sections, message):
    team = {**pool_sections()["team"], **sections.get("team", {})}
    with pytest.raises(ConfigError, match=f"team.pool.share cannot be used {message}"):
        build(team_config(switch_policy, tmp_path, **{**sections, "team": team}))
