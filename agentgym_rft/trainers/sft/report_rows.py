"""Rows that teach a policy to report on its own episodes and to use a report in a retry.

A starting policy plays, and hindsight labels its episodes (`rollouts/reflection/hindsight.py`). Each labelled episode
gives a row "episode -> report". A failed one also gives a row "turns before the pivot, guidance, an expert's turns".
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from agentgym_rft.agents.agent import ChatAgent
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.reflect import Outcome, Report, format_report, guidance_text, reflection_messages
from agentgym_rft.config.sft import SftConfig, SftSection
from agentgym_rft.core import StopReason, Trajectory, rounded_sum
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.making import make_env
from agentgym_rft.errors import DataError
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.reflection.hindsight import lesson_report, read_steps
from agentgym_rft.rollouts.sampler import TaskSampler
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.workers.local import LocalWorkers
from agentgym_rft.trainers.sft.demonstrations import Learner, play_on
from agentgym_rft.trainers.sft.rows import SftRow, sft_rows

MIN_CUT = 4  # turns of the shortest episode that is cut off early
SHORT_CUT = 12
START_SHARE = 0.4  # of the guided retries begin at the first turn, whatever the pivot is
PLACES = 64  # episodes at once


def play_episodes(config: SftConfig, card: AgentCard, env: TextEnv, model: Any, tokenizer: Any) -> list[Trajectory]:
    """Return episodes of the model at temperature 1 in shuffled tasks of the split, without those that broke."""
    section, seed = config.sft, config.run.seed
    policy = HFPolicy(model, max_concurrency=PLACES, max_context=config.model.max_context)
    workers = LocalWorkers(
        partial(make_env, config.env.id, config.env.options),
        card,
        tokenizer,
        policy,
        max_concurrency=PLACES,
        max_context=config.model.max_context,
    )
    tasks = TaskSampler(env.task_ids(config.env.split), derive_seed(seed, "episodes")).draw(section.episodes)

    async def play_all() -> list[Trajectory]:
        specs = [
            EpisodeSpec(
                task_id=task_id,
                group_id=task_id,
                episode_id=f"{number}",
                seed=derive_seed(seed, "episodes", number),
                temperature=1.0,
                max_steps=section.episode_steps,
                max_context=config.model.max_context,
            )
            for number, task_id in enumerate(tasks)
        ]
        return list(await asyncio.gather(*(workers.play(spec) for spec in specs)))

    played = workers.run(play_all)
    workers.close()
    return [trajectory for trajectory in played if trajectory.turns and not trajectory.is_error]


def cut_off(trajectory: Trajectory, num_turns: int) -> Trajectory:
    """Return the episode as it would have been with a step limit of `num_turns`, fewer than it has."""
    info = {
        **trajectory.info,
        "won": False,
        "score": 0.0,
        "max_steps": num_turns,
        "last_observation": trajectory.turns[num_turns].info["observation"],
    }
    turns = trajectory.turns[:num_turns]
    rewards = {"env": rounded_sum(turn.reward for turn in turns)}
    return replace(trajectory, turns=turns, stop_reason=StopReason.STEP_LIMIT, rewards=rewards, info=info)


def report_row(
    card: AgentCard,
    chat: ChatFormat,
    trajectory: Trajectory,
    report: Report,
    questions: Sequence[tuple[str, str]],
    transcript_weight: float,
) -> SftRow:
    """Return the conversation that asks for a report, the report, and questions with answers after it.

    Report and answers weigh 1, the transcript and the questions less. Where a conversation does not grow, the questions
    are left out.
    """
    parts = [chat.opening(reflection_messages(card, trajectory)), chat.reply(format_report(report))]
    for question, answer in questions if chat.is_growing else ():
        parts += [chat.following(question, parts[-1][-1]), chat.reply(answer)]
    ids = np.array([i for part in parts for i in part], np.int64)
    is_action = np.repeat([index % 2 == 1 for index in range(len(parts))], [len(part) for part in parts])
    return SftRow(ids, is_action, np.where(is_action, 1.0, transcript_weight).astype(np.float32))


def guided_row(
    env: TextEnv, chat: ChatFormat, agent: ChatAgent, trajectory: Trajectory, report: Report, context_weight: float
) -> SftRow | None:
    """Return a retry: the episode's turns before the pivot, the guidance, an expert's turns; None if the expert lost.

    Nothing weighs anything up to the expert's first action: neither the old turns nor the note is to be imitated. None
    as well for an agent that rewrites its history, whose retries are not one row.
    """
    pivot = report.retry_from_step or 0
    first, steps = read_steps(env, replace(trajectory, turns=trajectory.turns[:pivot]))
    observation, info = env.reset(options={"task_id": trajectory.task_id})
    agent.observe(observation, info)
    prefix = []
    for turn, (action, _) in zip(trajectory.turns, steps, strict=False):
        prompt = agent.prompt()
        _, parsed = agent.act(turn.action_ids)
        prefix.append(replace(turn, context_ids=prompt.added, restart=prompt.restart, trainable=False))
        if action:
            observation, _, _, _, info = env.step(action)
        agent.observe(observation if action else agent.invalid_feedback(parsed), info)
    agent.inject(guidance_text(report))
    expert = env.resumed_expert(first, steps, report.improvement_suggestion or "")
    learner = Learner(agent, chat)
    stop = play_on(env, {"": learner}, expert, (observation, info))[""]
    retry = replace(trajectory, turns=(*prefix, *learner.turns), stop_reason=stop)
    rows = list(sft_rows(retry, sys.maxsize))
    if not retry.won or len(rows) != 1:
        return None
    row = rows[0]
    num_before = sum(len(turn.context_ids) + len(turn.action_ids) for turn in prefix) + len(
        learner.turns[0].context_ids
    )
    is_action = row.is_action & (np.arange(len(row.ids)) >= num_before)
    weights = np.where(is_action, 1.0, context_weight).astype(np.float32)
    weights[:num_before] = 0.0
    return SftRow(row.ids, is_action, weights)


def experience_rows(
    config: SftConfig, env: TextEnv, card: AgentCard, chat: ChatFormat, episodes: Sequence[Trajectory]
) -> tuple[list[SftRow], list[SftRow]]:
    """Return rows of reports and rows of guided retries, from a policy's episodes. Rows that are too long are left out.

    Every failure is also reported on as it stood at two earlier, random turns, the second within the first `SHORT_CUT`:
    so reports do not depend on the length of an episode, and short ones are cheap to learn from.

    Raises:
        DataError: the environment cannot tell distances.
    """
    section = config.sft
    rng = np.random.default_rng(derive_seed(config.run.seed, "reports"))
    reports: list[SftRow] = []
    guided: list[SftRow] = []
    for episode in episodes:
        for version in _versions(episode, rng):
            questions = env.quiz(*read_steps(env, version), rng, section.questions)
            label = _label(env, version)
            reports.append(report_row(card, chat, version, label, questions, section.transcript_weight))
        label = _label(env, episode, at_start=rng.random() < START_SHARE)
        if label.trajectory_outcome is Outcome.FAILURE:
            row = guided_row(env, chat, ChatAgent(card, chat), episode, label, section.context_weight)
            guided += [] if row is None else [row]
    limit = config.model.max_context
    return [row for row in reports if len(row.ids) <= limit], [row for row in guided if len(row.ids) <= limit]


def _versions(episode: Trajectory, rng: np.random.Generator) -> list[Trajectory]:
    length = len(episode.turns)
    if episode.won or length <= MIN_CUT:
        return [episode]
    return [
        episode,
        *(cut_off(episode, int(rng.integers(MIN_CUT, limit))) for limit in (length, min(length, SHORT_CUT))),
    ]


def _label(env: TextEnv, episode: Trajectory, *, at_start: bool = False) -> Report:
    report = lesson_report(env, episode, at_start=at_start)
    if report is None:
        raise DataError(f"{type(env).__name__} cannot tell distances, which the labels of reports need.")
    return report


def mixed(
    demonstrated: Iterator[SftRow], reports: Sequence[SftRow], guided: Sequence[SftRow], section: SftSection, seed: int
) -> Iterator[SftRow]:
    """Yield rows without end of the three kinds by their shares; reports and retries come in shuffled passes.

    Raises:
        DataError: there is no row of a kind that has a share.
    """
    for rows, share, what in ((reports, section.reflection_share, "report"), (guided, section.guided_share, "retry")):
        if share > 0 and not rows:
            raise DataError(f"No {what} came from {section.episodes} episodes; raise sft.episodes.")
    rng = np.random.default_rng(derive_seed(seed, "mixture"))
    passes = _passes(reports, rng), _passes(guided, rng)
    while True:
        draw = float(rng.random())
        if draw < section.reflection_share:
            yield next(passes[0])
        elif draw < section.reflection_share + section.guided_share:
            yield next(passes[1])
        else:
            yield next(demonstrated)


def _passes(rows: Sequence[SftRow], rng: np.random.Generator) -> Iterator[SftRow]:
    while True:
        for index in rng.permutation(len(rows)):
            yield rows[index]
