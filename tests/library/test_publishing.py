"""What the page gets: variants, captions, reproducible bytes, films, players, texts, numbers."""

import ast
import base64
import html
import io
import json
import math
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from importlib import resources

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import seaborn as sns

from collapse_utils import figures, glue, publishing
from collapse_utils.publishing import plus_minus

TEXTS = {"name": "fig-x", "caption": "What <is> shown.", "alt": 'A "chart" of x & y'}


pytestmark = pytest.mark.usefixtures("theme")


class Page(HTMLParser):
    """Elements with attributes, text by element, and a check that tags close."""

    VOID = ("img", "input", "br")

    def __init__(self, source):
        super().__init__()
        self.stack, self.elements, self.text = [], [], {}
        self.feed(source)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.setdefault(self.stack[-1], []).append(data)

    def all(self, tag, **attributes):
        return [a for t, a in self.elements if t == tag and attributes.items() <= a.items()]


def chart():
    """A figure with every kind of artist that the chapters use."""
    rng = np.random.default_rng(0)
    fig, (left, right) = plt.subplots(1, 2)
    figures.curves(left, {"model": rng.random((5, 20))}, how="ribbon", names="none")
    left.plot([0, 4], [0, 1], **figures.THEORY, label="law")
    left.scatter(range(5), range(5), c=[figures.TRUTH], edgecolor=figures.PAPER, s=20)
    left.annotate("note", (1, 1), color=figures.INK)
    left.legend(title="legend")
    left.set(title="Title", xlabel="generation", ylabel="value", yscale="log", ylim=(0.1, 9))
    sns.histplot(rng.random(50), ax=right, color=figures.THIRD)
    right.vlines([0.2, 0.4], 0, 5, color=figures.FOURTH)
    return fig


def sources(data):
    light, dark = Page(data["text/html"]).all("img")
    return light, dark


def decode(uri):
    head, content = uri.split(",", 1)
    return head, base64.b64decode(content)


# ------------------------------------------------------------------ show


def test_show_emits_what_the_press_reads(displayed):
    publishing.show(chart(), **TEXTS)
    ((data, metadata),) = displayed
    assert metadata == {"collapse": {"kind": "figure", **TEXTS}}
    json.dumps(metadata)
    assert data["text/plain"] == TEXTS["alt"]
    page = Page(data["text/html"])
    assert page.elements[0] == ("figure", {"class": "collapse-figure"})
    assert page.text["figcaption"] == [TEXTS["caption"]]
    light, dark = page.all("img")
    assert light["class"], dark["class"] == ("only-light", "only-dark")
    assert light["alt"] == dark["alt"] == TEXTS["alt"]
    assert "style" not in light and dark["style"] == "display:none"


def test_variants_differ_only_in_ink_grid_and_paper(displayed):
    publishing.show(chart(), **TEXTS)
    light, dark = (decode(image["src"])[1].decode() for image in sources(displayed[0][0]))
    assert light != dark
    colour = re.compile(r"#[0-9a-f]{6}")
    marker = re.compile(r"\bm[0-9a-f]{10}\b")  # matplotlib names a marker by a hash of its style
    shapes = [marker.sub("m", colour.sub("#", svg)) for svg in (light, dark)]
    assert shapes[0] == shapes[1]  # same geometry, same words
    swaps = set(zip(colour.findall(light), colour.findall(dark), strict=True))
    changed = {(a, b) for a, b in swaps if a != b}
    assert changed == set(publishing._DARK.items())
    kept = {a for a, b in swaps if a == b}
    assert kept & {figures.INK, figures.GRID, figures.PAPER} == set()
    for data_colour in (figures.MODEL, figures.TRUTH, figures.THIRD, figures.FOURTH):
        assert data_colour in kept


def test_text_is_readable_on_dark_paper(displayed):
    """Every word is drawn in the ink of its variant."""
    publishing.show(chart(), **TEXTS)
    _, dark = sources(displayed[0][0])
    groups = re.findall(r'<g id="text_\d+">.*?</g>\s*</g>', decode(dark["src"])[1].decode(), re.S)
    assert len(groups) > 10
    ink = publishing._DARK[figures.INK]
    assert all(f"fill: {ink}" in g or f"stroke: {ink}" in g for g in groups)


def luminance(colour):
    channels = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_colours_stand_out_on_both_papers(dark):
    """WCAG 2.1: 4.5 for text, 3 for graphics."""
    paper = publishing._DARK[figures.PAPER] if dark else figures.PAPER
    ink = publishing._DARK[figures.INK] if dark else figures.INK
    assert contrast(ink, paper) >= 7
    for colour in (figures.MODEL, figures.TRUTH, figures.THIRD, figures.FOURTH):
        assert contrast(colour, paper) >= 3, colour


def dense(n):
    """`n` lines of 400 points that zigzag, so that none can be left out, under a law in ink."""
    rng = np.random.default_rng(0)
    fig, ax = plt.subplots()
    ax.plot(rng.random((400, n)), color=figures.MODEL)
    ax.plot(rng.random(400), **figures.THEORY)
    ax.set(xlabel="generation")
    return fig


@pytest.mark.parametrize("draw", [chart, lambda: dense(40)])
def test_the_same_figure_gives_the_same_bytes(displayed, draw):
    for _ in range(2):
        publishing.show(draw(), **TEXTS)
    assert displayed[0] == displayed[1]
    head, content = decode(sources(displayed[0][0])[0]["src"])
    assert head == "data:image/svg+xml;base64"
    assert content.startswith(b"<?xml")
    assert b"dc:date" not in content


def test_dense_data_become_pixels_and_ink_stays_vector(displayed):
    sizes = {}
    for n in (2, 40, 400):
        publishing.show(dense(n), **TEXTS)
        light, dark = (decode(image["src"])[1].decode() for image in sources(displayed.pop()[0]))
        sizes[n] = len(light)
        assert ("<image" in light) == (n > 2)
        lines = len(re.findall(rf"stroke: {figures.MODEL}", light))
        assert lines == (2 if n == 2 else 0)
        law = re.findall(r'stroke-dasharray: [^"]*', light)
        assert any(figures.INK in style for style in law)  # and so it is repainted in the dark one
        assert figures.INK not in dark
    assert sizes[400] < 10 * sizes[40]


def test_an_artist_without_colour_stays_without(displayed):
    fig, ax = plt.subplots()
    ax.plot([0, 1], marker="o", markerfacecolor="none")
    ax.scatter([0, 1], [0, 1], facecolors="none", edgecolors=figures.INK)
    ax.axis("off")
    publishing.show(fig, **TEXTS)
    light, dark = (decode(image["src"])[1].decode() for image in sources(displayed[0][0]))
    assert Counter(re.findall("fill: none", light)) == Counter(re.findall("fill: none", dark))


@pytest.mark.parametrize("name", ["name", "caption", "alt"])
@pytest.mark.parametrize("value", ["", "  \n", None])
def test_name_caption_and_alt_are_required(displayed, name, value):
    fig = plt.figure()
    frames = [np.zeros((2, 2))] * 2
    with pytest.raises(ValueError, match=f"{name} must be a text that is not empty, got"):
        publishing.show(fig, **{**TEXTS, name: value})
    with pytest.raises(ValueError, match=f"{name} must be a text that is not empty, got"):
        publishing.player(frames, **{**TEXTS, name: value})
    with pytest.raises(TypeError, match=name):
        publishing.show(fig, **{key: text for key, text in TEXTS.items() if key != name})
    plt.close(fig)
    assert displayed == []


def test_dark_notebooks_elsewhere_get_the_dark_variant_and_only_they(displayed):
    fig, ax = plt.subplots()
    ax.plot([0, 1])
    publishing.show(fig, **TEXTS)
    (style,) = Page(displayed[0][0]["text/html"]).text["style"]
    rules = dict(re.findall(r"(\S[^{}]*) \{?([^{}]*)\}", style.replace("{", " {")))
    assert len(rules) == 3
    hosts = ":is([theme=dark],[data-jp-theme-light=false],.vscode-dark) .collapse-figure"
    assert all(selector.startswith(hosts) for selector in rules)
    assert rules[f"{hosts} .only-light"] == "display:none!important"
    assert rules[f"{hosts} .only-dark"] == "display:inline!important"


# ------------------------------------------------------------------ the player


def gradient(k):
    return np.linspace(0, 1, 12).reshape(3, 4) * k / 5


def play(**change):
    publishing.player([gradient(k) for k in range(6)], **{**TEXTS, **change})


def test_player_is_one_accessible_element_that_needs_no_server(displayed):
    play(scale=3)
    ((data, metadata),) = displayed
    assert metadata == {"collapse": {"kind": "player", **TEXTS}}
    assert data["text/plain"] == TEXTS["alt"]
    assert "http" not in data["text/html"]
    page = Page(data["text/html"])
    assert page.elements[0] == ("figure", {"class": "collapse-figure"})
    assert len(page.all("div", **{"class": "player"})) == 1
    (frame,) = page.all("img", **{"class": "player-frame"})
    assert (frame["alt"], frame["width"], frame["height"]) == (TEXTS["alt"], "12", "9")
    (slider,) = page.all("input")
    assert slider["type"] == "range"
    assert (slider["min"], slider["max"], slider["value"], slider["step"]) == ("0", "5", "0", "1")
    assert slider["aria-label"] and slider["aria-valuetext"] == "generation 0"
    (button,) = page.all("button")
    assert button["type"] == "button" and button["aria-label"]
    assert page.text["output"] == ["generation 0"]
    stills = page.text["span"]
    assert stills == ["generation 0", "generation 2", "generation 3", "generation 5"]
    payload, script = page.text["script"]
    content = json.loads(payload)
    assert content["labels"] == [f"generation {g}" for g in range(6)]
    assert [frame["src"]] == content["frames"][0]
    assert script == resources.files("collapse_utils").joinpath("player.js").read_text("utf-8")


def test_player_frames_are_the_images(displayed):
    play()
    page = Page(displayed[0][0]["text/html"])
    for k, (uri,) in enumerate(json.loads(page.text["script"][0])["frames"]):
        head, content = decode(uri)
        assert head == "data:image/png;base64"
        pixels = plt.imread(io.BytesIO(content))
        # gray_r: 1 is ink, and 8 bits hold half a step of 1/255.
        np.testing.assert_allclose(pixels, 1 - gradient(k), atol=1 / 255)


def test_player_bytes_are_reproducible(displayed):
    play()
    play()
    assert displayed[0] == displayed[1]


def test_player_labels_cannot_break_out_of_the_script(displayed):
    labels = ["</script><!--<script>", "<b>", '"', "&", "é", "5"]
    play(labels=np.array(labels))
    page = Page(displayed[0][0]["text/html"])
    assert json.loads(page.text["script"][0])["labels"] == labels
    assert "<" not in page.text["script"][0]
    assert page.text["output"] == [labels[0]]
    assert len(page.all("script")) == 2


def test_two_frames_are_enough(displayed):
    publishing.player([gradient(0), gradient(5)], **TEXTS)
    assert Page(displayed[0][0]["text/html"]).text["span"] == ["generation 0", "generation 1"]


@pytest.mark.parametrize(
    ("frames", "change", "message"),
    [
        ([gradient(1)], {}, r"frames must be two or more images of one shape, got \[\(3, 4\)\]"),
        ([gradient(1), gradient(1).T], {}, r"got \[\(3, 4\), \(4, 3\)\]"),
        ([np.zeros(4), np.zeros(4)], {}, r"frames must be .* got \[\(4,\), \(4,\)\]"),
        ([gradient(1)] * 3, {"labels": ["a", "b"]}, "labels must name all 3 frames, got 2"),
        ([gradient(1)] * 3, {"labels": []}, "labels must name all 3 frames, got 0"),
        ([gradient(1)] * 3, {"scale": 0}, "scale must be an integer >= 1, got 0"),
    ],
)
def test_player_refuses_what_it_cannot_play(displayed, frames, change, message):
    with pytest.raises(ValueError, match=message):
        publishing.player(frames, **TEXTS, **change)
    assert displayed == []


def walk(n_frames=3, **change):
    """A film with a line, a filled area, markers and a text that move, and a line that stays."""
    fig, ax = plt.subplots()
    ax.plot([0, 10], [0, 1], color=figures.TRUTH)
    x = np.linspace(0, 10, 30)
    frames = []
    for k in range(n_frames):
        y = 1 / (1 + k + x)
        (line,) = ax.plot(x, y, color=figures.MODEL)
        area = ax.fill_between(x, 0, y, color=figures.MODEL, alpha=0.3)
        (markers,) = ax.plot(x[:3] + k, [0.5] * 3, "o", color=figures.INK, zorder=1)
        frames.append([line, area, markers, ax.text(5, 0.9, f"step {k}")])
    publishing.film(fig, frames, **{**TEXTS, **change})


def test_a_film_is_one_drawing_with_slots(displayed):
    walk()
    ((data, metadata),) = displayed
    assert metadata == {"collapse": {"kind": "player", **TEXTS}}
    page = Page(data["text/html"])
    (stage,) = page.all("svg", **{"class": "player-frame"})
    assert stage["role"] == "img" and stage["aria-label"] == TEXTS["alt"]
    assert page.text["output"] == ["generation 0"]
    frames = json.loads(page.text["script"][0])["frames"]
    assert [len(frame) for frame in frames] == [4, 4, 4]
    assert len({part for frame in frames for part in frame}) == 12
    stills = 3
    assert len(page.all("g", **{"data-slot": ""})) == 4 * (1 + stills)
    shown = data["text/html"][: data["text/html"].index("player-bar")]
    assert all(part in shown for part in frames[0])
    assert not any(part in shown for part in frames[1])
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", data["text/html"])


def test_the_parts_of_a_film_are_the_data(displayed):
    walk()
    frames = json.loads(Page(displayed[0][0]["text/html"]).text["script"][0])["frames"]
    x = np.linspace(0, 10, 30)
    scales = []
    for k, parts in enumerate(frames):
        (line,) = [p for p in parts if p.count("<path") == 1 and figures.MODEL in p]
        path = np.array(re.search(r' d="M ([^"]*)"', line)[1].split(), dtype=float).reshape(-1, 2)
        # A page's y points down; a tenth of a point is the precision of the paths.
        right, down = np.interp(path[:, 0], path[[0, -1], 0], [0, 10]), path[:, 1]
        slope, offset = np.polyfit(1 / (1 + k + right), down, 1)
        np.testing.assert_allclose(slope / (1 + k + right) + offset, down, atol=0.15)
        assert slope < 0 and path[0, 0] < path[-1, 0] and len(path) <= len(x)
        scales.append((slope, offset))
    # One pair of axes for all frames.
    np.testing.assert_allclose(scales[1], scales[0], rtol=0.01)
    np.testing.assert_allclose(scales[2], scales[0], rtol=0.01)


def test_a_film_brings_all_it_refers_to_and_no_name_of_another(displayed):
    walk()
    walk(name="fig-other")
    first, other = (data["text/html"] for data, _ in displayed)
    for text, name in ((first, TEXTS["name"]), (other, "fig-other")):
        text = text.replace('\\"', '"')  # the frames are quoted in a script
        own = re.findall(r' id="([^"]*)"', text)
        assert len(own) == len(set(own)) and all(i.startswith(name + "-") for i in own)
        used = re.findall(r'(?:url\(|href=")#([^)"]*)[)"]', text)
        assert len(used) > 20 and set(used) <= set(own)


def test_a_film_takes_the_colours_of_the_page(displayed):
    walk()
    text = displayed[0][0]["text/html"]
    for colour in (figures.INK, figures.GRID):
        assert len(re.findall(rf"var\(--book-\w+,{colour}\)", text)) == text.count(colour) > 0


def test_film_bytes_are_reproducible(displayed):
    walk()
    walk()
    assert displayed[0] == displayed[1]
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("shorten", "message"),
    [
        (lambda f: f[:1], r"frames must be two or more of equally many artists, got \[2\]"),
        (lambda f: [f[0], f[1][:1]], r"got \[2, 1\]"),
        (lambda f: [[], []], r"got \[0, 0\]"),
        (lambda f: [f[0], [f[1][0], plt.Line2D([0], [1])]], r"got frames\[1\]\[1\]"),
    ],
)
def test_film_refuses_what_it_cannot_play(displayed, shorten, message):
    fig, ax = plt.subplots()
    frames = [[*ax.plot([0, k]), ax.text(0, 0, str(k))] for k in (1, 2)]
    with pytest.raises(ValueError, match=message):
        publishing.film(fig, shorten(frames), **TEXTS)
    plt.close(fig)
    assert displayed == []


def test_an_artist_of_a_film_may_be_empty(displayed):
    fig, ax = plt.subplots()
    frames = [[*ax.plot(range(k), range(k)), *ax.plot([0, 1], [k, k])] for k in (0, 3, 0)]
    publishing.film(fig, frames, **TEXTS)
    text = displayed[0][0]["text/html"]
    parts = json.loads(Page(text).text["script"][0])["frames"]
    assert [len(frame) for frame in parts] == [2, 2, 2]
    assert (
        sorted(["<path" in part for frame in parts for part in frame]) == [False] * 2 + [True] * 4
    )
    empty = [[i for i, part in enumerate(frame) if not part] for frame in parts]
    assert empty[0] == empty[2] and len(empty[0]) == 1 and empty[1] == []


def noise_film(points):
    fig, ax = plt.subplots()
    noise = np.random.default_rng(1).normal(size=(40, points))
    labels = [f"{k}" for k in range(40)]
    publishing.film(fig, [ax.plot(row) for row in noise], **{**TEXTS, "labels": labels})


def test_a_heavy_film_keeps_fewer_frames(displayed):
    noise_film(600)
    text = displayed[0][0]["text/html"]
    content = json.loads(Page(text).text["script"][0])
    assert len(text) < 301_000
    assert len(content["labels"]) == len(content["frames"]) < 40
    assert [int(label) for label in content["labels"]][:5] == [0, 2, 4, 6, 8]
    assert content["labels"][-1] == "39"
    assert Page(text).text["output"] == ["0"]


def test_a_film_whose_frames_are_heavy_is_refused(displayed):
    with pytest.raises(ValueError, match="at most 300,000 characters, two of these take "):
        noise_film(30_000)
    assert displayed == []


PAGES = [{"sampling": f"text <b> {g}", "beams": f"loop & {g}"} for g in range(5)]


def test_a_reader_holds_the_texts_and_nothing_of_them_is_markup(displayed):
    publishing.reader(PAGES, **TEXTS)
    ((data, metadata),) = displayed
    assert metadata == {"collapse": {"kind": "player", **TEXTS}}
    page = Page(data["text/html"])
    (stage,) = page.all("div", **{"class": "player-frame player-text"})
    assert stage["role"] == "group" and stage["aria-label"] == TEXTS["alt"]
    stills = 4
    assert page.text["strong"] == ["sampling", "beams"] * (1 + stills)
    assert page.text["p"][:2] == ["text <b> 0", "loop & 0"]
    assert page.text["p"][-2:] == ["text <b> 4", "loop & 4"]
    frames = json.loads(page.text["script"][0])["frames"]
    assert [[html.unescape(part) for part in frame] for frame in frames] == [
        list(page.values()) for page in PAGES
    ]
    assert not any("<" in part for frame in frames for part in frame)


@pytest.mark.parametrize(
    ("pages", "change", "message"),
    [
        (PAGES[:1], {}, "pages must be two or more with the same headings, got "),
        ([{}, {}], {}, r"pages must be .* got \[\[\], \[\]\]"),
        ([{"a": ""}, {"b": ""}], {}, r"pages must be .* got \[\['a'\], \['b'\]\]"),
        (PAGES, {"labels": ["a"]}, "labels must name all 5 frames, got 1"),
        (PAGES, {"alt": " "}, "alt must be a text"),
    ],
)
def test_reader_refuses_what_it_cannot_show(displayed, pages, change, message):
    with pytest.raises(ValueError, match=message):
        publishing.reader(pages, **{**TEXTS, **change})
    assert displayed == []


BROWSER = """
const images = {}, listeners = {};
const element = (name) => ({
  dataset: {}, attributes: {}, value: "5", textContent: "",
  setAttribute(key, value) { this.attributes[key] = value; },
  addEventListener(event, f) { listeners[name + " " + event] = f; },
});
const parts = { ".player-frame": element("frame"), input: element("input"),
                button: element("button"), output: element("output"), script: element("script") };
const stage = parts[".player-frame"], groups = [element("g"), element("g")];
const drawn = STAGE === "drawing";
if (!drawn) stage.dataset.slot = "";
stage.querySelectorAll = () => groups;
parts.script.textContent = JSON.stringify({
  frames: drawn ? [["A", ""], ["", "B"], ["C", ""]] : [["A"], ["B"], ["C"]],
  labels: ["a", "b", "c"] });
const player = { dataset: {}, querySelector: (key) => parts[key] };
let found = [player], tick = null, reduced = false;
globalThis.document = { querySelectorAll: () => found };
globalThis.matchMedia = () => ({ matches: reduced });
globalThis.setInterval = (f) => { tick = f; return 1; };
globalThis.clearInterval = () => { tick = null; };
const seen = [];
const look = (what) => seen.push([what,
  drawn ? groups.map((g) => g.innerHTML).join("") : stage.src, parts.output.textContent,
  parts.input.attributes["aria-valuetext"], parts.button.attributes["aria-label"], tick !== null]);
PLAYER
look("start");
parts.input.value = "2"; listeners["input input"](); look("slide");
listeners["button click"](); look("play from the end");
tick(); look("tick");
listeners["button click"](); look("pause");
listeners["button click"](); tick(); look("last");
reduced = true; listeners["button click"](); look("step");
console.log(JSON.stringify(seen));
"""


@pytest.mark.parametrize("stage", ["image", "drawing"])
@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the script")
def test_the_script_shows_plays_pauses_and_respects_reduced_motion(stage):
    script = resources.files("collapse_utils").joinpath("player.js").read_text("utf-8")
    result = subprocess.run(
        ["node", "-e", BROWSER.replace("PLAYER", script).replace("STAGE", json.dumps(stage))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(result.stdout) == [
        ["start", "A", "a", "a", None, False],
        ["slide", "C", "c", "c", "Play", False],
        ["play from the end", "A", "a", "a", "Pause", True],
        ["tick", "B", "b", "b", "Pause", True],
        ["pause", "B", "b", "b", "Play", False],
        ["last", "C", "c", "c", "Play", False],
        ["step", "B", "b", "b", "Play", False],
    ]


# ------------------------------------------------------------------ numbers in the prose


def test_glue_writes_what_myst_nb_reads(displayed):
    glue("n-half", "about 1.5 × 10³")
    data, metadata = displayed[0]
    prefix = "application/papermill.record/"
    # myst-nb evaluates the stored text, so that a bare "4,000" would be shown as "(4, 0)"
    assert data == {prefix + "text/plain": "'about 1.5 × 10³'"}
    glue("count", "4,000")
    assert ast.literal_eval(displayed[1][0][prefix + "text/plain"]) == "4,000"
    assert metadata == {"scrapbook": {"name": "n-half", "mime_prefix": prefix}}
    with pytest.raises(TypeError, match=r"'x' must be glued as a number or a str, got \[1\.5\]"):
        glue("x", [1.5])


@pytest.mark.parametrize(
    ("arguments", "text", "value", "se"),
    [
        ((np.float64(0.25), "{:.0%}"), "25%", 0.25, None),
        ((np.int64(4000), "{:,}"), "4,000", 4000, None),
        ((7,), "7", 7, None),
        ((float("nan"), "{:.1f}"), "nan", None, None),
        ((float("inf"), "about {:.0f}"), "about inf", None, None),
    ],
)
def test_glue_keeps_the_number_beside_its_text(displayed, arguments, text, value, se):
    glue("n", *arguments)
    data, metadata = displayed[0]
    assert ast.literal_eval(data["application/papermill.record/text/plain"]) == text
    assert metadata["collapse"] == {"kind": "number", "value": value, "se": se}
    json.dumps(metadata, allow_nan=False)


def test_glue_of_a_measured_number_shows_its_error(displayed):
    glue("n", 1.23456, se=0.01234)
    data, metadata = displayed[0]
    assert data["application/papermill.record/text/plain"] == "'1.235 ± 0.012'"
    assert metadata["collapse"] == {"kind": "number", "value": 1.23456, "se": 0.01234}


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.23456, 0.01234, "1.235 ± 0.012"),
        (-2, 0.5, "-2.00 ± 0.50"),
        (12345.6, 123.4, "12346 ± 123"),
        (0.5, 0, "0.5"),
        (1234567, 0, "1.235e+06"),
        (1, float("inf"), "1"),
    ],
)
def test_plus_minus_shows_two_digits_of_the_error(value, error, text):
    assert plus_minus(value, error) == text


# --------------------------------------------------------------------------- exercises


def asked(displayed, *args, **kwargs):
    """What a quiz gives to the script of the page, its paragraph and its plain text."""
    publishing.quiz(*args, **kwargs)
    ((data, metadata),) = displayed
    assert metadata == {"collapse": {"kind": "quiz"}}
    page = Page(data["text/html"])
    return json.loads(page.all("p")[0]["data-quiz"]), page, data["text/plain"]


def test_quiz_is_a_line_of_the_solution_with_data_for_the_page(displayed):
    question = 'Is "a" <b>less</b> & more?'
    data, page, plain = asked(
        displayed, question, np.float64(0.123456), hints={np.e: "That <is> e."}
    )
    assert data == {
        "question": question, "within": "within 5 %", "answer": 0.123456, "shown": "0.1235",
        "error": pytest.approx(0.05 * 0.123456), "hints": [[np.e, "That <is> e."]],
    }  # fmt: skip
    assert page.text["p"] == [question + " "] and page.text["strong"] == ["0.1235"]
    assert [tag for tag, _ in page.elements] == ["p", "strong"]
    assert plain == question + " 0.1235"


@pytest.mark.parametrize(
    ("answer", "error", "within", "shown"),
    [
        (-2, None, "within 5 %", "-2"),
        (3.14159, 0.251, "within 0.25", "3.142"),
        (7, 0, "exactly", "7"),
        (10_000, None, "within 5 %", "10,000"),
    ],
)
def test_quiz_says_how_close_is_right(displayed, answer, error, within, shown):
    data, *_ = asked(displayed, "How many?", answer, error=error)
    assert (data["within"], data["shown"]) == (within, shown)
    assert data["error"] == pytest.approx(abs(answer) * 0.05 if error is None else error)


@pytest.mark.parametrize("answer", [1, True, np.int64(1), np.True_])
def test_quiz_of_choices(displayed, answer):
    data, _, plain = asked(displayed, "Does it?", answer, choices=("no", "yes"))
    assert (data["answer"], data["choices"], data["error"]) == (1, ["no", "yes"], 0)
    assert plain == "Does it? yes"


@pytest.mark.parametrize(
    ("answer", "change", "message"),
    [
        (math.nan, {}, r"answer must be a finite number in \[-inf, inf\], got nan"),
        ("3", {}, "answer must be a finite number"),
        (1.5, {"error": -1}, r"error must be a finite number in \[0, inf\], got -1"),
        (1.5, {"error": "a"}, r"error must be a finite number .*, got 'a'"),
        (1.5, {"error": 0}, r"error must be positive for an answer such as 1.5, got 0"),
        (2, {"choices": ["no", "yes"]}, "answer must be the index .*, got 2 and 2 choices"),
        (0.5, {"choices": ["no", "yes"]}, "answer must be the index .*, got 0.5 and 2 choices"),
        (0, {"choices": ["yes"]}, "got 0 and 1 choices"),
        (0, {"choices": "no"}, "choices must be a list of texts, got 'no'"),
        (np.array([0, 1]), {"choices": ["no", "yes"]}, "answer must be the index"),
        (1, {"hints": 5}, "hints must map wrong answers to texts, got 5"),
        (1, {"hints": {"a": "no"}}, "hints must be a finite number .*, got 'a'"),
        (1, {"choices": ["no", "yes"], "hints": {2: "?"}}, "hints must be an integer .*, got 2"),
        (1, {"hints": {2: None}}, "hints must be a list of texts"),
        (1, {"question": " "}, "question must be a text that is not empty"),
    ],
)
def test_quiz_refuses_what_it_cannot_ask(displayed, answer, change, message):
    with pytest.raises(ValueError, match=message):
        publishing.quiz(change.pop("question", "How many?"), answer, **change)
    assert displayed == []
