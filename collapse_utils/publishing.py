"""What a chapter gives to the page: figures, films, texts to read, numbers with their errors.

Draw with the verbs of :mod:`collapse_utils.figures`, with matplotlib or seaborn, then hand the
figure to :func:`show`. Captions and alt texts are required, and may hold numbers that the run
computed. A figure is drawn once and shown in a light and a dark variant.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks

if TYPE_CHECKING:  # matplotlib is imported where a figure is made: claims need only the texts
    from matplotlib.artist import Artist
    from matplotlib.collections import Collection
    from matplotlib.figure import Figure
    from PIL import Image

# Ink, grid and paper change between the light and the dark variant; data colours do not, so
# they are mid-tones that stand out on both (Okabe and Ito's palette, safe for colour-blind eyes).
INK, GRID, PAPER = "#1f2328", "#d9dde2", "#ffffff"
_DARK = {INK: "#e6e8eb", GRID: "#3a4048", PAPER: "#14181c"}
#: Characters of SVG beyond which dense data become pixels; points that count as dense; pixels
#: per inch of such data.
_HEAVY, _MANY, _DPI = 120_000, 60, 160
#: Characters that a player may take: more would be slow on a phone.
_HEAVY_PLAYER = 300_000
#: The same three colours in a drawing that stands in the page itself, which says what they are.
_PAGE = {
    INK: f"var(--book-ink,{INK})",
    GRID: f"var(--book-rule,{GRID})",
    PAPER: f"var(--book-paper,{PAPER})",
}
#: Dark themes of Colab, JupyterLab and VS Code, where the book's own style sheet is not at hand.
_ELSEWHERE = ":is([theme=dark],[data-jp-theme-light=false],.vscode-dark) .collapse-figure"
_STYLE = (
    f"<style>{_ELSEWHERE} {{--book-ink:{_DARK[INK]};--book-rule:{_DARK[GRID]};"
    f"--book-paper:{_DARK[PAPER]}}}"
    f"{_ELSEWHERE} .only-light{{display:none!important}}"
    f"{_ELSEWHERE} .only-dark{{display:inline!important}}</style>"
)
_DEFINITIONS = re.compile(r"<defs>.*?</defs>", re.DOTALL)
_GROUP = re.compile(r"(<g\b[^>]*>|</g>)")
_FRAME = re.compile(r' id="frame-(\d+)-(\d+)"')
_SLOT = '<g data-slot=""></g>'
_PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")


def show(fig: Figure, *, name: str, caption: str, alt: str) -> None:
    """Display a figure in a light and a dark variant, with its caption and alt text.

    The figure is drawn once, as SVG; the dark variant is the same drawing with ink, grid and
    paper repainted. A drawing that would be heavy on a page keeps its words and axes sharp and
    gets its dense data as pixels.

    - `fig` (matplotlib Figure): Closed afterwards.
    - `name`: Label for cross-references, such as "fig-gaussian-spread".
    - `caption`: Markdown that can be read without the text around it.
    - `alt`: What a reader who cannot see the figure needs: kind of chart, data, message.
    """
    _require(name=name, caption=caption, alt=alt)
    _display("figure", variants(fig, alt), name, caption, alt)


def variants(fig: Figure, alt: str) -> str:
    """HTML of a figure in a light and a dark variant, for a page that is no notebook."""
    import matplotlib.pyplot as plt

    light = _svg(fig)
    if len(light) > _HEAVY:
        fig.set_layout_engine("none")  # a second layout would move everything a little
        _rasterize_dense(fig)
        light = _PNG.sub(_fewer_colours, _svg(fig))
    plt.close(fig)
    dark = re.sub("|".join(_DARK), lambda colour: _DARK[colour[0]], light)
    light, dark = (_uri("svg+xml", svg.encode()) for svg in (light, dark))
    text = html.escape(alt)
    return (
        f'<img class="only-light" alt="{text}" src="{light}">'
        f'<img class="only-dark" style="display:none" alt="{text}" src="{dark}">'
    )


def player(
    frames: Sequence[ArrayLike],
    *,
    name: str,
    caption: str,
    alt: str,
    labels: Sequence[str] | None = None,
    scale: int = 4,
) -> None:
    """Display images with a slider over generations that needs no server.

    Works with mouse, touch and keyboard (arrow keys on the slider), follows the reader's
    reduced-motion setting, and prints as a strip of stills. Keeps fewer frames where all of them
    would be heavy on a page.

    - `frames` (sequence of arrays, each of shape (height, width)): Grey images with values in [0,
      1], 1 being ink; one per generation.
    - `name`, `caption`, `alt`: As in :func:`show`.
    - `labels` (sequence of str): One per frame; default "generation 0", "generation 1", ...
    - `scale`: Screen pixels per image pixel.
    """
    _require(name=name, caption=caption, alt=alt)
    arrays = [np.asarray(frame, dtype=float) for frame in frames]
    if len(arrays) < 2 or len({a.shape for a in arrays}) != 1 or arrays[0].ndim != 2:
        raise ValueError(
            f"frames must be two or more images of one shape, got {[a.shape for a in arrays]}"
        )
    scale = _checks.whole(1)("scale", scale)
    uris = [_grey_png(a) for a in arrays]
    height, width = arrays[0].shape
    stage = (
        f'<img class="player-frame" data-slot alt="{html.escape(alt)}"'
        f' width="{width * scale}" height="{height * scale}"'
        f' style="image-rendering:pixelated;max-width:100%;height:auto" src="{uris[0]}">'
    )
    stills = [f'<img alt="" width="{width}" src="{uri}">' for uri in uris]
    _display("player", _player(stage, [[uri] for uri in uris], stills, labels), name, caption, alt)


def film(
    fig: Figure,
    frames: Sequence[Sequence[Artist]],
    *,
    name: str,
    caption: str,
    alt: str,
    labels: Sequence[str] | None = None,
) -> None:
    """Display a drawing with a slider over generations: some of its artists change, the rest stays.

    Draw the artists of all frames into the same axes, so that limits and layout hold for all of
    them, and say which belong to which frame. The page keeps one drawing and the moving parts.
    Slider, keyboard and reduced motion are those of :func:`player`; on paper it is a strip of
    stills. A film that would be heavy on a page keeps fewer of its frames.

    - `fig` (matplotlib Figure): Closed afterwards.
    - `frames` (sequence of sequences of matplotlib artists): One sequence per frame, all of the
      same length: lines, patches, collections or texts. The k-th artist of a frame takes the place
      of the k-th of the frame before.
    - `name`, `caption`, `alt`: As in :func:`show`.
    - `labels` (sequence of str): One per frame; default "generation 0", "generation 1", ...
    """
    _require(name=name, caption=caption, alt=alt)
    counts = [len(frame) for frame in frames]
    if len(counts) < 2 or len(set(counts)) != 1 or counts[0] == 0:
        raise ValueError(f"frames must be two or more of equally many artists, got {counts}")
    for i, frame in enumerate(frames):
        for k, artist in enumerate(frame):
            if artist.get_figure() is not fig:
                raise ValueError(f"frames must hold artists of fig, got frames[{i}][{k}] {artist}")
            artist.set_gid(f"frame-{i}-{k}")
    import matplotlib.pyplot as plt

    drawing, definitions, moving = _split(_own(_svg(fig), name), len(frames))
    plt.close(fig)

    def still(i: int) -> str:
        parts = iter(moving[i])
        return re.sub(_SLOT, lambda _: f'<g data-slot="">{next(parts)}</g>', drawing)

    label = f'<svg class="player-frame" role="img" aria-label="{html.escape(alt)}" '
    stills = [still(i) for i in range(len(frames))]
    stage = stills[0].replace("<svg ", label, 1).replace("</svg>", f"{definitions}</svg>")
    _display("player", _player(stage, moving, stills, labels), name, caption, alt)


def reader(
    pages: Sequence[Mapping[str, str]],
    *,
    name: str,
    caption: str,
    alt: str,
    labels: Sequence[str] | None = None,
) -> None:
    """Display texts side by side with a slider over generations, to be read as they change.

    Slider, keyboard and reduced motion are those of :func:`player`; on paper four pages stand
    one below the other.

    - `pages` (sequence of dicts of heading -> text): One per generation, all with the same
      headings.
    - `name`, `caption`, `alt`: As in :func:`show`.
    - `labels` (sequence of str): One per page; default "generation 0", "generation 1", ...
    """
    _require(name=name, caption=caption, alt=alt)
    headings = [list(page) for page in pages]
    if len(pages) < 2 or not headings[0] or any(one != headings[0] for one in headings):
        raise ValueError(f"pages must be two or more with the same headings, got {headings}")
    frames = [[html.escape(text) for text in page.values()] for page in pages]

    def still(i: int) -> str:
        return "".join(
            f"<div><strong>{html.escape(heading)}</strong><p data-slot>{text}</p></div>"
            for heading, text in zip(headings[0], frames[i], strict=True)
        )

    label = f'role="group" aria-label="{html.escape(alt)}"'
    stage = f'<div class="player-frame player-text" {label}>{still(0)}</div>'
    stills = [f'<div class="player-text">{still(i)}</div>' for i in range(len(pages))]
    _display("player", _player(stage, frames, stills, labels), name, caption, alt)


def _player(
    stage: str, frames: list[list[str]], stills: list[str], labels: Sequence[str] | None
) -> str:
    """A stage, whose slots take the parts of a frame, above a slider; stills are for paper."""
    named = [f"generation {g}" for g in range(len(frames))] if labels is None else labels
    labels = _checks.texts("labels", named)
    if len(labels) != len(frames):
        raise ValueError(f"labels must name all {len(frames)} frames, got {len(labels)}")
    size = len(frames)
    while True:  # a film of other parameters may be heavier: it keeps fewer of its frames
        kept = _spread(size, len(frames))
        body = _with_slider(stage, *([one[i] for i in kept] for one in (frames, stills, labels)))
        if len(body) <= _HEAVY_PLAYER:
            return body
        if size == 2:
            raise ValueError(
                f"frames must be drawn in at most {_HEAVY_PLAYER:,} characters, two of these take "
                f"{len(body):,}: draw fewer points in each"
            )
        size = (size + 1) // 2


def _spread(n: int, of: int) -> list[int]:
    """`n` of the numbers 0, ..., of - 1, evenly spread from the first to the last."""
    return np.linspace(0, of - 1, n).round().astype(int).tolist()


def _with_slider(stage: str, frames: list[list[str]], stills: list[str], labels: list[str]) -> str:
    chosen = _spread(min(4, len(frames)), len(frames))
    strip = "".join(f"<span>{html.escape(labels[i])}{stills[i]}</span>" for i in chosen)
    data = json.dumps({"frames": frames, "labels": labels}).replace("<", "\\u003c")
    script = resources.files(__package__).joinpath("player.js").read_text(encoding="utf-8")
    return (
        f'<div class="player">{stage}'
        '<div class="player-bar"><button type="button" aria-label="Play">▶</button>'
        f'<input type="range" min="0" max="{len(frames) - 1}" value="0" step="1" '
        f'aria-label="Generation" aria-valuetext="{html.escape(labels[0])}">'
        f"<output>{html.escape(labels[0])}</output></div>"
        f'<div class="player-strip" hidden>{strip}</div>'
        f'<script type="application/json">{data}</script></div><script>{script}</script>'
    )


def _display(kind: str, body: str, name: str, caption: str, alt: str) -> None:
    figure = (
        f'<figure class="collapse-figure">{_STYLE}{body}'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
    show_html(figure, alt, {"kind": kind, "name": name, "caption": caption, "alt": alt})


def _require(**texts: str) -> None:
    for name, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} must be a text that is not empty, got {text!r}")


def _svg(fig: Figure) -> str:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="svg", dpi=_DPI, metadata={"Date": None})
    return buffer.getvalue().decode()


def _own(svg: str, name: str) -> str:
    """A drawing that can stand in a page: identifiers of its own, and the page's colours."""
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = svg[svg.index("<svg ") :].strip()
    svg = re.sub(r'<g id="(?!frame-)[^"]*"', "<g", svg)
    svg = re.sub(r"<g\b([^>]*)/>", r"<g\1></g>", svg)
    svg = re.sub(r'(?<= id=")(?!frame-)|(?<=url\(#)|(?<=href="#)', f"{name}-", svg)
    style = 'style="max-width:100%;height:auto;stroke-linejoin:round;stroke-linecap:butt" '
    svg = svg.replace("<svg ", f"<svg {style}", 1)
    return re.sub("|".join(_PAGE), lambda colour: _PAGE[colour[0]], svg)


def _split(svg: str, n_frames: int) -> tuple[str, str, list[list[str]]]:
    """Take the frames out of a drawing.

    Returns what stays, with an empty slot for each moving artist; the letters, markers and clips
    that the drawing and its frames refer to; and what fills the slots, frame by frame.
    """
    definitions = "".join(_DEFINITIONS.findall(svg))
    kept: list[str] = []
    cut: dict[tuple[int, int], list[str]] = {}
    slots, here, depth = [], None, 0
    for piece in _GROUP.split(_DEFINITIONS.sub("", svg)):
        opens = piece.startswith("<g")
        if here is not None:
            depth += opens - (piece == "</g>")
            if depth:
                cut[here].append(piece)
            else:
                here = None
        elif opens and (mark := _FRAME.search(piece)):
            here, depth = (int(mark[1]), int(mark[2])), 1
            cut[here] = []
            if here[1] not in slots:  # an artist may be empty in the first frames, or in the last
                slots.append(here[1])
                kept.append(_SLOT)
        else:
            kept.append(piece)
    moving = [[_short("".join(cut.get((i, k), []))) for k in slots] for i in range(n_frames)]
    return _short("".join(kept)), _short(definitions), moving


def _short(part: str) -> str:
    """The same paths to a tenth of a point, which no eye can tell, in fewer characters."""
    part = re.sub(r'(?<= d=")[^"]*', _short_path, part)
    return re.sub(r">\s+<", "><", part).strip()


def _short_path(path: re.Match[str]) -> str:
    words = " ".join(path[0].split())
    if set("CQ") & set(words):  # letters and markers, small and scaled
        return words
    return re.sub(r"(\.\d)\d+", r"\1", words).replace("L ", "")  # a line needs no letter


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return _uri("png", buffer.getvalue())


def _grey_png(grey: NDArray[np.float64]) -> str:
    from PIL import Image

    return _png(Image.fromarray((255 * (1 - np.clip(grey, 0, 1))).round().astype(np.uint8)))


def _fewer_colours(found: re.Match[str]) -> str:
    """The same pixels with a palette of 64 colours: about a quarter of the bytes."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(found[1])))
    return _png(image.quantize(64, method=Image.Quantize.FASTOCTREE))


def _rasterize_dense(fig: Figure) -> None:
    """Mark as pixels what has many points, unless it is in ink, which the dark variant repaints."""
    for ax in fig.axes:
        dense = [line for line in ax.lines if len(line.get_xydata()) > _MANY]
        dense += [group for group in ax.collections if _points(group) > _MANY]
        for artists in (ax.lines, ax.patches):
            if len(artists) > _MANY:
                dense += artists
        for artist in dense:
            # Arrows, and before matplotlib 3.10 contours, cannot be drawn as pixels.
            if getattr(artist.draw, "_supports_rasterization", False) and not _has_ink(artist):
                artist.set_rasterized(True)


def _points(group: Collection) -> int:
    """Points of a collection: corners of its paths, or its markers, whichever are more."""
    return max(sum(len(path.vertices) for path in group.get_paths()), len(group.get_offsets()))


def _has_ink(artist: Artist) -> bool:
    from matplotlib.colors import to_hex, to_rgba_array

    for kind in ("color", "facecolor", "edgecolor"):
        colour = getattr(artist, f"get_{kind}", lambda: "none")()
        if any(to_hex(rgba[:3]) in _DARK and rgba[3] > 0 for rgba in to_rgba_array(colour)):
            return True
    return False


def quiz(
    question: str,
    answer: float,
    *,
    error: float | None = None,
    choices: Sequence[str] | None = None,
    hints: Mapping[float, str] | None = None,
) -> None:
    """Show the answer to an exercise, which the page lets the reader find first.

    Call it in the hidden cell of a solution. The book's page puts the question before the solution,
    with a field or with choices, and judges what the reader gives. On paper, without JavaScript and
    in Jupyter it is a line of the solution: question and answer.

    - `question`: One question, in plain words.
    - `answer` (float): What the run computed; with `choices` the index of the right one, or a bool.
    - `error` (float): How far an accepted number may be from the answer, such as two standard
      errors of the run; default 5 % of the answer. The reader is told.
    - `choices` (sequence of str): What the reader picks from, instead of typing a number.
    - `hints` (dict of number or index -> str): What to say to a typical wrong answer.
    """
    _require(question=question)
    data: dict[str, Any] = {"question": question}
    if choices is None:
        answer = _checks.number()("answer", answer)
        if error is None:
            error, data["within"] = 0.05 * abs(answer), "within 5 %"
        else:
            error = _checks.number(0)("error", error)
            data["within"] = f"within {error:.2g}" if error else "exactly"
        if error == 0 and answer != round(answer):
            raise ValueError(f"error must be positive for an answer such as {answer!r}, got 0")
        large = 1000 <= abs(answer) < 1e9
        shown = f"{answer:,.0f}" if large else f"{answer:.4g}"
        hinted = _checks.number()
    else:
        choices = _checks.texts("choices", choices)
        if len(choices) < 2 or np.ndim(answer) or answer not in range(len(choices)):
            raise ValueError(
                f"answer must be the index of one of two or more choices, "
                f"got {answer!r} and {len(choices)} choices"
            )
        answer, error, data["choices"] = int(answer), 0.0, choices
        shown, hinted = choices[answer], _checks.whole(0, len(choices) - 1)
    hints = hints or {}
    if not isinstance(hints, Mapping):
        raise ValueError(f"hints must map wrong answers to texts, got {hints!r}")
    _checks.texts("hints", hints.values())
    data |= {"answer": answer, "error": error, "shown": shown}
    data["hints"] = [[hinted("hints", wrong), hint] for wrong, hint in hints.items()]
    body = f"{html.escape(question)} <strong>{html.escape(shown)}</strong>"
    page = f'<p data-quiz="{html.escape(json.dumps(data))}">{body}</p>'
    show_html(page, f"{question} {shown}", {"kind": "quiz"})


def show_html(html: str, text: str, metadata: dict[str, Any]) -> None:
    """Display HTML with a plain-text fallback and the metadata that the press reads."""
    from IPython.display import display

    display({"text/html": html, "text/plain": text}, raw=True, metadata={"collapse": metadata})


def plus_minus(value: float, error: float) -> str:
    """``value ± error`` with the error to two digits and the value to the same decimals.

    Digits end at the twelfth of the value: those after it are rounding.
    """
    if error == 0 or not math.isfinite(error):
        return f"{value:.4g}"
    if error < 1e-12 * abs(value):
        return f"{value:.12g} ± {error:.1g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"
