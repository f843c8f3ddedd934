"""The page as HTML: the template filled, formulas as MathML, everything inside one file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markupsafe import Markup

from analysis.source import ROOT, Place

from .content import Content
from .sliders import Form, ranges, script

PROBLEM = (
    r"\max_r \; \mathbb{E}_x \mathbb{E}_{y \sim q} \log p_{\theta^\star(r)}(y \mid x)",
    r"\theta^\star(r) = \operatorname{arg}\max_\theta \; \mathbb{E}_x \left[ "
    r"\mathbb{E}_{y \sim q} "
    r"\mathbb{E}_{\hat{y} \sim p_\theta} r(\hat{y}, y) + \lambda H(p_\theta) \right]",
)
SOLUTION = (
    r"P^\star(U) = \frac{\lambda}{2} U^{-1}",
    r"\nabla_U F = \frac{1}{2} U^{-1} - \frac{1}{\lambda} \Sigma",
    r"U^\star = \frac{\lambda}{2} \Sigma^{-1}",
)


def html(content: Content, forms: tuple[Form, ...], folder: Path) -> str:
    """The page, to be written into `folder`: links to files of the checkout start there."""
    environment = Environment(
        loader=PackageLoader("paper_checks.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tables = MarkdownIt("commonmark").enable("table")

    def link(at: Place) -> Markup:
        path = Path(os.path.relpath(ROOT / at.path, folder)).as_posix()
        return Markup('<a href="{}#L{}"><code>{}:{}</code></a>').format(
            path, at.line, at.path, at.line
        )

    def breakable(name: str) -> Markup:
        return Markup("<wbr>").join(re.split("(?<=[._])", name))

    def mathml(tex: str, display: str = "inline") -> Markup:
        return Markup(convert(tex, display=display))

    def table(text: str) -> Markup:
        return Markup(tables.render(text))

    environment.filters |= {
        "breakable": breakable,
        "mathml": mathml,
        "table": table,
        "link": link,
        "ranges": ranges,
    }
    return environment.get_template("page.html").render(
        content=content,
        forms=forms,
        script=Markup(script(forms)),
        problem=PROBLEM,
        solution=SOLUTION,
    )
