"""POST /v1/identities: a portrait is aligned and kept once, then named by its digest."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from pydantic import BaseModel, Field

from ifmdm_core.config import validate
from ifmdm_core.consent import Permission
from ifmdm_core.controls import RenderControls
from serve.http.forms import IdentityForm
from serve.http.inputs import given_file
from serve.http.parts import Folder, Service, Who, problems

router = APIRouter(tags=["identities"])


class RegisteredIdentity(BaseModel):
    """A portrait that was kept."""

    digest: str = Field(description="give it as `identity` instead of a portrait; good for this tenant only")
    note: str = Field(description="what you should know, such as which of several faces was taken")


@router.post(
    "/v1/identities",
    status_code=201,
    summary="Register a portrait once",
    responses=problems(404, 408, 413, 422, 503),
)
async def register(
    form: Annotated[IdentityForm, Form()], service: Service, who: Who, folder: Folder
) -> RegisteredIdentity:
    """Finds the face, keeps the aligned picture for this tenant, and forgets it some time after its last use."""
    permission = Permission(who.name, form.consent, who.consent == "required")
    path, name = await given_file(
        form.portrait, form.portrait_uri, "portrait", service.limits.portrait_mb, who, folder
    )
    given = {"face": form.face, "paste_back": form.paste_back}
    controls = validate(RenderControls, {k: v for k, v in given.items() if v is not None}, where="controls")
    identity, note = await service.register(who.tenant, path, controls, name, permission)
    return RegisteredIdentity(digest=identity.digest, note=note)
