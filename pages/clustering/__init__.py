"""Page Clustering."""
