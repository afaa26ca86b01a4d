"""Rates in files, from the bench, and those that come along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, NotFound
from infra.planning.from_bench import BenchReport, DatasetReport, extraction_of, rates_of
from infra.planning.known_rates import DEMO_CPU
from infra.planning.rates import Cost, Rates, load_rates
from tests.infra.planning.conftest import round_rates

DOCS = Path(__file__).parents[3] / "docs"


def test_a_file_gives_back_what_was_saved(rates: Rates, tmp_path: Path) -> None:
    rates.save(tmp_path / "rates.json")
    assert load_rates(str(tmp_path / "rates.json")) == rates
    assert load_rates("demo-cpu") is DEMO_CPU


def test_a_broken_file_is_refused_by_the_name_of_the_field(rates: Rates, tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    values = rates.model_dump(mode="json")
    path.write_text(json.dumps({**values, "mottion": values["motion"]}))
    with pytest.raises(BadInput, match="unknown setting 'mottion'; did you mean 'motion'"):
        load_rates(str(path))
    path.write_text(json.dumps({**values, "speech": {**values["speech"], "per_unit": -1}}))
    with pytest.raises(BadInput, match=r"speech.per_unit is -1"):
        load_rates(str(path))
    with pytest.raises(NotFound, match="demo-gpu"):
        load_rates("demo-gpu")


def test_motion_goes_by_steps_in_proportion_and_sizes_must_have_been_measured() -> None:
    rates = round_rates(
        motion={8: Cost(per_unit=0.008, samples=1), 50: Cost(per_unit=0.05, samples=1)},
        decoder={256: Cost(per_unit=0.02, samples=1)},
    )
    assert rates.motion_at(8).per_unit == 0.008
    assert rates.motion_at(4).per_unit == pytest.approx(0.004)
    assert rates.motion_at(100).per_unit == pytest.approx(0.1)
    assert rates.decoder_at(256).per_unit == 0.02
    with pytest.raises(BadInput, match="no rate for size 512; measured: 256"):
        rates.decoder_at(512)
    with pytest.raises(BadInput, match="of the model itself"):
        rates.decoder_at(None)


def test_the_rates_that_come_along_are_those_of_the_published_bench() -> None:
    report = BenchReport.model_validate_json((DOCS / "bench.json").read_text())
    found = rates_of(report, DEMO_CPU.source, DEMO_CPU.measured_at)
    assert found.machine == DEMO_CPU.machine
    assert found.encoding == pytest.approx(DEMO_CPU.encoding, rel=0.01)
    pairs = [(found.speech, DEMO_CPU.speech), (found.inputs, DEMO_CPU.inputs)]
    for ours, theirs in ((found.motion, DEMO_CPU.motion), (found.decoder, DEMO_CPU.decoder)):
        assert ours.keys() == theirs.keys()
        pairs += [(ours[key], theirs[key]) for key in ours]
    for measured, known in pairs:
        for field in ("per_job", "per_unit", "low", "high"):
            assert getattr(known, field) == pytest.approx(getattr(measured, field), rel=0.02), (field, known)
    datasets = DatasetReport.model_validate_json((DOCS / "bench-datasets.json").read_text())
    assert DEMO_CPU.extraction is not None
    assert DEMO_CPU.extraction.per_unit == pytest.approx(extraction_of(datasets).per_unit, rel=0.001)


def test_a_bench_without_a_stage_is_refused_by_its_name() -> None:
    report = BenchReport.model_validate_json((DOCS / "bench.json").read_text())
    some = report.model_copy(update={"figures": [f for f in report.figures if f.stage != "find faces"]})
    with pytest.raises(BadInput, match="no figure 'find faces'"):
        rates_of(some, "bench", DEMO_CPU.measured_at)
