"""A signal interrupts where it may, and is not forgotten where it may not."""

import signal

import pytest

from sb3_stable_ppo.common.signals import (
    CHECKPOINT_SIGNAL,
    exit_status,
    handled,
    ignored,
    interrupted_by,
    interruptions,
    remember,
    was_interrupted,
)


def test_a_signal_that_is_put_off_is_raised_once_when_the_block_has_ended() -> None:
    written: list[str] = []

    def write() -> None:
        with interruptions(allowed=False):
            written.append("before")
            signal.raise_signal(signal.SIGTERM)
            written.append("after")

    with handled(signal.SIGTERM):
        with pytest.raises(KeyboardInterrupt):
            write()
        assert was_interrupted()
        with interruptions(allowed=True):
            written.append("later")
    assert written == ["before", "after", "later"]


def test_a_block_within_may_be_interrupted() -> None:
    with handled(signal.SIGTERM), interruptions(allowed=False):
        with pytest.raises(KeyboardInterrupt), interruptions(allowed=True):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # put off again
        with pytest.raises(KeyboardInterrupt), interruptions(allowed=True):
            pytest.fail("the signal came before")


def test_a_signal_that_is_remembered_interrupts_where_it_is_next_allowed() -> None:
    with interruptions(allowed=False):
        with interruptions(allowed=True):
            remember(signal.SIGTERM)
        assert was_interrupted()
        assert interrupted_by() is signal.SIGTERM
        with pytest.raises(KeyboardInterrupt), interruptions(allowed=True):
            pytest.fail("the signal came before")


def test_an_error_within_stands_before_the_signal() -> None:
    def fail() -> None:
        with interruptions(allowed=False):
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("first")

    with handled(signal.SIGTERM):
        with pytest.raises(ValueError, match="first"):
            fail()
        with pytest.raises(KeyboardInterrupt), interruptions(allowed=True):
            pytest.fail("the signal came before")


def test_the_exit_status_of_an_interruption_names_its_signal() -> None:
    assert exit_status() == 130  # a KeyboardInterrupt that nobody has sent
    with handled(signal.SIGTERM), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert (interrupted_by(), exit_status()) == (signal.SIGTERM, 143)


def test_a_signal_that_is_ignored_does_nothing_and_is_given_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with ignored(CHECKPOINT_SIGNAL):
        signal.raise_signal(signal.SIGUSR1)
    with ignored(None):
        pass
    assert signal.getsignal(signal.SIGUSR1) is before
    assert not was_interrupted()
