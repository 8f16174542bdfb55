"""The page menu, and the message if image files are missing."""

import streamlit as st

from engine.datasets import source
from pages.common import sentences

st.set_page_config(
    page_title="Veil", page_icon="🌫️", layout="wide", initial_sidebar_state="collapsed"
)
page = st.navigation(
    [
        st.Page(
            "home/page.py",
            title="Veil",
            icon=":material/visibility:",
            url_path="home",
            default=True,
        ),
        st.Page("noise/page.py", title="Noise", icon=":material/grain:", url_path="noise"),
        st.Page(
            "clustering/page.py",
            title="Clustering",
            icon=":material/bubble_chart:",
            url_path="clustering",
        ),
        st.Page(
            "synthesis/page.py",
            title="Synthesis",
            icon=":material/auto_awesome:",
            url_path="synthesis",
        ),
        st.Page(
            "dp_training/page.py",
            title="DP training",
            icon=":material/show_chart:",
            url_path="dp_training",
        ),
        st.Page(
            "fidelity/page.py", title="Fidelity", icon=":material/compare:", url_path="fidelity"
        ),
        st.Page(
            "gradient_sharing/page.py",
            title="Gradient sharing",
            icon=":material/share:",
            url_path="gradient_sharing",
        ),
    ],
    position="top",
)
try:
    page.run()
# Image files may be deleted, or may have changed since the page began.
except source.Missing as missing:
    st.error(sentences.notice(str(missing)), icon=":material/folder_off:")
