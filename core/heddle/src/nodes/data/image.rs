//! Image settings as experiments write them.

use heddle_data::image::{Affine, Augment, Filter, ImageSpec, RandomResizedCrop, Resize};
use heddle_graph::config::{FromValue, Reader, Value, ValueKind, Wrong};
use serde_json::Value as Json;

/// `size = 224` or `size = [H, W]`.
#[derive(Debug, Clone, Copy)]
struct Size([u32; 2]);

impl FromValue for Size {
    fn ty() -> String {
        "integer or array of two integers".to_owned()
    }

    fn from_value(value: &Value) -> Result<Self, Wrong> {
        let sides: Vec<u32> = match value.kind {
            ValueKind::Int(_) => vec![u32::from_value(value)?; 2],
            ValueKind::Array(_) => Vec::from_value(value)?,
            _ => return Err(Wrong::ty(value, &Self::ty())),
        };
        match sides[..] {
            [height, width] if (1..=16_384).contains(&height) && (1..=16_384).contains(&width) => {
                Ok(Self([height, width]))
            }
            [_, _] => Err(Wrong::new(value, "an image side is from 1 to 16384 pixels")),
            _ => Err(Wrong::new(value, format!("expected height and width, found {} numbers", sides.len()))),
        }
    }

    fn to_json(&self) -> Json {
        serde_json::json!(self.0)
    }

    fn placeholder() -> Self {
        Self([1, 1])
    }

    fn schema() -> Json {
        let side = serde_json::json!({ "type": "integer", "minimum": 1, "maximum": 16_384 });
        serde_json::json!({ "anyOf": [side, { "type": "array", "items": side, "minItems": 2, "maxItems": 2 }] })
    }
}

/// Reads the `image` table of a source. The defaults are the published preprocessing at 224 pixels.
pub fn read_image(r: &mut Reader<'_>) -> ImageSpec {
    let base = ImageSpec::default();
    let size: Size = r.field("size", "side in pixels, or [height, width]").or(Size([224, 224]));
    let resize = r
        .choice(
            "resize",
            "how a picture becomes that size",
            &[
                (
                    "square",
                    Resize::Square,
                    "to the size directly, whatever its shape (retrieval, captioning)",
                ),
                ("short-side", Resize::ShortSide, "short side to the size, then the centre (classification)"),
                ("pad", Resize::PadSquare, "padded to a square with the mean colour first (dialogue)"),
            ],
        )
        .or("square");
    let filter = r
        .choice(
            "filter",
            "interpolation, anti-aliased, 8 bit, as PIL does",
            &[
                ("bicubic", Filter::Bicubic, "Keys, a = -0.5"),
                ("bilinear", Filter::Bilinear, "triangle"),
                ("lanczos", Filter::Lanczos, "three lobes"),
            ],
        )
        .or("bicubic");
    let mean = three(r, "mean", "mean of each channel, taken off after scaling to 0..1", base.mean);
    let std = three(r, "std", "standard deviation of each channel, divided by", base.std);
    if std.iter().any(|std| *std <= 0.0) {
        r.error("std", "standard deviations are above 0", None);
    }
    let background: Vec<u8> =
        r.field("background", "colour behind transparent pixels, [r, g, b]").or(base.background.to_vec());
    let background = background.try_into().unwrap_or_else(|_| {
        r.error("background", "expected three numbers from 0 to 255", None);
        [255; 3]
    });
    ImageSpec { size: size.0, resize, filter, mean, std, background }
}

fn three(r: &mut Reader<'_>, name: &'static str, help: &'static str, default: [f32; 3]) -> [f32; 3] {
    // Written out in decimal, so that 0.485 in a file and the default are one value.
    let default: Vec<f64> = default.iter().map(|value| f64::from((value * 1e6).round()) / 1e6).collect();
    let values: Vec<f64> = r.field(name, help).or(default);
    match values[..] {
        [a, b, c] => [a as f32, b as f32, c as f32],
        _ => {
            r.error(name, format!("expected three numbers, found {}", values.len()), None);
            [1.0; 3]
        }
    }
}

/// Reads the `augment` table of a training stage. Without a key that change is not made.
pub fn read_augment(r: &mut Reader<'_>) -> Augment {
    let share = |r: &mut Reader<'_>, name, help| -> f32 {
        let value: f64 = r.field(name, help).range(0.0..=1.0).or(0.0);
        value as f32
    };
    Augment {
        random_resized_crop: r.optional_table("crop", "random resized crop", |r| RandomResizedCrop {
            scale: pair(r, "scale", "area of the crop as a share of the picture", [0.5, 1.0]),
            ratio: pair(r, "ratio", "width to height of the crop", [0.75, 4.0 / 3.0]),
        }),
        horizontal_flip: share(r, "flip", "probability of a horizontal flip"),
        affine: r.optional_table("affine", "random rotation, scaling and shift", |r| {
            let rotate: f64 = r.field("rotate", "largest angle, radians").range(0.0..=3.2).or(0.0);
            let translate: f64 =
                r.field("translate", "largest shift, as a share of the side").range(0.0..=1.0).or(0.0);
            Affine {
                rotate_rad: rotate as f32,
                scale: pair(
                    r,
                    "scale",
                    "range of the scale of the sampling grid; above 1 shrinks the picture",
                    [1.0, 1.0],
                ),
                translate: translate as f32,
            }
        }),
        grayscale: share(r, "grayscale", "probability of mixing towards grey"),
        brightness: {
            let value: f64 =
                r.field("brightness", "standard deviation of each channel's gain").range(0.0..=2.0).or(0.0);
            value as f32
        },
        background: share(r, "background", "probability of a random colour behind transparent pixels"),
        outline: share(r, "outline", "probability of an edge drawing in place of the picture"),
    }
}

fn pair(r: &mut Reader<'_>, name: &'static str, help: &'static str, default: [f64; 2]) -> [f32; 2] {
    let values: Vec<f64> = r.field(name, help).or(default.to_vec());
    match values[..] {
        [low, high] if 0.0 < low && low <= high => [low as f32, high as f32],
        _ => {
            r.error(name, "expected two numbers above 0, the smaller first", None);
            default.map(|value| value as f32)
        }
    }
}
