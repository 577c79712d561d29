use proptest::prelude::*;
use safetensors::SafeTensors;

use super::*;
use crate::image::Filter;

/// See `tests/fixtures/README.md`.
const FIXTURE: &[u8] = include_bytes!("../../tests/fixtures/preprocess.safetensors");

fn input(tensors: &SafeTensors, index: usize) -> Rgba8 {
    let view = tensors.tensor(&format!("io.in.image.{index}")).unwrap();
    let [height, width, _] = view.shape() else { panic!("an image has three axes") };
    let rgba = view.data().chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    Rgba8::from_raw(*width as u32, *height as u32, rgba).unwrap()
}

fn floats(tensors: &SafeTensors, name: &str) -> Vec<f32> {
    let data = tensors.tensor(name).unwrap().data().to_vec();
    data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn spec(resize: Resize, side: u32) -> ImageSpec {
    ImageSpec { size: [side, side], resize, ..ImageSpec::default() }
}

#[test]
fn every_recipe_agrees_with_the_published_preprocessing() {
    let tensors = SafeTensors::deserialize(FIXTURE).unwrap();
    for index in 0..2 {
        let image = input(&tensors, index);
        for (name, resize) in [
            ("classification", Resize::ShortSide),
            ("retrieval", Resize::Square),
            ("chat_pad", Resize::PadSquare),
        ] {
            let expected = floats(&tensors, &format!("io.out.{name}.{index}"));
            let found = preprocess(&image, &spec(resize, 42));
            assert_eq!(found.len(), expected.len());
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 5e-6, "{name}.{index}: {worst}");
        }
    }
}

#[test]
fn the_eight_bit_resize_is_exact() {
    let tensors = SafeTensors::deserialize(FIXTURE).unwrap();
    for index in 0..2 {
        let image = input(&tensors, index);
        let rgb = composite(&image, [0; 3]);
        for name in ["resized_uint8", "shortside_uint8"] {
            let expected = tensors.tensor(&format!("io.out.{name}.{index}")).unwrap();
            let to = [expected.shape()[0] as u32, expected.shape()[1] as u32];
            let found = resize::<3>(&rgb, [image.height(), image.width()], to, Filter::Bicubic);
            assert!(found == expected.data(), "{name}.{index}");
        }
    }
}

#[test]
fn transparency_shows_the_background_and_keeps_a_layer() {
    let image = Rgba8::from_pixel(8, 8, Rgba([200, 0, 0, 0]));
    let spec = ImageSpec { background: [1, 2, 3], ..spec(Resize::Square, 4) };
    let prepared = Prepared::new(&image, &spec);
    assert_eq!(prepared.rgb(), [1, 2, 3].repeat(16));
    assert_eq!(prepared.layer, Some(vec![0; 64]));
    assert_eq!(Prepared::new(&Rgba8::from_pixel(8, 8, Rgba([200, 0, 0, 255])), &spec).layer, None);
}

fn any_image() -> impl Strategy<Value = Rgba8> {
    (1u32..40, 1u32..40).prop_flat_map(|(width, height)| {
        let samples = proptest::collection::vec(any::<u8>(), (width * height * 4) as usize);
        samples.prop_map(move |samples| Rgba8::from_raw(width, height, samples).unwrap())
    })
}

proptest! {
    #[test]
    fn prepared_and_direct_preprocessing_agree_at_any_shape(
        image in any_image(),
        size in (1u32..30, 1u32..30),
        resize in prop_oneof![Just(Resize::Square), Just(Resize::ShortSide), Just(Resize::PadSquare)],
        filter in prop_oneof![Just(Filter::Bicubic), Just(Filter::Bilinear), Just(Filter::Lanczos)],
    ) {
        let spec = ImageSpec { size: [size.0, size.1], resize, filter, ..ImageSpec::default() };
        let prepared = Prepared::new(&image, &spec);
        let tensor = prepared.tensor(&spec);
        prop_assert_eq!(tensor.len(), 3 * spec.pixels());
        prop_assert_eq!(&tensor, &preprocess(&image, &spec));
        let layer = prepared.layer.unwrap_or_default();
        prop_assert!(layer.chunks(4).all(|p| p[..3].iter().all(|c| *c <= p[3])));
    }
}
