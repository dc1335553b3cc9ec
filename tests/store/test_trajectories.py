import dataclasses
import tracemalloc

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
        "text": (b"{}\n", "is damaged, or no trajectory file"),
        "cut": (content[:-20], "is cut off|is damaged, or no"),
        "other": (zstandard.compress(b'{"task_id": "t"}\n'), "Line 1 of .* is no trajectory"),
        "row": (
            zstandard.compress(zstandard.decompress(content).replace(b"e1", b"e5")),
            "Line 2 of .* is no trajectory: it has changed since it was written",
        ),
        "longer": (content + zstandard.compress(b""), "is something behind its end"),
    }
    for name, (body, sentence) in damaged.items():
        path = tmp_path / f"{name}.zst"
        if body is not None:
            path.write_bytes(body)
        with pytest.raises(DataError, match=sentence):
            list(read_trajectories(path))


def test_no_single_bit_that_flips_is_read_as_other_content(tmp_path):
    path = tmp_path / "a.zst"
    written = [_trajectory(n) for n in range(2)]
    write_trajectories(path, written)
    content = path.read_bytes()
    num_refused = 0
    for bit in range(8 * len(content)):
        path.write_bytes(flipped(content, bit))
        try:
            read = list(read_trajectories(path))
        except DataError:
            num_refused += 1
        else:
            assert read == written, bit
    assert num_refused > 8 * len(content) - 16  # the header has a few bits without a meaning


def flipped(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_lines_of_version_0_1_have_no_checksum_and_are_read(tmp_path):
    path = tmp_path / "a.zst"
    write_trajectories(path, [_trajectory()])
    plain = zstandard.decompress(path.read_bytes())[9:]
    path.write_bytes(zstandard.compress(plain))
    assert list(read_trajectories(path)) == [_trajectory()]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (b'"stop_reason":"step_limit"', b'"stop_reason":"bored"', "'bored' is not a valid StopReason"),
        (b'"won":true', b'"won":"no"', "its 'info.won' is 'no': input should be a valid boolean"),
        (b'"fork_turn":1', b'"fork_turn":1e9999', "its 'fork_turn' is inf"),
        (b'"context_ids":[1', b'"context_ids":[-1', "its 'turns.0.context_ids.0' is -1"),
        (b'"context_ids":[1', b'"context_ids":[1' + b"0" * 5000, "Exceeds the limit"),
        (b'"logprobs":[-0.1,', b'"logprobs":[', "2 action ids and 1 log-probs"),
        (b'"reward":0.25', b'"reward":NaN', "'turns.0.reward' is nan: input should be a finite number"),
        (b'"agent_id":"left"', b'"agent":"left"', "it has an unknown 'agent'"),
        (b'"task_id":"train/1",', b"", "it has no 'task_id'"),
        (b'"error":null', b'"error":' + 3000 * b'{"a":' + b"1" + 3000 * b"}", "nests too many levels"),
    ],
)
def test_values_of_another_type_are_refused_with_their_place(tmp_path, old, new, sentence):
    path = tmp_path / "a.zst"
    trajectory = _trajectory()
    write_trajectories(path, [dataclasses.replace(trajectory, info={**trajectory.info, "won": True})])
    plain = zstandard.decompress(path.read_bytes())[9:]
    assert old in plain
    path.write_bytes(zstandard.compress(plain.replace(old, new)))
    with pytest.raises(DataError, match=f"Line 1 of '{path}' is no trajectory: .*{sentence}"):
        list(read_trajectories(path))


def test_a_small_file_that_grows_huge_is_refused_before_it_fills_the_memory(tmp_path):
    path = tmp_path / "a.zst"
    path.write_bytes(zstandard.compress(b" " * 400_000_000))
    tracemalloc.start()
    with pytest.raises(DataError, match="grows to more than 1000 times its size"):
        list(read_trajectories(path))
    assert tracemalloc.get_traced_memory()[1] < 2**27
    tracemalloc.stop()
