"""The 14 labels of the competition, their mirror images, and the numbers of the vessel masks: written once, here."""

# The order in which the competition's metric reads the columns.
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

# MIRROR[i] is the label that label i turns into when left and right are exchanged.
MIRROR = (1, 0, 3, 2, 5, 4, 6, 8, 7, 10, 9, 11, 12, 13)

MODALITIES = ("CTA", "MRA", "MRI T2", "MRI T1post")

# VESSEL_MASK[v] is the location that value v (1..13) of a `_cowseg.nii` mask marks; 0 and all else is background.
VESSEL_MASK = {
    value: LOCATIONS[index] for value, index in enumerate((12, 11, 10, 9, 1, 0, 3, 2, 5, 4, 8, 7, 6), start=1)
}

SAFE_MM = 20.0  # negatives keep at least this far from every localizer, if no other distance is asked for
