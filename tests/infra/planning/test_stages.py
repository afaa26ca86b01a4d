"""Calls and replicas in simulated time."""

from __future__ import annotations

import simpy

from infra.planning.simulation.stages import Call, Stage


def answered(env: simpy.Environment, calls: list[Call]) -> list[float]:
    """When each is answered, once all are."""
    times: list[float] = []
    for call in calls:
        call.done.callbacks.append(lambda _: times.append(env.now))
    env.run(until=simpy.AllOf(env, [call.done for call in calls]))
    return times


def test_replicas_answer_one_call_at_a_time_the_first_first() -> None:
    env = simpy.Environment()
    stage = Stage(env, "decoder")
    stage.add(), stage.add()
    assert answered(env, [stage.call(seconds) for seconds in (2, 3, 4, 5)]) == [2, 3, 6, 8]
    assert (stage.ongoing, stage.busy_s) == (0, 14)
    assert stage.replica_seconds() == 16


def test_a_call_may_need_a_while_in_which_the_next_is_worked_on() -> None:
    env = simpy.Environment()
    stage = Stage(env, "decoder", speed=2)
    stage.add()
    assert answered(env, [stage.call(2, beside=1), stage.call(2, beside=1)]) == [1.5, 2.5]


def test_the_call_of_a_lost_replica_is_the_next_of_another() -> None:
    env = simpy.Environment()
    stage = Stage(env, "decoder")
    first, second = stage.add(), stage.add()
    calls = [stage.call(10) for _ in range(3)]
    env.run(until=4)
    stage.kill(first)
    assert answered(env, calls) == [10, 20, 30]
    assert (stage.lost, stage.ongoing, list(stage.replicas)) == (1, 0, [second.number])


def test_a_replica_that_leaves_answers_what_it_is_at() -> None:
    env = simpy.Environment()
    stage = Stage(env, "decoder")
    replica = stage.add()
    calls = [stage.call(10), stage.call(10)]
    env.run(until=4)
    stage.leave(replica)
    env.run(until=12)
    assert [call.done.triggered for call in calls] == [True, False]
    assert (stage.ongoing, stage.replicas) == (1, {})
    stage.add()
    assert answered(env, calls[1:]) == [22]


def test_calls_that_nobody_waits_for_are_not_worked_on() -> None:
    env = simpy.Environment()
    stage = Stage(env, "decoder")
    stage.add()
    calls = [stage.call(10) for _ in range(3)]
    env.run(until=1)
    stage.drop(calls[1])
    assert stage.ongoing == 2
    assert answered(env, [calls[0], calls[2]]) == [10, 20]


def test_an_idle_replica_that_is_lost_takes_no_call_with_it() -> None:
    env = simpy.Environment()
    stage = Stage(env, "decoder")
    first, _ = stage.add(), stage.add()
    env.run(until=1)
    stage.kill(first)
    env.run(until=2)
    assert answered(env, [stage.call(3)]) == [5]
