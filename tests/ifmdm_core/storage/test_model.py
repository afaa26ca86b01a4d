"""Random histories: both stores answer as a dictionary of keys and versions would."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ifmdm_core.storage import Storage

# Names of folders and of files differ: a folder cannot hold both a and a/b; refused, tested elsewhere.
_keys = st.builds(
    lambda folders, name: "/".join([*folders, name]),
    st.lists(st.sampled_from(["a", "a-b", "ab", "é"]), max_size=2),
    st.sampled_from(["0", "x", "x."]),
)
_actions = st.sampled_from(["put", "put_if_absent", "place", "place over", "delete", "delete_if"])
_steps = st.lists(
    st.tuples(_actions, _keys, st.binary(max_size=4), st.booleans(), st.integers(0, 4)), max_size=12
)
_runs = itertools.count()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps)
def test_a_store_behaves_as_a_dictionary(
    steps: list[tuple[str, str, bytes, bool, int]], store: Storage, tmp_path: Path
) -> None:
    """`current` says whether a condition names the version that is there or one that is not there any more."""
    run = f"run{next(_runs)}/"
    model: dict[str, bytes] = {}
    for action, name, data, current, limit in steps:
        key = run + name
        item = store.info(key)
        assert (item is None) is (key not in model)
        etag = item.etag if item and current else "0" * 32
        (tmp_path / "file").write_bytes(data)
        placed = (key, tmp_path / "file", hashlib.sha256(data).hexdigest())
        if action == "put":
            store.put(key, data)
            model[key] = data
        elif action == "put_if_absent":
            assert store.put_if_absent(key, data) is (key not in model)
            model.setdefault(key, data)
        elif action == "place":
            assert store.place(*placed) is (key not in model)
            model.setdefault(key, data)
        elif action == "place over":
            fits = current and key in model
            assert store.place(*placed, over=etag) is fits
            if fits:
                model[key] = data
        elif action == "delete":
            store.delete(key)
            model.pop(key, None)
        else:
            fits = current or key not in model
            assert store.delete_if(key, etag) is fits
            if fits:
                model.pop(key, None)
        ordered = sorted(model, key=str.encode)
        assert [item.key for item in store.list(run, limit)] == ordered[:limit]
    assert {item.key: store.get(item.key) for item in store.list(run)} == model
    assert [item.key for item in store.list(run)] == sorted(model, key=str.encode)
    inside = {key.removeprefix(run) for key in model}
    assert store.folders(run) == sorted({name.partition("/")[0] for name in inside if "/" in name})
