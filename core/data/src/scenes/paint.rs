//! Paints a scene and its mask.

use image::{GrayImage, Rgb, RgbImage};

use super::{Object, Scene, UNDECIDED};
use crate::image::{Filter, Rgba8, resize};

/// From this opacity on (of 255) a pixel is of the thing's class; from the lower one on, of none.
const SOLID: u8 = 128;
const SOFT: u8 = 64;

/// A painted scene.
#[derive(Debug, Clone)]
pub struct Painting {
    /// The picture.
    pub picture: RgbImage,
    /// The class of every pixel: 0 where there is nothing, [`UNDECIDED`] at soft edges.
    pub mask: GrayImage,
}

/// Paints a scene with the pictures of its objects, in their order; later ones lie over earlier ones.
pub fn paint(scene: &Scene, canvas: u32, pictures: &[Rgba8]) -> Painting {
    let mut painting =
        Painting { picture: gradient(scene.colours, canvas), mask: GrayImage::new(canvas, canvas) };
    for (object, picture) in scene.objects.iter().zip(pictures) {
        put(object, picture, &mut painting);
    }
    painting
}

/// From the first colour at the top to the second one at the bottom.
fn gradient([top, bottom]: [[u8; 3]; 2], canvas: u32) -> RgbImage {
    let last = canvas.saturating_sub(1).max(1);
    RgbImage::from_fn(canvas, canvas, |_, y| {
        let mix = |channel: usize| {
            let sum = u32::from(top[channel]) * (last - y) + u32::from(bottom[channel]) * y;
            ((sum + last / 2) / last) as u8
        };
        Rgb([mix(0), mix(1), mix(2)])
    })
}

fn put(object: &Object, picture: &Rgba8, painting: &mut Painting) {
    let from = [picture.height(), picture.width()];
    let samples = resize::<4>(&premultiplied(picture), from, [object.size; 2], Filter::Lanczos);
    let (pixels, _) = samples.as_chunks::<4>();
    for (place, [red, green, blue, alpha]) in (0_u32..).zip(pixels) {
        let at = |corner: i32, offset: u32| u32::try_from(corner + offset as i32).ok();
        let x = at(object.corner[0], place % object.size);
        let y = at(object.corner[1], place / object.size);
        let Some((x, y)) = x.zip(y) else { continue };
        let Some(under) = painting.picture.get_pixel_mut_checked(x, y) else { continue };
        for (under, over) in under.0.iter_mut().zip([red, green, blue]) {
            *under = over.saturating_add(share(*under, 255 - alpha));
        }
        match *alpha {
            SOLID.. => painting.mask.put_pixel(x, y, [object.class].into()),
            SOFT.. => painting.mask.put_pixel(x, y, [UNDECIDED].into()),
            _ => {}
        }
    }
}

/// Colours times opacity: so must pictures be resized, or the colours of clear pixels would show.
fn premultiplied(picture: &Rgba8) -> Vec<u8> {
    let (pixels, _) = picture.as_raw().as_chunks::<4>();
    let pixel = |[red, green, blue, alpha]: &[u8; 4]| {
        [share(*red, *alpha), share(*green, *alpha), share(*blue, *alpha), *alpha]
    };
    pixels.iter().flat_map(pixel).collect()
}

/// `value * part / 255`, rounded.
fn share(value: u8, part: u8) -> u8 {
    ((u32::from(value) * u32::from(part) + 127) / 255) as u8
}
