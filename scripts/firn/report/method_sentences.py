"""What each type of job did, as a sentence of a methods section, with the numbers of the job and the papers it rests on.

Convention: a sentence function takes the record of a job and the step it is part of, and returns None where there is nothing to tell.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from firn.report.records import JobRecord
from firn.report.spoken import plural, spoken_number, spoken_range

SHORT_DEFOCUS = 1e-4
"""µm per Å."""


@dataclass(frozen=True)
class Step:
    """A job on the way to a map: its record, the exposures of its data set, what the config says about the session, later steps that read it.

    exposures may be empty; reads: slots of later jobs that name this one.
    """

    record: JobRecord
    exposures: pd.DataFrame
    about: Mapping[str, Any]
    reads: frozenset[str]

    def setting(self, *names: str) -> Any:
        """The first of the parameters that the job has."""
        settings = self.record.content["settings"]
        return next((settings[name] for name in names if name in settings), None)

    def told(self, *names: str) -> str:
        """The parameter as one reads it, a dash where the record has none."""
        value = self.setting(*names)
        return "–" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)

    def count(self, *names: str) -> float | None:
        """The first of the metrics that the job has."""
        return next((value for name in names if (value := self.record.metric(name)) is not None), None)


@dataclass(frozen=True)
class Sentence:
    """Text without references, and the keys of what it cites."""

    text: str
    cites: tuple[str, ...] = ()


def sentences_of(step: Step) -> list[Sentence]:
    """What a job did; for a type without a sentence of its own, that it ran; nothing for jobs that change neither data nor maps."""
    kind = step.record.type
    if kind in SILENT:
        return []
    makers = SENTENCES.get(kind)
    if makers is None:
        return [Sentence(f"The job {step.record.name} of type {kind.replace('_', ' ')} was run.")]
    return [sentence for maker in makers if (sentence := maker(step)) is not None]


def _imported(step: Step) -> Sentence | None:
    table = step.exposures
    if table.empty:
        return None
    first = table.iloc[0]
    movies = "movie" in table.columns
    where = "".join(f" {word} a {step.about[name]}" for name, word in (("microscope", "on"), ("detector", "with")) if name in step.about)
    optics = f"at {first['voltage_kv']:g} kV (Cs {first['cs_mm']:g} mm) with a pixel size of {_pixel(first):g} Å"
    text = f"{plural(len(table), 'movie' if movies else 'motion-corrected micrograph')} {_were(len(table))} {'simulated' if step.setting('source') else 'collected'}{where} {optics}"
    if movies and pd.notna(first.get("dose_per_frame")):
        dose = (table["dose_per_frame"] * table["frames"]).round(2)
        text += f", a total dose of {spoken_range(list(dose), 'e/Å²', 1)} and {_span(table['frames'])} frames each"
    failed = step.count("movies_failed", "micrographs_failed", "failed")
    text += f"; {plural(failed, 'further file')} {_were(failed)} damaged or incomplete and left out" if failed else ""
    eer = movies and str(first["movie"]).lower().endswith(".eer")
    return Sentence(text + ".", ("guo2020",) if eer else ())


def _moved(step: Step) -> Sentence | None:
    local = step.setting("local", "local_motion")
    weighted = step.setting("dose_weighting", "motion_dose_weighting")
    how = "by whole frames" if local is False else "by whole frames and by tiles under a smooth motion field"
    text = f"Motion was corrected {how}, using information up to {step.told('max_align_resolution', 'motion_max_align_resolution')} Å"
    motion = _values(step, "motion_total")
    text += f" (median total motion {motion.median():.1f} Å)" if len(motion) else ""
    text += ", and the frames were summed with dose weights" if weighted else ", and the frames were summed without dose weights"
    cites = ("rubinstein2015", "zivanov2019") if local is not False else ("rubinstein2015",)
    return Sentence(text + ".", (*cites, "grant2015") if weighted else cites)


def _moved_outside(program: str, cites: tuple[str, ...]) -> Callable[[Step], Sentence | None]:
    return lambda step: _moved_by(step, program, cites)


def _moved_by(step: Step, program: str, cites: tuple[str, ...]) -> Sentence | None:
    local = bool(step.setting("patches_x")) and bool(step.setting("patches_y"))
    weighted = bool(step.setting("dose_weighting"))
    text = f"Motion was corrected with {program} {'by whole frames and by patches' if local else 'by whole frames'}"
    motion = _values(step, "motion_total")
    text += f" (median total motion {motion.median():.1f} Å)" if len(motion) else ""
    return Sentence(f"{text}, and the frames were summed {'with' if weighted else 'without'} dose weights.", cites)


def _fitted(step: Step) -> Sentence | None:
    model = step.setting("model", "ctf_model")
    if model not in ("fit", None):
        return Sentence(f"The CTF was not fitted but set by the model '{model}'.")
    surface = ", with the defocus as a smooth surface over each micrograph" if step.setting("surface", "ctf_surface") else ""
    fitted = step.setting("fit_phase_shift", "ctf_fit_phase_shift")
    text = f"Defocus{', phase shift' if fitted else ''} and astigmatism were fitted to the power spectra{surface}"
    return Sentence(_with_fits(step, text), ("rohou2015", "zhang2016"))


def _fitted_with(program: str, cite: str) -> Callable[[Step], Sentence]:
    def told(step: Step) -> Sentence:
        what = "Defocus, phase shift and astigmatism" if step.setting("fit_phase_shift") else "Defocus and astigmatism"
        return Sentence(_with_fits(step, f"{what} were fitted with {program}"), (cite,))

    return told


def _with_fits(step: Step, text: str) -> str:
    """A sentence, ended by the numbers that fits of the CTF gave."""
    defocus, reach = _values(step, "defocus") * SHORT_DEFOCUS, _values(step, "ctf_fit_resolution")
    numbers = [f"defocus {spoken_range(list(defocus), 'µm')}"] if len(defocus) else []
    numbers += [f"median fit resolution {reach.median():.1f} Å"] if len(reach) else []
    return f"{text} ({', '.join(numbers)})." if numbers else f"{text}."


def _curated(step: Step) -> Sentence | None:
    kept, lost = step.count("accepted"), step.count("rejected")
    limits = [(name.removeprefix("limit_"), metric) for name, metric in step.record.metrics.items() if name.startswith("limit_")]
    words = [
        f"{'at most' if name.startswith('max') else 'at least'} {metric['value']:.4g} {metric['unit']}".strip() for name, metric in limits
    ]
    told = ", ".join(
        f"{name.split('_', 1)[1].replace('_', ' ').replace('ctf', 'CTF')} {word}" for (name, _), word in zip(limits, words, strict=True)
    )
    by_hand = step.count("decided_by_hand")
    hand = f", {plural(by_hand, 'exposure')} of them decided by hand" if by_hand else ""
    return Sentence(
        f"{plural(kept or 0, 'exposure')} {_were(kept)} kept and {spoken_number(lost)} rejected{hand}" + (f" ({told})." if told else ".")
    )


def _blobs(step: Step) -> Sentence | None:
    low, high = step.setting("min_diameter", "blob_min_diameter"), step.setting("max_diameter", "blob_max_diameter")
    if low is None or not _reads_picks(step):
        return None
    return _picked(step, f"blobs of {low:g}–{high:g} Å")


def _templates(step: Step) -> Sentence | None:
    if step.setting("templates") is None or not _reads_picks(step):
        return None
    return _picked(step, f"projections or class averages low-passed to {step.told('low_pass', 'template_low_pass')} Å")


def _picked(step: Step, what: str) -> Sentence:
    count = step.count("picks")
    return Sentence(
        f"Particles were picked by local normalised cross-correlation of the whitened micrographs with {what}"
        + (f" ({plural(count, 'pick')})." if count is not None else "."),
        ("roseman2003", "lucas2021"),
    )


def _chosen_picks(step: Step) -> Sentence | None:
    kept, of = step.count("picks kept"), step.count("picks")
    return Sentence(f"Of these, {spoken_number(kept)} of {spoken_number(of)} were kept by limits on correlation and local power.")


def _extracted(step: Step) -> Sentence | None:
    box, crop = step.setting("box_px", "extract_box_px"), step.setting("crop_to_px", "extract_crop_to_px")
    if box is None or (step.record.type == "preprocess" and not step.reads & {"particles"}):
        return None
    pixel = float(step.exposures["micrograph_pixel_size"].iloc[0]) if len(step.exposures) else None
    text = f"{plural(step.count('particles') or 0, 'particle')} {_were(step.count('particles'))} extracted in boxes of {box} pixels"
    if crop and crop != box:
        text += f", Fourier-cropped to {crop} pixels" + (f" of {pixel * box / crop:.3f} Å" if pixel else "")
    return Sentence(text + ".")


def _classified(step: Step) -> Sentence | None:
    text = f"{_particles(step)} classified into {plural(step.setting('classes') or 0, '2D class')}"
    return Sentence(f"{text} to at most {step.told('max_resolution')} Å.", ("zhao2014", "scheres2005", "cappe2009", "punjani2017"))


def _selected(step: Step) -> Sentence | None:
    kept, lost = step.count("particles_kept"), step.count("particles_excluded")
    hand = " by hand" if step.setting("decisions") else " by rules on resolution and appearance"
    return Sentence(
        f"Selecting {spoken_number(step.count('classes_kept'))} of them{hand} kept {plural(kept or 0, 'particle')} and left out {spoken_number(lost)}."
    )


def _started(step: Step) -> Sentence | None:
    classes = step.setting("classes") or 1
    what = "A first map was" if classes == 1 else f"{classes} first maps were"
    text = f"{what} made from {plural(step.count('particles') or 0, 'particle')} with {step.told('symmetry')} symmetry, without a reference"
    return Sentence(f"{text}, to {step.told('max_resolution')} Å.", ("punjani2017", "cappe2009"))


def _refined(step: Step) -> Sentence | None:
    kinds = {"refine_nonuniform": "by non-uniform refinement", "refine_local": "by local refinement within a mask"}
    how = kinds.get(step.record.type, "homogeneously")
    cites = {"refine_nonuniform": ("punjani2020",), "refine_local": ("punjani2020", "nakane2018")}.get(step.record.type, ())
    text = (
        f"{_particles(step)} refined {how} with {step.told('symmetry')} symmetry in two independent halves"
        f", from a reference low-passed to {step.told('initial_lowpass')} Å"
    )
    return Sentence(f"{text}{_resolution(step)}.", ("scheres2012", "scheres_chen2012", *cites, "chen2013"))


def _sorted(step: Step) -> Sentence | None:
    shares = [
        metric["value"]
        for name, metric in step.record.metrics.items()
        if name.startswith("class_") and name.removeprefix("class_").isdigit()
    ]
    text = f"{_particles(step)} sorted into {len(shares) or 'several'} classes by heterogeneous refinement"
    told = f" ({', '.join(f'{share:.0f} %' for share in shares)})" if shares else ""
    return Sentence(f"{text}{told}.", ("punjani2017", "cappe2009"))


def _classes_3d(step: Step) -> Sentence | None:
    text = f"{_particles(step)} divided into {step.told('classes')} classes at fixed orientations, at {step.told('resolution')} Å"
    supported = step.count("supported_classes")
    if supported:
        text += f"; half-sets sorted apart supported {supported:.0f} class{'es' if supported > 1 else ''}"
    return Sentence(f"{text}.", ("scheres2012",))


def _reconstructed(step: Step) -> Sentence | None:
    return Sentence(f"{_particles(step)} used to reconstruct half maps with {step.told('symmetry')} symmetry{_resolution(step)}.")


def _ctf_local(step: Step) -> Sentence | None:
    spread = step.count("change_sd")
    return Sentence(
        "The defocus of each particle was refined" + (f" (sd of the change {spread:.0f} Å)." if spread else "."), ("zivanov2018",)
    )


def _ctf_global(step: Step) -> Sentence | None:
    kinds = (("fit_tilt", "beam tilt"), ("fit_trefoil", "trefoil"), ("fit_cs", "spherical aberration"), ("fit_tetrafoil", "tetrafoil"),
             ("fit_magnification", "anisotropic magnification"))  # fmt: skip
    fitted = [words for name, words in kinds if step.setting(name)]
    return Sentence(f"{', '.join(fitted).capitalize()} were refined per optics group.", ("zivanov2018", "zivanov2020"))


def _validated(step: Step) -> Sentence | None:
    found = step.count("resolution_corrected")
    if not found:
        return None
    unmasked = step.count("resolution_unmasked")
    text = f"The resolution is {found:.2f} Å where the Fourier shell correlation of the half maps, corrected for the mask by phase randomisation, "
    text += f"falls below {step.setting('threshold') or 0.143:g}" + (f" ({unmasked:.2f} Å without a mask)" if unmasked else "")
    return Sentence(f"{text}.", ("rosenthal2003", "chen2013"))


def _masked(step: Step) -> Sentence | None:
    return Sentence(
        f"A mask was made at {step.told('low_pass')} Å, dilated by {step.told('dilate')} Å with a soft edge of {step.told('soft_edge')} Å."
    )


def _sharpened(step: Step) -> Sentence | None:
    b_factor = step.count("b_factor")
    return None if b_factor is None else Sentence(f"The map was sharpened with a B-factor of {b_factor:.0f} Å².", ("rosenthal2003",))


def _local_resolution(step: Step) -> Sentence | None:
    median = step.count("local_resolution_median")
    told = f" (median {median:.2f} Å)" if median else ""
    return Sentence(f"Local resolution was measured by windowed Fourier shell correlation{told}.", ("cardone2013",))


def _orientations(step: Step) -> Sentence | None:
    best, worst, ratio = (step.count(name) for name in ("resolution_best_direction", "resolution_worst_direction", "cfar"))
    told = f" ({best:.2f} to {worst:.2f} Å" + (f", ratio of areas {ratio:.2f})" if ratio is not None else ")") if best and worst else ""
    return Sentence(
        f"The dependence of resolution on direction was measured by conical Fourier shell correlation{told}.", ("tan2017", "baldwin2020")
    )


def _plain(text: str, *cites: str) -> Callable[[Step], Sentence | None]:
    return lambda step: Sentence(
        text.format(name=step.record.name, count=spoken_number(step.count("particles", "kept")), distance=step.told("distance")), cites
    )


def _particles(step: Step) -> str:
    count = step.count("particles")
    number = int(count) if count is not None else len(step.record.table("particles"))
    return f"{plural(number, 'particle')} {_were(number)}" if number else "Particles were"


def _resolution(step: Step) -> str:
    found = step.record.resolution
    return f", to {found[1]:.2f} Å (FSC 0.143, {found[0]})" if found else ""


def _values(step: Step, name: str) -> pd.Series:
    table = step.exposures
    return pd.to_numeric(table[name], errors="coerce").dropna() if name in table.columns else pd.Series(dtype=float)


def _reads_picks(step: Step) -> bool:
    """Whether the picks of a job that does several things went on."""
    return step.record.type != "preprocess" or bool(step.reads & {"picks", "particles"})


def _pixel(row: pd.Series) -> float:
    movie = row.get("movie_pixel_size")
    return float(movie) if movie is not None and pd.notna(movie) else float(row["micrograph_pixel_size"])


def _span(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _were(count: float | None) -> str:
    return "was" if count == 1 else "were"


SILENT = (
    "simulate_movies", "export_relion", "export_cryosparc", "export_deposition", "cache_particles", "check_particles",
    "restack_particles", "score", "create_templates",
)  # fmt: skip
SENTENCES: dict[str, tuple[Callable[[Step], Sentence | None], ...]] = {
    "simulate_particles": (_plain("The particles were simulated, not collected."),),
    "import_movies": (_imported,),
    "import_micrographs": (_imported,),
    "import_particles": (lambda step: Sentence(f"{_particles(step)} imported."),),
    "import_relion": (_plain("Results of a RELION project were imported."),),
    "import_volume": (_plain("A map ({name}) was imported."),),
    "patch_motion": (_moved,),
    "full_frame_motion": (_moved,),
    "motioncor": (_moved_outside("MotionCor", ("zheng2017",)),),
    "relion_motioncorr": (_moved_outside("RELION's own implementation", ("zivanov2019",)),),
    "patch_ctf": (_fitted,),
    "ctffind": (_fitted_with("CTFFIND", "rohou2015"),),
    "gctf": (_fitted_with("Gctf", "zhang2016"),),
    "preprocess": (_moved, _fitted, _blobs, _templates, _extracted),
    "curate_exposures": (_curated,),
    "blob_picker": (_blobs,),
    "template_picker": (_templates,),
    "inspect_picks": (_chosen_picks,),
    "topaz_denoise": (_plain("Micrographs were denoised with Topaz to be looked at.", "bepler2020"),),
    "topaz_cross_validation": (_plain("A network was trained with Topaz, its parameters chosen by cross-validation.", "bepler2019"),),
    "topaz_train": (_plain("A network was trained with Topaz on particles found before.", "bepler2019"),),
    "topaz_picker": (_plain("Particles were picked with Topaz.", "bepler2019"),),
    "gautomatch": (_plain("Particles were picked with Gautomatch (K. Zhang, MRC Laboratory of Molecular Biology)."),),
    "cryolo_picker": (_plain("Particles were picked with crYOLO.", "wagner2019"),),
    "import_picks": (_plain("Particles were picked with another program, and their coordinates imported."),),
    "remove_duplicates": (_plain("Particles nearer to each other than {distance} Å were taken for one."),),
    "junk_detector": (_plain("Picks on ice, carbon and other dirt were removed."),),
    "extract_particles": (_extracted,),
    "downsample_particles": (_plain("The particles were Fourier-cropped again."),),
    "subset_particles": (_plain("A subset of {count} particles was taken."),),
    "particle_sets": (_plain("Sets of particles were combined."),),
    "classify_2d": (_classified,),
    "stream_2d": (_classified,),
    "relion_class2d": (_plain("2D classes were found with RELION.", "scheres2012"),),
    "relion_class3d": (_plain("3D classes were found with RELION.", "scheres2012"),),
    "relion_refine3d": (_plain("The structure was refined with RELION's auto-refinement, with independent halves.", "scheres2012"),),
    "deepemhancer": (_plain("For display, the map was sharpened with DeepEMhancer.", "sanchez2021"),),
    "threedfsc": (_plain("The FSC by direction was measured with 3DFSC.", "tan2017"),),
    "relion_postprocess": (_plain("The map was sharpened and its resolution measured with relion_postprocess.", "scheres2012", "chen2013"),),
    "select_2d": (_selected,),
    "ab_initio": (_started,),
    "refine_heterogeneous": (_sorted,),
    "classify_3d": (_classes_3d,),
    "refine_homogeneous": (_refined,),
    "stream_refine": (_refined,),
    "refine_nonuniform": (_refined,),
    "refine_local": (_refined,),
    "reconstruct": (_reconstructed,),
    "ctf_refine_local": (_ctf_local,),
    "ctf_refine_global": (_ctf_global,),
    "ctf_at_picks": (_plain("The defocus was fitted again at each particle."),),
    "symmetry_expansion": (_plain("The particles were repeated in all symmetry-related orientations ({count} in all)."),),
    "subtract_particles": (_plain("The signal outside of a mask was subtracted from the particle images.", "bai2015"),),
    "make_mask": (_masked,),
    "validate_fsc": (_validated,),
    "sharpen": (_sharpened,),
    "local_resolution": (_local_resolution,),
    "local_filter": (_plain("The map was low-passed at its local resolution.", "cardone2013"),),
    "orientation_diagnostics": (_orientations,),
}  # fmt: skip
