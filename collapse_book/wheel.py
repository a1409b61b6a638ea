"""The library as a wheel, and the copies of notebooks that bring it along.

The wheel is written here, because pip would ask a package index for what builds it: it holds
`collapse_utils` and nothing of the press, and the same sources give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import textwrap
import tomllib
import zipfile
from collections.abc import Mapping
from importlib import metadata

from collapse_book.errors import BadInput
from collapse_book.notebooks import INSTALL_TAG, STOP, Notebook, clean_copy, tags
from collapse_book.project import Project

#: Where the wheel lies on the site.
FOLDER = "wheel"
UNPACK = """\
folder = tempfile.mkdtemp(prefix="collapse_utils_")
zipfile.ZipFile(io.BytesIO(wheel)).extractall(folder)
sys.path.insert(0, folder)"""
FETCH = f"""\
# Brings the book's library: exactly the one that the page of this notebook was made with.
import hashlib
import io
import sys
import tempfile
import zipfile
from urllib.request import urlopen

URL = "{{url}}"
SHA256 = "{{sha256}}"


{STOP}

try:
    wheel = urlopen(URL, timeout=60).read()
except (OSError, ValueError) as error:
    raise Stop(f"The book's library cannot be fetched from {{{{URL}}}}: {{{{error}}}}.") from None
if hashlib.sha256(wheel).hexdigest() != SHA256:
    raise Stop("The book has changed since this copy was made: open the chapter from the site.")
{UNPACK}"""
CARRY = f'''\
# Brings the book's library, which is the text below: the one that the page was made with.
import base64
import io
import sys
import tempfile
import zipfile

WHEEL = """
{{wheel}}
"""
wheel = base64.b64decode(WHEEL)
{UNPACK}'''


def library_wheel(project: Project) -> tuple[str, bytes]:
    """File name and bytes of the wheel of ``collapse_utils``.

    Raises
    ------
    BadInput
        If ``pyproject.toml`` or the version cannot be read.
    """
    try:
        settings = tomllib.loads((project.root / "pyproject.toml").read_text("utf-8"))["project"]
        init = (project.package / "__init__.py").read_text("utf-8")
        (version,) = re.findall(r'^__version__ = "(.+)"$', init, re.MULTILINE)
        lines = [f"Name: {settings['name']}", f"Version: {version}"]
        lines.append(f"Requires-Python: {settings['requires-python']}")
        lines += [f"Requires-Dist: {need}" for need in settings["dependencies"]]
    except (OSError, KeyError, ValueError) as error:
        raise BadInput(f"no wheel without pyproject.toml and a version: {error}") from None
    files = {
        path.relative_to(project.root).as_posix(): path.read_bytes()
        for path in sorted(project.package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    name = f"{project.package.name}-{version}"
    files[f"{name}.dist-info/METADATA"] = "\n".join(["Metadata-Version: 2.1", *lines, ""]).encode()
    licence = project.root / "LICENSE-CODE"
    if licence.is_file():
        files[f"{name}.dist-info/LICENSE"] = licence.read_bytes()
    return f"{name}-py3-none-any.whl", _packed(name, files)


def installed_wheel(name: str) -> tuple[str, bytes]:
    """The same for a package of pure Python that is installed here.

    Raises
    ------
    BadInput
        If it is not installed.
    """
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise BadInput(f"{name} is not installed") from None
    left_out = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "WHEEL")
    files = {
        str(file): file.read_binary()
        for file in package.files or []
        if ".." not in file.parts and file.suffix != ".pyc" and file.name not in left_out
    }
    name = f"{name.replace('-', '_')}-{package.version}"
    return f"{name}-py3-none-any.whl", _packed(name, files)


def _packed(name: str, files: Mapping[str, bytes]) -> bytes:
    """A wheel of these files, which hold everything but ``WHEEL`` and ``RECORD``."""
    about = "Wheel-Version: 1.0\nGenerator: collapse-book\nRoot-Is-Purelib: true\n"
    folder = f"{name}.dist-info"
    files = {**files, f"{folder}/WHEEL": f"{about}Tag: py3-none-any\n".encode()}
    record = [
        f"{path},sha256={_url_safe(hashlib.sha256(content).digest())},{len(content)}\n"
        for path, content in files.items()
    ]
    files[f"{folder}/RECORD"] = "".join([*record, f"{folder}/RECORD,,\n"]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _url_safe(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def brings_library(project: Project, wheel: tuple[str, bytes]) -> str:
    """Source of the cell that makes the library importable in a copy of a notebook.

    A build that is published names its wheel by its address on the site. Any other carries the
    wheel in the cell, so that the copy needs nothing from anywhere.
    """
    name, content = wheel
    if project.address:
        url = f"{project.address}{FOLDER}/{name}"
        return FETCH.format(url=url, sha256=hashlib.sha256(content).hexdigest())
    text = "\n".join(textwrap.wrap(base64.b64encode(content).decode(), 96))
    return CARRY.format(wheel=text)


def copy_with(notebook: Notebook, source: str) -> Notebook:
    """Copy of a notebook without outputs, with another cell in the place of its install cell."""
    copy = clean_copy(notebook)
    for cell in copy["cells"]:
        if INSTALL_TAG in tags(cell):
            cell["source"] = source
            cell["metadata"] |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
    return copy
