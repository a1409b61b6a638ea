"""The page *What if?*: named scenarios, what came of them, and what the default gave."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from collapse_book.errors import BuildFailed, counted, suggestion
from collapse_book.gate import GLUE_PREFIX, claims_of, glue_key, outputs_of
from collapse_book.notebooks import Notebook, joined, parameters_of
from collapse_book.pages import table_cell
from collapse_book.scenarios import Scenario


def what_if_page(
    notebooks: Mapping[str, Notebook],
    scenarios: Sequence[Scenario],
    outcomes: Mapping[str, Notebook],
) -> str:
    """Markdown of the page.

    Parameters
    ----------
    notebooks : mapping of chapter to executed notebook
        With the default parameters.
    scenarios : sequence of Scenario
    outcomes : mapping of scenario name to executed notebook

    Raises
    ------
    BuildFailed
        If a scenario compares a number that its chapter does not glue.
    """
    sections = "\n".join(
        _section(scenario, notebooks[next(iter(scenario.chapters))], outcomes[scenario.name])
        for scenario in scenarios
    )
    return f"""# What if?

Every chapter is an experiment with parameters. Here are {len(scenarios)} of them with another
value, executed with this book: the question, what changed, and the command that repeats it. The
numbers are those of the chapter at its defaults and under the scenario. A claim whose verdict
changed is listed too: *unresolved* there means that the scenario is too small to tell, and a
claim that the scenario contradicts would have stopped the build. {{doc}}`/sweeps` shows how to try
many values at once, {{doc}}`/generated/parameters` what there is to change.

{sections}"""


def _section(scenario: Scenario, default: Notebook, outcome: Notebook) -> str:
    (chapter, changed), *_ = scenario.chapters.items()
    values = {p.name: p.default for p in parameters_of(default)}
    change = ", ".join(
        f"`{name} = {value!r}` instead of `{values[name]!r}`" for name, value in changed.items()
    )
    before, after = _numbers(default), _numbers(outcome)
    for key in scenario.compare:
        if key not in before or key not in after:
            hint = suggestion(key, before, "numbers")
            raise BuildFailed(
                f"scenarios/what_if/{scenario.name}.yml compares {key!r}, which {chapter} does "
                f"not glue{hint}"
            )
    rows = "\n".join(
        f"| {table_cell(meaning)} | {table_cell(before[key])} | {table_cell(after[key])} |"
        for key, meaning in scenario.compare.items()
    )
    question, _, story = scenario.description.partition("?")
    return f"""## {question.strip()}?

{story.strip()} In {{doc}}`/notebooks/{chapter}`, with {change}:

| | default | here |
| --- | ---: | ---: |
{rows}

{_verdicts(default, outcome)}

```bash
collapse-book run {chapter} -f scenarios/what_if/{scenario.name}.yml
```
"""


def _numbers(notebook: Notebook) -> dict[str, str]:
    """The glued numbers of an executed notebook."""
    return {
        key: str(ast.literal_eval(joined(output["data"][f"{GLUE_PREFIX}text/plain"])))
        for _, _, output in outputs_of(notebook)
        if (key := glue_key(output)) is not None
    }


def _verdicts(default: Notebook, outcome: Notebook) -> str:
    """The claims whose verdict the scenario changed."""
    before = {claim["id"]: claim["verdict"] for claim in claims_of(default)}
    after = {claim["id"]: claim["verdict"] for claim in claims_of(outcome)}
    moved = [
        f"{name} from {before[name]} to {after[name]}"
        for name in before
        if name in after and after[name] != before[name]
    ]
    if not moved:
        return f"No verdict of the chapter changes; it has {len(before)}."
    return f"Of {counted(len(before), 'verdict')} {len(moved)} changed: {', '.join(moved)}."
