"""The Streamlit pages, one folder for each topic."""
