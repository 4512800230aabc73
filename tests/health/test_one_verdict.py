"""Alarms, doctor and report judge by one table of thresholds and verdicts, and agree on the same run."""

from pathlib import Path

import pytest
from stable_baselines3 import PPO

from helpers.envs import make_pong
from sb3_stable_ppo import HealthCallback, diagnose
from sb3_stable_ppo.doctor.examination import collect
from sb3_stable_ppo.health.alarms import RULES
from sb3_stable_ppo.health.thresholds import (
    DARK,
    GOOD_VERDICTS,
    INACTIVE_LAYER,
    OPEN_VERDICTS,
    VERDICT_OF,
    VERDICTS,
    verdict_of_alarm,
)
from sb3_stable_ppo.report.verdict import verdict_of
from sb3_stable_ppo.runs.data import read_run
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.series import active_alarms
from sb3_stable_ppo.snapshots.timeline import timeline_of


@pytest.mark.slow
@pytest.mark.parametrize(("is_dead", "word"), [(False, "early training"), (True, "collapsed activations")])
def test_alarms_doctor_and_report_agree_on_a_healthy_and_on_a_dead_run(
    is_dead: bool, word: str, tmp_path: Path
) -> None:
    model = PPO("CnnPolicy", make_pong(2), n_steps=64, batch_size=64, n_epochs=1, learning_rate=1e-5, seed=0)
    if is_dead:  # and it stays so: no gradient passes a dead unit
        model.policy.features_extractor.cnn[0].bias.data.fill_(-100.0)
    model.learn(5 * 128, callback=HealthCallback(folder=tmp_path, budget=None))
    run, reader = read_run(tmp_path), RunReader(tmp_path)
    alarms = active_alarms(run.health)
    observations, _ = collect(model, model.get_env(), 128)
    diagnosis = diagnose(model, observations, reader.health())
    verdict = verdict_of(run, timeline_of(reader))
    assert (diagnosis.verdict, verdict.word) == (word, word)
    assert ("inactive_layer" in alarms, bool(alarms)) == (is_dead, is_dead)
    if is_dead:
        assert min(map(verdict_of_alarm, alarms), key=VERDICTS.index) == word
        assert (diagnosis.findings[0].name, alarms["inactive_layer"]["where"]) == ("dead_units", "conv1")
        assert "conv1" in diagnosis.findings[0].evidence
        assert "conv1" in verdict.text


def test_every_alarm_has_a_verdict_and_every_verdict_a_rank() -> None:
    assert {rule.name for rule in RULES} <= VERDICT_OF.keys()
    assert set(VERDICT_OF.values()) | {*GOOD_VERDICTS, *OPEN_VERDICTS} <= set(VERDICTS)
    ranks = [VERDICTS.index(verdict) for verdict in VERDICT_OF.values()]
    assert ranks == sorted(ranks), "the worst first"
    assert pytest.approx(1 - INACTIVE_LAYER) == DARK


def test_an_inactive_layer_of_linear_units_is_a_linear_network_to_all() -> None:
    assert verdict_of_alarm("inactive_layer", "linear") == VERDICT_OF["linear_units"] == "linear network"
    assert verdict_of_alarm("inactive_layer", "dead") == VERDICT_OF["dead_units"] == "collapsed activations"
    assert verdict_of_alarm("low_rank", "linear") == "collapsed activations"
