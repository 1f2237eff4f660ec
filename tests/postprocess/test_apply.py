"""`sr apply`: files in, files out, and one clear line for what cannot be."""

import re
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from test_networks import shuffled

from nerfkit.cli import main
from nerfkit.errors import NerfkitError
from nerfkit.postprocess import clips, models
from nerfkit.postprocess.apply import ApplyConfig, apply
from nerfkit.postprocess.compact import CompactSR
from nerfkit.postprocess.pictures import Picture, read_picture, write_picture


@pytest.fixture
def weights(tmp_path):
    network = shuffled(CompactSR(scale=2, width=8, layers=1))
    models.save_network(tmp_path / "network.safetensors", network, {})
    return tmp_path / "network.safetensors"


def pixels(*shape, dtype=np.uint8):
    return np.random.default_rng(4).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def ffmpeg(*arguments):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *map(str, arguments)]
    subprocess.run(command, check=True)


def streams(path):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)]
    return re.findall(
        r"Stream .*?(Video|Audio): (\w+)",
        subprocess.run(command, capture_output=True, text=True).stderr,
    )


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_survive(tmp_path, suffix, channels):
    values = pixels(5, 7, channels, dtype=np.uint16)
    picture = Picture(torch.from_numpy(values.astype(np.float32) / 65535), 16)
    write_picture(tmp_path / f"a{suffix}", picture)
    again = read_picture(tmp_path / f"a{suffix}")
    assert again.bits == 16
    torch.testing.assert_close(again.values, picture.values, atol=0, rtol=0)
    if suffix == ".tif":
        assert tifffile.imread(tmp_path / "a.tif").dtype == np.uint16


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK"])
def test_kinds_of_images(tmp_path, mode, weights):
    name = "a.tif" if mode == "CMYK" else "a.png"
    Image.fromarray(pixels(6, 9, 3)).convert("RGBA" if "A" in mode else "RGB").convert(mode).save(
        tmp_path / name
    )
    config = ApplyConfig(tmp_path / name, tmp_path / f"out{name[1:]}", model_path=weights)
    (written,) = apply(config)
    with Image.open(written) as image:
        assert image.size == (18, 12)
        assert image.mode == {"P": "RGB", "1": "L", "CMYK": "RGB"}.get(mode, mode)


def test_folder_keeps_names_and_turns_photos_upright(tmp_path, weights):
    source = tmp_path / "in"
    source.mkdir()
    sideways = Image.Exif()
    sideways[0x0112] = 6
    Image.fromarray(pixels(6, 9, 3)).save(source / "b.jpg", exif=sideways)
    Image.fromarray(pixels(4, 4, 3)).save(source / "a.png")
    config = ApplyConfig(source, tmp_path / "out", model_path=weights, suffix="x2")
    assert list(apply(config)) == [tmp_path / "out" / "a_x2.png", tmp_path / "out" / "b_x2.jpg"]
    with Image.open(tmp_path / "out" / "b_x2.jpg") as image:
        assert image.size == (12, 18)


def test_factor_between_the_networks(tmp_path, weights):
    Image.fromarray(pixels(8, 10, 3)).save(tmp_path / "a.png")
    config = ApplyConfig(tmp_path / "a.png", tmp_path / "b.png", 1.5, model_path=weights)
    with Image.open(*apply(config)) as image:
        assert image.size == (15, 12)


def test_video_keeps_every_frame_and_the_sound(tmp_path, weights):
    clip = tmp_path / "clip.mkv"  # with a sound that .mp4 cannot hold as it is
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc=size=34x22:rate=30000/1001:duration=0.4"),
        *("-f", "lavfi", "-i", "sine=duration=0.4", "-c:a", "pcm_s16le", clip),
    )
    stored = sum(1 for _ in clips.Clip(clip).frames())
    assert stored == 12
    (written,) = apply(ApplyConfig(clip, tmp_path / "out.mp4", model_path=weights))
    again = clips.Clip(written)
    assert (again.width, again.height) == (68, 44)
    assert again.fps == pytest.approx(30000 / 1001)
    assert sum(1 for _ in again.frames()) == stored
    assert streams(written) == [("Video", "h264"), ("Audio", "aac")]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "clip.mkv",
        "network.safetensors",
        "out.mp4",
    ]


def test_repeated_frames_of_uneven_clips_stay_one_each(tmp_path):
    clip = tmp_path / "uneven.mkv"
    times = "setpts='if(lt(N,4),N,N*3)/25/TB'"
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc=size=32x32:rate=25:duration=0.4"),
        *("-vf", times, "-fps_mode", "passthrough", clip),
    )
    assert sum(1 for _ in clips.Clip(clip).frames()) == 10


@pytest.mark.parametrize(
    ("rate", "exact"), [(23.98, 24000 / 1001), (29.97, 30000 / 1001), (25, 25), (0, 25)]
)
def test_rounded_rates_are_made_exact(rate, exact):
    assert clips.exact_rate(rate) == exact


def test_what_cannot_be_is_one_clear_line(tmp_path, weights, capsys):
    Image.fromarray(pixels(4, 4, 3)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"not an image")
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.1", tmp_path / "sound.mp4")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "bad.jpg").write_bytes(b"not an image")
    complaints = [
        ("absent.png", [], "there is no such file or folder"),
        ("bad.png", [], "bad.png: not an image we can read"),
        ("bad.mp4", [], "bad.mp4: no frame of a video can be read"),
        ("sound.mp4", [], "sound.mp4: no frame of a video can be read"),
        ("empty", [], "empty: holds no image"),
        ("mixed", [], "bad.jpg: not an image we can read"),
        ("good.png", ["-s", "5"], "--outscale: want above 1 and at most 4, got 5"),
        ("good.png", ["-s", "3"], "enlarges 2 times, --outscale wants 3"),
        ("good.png", ["-t", "-1"], "--tile: want 0"),
        ("good.png", ["--ext", "gif"], "--ext: want one of auto, jpg, png"),
    ]
    for name, flags, complaint in complaints:
        arguments = ["-i", str(tmp_path / name), "-o", str(tmp_path / "out"), *flags]
        assert main(["sr", "apply", *arguments, "--model_path", str(weights)]) == 2
        error = capsys.readouterr().err
        assert complaint in error and error.count("\n") == 1


def test_input_is_never_replaced(tmp_path, weights):
    Image.fromarray(pixels(4, 4, 3)).save(tmp_path / "a.png")
    with pytest.raises(NerfkitError, match="would replace its input"):
        list(apply(ApplyConfig(tmp_path / "a.png", tmp_path, model_path=weights)))
