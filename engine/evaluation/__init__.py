"""How good a result is: metrics, scores beside guessing, and cautions."""
