"""Writes the images of this folder, and expected.json: what Pillow sees in them.

    pip install pillow==13.0.0 && python make.py
"""

import io
import json
import pathlib
import struct
import warnings
import zlib

import PIL
from PIL import Image

HERE = pathlib.Path(__file__).parent
SIDE = 8


def picture(mode="RGB", side=SIDE, turn=0):
    """A smooth gradient, so that JPEG's losses stay small; `turn` makes another one."""
    image = Image.new("RGB", (side, side))
    for y in range(side):
        for x in range(side):
            step = 224 // (side - 1)
            pixel = [16 + x * step, 16 + y * step, 128]
            image.putpixel((x, y), tuple(pixel[(c + turn) % 3] for c in range(3)))
    return image.convert(mode)


def with_alpha():
    image = picture("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((SIDE, SIDE)))
    return image


def jpeg(image, **options):
    out = io.BytesIO()
    image.save(out, "jpeg", **{"quality": 95, "optimize": True, "subsampling": 0} | options)
    return out.getvalue()


def segments(data):
    """The marker segments of a JPEG up to its scan, and the rest."""
    at, found = 2, []
    while data[at + 1] != 0xDA:
        length = struct.unpack(">H", data[at + 2 : at + 4])[0] + 2
        found.append(data[at : at + length])
        at += length
    return found, data[at:]


def with_adobe(data, transform):
    """The JPEG with another transform in its Adobe segment, or without that segment."""
    kept, rest = segments(data)
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
    kept = [s for s in kept if s[1] != 0xEE]
    if transform is not None:
        kept.insert(0, adobe + bytes([transform]))
    return data[:2] + b"".join(kept) + rest


def png(width, height, depth, colour, rows, interlace=0):
    """A PNG of rows that are not filtered; Pillow writes neither 16-bit colour nor interlaced ones."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    body = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def adam7(image):
    """The rows of the seven passes."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for x0, y0, dx, dy in passes:
        for y in range(y0, image.height, dy):
            yield b"".join(bytes(image.getpixel((x, y))) for x in range(x0, image.width, dx))


def save(name, image=None, data=None, **options):
    path = HERE / name
    if data is not None:
        path.write_bytes(data)
    else:
        image.save(path, **options)


def main():
    rgb = picture()
    grey = picture("L")
    save("rgb.png", rgb)
    save("grey-alpha.png", with_alpha().convert("LA"))
    save("palette.png", rgb.quantize(16))
    transparent = rgb.quantize(4)
    save("palette-alpha.png", transparent, transparency=bytes([0, 128]))
    values = [0, 0x0180, 0x8080, 0xFFFF]
    save("grey16.png", data=png(4, 1, 16, 0, [struct.pack(">4H", *values)]))
    row = struct.pack(">12H", *[(value + 0x1F7B * c) % 0x10000 for value in values for c in range(3)])
    save("rgb16.png", data=png(4, 1, 16, 2, [row]))
    save("interlaced.png", data=png(SIDE, SIDE, 8, 2, adam7(rgb), interlace=1))
    save("animated.png", rgb, save_all=True, append_images=[picture(turn=1), picture(turn=2)])

    save("rgb.jpg", data=jpeg(rgb))
    save("subsampled.jpg", data=jpeg(picture(side=16), subsampling=2))
    save("progressive.jpg", data=jpeg(rgb, progressive=True))
    save("grey.jpg", data=jpeg(grey))
    exif = Image.Exif()
    exif[0x0112] = 6
    save("orientation.jpg", data=jpeg(rgb.crop((0, 0, 8, 4)), exif=exif))
    cmyk = jpeg(picture("CMYK"))
    save("cmyk.jpg", data=cmyk)
    save("cmyk-plain.jpg", data=with_adobe(cmyk, None))
    planes = picture("YCbCr").split()
    black = Image.new("L", (SIDE, SIDE), 40)
    ycck = Image.merge("CMYK", (*planes, black))
    save("ycck.jpg", data=with_adobe(jpeg(ycck), 2))
    # As RGB without a transform, which Adobe's segment says.
    save("adobe-rgb.jpg", data=with_adobe(jpeg(rgb, keep_rgb=True), 0))
    whole = jpeg(picture(side=32), quality=99)
    save("truncated.jpg", data=whole[: len(whole) - 150])

    save("palette.gif", rgb.quantize(16))
    save("transparent.gif", transparent, transparency=1)
    frames = [picture(turn=turn).quantize(8) for turn in range(3)]
    save("animated.gif", frames[0], save_all=True, append_images=frames[1:], duration=50)
    # A frame that is smaller than the screen: the screen's size is patched from 8 x 8 to 10 x 9.
    small = bytearray((HERE / "palette.gif").read_bytes())
    small[6:10] = struct.pack("<HH", 10, 9)
    save("small-frame.gif", data=bytes(small))

    save("lossless.webp", with_alpha(), lossless=True)
    save("lossy.webp", rgb, quality=95)
    save("animated.webp", rgb, save_all=True, append_images=[picture(turn=1)], lossless=True)

    expected = {}
    for path in sorted(HERE.iterdir()):
        if path.suffix not in (".png", ".jpg", ".gif", ".webp"):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = Image.open(path)
                mode = image.mode
                rgba = image.convert("RGBA")
        except OSError as error:
            expected[path.name] = {"error": str(error)}
            continue
        expected[path.name] = {"mode": mode, "size": rgba.size, "rgba": rgba.tobytes().hex()}
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in expected.items()]
    made_by = json.dumps(f"Pillow {PIL.__version__}, convert(\"RGBA\")")
    text = "{\"made by\": " + made_by + ",\n" + ",\n".join(lines) + "}\n"
    (HERE / "expected.json").write_text(text)


main()
