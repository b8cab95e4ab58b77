"""The 14 labels of the competition, their left-right mirror order, and the values of the vessel masks."""

# In the column order of the competition's metric.
LOCATIONS = (
    "Left Infraclinoid Internal Carotid Artery",
    "Right Infraclinoid Internal Carotid Artery",
    "Left Supraclinoid Internal Carotid Artery",
    "Right Supraclinoid Internal Carotid Artery",
    "Left Middle Cerebral Artery",
    "Right Middle Cerebral Artery",
    "Anterior Communicating Artery",
    "Left Anterior Cerebral Artery",
    "Right Anterior Cerebral Artery",
    "Left Posterior Communicating Artery",
    "Right Posterior Communicating Artery",
    "Basilar Tip",
    "Other Posterior Circulation",
)
PRESENT = "Aneurysm Present"
LABELS = (*LOCATIONS, PRESENT)

# MIRROR[i] is the label that label i becomes when left and right are swapped.
MIRROR = (1, 0, 3, 2, 5, 4, 6, 8, 7, 10, 9, 11, 12, 13)

MODALITIES = ("CTA", "MRA", "MRI T2", "MRI T1post")

# VESSEL_MASK[v] is the location of value v (1..13) in a `_cowseg.nii` mask; any other value is background.
VESSEL_MASK = {
    value: LOCATIONS[index] for value, index in enumerate((12, 11, 10, 9, 1, 0, 3, 2, 5, 4, 8, 7, 6), start=1)
}

SAFE_MM = 20.0  # default minimum distance of negatives from every localizer
