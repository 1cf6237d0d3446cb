"""The blob store's contract, over the fake, a folder and a bucket."""

import asyncio
import os
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from earshot.adapters.blobs import ObstoreBlobs
from earshot.kernel.errors import BlobMissing, ForeignUri, Misconfigured, Unavailable
from tests.fakes_media import FakeBlobs

BIG = bytes(range(256)) * 40_000  # 10 MB: several parts and chunks


@pytest.fixture(params=["fake", "folder", "folder with a space", "s3"])
def blobs(request, tmp_path, monkeypatch):
    if request.param == "fake":
        return FakeBlobs()
    if request.param == "s3":
        url = os.environ.get("EARSHOT_TEST_S3")
        if not url:
            server = request.getfixturevalue("s3_server")
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
            url = server.url
        return ObstoreBlobs(f"{url}/{uuid.uuid4()}")
    folder = tmp_path / ("blobs" if request.param == "folder" else "my blobs")
    return ObstoreBlobs(folder.as_uri())


async def chunks(data: bytes, size: int = 300_000, fail: Exception | None = None):
    for start in range(0, len(data), size):
        yield data[start : start + size]
    if fail is not None:
        raise fail


async def keys(blobs, prefix):
    return sorted([key async for key, _ in blobs.list(prefix)])


@pytest.mark.parametrize("data", [b"", b"sound", BIG], ids=["empty", "small", "big"])
async def test_what_was_put_is_read_whole_streamed_and_as_a_file(blobs, data):
    for key, source in (("acme/a/bytes", data), ("acme/a/stream", chunks(data))):
        assert await blobs.put(key, source) is True
        assert await blobs.get(key) == data
        assert b"".join([part async for part in blobs.read(key)]) == data
        assert await blobs.size(key) == len(data)
        async with blobs.local(key) as path:
            assert await asyncio.to_thread(path.read_bytes) == data


@pytest.mark.parametrize(
    ("start", "end"), [(0, 5), (5, None), (3, 3), (9_999_999, 10**9), (4_194_300, 4_194_310), (10**9, None)]
)
async def test_ranges_are_half_open_and_end_with_the_blob(blobs, start, end):
    await blobs.put("acme/r", BIG)
    assert b"".join([part async for part in blobs.read("acme/r", start, end)]) == BIG[start:end]


async def test_create_only_keeps_the_first_of_many_writers(blobs):
    writes = [blobs.put("acme/once", f"writer {n}".encode(), create_only=True) for n in range(10)]
    writes += [blobs.put("acme/once", chunks(f"streamer {n}".encode()), create_only=True) for n in range(5)]
    won = await asyncio.gather(*writes)
    assert sum(won) == 1
    kept = await blobs.get("acme/once")
    assert kept.decode() == (
        f"writer {won.index(True)}" if won.index(True) < 10 else f"streamer {won.index(True) - 10}"
    )
    assert await keys(blobs, "acme/") == ["acme/once"]


async def test_overwriting_replaces(blobs):
    await blobs.put("acme/x", b"one")
    assert await blobs.put("acme/x", b"two") is True
    assert await blobs.get("acme/x") == b"two"


@pytest.mark.parametrize("create_only", [False, True])
async def test_a_stream_that_breaks_off_leaves_nothing_and_its_error_passes(blobs, create_only):
    with pytest.raises(ForeignUri, match="stopped by its reader"):
        await blobs.put("acme/half", chunks(BIG, fail=ForeignUri("stopped by its reader")), create_only=create_only)
    with pytest.raises(BlobMissing):
        await blobs.size("acme/half")
    assert await keys(blobs, "acme/") == []


async def test_what_is_missing_is_said_to_be(blobs):
    with pytest.raises(BlobMissing):
        await blobs.get("acme/none")
    with pytest.raises(BlobMissing):
        await blobs.size("acme/none")
    with pytest.raises(BlobMissing):
        [part async for part in blobs.read("acme/none")]
    with pytest.raises(BlobMissing):
        async with blobs.local("acme/none"):
            pass


async def test_deleting_takes_what_is_there_and_forgives_what_is_not(blobs):
    for name in ("a", "b", "c"):
        await blobs.put(f"acme/d/{name}", b"x")
    await blobs.delete(["acme/d/gone", "acme/d/a", "acme/d/b", "acme/d/also-gone"])
    assert await keys(blobs, "acme/d/") == ["acme/d/c"]
    await blobs.delete([])


async def test_listing_stays_below_the_prefix_and_tells_when(blobs):
    for key in ("acme/r/1/x", "acme/r/2/y", "acme/r2/z", "other/r/1/x"):
        await blobs.put(key, b"x")
    found = [entry async for entry in blobs.list("acme/r/")]
    assert sorted(key for key, _ in found) == ["acme/r/1/x", "acme/r/2/y"]
    assert all(abs(written - datetime.now(UTC)) < timedelta(minutes=5) for _, written in found)
    assert await keys(blobs, "nobody/") == []
    with pytest.raises(ForeignUri):
        await keys(blobs, "acme")


async def test_uri_and_key_are_each_others_inverse(blobs):
    uri = blobs.uri("acme/recordings/1/source")
    assert blobs.key("acme", uri) == "acme/recordings/1/source"


@pytest.mark.parametrize(
    "path",
    ["other/x", "acme", "acme/", "acme/../other/x", "acme/./x", "acme//x", "acme/%2e%2e/other/x", "acme/..%2fother/x",
     "acme/x?y", "acme/x#y", "acme\\x", "acme/..\\other", "acme/x\x00y", "acme/x\n", "/acme/x", "acme2/x", "ACME/x",
     "../acme/x", "acme/.hidden", "acme/ä"],
)  # fmt: skip
async def test_uris_outside_the_tenants_folder_are_refused(blobs, path):
    base = blobs.uri("acme/x").removesuffix("acme/x")
    with pytest.raises(ForeignUri):
        blobs.key("acme", base + path)


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "https://example.org/acme/x", "acme/x", "", "s3://other/acme/x"])
def test_uris_of_other_stores_are_refused(blobs, uri):
    with pytest.raises(ForeignUri):
        blobs.key("acme", uri)


async def test_keys_that_leave_the_store_are_refused_by_every_method(blobs):
    for bad in ("../x", "acme/../../x", "/etc/passwd", "acme"):
        for attempt in (blobs.put(bad, b""), blobs.get(bad), blobs.size(bad), blobs.delete([bad])):
            with pytest.raises(ForeignUri):
                await attempt


def test_a_neighbour_folder_with_the_same_beginning_is_another_store(tmp_path):
    blobs = ObstoreBlobs((tmp_path / "blobs").as_uri())
    with pytest.raises(ForeignUri):
        blobs.key("acme", (tmp_path / "blobs2/acme/x").as_uri())


@pytest.mark.parametrize("url", ["http://x/y", "blobs", "file:blobs", "file://host/x", "s3://", ""])
def test_urls_that_name_no_store_are_misconfigured(url):
    with pytest.raises(Misconfigured):
        ObstoreBlobs(url)


async def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path):
    blobs = ObstoreBlobs((tmp_path / "blobs").as_uri())
    await asyncio.to_thread((tmp_path / "blobs" / "acme").write_text, "a file where a folder must be")
    with pytest.raises(Unavailable) as caught:
        await blobs.put("acme/x", b"x")
    assert caught.value.dependency == "blobs"


async def test_a_bucket_that_does_not_answer_is_unavailable(monkeypatch, unused_tcp_port):
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{unused_tcp_port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "x",
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(Unavailable) as caught:
        await ObstoreBlobs("s3://bucket", timeout_s=1).get("acme/x")
    assert caught.value.dependency == "blobs"
