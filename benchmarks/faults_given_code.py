"""Files that were given must run no code, and send no key anywhere."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from fault_case import Case, agentgym, python
from fault_runs import QUICK, SWITCH, small_policy, train

KIND = "code in files"
TOUCHES = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"


def called_from_a_configuration(folder: Path) -> None:
    """A configuration names a function of the standard library as its environment."""
    target = folder / "made"
    (folder / "config.yaml").write_text(f"env:\n  id: os:mkdir\n  options: {{path: {target}}}\n")
    given = ("train", "--recipe", "config.yaml", "--out", "run")
    agentgym(*given, cwd=folder).refused("names code to run, 'os:mkdir'")
    agentgym(*given, "--trust", cwd=folder).refused("class of environments")
    assert not target.exists(), "the function was called"


def module_beside_a_run(folder: Path) -> None:
    """A run, a recipe and a panel name a module that came with them; every command that plays reads them."""
    (folder / "given.py").write_text(TOUCHES)
    (folder / "run" / "trajectories").mkdir(parents=True)
    (folder / "run" / "config.yaml").write_text("env: {id: 'given:Env'}\n")
    digest = hashlib.sha256(b"a\x0000\n").hexdigest()
    panel = {"format": "agentgym-panel", "version": 1, "env": "given:Env", "split": "test", "options": {}}
    tasks = {"held_out_of": None, "panel_hash": digest, "tasks": [{"id": "a", "content": "00"}]}
    (folder / "panel.json").write_text(json.dumps(panel | tasks))
    for command in (
        "train --resume run",
        "train --recipe run/config.yaml",
        "eval --policy run",
        "eval --policy random --panel panel.json",
        "bench run",
        "explore --follow run",
        "replay run/trajectories/step_000001.jsonl.zst",
    ):
        agentgym(*command.split(), cwd=folder).refused("names code to run, 'given:Env'", "add --trust")
    agentgym("view", "run", cwd=folder).ended(0)
    assert not (folder / "given.ran").exists(), "the module was imported"


def own_run(folder: Path) -> None:
    """A run of an environment that its user named goes on, and is evaluated and replayed, without a further word."""
    train(folder)
    agentgym("train", "--resume", "run", "--steps=2", cwd=folder).ended(0)
    agentgym("replay", "run/trajectories/step_000001.jsonl.zst", cwd=folder).ended(0)


class _Calls:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self._path,))


def pickle_in_a_checkpoint(folder: Path) -> None:
    """A checkpoint describes its tensors with a pickle that calls a function; its checksums are right."""
    train(folder)
    checkpoint = folder / "run" / "checkpoints" / "step-000001"
    description = checkpoint / "trainer" / ".metadata"
    description.write_bytes(pickle.dumps(_Calls(folder / "made")))
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    name = str(description.relative_to(checkpoint))
    assert name in manifest["files"], sorted(manifest["files"])
    content = description.read_bytes()
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    agentgym("train", "--resume", "run", "--steps=2", cwd=folder).refused("it names")
    assert not (folder / "made").exists(), "the function was called"


def library_in_the_working_directory(folder: Path) -> None:
    """Files in the working directory have the names of libraries."""
    for name in ("json", "yaml", "typer", "torch"):
        (folder / f"{name}.py").write_text(TOUCHES)
    script = Path(sys.executable).with_name("agentgym")  # `python -m` puts the directory first by itself
    given = ("train", "--env", SWITCH, "--policy", small_policy(), "--steps=1", "--out=run", "--workers=processes")
    python(script, *given, *QUICK, "--rollout.processes.num_processes=1", cwd=folder).ended(0)
    assert not list(folder.glob("*.ran")), "a file of the working directory hides a library"


@contextlib.contextmanager
def server(redirect: str = "") -> Iterator[tuple[str, list[str]]]:
    """Serve at an address, and note the token of each request; with `redirect`, send on to there."""
    tokens: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            tokens.append(self.headers.get("Authorization", ""))
            self.send_response(307 if redirect else 404)
            self.send_header("Location", redirect)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None: ...

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{found.server_port}/v1", tokens
    finally:
        found.shutdown()
        found.server_close()


def endpoint_in_a_recipe(folder: Path) -> None:
    """A recipe names an endpoint that reflects, which would be sent `OPENAI_API_KEY`."""
    with server() as (url, tokens):
        reflect = f"{{strategy: reflect_retry, reflect: {{reflector: 'openai:m@{url}', trigger: always}}}}"
        (folder / "r.yaml").write_text(f"rollout: {reflect}\n")
        given = ("train", "--env", SWITCH, "--policy", small_policy(), "--recipe", "r.yaml", "--out", "run")
        agentgym(*given, cwd=folder, env={"OPENAI_API_KEY": "secret"}).refused("an address to send texts", url)
        assert not tokens, f"the endpoint was sent {tokens}"


def endpoint_that_redirects(folder: Path) -> None:
    """An endpoint that the user named sends its requests on to another host."""
    with server() as (elsewhere, tokens), server(elsewhere) as (url, asked):
        given = ("eval", "--env", SWITCH, "--policy", f"openai:m@{url}", "--tasks=1")
        ended = agentgym(*given, cwd=folder, env={"OPENAI_API_KEY": "secret"})
        assert ended.code == 1, f"exit {ended.code}: {ended.err[-300:]}"
        assert set(asked) == {"Bearer secret"}, asked
        assert not tokens, f"the other host was sent {tokens}"


CASES = (
    Case(KIND, "`env.id: os:mkdir` in a configuration", called_from_a_configuration),
    Case(KIND, "a run, a recipe and a panel name a module that came with them", module_beside_a_run),
    Case(KIND, "one's own run goes on without `--trust`", own_run),
    Case(KIND, "a pickle in a checkpoint calls a function", pickle_in_a_checkpoint),
    Case(KIND, "files in the working directory have the names of libraries", library_in_the_working_directory),
    Case(KIND, "an endpoint in a recipe waits for the key", endpoint_in_a_recipe),
    Case(KIND, "an endpoint sends the key on to another host", endpoint_that_redirects),
)
