"""What studies learn from: data sets by name, folders, uploads, and images as bytes."""
