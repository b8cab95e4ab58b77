"""Stored pixel values of one frame, by the shortest way that its transfer syntax allows."""

from __future__ import annotations

import numpy as np
from pydicom.encaps import get_frame
from pydicom.pixels import apply_modality_lut, get_decoder
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from aneurysm.dicom.codestream import check_codestream
from aneurysm.dicom.decoder_process import decode_apart
from aneurysm.dicom.frames import Frame, PixelStorage

try:
    from rle.utils import decode_frame as decode_rle
except ImportError:  # pydicom decodes RLE as well, if slowly
    decode_rle = None


def decode_frame(frame: Frame) -> np.ndarray:
    """Stored values (rows, cols), int8 to int32, unsigned or floating-point, without rescale.

    Pixels in the padding range are set to the darkest value outside it; a Modality LUT (DICOM PS3.3 C.11.1) is applied.
    Raises ValueError naming the file where the pixels are cut short or cannot be decoded.
    """
    storage = frame.storage
    try:
        values = _decode(storage, frame.index)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in the RLE plugin, written in Rust, is no Exception
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        raise ValueError(f"{storage.path}: frame {frame.index} cannot be decoded ({reason})") from error
    if values.shape != (storage.rows, storage.cols):
        raise ValueError(f"{storage.path}: expected {storage.rows} x {storage.cols} pixels, found {values.shape}")
    values = _without_padding(values, storage)
    if storage.lut is None:
        return values
    try:
        return apply_modality_lut(values, storage.lut).astype(np.uint16)
    except Exception as error:  # pydicom has an error of its own for each kind of damage
        raise ValueError(f"{storage.path}: the Modality LUT cannot be applied ({error})") from error


def _decode(storage: PixelStorage, index: int) -> np.ndarray:
    swapped = storage.bits_allocated == 8 and not storage.syntax.is_little_endian  # in pairs, where their VR is OW
    if storage.offset is None or storage.syntax == DeflatedExplicitVRLittleEndian or swapped:
        return _decode_by_pydicom(storage, index)
    if not storage.syntax.is_encapsulated:
        return _read_uncompressed(storage, index)
    with open(storage.path, "rb") as file:
        file.seek(storage.offset)
        encoded = get_frame(file, index, number_of_frames=storage.n_frames)
    if storage.syntax == RLELossless and decode_rle is not None:
        return _decode_rle(storage, encoded)
    if storage.syntax != RLELossless:
        check_codestream(encoded, storage.rows, storage.cols)
    return _decode_by_plugin(storage, index)


def _decode_by_plugin(storage: PixelStorage, index: int) -> np.ndarray:
    """By a plugin of pydicom: in this process where it takes damaged files without a crash, else in one of its own."""
    decoder, options = get_decoder(storage.syntax), _decoder_options(storage)
    plugin = next((name for name in ("pylibjpeg", "pydicom") if name in decoder.available_plugins), None)
    if plugin is None:
        return decode_apart(storage.path, storage.offset, storage.syntax, index, options)
    with open(storage.path, "rb") as file:
        file.seek(storage.offset)
        return decoder.as_array(file, index=index, raw=True, decoding_plugin=plugin, **options)[0]


def _read_uncompressed(storage: PixelStorage, index: int) -> np.ndarray:
    dtype = storage.stored_dtype.newbyteorder("<" if storage.syntax.is_little_endian else ">")
    n_pixels = storage.rows * storage.cols
    offset = storage.offset + index * storage.frame_bytes
    values = np.fromfile(storage.path, dtype, n_pixels, offset=offset)
    if values.size < n_pixels:
        raise ValueError(f"expected {n_pixels} pixels, found {values.size}")
    return _without_spare_bits(values.astype(storage.stored_dtype, copy=False), storage).reshape(
        storage.rows, storage.cols
    )


def _decode_rle(storage: PixelStorage, encoded: bytes) -> np.ndarray:
    """The plugin called without pydicom's checks around it, which cost a third of the time."""
    data = decode_rle(encoded, storage.rows * storage.cols, storage.bits_allocated, "<")
    values = np.frombuffer(data, storage.stored_dtype.newbyteorder("<")).reshape(storage.rows, storage.cols)
    return _without_spare_bits(values, storage)


def _decode_by_pydicom(storage: PixelStorage, index: int) -> np.ndarray:
    from pydicom import dcmread

    dataset = dcmread(storage.path, force=True)
    array, _ = get_decoder(storage.syntax).as_array(dataset, index=index, raw=True)
    return array


def _decoder_options(storage: PixelStorage) -> dict:
    return {
        "rows": storage.rows,
        "columns": storage.cols,
        "bits_allocated": storage.bits_allocated,
        "bits_stored": storage.bits_stored,
        "pixel_representation": int(storage.signed),
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "number_of_frames": storage.n_frames,
        "pixel_keyword": "PixelData",
    }


def _without_spare_bits(values: np.ndarray, storage: PixelStorage) -> np.ndarray:
    """Drops what lies above the stored bits (old overlays) and extends the sign (DICOM PS3.5 section 8.1.1)."""
    spare = storage.bits_allocated - storage.bits_stored
    return (values << spare) >> spare if spare else values


def _without_padding(values: np.ndarray, storage: PixelStorage) -> np.ndarray:
    """Padding made dark. A value that tissue has as well, 0 say, is padding only in regions that reach the border."""
    if storage.padding is None:
        return values
    outside = (values >= storage.padding[0]) & (values <= storage.padding[1])
    if not outside.any() or outside.all():
        return values
    inside = values[~outside]
    low, high = inside.min(), inside.max()
    if storage.padding_like_tissue and low < storage.padding[0]:
        outside = reaching_border(outside)
    return np.where(outside, high if storage.inverted else low, values)


def reaching_border(mask: np.ndarray) -> np.ndarray:
    """(rows, columns) the parts of a mask, connected by their sides, that reach the border of the image."""
    import cv2  # rarely needed, and slow to load

    n_parts, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    touching = np.zeros(n_parts, bool)
    for edge in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        touching[edge] = True
    touching[0] = False
    return touching[parts]
