"""`ifmdm bench`: figures of every stage and of the whole."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from ifmdm_core.commands.demo import SAMPLES
from ifmdm_core.commands.render import DeviceOption, ModelOption, PrecisionOption, dtype_of

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def bench(
    photo: Annotated[str, typer.Option(help="default: the bundled portrait")] = str(
        SAMPLES / "astronaut.jpg"
    ),
    audio: Annotated[str, typer.Option(help="default: the bundled speech")] = str(SAMPLES / "speech.flac"),
    model: ModelOption = "demo",
    device: DeviceOption = None,
    precision: PrecisionOption = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="runs of each case; the median is printed")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="one run, fewer settings")] = False,
    paper: Annotated[
        bool, typer.Option("--paper", help="also the paper preset's decoder, random weights")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="also peak memory of 10 s and of 10 minutes of audio (slow)")
    ] = False,
    compile_: Annotated[bool, typer.Option("--compile", help="torch.compile the decoder")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
) -> None:
    """Measure each stage and the whole by resolution, batch, precision and steps.

    Every figure says what it includes. Cases run in turns; medians, with the slowest and the fastest run. The decoder
    rows name their precision; the other stages and the end-to-end rows run in the one that --precision gives.
    """
    dtype = dtype_of(precision)
    from ifmdm_core import bench as figures_of
    from ifmdm_core.bundle import load_bundle
    from ifmdm_core.talking_head import TalkingHead

    def note(text: str) -> None:
        print(f"measuring: {text}", file=sys.stderr)

    head = TalkingHead.load(model, device=device, dtype=dtype, compile=compile_)
    options = {"repeats": repeats}
    if quick:
        options = {"repeats": 1, "batches": (1, 10), "steps": (8,), "sizes": (256,)}  # type: ignore[dict-item]
    exact = load_bundle(model).autoencoder()
    figures = figures_of.bench(head, exact, photo, audio, paper=paper, note=note, **options)  # type: ignore[arg-type]
    if memory:
        from ifmdm_core.bench_memory import memory_figures

        note("memory")
        figures += memory_figures(model, photo, audio)
    where = figures_of.machine(head.device)
    if as_json:
        print(json.dumps({"machine": where, "figures": figures_of.as_records(figures)}))
        return
    print(where)
    print("| stage | setting | median | unit | slowest to fastest | runs | includes |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in figures:
        span = f"{row.low:.1f} to {row.high:.1f}" if row.runs > 1 else ""
        value = f"{row.value:.3g}" if row.value < 10 else f"{row.value:.1f}"
        print(
            f"| {row.stage} | {row.setting} | {value} | {row.unit} | {span} | {row.runs} | {row.includes} |"
        )
