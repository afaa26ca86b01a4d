"""What may be imported where: the kernel with pydantic alone, the core without Ray, the CLI without torch."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

KERNEL = ("errors", "controls", "config", "uri", "storage", "storage.faults")


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_kernel_imports_with_only_pydantic_installed() -> None:
    """Every package that is neither standard, nor pydantic's own need, is hidden; the folder store still works."""
    _python(
        f"""
        import importlib.abc, importlib.metadata, re, sys, tempfile

        allowed = {{"pydantic", "ifmdm_core"}}
        todo = ["pydantic"]
        while todo:  # what installing pydantic alone brings
            for line in importlib.metadata.requires(todo.pop()) or []:
                name = re.match(r"[A-Za-z0-9._-]+", line).group()
                if "extra ==" not in line and name not in allowed:
                    allowed.add(name)
                    todo.append(name)
        allowed = {{name.replace("-", "_") for name in allowed}}

        class Hide(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                root = name.partition(".")[0]
                if not (root in sys.stdlib_module_names or root in allowed or root.startswith("_sysconfigdata")):
                    raise ModuleNotFoundError(f"hidden: {{name}}", name=name)

        sys.meta_path.insert(0, Hide())
        for name in {KERNEL!r}:
            importlib.import_module("ifmdm_core." + name)
        import ifmdm_core
        ifmdm_core.RenderControls(pose="hold")
        from ifmdm_core.storage import open_storage
        store = open_storage(tempfile.mkdtemp())
        assert store.put_if_absent("a", b"1") and store.get("a") == b"1"
        """
    )


def test_no_module_of_the_core_imports_ray_mlflow_or_a_room_above() -> None:
    """Really imports them all, so that an import hidden in a function's module shows too."""
    found = json.loads(
        _python(
            """
            import importlib, json, pkgutil, sys
            import ifmdm_core
            names = [m.name for m in pkgutil.walk_packages(ifmdm_core.__path__, "ifmdm_core.")]
            for name in names:
                importlib.import_module(name)
            roots = {name.partition(".")[0] for name in sys.modules}
            print(json.dumps([len(names), sorted(roots)]))
            """
        ).splitlines()[-1]
    )
    count, roots = found
    assert count > 30
    assert not {"ray", "mlflow", "gradio", "pipelines", "jobs", "serve", "infra"} & set(roots)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["no-such-command"]])
def test_the_command_line_is_light_until_a_command_runs(arguments: list[str]) -> None:
    modules = _python(
        f"""
        import sys
        from infra.cli import main
        try:
            main({arguments!r})
        except SystemExit:
            pass
        print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
        """
    ).splitlines()[-1]
    heavy = {"torch", "transformers", "numpy", "cv2", "av", "pydantic", "boto3", "typer", "rich"}
    assert not heavy & set(modules.split())


@pytest.mark.parametrize("command", ["render", "demo", "doctor", "bench", "evaluate"])
def test_a_commands_help_needs_no_torch(command: str) -> None:
    out = _python(
        f"""
        import sys
        from infra.cli import main
        try:
            main([{command!r}, "--help"])
        except SystemExit as end:
            assert not end.code, end.code
        print("loaded", *sorted({{name.partition(".")[0] for name in sys.modules}}))
        """
    )
    assert "Usage: ifmdm " + command in out
    assert not {"torch", "transformers", "cv2", "av", "decord", "numpy"} & set(out.splitlines()[-1].split())


def test_the_package_offers_its_names_lazily() -> None:
    out = _python(
        """
        import sys
        import ifmdm_core
        assert {"TalkingHead", "RenderControls"} <= set(dir(ifmdm_core))
        try:
            ifmdm_core.Nothing
        except AttributeError as error:
            print(error)
        print(*sorted(name for name in sys.modules if "." not in name))
        """
    ).splitlines()
    assert "Nothing" in out[0]
    assert not {"torch", "pydantic"} & set(out[-1].split())


def test_the_shapes_of_stages_are_named_without_torch() -> None:
    """What a gateway and its commands know of a model: a grid of speech windows, a motion generator's shape."""
    _python(
        """
        import sys
        from ifmdm_core.motion.config import MotionConfig
        from ifmdm_core.speech_windows import SpeechWindows

        SpeechWindows(320, 400, 499, 100, 8).samples_of(0, 32_000), MotionConfig.preset("demo")
        assert "torch" not in sys.modules
        """
    )
