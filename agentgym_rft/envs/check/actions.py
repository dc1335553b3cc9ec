"""Rules of the environment contract about what an agent may write, and about state keys."""

from __future__ import annotations

from agentgym_rft.envs.check.rules import check_observation
from agentgym_rft.envs.check.subject import Observed, Subject, fail, record, replay, require, require_equal, short
from agentgym_rft.errors import message_of

# Digits are among them: Python calls '²' a digit and reads no number from it, nor from more than 4,300 digits.
_ODD_TEXTS = (
    "",
    " \t\n",
    "".join(map(chr, range(32))) + "\x7f\x9b",
    "go to the moon 1",
    "take {0} %s %(x)s from $HOME \\1",
    "Größe 大小 🏠 \u202e e\u0301\u200d",
    "²",
    "٣",
    "-1",
    "1e999",
    "9" * 5000,
    "\ud800",
    "look \udfff[x]",
    "<action>look</action>",
    "search[]",
    "]][[((",
    '{"action": null}',
    "look\nlook\nlook",
    "\u2028\ufeff\uffff",
)
_LONG = 1_000_000
_END_TAG = "</action>"


def any_text_is_an_action(subject: Subject) -> None:
    """Check that any text is answered with text, never with an exception: what a language model writes is data.

    Empty, control characters, every code point, lone surrogates, odd numbers, markup, and a million characters: the
    answer to a text as long as that may be longer than the observation space allows.
    """
    env = subject.make()
    for text in (*_ODD_TEXTS, *_near(subject.start(env)), "a" * _LONG, "look " * (_LONG // 5), _every_code_point()):
        subject.start(env)
        try:
            seen = Observed.from_step(env, text)
        except Exception as error:  # any error here breaks the rule
            fail(f"the action {_named(text)} raises {type(error).__name__}: {short(message_of(error))}.")
        require(isinstance(seen.observation, str), f"the action {_named(text)} is not answered with text.")
        answer = seen.observation[: _LONG // 10] if len(text) >= _LONG else seen.observation
        check_observation(env, answer, f"the action {_named(text)}")


def admissible_actions_can_be_said(subject: Subject) -> str:
    """Check that a reply can hold every admissible action.

    White space at the ends of a reply, line breaks and runs of spaces are not kept, so an action with these has to be
    done without them, too. None may be empty or hold the tag that ends an action.
    """
    first, second = subject.make(), subject.make()
    num_actions = 0
    for task_id in subject.tasks():
        actions, seen = record(first, subject.start(first, task_id, seed=1), 1)
        for turn, point in enumerate(seen):
            listed: list[str] = point.info.get("admissible_actions") or []
            num_actions += len(listed)
            for action in listed:
                said = " ".join(action.split())
                is_held = bool(said) and _END_TAG not in said
                require(is_held, f"no reply can hold the admissible action {_named(action)}.")
                if said != action:
                    answers = []
                    for env, text in ((first, action), (second, said)):
                        subject.start(env, task_id, seed=1)
                        answers.append(replay(env, [*actions[:turn], text]))
                    what = f"the admissible action {_named(action)} with its white space folded, as in a reply, differs"
                    require_equal(answers[0], answers[1], what)
    return f"{num_actions} actions"


def _near(start: Observed) -> list[str]:
    """Return texts close to an action that is possible, if any is listed."""
    actions: list[str] = start.info.get("admissible_actions") or []
    return [
        variant
        for action in actions[:2]
        for variant in (f" {action} ", f"{action}\x00", action.upper(), f"{action} " * 9)
    ]


def _every_code_point() -> str:
    return "".join(map(chr, range(0x110000)))


def _named(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:20]!r}... of {len(text)} characters"


def state_keys_tell_states_apart(subject: Subject) -> None:
    """Check that `state_key` differs between the starts of two tasks, and does not stay while the episode changes."""
    env = subject.make()
    starts = [subject.start(env, task_id) for task_id in subject.tasks()]
    keys = [start.info["state_key"] for start in starts]
    require(
        len(set(keys)) == len(keys),
        f"info['state_key'] is {short(keys[0])} at the start of two tasks; put the task in.",
    )
    for seed in range(3):
        _, seen = record(env, subject.start(env, seed=seed), seed)
        stays = len({point.info["state_key"] for point in seen}) == 1
        scores = {(point.info["score"], point.info["won"]) for point in seen}
        require(
            not stays or len(scores) == 1,
            f"info['state_key'] stays {short(keys[0])} while the score changes; equal keys mean equal states.",
        )
