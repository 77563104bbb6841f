"""deploy/alerts.yml against the figures that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from prometheus_client.metrics import MetricWrapperBase
from ruamel.yaml import YAML

from infra.telemetry import engine_metrics, metrics

ALERTS = Path(__file__).resolve().parents[2] / "deploy" / "alerts.yml"


def rules() -> list[dict[str, Any]]:
    document = YAML(typ="safe").load(ALERTS.read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def shown() -> dict[str, set[str]]:
    """Name -> labels, of every figure as Prometheus sees it."""
    found = {}
    for module in (metrics, engine_metrics):
        for metric in vars(module).values():
            if isinstance(metric, MetricWrapperBase):
                [family] = metric.describe()
                suffix = "_total" if family.type == "counter" else ""
                found[family.name + suffix] = set(metric._labelnames)
    return found


def test_every_alert_watches_a_figure_and_labels_that_there_are() -> None:
    """Catches: an alert on a figure that was renamed. It would never fire, and nobody would miss it."""
    figures = shown()
    for rule in rules():
        named = set(re.findall(r"\btongda_[a-z_]+", rule["expr"]))
        assert named, rule["alert"]
        assert named <= set(figures), rule["alert"]
        labels = set().union(*(figures[name] for name in named))
        asked = set(re.findall(r"([a-z_]+)\s*=~?", rule["expr"]))
        asked |= {label.strip() for found in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in found.split(",")}
        asked |= set(re.findall(r"\$labels\.([a-z_]+)", str(rule["annotations"])))
        assert asked <= labels, rule["alert"]


def test_an_account_that_is_refused_wakes_somebody() -> None:
    [rule] = [rule for rule in rules() if "tongda_account_refused" in rule["expr"]]
    assert rule["labels"]["severity"] == "page"
