"""`agentgym`: the command line. Each command is one file, which is imported only to run it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, cast

import typer

from agentgym_rft.cli.ending import leave
from agentgym_rft.errors import AgentGymError, ParallelError, message_of
from agentgym_rft.report.terminal import PrintableFormatter, say
from agentgym_rft.store.under_way import REFUSED, is_disk_error
from agentgym_rft.trainers.learner.launcher import is_launched

# OpenMP threads that wait for work spin by default, and on a machine with other work that slows every step many times.
# It is read when torch is imported, which only the chosen command does.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
LONGEST = 3000  # characters of a sentence: a name in it may be as long as a file

# Name -> module and the line in `agentgym --help`.
COMMANDS = {
    "train": ("train", "Train an agent in an environment."),
    "eval": ("evaluate", "Success of a policy on a frozen panel of tasks."),
    "crossplay": ("crossplay", "Every pair of policies against or with each other, and their ratings."),
    "bench": ("bench", "Success of every checkpoint of a run, as a curve."),
    "explore": ("explore", "Play episodes into an experience store, without training."),
    "play": ("play", "Play an episode yourself."),
    "envs": ("envs", "List the registered environments."),
    "check-env": ("check_env", "Check that an environment keeps the contract."),
    "new-env": ("new_env", "Write the skeleton of an environment, with its test."),
    "sft": ("sft", "Train a model on an expert's demonstrations."),
    "serve": ("serve", "Serve a policy to agents written elsewhere, and record them."),
    "panel": ("panel", "Freeze the tasks of a split in a file, or show a panel."),
    "leaderboard": ("leaderboard", "Rank results by panel, or compare two of them."),
    "replay": ("replay", "Play stored episodes again from their action logs, and compare."),
    "import-model": ("import_model", "Make a policy directory of a GGUF file."),
    "view": ("view", "Write the report of a run."),
    "report": ("report", "Compare runs: success, entropy and its predicted change."),
}

# Keys below a mapping, such as --env.options.data, are no options of their own: they arrive as extra arguments.
_EXTRA_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True}

# Depending on its version, typer has its own copy of click or uses the installed one; this is either's usage error.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def make_app(chosen: str | None = None) -> typer.Typer:
    """Return the command line. Only the chosen command is imported; the others are there by name and help."""
    app = typer.Typer(
        help="Train LLM agents by reinforcement fine-tuning in multi-turn text environments.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name, (module, line) in COMMANDS.items():
        command = _load(module) if name == chosen else _not_chosen
        model = vars(command).get("config_model")  # of a command that takes a configuration
        if model is None:
            app.command(name, short_help=line)(command)
        else:
            app.command(name, cls=_config_class(model), short_help=line, context_settings=_EXTRA_ARGUMENTS)(command)
    return app


def _load(module: str) -> Callable[..., None]:
    command: Callable[..., None] = vars(import_module(f"agentgym_rft.cli.{module}"))[f"{module}_command"]
    return command


def _config_class(model: Any) -> Any:
    from agentgym_rft.cli.config_help import config_command

    return config_command(model)


def _not_chosen() -> None:
    raise AssertionError("a command that was not chosen ran")


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 usage or configuration, 130 interrupted."""
    with contextlib.suppress(FileNotFoundError):  # the current folder may be gone
        sys.path.append(os.getcwd())  # `--env my_module:MyEnv` finds a module there, which hides no library
    if logging.lastResort is not None:  # where warnings go
        logging.lastResort.setFormatter(PrintableFormatter())
    if not is_launched():  # launchers mean it otherwise, see `interruption.py`
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what a scheduler sends is as good as Ctrl-C
    leave(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run one command and return its exit code. An error is one sentence on stderr; a traceback if AGENTGYM_DEBUG=1."""
    try:
        app = make_app(next((arg for arg in args if not arg.startswith("-")), None))
        result = app(args=list(args), prog_name="agentgym", standalone_mode=False)
        if result == INTERRUPTED:  # what typer makes of Ctrl-C
            return _report("Interrupted.", INTERRUPTED)
        return result if isinstance(result, int) else DONE
    except (KeyboardInterrupt, typer.Abort):
        return _report("Interrupted.", INTERRUPTED)
    except _UsageError as error:
        return _report(_usage_sentence(error), USAGE)
    except REFUSED as error:
        return _report(str(error), USAGE)
    except ParallelError as error:
        _report(str(error), FAILED)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(FAILED)  # threads of the broken process group still wait, and would abort at the interpreter's end
    except BaseException as error:  # `SystemExit`, too: none is ours, and that of an environment is no success
        if isinstance(error.__context__, BrokenPipeError):  # typer's end: nobody reads on
            return FAILED
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:  # of whatever was looked for
            return _report(f"'{error.filename}' is too long for the name of a file.", USAGE)
        return _report(_failure_sentence(error), FAILED)


def _report(sentence: str, code: int) -> int:
    """Print a sentence, unless it is empty, on one line of stderr."""
    if os.environ.get("AGENTGYM_DEBUG") == "1":
        traceback.print_exc()
    if sentence:
        say(" ".join(sentence.split())[:LONGEST], fg="red", err=True)
    return code


def _usage_sentence(error: Exception) -> str:
    """Return what is wrong with the arguments; empty if there are none, because the help was printed then."""
    sentence = str(cast(Any, error).format_message())
    if not sentence:
        return ""
    return f"{sentence if sentence.endswith(('.', '?')) else f'{sentence}.'} See --help."


def _failure_sentence(error: BaseException) -> str:
    """Return the message of the package's own errors and of the disk; for any other, its type and how to get a
    traceback.
    """
    if isinstance(error, AgentGymError):
        return str(error)
    if isinstance(error, OSError) and is_disk_error(error):
        file = "" if error.filename is None else f" '{error.filename}'"
        return f"The operating system refuses{file}: {error.strerror}. Make room, or choose another place."
    text = f"{type(error).__name__}: {message_of(error)}".rstrip(": .")
    if _is_out_of_memory(error):
        smaller = "a smaller model, or lower trainer.micro_batch_tokens or policy.max_concurrency"
        return f"There is too little memory ({text}). Use {smaller}."
    return f"{text}. Set AGENTGYM_DEBUG=1 to see where it was raised."


def _is_out_of_memory(error: BaseException) -> bool:
    """Return true for what Python and torch raise: a GPU's error is a class of its own, a CPU's is not."""
    is_torch = isinstance(error, RuntimeError) and "allocate memory" in message_of(error)
    return isinstance(error, MemoryError) or is_torch or type(error).__name__ == "OutOfMemoryError"


if __name__ == "__main__":
    main()
