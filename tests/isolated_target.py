"""What the tests of isolation run in a process of its own."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from earshot.kernel.errors import NotAudio, Unavailable


class Target:
    def __init__(self, greeting):
        self.greeting = greeting

    def echo(self, value):
        return [self.greeting, value]

    def chatty(self):
        print("noise")
        os.write(1, b"more noise\n")
        return "done"

    def refuse(self):
        raise NotAudio("This is a poem.", next_step="Sing.", code="poem")

    def away(self):
        raise Unavailable("engine", "It does not answer.")

    def bug(self):
        return 1 / 0

    def count(self, end):
        yield from range(end)

    def flood(self, path):
        for number in range(1000):
            Path(path).write_text(str(number))
            yield b"x" * 100_000

    def exit(self):
        os._exit(3)

    def crash(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def hang(self):
        time.sleep(600)

    def spawn(self):
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid

    def eat(self):
        return len(bytearray(10**9))

    def spin(self):
        while True:
            pass

    def surroundings(self):
        return [list(os.environ), tempfile.mkdtemp()]


class Parent:
    """Keeps a child of its own, which hangs in a call."""

    def child(self):
        from earshot.adapters.isolated import Isolated

        self.loop = asyncio.new_event_loop()
        self.worker = Isolated("tests.isolated_target:Target", "", name="grandchild")
        self.loop.run_until_complete(self.worker.start())
        pid = self.worker.pid
        self.task = self.loop.create_task(self.worker.call("hang", deadline_s=600))
        self.loop.run_until_complete(asyncio.sleep(0.1))
        return pid
