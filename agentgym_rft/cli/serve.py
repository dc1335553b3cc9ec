"""`agentgym serve`: a policy behind an OpenAI-compatible endpoint that records what agents written elsewhere do."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from agentgym_rft.agents.policies.names import model_name, renamed
from agentgym_rft.cli.settings import is_run_dir, read_run_config
from agentgym_rft.config.base import read_options
from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import Config
from agentgym_rft.errors import AgentGymError
from agentgym_rft.report.terminal import say
from agentgym_rft.serve.settings import TOKEN_VARIABLE, ServeSettings, check_exposure

POLICIES = "seed, seed:NAME, a model directory, a run (its newest checkpoint), or vllm: before any of them."

_DEFAULT = ServeSettings()
_LOOK_EVERY_S = 2.0  # how often to look for a newer checkpoint


def serve_command(
    policy: Annotated[str, typer.Option(help=POLICIES)],
    store: Annotated[Path, typer.Option(help="Experience store (a file) that finished groups are written to.")],
    follow: Annotated[
        Path | None, typer.Option(help="Run whose newer checkpoints are taken up; default: --policy, if it is a run.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address; any but this machine's own needs a token.")] = _DEFAULT.host,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: a free one.")] = _DEFAULT.port,
    token: Annotated[
        str | None, typer.Option(envvar=TOKEN_VARIABLE, help="What every request must carry, as a bearer token.")
    ] = None,
    group_size: Annotated[
        int | None, typer.Option(min=1, help="Conversations a group; default: the run's, else 8.")
    ] = None,
    max_context: Annotated[int | None, typer.Option(min=16, help="Tokens in one row; default: the run's.")] = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of a reply, where the request does not say.")
    ] = _DEFAULT.max_tokens,
    max_conversations: Annotated[int, typer.Option(min=1, help="Open at once.")] = _DEFAULT.max_conversations,
    max_turns: Annotated[int, typer.Option(min=1, help="Replies in one conversation.")] = _DEFAULT.max_turns,
    max_body: Annotated[int, typer.Option(min=1000, help="Bytes of a request.")] = _DEFAULT.max_body,
    request_timeout: Annotated[
        int, typer.Option(min=1, help="Seconds in which a client must send a whole request, or take the answer.")
    ] = _DEFAULT.request_s,
    expire: Annotated[
        float, typer.Option(min=0.001, help="Seconds after which a conversation without a request is dropped.")
    ] = _DEFAULT.expire_s,
    grace: Annotated[float, typer.Option(min=0, help="Seconds for running requests at the end.")] = _DEFAULT.grace_s,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...; default: the run's, else auto.")] = None,
    max_concurrency: Annotated[
        int | None, typer.Option(min=1, help="Rows in one forward pass; default: the run's, else 64.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of requests that name none.")] = _DEFAULT.seed,
) -> None:
    """Serve a policy to agents written elsewhere, and record their conversations for training.

    Ends with Ctrl-C, or with its terminal: running requests are answered, conversations without feedback counted.
    """
    config = _config(policy)
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "token": os.environ.get(TOKEN_VARIABLE) if token is None else token,  # Typer leaves out an empty one
        "group_size": group_size or config.rollout.group_size,
        "max_context": max_context or config.policy.max_context,
        "max_tokens": max_tokens,
        "max_conversations": max_conversations,
        "max_turns": max_turns,
        "max_body": max_body,
        "request_s": request_timeout,
        "expire_s": expire,
        "grace_s": grace,
        "seed": seed,
    }
    settings = read_options(ServeSettings, given, "The server")
    check_exposure(settings)
    policy_keys = {"device": device, "max_concurrency": max_concurrency, "max_context": settings.max_context}
    section = {key: value for key, value in policy_keys.items() if value is not None}
    config = config.model_copy(update={"policy": config.policy.model_copy(update=section)})
    served = Path(model_name(policy))
    run_dir = follow or (served if is_run_dir(served) else None)
    _serve(config, settings, store, run_dir)


def _config(policy: str) -> Config:
    """Return the configuration of the run that is served, or the defaults with the policy in them.

    A run without a checkpoint yet is served with the policy that it starts from.
    """
    path = Path(model_name(policy))
    if not is_run_dir(path):
        return validate_config({"policy": {"path": policy}})
    from agentgym_rft.store.checkpoint import has_checkpoint

    config = validate_config(read_run_config(path))
    begun = has_checkpoint(path / "checkpoints")
    name = policy if begun else renamed(policy, model_name(config.policy.path))
    return config.model_copy(update={"policy": config.policy.model_copy(update={"path": name})})


def _serve(config: Config, settings: ServeSettings, store: Path, run_dir: Path | None) -> None:
    from agentgym_rft.serve.gateway import require_extra

    require_extra()
    from agentgym_rft.rollouts.policies import load_policy_model, serve
    from agentgym_rft.serve.follow import Follower
    from agentgym_rft.serve.gateway import Gateway
    from agentgym_rft.serve.sinks import StoreSink
    from agentgym_rft.trainers.learner.interruption import interruptible

    model, tokenizer = load_policy_model(config.policy)
    policy = serve(model, config.policy, spans_versions=True)
    sink = StoreSink(store, tokenizer)
    try:
        vocab_size = model.get_input_embeddings().num_embeddings
        gateway = Gateway(policy, tokenizer, sink, settings, vocab_size=vocab_size)
        more = (signal.SIGHUP,)  # of a terminal that was closed; what was acknowledged is stored then, too
        with interruptible(lambda note: None, more=more) as stopped:  # it ends at once, and says what it stored
            gateway.start()
            try:
                follower = None if run_dir is None else Follower(run_dir, gateway.load)
                if follower is not None:
                    follower.check()
                say(f"serving {config.policy.path} at {gateway.url}, version {gateway.version}")
                say(f"store {store}")
                while not stopped.wait(_LOOK_EVERY_S):
                    gateway.check()
                    version = None if follower is None else follower.check()
                    if version is not None:
                        say(f"version {version}")
            finally:
                gateway.stop()
                _say(gateway.recorder.status())
    finally:
        sink.close()
        policy.close()


def _say(status: dict[str, Any]) -> None:
    """Print the counts of the conversations. Raises if some were lost."""
    counts = status["conversations"]
    dropped = ", ".join(f"{number} {reason}" for reason, number in counts["dropped"].items())
    say(
        f"{counts['stored']} of {counts['recorded']} conversations stored in {status['groups']['written']} groups"
        + (f"; dropped: {dropped}" if dropped else "")
    )
    if counts["lost"]:
        raise AgentGymError(f"{counts['lost']} finished conversations could not be stored and are lost; see the log.")
