"""HTML from the files in `templates/`; every value is escaped."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: object) -> str:
    """Return the HTML of a template, with these values in it.

    >>> render("bubble.html", text="<img src=x>", verdict="")
    '&lt;img src=x&gt;'
    """
    return _environment().get_template(template).render(**values)
