"""Entry point of Veil: `streamlit run app.py` starts the server and the workers.

It serves pages/menu.py, the list of pages, and stops the workers together with the server.

This is an st.App because `streamlit run` on a script beside a folder named pages/ shows that folder
as a menu of its own to a visitor whose first page is not Home.
"""

import sys
from pathlib import Path

import streamlit as st

import pages
from cache.store import Unusable
from engine.core import settings
from engine.core.lab import open_store
from pages.common.live import lifespan

# Streamlit puts the served script's folder first in sys.path while a script runs and removes it
# afterwards, in every visitor's thread, so imports in another thread sometimes fail. Streamlit
# leaves entries that are already in sys.path alone.
PAGES = Path(pages.__file__).resolve().parent  # not beside this file, where Veil is installed
sys.path.append(str(PAGES))

try:
    settings.check()
    open_store()
except (settings.Wrong, Unusable) as wrong:  # one line, as on the command line; no server starts
    print(wrong, file=sys.stderr)
    sys.exit(2)

app = st.App(str(PAGES / "menu.py"), lifespan=lifespan)
