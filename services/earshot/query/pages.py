"""The page and its documentation: a few files, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from earshot.adapters import web
from earshot.adapters.problems import Refused
from earshot.adapters.web import KitOf

UI = Path(__file__).parent / "ui"

pages = APIRouter(include_in_schema=False)


class Login(BaseModel):
    """The key, typed into the page."""

    key: str = Field(max_length=500)


@pages.post("/login", status_code=204)
async def login(request: Request, given: Login, kit: KitOf) -> Response:
    """Remember the key in a cookie, for players and event streams, which cannot send headers."""
    key = kit.settings.api_key.get_secret_value()
    if not key or not web.same(given.key, key):
        raise Refused(401, "not_authenticated", "This is not the API key.", headers={"WWW-Authenticate": "Bearer"})
    response = Response(status_code=204)
    secure = request.url.scheme == "https"
    response.set_cookie(web.COOKIE, web.session_of(key), httponly=True, samesite="strict", secure=secure, path="/")
    return response


_FILES = {
    "/": "index.html",
    "/docs": "docs.html",
    "/ui/app.js": "app.js",
    "/ui/docs.js": "docs.js",
    "/ui/style.css": "style.css",
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}


async def _page(request: Request) -> FileResponse:
    file = UI / _FILES[request.url.path]
    return FileResponse(file, media_type=_TYPES[file.suffix], headers={"Cache-Control": "no-cache"})


for _path in _FILES:
    pages.add_api_route(_path, _page, methods=["GET"], response_class=FileResponse)
