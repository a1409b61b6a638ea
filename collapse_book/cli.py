"""The command line. Heavy libraries are imported only by the commands that need them."""

from __future__ import annotations

import itertools
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from collapse_book.errors import BadInput, BuildFailed, counted
from collapse_book.project import Project

if TYPE_CHECKING:
    from collapse_book.scenarios import Scenario

ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
EXIT_CODES = """\b
Exit codes: 0 all is well, 1 a notebook, the gate or Sphinx failed,
2 bad input (nothing was started), 130 interrupted."""


def _shared(command: Any) -> Any:
    """Options of the commands that execute."""
    for option in (
        click.option("--jobs", "-j", type=click.IntRange(1), help="Worker processes [cores]."),
        click.option(
            "--scheduler",
            metavar="ADDRESS",
            help="Run on the workers of this Dask scheduler, such as tcp://127.0.0.1:8786.",
        ),
        click.option("--timeout", type=click.FloatRange(1), help="Seconds that one cell may take."),
        click.option("--force", is_flag=True, help="Execute even what has not changed."),
    ):
        command = option(command)
    return command


class ChapterCommand(click.Command):
    """A command whose help, asked for with a chapter, shows the parameters of that chapter."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any("-p" in option.opts for option in self.params):
            for option, value in itertools.pairwise(args):
                if option == "-p" and (found := ASSIGNMENT.fullmatch(value)):
                    right = f"-p {found[1]} {shlex.quote(found[2])}"
                    raise BadInput(f"-p {value}: write {right}, with a space between")
        ctx.meta["collapse_book.arguments"] = list(args)
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        given, _, _ = self.make_parser(ctx).parse_args(ctx.meta["collapse_book.arguments"])
        if isinstance(given.get("chapter"), str):
            write_parameters(ctx.obj, given["chapter"], formatter)
        super().format_epilog(ctx, formatter)


def write_parameters(project: Project, chapter: str, formatter: click.HelpFormatter) -> None:
    """Names, types, defaults, allowed values and meanings of a chapter's parameters."""
    parameters = _parameters(project, chapter)
    rows = [(f"{p.name}: {p.type} = {p.default!r}", f"{p.help} ({p.allowed})") for p in parameters]
    write_rows(formatter, f"Parameters of {chapter}", rows)


def write_rows(formatter: click.HelpFormatter, heading: str, rows: list[tuple[str, str]]) -> None:
    """A heading with names and meanings under it; nothing if there are none."""
    if rows:
        with formatter.section(heading):
            formatter.write_dl(rows, col_max=36)


class App(click.Group):
    """The commands; who gives a chapter in place of one is told which takes it."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0]
        if name not in self.commands and name in Project.find(ctx.params["root"]).chapters:
            raise BadInput(f"{name} is a chapter: write collapse-book run {' '.join(args)}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=App,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.option(
    "--project",
    "root",
    type=click.Path(path_type=Path),
    help="Folder of the book [default: at or above the current one, else the installed one].",
)
@click.version_option(package_name="collapse-utils")
@click.pass_context
def app(context: click.Context, root: Path | None) -> None:
    """Execute the chapters, check them, and press them into a book.

    \b
    Examples:
      collapse-book build                              execute what changed, build the site
      collapse-book build --scenario smoke             all chapters, small and quick
      collapse-book list gaussian                      parameters of one chapter
      collapse-book run gaussian -p n_samples 50       one chapter with your parameters
      collapse-book sweep gaussian --grid g.yml --out runs/g     one chapter, many parameters
    """
    context.obj = Project.find(root)


@app.command(epilog=EXIT_CODES)
@click.argument("chapters", nargs=-1)
@click.option("--scenario", help="Take parameters from scenarios/NAME.yml; builds no site.")
@_shared
@click.pass_obj
def build(
    project: Project,
    chapters: Sequence[str],
    scenario: str | None,
    jobs: int | None,
    scheduler: str | None,
    timeout: float | None,
    force: bool,
) -> None:
    """Execute the chapters that changed (those of the book, or CHAPTERS), then build the site.

    What has finished is kept when a build is interrupted; the next one goes on from there.

    \b
    Examples:
      collapse-book build
      collapse-book build gaussian digits --jobs 2
      collapse-book build --scenario smoke
    """
    _known(project, chapters)
    chosen = _scenario(project, scenario)
    for chapter in chapters:
        if chosen and chapter not in chosen.chapters:
            raise BadInput(f"scenario {chosen.name!r} says nothing about chapter {chapter!r}")
    for chapter in project.chapters:
        _parameters(project, chapter)
    from collapse_book import press
    from collapse_book.report import Report

    report = Report()
    options = press.Options(jobs=jobs, timeout=timeout, force=force, scheduler=scheduler)
    if chosen:
        folder = press.build_scenario(project, chapters, chosen, options, report)
        report.line(f"scenario {chosen.name}: {chosen.description}")
        report.line(f"executed notebooks: {project.relative(folder)}")
        return
    front = press.build_book(project, chapters, options, report)
    if front:
        report.line(f"the book is ready: {front}")


@app.command(cls=ChapterCommand, epilog=EXIT_CODES)
@click.argument("chapter")
@click.option(
    "-p",
    "given",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Set a parameter (repeatable).",
)
@click.option(
    "-f",
    "file",
    type=click.Path(path_type=Path),
    help="Scenario file, as in scenarios/; -p goes before it.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Also write the executed notebook here."
)
@_shared
@click.pass_obj
def run(
    project: Project,
    chapter: str,
    given: Sequence[tuple[str, str]],
    file: Path | None,
    output: Path | None,
    jobs: int | None,
    scheduler: str | None,
    timeout: float | None,
    force: bool,
) -> None:
    """Execute one CHAPTER with your own parameters.

    Parameters are checked before anything starts; `collapse-book run CHAPTER --help` shows them.

    \b
    Examples:
      collapse-book run gaussian
      collapse-book run gaussian -p n_samples 50 -p seed 7
      collapse-book run gaussian -f scenarios/smoke.yml -o small.ipynb
    """
    from collapse_book.parameters import validate
    from collapse_book.scenarios import read_scenario

    parameters = _parameters(project, chapter)
    values: dict[str, Any] = {}
    if file is not None:
        scenario = read_scenario(project, file)
        if chapter not in scenario.chapters:
            raise BadInput(f"{file} says nothing about chapter {chapter!r}")
        values |= scenario.chapters[chapter]
    names = [name for name, _ in given]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"parameter {name!r} is given twice")
    values |= validate(parameters, dict(given), cast=True)
    if output is not None and output.is_dir():
        raise BadInput(f"{output} is a folder: give the notebook a name, {output / 'run.ipynb'}")
    if output is not None and not output.absolute().parent.is_dir():
        raise BadInput(f"no folder {output.parent} to write {output.name} to")

    from collapse_book import press
    from collapse_book.files import write_atomic
    from collapse_book.report import Report

    report = Report()
    options = press.Options(jobs=jobs, timeout=timeout, force=force, scheduler=scheduler)
    path, findings = press.run_chapter(project, chapter, values, options, report)
    if output is not None:
        write_atomic(output.absolute(), path.read_bytes())
        path = output
    report.line(f"executed notebook: {project.relative(path)}")
    report.line("open it in Jupyter, VS Code or any other notebook viewer")
    if findings:
        raise BuildFailed("\n".join(str(finding) for finding in findings))


@app.command(cls=ChapterCommand, epilog=EXIT_CODES)
@click.argument("chapter")
@click.option(
    "--grid",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    help="YAML file of the parameters: name: [values], name: low..high, or a list of such maps.",
)
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    help="Folder for points, table and figure; local, or a URL that fsspec understands.",
)
@click.option(
    "--show",
    "shown",
    multiple=True,
    metavar="NAME",
    help="Claim or glued number to draw (repeatable) [what suits].",
)
@_shared
@click.pass_obj
def sweep(
    project: Project,
    chapter: str,
    file: Path,
    out: str,
    shown: Sequence[str],
    jobs: int | None,
    scheduler: str | None,
    timeout: float | None,
    force: bool,
) -> None:
    """Execute one CHAPTER over a grid of parameters; go on where an earlier sweep stopped.

    Each point is kept as soon as it has finished, as a table of its claims and numbers and as
    an executed notebook. A point that fails is named at the end and does not stop the others.
    With a scheduler, --jobs does nothing: its workers say how many points run at once.

    \b
    Examples:
      collapse-book sweep gaussian --grid grid.yml --out runs/gaussian
      collapse-book sweep gaussian --grid grid.yml --out runs/gaussian --show A1
      collapse-book sweep gaussian --grid grid.yml --out s3://bucket/gaussian \\
                    --scheduler tcp://127.0.0.1:8786
    """
    from collapse_book.grid import read_grid

    grid = read_grid(file, _parameters(project, chapter))
    from collapse_book.press import Options
    from collapse_book.report import Report
    from collapse_book.sweep import run_sweep

    options = Options(jobs=jobs, scheduler=scheduler, timeout=timeout, force=force)
    run_sweep(project, chapter, grid, out, options, shown, Report())


@app.command(epilog=EXIT_CODES)
@click.argument("chapters", nargs=-1)
@click.option("--fix", is_flag=True, help="First repair outputs, ids and install cell.")
@click.pass_obj
def check(project: Project, chapters: Sequence[str], fix: bool) -> None:
    """Check notebooks and scenarios, and the gate on what has been executed; execute nothing.

    \b
    Examples:
      collapse-book check
      collapse-book check gaussian --fix
    """
    _known(project, chapters)
    from collapse_book import press
    from collapse_book.gate import check_book
    from collapse_book.hygiene import check_notebook, fix_notebook
    from collapse_book.scenarios import check_scenarios

    names = chapters or project.chapters
    if fix:
        for chapter in names:
            if fix_notebook(project, chapter):
                click.echo(f"repaired notebooks/{chapter}.ipynb")
    problems = [str(finding) for name in names for finding in check_notebook(project, name)]
    problems += check_scenarios(project)
    problems += [f"book/_toc.yml names {name}, which does not exist" for name in project.unwritten]
    if not problems:
        book = press.book_runs(project)
        merged = {chapter: book.executed(chapter) for chapter in names}
        done = {chapter: notebook for chapter, notebook in merged.items() if notebook is not None}
        problems += [str(finding) for finding in check_book(done, strict=True)]
        count = counted(len(names), "notebook")
        click.echo(f"{count} checked, {len(done)} with a run of what is there now")
    if problems:
        raise BuildFailed("\n".join(problems))


@app.command("list", epilog=EXIT_CODES)
@click.argument("chapters", nargs=-1)
@click.pass_obj
def list_(project: Project, chapters: Sequence[str]) -> None:
    """List chapters with title and last run time, scenarios, and what-ifs.

    For named CHAPTERS, list their parameters (name, type, default, meaning, what is allowed) and
    their what-ifs.

    \b
    Examples:
      collapse-book list
      collapse-book list gaussian
    """
    _known(project, chapters)
    from collapse_book.cache import measured_seconds
    from collapse_book.notebooks import read_notebook, title
    from collapse_book.scenarios import named_scenario, scenario_names, what_ifs

    seconds = measured_seconds(project)
    names = chapters or project.chapters
    width = max((len(name) for name in names), default=0)
    formatter = click.get_current_context().make_formatter()
    for chapter in names:
        took = f"{seconds[chapter]:7.1f} s" if chapter in seconds else "never run"
        heading = title(read_notebook(project.notebook(chapter)))
        if chapters and formatter.buffer:
            formatter.write_paragraph()
        formatter.write(f"{chapter:<{width}}  {took}  {heading}\n")
        if chapters:
            write_parameters(project, chapter, formatter)
    if not chapters:
        scenarios = [named_scenario(project, name) for name in scenario_names(project)]
        rows = [(scenario.name, scenario.description) for scenario in scenarios]
        write_rows(formatter, "Scenarios (collapse-book build --scenario NAME)", rows)
    questions = what_ifs(project)
    rows = [
        (question.name, f"{chapter}: {question.description}")
        for chapter in names
        for question in questions
        if chapter in question.chapters
    ]
    command = "collapse-book run CHAPTER -f scenarios/what_if/NAME.yml"
    write_rows(formatter, f"What if? ({command})", rows)
    click.echo(formatter.getvalue(), nl=False)


@app.command(epilog=EXIT_CODES)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Where to write it [_build/model-collapse.pdf].",
)
@click.pass_obj
def pdf(project: Project, output: Path | None) -> None:
    """Print the whole built site as one PDF, with cover, contents and page numbers.

    Needs Chromium (found on the path, or CHROMIUM=/path/to/it) and pip install -e '.[pdf]'.

    \b
    Examples:
      collapse-book pdf
      collapse-book pdf -o book.pdf
    """
    from collapse_book.pdf import print_book

    path, pages = print_book(project, output, click.echo)
    size = f"{counted(pages, 'page')}, {path.stat().st_size / 1e6:.1f} MB"
    click.echo(f"the book on paper: {project.relative(path)}, {size}")


@app.command(epilog=EXIT_CODES)
@click.pass_obj
def lite(project: Project) -> None:
    """Add to the built site the chapters that run in a browser, as a JupyterLite site in lite/.

    Chapters qualify if neither they nor what they use of the library import torch or start a
    process. Later builds keep it until the library changes. Needs pip install -e '.[lite]'.

    \b
    Example:
      collapse-book build && collapse-book lite
    """
    from collapse_book import press
    from collapse_book.report import Report

    press.build_lite(project, Report())


def _known(project: Project, chapters: Sequence[str]) -> None:
    for chapter in chapters:
        project.notebook(chapter)


def _parameters(project: Project, chapter: str) -> list[Any]:
    from collapse_book.notebooks import chapter_parameters

    return chapter_parameters(project, chapter)


def _scenario(project: Project, name: str | None) -> Scenario | None:
    from collapse_book.scenarios import named_scenario

    return None if name is None else named_scenario(project, name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: user errors are one line, never a traceback."""
    try:
        code = app.main(args=arguments, prog_name="collapse-book", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = 2
    except click.ClickException as error:
        code = _fail(error.format_message(), 2)
    except BadInput as error:
        code = _fail(str(error), 2)
    except BuildFailed as error:
        code = _fail(str(error), 1)
    except (KeyboardInterrupt, click.Abort):
        code = _fail("interrupted; notebooks that had finished are kept", 130)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> int:
    for line in message.splitlines():
        click.echo(f"collapse-book: {line}", err=True)
    return code


if __name__ == "__main__":
    main()
