"""Page Gradient sharing."""
