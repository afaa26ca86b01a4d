"""The model of IF-MDM and its media: a portrait and speech become a talking video.

Nothing is imported eagerly: `import ifmdm_core` costs no torch, and the attributes below load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "RenderControls": "ifmdm_core.controls",
    "TalkingHead": "ifmdm_core.talking_head",
    "IfmdmError": "ifmdm_core.errors",
}

__all__ = ["IfmdmError", "RenderControls", "TalkingHead", "__version__"]

if TYPE_CHECKING:
    from ifmdm_core.controls import RenderControls
    from ifmdm_core.errors import IfmdmError
    from ifmdm_core.talking_head import TalkingHead


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ifmdm_core' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
