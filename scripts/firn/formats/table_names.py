"""What columns and blocks of tables are called: firn's names inside, RELION's labels on disk."""

from collections.abc import Collection
from os import PathLike

from firn.errors import InputError, brief

NAMES = {
    # identity
    "exposure_id": "firnExposureId",
    "particle_id": "firnParticleId",
    "batch": "firnBatch",
    "micrograph": "rlnMicrographName",
    "micrograph_plain": "rlnMicrographNameNoDW",
    "micrograph_odd": "rlnMicrographNameOdd",
    "micrograph_even": "rlnMicrographNameEven",
    "micrograph_denoised": "firnMicrographDenoised",
    "movie": "rlnMicrographMovieName",
    "motion_star": "rlnMicrographMetadata",
    "gain": "rlnMicrographGainName",
    "frames": "firnFrames",
    "exposure_kind": "firnExposureKind",
    "specimen_tilt": "firnSpecimenTilt",
    "tilt_axis": "firnTiltAxis",
    "particle_count": "firnParticleCount",
    "width_px": "firnWidthPx",
    "height_px": "firnHeightPx",
    "dose_per_frame": "rlnMicrographDoseRate",
    "dose_counted": "firnDoseCounted",
    "pre_exposure": "rlnMicrographPreExposure",
    "beam_shift_x": "firnBeamShiftX",
    "beam_shift_y": "firnBeamShiftY",
    "stage_x": "firnStageX",
    "stage_y": "firnStageY",
    "eer_fractions": "firnEerFractions",
    "eer_upsampling": "rlnEERUpsampling",
    # motion
    "motion_total": "rlnAccumMotionTotal",
    "motion_early": "rlnAccumMotionEarly",
    "motion_late": "rlnAccumMotionLate",
    # CTF
    "defocus_u": "rlnDefocusU",
    "defocus_v": "rlnDefocusV",
    "defocus_angle": "rlnDefocusAngle",
    "phase_shift": "rlnPhaseShift",
    "ctf_fit_resolution": "rlnCtfMaxResolution",
    "ctf_score": "rlnCtfFigureOfMerit",
    "ctf_b_factor": "rlnCtfBfactor",
    "astigmatism": "rlnCtfAstigmatism",
    "defocus_change": "firnDefocusChange",
    "defocus_slope_x": "firnDefocusSlopeX",
    "defocus_slope_y": "firnDefocusSlopeY",
    "defocus_bend_xx": "firnDefocusBendXX",
    "defocus_bend_xy": "firnDefocusBendXY",
    "defocus_bend_yy": "firnDefocusBendYY",
    "ice_ring_score": "firnIceRingScore",
    "ctf_image": "rlnCtfImage",
    "thumbnail": "firnThumbnail",
    "seconds_read": "firnSecondsRead",
    "seconds_motion": "firnSecondsMotion",
    "seconds_ctf": "firnSecondsCtf",
    "seconds_pick": "firnSecondsPick",
    "seconds_extract": "firnSecondsExtract",
    "junk_fraction": "firnJunkFraction",
    "junk_map": "firnJunkMap",
    # picks
    "x_px": "rlnCoordinateX",
    "y_px": "rlnCoordinateY",
    "pick_score": "rlnAutopickFigureOfMerit",
    "pick_power": "firnPickPower",
    "pick_power_calibrated": "firnPickPowerCalibrated",
    "diameter": "firnDiameter",
    # particles
    "image": "rlnImageName",
    "rot": "rlnAngleRot",
    "tilt": "rlnAngleTilt",
    "psi": "rlnAnglePsi",
    "origin_x": "rlnOriginXAngst",
    "origin_y": "rlnOriginYAngst",
    "class_number": "rlnClassNumber",
    "half": "rlnRandomSubset",
    "scale": "firnScale",
    "group_name": "rlnGroupName",
    "class_probability": "rlnMaxValueProbDistribution",
    "significant_poses": "rlnNrOfSignificantSamples",
    "source_particle": "firnSourceParticle",
    "cryosparc_id": "firnCryosparcId",
    "cryosparc_aberrations": "firnCryosparcAberrations",
    "symmetry_copy": "firnSymmetryCopy",
    "unsubtracted_image": "rlnImageOriginalName",
    # classes
    "class_image": "rlnReferenceImage",
    "class_fraction": "rlnClassDistribution",
    "class_resolution": "rlnEstimatedResolution",
    "class_count": "firnClassCount",
    "class_ess": "firnClassEss",
    "class_gain": "firnClassGain",
    "class_quality": "firnClassQuality",
    # faults
    "reason_code": "firnReasonCode",
    "reason": "firnReason",
    # curation
    "rule_verdict": "firnRuleVerdict",
    "human_verdict": "firnHumanVerdict",
    "verdict": "firnVerdict",
}
OPTICS = {
    "optics_name": "rlnOpticsGroupName",
    "voltage_kv": "rlnVoltage",
    "cs_mm": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
    "micrograph_pixel_size": "rlnMicrographPixelSize",
    "movie_pixel_size": "rlnMicrographOriginalPixelSize",
    "image_pixel_size": "rlnImagePixelSize",
    "box_px": "rlnImageSize",
    "dimensionality": "rlnImageDimensionality",
    "ctf_premultiplied": "rlnCtfDataAreCtfPremultiplied",
    "beam_tilt_x": "rlnBeamTiltX",
    "beam_tilt_y": "rlnBeamTiltY",
    "odd_zernike": "rlnOddZernike",
    "even_zernike": "rlnEvenZernike",
    "magnification_xx": "rlnMagMat00",
    "magnification_xy": "rlnMagMat01",
    "magnification_yx": "rlnMagMat10",
    "magnification_yy": "rlnMagMat11",
    "mtf": "rlnMtfFileName",
}
BLOCKS = {
    "movies": "movies",
    "exposures": "micrographs",
    "picks": "particles",
    "particles": "particles",
    "classes": "model_classes",
    "failed": "failed",
    "decisions": "decisions",
    "directions": "directions",
}
NUMBERS = (
    *("width_px", "height_px", "frames", "dose_per_frame", "pre_exposure", "x_px", "y_px", "diameter"),
    *("defocus_u", "defocus_v", "defocus_angle", "phase_shift", "rot", "tilt", "psi", "origin_x", "origin_y", "class_number", "half"),
    *("voltage_kv", "cs_mm", "amplitude_contrast", "micrograph_pixel_size", "movie_pixel_size", "image_pixel_size", "box_px"),
    *("beam_tilt_x", "beam_tilt_y", "magnification_xx", "magnification_xy", "magnification_yx", "magnification_yy"),
)
"""Columns that must hold numbers, NaN among them, where they are there."""
ABSENT = ("", "None", "nan", "NaN")
"""What stands in a table where there is nothing."""
TO_LABEL = NAMES | OPTICS
TO_NAME = {label: name for name, label in TO_LABEL.items()}
OF_OPTICS = "optics:"
"""What stands before the label of a column of the optics block that has no name here, so that it is written there again."""
GROUP = "rlnOpticsGroup"
"""Column by which rows name the row of the optics block that is theirs."""


def name_in_optics(label: str) -> str:
    """Name of a column that a file has in its optics block."""
    return label if label == GROUP else TO_NAME.get(label, OF_OPTICS + label)


def label_of(name: str) -> str:
    """Label on disk of a column."""
    return TO_LABEL.get(name, name.removeprefix(OF_OPTICS))


def block_of(blocks: Collection[str], kind: str, path: str | PathLike) -> str:
    """The block of a file that holds a table of a kind, a key of BLOCKS: the one called so, or the only one; raises InputError without one."""
    others = [name for name in blocks if name not in ("optics", "general", "job", "pipeline_general")]
    if BLOCKS[kind] in blocks:
        return BLOCKS[kind]
    if len(others) == 1:
        return others[0]
    raise InputError(f"{path}: has no block data_{BLOCKS[kind]}; it has {brief(', '.join('data_' + name for name in blocks))}")
