"""The second system: whole volumes of the head through a 3D ResNet-18."""
