"""Studies on clustering unlabelled images: K-means and IIC."""

from engine.studies.clustering.iic import IIC
from engine.studies.clustering.kmeans_labels import KMeansLabels

__all__ = ["IIC", "KMeansLabels"]
