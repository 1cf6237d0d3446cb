"""Work in a process of its own: what it answers, how its end is told, and that nothing of it stays."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from earshot.adapters import isolated_child, scratch
from earshot.adapters.isolated import CPU_LIMIT, DEADLINE, MEMORY_LIMIT, Isolated, Limits
from earshot.kernel.errors import NotAudio, Unavailable, UnitCrashed
from tests.waiting import eventually

TARGET = "tests.isolated_target:Target"


@pytest.fixture
async def worker():
    one = Isolated(TARGET, "hello", name="helper")
    yield one
    await one.close()


async def test_plain_values_and_bytes_cross_unchanged(worker):
    value = {"text": "ä\x00", "raw": b"\x00\xff", "many": [1, 2.5, None, {"deep": b""}]}
    assert await worker.call("echo", value, deadline_s=30) == ["hello", value]


async def test_what_is_not_plain_is_refused_before_it_is_sent(worker):
    with pytest.raises(TypeError, match="object cannot be sent"):
        await worker.call("echo", object(), deadline_s=30)


async def test_output_of_libraries_does_not_disturb_the_wire(worker):
    assert await worker.call("chatty", deadline_s=30) == "done"


async def test_known_errors_arrive_as_themselves_and_the_child_stays(worker):
    with pytest.raises(NotAudio) as caught:
        await worker.call("refuse", deadline_s=30)
    assert (caught.value.detail, caught.value.next_step, caught.value.code) == ("This is a poem.", "Sing.", "poem")
    pid = worker.pid
    with pytest.raises(Unavailable) as away:
        await worker.call("away", deadline_s=30)
    assert away.value.dependency == "engine"
    assert worker.pid == pid


async def test_unknown_errors_are_crashes_that_name_the_cause(worker):
    with pytest.raises(UnitCrashed, match="helper failed with ZeroDivisionError"):
        await worker.call("bug", deadline_s=30)


async def test_a_stream_waits_for_its_reader(worker, tmp_path):
    """The child is held back by the pipe: it cannot run far ahead of what was read."""
    count = tmp_path / "count"
    items = worker.stream("flood", str(count), deadline_s=30)
    first = await anext(items)
    assert len(first) == 100_000
    await eventually(lambda: count.exists() and int(count.read_text() or 0) >= 2)
    stuck = None
    for _ in range(50):  # it stands still once the pipe is full
        await asyncio.sleep(0.02)
        stuck = int(count.read_text() or 0)
    assert stuck < 20
    await items.aclose()
    assert worker.pid is None


async def test_a_whole_stream_arrives_in_order_and_the_child_stays(worker):
    assert [n async for n in worker.stream("count", 500, deadline_s=30)] == list(range(500))
    assert await worker.call("chatty", deadline_s=30) == "done"


@pytest.mark.parametrize(("method", "told"), [("exit", "exited with code 3"), ("crash", "died of signal SIGSEGV")])
async def test_a_dead_child_is_told_and_replaced(worker, method, told):
    with pytest.raises(UnitCrashed, match=told):
        await worker.call(method, deadline_s=30)
    assert await worker.call("echo", 1, deadline_s=30) == ["hello", 1]


async def test_a_kill_in_the_middle_of_a_stream_is_told(worker):
    items = worker.stream("count", 10**9, deadline_s=30)
    await anext(items)
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(UnitCrashed, match="SIGKILL"):
        async for _ in items:
            pass


async def test_a_passed_deadline_kills_the_child_and_what_it_started(worker):
    grandchild = await worker.call("spawn", deadline_s=30)
    pid = worker.pid
    with pytest.raises(UnitCrashed, match=r"did not answer within 0\.2 s") as caught:
        await worker.call("hang", deadline_s=0.2)
    assert caught.value.code == DEADLINE
    assert not psutil.pid_exists(pid)
    await eventually(lambda: not psutil.pid_exists(grandchild) or _zombie(grandchild))


async def test_a_cancelled_call_leaves_no_child(worker):
    await worker.start()
    pid = worker.pid
    task = asyncio.create_task(worker.call("hang", deadline_s=60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: not psutil.pid_exists(pid))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="RLIMIT_DATA bounds memory on Linux only")
async def test_memory_and_cpu_time_are_bounded():
    hungry = Isolated(TARGET, "", name="helper", limits=Limits(memory_bytes=300 * 2**20, cpu_s=1))
    with pytest.raises(UnitCrashed) as memory:
        await hungry.call("eat", deadline_s=60)
    with pytest.raises(UnitCrashed) as cpu:
        await hungry.call("spin", deadline_s=60)
    assert (memory.value.code, cpu.value.code) == (MEMORY_LIMIT, CPU_LIMIT)
    await hungry.close()


async def test_a_target_that_cannot_be_made_says_why():
    with pytest.raises(UnitCrashed, match="ModuleNotFoundError"):
        await Isolated("tests.nothing:Here", name="helper").start()


async def test_the_child_sees_no_secrets_and_its_temporary_files_vanish(worker, monkeypatch):
    monkeypatch.setenv("EARSHOT_API_KEY", "s3cret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    names, temporary = await worker.call("surroundings", deadline_s=30)
    assert not [name for name in names if "EARSHOT" in name or "SECRET" in name]
    assert _exists(temporary)
    await worker.close()
    assert not _exists(temporary)


@pytest.mark.skipif(not Path("/proc").exists(), reason="only Linux ends a child with its parent at once")
async def test_the_child_dies_with_a_parent_that_is_killed():
    """A parent made for this test is killed while its child hangs in a call."""
    parent = Isolated("tests.isolated_target:Parent", name="parent")
    child = await parent.call("child", deadline_s=60)
    assert psutil.pid_exists(child)
    os.kill(parent.pid, signal.SIGKILL)
    await eventually(lambda: not psutil.pid_exists(child) or _zombie(child))
    await parent.close()


def test_a_garbled_message_is_refused():
    with pytest.raises(ValueError):
        isolated_child.unpack(b"[1]", b"")


def test_folders_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path):
    for name in ("dead", "alive", "half"):
        (tmp_path / name).mkdir()
    (tmp_path / "dead" / ".lock").touch()
    held = scratch._locked(tmp_path / "alive" / ".lock")
    assert {path.name for path in scratch.sweep(tmp_path)} == {"dead", "half"}
    assert (tmp_path / "alive").is_dir()
    os.close(held)


def test_a_folder_that_was_taken_away_is_made_again():
    first = scratch.folder()
    assert scratch.folder() == first
    shutil.rmtree(first)
    second = scratch.folder()
    assert second.is_dir()
    assert second != first


def _zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _exists(path: str) -> bool:
    return Path(path).exists()
