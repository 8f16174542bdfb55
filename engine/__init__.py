"""All that computes in Veil. Knows nothing of Streamlit; imports torch only inside the modules that train."""
