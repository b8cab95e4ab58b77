"""Labels against the published order of the competition, worked out by hand."""

from aneurysm.labels import LABELS, LOCATIONS, MIRROR, PRESENT, VESSEL_MASK


def test_fourteen_labels_end_with_aneurysm_present():
    assert len(LOCATIONS) == 13 and len(LABELS) == 14 and LABELS[13] == PRESENT == "Aneurysm Present"


def test_mirroring_exchanges_left_and_right_names_and_nothing_else():
    for label, mirrored in zip(LABELS, (LABELS[i] for i in MIRROR), strict=True):
        swapped = label.replace("Left", "?").replace("Right", "Left").replace("?", "Right")
        assert mirrored == swapped


def test_vessel_mask_numbers_are_those_of_the_segmentations():
    short = "Other Posterior|Basilar Tip|Right Posterior Comm|Left Posterior Comm|Right Infra|Left Infra|Right Supra|"
    short += "Left Supra|Right Middle|Left Middle|Right Anterior|Left Anterior|Anterior Communicating"
    for value, start in enumerate(short.split("|"), start=1):
        assert VESSEL_MASK[value].startswith(start)
