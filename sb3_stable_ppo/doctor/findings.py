"""
What a diagnosis is made of: findings, each with its evidence and its remedy, and the verdict they add up to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sb3_stable_ppo.common.lazy import public

SEVERITIES = ("note", "warning", "critical")
VERDICTS = (
    "numerically broken",
    "linear network",
    "collapsed activations",
    "collapsed policy",
    "dying",
    "early training",
    "healthy",
)
"""From the worst on: of several, the first is the verdict."""


@public
class Finding(NamedTuple):
    """
    :param name: of the rule
    :param severity: one of ``SEVERITIES``; critical ones alone make a network unhealthy
    :param verdict: which of ``VERDICTS`` it speaks for; empty for what is wrong in the configuration
    :param value: what was found
    :param threshold: from where on it is a finding; None where it is not a matter of degree
    :param evidence: in a sentence
    :param remedy: what to do, in a sentence
    """

    name: str
    severity: str
    verdict: str
    value: float | None
    threshold: float | None
    evidence: str
    remedy: str


@public
class Diagnosis(NamedTuple):
    """
    :param verdict: one of ``VERDICTS``
    :param findings: the worst first
    :param figures: what they were made from, as a line of ``health.jsonl`` has them
    """

    verdict: str
    findings: tuple[Finding, ...]
    figures: dict[str, Any]

    @property
    def is_healthy(self) -> bool:
        """Whether nothing critical was found."""
        return self.verdict in ("healthy", "early training")

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.findings[0].evidence}" if self.findings else self.verdict]
        lines += [f"- [{found.severity}] {found.name}: {found.evidence} {found.remedy}" for found in self.findings]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "verdict": self.verdict,
            "healthy": self.is_healthy,
            "findings": [finding._asdict() for finding in self.findings],
            "figures": self.figures,
        }


def conclude(findings: Iterable[Finding], figures: dict[str, Any]) -> Diagnosis:
    """
    The verdict is that of the worst critical finding, or of a note that explains why there is nothing to see yet.

    :param findings: in any order
    :param figures: what they were made from
    """
    ordered = sorted(findings, key=lambda found: (-SEVERITIES.index(found.severity), _rank(found.verdict)))
    counted = [found.verdict for found in ordered if found.verdict and found.severity != "warning"]
    return Diagnosis(min(counted, key=_rank, default="healthy"), tuple(ordered), figures)


def _rank(verdict: str) -> int:
    return VERDICTS.index(verdict) if verdict else len(VERDICTS)
