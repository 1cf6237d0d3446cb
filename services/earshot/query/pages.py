"""The page and its documentation: a few files, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

UI = Path(__file__).parent / "ui"

pages = APIRouter(include_in_schema=False)


_FILES = {
    "/": "index.html",
    "/docs": "docs.html",
    "/ui/app.js": "app.js",
    "/ui/ask.js": "ask.js",
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
