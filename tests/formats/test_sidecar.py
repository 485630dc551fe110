"""Records of the microscope's program are found by the movie's name and read in firn's units."""

from pathlib import Path

import pytest

from firn.errors import InputError
from firn.formats.sidecar import Sidecar, find_sidecars, read_sidecar

EPU = """<?xml version="1.0" encoding="utf-8"?>
<MicroscopeImage xmlns="http://schemas.example.org/Image" xmlns:a="http://schemas.example.org/Pairs">
  <CustomData>
    <a:KeyValueOfstringanyType><a:Key>AppliedDefocus</a:Key><a:Value>-2.7E-06</a:Value></a:KeyValueOfstringanyType>
    <a:KeyValueOfstringanyType><a:Key>Dose</a:Key><a:Value>4.0E+21</a:Value></a:KeyValueOfstringanyType>
  </CustomData>
  <SpatialScale><pixelSize><x><numericValue>1.66E-10</numericValue></x></pixelSize></SpatialScale>
  <microscopeData>
    <stage><Position><A>-0.0004</A><X>-9.7153E-05</X><Y>1.5E-06</Y></Position></stage>
    <gun><AccelerationVoltage>300000</AccelerationVoltage></gun>
    <optics><BeamShift><a:_x>0.08</a:_x><a:_y>-0.14</a:_y></BeamShift></optics>
    <camera><ReadoutArea><a:height>2046</a:height><a:width>2880</a:width></ReadoutArea>
      <NumberOffractions>50</NumberOffractions></camera>
  </microscopeData>
</MicroscopeImage>
"""
MDOC = """Voltage = 200
ImageFile = m_0001.tif

[T = SerialEM: a microscope]

[FrameSet = 0]
TiltAngle = 0.0025
ExposureDose = 34.9645
PixelSpacing = 0.694291
Binning = 0.5
ImageShift = -0.124 -0.005
StagePosition = 112.5 -98.25
SubFramePath = X:\\frames\\m_0001.tif
NumSubFrames = 35
"""


def test_epu_tells_voltage_dose_frames_and_the_width_of_the_field(tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_text(EPU, encoding="utf-8-sig")
    told = read_sidecar(tmp_path / "m.xml")
    assert (told.voltage_kv, told.frames, told.beam_shift) == (300, 50, (0.08, -0.14))
    assert told.stage == pytest.approx((-97.153, 1.5))
    assert told.total_dose == pytest.approx(40.0)
    assert told.pixel_of(2880) == pytest.approx(1.66)
    assert told.pixel_of(5760) == pytest.approx(0.83)


def test_serialem_tells_voltage_dose_frames_and_the_pixel_of_the_saved_frames(tmp_path: Path) -> None:
    (tmp_path / "m.mdoc").write_text(MDOC)
    told = read_sidecar(tmp_path / "m.mdoc")
    expected = Sidecar(str(tmp_path / "m.mdoc"), 200, 0.694291, None, 34.9645, 35, (-0.124, -0.005), (112.5, -98.25))
    assert told == expected
    assert told.pixel_of(11520) == 0.694291


def test_the_record_of_a_tilt_series_tells_nothing_of_one_movie(tmp_path: Path) -> None:
    (tmp_path / "m.mdoc").write_text(MDOC + "\n[FrameSet = 1]\nNumSubFrames = 12\n")
    assert read_sidecar(tmp_path / "m.mdoc") == Sidecar(str(tmp_path / "m.mdoc"))


def test_records_are_found_beside_the_movies_or_anywhere_below_a_folder(tmp_path: Path) -> None:
    raw, session = tmp_path / "raw", tmp_path / "session/Images-Disc1/GridSquare_1/Data"
    raw.mkdir()
    session.mkdir(parents=True)
    movies = [str(raw / name) for name in ("a_Fractions.tiff", "b_EER.eer", "c.tif", "d.mrc", "e.tif")]
    for path in (session / "a.xml", session / "b.xml", raw / "c.tif.mdoc", raw / "d.mdoc"):
        path.touch()
    assert find_sidecars(movies) == {movies[2]: str(raw / "c.tif.mdoc"), movies[3]: str(raw / "d.mdoc")}
    assert find_sidecars(movies, tmp_path / "session") == {movies[0]: str(session / "a.xml"), movies[1]: str(session / "b.xml")}
    with pytest.raises(InputError, match="is no folder"):
        find_sidecars(movies, tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.xml", "<open>"),
        ("m.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"),
        ("m.mdoc", "[FrameSet = 0]\nNumSubFrames = many\n"),
        ("m.xml", EPU.replace("300000", "high")),
    ],
)
def test_records_that_make_no_sense_are_refused_in_one_sentence(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="cannot be read as metadata of an exposure") as caught:
        read_sidecar(tmp_path / name)
    assert "\n" not in str(caught.value)
