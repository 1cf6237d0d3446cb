"""What a file is, by its first bytes: to tell the person who sent it what was found instead of audio."""

from __future__ import annotations

from pathlib import Path

HEAD = 4096
MAGIC = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0", "an office document"),
    (b"#EXTM3U", "a playlist"),
    (b"ffconcat", "a list of other files"),
    (b"[playlist]", "a playlist"),
    (b"WEBVTT", "subtitles"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML document"),
    (b"{", "a JSON document"),
    (b"v=0", "a session description"),
)
CONTAINERS = (b"RIFF", b"OggS", b"fLaC", b"ID3", b"\x1aE\xdf\xa3", b"FORM")


def describe(path: Path) -> str:
    """A few words for what the file seems to be."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return "an empty file"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP image"
    if head.startswith(CONTAINERS) or head[4:8] == b"ftyp":
        return "a damaged or incomplete media file"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, name in MAGIC:
        if head.startswith(magic) or start.startswith(magic.lower()):
            return name if magic != b"{" or _text(head) else "unknown data"
    return "text" if _text(head) else "unknown data"


def _text(head: bytes) -> bool:
    try:
        decoded = head[: HEAD - 4].decode() if len(head) == HEAD else head.decode()
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\r\n\f" for character in decoded)
