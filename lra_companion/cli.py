"""The shell's way in: train, notebook, reproduce, book, pdf, sweep, status, claims, tune, tune-preset.

Exit codes: 0 done; 2 bad input, with one line on stderr that names field, value and what is allowed; 1 anything else.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import typer

from lra_companion.book_commands import book, notebook, reproduce
from lra_companion.claims_command import claims
from lra_companion.endings import InterruptedCommandError
from lra_companion.printing import pdf
from lra_companion.status_command import status
from lra_companion.sweep_commands import sweep, tune, tune_preset
from lra_companion.train_command import train

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Companion to 'Can Local Representation Alignment RNNs Solve Temporal Tasks?' (arXiv:2504.13531).",
)

_INTERRUPTED = 130  # what typer returns after Ctrl-C
# Of all wrong words on the command line, click's ClickException: typer carries a copy of click without exporting this.
_ShellError: type[Exception] = typer.BadParameter.mro()[2]


def main() -> None:
    """Entry point: what goes wrong ends in one line on stderr and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a request to end is heard as Ctrl-C is
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:
            _leave("interrupted")
        sys.exit(code)
    except InterruptedCommandError as error:
        _leave(str(error))
    except _ShellError as error:
        _stop(_explained(error), 2)
    except ValueError as error:
        _stop(str(error), 2)
    except (OSError, RuntimeError) as error:
        _stop(str(error), 1)


app.command()(train)
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Any number of -p NAME VALUE change parameters; VALUE is YAML, such as 0.1 or '[1, 2]'.",
)(notebook)
app.command()(reproduce)
app.command()(book)
app.command()(pdf)
app.command()(sweep)
app.command()(status)
app.command()(claims)
app.command()(tune)
app.command()(tune_preset)


def _explained(error: Exception) -> str:
    """Typer's message, with the value it is about, which typer leaves out."""
    message = str(getattr(error, "format_message", error.__str__)())
    for option in getattr(getattr(error, "param", None), "opts", []):
        if option in sys.argv[:-1]:
            return f"{message} (given: {sys.argv[sys.argv.index(option) + 1]!r})"
    return message


def _leave(message: str) -> NoReturn:
    """End now: who interrupts is not to wait while Python takes itself apart, which with PyTorch takes a second or more."""
    print(f"lra-companion: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)


def _stop(message: str, code: int) -> NoReturn:
    if message:  # typer has already printed the help where no command was given
        print(f"lra-companion: {message}", file=sys.stderr)
    raise SystemExit(code)
