"""/login: a token becomes a cookie, so that a browser can open Studio."""

from __future__ import annotations

from html import escape
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from serve.protection.access import COOKIE

router = APIRouter(include_in_schema=False)

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>ifmdm</title>
<style>body{{font:16px system-ui;max-width:22rem;margin:15vh auto;padding:0 1rem}}
input,button{{font:inherit;width:100%;padding:.6rem;margin:.4rem 0;box-sizing:border-box}}</style>
<form method="post" action="/login"><label>Token
<input name="token" type="password" autocomplete="current-password" required autofocus></label>
<input name="next" type="hidden" value="{next}"><button>Open Studio</button></form></html>"""


@router.get("/login", response_class=HTMLResponse)
async def page(next: Annotated[str, Query(max_length=200)] = "/studio") -> HTMLResponse:
    """A form for the token."""
    return HTMLResponse(_PAGE.format(next=escape(_local(next))), headers={"Cache-Control": "no-store"})


@router.post("/login")
async def login(
    request: Request,
    token: Annotated[str, Form(max_length=500)],
    next: Annotated[str, Form(max_length=200)] = "/studio",
) -> RedirectResponse:
    """Keeps the token in a cookie that scripts and other sites cannot use; the next page shows whether it is good."""
    answer = RedirectResponse(_local(next), status_code=303)
    answer.set_cookie(
        COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/"
    )
    return answer


def _local(target: str) -> str:
    """`target` where it is a path of this server, else Studio: no link may lead elsewhere from here."""
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if plain else "/studio"
