"""Page Noise."""
