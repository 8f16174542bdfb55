"""Page Synthesis."""
