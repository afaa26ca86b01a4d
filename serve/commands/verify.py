"""`ifmdm verify FILE`: is this a video of ours, unchanged, and what does it say?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ifmdm_core.errors import BadInput

if TYPE_CHECKING:
    from serve.verify import Verdict

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def verify(
    file: Annotated[str, typer.Argument(metavar="FILE", help="a video file", show_default=False)],
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM",
            help="certificates of authorities that the signer must lead to; default: none asked",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the verdict as JSON")] = False,
) -> None:
    """Check a video's C2PA manifest and show what it says. Nothing is fetched from the network.

    Exit code 0 only when the manifest is valid and says AI-generated (and, with --trust, when its signer leads to one
    of those authorities); 2 otherwise.
    """
    from serve.verify import verify as verdict_of

    verdict = verdict_of(file, trust)
    if as_json:
        print(json.dumps({"file": file, "good": verdict.good, **asdict(verdict)}))
    else:
        # A stranger's file may hold anything, what steers a terminal included.
        print(
            "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in _lines(file, verdict))
        )
    if not verdict.good:
        raise typer.Exit(BadInput.exit_code)


def _lines(file: str, verdict: Verdict) -> list[str]:
    lines = [f"{file}: {_headline(verdict)}"]
    lines += [f"  problem   {problem}" for problem in verdict.problems]
    if verdict.signer is not None:
        lines.append(f"  signed by {verdict.signer}{_trust(verdict)}")
    record = verdict.record or verdict.metadata
    if record is not None:
        lines.append(
            f"  {'signed' if verdict.record else 'metadata (not signed)'}: {record.get('generator')}"
        )
        lines.append(f"  model     {record.get('model')}  sha256 {record.get('model_sha256')}")
        inputs = record.get("inputs")
        if isinstance(inputs, dict):
            lines += [f"  {name:<9} sha256 {digest}" for name, digest in inputs.items()]
    return lines


def _headline(verdict: Verdict) -> str:
    if verdict.manifest == "absent" and verdict.metadata is not None:
        return (
            "no C2PA manifest; its metadata says AI-generated, which proves nothing "
            "(a stream, or the manifest was lost when the file was copied into a new container)"
        )
    if verdict.manifest == "absent":
        return "no C2PA manifest and no metadata of ifmdm: nothing can be said"
    if verdict.manifest == "invalid":
        return "INVALID manifest: the file was changed after it was signed, or the signature is not good"
    if not verdict.ai_generated:
        return "valid manifest, which does not say AI-generated"
    if verdict.trusted is False:
        return (
            "valid manifest, AI-generated, but NOT TRUSTED: its signer leads to none of the given authorities"
        )
    return "valid manifest: AI-generated, unchanged since it was signed"


def _trust(verdict: Verdict) -> str:
    if verdict.trusted:
        return " (trusted)"
    if verdict.self_made:
        return " (a self-made certificate: the name proves nothing)"
    return "" if verdict.trusted is False else " (not checked; --trust PEM checks it)"
