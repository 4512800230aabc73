"""
What a diagnosis is made of: findings, each with its evidence and its remedy, and the verdict they add up to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.health.thresholds import GOOD_VERDICTS, OPEN_VERDICTS, VERDICT_OF, VERDICTS

SEVERITIES = ("note", "warning", "critical")


@public
class Finding(NamedTuple):
    """
    Something that is wrong with a network, or with its configuration.

    :param name: of the rule
    :param severity: one of ``SEVERITIES``; critical ones alone make a network unhealthy
    :param verdict: which of ``health.thresholds.VERDICTS`` it speaks for; empty for warnings
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
    What was found in a network, and the verdict that follows.

    :param verdict: one of ``health.thresholds.VERDICTS``
    :param findings: the worst first
    :param figures: what they were made from, as a line of ``health.jsonl`` has them, and as ``healthy_ranges`` what
        they are in healthy runs
    """

    verdict: str
    findings: tuple[Finding, ...]
    figures: dict[str, Any]

    @property
    def is_healthy(self) -> bool:
        """Whether the network was looked at, and nothing critical found."""
        return self.verdict in GOOD_VERDICTS

    @property
    def is_open(self) -> bool:
        """Whether too little was looked at to call the network healthy, as its weights alone."""
        return self.verdict in OPEN_VERDICTS

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.findings[0].evidence}" if self.findings else self.verdict]
        lines += [f"- [{found.severity}] {found.name}: {found.evidence} {found.remedy}" for found in self.findings]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For machines; ``healthy`` is None where that is not known."""
        return {
            "verdict": self.verdict,
            "healthy": None if self.is_open else self.is_healthy,
            "findings": [finding._asdict() for finding in self.findings],
            "figures": self.figures,
        }


def finding(
    name: str, severity: str, value: float | None, threshold: float | None, evidence: str, remedy: str
) -> Finding:
    """
    A finding, with the verdict that its name speaks for; a warning speaks for none.

    :param name: of the rule, for criticals and notes one of ``VERDICT_OF`` if it has a verdict
    :param severity: see :class:`Finding`, as the rest
    """
    verdict = "" if severity == "warning" else VERDICT_OF.get(name, "")
    return Finding(name, severity, verdict, value, threshold, evidence, remedy)


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
