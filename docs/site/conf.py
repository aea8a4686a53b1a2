"""The site that `nox -s docs` builds from README, docs/, the course and the reports. It opens offline, from the disk."""

import base64
import hashlib
import io
import re
import shutil
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "build" / "static"

project, author, copyright = "vae-variants", "the authors of vae-variants", "MIT licence"
extensions = ["myst_nb"]
root_doc = "README"
include_patterns = ["*.md", "docs/**", "reports/**"]
exclude_patterns = ["docs/site"]
html_theme = "furo"
html_title = "vae-variants"
html_static_path = [str(STATIC)]
html_css_files = ["site.css"]
html_extra_path = ["index.html"]
html_copy_source = False
templates_path: list[str] = []
html_show_copyright = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header", "myst.xref_missing"]  # links to folders, which no page of the site is
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_merge_streams = True
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_excludepatterns = ["solutions/*"]

MATHJAX = "https://registry.npmjs.org/mathjax/-/mathjax-3.2.2.tgz"
SHA512 = "Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw=="
mathjax_path = "tex-svg.js"  # formulas as outlines: one file, and no fonts

CONTENTS = {  # page -> what stands below it, by heading
    "README": {
        "Documentation": ["docs/README", "docs/*"],
        "Course": ["docs/course/README"],
        "Reports": ["reports/README"],
        "Project": ["METRICS", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG"],
    },
    "docs/course/README": {"Notebooks": ["0*"], "Solutions": ["solutions/*"]},
    "reports/README": {"Reports": ["*/README", "*/*/README"]},
    "reports/claims/README": {"Claims": ["*"]},
}


def fetch() -> None:
    """Puts MathJax and its licence where Sphinx copies static files from, once."""
    STATIC.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("site.css"), STATIC)
    if not (STATIC / mathjax_path).exists():
        with urllib.request.urlopen(MATHJAX, timeout=60) as answer:
            content = answer.read()
        if base64.b64encode(hashlib.sha512(content).digest()).decode() != SHA512:
            raise OSError(f"{MATHJAX} is not the file that it was; check the address and the digest in {__file__}")
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for name, target in (("package/LICENSE", "LICENSE-mathjax"), ("package/es5/tex-svg.js", mathjax_path)):
                member = archive.extractfile(name)
                assert member is not None
                (STATIC / target).write_bytes(member.read())


def add(_: Sphinx, page: str, source: list[str]) -> None:
    """Adds to a page what only the site needs: its contents, and the report that lies beside it."""
    if (ROOT / page).with_name("report.html").exists() and page.endswith("/README"):
        source[0] = re.sub(r"\n", "\n\n**[The report with all tables and figures](report.html)**\n", source[0], count=1)
    for caption, pages in CONTENTS.get(page, {}).items():
        source[0] += "\n\n```{toctree}\n:hidden:\n:glob:\n" + f":caption: {caption}\n\n" + "\n".join(pages) + "\n```\n"


def keep_files(app: Sphinx, doctree: nodes.document) -> None:
    """Files that pages link to keep their place, so that a report opens instead of being downloaded."""
    for node in list(doctree.findall(download_reference)):
        target = (Path(app.srcdir) / app.env.docname).parent / node["reftarget"]
        if target.resolve().is_relative_to(ROOT) and target.is_file():
            copy = Path(app.outdir) / target.resolve().relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(target, copy)
            node.replace_self(nodes.reference("", "", *node.children, refuri=node["reftarget"]))


def setup(app: Sphinx) -> dict[str, Any]:
    fetch()
    app.add_config_value("contents", CONTENTS, "env")  # all pages are read anew if it changes
    app.connect("source-read", add)
    app.connect("doctree-read", keep_files, priority=1)  # before Sphinx collects downloads
    return {"parallel_read_safe": True}
