use image::Rgba;

use super::*;
use crate::{
    image::{Rgba8, preprocess},
    rng,
};

fn spec() -> ImageSpec {
    ImageSpec { size: [32, 32], mean: [0.5; 3], std: [0.5; 3], ..ImageSpec::default() }
}

/// A gradient with a transparent border.
fn picture() -> Rgba8 {
    Rgba8::from_fn(32, 32, |x, y| {
        let inside = (4..28).contains(&x) && (4..28).contains(&y);
        Rgba([(8 * x) as u8, (8 * y) as u8, 90, if inside { 255 } else { 0 }])
    })
}

fn view(options: &Augment, stream: u64) -> Vec<f32> {
    augment(&Prepared::new(&picture(), &spec()), options, &spec(), &mut rng(1, &[stream]))
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn no_knob_changes_nothing() {
    assert!(worst(&view(&Augment::default(), 0), &preprocess(&picture(), &spec())) < 1e-5);
}

#[test]
fn an_affine_map_without_motion_changes_nothing() {
    let still = Affine { rotate_rad: 0.0, scale: [1.0, 1.0], translate: 0.0 };
    let whole = RandomResizedCrop { scale: [1.0, 1.0], ratio: [1.0, 1.0] };
    let options = Augment { affine: Some(still), random_resized_crop: Some(whole), ..Augment::default() };
    assert!(worst(&view(&options, 0), &preprocess(&picture(), &spec())) < 1e-3);
}

#[test]
fn a_flip_mirrors_rows() {
    let flipped = view(&Augment { horizontal_flip: 1.0, ..Augment::default() }, 0);
    let mut expected = preprocess(&picture(), &spec());
    expected.chunks_exact_mut(32).for_each(<[f32]>::reverse);
    assert!(worst(&flipped, &expected) < 1e-4);
}

#[test]
fn a_view_depends_on_its_stream_alone() {
    let options = Augment::emoji(0.4);
    assert_eq!(view(&options, 3), view(&options, 3));
    assert_ne!(view(&options, 3), view(&options, 4));
}

#[test]
fn grey_takes_the_colour_out_in_part() {
    let spread = |v: &[f32]| (v[16 * 32 + 26] - v[2 * 1024 + 16 * 32 + 26]).abs();
    let plain = view(&Augment::default(), 0);
    let grey = view(&Augment { grayscale: 1.0, ..Augment::default() }, 0);
    assert!(spread(&grey) < spread(&plain));
}

#[test]
fn a_random_background_fills_only_what_is_transparent() {
    let (plain, other) =
        (view(&Augment::default(), 0), view(&Augment { background: 1.0, ..Augment::default() }, 0));
    assert_ne!(plain[0], other[0]);
    assert_eq!(plain[16 * 32 + 16], other[16 * 32 + 16]);
}

#[test]
fn an_outline_is_white_but_for_edges() {
    let lines = view(&Augment { outline: 1.0, ..Augment::default() }, 0);
    let (flat, edge) = (lines[33], lines[16 * 32 + 3]);
    assert_eq!(flat, 1.0);
    assert!(edge < 0.0);
    assert!(lines.iter().all(|value| (-1.0..=1.0).contains(value)));
}

#[test]
fn knobs_are_drawn_on_their_own() {
    // A picture that is grey or not by its own draw, whatever the others do.
    let base = Augment { grayscale: 0.5, ..Augment::default() };
    let with_brightness = Augment { brightness: 1e-6, ..base.clone() };
    for stream in 0..20 {
        assert!(worst(&view(&base, stream), &view(&with_brightness, stream)) < 1e-4);
    }
}

#[test]
fn views_stay_in_range_and_finite() {
    let crop = RandomResizedCrop { scale: [0.08, 1.0], ratio: [0.75, 1.333] };
    let options = Augment { random_resized_crop: Some(crop), ..Augment::emoji(1.0) };
    for stream in 0..200 {
        let outside = view(&options, stream).into_iter().find(|value| !(-1.001..=1.001).contains(value));
        assert_eq!(outside, None, "stream {stream}");
    }
}

#[test]
fn knobs_out_of_range_are_named() {
    assert_eq!(Augment::default().check(), Ok(()));
    assert_eq!(Augment::emoji(1.0).check(), Ok(()));
    let flip = Augment { horizontal_flip: 1.5, ..Augment::default() };
    assert_eq!(flip.check().unwrap_err().to_string(), "augmentation `horizontal-flip` must lie in 0..1");
    let crop = |scale, ratio| {
        let options = Some(RandomResizedCrop { scale, ratio });
        Augment { random_resized_crop: options, ..Augment::default() }.check().map_err(|error| error.knob)
    };
    assert_eq!(crop([0.5, 0.1], [1.0, 1.0]), Err("random-resized-crop.scale"));
    assert_eq!(crop([0.1, 1.0], [-1.0, 1.0]), Err("random-resized-crop.ratio"));
}
