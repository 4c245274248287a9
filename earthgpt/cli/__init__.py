"""The command line: read words, call one function, print."""

from __future__ import annotations

import errno
import os
import sys
from collections import Counter
from typing import Annotated

import typer
from typer.core import TyperCommand

from earthgpt import __version__
from earthgpt.cli import data, evaluation, images, models, serving, training
from earthgpt.types import EarthGPTError, StoppedError

# The order is that of the help.
COMMANDS = {
    "ask": images.ask,
    "caption": images.caption,
    "classify": images.classify,
    "describe": images.describe,
    "ground": images.ground,
    "detect": images.detect,
    "chat": images.chat,
    "info": images.info,
    "demo": images.demo,
    "train": training.train,
    "build": data.build,
    "validate": data.validate,
    "eval": evaluation.evaluate,
    "score": evaluation.score,
    "compare": evaluation.compare,
    "serve": serving.serve,
    "doctor": training.doctor,
}
GROUPS = {
    "datasets": (
        "The data sets that can be read.",
        {"list": data.list_datasets, "check": data.check_dataset, "show": data.show_dataset},
    ),
    "tasks": ("The tasks that can be asked, trained and scored.", {"list": data.list_tasks}),
    "models": (
        "Models of the package, and models made of public parts.",
        {
            "list": models.list_models,
            "show": models.show_model,
            "assemble": models.assemble_model,
            "export": models.export_model,
            "merge": models.merge_model,
        },
    ),
}

app = typer.Typer(
    help="Ask optical, SAR and infrared images: class, caption, answers, grounded phrases, detections, dialogue.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"earthgpt {__version__}")
        raise typer.Exit


@app.callback()
def before(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What stands before a command."""


class Command(TyperCommand):
    """A command that passes nothing over: what can be given once is not given twice."""

    def parse_args(self, ctx, args):
        *_, order = self.make_parser(ctx).parse_args(list(args))
        for one, count in Counter(order).items():
            if count > 1 and one.nargs == 1 and not (getattr(one, "multiple", False) or getattr(one, "is_flag", False)):
                raise EarthGPTError(f"{one.opts[0]} is given {count} times, and one is taken.")
        return super().parse_args(ctx, args)


for name, command in COMMANDS.items():
    app.command(name, cls=Command)(command)
for name, (text, commands) in GROUPS.items():
    group = typer.Typer(help=text, no_args_is_help=True)
    for word, command in commands.items():
        group.command(word, cls=Command)(command)
    app.add_typer(group, name=name)


def main() -> None:
    """The program: a user's error is one line and exit code 1; a signal is 128 and its number, so Ctrl-C is 130."""
    try:
        code = app(standalone_mode=False, prog_name="earthgpt")
        if code == 130:  # typer's for Ctrl-C
            typer.echo("Stopped.", err=True)
    except EarthGPTError as error:
        typer.echo(f"earthgpt: {error}", err=True)
        code = 128 + error.number if isinstance(error, StoppedError) else 1
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("Stopped.", err=True)
        code = 130
    except BrokenPipeError:  # whoever reads has enough, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if error.filename is None and not full:
            raise
        place = f"{error.filename}: " if error.filename else ""
        typer.echo(f"earthgpt: {place}{error.strerror}.", err=True)
        code = 1
    except Exception as error:  # a wrong option or command; anything else is a bug and keeps its traceback
        if not (hasattr(error, "format_message") and hasattr(error, "exit_code")):
            raise
        message = error.format_message()  # without a command, the help
        if message.startswith(("Missing", "No such option")):
            message = f"{message.rstrip('.')}. {' '.join(error.ctx.get_usage().split())}"
        typer.echo(message if message.startswith("Usage:") else f"earthgpt: {message}", err=True)
        code = 1
    sys.exit(code or 0)
