"""The second system: a 3D ResNet-18 on whole volumes of the head."""
