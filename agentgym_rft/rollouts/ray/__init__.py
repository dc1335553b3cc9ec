"""Rollouts on Ray: many environments in each worker process, on one machine or many. Needs the extra `ray`."""
