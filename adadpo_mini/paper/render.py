"""HTML pages from the templates beside this file. A page is one file that loads nothing else.

Every value is escaped. CSS, JavaScript and plotly.js are written into the page.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from jinja2 import Environment
    from markupsafe import Markup


def render(template: str, **values: object) -> str:
    """Return the page that a template makes of these values.

    Args:
        template: a file in `templates/`, such as "report.html". To make a new page, extend
            "base.html" (blocks `title`, `head`, `main`) and draw figures with the macro `plot` of
            "plot.html".
        values: what the template reads. A name that the template reads and that is not here is an
            error, not an empty string.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("adadpo_mini.paper"),  # its folder "templates"
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"inline": _inline, "plotly_js": _plotly_js}
    environment.filters |= {"figures_json": _figures_json, "prose": _prose}
    return environment


def _inline(name: str) -> "Markup":
    """Return a CSS or JavaScript file of the folder, as it is."""
    from markupsafe import Markup

    environment = _environment()
    return Markup(environment.loader.get_source(environment, name)[0])


def _prose(text: str) -> "Markup":
    """Return a text with the Markdown of a sentence, `code` and *emphasis*, as HTML.

    >>> _prose("*no difference* on `tone` & others")
    Markup('<em>no difference</em> on <code>tone</code> &amp; others')
    """
    from markupsafe import Markup, escape

    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*([^*]+)\*", r"<em>\1</em>", html))


def _plotly_js() -> "Markup":
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())


def _figures_json(figures: "Mapping[str, go.Figure]") -> "Markup":
    """Return figures by choice, as JSON that cannot end the script it is in."""
    from jinja2.utils import htmlsafe_json_dumps

    plain = {choice: json.loads(figure.to_json()) for choice, figure in figures.items()}
    return htmlsafe_json_dumps(plain, ensure_ascii=False, separators=(",", ":"))
