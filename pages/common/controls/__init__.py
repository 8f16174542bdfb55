"""The widgets of a page, bound to the parameters of its studies and to the URL.

`Controls` is all that a page uses. It is put together from parts:

- state: values and messages in the visitor's session
- url: reading them from the address, and writing them back
- studies: from values to a checked study
- dial: the large slider of one parameter, and the switch between ε and σ
- fields: text fields, choices and switches for the other parameters
- display: what is shown, which changes no result
- presets, datasets, uploads

Streamlit's own bind= silently drops invalid values and has no slider on a log scale; see
docs/architecture.md.
"""

from pages.common.controls.datasets import DatasetChooser
from pages.common.controls.dial import Dial
from pages.common.controls.display import Display
from pages.common.controls.fields import Fields
from pages.common.controls.options import Asked, Look
from pages.common.controls.presets import Presets
from pages.common.controls.state import S
from pages.common.controls.studies import Studies
from pages.common.controls.url import unread

__all__ = ["Asked", "Controls", "Look", "unread"]


class Controls(Presets[S], Dial[S], Fields[S], Display[S], DatasetChooser[S], Studies[S]):
    """The widgets of a page's studies.

    The first study, of kind S, names the page. A field that several studies share has one widget,
    with the title and default of the first. Values in the session are always valid, because invalid
    text never gets in.
    """
