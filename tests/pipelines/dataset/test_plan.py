import itertools

from hypothesis import given
from hypothesis import strategies as st

from pipelines.dataset.parameters import ClipParameters
from pipelines.dataset.plan import MIN_SHARDS, Plan, PlannedSource, Span, extend, shard_seconds, spans_of

PARAMETERS = ClipParameters(span_s=10)


def source(name: str, duration: float = 10.0, content: str = "", **said: object) -> PlannedSource:
    return PlannedSource(
        source=name, file=name, uri=f"/videos/{name}", sha256=content or f"of {name}", size=1, stamp="1",
        duration=duration, **said,
    )  # fmt: skip


def empty(shard_s: float = 40.0) -> Plan:
    return Plan(parameters=PARAMETERS, shard_s=shard_s)


def spans(plan: Plan) -> list[Span]:
    return [span for shard in plan.shards for span in shard.spans]


durations = st.lists(st.floats(0.1, 60, allow_nan=False), min_size=1, max_size=25)


@given(durations)
def test_every_second_of_every_source_is_planned_exactly_once(lengths: list[float]) -> None:
    plan = extend(empty(), [source(f"{n:03d}", length) for n, length in enumerate(lengths)])
    for name, planned in plan.sources.items():
        own = sorted((s for s in spans(plan) if s.source == name), key=lambda s: s.start)
        assert own[0].start == 0
        assert own[-1].end == round(planned.duration, 6)
        assert all(a.end == b.start for a, b in itertools.pairwise(own))
        assert all(0 < s.end - s.start <= PARAMETERS.span_s + 0.02 for s in own)


@given(durations, st.floats(0.1, 60, allow_nan=False))
def test_a_new_source_changes_only_the_shards_it_goes_into(lengths: list[float], new: float) -> None:
    plan = extend(empty(), [source(f"{n:03d}", length) for n, length in enumerate(lengths)])
    more = extend(plan, [source("zzz", new)], done=[shard.name for shard in plan.shards])
    changed = {name for name, key in more.keys().items() if plan.keys().get(name) != key}
    assert changed == {shard.name for shard in more.shards if any(s.source == "zzz" for s in shard.spans)}
    assert len(changed & set(plan.keys())) <= 1


@given(durations, st.data())
def test_dropping_a_source_leaves_the_shards_of_the_others_alone(
    lengths: list[float], data: st.DataObject
) -> None:
    names = [f"{n:03d}" for n in range(len(lengths))]
    plan = extend(empty(), [source(name, length) for name, length in zip(names, lengths, strict=True)])
    gone = data.draw(st.sampled_from(names))
    held = {shard.name for shard in plan.shards if any(s.source == gone for s in shard.spans)}
    less = extend(plan, [], drop=[gone])
    assert gone not in {s.source for s in spans(less)}
    assert {n: k for n, k in less.keys().items() if n not in held} == {
        n: k for n, k in plan.keys().items() if n not in held
    }


def test_one_more_file_fills_the_last_shard_only_when_nobody_is_at_work_on_it() -> None:
    plan = extend(empty(), [source(f"{n}") for n in range(5)])
    assert [shard.seconds for shard in plan.shards] == [40, 10]
    assert [s.seconds for s in extend(plan, [source("x")], done=["00001"]).shards] == [40, 20]
    assert [s.seconds for s in extend(plan, [source("x")], done=["00000"]).shards] == [40, 10, 10]


def test_a_changed_source_stays_where_it_was_and_keeps_the_rest_of_the_plan() -> None:
    plan = extend(empty(), [source(f"{n}") for n in range(9)])
    changed = extend(plan, [source("1", 25, "other bytes")])
    assert [s.source for s in changed.shards[0].spans].count("1") == 3
    assert [n for n, key in changed.keys().items() if plan.keys()[n] != key] == ["00000"]


def test_the_place_of_a_file_is_no_part_of_a_key_but_what_is_said_about_it_is() -> None:
    plan = extend(empty(), [source("a")])
    moved = source("a").model_copy(update={"uri": "s3://bucket/a", "stamp": "2"})
    assert extend(plan, [moved]).keys() == plan.keys()
    assert extend(plan, [source("a", identity="Ada")]).keys() != plan.keys()


def test_equal_bytes_are_cut_once_and_the_copy_takes_over_when_the_first_goes() -> None:
    plan = extend(empty(), [source("a", content="x"), source("b", content="x")])
    assert plan.sources["b"].duplicate_of == "a"
    assert {s.source for s in spans(plan)} == {"a"}
    assert {s.source for s in spans(extend(plan, [], drop=["a"]))} == {"b"}


def test_a_copy_that_comes_first_by_name_does_not_replace_what_is_cut_already() -> None:
    plan = extend(empty(), [source("m", content="x")])
    assert extend(plan, [source("a", content="x")]).keys() == plan.keys()


def test_two_parts_of_one_file_are_no_duplicates() -> None:
    parts = [source("a#0-5", 5, "x"), source("a#5-10", 5, "x").model_copy(update={"start": 5.0})]
    assert [(s.start, s.end) for s in spans(extend(empty(), parts))] == [(0, 5), (5, 10)]


def test_spans_start_at_the_part_that_a_list_gives() -> None:
    part = source("a", 25).model_copy(update={"start": 100.0})
    assert [(s.start, s.end) for s in spans_of(part, 10)] == [(100, 108.33), (108.33, 116.67), (116.67, 125)]


def test_a_small_dataset_still_has_shards_to_share_and_a_large_one_has_large_files() -> None:
    assert shard_seconds(MIN_SHARDS * 100, PARAMETERS) == 100
    assert shard_seconds(10, PARAMETERS) == 60
    assert 500 < shard_seconds(3.6e7, PARAMETERS) < 2400
