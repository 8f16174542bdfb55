"""Page Fidelity."""
