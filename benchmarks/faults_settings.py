"""Settings that are odd, huge or nested without end, and endpoints that refuse some: one sentence, never a guess."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml
import zstandard
from fault_case import Case, agentgym
from fault_runs import SWITCH, small_policy, train

KIND = "settings"
_HUGE = {
    "policy.num_threads": "less than or equal to 1024",
    "policy.sampling_threads": "less than or equal to 1024",
    "rollout.num_tasks": "less than or equal to 1000000",
    "rollout.group_size": "less than or equal to 1000000",
    "rollout.processes.num_processes": "less than or equal to 1024",
    "rollout.ray.num_workers": "less than or equal to 1024",
    "trainer.num_epochs": "less than or equal to 1000",
    "trainer.lora.rank": "less than or equal to 65536",
    "trainer.learning_rate": "less than or equal to 1000000000000000000000000000000",
    "run.seed": "a whole number up to 9007199254740992",
    "trainer.steps": "a whole number up to 9007199254740992",
}
_BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))])
_FILES = {
    "aliases that stand for 2**40 values": (_BOMB, "more than 100000 values"),
    "3,000 lists in each other": ("env: " + "[" * 3000 + "]" * 3000, "more than 50 levels"),
    "a number of 5,000 hexadecimal digits": (f"run: {{seed: 0x{'f' * 5000}}}", "more than 1000 digits"),
    "a key given twice": ("trainer: {steps: 1}\ntrainer: {steps: 2}", "is given twice"),
}


def huge_numbers(folder: Path) -> None:
    """Numbers beyond all use, on the command line of every command that takes them."""
    for key, words in _HUGE.items():
        number = "1e300" if key.endswith("rate") else str(10**18)
        train(folder, f"--{key}={number}", code=2).refused(f"'{key}'", words)
    given = ("--env", SWITCH, "--policy=random", "--split=train")
    agentgym("eval", *given, f"--samples={10**9}", cwd=folder).refused("--samples")
    agentgym("eval", *given, f"--seed={10**30}", cwd=folder).refused("a whole number up to")
    agentgym("sft", "--env", SWITCH, "--out=m", f"--model.vocab_size={10**9}", cwd=folder).refused("16777216")
    served = ("serve", "--policy", small_policy(), "--store=s.db", f"--group-size={10**30}")
    agentgym(*served, cwd=folder).refused("a whole number up to")
    assert not (folder / "run").exists(), "a run was begun"


def odd_recipe(folder: Path, *, text: str, words: str) -> None:
    """A recipe that no small file should be able to be."""
    (folder / "r.yaml").write_text(text)
    agentgym("train", "--recipe=r.yaml", cwd=folder).refused("r.yaml", words)


def numbers_of_everyday(folder: Path) -> None:
    """`1e-3` is a number, also where an environment's options have no type."""
    recipe = {"env": {"id": SWITCH}, "policy": {"path": str(small_policy()), "max_context": 64}}
    text = yaml.safe_dump(recipe) + "trainer: {learning_rate: 1e-3, steps: 1}\nalgorithm: {options: {scale: 1e-3}}\n"
    (folder / "r.yaml").write_text(text)
    agentgym("train", "--recipe=r.yaml", "--trust", cwd=folder).refused("'scale'", "0.001")


def small_file_of_400_mb(folder: Path) -> None:
    """A trajectory file of 12 kB whose one line has 400 MB."""
    train(folder)
    (file,) = (folder / "run" / "trajectories").iterdir()
    file.write_bytes(zstandard.compress(b" " * 400_000_000))
    agentgym("view", "run", cwd=folder).refused(file.name)


@contextmanager
def endpoint(refused: str) -> Iterator[tuple[str, list[str]]]:
    """Serve a chat model that refuses bodies with a field. Gives its address and the fields of each request."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(",".join(sorted(body)))
            is_refused = refused in body
            reply = {"error": f"{refused} is unknown"} if is_refused else {"choices": [{"message": {"content": "red"}}]}
            self.send_response(400 if is_refused else 200)
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
        server.shutdown()


def refused_sampling(folder: Path) -> None:
    """An endpoint takes no `top_k`: it is asked without, and the result says what may differ."""
    with endpoint("top_k") as (url, asked):
        given = ("eval", "--env", SWITCH, f"--policy=openai:m@{url}", "--split=train", "--tasks=3", "--out=r.json")
        agentgym(*given, cwd=folder).ended(0, "The endpoint takes no top_p, top_k, min_p, repetition_penalty")
    result = json.loads((folder / "r.json").read_text())
    assert result["success"] == 1.0, result["success"]
    assert "takes no top_p" in result["notes"][0], result["notes"]
    assert all("top_k" in fields for fields in asked[:1]), "it was not asked for neutral sampling"


CASES = (
    Case(KIND, "huge numbers", huge_numbers),
    *(
        Case(KIND, name, functools.partial(odd_recipe, text=text, words=words))
        for name, (text, words) in _FILES.items()
    ),
    Case(KIND, "`1e-3` in options without a type", numbers_of_everyday),
    Case(KIND, "400 MB from a trajectory file of 12 kB", small_file_of_400_mb),
    Case(KIND, "an endpoint that refuses settings of sampling", refused_sampling),
)
