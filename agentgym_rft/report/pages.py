"""Loads the templates of HTML pages."""

from __future__ import annotations

from typing import Any

from agentgym_rft.report.tables import percent


def page_template(name: str) -> Any:
    """Return a jinja2 template of this folder, with the filters that pages use; unknown variables are errors."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("agentgym_rft.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template(name)
