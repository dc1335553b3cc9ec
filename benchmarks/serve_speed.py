"""What the gateway of `agentgym serve` costs: requests a second and time added, against calling the policy directly.

    python benchmarks/serve_speed.py [--turns 30] [--at-once 1,8,32] [--repeats 3]

Each conversation has `--turns` turns of one user message (about 12 tokens) and a reply of at most 8 tokens; the model
has random weights and the size of the tests' one, so that the policy costs as little as one can. The ways:

- direct: the prompts of the same conversations, sampled by `HFPolicy` in one event loop, without recording or HTTP.
- gateway: the same conversations through `Gateway`, asked over loopback by a client in another process, which keeps a
  connection open for each conversation.
- gateway alone: as before, with a policy that answers at once: what HTTP, template and recording cost by themselves.

Both ways sample the same tokens, which is checked. The fastest of the repeats counts. Latency is what one request takes
as its client sees it; with many at once on few cores, it is mostly waiting for the others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import fmean, quantiles
from typing import Any
from urllib.parse import urlsplit

import torch
from machine import describe

from agentgym_rft.agents.card import ActionCard
from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.agents.policies.base import Completion, Policy, SampleRequest
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.config.sft import ModelSection
from agentgym_rft.core import Group
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.serve.conversation import Conversation
from agentgym_rft.serve.gateway import Gateway
from agentgym_rft.serve.settings import ServeSettings
from agentgym_rft.trainers.sft.model import build_model, train_tokenizer

MAX_CONTEXT = 2048
REPLY_TOKENS = 8
MODEL = ModelSection(
    vocab_size=300,
    hidden_size=16,
    intermediate_size=32,
    num_layers=1,
    num_heads=2,
    head_dim=8,
    max_context=MAX_CONTEXT,
)


@dataclass(frozen=True)
class Measurement:
    """Seconds in all and of each request, and the tokens that were sampled, by conversation and turn."""

    wall_s: float
    latencies: list[float]
    texts: dict[str, list[str]]


class Nowhere:
    """A sink that keeps nothing."""

    def write(self, group: Group) -> None:
        """Forget it."""

    def num_trained(self) -> None:
        """Nobody trains."""

    def close(self) -> None:
        """Nothing is open."""


def asked(name: str, turn: int) -> dict[str, str]:
    """The user's message of a turn."""
    return {"role": "user", "content": f"Task {len(name)}, {turn} turns left."}


async def direct(policy: Policy, chat: ChatFormat, names: list[str], turns: int) -> Measurement:
    """All conversations at once, without a gateway."""
    latencies: list[float] = []
    texts: dict[str, list[str]] = {name: [] for name in names}

    async def converse(name: str) -> None:
        conversation, messages = Conversation(name, 0.0), []
        for turn in range(turns):
            messages.append(asked(name, turn))
            start = time.perf_counter()
            prompt = conversation.prompt(chat, messages)
            seed = derive_seed(0, name, turn)
            request = SampleRequest(name, prompt.row, REPLY_TOKENS, chat.stop_ids, temperature=1.0, seed=seed)
            completion: Completion = await policy.sample(request)
            text = chat.text(completion.ids)
            latencies.append(time.perf_counter() - start)
            conversation.record(prompt, completion, messages, text, 1.0)
            messages.append({"role": "assistant", "content": text})
            texts[name].append(text)
        policy.release(name)

    start = time.perf_counter()
    await asyncio.gather(*map(converse, names))
    return Measurement(time.perf_counter() - start, latencies, texts)


async def ask_all(url: str, names: list[str], turns: int) -> Measurement:
    """All conversations at once over HTTP, a connection each."""
    address = urlsplit(url)
    latencies: list[float] = []
    texts: dict[str, list[str]] = {name: [] for name in names}

    async def converse(name: str) -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        messages: list[dict[str, str]] = []
        for turn in range(turns):
            messages.append(asked(name, turn))
            body = json.dumps({"messages": messages, "user": name, "max_tokens": REPLY_TOKENS}).encode()
            start = time.perf_counter()
            head = f"POST {address.path}/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            assert " 200 " in lines[0], lines
            length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
            reply: Any = json.loads(await reader.readexactly(length))
            latencies.append(time.perf_counter() - start)
            messages.append(reply["choices"][0]["message"])
            texts[name].append(messages[-1]["content"])
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*map(converse, names))
    return Measurement(time.perf_counter() - start, latencies, texts)


def through(policy: Policy, tokenizer: Any, names: list[str], turns: int) -> Measurement:
    """The same, asked by a client in another process."""
    settings = ServeSettings(port=0, max_context=MAX_CONTEXT, max_turns=turns)
    gateway = Gateway(policy, tokenizer, Nowhere(), settings)
    gateway.start()
    try:
        arguments = ["--client", gateway.url, "--names", ",".join(names), "--turns", str(turns)]
        client = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
        assert gateway.status()["requests"] == gateway.status()["requests"] | {
            "turns": len(names) * turns,
            "restarts": 0,
        }
    finally:
        gateway.stop()
    return Measurement(**json.loads(client.stdout))


def row(way: str, number: int, measured: Measurement) -> str:
    latencies = measured.latencies
    slow = quantiles(latencies, n=20)[-1]
    rate = len(latencies) / measured.wall_s
    return f"| {number} | {way} | {rate:,.0f} | {1000 / rate:.2f} | {1e3 * fmean(latencies):.1f} | {1e3 * slow:.1f} |"


def best(measurements: list[Measurement]) -> Measurement:
    return min(measurements, key=lambda measured: measured.wall_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--at-once", default="1,8,32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--names", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        measured = asyncio.run(ask_all(options.client, options.names.split(","), options.turns))
        print(json.dumps(vars(measured)))
        return
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(["Task 12, 2 turns left.", "red", "blue"] * 3, MODEL.vocab_size)
    model = build_model(MODEL, len(tokenizer), seed=0)
    chat = ChatFormat(tokenizer, ActionCard(), cache_size=0)
    ids = [*tokenizer.encode("red", add_special_tokens=False), tokenizer.eos_token_id]
    print(f"{describe()}\n")
    print("| at once | way | requests/s | ms a request | latency, mean ms | latency, 95 % ms |")
    print("|---|---|---|---|---|---|")
    for number in map(int, options.at_once.split(",")):
        names = [f"c{index}" for index in range(number)]
        policies = [HFPolicy(model, max_context=MAX_CONTEXT, num_threads=1) for _ in range(2 * options.repeats)]
        plain = [asyncio.run(direct(policy, chat, names, options.turns)) for policy in policies[::2]]
        served = [through(policy, tokenizer, names, options.turns) for policy in policies[1::2]]
        assert all(measured.texts == plain[0].texts for measured in [*plain, *served]), "other tokens were sampled"
        alone = [
            through(ScriptedPolicy(lambda _: ids), tokenizer, names, options.turns) for _ in range(options.repeats)
        ]
        for way, measured in (("direct", plain), ("gateway", served), ("gateway alone", alone)):
            print(row(way, number, best(measured)), flush=True)


if __name__ == "__main__":
    main()
