"""Names by which vLLM's engine finds `vllm_worker`, which only its worker processes import."""

from __future__ import annotations

WORKER = "agentgym_rft.agents.policies.vllm_worker.WeightSync"
LOAD = "agentgym_load"
PID = "agentgym_pid"
OWNER = "AGENTGYM_VLLM_OWNER"  # environment variable: the process that holds the engine
