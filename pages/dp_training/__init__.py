"""Page DP training."""
