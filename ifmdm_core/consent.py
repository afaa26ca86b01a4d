"""The shown person's consent: a reference to it comes with a request, and the operator says who must give one."""

from __future__ import annotations

from dataclasses import dataclass

from ifmdm_core.errors import Forbidden


@dataclass(frozen=True)
class Permission:
    """On whose word a portrait is animated."""

    who: str = ""
    """A token's name; empty where nobody in particular asks."""
    consent: str | None = None
    """The reference."""
    required: bool = False
    """Whether one must be given."""

    def check(self) -> None:
        """Raises Forbidden where a reference is required and none was given."""
        require_consent(self.consent, self.required)


def require_consent(consent: str | None, required: bool) -> None:
    """Raises Forbidden where a reference is required and none was given."""
    if required and not (consent or "").strip():
        what = "consent is missing: this tenant's portraits need a reference to the shown person's consent"
        raise of_consent(Forbidden(what, fix="give it as consent"))


def of_consent(error: Forbidden) -> Forbidden:
    """The error, which is about that field."""
    error.field = "consent"
    return error
