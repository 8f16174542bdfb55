"""Veil: `streamlit run app.py` serves pages/menu.py, the list of pages, and starts and stops the
workers with the server.

(An st.App, because `streamlit run` on a script beside a folder named pages/ shows that folder in a
menu of its own to the first visitor who opens a page other than Home.)
"""

import sys
from pathlib import Path

import streamlit as st

from cache.store import Unusable
from engine.core import settings
from engine.core.lab import open_store
from pages.common.live import lifespan

# Streamlit puts the served script's folder first in sys.path while a script runs, and takes it out
# afterwards, in every visitor's thread: what another thread imports meanwhile is sometimes not
# found. What is in there already, it leaves alone.
sys.path.append(str(Path(__file__).resolve().parent / "pages"))

try:
    settings.check()
    open_store()
except (settings.Wrong, Unusable) as wrong:  # one line, as on the command line, and no server
    print(wrong, file=sys.stderr)
    sys.exit(2)

app = st.App("pages/menu.py", lifespan=lifespan)
