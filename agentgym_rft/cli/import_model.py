"""`agentgym import-model`: makes a policy directory of a GGUF file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentgym_rft.errors import ConfigError, DataError, PolicyError
from agentgym_rft.report.terminal import say

if TYPE_CHECKING:
    from agentgym_rft.agents.chat import ChatFormat

_CONTEXT = 8192  # of the command to try next: enough for an episode of household tasks


def import_model_command(
    file: Annotated[Path, typer.Argument(help="A language model in GGUF format.")],
    out: Annotated[Path, typer.Option(help="Directory to write, in Hugging Face format.")],
    chat_template: Annotated[
        Path | None, typer.Option(help="File with a chat template (Jinja), in place of the model's own.")
    ] = None,
) -> None:
    """Write the model of a GGUF file, its weights unpacked, with tokenizer and chat template as a policy directory.

    The directory is read again and must answer some prompts with the same tokens, or none is left. An existing
    directory is never overwritten.
    """
    from agentgym_rft.agents.policies.gguf_file import (
        check_extra,
        read_header,
        read_model,
        read_tokenizer,
        write_policy,
    )

    _check_out(out)
    template = None if chat_template is None else _read_template(chat_template)
    check_extra()
    header = read_header(file)
    tokenizer = read_tokenizer(file, template)
    chat = _checked_chat(tokenizer, chat_template or file)
    say(f"reading {file}")
    model = read_model(file, header)
    write_policy(out, model, tokenizer)
    for line in _summary(out, model, tokenizer, chat):
        say(line)


def _check_out(out: Path) -> None:
    """Refuse a directory that cannot be written now, not after the work."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"'{out}' exists already and is left as it is: choose another --out.")
    try:
        tempfile.TemporaryFile(dir=next(path for path in out.absolute().parents if path.exists())).close()
    except OSError as error:
        raise ConfigError(f"Cannot write '{out}': {error.strerror}. Choose another --out.") from error


def _read_template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"The chat template '{path}' cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The chat template '{path}' is no text in UTF-8.") from error


def _checked_chat(tokenizer: Any, source: Path) -> ChatFormat:
    """Return the chat format of a tokenizer. Raises `DataError` if its template is of no use to agents."""
    from agentgym_rft.agents.agent import chat_format
    from agentgym_rft.agents.card import load_card
    from agentgym_rft.config.run import AgentSection

    try:
        return chat_format(tokenizer, load_card(AgentSection()))
    except PolicyError as error:
        raise DataError(f"The chat template of '{source}' cannot be used. {error}") from error


def _summary(out: Path, model: Any, tokenizer: Any, chat: ChatFormat) -> list[str]:
    """Return what was made, and a command to try."""
    config = model.config
    context = config.max_position_embeddings
    ends = ", ".join(tokenizer.convert_ids_to_tokens(list(chat.stop_ids)))
    return [
        f"model {out}: {config.model_type}, {model.num_parameters():,} parameters, "
        f"vocabulary {config.vocab_size:,}, context {context:,} tokens",
        f"chat template yes, a reply ends with {ends}",
        "read again, it answers with the same tokens",
        f"next: agentgym eval --env alfworld --policy {out} --card think --env-option admissible=true "
        f"--max-context {min(context, _CONTEXT)} --tasks 5",
    ]
