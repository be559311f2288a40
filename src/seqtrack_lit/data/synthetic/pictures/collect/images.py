"""What the pool keeps of a picture: photographs made smaller, objects with alpha that fill their frame."""

import functools
import io

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

BACKGROUND, TEXTURE, OBJECT, RENDER = 640, 256, 256, 128  # longest side in pixels
_WHITE = 34  # how far a colour may be from white and count as white
_CLEAR, _SOLID = 24, 232  # alpha below and above which nothing, and all, is object
_SPECK = 0.02  # share of the object below which a connected part is left out


def picture(kind: str, data: bytes) -> Image.Image | None:
    """The picture of the pool that is made of a file; None where nothing useful is left of an object.

    Args:
        kind: background, texture, photo (object with alpha), render (a drawn one), white (object on white), strip (the
            left half holds the object).
        data: of the file.

    Raises:
        ValueError: an unknown kind.
    """
    image = Image.open(io.BytesIO(data))
    match kind:
        case "background" | "texture":
            opaque = ImageOps.exif_transpose(image).convert("RGB")
            return shrink(opaque, BACKGROUND if kind == "background" else TEXTURE)
        case "photo" | "render":
            return cut_out(image, OBJECT if kind == "photo" else RENDER)
        case "white":
            return cut_out(without_white(image), OBJECT)
        case "strip":
            return cut_out(image.crop((0, 0, image.width // 2, image.height)), OBJECT)
    raise ValueError(f"unknown kind of picture {kind!r}")


def shrink(image: Image.Image, longest: int) -> Image.Image:
    """The picture with its longest side at most `longest`."""
    scale = longest / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def without_white(image: Image.Image) -> Image.Image:
    """Alpha for a photograph on white: what is white and connected to the border goes."""
    rgb = shrink(image.convert("RGB"), OBJECT)
    dark = ImageChops.invert(rgb).split()
    colored = functools.reduce(ImageChops.lighter, dark).point(lambda v: 0 if v < _WHITE else 255)
    padded = ImageOps.expand(colored, 1, 0)
    ImageDraw.floodfill(padded, (0, 0), 128)
    alpha = padded.crop((1, 1, padded.width - 1, padded.height - 1)).point(lambda v: 0 if v == 128 else 255)
    alpha = alpha.filter(ImageFilter.MinFilter(3)).filter(ImageFilter.GaussianBlur(0.7))
    rgb.putalpha(alpha)
    return rgb


def cleaned(alpha: Image.Image) -> Image.Image:
    """Alpha with full 0 and 255, and without specks."""
    alpha = alpha.point(lambda v: 0 if v < _CLEAR else 255 if v > _SOLID else v)
    todo = alpha.point(lambda v: 255 if v else 0)
    whole, keep = todo.histogram()[255], Image.new("L", alpha.size, 0)
    while box := todo.point(lambda v: 255 if v == 255 else 0).getbbox():
        row = todo.crop((0, box[1], todo.width, box[1] + 1)).tobytes()
        before = todo.histogram()[255]
        ImageDraw.floodfill(todo, (row.index(b"\xff"), box[1]), 128)
        if before - todo.histogram()[255] >= _SPECK * whole:
            keep = ImageChops.lighter(keep, todo.point(lambda v: 255 if v == 128 else 0))
        todo = todo.point(lambda v: 0 if v == 128 else v)
    return ImageChops.darker(alpha, keep)


def cut_out(image: Image.Image, longest: int) -> Image.Image | None:
    """An RGBA object that fills its frame, the colour of its rim continued outwards; None where little is left."""
    image = shrink(image.convert("RGBA"), longest)
    alpha = cleaned(image.getchannel("A"))
    box = alpha.getbbox()
    if box is None:
        return None
    image, alpha = image.crop(box), alpha.crop(box)
    long, short = max(image.size), min(image.size)
    filled = sum(alpha.histogram()[128:]) / (long * short)
    if long < 48 or short < 16 or long > 5 * short or filled < 0.25:
        return None
    image.putalpha(alpha)
    around = image.convert("RGBa")  # colour times alpha: a blur of it, divided by alpha again, is colour from the rim
    color = Image.new("RGB", image.size, (128, 128, 128))
    for radius in (32, 16, 8, 4, 2):
        blurred = around.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        color.paste(blurred.convert("RGB"), mask=blurred.getchannel("A").point(lambda v: 255 if v >= 8 else 0))
    color.paste(image.convert("RGB"), mask=alpha.point(lambda v: 255 if v >= _CLEAR else 0))
    color.putalpha(alpha)
    return color
