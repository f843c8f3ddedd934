"""Pictures drawn in the style of the figures, and what stands in them."""

from collections.abc import Callable

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from figures import style


def drawn(draw: Callable[[pd.DataFrame], Figure], table: pd.DataFrame) -> Figure:
    """Draw a table, with every label laid out."""
    with style.context():
        figure = draw(table)
        figure.canvas.draw()
    plt.close(figure)
    return figure


def legend(figure: Figure) -> list[str]:
    """Return the entries of the one legend below all panels."""
    (only,) = figure.legends
    return [text.get_text() for text in only.get_texts()]
