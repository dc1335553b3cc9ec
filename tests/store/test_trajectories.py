import dataclasses

import numpy as np
import pytest
import zstandard

from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.errors import DataError
from agentgym_rft.store.trajectories import TrajectoryWriter, read_trajectories, write_trajectories


def _trajectory(number=0):
    first = Turn(
        context_ids=(1, 2, 3),
        action_ids=(4, 5),
        logprobs=(-0.1, -1.0 / 3.0),
        reward=0.25,
        state_key="kitchen",
        policy_version=7,
        last_version=9,
        restart=True,
        trainable=False,
        off_context=True,
        info={"observation": "大 🏠 \ud800 \u2028 \n", "action": "go", "invalid_action": "", "ids": [1, 2]},
    )
    return Trajectory(
        task_id="train/1",
        group_id="g1",
        episode_id=f"e{number}",
        turns=(first, Turn((), (6,), (-2.5e-9,))),
        stop_reason=StopReason.STEP_LIMIT,
        agent_id="left",
        parent_id="e9",
        fork_turn=1,
        rewards={"env": 1.0, "shaping": 0.1 + 0.2},
        info={"score": 0.5, "error": None, "nested": {"a": [True, None, 1e-300]}},
    )


def test_every_field_survives_the_round_trip(tmp_path):
    written = [_trajectory(0), _trajectory(1), Trajectory("t", "g", "e", (), StopReason.ENV_ERROR)]
    path = TrajectoryWriter(tmp_path / "trajectories").write(12, written)
    assert path.name == "step_000012.jsonl.zst"
    assert list(read_trajectories(path)) == written


def test_the_example_sets_every_field_to_something_else_than_its_default():
    for thing, kind in ((_trajectory(), Trajectory), (_trajectory().turns[0], Turn)):
        for field in dataclasses.fields(kind):
            default = field.default_factory() if callable(field.default_factory) else field.default
            assert getattr(thing, field.name) != default, field.name


def test_a_folder_is_read_in_the_order_of_its_steps(tmp_path):
    writer = TrajectoryWriter(tmp_path)
    for step in (10, 9, 100):
        writer.write(step, [_trajectory(step)])
    assert [t.episode_id for t in read_trajectories(tmp_path)] == ["e9", "e10", "e100"]


def test_a_step_written_again_replaces_its_file(tmp_path):
    writer = TrajectoryWriter(tmp_path)
    writer.write(1, [_trajectory(1), _trajectory(2)])
    writer.write(1, [_trajectory(3)])
    assert [t.episode_id for t in read_trajectories(tmp_path)] == ["e3"]
    assert [file.name for file in tmp_path.iterdir()] == ["step_000001.jsonl.zst"]


def test_numpy_values_are_stored_as_numbers(tmp_path):
    turn = Turn((np.int64(3),), (np.int32(4),), (np.float32(0.5),), info={"mask": np.array([1, 0])})
    write_trajectories(tmp_path / "a.zst", [Trajectory("t", "g", "e", (turn,), StopReason.SUCCESS)])
    read = next(read_trajectories(tmp_path / "a.zst")).turns[0]
    assert (read.context_ids, read.action_ids, read.logprobs) == ((3,), (4,), (0.5,))
    assert read.info == {"mask": [1, 0]}


def test_a_value_that_json_cannot_hold_is_named_and_leaves_no_file(tmp_path):
    bad = Trajectory("t", "g", "e", (), StopReason.SUCCESS, info={"when": {1, 2}})
    with pytest.raises(TypeError, match="A set cannot be stored in a trajectory"):
        write_trajectories(tmp_path / "a.zst", [bad])
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_refused(tmp_path):
    good = tmp_path / "good.zst"
    write_trajectories(good, [_trajectory(n) for n in range(3)])
    content = good.read_bytes()
    damaged = {
        "missing": (None, "No such file"),
        "text": (b"{}\n", "is no trajectory file"),
        "cut": (content[:-20], "is cut off|is no trajectory file"),
        "other": (zstandard.compress(b'{"task_id": "t"}\n'), "Line 1 of .* is no trajectory"),
        "reason": (
            zstandard.compress(zstandard.decompress(content).replace(b"step_limit", b"bored")),
            "'bored' is not a valid StopReason",
        ),
    }
    for name, (body, sentence) in damaged.items():
        path = tmp_path / f"{name}.zst"
        if body is not None:
            path.write_bytes(body)
        with pytest.raises(DataError, match=sentence):
            list(read_trajectories(path))
