"""``python -m analysis``: a prompt with the mathematics at hand; list, show and explain besides."""

from __future__ import annotations

from typing import Annotated

import typer

from .errors import StructureError, UnknownResultError
from .explain import explain, listing
from .show import Shown, read_size, show

BAD_USAGE = 2
app = typer.Typer(add_completion=False)
Name = Annotated[
    list[str], typer.Argument(help="An address, a part of one, or words of a formula.")
]


@app.callback(invoke_without_command=True)
def prompt(context: typer.Context) -> None:
    """Explore the derivations: alone it opens a prompt that has them all."""
    if context.invoked_subcommand is None:
        from .repl import start  # IPython takes half a second

        start()


@app.command("list")
def list_command(words: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Print the results: all, or those with the words in name or formula."""
    typer.echo(repr(listing(" ".join(words or []))))


@app.command("show")
def show_command(
    name: Name,
    n: Annotated[
        str | None, typer.Option(help="A size; any: for any n; none: the smallest.")
    ] = None,
    latex: Annotated[bool, typer.Option("--latex", help="The formula alone, as LaTeX.")] = False,
) -> None:
    """Derive a result, and print every step to it."""
    found = show(" ".join(name), read_size(n))
    typer.echo(found.latex() if latex and isinstance(found, Shown) else repr(found))


@app.command("explain")
def explain_command(name: Name) -> None:
    """Print a result, and the lines where it is derived and stated."""
    typer.echo(repr(explain(" ".join(name))))


def main() -> None:
    """Run the command line; what is not found is said in one line."""
    try:
        app(prog_name="python -m analysis")
    except (StructureError, UnknownResultError) as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise SystemExit(BAD_USAGE) from error


if __name__ == "__main__":
    main()
