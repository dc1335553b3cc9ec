from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from agentgym_rft.agents.agent import ChatAgent, chat_format
from agentgym_rft.agents.card import load_card, parse_card
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.agents.policies.seeds import seed_policy_path
from agentgym_rft.agents.reflect import Outcome, Report, format_report, guidance_text, parse_report
from agentgym_rft.config.load import load_sft_config
from agentgym_rft.config.run import AgentSection, EnvSection
from agentgym_rft.config.sft import ModelSection, SftConfig, SftSection
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.alfworld.env import ALFWorldEnv
from agentgym_rft.errors import ConfigError, DataError
from agentgym_rft.rollouts.reflection.hindsight import lesson_report
from agentgym_rft.trainers.sft.model import build_model, train_tokenizer
from agentgym_rft.trainers.sft.report_rows import cut_off, experience_rows, guided_row, mixed, play_episodes, report_row
from agentgym_rft.trainers.sft.report_tokens import add_pieces, report_pieces
from agentgym_rft.trainers.sft.rows import SftRow
from agentgym_rft.trainers.sft.train import train_sft

CARD = load_card(AgentSection())
REPORT = Report("mug 1 on shelf 2.", "[7] go to bed 1.", Outcome.FAILURE, "take mug 1 from shelf 2.", 7)
TEXTS = ["go to shelf 2", "On the shelf 2, you see a mug 1.", "take mug 1 from shelf 2", "[cut] {x} []"]


@pytest.fixture
def small():
    tokenizer = train_tokenizer(TEXTS * 3, 320)
    section = ModelSection(hidden_size=16, intermediate_size=16, num_layers=1, num_heads=2, head_dim=8)
    return build_model(section, len(tokenizer), 0), tokenizer


@pytest.fixture
def env():
    return ALFWorldEnv(admissible=False)


def played(env: ALFWorldEnv, chat, actions: list[str]) -> Trajectory:
    """A scripted episode of the first task, as a policy would have sampled it."""
    task_id = env.task_ids("train")[0]
    agent = ChatAgent(CARD, chat)
    observation, info = env.reset(options={"task_id": task_id})
    agent.observe(observation, info)
    turns = []
    for action in actions:
        prompt, shown, ids = agent.prompt(), agent.observation, chat.reply(action)
        agent.act(ids)
        observation, _, _, _, info = env.step(action)
        invalid = "refused" if info["invalid_action"] else ""
        details = {"observation": shown, "text": action, "action": action, "invalid_action": invalid}
        turns.append(Turn(prompt.added, ids, (0.0,) * len(ids), info=details))
        agent.observe(observation, info)
    last = {"last_observation": agent.observation, "max_steps": len(actions), "won": False}
    return Trajectory(task_id, "g", "e", tuple(turns), StopReason.STEP_LIMIT, rewards={"env": 0.0}, info=last)


# A mug is to be heated; countertop 1 holds none, countertop 2 holds mug 3.
WANDERING = ["go to countertop 1", "look", "go to countertop 2", "go to fridge 1", "open fridge 1", "look", "look"]


@pytest.fixture(scope="module")
def seed_policy():
    return load_model(seed_policy_path(), device="cpu")


@pytest.fixture(scope="module")
def chat(seed_policy):
    return chat_format(seed_policy[1], CARD)


def test_a_report_and_its_guidance_become_few_tokens_and_decode_to_the_same_text(small):
    model, tokenizer = small
    text = guidance_text(REPORT)
    words = "".join(
        filter(None, (REPORT.trajectory_summary, REPORT.root_cause_analysis, REPORT.improvement_suggestion))
    )
    add_pieces(model, tokenizer, report_pieces(30))
    ids = tokenizer.encode(text, add_special_tokens=False)
    # head, opening, keys twice, ending, tail
    assert len(ids) == len(tokenizer.encode(words, add_special_tokens=False)) + 6
    assert tokenizer.decode(ids) == tokenizer.decode(ids, skip_special_tokens=True) == text
    success = format_report(Report("done.", None, Outcome.SUCCESS, None, None))
    assert len(tokenizer.encode(success)) == len(tokenizer.encode("done.")) + 2
    assert parse_report(tokenizer.decode(tokenizer.encode(success)), 3) == Report(
        "done.", None, Outcome.SUCCESS, None, None
    )


def test_every_turn_and_pivot_up_to_the_limit_is_one_token(small):
    model, tokenizer = small
    add_pieces(model, tokenizer, report_pieces(12))
    assert all(len(tokenizer.encode(f"[{k}]")) == 1 for k in range(12))
    assert len(tokenizer.encode("[12]")) == 4
    ends = {tuple(tokenizer.encode(format_report(Report("", "", Outcome.FAILURE, "", k)))[-1:]) for k in range(12)}
    assert len(ends) == 12


def test_other_text_is_tokenised_as_before(small, env):
    model, tokenizer = small
    first, _ = env.reset(options={"task_id": env.task_ids("train")[3]})
    texts = [*TEXTS, first, 'a "quoted" {json: 1}', "wrong", "Goal", "ünïcode 🙂", "<|user|>x<|assistant|>y<|end|>"]
    before = [tokenizer.encode(text) for text in texts]
    add_pieces(model, tokenizer, report_pieces(50, ["Goal:", " was wrong."]))
    assert [tokenizer.encode(text) for text in texts] == before


def test_the_shipped_tokenizer_splits_the_texts_of_games_as_it_did_without_the_pieces(env):
    whole = json.loads((seed_policy_path() / "tokenizer.json").read_text(encoding="utf-8"))
    special = [token for token in whole["added_tokens"] if token["special"]]
    assert len(special) == len(whole["added_tokens"]) - 113
    with_pieces = Tokenizer.from_str(json.dumps(whole))
    without = Tokenizer.from_str(json.dumps({**whole, "added_tokens": special}))
    for task_id in env.task_ids("train")[::700]:
        first, _ = env.reset(options={"task_id": task_id})
        texts = [first]
        player, observation, ended = env.expert(first, np.random.default_rng(0), noise=0.2), first, False
        while not ended:
            action = player.act(observation)
            observation, _, won, cut, _ = env.step(action)
            ended = won or cut
            texts += [action, observation]
        for text in texts:
            assert with_pieces.encode(text).ids == without.encode(text).ids


def test_new_tokens_begin_apart_from_each_other_and_the_rest_keeps_its_weights(small):
    model, tokenizer = small
    old = model.get_input_embeddings().weight.detach().clone()
    state = torch.get_rng_state()
    assert add_pieces(model, tokenizer, ["[12]", "[21]", "["]) == 2  # the bracket alone was a token already
    assert torch.equal(torch.get_rng_state(), state)
    new = model.get_input_embeddings().weight.detach()
    assert torch.equal(new[: len(old)], old)
    first, second = (new[tokenizer.encode(piece)[0]] for piece in ("[12]", "[21]"))
    assert torch.cosine_similarity(first, second, dim=0) < 0.9
    assert torch.isclose(first.norm(), old.norm(dim=1).quantile(0.1))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.config.vocab_size == len(new) == len(tokenizer)
    assert add_pieces(model, tokenizer, ["[12]"]) == 0


def test_a_report_row_is_the_conversation_that_asks_for_it_and_weighs_the_report_most(env, chat):
    episode = played(env, chat, WANDERING)
    row = report_row(CARD, chat, episode, REPORT, [("Find mug.", "Seen: no mug."), ("[1]", "[1] look.")], 0.05)
    text = chat.text(row.ids)
    assert chat.text(row.ids[row.is_action]) == format_report(REPORT) + "Seen: no mug.[1] look."
    assert text.endswith(format_report(REPORT) + "Find mug.Seen: no mug.[1][1] look.")
    assert "> go to countertop 2\n[3] " in text
    assert set(row.weights[row.is_action]) == {1.0}
    assert set(row.weights[~row.is_action]) == {np.float32(0.05)}


def test_a_guided_row_trains_the_expert_after_the_pivot_and_nothing_before(env, chat):
    episode = played(env, chat, WANDERING)
    report = lesson_report(env, episode)
    assert report is not None
    assert (report.retry_from_step, report.root_cause_analysis) == (3, "[3] go to fridge 1 was wrong.")
    row = guided_row(env, chat, ChatAgent(CARD, chat), episode, report, 0.3)
    assert row is not None
    text, trained = chat.text(row.ids), chat.text(row.ids[row.is_action])
    assert text.count(guidance_text(report)) == 1
    assert text.index("go to countertop 2") < text.index("An earlier attempt") < text.index("take mug 3")
    assert text.count("You arrive at countertop 2.") == 1  # the pivot's observation, after the note
    assert trained.startswith("take mug 3 from countertop 2go to microwave 1heat mug 3 with microwave 1")
    first = int(row.is_action.argmax())
    assert not row.weights[:first].any()
    assert set(row.weights[first:][~row.is_action[first:]]) == {np.float32(0.3)}


def test_a_guided_row_from_the_first_turn_has_the_note_in_the_system_prompt(env, chat):
    episode = played(env, chat, WANDERING)
    report = lesson_report(env, episode, at_start=True)
    assert report is not None
    row = guided_row(env, chat, ChatAgent(CARD, chat), episode, report, 0.3)
    assert row is not None
    text = chat.text(row.ids)
    assert text.index("An earlier attempt") < text.index("Welcome")
    assert "go to countertop 1" not in text
    assert chat.text(row.ids[row.is_action]).startswith("go to countertop 2take mug 3")


def test_a_retry_that_the_expert_loses_is_left_out(env, chat):
    short = ALFWorldEnv(admissible=False, max_steps=5)
    episode = played(env, chat, WANDERING[:4])
    report = lesson_report(env, episode)
    assert report is not None
    assert guided_row(short, chat, ChatAgent(CARD, chat), episode, report, 0.3) is None


def test_an_agent_that_rewrites_its_history_has_no_guided_row(env, chat):
    card = load_card(AgentSection(card="window"))
    episode = played(env, chat, WANDERING)
    report = lesson_report(env, episode)
    assert report is not None
    assert guided_row(env, chat, ChatAgent(card, chat), episode, report, 0.3) is None


def test_an_episode_cut_off_early_reads_as_if_the_limit_had_been_there(env, chat):
    whole, part = played(env, chat, WANDERING), played(env, chat, WANDERING[:4])
    cut = cut_off(whole, 4)
    assert cut.turns == part.turns
    assert cut.info["last_observation"] == part.info["last_observation"]
    assert (cut.info["max_steps"], cut.episode_return, cut.won) == (4, 0.0, False)


def test_rows_of_a_policys_episodes_are_the_same_for_the_same_seed(env, seed_policy, chat):
    section = SftSection(reflection_share=0.5, guided_share=0.5, episodes=6, episode_steps=12)
    options = {"admissible": False}
    config = SftConfig(init="seed", env=EnvSection(options=options), sft=section)
    rows = []
    for _ in range(2):
        episodes = play_episodes(config, CARD, env, *seed_policy)
        assert len(episodes) == 6
        rows.append(experience_rows(config, env, CARD, chat, episodes))
    for first, second in zip(itertools.chain(*rows[0]), itertools.chain(*rows[1]), strict=True):
        assert np.array_equal(first.ids, second.ids)
        assert np.array_equal(first.weights, second.weights)
    assert len(rows[0][0]) >= 6
    assert all(len(row.ids) <= 2048 for row in itertools.chain(*rows[0]))


def row_of(kind: int) -> SftRow:
    return SftRow(np.array([kind]), np.array([True]))


def test_a_mixture_has_the_shares_that_were_asked_for_and_passes_over_all_rows():
    section = SftSection(reflection_share=0.5, guided_share=0.2)
    reports = [row_of(10 + i) for i in range(40)]
    stream = mixed(itertools.repeat(row_of(0)), reports, [row_of(2)], section, seed=0)
    kinds = [int(row.ids[0]) for row in itertools.islice(stream, 4000)]
    assert np.mean([kind >= 10 for kind in kinds]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([kind == 2 for kind in kinds]) == pytest.approx(0.2, abs=0.03)
    assert sorted([kind for kind in kinds if kind >= 10][:40]) == list(range(10, 50))


def test_a_share_without_a_row_is_refused():
    section = SftSection(guided_share=0.2)
    with pytest.raises(DataError, match=r"No retry came from 1800 episodes"):
        next(mixed(itertools.repeat(row_of(0)), [row_of(1)], [], section, seed=0))


def test_a_run_with_reports_trains_from_the_seed_policy_and_extends_its_tokenizer(env):
    config = load_sft_config(
        "seed_reflect",
        [
            (["sft", "tokens"], 600),
            (["sft", "batch_tokens"], 3_000),
            (["sft", "episodes"], 8),
            (["sft", "episode_steps"], 8),
        ],
    )
    model, tokenizer = load_model(seed_policy_path(), device="cpu")
    steps: list[dict[str, float]] = []
    assert train_sft(config, env, CARD, model, tokenizer, steps.append) == len(steps) > 0
    assert len(tokenizer) == model.config.vocab_size
    assert len(tokenizer.encode("[49]")) == len(tokenizer.encode(" was wrong.")) == 1


@pytest.mark.parametrize(("report_tokens", "num_added"), [(True, 1), (False, 0)])
def test_the_tokenizer_is_extended_only_if_reports_are_to_have_tokens_of_their_own(env, report_tokens, num_added):
    given = {"tokens": 50, "episodes": 2, "episode_steps": 4, "phrases": [" strangely so."]}
    given["report_tokens"] = report_tokens
    model, tokenizer = load_model(seed_policy_path(), device="cpu")
    num_before = len(tokenizer)
    train_sft(load_sft_config("seed_reflect", [(["sft"], given)]), env, CARD, model, tokenizer, lambda row: None)
    assert len(tokenizer) - num_before == num_added


def test_shares_of_more_than_all_rows_are_refused():
    with pytest.raises(ConfigError, match="add up to more than 1"):
        load_sft_config(None, [(["sft"], {"reflection_share": 0.7, "guided_share": 0.6})])


def test_a_card_of_another_name_makes_no_difference_to_the_pieces():
    assert parse_card({"name": "x"}).reflect.max_tokens >= 64
    assert report_pieces(3) == report_pieces(3)
