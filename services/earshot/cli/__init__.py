"""The command line: ``earshot``. Results on stdout, progress on stderr, errors with their cause and the next step.

Exit codes: 0 done; 1 done, with a wrong or failed result; 2 usage; 69 a dependency does not answer; 78 misconfigured.
"""

from __future__ import annotations

import sys

import typer

from earshot.cli import (
    ask,
    audit,
    dlq,
    edit,
    erase,
    events,
    keys,
    limits,
    mcp,
    quality,
    reindex,
    remote,
    replay,
    reprocess,
    schemas,
    speakers,
    system,
    topics,
)
from earshot.kernel.errors import EarshotError, Misconfigured, Transient

app = typer.Typer(
    name="earshot", no_args_is_help=True, add_completion=True, rich_markup_mode=None, help="Speech in, search out."
)
system.register(app)
remote.register(app)
ask.register(app)
mcp.register(app)
erase.register(app)
speakers.register(app)
edit.register(app)
events.register(app)
dlq.register(app)
quality.register(app)
replay.register(app)
reindex.register(app)
reprocess.register(app)
schemas.register(app)
topics.register(app)
keys.register(app)
limits.register(app)
audit.register(app)

EX_UNAVAILABLE, EX_CONFIG = 69, 78
"""Of sysexits.h."""


def main() -> None:
    """The console script."""
    try:
        app()
    except EarshotError as error:
        print(f"earshot: {error.detail}", file=sys.stderr)
        if error.next_step:
            print(f"  {error.next_step}", file=sys.stderr)
        code = EX_CONFIG if isinstance(error, Misconfigured) else EX_UNAVAILABLE if isinstance(error, Transient) else 1
        raise SystemExit(code) from None
