"""The `ifmdm` command: finds the command's module, runs it, and turns every error into one line.

Modules are imported only when their command is run; the help below comes from this table, so that
`ifmdm --help` needs neither typer nor torch.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from ifmdm_core.errors import BadInput, Cancelled, IfmdmError, nearest

COMMANDS: dict[str, tuple[str, str]] = {
    "render": ("infra.commands.render", "Make a portrait photo speak: PHOTO AUDIO -o OUT.mp4"),
    "demo": (
        "infra.commands.demo",
        "Everything up, two jobs rendered; 'demo --data' trains and serves a model; 'demo render' needs no stack",
    ),
    "up": (
        "infra.commands.up",
        "Start the whole system on this machine: Ray, service, Studio, job workers, MLflow, bucket",
    ),
    "down": ("infra.commands.down", "End what 'ifmdm up' started; data stay"),
    "status": ("infra.commands.status", "How each service of 'ifmdm up' is"),
    "doctor": (
        "ifmdm_core.commands.doctor",
        "Check this machine and this installation, with a fix per fault",
    ),
    "bench": (
        "ifmdm_core.commands.bench",
        "Measure every stage and the whole, saying what each figure includes",
    ),
    "data": (
        "pipelines.commands.data",
        "Motion datasets: cut clips, extract features, look, verify, maintain",
    ),
    "train": (
        "pipelines.commands.train",
        "Train speech encoder, autoencoder or motion generator, on Ray; resume, sync, list runs",
    ),
    "model": (
        "pipelines.commands.model",
        "Bundles and versions: put together, register, promote, compare",
    ),
    "evaluate": (
        "pipelines.commands.evaluate",
        "Judge a bundle on held-out clips: the paper's tables, baselines, measuring tables",
    ),
    "jobs": (
        "infra.commands.jobs",
        "Render jobs in a bucket or folder: submit, work, watch, steer",
    ),
    "serve": (
        "infra.commands.serve",
        "Serve renders over HTTP on Ray, with Studio; 'serve switch' changes the model",
    ),
    "plan": (
        "infra.commands.plan",
        "What a load takes: GPUs, workers, requests, money; how long jobs take; 'plan rates' measures",
    ),
    "simulate": (
        "infra.commands.simulate",
        "Play a day of renders with the real scheduler and scaling policy",
    ),
    "verify": (
        "serve.commands.verify",
        "Say whether a video is signed, unchanged and AI-generated, and by which model",
    ),
}
"""name -> (module with a typer `app`, help line)."""

_USAGE = """Usage: ifmdm COMMAND [OPTIONS]

{about}

Commands:
{commands}

Options:
  --help     this text; 'ifmdm COMMAND --help' for one command
  --version  the version
  --debug    the whole traceback of an error

Exit codes: 0 done, 2 bad input, 3 not found, 4 forbidden, 5 conflict, 6 unsupported, 8 expired,
75 busy (try again), 130 cancelled, 70 a fault of ifmdm's own."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process with the exit code of docs/render.md."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or bool(os.environ.get("IFMDM_DEBUG"))
    given = [word for word in given if word != "--debug"]
    try:
        code = _run(given)
        sys.stdout.flush()  # here a reader that has gone is known, at the interpreter's end it is an error
    except IfmdmError as error:
        code = _report(error, debug)
    except KeyboardInterrupt:
        code = _report(Cancelled("interrupted"), debug)
    except BrokenPipeError:
        # Whoever read our output has gone (`ifmdm bench | head`); nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        code = _report(_as_ours(error), debug)
    sys.exit(code)


def _run(given: list[str]) -> int:
    if not given or given[0] in ("--help", "-h", "help"):
        print(help_text())
        return 0
    if given[0] == "--version":
        print(_version())
        return 0
    name = given[0]
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        raise BadInput(f"unknown {kind} {name!r}", fix=f"{nearest(name, COMMANDS)} (ifmdm --help)")
    app = importlib.import_module(COMMANDS[name][0]).app
    try:
        result = app(args=given[1:], prog_name=f"ifmdm {name}", standalone_mode=False)
    except Exception as error:
        if type(error).__name__ != "NoArgsIsHelpError":
            raise
        if text := error.format_message():  # type: ignore[attr-defined]
            print(text)  # else rich has printed it already
        return 0
    if result == Cancelled.exit_code:  # typer turns Ctrl-C into this number
        raise Cancelled("interrupted")
    return result if isinstance(result, int) else 0


def help_text() -> str:
    """What `ifmdm --help` prints."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {about}" for name, (_, about) in COMMANDS.items())
    return _USAGE.format(about="A portrait photo and speech become a talking video.", commands=lines)


def _version() -> str:
    from ifmdm_core import __version__

    return f"ifmdm {__version__}"


def _report(error: IfmdmError, debug: bool) -> int:
    """One line on stderr (or the traceback, with --debug) and the exit code."""
    if debug:
        import traceback

        traceback.print_exception(error.__cause__ or error)
    print(f"ifmdm: {error}", file=sys.stderr)
    return error.exit_code


def _as_ours(error: Exception) -> IfmdmError:
    """Usage errors of the option parser are the caller's; a missing package has a fix; the rest is our fault."""
    if hasattr(error, "format_message"):  # click's errors, whichever copy of click typer carries
        return _usage_error(error)
    if type(error).__name__ == "Abort":
        return Cancelled("interrupted")
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith(("ifmdm_core", "infra")):
        ours: IfmdmError = BadInput(
            f"the package {error.name!r} is not installed",
            fix="pip install 'ifmdm[render]', and 'ifmdm[cluster]' for data, train, model, evaluate, serve "
            "(see ifmdm doctor)",
        )
    elif isinstance(error, MemoryError):
        ours = IfmdmError("out of memory", fix="use a smaller --size, or a machine with more memory")
    else:
        ours = IfmdmError(
            f"internal error: {type(error).__name__}: {error}",
            fix="this is a bug: --debug shows where it happened",
        )
    ours.__cause__ = error
    return ours


def _usage_error(error: Exception) -> BadInput:
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "ifmdm")
    option = getattr(error, "option_name", None)
    message = str(error.format_message()).rstrip(".")  # type: ignore[attr-defined]
    if type(error).__name__ == "NoSuchOption" and option and context is not None:
        names = [name for parameter in context.command.params for name in parameter.opts]
        names = [name for name in (*names, "--help", "--debug") if name.startswith("--")]
        return BadInput(f"unknown option {option!r}", fix=f"{nearest(option, names)} ({path} --help)")
    ours = BadInput(message[0].lower() + message[1:], fix=f"{path} --help lists what it takes")
    ours.__cause__ = error
    return ours


if __name__ == "__main__":
    main()
