"""The journal of a run: one line for each completion since its last checkpoints.

A resumed run does not sample it again.

    journal/after-000010.jsonl      sampled after the checkpoint of step 10 and before the next one

A line, checksum and JSON, is given to the operating system before the episode continues, so it survives a kill of the
process, though not a loss of power. A last line that a kill cut off is dropped, and so is one that has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from pydantic import TypeAdapter

from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.errors import DataError, StorageError
from agentgym_rft.json_text import checked_json, with_checksum, without_checksum
from agentgym_rft.store.files import open_to_append

_WITHOUT = "Runs with --run.journal=false write none."
_PREFIX, _SUFFIX = "after-", ".jsonl"
_Line = tuple[str, str, list[int], list[float], Literal["stop", "length"], int]
_LINE: TypeAdapter[_Line] = TypeAdapter(_Line)


def request_digest(request: SampleRequest, weights: str) -> str:
    """Return a hash of all that determines a completion: the request and the digest of the weights."""
    limits = [weights, request.cache_key, request.max_new_tokens, request.stop_ids, request.temperature, request.seed]
    limits += [request.policy] if request.policy else []
    digest = hashlib.blake2b(json.dumps(limits).encode(), digest_size=16)
    digest.update(np.asarray(request.prompt_ids, dtype=np.int64).tobytes())
    return digest.hexdigest()


class Journal:
    """The journal of a run. `recorded` holds completions of earlier processes that this one has not asked for yet.

    Args:
        folder: of the journal; made if missing.
        step: of the checkpoint that the run starts from, 0 without one. Records of earlier ones are not read.
        is_new: the run starts anew, so files of another run are removed.
    Raises:
        DataError: the folder cannot be written.
    """

    def __init__(self, folder: Path, step: int = 0, *, is_new: bool = False) -> None:
        self._folder = folder
        self.recorded: dict[tuple[str, int], dict[str, Completion]] = {}  # by cache key and version, then by digest
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number, path in self._files():
                if is_new:
                    path.unlink()
                elif number >= step:
                    self._read(path)
            self._file = self._open(step)
        except OSError as error:
            raise DataError(f"Cannot write the journal '{folder}': {error.strerror}. {_WITHOUT}") from error

    @property
    def num_recorded(self) -> int:
        """Completions that need not be sampled again."""
        return sum(map(len, self.recorded.values()))

    def append(self, key: str, digest: str, completion: Completion) -> None:
        """Add what was sampled for a request. Raises `StorageError` where the disk refuses."""
        body = [key, digest, completion.ids, completion.logprobs, completion.stop, completion.policy_version]
        try:
            self._file.write(with_checksum(json.dumps(body, separators=(",", ":"))).encode("ascii") + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from error

    def checkpointed(self, step: int, keep: int) -> None:
        """A checkpoint of a step is on disk: what follows goes to a file of its own, and `keep` files are left.

        So a run that has to go back to an older checkpoint finds what was sampled after that one, too.

        Raises:
            StorageError: the disk refuses.
        """
        self.close()
        try:
            self._file = self._open(step)
            past = sorted((number, path) for number, path in self._files() if number <= step)
            for _, path in past[: max(len(past) - keep, 0)]:
                path.unlink()
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Leave the files as they are."""
        with suppress(OSError):  # a line that could not be written: that was said, and would be said again here
            self._file.close()

    def _open(self, step: int) -> BinaryIO:
        path = self._folder / f"{_PREFIX}{step:06d}{_SUFFIX}"
        file = open_to_append(path)
        if path.stat().st_size:
            file.truncate(path.read_bytes().rfind(b"\n") + 1)
        return file

    def _files(self) -> Iterator[tuple[int, Path]]:
        for path in list(self._folder.glob(f"{_PREFIX}*{_SUFFIX}")):
            number = path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
            if number.isdecimal():
                yield int(number), path

    def _read(self, path: Path) -> None:
        """Take in a file. What is on a damaged line is sampled again."""
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                body = checked_json(_LINE, without_checksum(line.decode("ascii", errors="replace")))
            except ValueError:
                continue
            key, digest, ids, logprobs, stop, version = body
            completion = Completion(tuple(ids), tuple(logprobs), stop, version)
            self.recorded.setdefault((key, version), {})[digest] = completion

    def _refused(self, error: OSError) -> StorageError:
        return StorageError(
            f"Cannot write the journal '{self._folder}': {error.strerror}. The checkpoints are as they were: make room "
            f"and go on with --resume. {_WITHOUT}"
        )


def weights_digest(weights: Any) -> str:
    """Return a hash of a few numbers of every tensor: any training step changes it, and it costs next to nothing.

    `weights` maps names to torch tensors; this module does without torch.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(weights):
        tensor = weights[name].detach().reshape(-1)
        some = tensor[:: max(tensor.numel() // _SAMPLES, 1)].float().cpu().numpy()
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(some).tobytes())
    return digest.hexdigest()


_SAMPLES = 256  # numbers taken of a tensor
