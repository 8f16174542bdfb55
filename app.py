"""Veil: `streamlit run app.py` serves pages/menu.py, the list of pages, and starts and stops the workers with the server.

(An st.App, because `streamlit run` on a script beside a folder named pages/ shows that folder in a menu of its own to
the first visitor who opens a page other than Home.)
"""

import streamlit as st

from pages.parts.live import lifespan

app = st.App("pages/menu.py", lifespan=lifespan)
