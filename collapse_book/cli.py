"""The command line. Heavy libraries are imported only by the commands that need them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from collapse_book import scenarios
from collapse_book.files import try_to_write, write_atomic
from collapse_book.gate import check_book, check_notebook, check_pages, fix_notebook
from collapse_book.messages import BadInput, BuildFailed, counted, one_line, say
from collapse_book.notebooks import chapter_parameters, read_notebook, title, validate
from collapse_book.project import Project

EXIT_CODES = """\b
Exit codes: 0 all is well, 1 a notebook, the gate or Sphinx failed,
2 bad input (nothing was started), 130 interrupted."""

Command = Callable[..., Any]


def _existing(context: click.Context, _: click.Parameter, given: Any) -> Any:
    """Refuse a name that no chapter has."""
    for chapter in [given] if isinstance(given, str) else given:
        context.obj.notebook(chapter)
    return given


def _writable(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a place that cannot be written, before the work whose result goes there."""
    if path is not None:
        try_to_write(path)
    return path


FILE = click.Path(path_type=Path)
one_chapter = click.argument("chapter", callback=_existing)
some_chapters = click.argument("chapters", nargs=-1, callback=_existing)
output = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_writable,
    help="Write the result here.",
)


def executes(command: Command) -> Command:
    """Options of the commands that execute; they are the fields of `execute.Options`."""
    where = "Run on the workers of this Dask scheduler, such as tcp://127.0.0.1:8786."
    jobs, seconds = click.IntRange(1, 10**4), click.IntRange(1, 10**7)
    for option in (
        click.option("--jobs", "-j", type=jobs, help="Notebooks at once [cores]."),
        click.option("--scheduler", metavar="ADDRESS", help=where),
        click.option("--timeout", type=seconds, help="Seconds that one cell may take."),
        click.option("--force", is_flag=True, help="Execute even what has not changed."),
    ):
        command = option(command)
    return command


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.option(
    "--project",
    "root",
    type=FILE,
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
@some_chapters
@click.option("--scenario", help="Take parameters from scenarios/NAME.yml; builds no site.")
@executes
@click.pass_obj
def build(project: Project, chapters: Sequence[str], scenario: str | None, **options: Any) -> None:
    """Execute the chapters that changed (those of the book, or CHAPTERS), then build the site.

    What has finished is kept when a build is interrupted; the next one goes on from there.

    \b
    Examples:
      collapse-book build
      collapse-book build gaussian digits --jobs 2
      collapse-book build --scenario smoke
    """
    chosen = None if scenario is None else scenarios.named_scenario(project, scenario)
    for chapter in chapters:
        if chosen and chapter not in chosen.chapters:
            raise BadInput(f"scenario {chosen.name!r} says nothing about chapter {chapter!r}")
    for chapter in project.chapters:
        chapter_parameters(project, chapter)
    from collapse_book import press

    if chosen:
        names = chapters or [name for name in project.chapters if name in chosen.chapters]
        values = {name: chosen.chapters[name] for name in names}
        _, failures = press.run_chapters(project, values, press.Options(**options))
        if failures:
            raise BuildFailed("\n".join(failures.values()))
        say(f"executed notebooks: {project.relative(project.build / 'executed')}")
    elif front := press.build_book(project, chapters, press.Options(**options)):
        say(f"the book is ready: {front}")


@app.command(epilog=EXIT_CODES)
@one_chapter
@click.option("-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a parameter.")
@click.option(
    "-f", "files", multiple=True, type=FILE, help="YAML file of parameters, or a scenario."
)
@output
@executes
@click.pass_obj
def run(
    project: Project,
    chapter: str,
    given: Sequence[tuple[str, str]],
    files: Sequence[Path],
    output: Path | None,
    **options: Any,
) -> None:
    """Execute one CHAPTER with your own parameters; `collapse-book list CHAPTER` shows them.

    Parameters are checked before anything starts. -p and -f may be repeated: the last file wins, -p
    goes before every file, and - is standard input.

    \b
    Examples:
      collapse-book run gaussian
      collapse-book run gaussian -p n_samples 50 -p seed 7
      collapse-book run gaussian -f scenarios/smoke.yml -o small.ipynb
    """
    values: dict[str, Any] = {}
    for file in files:
        values |= scenarios.read_parameters(project, chapter, file)
    for name, _ in given:
        if [other for other, _ in given].count(name) > 1:
            raise BadInput(f"parameter {name!r} is given twice")
    values |= validate(chapter_parameters(project, chapter), dict(given), cast=True)

    from collapse_book import press

    paths, failures = press.run_chapters(project, {chapter: values}, press.Options(**options))
    for path in paths.values():
        if output is not None:
            write_atomic(output.absolute(), path.read_bytes())
        say(f"executed notebook: {project.relative(output or path)}")
    if failures:
        raise BuildFailed(failures[chapter])


@app.command(epilog=EXIT_CODES)
@one_chapter
@click.option("--grid", "file", required=True, type=FILE, help="YAML file of the values to try.")
@click.option(
    "--out", required=True, metavar="DIR", help="Folder or URL for points, table, figure."
)
@click.option("--show", "shown", multiple=True, metavar="NAME", help="Draw it [what suits].")
@executes
@click.pass_obj
def sweep(
    project: Project, chapter: str, file: Path, out: str, shown: Sequence[str], **options: Any
) -> None:
    """Execute one CHAPTER over a grid of parameters; go on where an earlier sweep stopped.

    The grid maps parameters to values, `name: [values]` or `name: low..high`, or is a list of such
    maps. --out is local, or a URL that fsspec understands. Each point is kept as soon as it has
    finished. A point that fails is named at the end and does not stop the others. --show names a
    claim or a glued number, and may be repeated.

    \b
    Examples:
      collapse-book sweep gaussian --grid grid.yml --out runs/gaussian --show A1
      collapse-book sweep gaussian --grid grid.yml --out s3://bucket/gaussian \\
                    --scheduler tcp://127.0.0.1:8786
    """
    grid = scenarios.read_grid(file, chapter_parameters(project, chapter))
    from collapse_book.sweep import Options, run_sweep

    run_sweep(project, chapter, grid, out, Options(**options), shown)


@app.command(epilog=EXIT_CODES)
@some_chapters
@click.option("--fix", is_flag=True, help="First repair outputs, ids and install cell.")
@click.pass_obj
def check(project: Project, chapters: Sequence[str], fix: bool) -> None:
    """Check notebooks and scenarios, and the gate on what has been executed; execute nothing.

    \b
    Example:
      collapse-book check gaussian --fix
    """
    from collapse_book import press

    names = chapters or project.chapters
    for chapter in names:
        if fix and fix_notebook(project, chapter):
            say(f"repaired {project.relative(project.notebook(chapter))}")
    problems = [line for name in names for line in check_notebook(project, name)]
    problems += check_pages(project) + scenarios.check_scenarios(project)
    problems += [f"book/_toc.yml names {name}, which does not exist" for name in project.unwritten]
    if not problems:
        book = press.book_runs(project)
        merged = {chapter: book.executed(chapter) for chapter in names}
        done = {chapter: notebook for chapter, notebook in merged.items() if notebook is not None}
        for lines in check_book(done, strict=True).values():
            problems += lines
        count = counted(len(names), "notebook")
        say(f"{count} checked, {len(done)} with a run of what is there now")
    if problems:
        raise BuildFailed("\n".join(problems))


@app.command("list", epilog=EXIT_CODES)
@some_chapters
@click.pass_obj
def list_(project: Project, chapters: Sequence[str]) -> None:
    """List chapters, scenarios and what-ifs; of CHAPTERS, the parameters and what they mean.

    \b
    Example:
      collapse-book list gaussian
    """
    from collapse_book.cache import measured_seconds

    seconds = measured_seconds(project)
    names = chapters or project.chapters
    width = max(map(len, names), default=0)
    formatter = click.get_current_context().make_formatter()

    def section(heading: str, rows: Sequence[tuple[str, str]]) -> None:
        if rows:
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=36)

    for chapter in names:
        took = f"{seconds[chapter]:7.1f} s" if chapter in seconds else "never run"
        heading = title(read_notebook(project.notebook(chapter)))
        formatter.write(f"{chapter:<{width}}  {took}  {heading}\n")
        known = chapter_parameters(project, chapter) if chapters else []
        rows = [(f"{p.name}: {p.type} = {p.default!r}", f"{p.help} ({p.allowed})") for p in known]
        section(f"Parameters of {chapter}", rows)
    if not chapters:
        found = [scenarios.named_scenario(project, n) for n in scenarios.scenario_names(project)]
        rows = [(scenario.name, scenario.description) for scenario in found]
        section("Scenarios (collapse-book build --scenario NAME)", rows)
    asked = {name: [q for q in scenarios.what_ifs(project) if q.chapter == name] for name in names}
    rows = [(q.name, f"{name}: {q.description}") for name in names for q in asked[name]]
    section("What if? (collapse-book run CHAPTER -f scenarios/what_if/NAME.yml)", rows)
    click.echo(formatter.getvalue(), nl=False)


@app.command(epilog=EXIT_CODES)
@output
@click.pass_obj
def pdf(project: Project, output: Path | None) -> None:
    """Print the whole built site as one PDF, with cover, contents and page numbers.

    Needs Chromium (found on the path, or CHROMIUM=/path/to/it) and pip install -e '.[pdf]'.

    \b
    Example:
      collapse-book pdf -o book.pdf
    """
    from collapse_book.pdf import print_book

    path, pages = print_book(project, output)
    size = f"{counted(pages, 'page')}, {path.stat().st_size / 1e6:.1f} MB"
    say(f"the book on paper: {project.relative(path)}, {size}")


@app.command(epilog=EXIT_CODES)
@click.pass_obj
def lite(project: Project) -> None:
    """Add to the built site the chapters that run in a browser, as a JupyterLite site in lite/.

    Chapters qualify if neither they nor what they use of the library import torch or start a
    process. Later builds keep it until the library changes. Needs pip install -e '.[lite]'.

    \b
    Example:
      collapse-book lite
    """
    from collapse_book import press

    press.build_lite(project)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: user errors are one line, never a traceback."""
    try:
        code = app.main(args=arguments, prog_name="collapse-book", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except BuildFailed as error:
        code = _fail(str(error), 1)
    except click.ClickException as error:
        code = _fail(one_line(error.format_message()), 2)
    except (KeyboardInterrupt, click.Abort):
        code = _fail("interrupted; notebooks that had finished are kept", 130)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = _fail(f"{where}{error.strerror or error}", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> int:
    for line in message.splitlines():
        click.echo(f"collapse-book: {line}", err=True)
    return code
